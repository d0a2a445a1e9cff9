"""Text of others on its way to a terminal: characters that steer it, or turn its order round, are spelled out.

Names in a model, lines of a log, names of files and servers' answers may hold anything. Everything that a command
prints goes through one of two doors: the streams that `outcome.run` puts in place, and `console.SafeConsole`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# C0 but tab and newline, DEL and C1; what is invisible; what changes the direction of text; halves of characters.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
                       "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]")


def printable(text: str) -> str:
    r"""The text with each steering character spelled out: `\x1b`, `\u202e`. Tabs and newlines stay."""
    return _STEERING.sub(_spelled, text)


def line(text: str) -> str:
    r"""`printable` for what has to stay on one line: newlines and tabs are spelled out as well."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _spelled(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class Escaping:
    """A text stream that writes `printable` text to another, in characters that its encoding has."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:
        """What may be written here: everything. Of a stream that says `ascii`, click writes past it, to its buffer."""
        return "utf-8"

    def write(self, text: str) -> int:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        safe = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        self.stream.write(safe)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def escaped_streams() -> Iterator[None]:
    """Let everything that is printed be escaped."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, stream if isinstance(stream, Escaping) else Escaping(stream))
                              for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
