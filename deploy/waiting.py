"""The only loop that sleeps: one deadline, one poll, one clock.

Tests pass their own clock, so they never sleep.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import FrameType
from typing import Protocol, TypeVar

T = TypeVar("T")


class _Interruption:
    """Raises KeyboardInterrupt once, as Ctrl-C does, in a thread that waits."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.raised = stop, False

    def check(self) -> None:
        if self.stop.is_set() and not self.raised:
            self.raised = True
            raise KeyboardInterrupt


_interruption: ContextVar[_Interruption | None] = ContextVar("_interruption", default=None)


@contextmanager
def interrupted_by(stop: threading.Event) -> Iterator[None]:
    """Once `stop` is set, `poll` and `Deadline.sleep` raise KeyboardInterrupt in this thread: Ctrl-C reaches the main
    thread only. They raise it once, so that whoever undoes what was begun can wait as well."""
    token = _interruption.set(_Interruption(stop))
    try:
        yield
    finally:
        _interruption.reset(token)


class Clock(Protocol):
    """Monotonic seconds, and a way to let them pass."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


class Deadline:
    """A point in time that all steps of one wait share. `seconds` None: never over."""

    __slots__ = ("_clock", "_started", "seconds")

    def __init__(self, seconds: float | None, clock: Clock = time) -> None:
        self.seconds, self._clock = seconds, clock
        self._started = clock.monotonic()

    @property
    def waited(self) -> float:
        return self._clock.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds left, never below 0; infinite without a limit."""
        return float("inf") if self.seconds is None else max(0.0, self.seconds - self.waited)

    @property
    def over(self) -> bool:
        return self.left <= 0

    def clip(self, seconds: float) -> float:
        """`seconds`, or what is left if that is less: the timeout for one call within this deadline."""
        return min(seconds, self.left)

    def sleep(self, seconds: float) -> None:
        interruption = _interruption.get()
        if interruption is None or interruption.raised or self._clock is not time:
            self._clock.sleep(self.clip(seconds))
        elif (left := self.clip(seconds)) > 0:
            interruption.stop.wait(min(left, threading.TIMEOUT_MAX))
            interruption.check()


def poll(probe: Callable[[], T | None], deadline: Deadline, *, first: float = 0.01, most: float = 0.25) -> T | None:
    """Call `probe` until it returns something that isn't None, or the deadline is over (then None).

    The pause grows from `first` to `most` seconds. The probe runs at least once, and once more at the end.
    What it raises ends the wait. So does Ctrl-C, even one that Python drops (see `interrupts`), or that another thread
    gets (see `interrupted_by`).
    """
    pause, interruption = first, _interruption.get()
    on_main = threading.current_thread() is threading.main_thread()
    with interrupts() if on_main else nullcontext(list[BaseException]()) as raised:
        while True:
            if interruption is not None:
                interruption.check()
            result = probe()
            if raised:
                raise raised[0]
            if result is not None or deadline.over:
                return result
            deadline.sleep(pause)
            pause = min(most, pause * 1.5)


@contextmanager
def interrupts() -> Iterator[Sequence[BaseException]]:
    """What handlers of SIGINT and SIGTERM have raised meanwhile. Whoever sees it there is still running: a handler that
    runs while an object is destroyed, as garbage collection does anywhere, raises for nobody."""
    raised = list[BaseException]()
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return
    handlers = {number: handler for number in (signal.SIGINT, signal.SIGTERM)
                if callable(handler := signal.getsignal(number)) and not isinstance(handler, signal.Handlers)}

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handlers[signal.Signals(number)](number, frame)
        except BaseException as e:
            raised.append(e)
            raise

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield raised
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
