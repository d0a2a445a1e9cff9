"""How a request is run: which of its steps an event loop takes by itself, and how long a thread may take over the rest.

Handing a request over to a thread and getting the answer back costs as much as a small model (0.1 ms, and more while
threads compete for Python's lock), so a loop answers what is sure to take a fraction of a millisecond. A request is
answered in steps. Before each that may take long, the request says what comes next: the loop goes on if the policy lets
it, else a thread does, from there. So nothing is done twice, and what the request holds (its version, its place in the
metrics) is given back in the end, whoever gets there, and also if nobody does.

A thread knows its call's deadline: the client's, or the REST API's. A run that goes on longer is stopped, so that it
doesn't keep a thread and its version for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple, Protocol, TypeVar

from deploy.engine.latency import LatencyEstimate, Shapes
from deploy.modelserver.status import NeverAnswered

T = TypeVar("T")
_MOST = 1 << 18  # bytes of a request; longer ones are read by a thread
_PAUSE = 32  # so many requests of a kind go to threads after one that a thread had to take over
_KINDS = 1024  # that are remembered
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_waited: ContextVar[float] = ContextVar("waited", default=0.0)


class Measured(Protocol):
    """A model whose runs are timed."""

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> LatencyEstimate | None:
        """What is known of runs that are fed tensors of these shapes; None: nothing, or that others keep them waiting.

        shapes: one for each of `feeds`.
        """


class Run(NamedTuple):
    """The next step: a run of `model` on values that needn't be decoded yet, but whose shapes are known."""

    model: Measured
    feeds: Sequence[str]
    fetches: Sequence[str]
    shapes: Shapes


LONG: Final = None  # the next step may take any time
Steps = Generator[Run | None, None, T]  # a request's: before each that may take long, what it is; in the end the answer


def finish(steps: Steps[T]) -> T:
    """The answer, by all steps that are left, in the calling thread."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        answer: T = end.value
        return answer


def never() -> Steps[T]:
    """The steps that are left of a request that is never answered."""
    yield LONG
    raise NeverAnswered


class InlinePolicy:
    """One event loop's, for its thread only. idle: whether a thread has nothing to do.

    key: of requests that go alike, as a path and a model.
    """

    def __init__(self, idle: Callable[[], bool] = lambda: True) -> None:
        self._idle = idle
        self._left: dict[Hashable, int] = {}  # key -> how many more go to threads

    def may_begin(self, key: Hashable, size: int) -> bool:
        """Whether the loop may read a request of so many bytes, and look up what it is for."""
        if size > _MOST or not self._idle():  # while all are busy, a call has to wait for its turn, or to be refused
            return False
        left = self._left.get(key)
        if not left:
            return True
        self._left[key] = left - 1
        return False

    def may_run(self, run: Run) -> bool:
        """Whether the loop may run a model on what has these shapes."""
        latency = run.model.latency(run.feeds, run.fetches, run.shapes)
        return latency is not None and latency.short

    def advance(self, key: Hashable, steps: Steps[T]) -> T | None:
        """The answer, or None if the next step is for a thread. Raises what the steps raise."""
        try:
            while (run := next(steps)) is not LONG and self.may_run(run):
                pass
        except StopIteration as end:
            answer: T = end.value
            return answer
        if len(self._left) >= _KINDS:  # clients make up paths, so these must not pile up
            self._left.clear()
        self._left[key] = _PAUSE
        return None


@contextmanager
def deadline(moment: float | None, *, handed_over: float | None = None) -> Iterator[None]:
    """What is run in this `with` may take until `moment` (time.monotonic()); None: as long as it takes.

    handed_over: when (time.monotonic()) a loop that had begun the request left it to this thread.
    """
    before = _deadline.set(moment)
    waited_before = _waited.set(0.0 if handed_over is None else time.monotonic() - handed_over)
    try:
        yield
    finally:
        _deadline.reset(before)
        _waited.reset(waited_before)


def waited() -> float:
    """Seconds between the loop that began the request and the thread that goes on with it."""
    return _waited.get()


def current_deadline() -> float | None:
    """The deadline of what this thread runs (time.monotonic()), if it has one."""
    return _deadline.get()


def seconds_left() -> float | None:
    """Seconds that are left, some at least; None: as many as it takes."""
    end = _deadline.get()
    return None if end is None else max(0.001, end - time.monotonic())
