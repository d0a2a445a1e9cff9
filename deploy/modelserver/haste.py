"""Which requests an event loop answers by itself.

Handing a request over to a thread and getting the answer back costs as much as a small model (0.1 ms, and more while
threads compete for Python's lock), so a loop answers what is sure to take a fraction of a millisecond. Whether it is
shows on the way: what might take longer raises Postponed, and a thread starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from deploy.modelserver.status import NeverAnswered, Postponed

T = TypeVar("T")

_MOST = 1 << 18  # bytes of a request; longer ones are read by a thread
_PAUSE = 32  # so many requests of a kind go to threads after one that was postponed
_KINDS = 1024  # that are remembered


class Haste:
    """Decides for kinds of requests (a path, say) by how the last ones of the kind went. For one thread."""

    def __init__(self) -> None:
        self._left: dict[Hashable, int] = {}  # kind -> how many more go to threads

    def attempt(self, kind: Hashable, size: int, answer: Callable[[], T]) -> T | None:
        """What `answer` returns; None if a request of so many bytes, or what it turns out to be, is for a thread."""
        if not self.fits(kind, size):
            return None
        try:
            return answer()
        except Postponed:
            self.postponed(kind)
        except NeverAnswered:
            pass  # by a thread neither, but there it does no harm
        return None

    def fits(self, kind: Hashable, size: int) -> bool:
        """Whether to try to answer a request of so many bytes at once."""
        if size > _MOST:
            return False
        left = self._left.get(kind)
        if not left:
            return True
        self._left[kind] = left - 1
        return False

    def postponed(self, kind: Hashable) -> None:
        """A request of this kind couldn't be answered at once."""
        if len(self._left) >= _KINDS:  # clients make up paths, so these must not pile up
            self._left.clear()
        self._left[kind] = _PAUSE
