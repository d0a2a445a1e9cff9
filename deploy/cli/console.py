"""Rich's console, through which nobody else's codes reach the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from deploy.cli.escaping import Escaping, printable


class SafeConsole(Console):
    """Prints text as it is, without markup; what steers a terminal comes from styles only."""

    def __init__(self, stream: TextIO, width: int | None) -> None:
        raw = stream.stream if isinstance(stream, Escaping) else stream
        super().__init__(file=raw, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does, with the text of each segment escaped."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else printable(segment.text)
            yield segment if safe == segment.text else Segment(safe, segment.style)
