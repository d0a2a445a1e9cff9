"""How long a run will take, as far as those before it tell: whether a thread that others wait for may make it."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Ops that loop as often as a value says, or wait for something outside of the graph: what they take can't be foreseen.
_OPEN_ENDED = re.compile(
    r"While|^For$|Enter$|Defun$|Queue|Barrier|Accumulator|^Batch(Function)?$|^Unbatch|[Ss]tage|^(Ordered)?Map|Reader|"
    r"ReadFile|MatchingFiles|Recv|Send|Remote|PyFunc|Rpc|Iterator|Dataset|Mutex|Collective|Nccl|feed|TPU|Xla")
_BRIEF = 1e-3  # seconds; longer runs gain more from parallel ops than they lose by changing threads
_SHORT = 2.5e-4  # seconds; about what it costs to hand a call over to another thread and to get the result back
_SURPRISE = 2e-2  # seconds
_LEAST = 1 << 10  # bytes; below, it isn't the size that makes a run long


def open_ended(ops: Iterable[str]) -> bool:
    """Whether a run's time says nothing about the next one's; so for a graph whose ops aren't known."""
    names = list(ops)
    return not names or any(map(_OPEN_ENDED.search, names))


class Pace:
    """What the last run of a plan took. The next is expected to take as long, or longer if it is fed more."""

    __slots__ = ("_seconds", "_size", "_trusted")

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._size, self._trusted = _LEAST, True

    @property
    def brief(self) -> bool:
        """Whether runs take less than a millisecond; assumed before the first."""
        return self._seconds is None or self._seconds < _BRIEF

    def expects_short(self, size: int) -> bool:
        """Whether a run that is fed `size` bytes will take a quarter of a millisecond at most."""
        return (self._trusted and self._seconds is not None
                and self._seconds * max(1.0, size / self._size) < _SHORT)

    def ran(self, seconds: float, size: int) -> None:
        """Learn from a run. One that took very much longer than expected is a lesson for good."""
        if seconds > _SURPRISE and self.expects_short(size):
            self._trusted = False
        self._seconds, self._size = seconds, max(size, _LEAST)
