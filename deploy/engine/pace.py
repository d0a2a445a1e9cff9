"""How long a run will take, as far as those before it tell: whether a thread that others wait for may make it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

# Ops that loop as often as a value says, or wait for something outside of the graph: what they take can't be foreseen.
_OPEN_ENDED = re.compile(
    r"While|^For$|Enter$|Defun$|Queue|Barrier|Accumulator|^Batch(Function)?$|^Unbatch|[Ss]tage|^(Ordered)?Map|Reader|"
    r"ReadFile|MatchingFiles|Recv|Send|Remote|PyFunc|Rpc|Iterator|Dataset|Mutex|Collective|Nccl|feed|TPU|Xla")
_BRIEF = 1e-3  # seconds; longer runs gain more from parallel ops than they lose by changing threads
_SHORT = 2.5e-4  # seconds; about what it costs to hand a call over to another thread and to get the result back
_SURPRISE = 2e-2  # seconds
_LEAST = 1 << 10  # bytes; below, it isn't the size that makes a run long
_MOST = 1 << 18  # bytes in, or out: more take long to be read or written


def open_ended(ops: Iterable[str]) -> bool:
    """Whether a run's time says nothing about the next one's; so for a graph whose ops aren't known."""
    names = list(ops)
    return not names or any(map(_OPEN_ENDED.search, names))


def volume(arrays: Iterable[np.ndarray[Any, Any]]) -> float:
    """Bytes; infinite for strings, which may be of any length."""
    return sum([math.inf if array.dtype.hasobject else array.nbytes for array in arrays])


class Pace:
    """What the last run of a plan took. The next is expected to take as long, or longer if it is fed more.

    foreseeable: whether that can be expected at all.
    """

    __slots__ = ("_fed", "_made", "_seconds", "_trusted")

    def __init__(self, foreseeable: bool = True) -> None:
        self._seconds: float | None = None
        self._fed, self._made, self._trusted = float(_LEAST), 0.0, foreseeable

    @property
    def brief(self) -> bool:
        """Whether runs take less than a millisecond; assumed before the first."""
        return self._seconds is None or self._seconds < _BRIEF

    def expects_short(self, fed: float) -> bool:
        """Whether a run that is fed so many bytes will take a quarter of a millisecond at most, and not make many."""
        if not self._trusted or self._seconds is None or fed > _MOST:
            return False
        growth = max(1.0, fed / self._fed)
        return self._seconds * growth < _SHORT and self._made * growth < _MOST

    def ran(self, seconds: float, fed: float, made: float) -> None:
        """Learn from a run: bytes in, and out. One that took very much longer than expected is a lesson for good."""
        if seconds > _SURPRISE and self.expects_short(fed):
            self._trusted = False
        self._seconds, self._fed, self._made = seconds, max(fed, _LEAST), made
