"""Locks that others see from other machines, and may take once they aren't renewed for a while: leases.

Whoever holds one stops by itself before others may take it. How long it wasn't renewed is told by this machine's own
clock of seconds since it started, which nobody sets: no two machines' clocks are compared.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Protocol

from deploy.errors import DeployError, RolloutError, ServerError

LOST = "lock-lost"  # id of the error of who goes on without its lock


def now() -> float:
    """Seconds, those included in which the machine was suspended, where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Renewable(Protocol):
    """A lock that was taken."""

    def __str__(self) -> str:
        """Where it is, for people."""
        ...

    def renew(self) -> bool:
        """Whether it is ours still. Raises OSError or ServerError if nobody can say."""
        ...

    def let_go(self) -> None: ...


class HeldLease:
    """One that is held. limit: seconds without renewal after which its holder has to stop. taken: see `now`."""

    def __init__(self, lock: Renewable, limit: float, taken: float) -> None:
        self.lock, self._limit, self._renewed = lock, limit, taken
        self._failure, self.taken_over = "", False

    def renew(self) -> None:
        """Once. What goes wrong counts when it goes wrong for too long."""
        began = now()
        try:
            if self.lock.renew():
                self._renewed, self._failure = began, ""
            else:
                self.taken_over = True
        except (OSError, DeployError) as e:
            self._failure = f": {e}"

    def check(self) -> None:
        """Raises RolloutError if somebody else has it, or may have it soon."""
        if self.taken_over:
            raise RolloutError(f"somebody else has taken the lock of these servers over, {self.lock}: this run was "
                               "silent for too long", hint="look what was done: tfs history; then begin again",
                               id="lock-lost")
        silent = now() - self._renewed
        if silent > self._limit:
            raise RolloutError(f"the lock of these servers, {self.lock}, wasn't renewed for {silent:.0f} s, and others "
                               f"may take it: this run stops, and tells no server anything more{self._failure}",
                               hint="once the place of the lock can be reached: tfs history, then run the same again",
                               id="lock-lost")


_held: ContextVar[tuple[HeldLease, ...]] = ContextVar("_held", default=())


def check_held() -> None:
    """Raises RolloutError (lock-lost) if a lock that this thread works under is lost. Whoever is about to change
    something calls it."""
    for lease in _held.get():
        lease.check()


@contextmanager
def under(lease: HeldLease | None) -> Iterator[None]:
    """What this thread does meanwhile, and those that it starts with its context, needs the lease."""
    token = _held.set((*_held.get(), *([lease] if lease else [])))
    try:
        yield
    finally:
        _held.reset(token)


@contextmanager
def renewed(lock: Renewable, *, every: float, limit: float, taken: float) -> Iterator[HeldLease]:
    """Renew a lock that was taken, every so many seconds, and let it go at the end."""
    end, held = threading.Event(), HeldLease(lock, limit, taken)

    def renew() -> None:
        while not end.wait(every) and not held.taken_over:
            held.renew()

    renewing = threading.Thread(target=renew, name="lock", daemon=True)
    renewing.start()
    try:
        yield held
    finally:
        end.set()
        renewing.join(every)
        if not held.taken_over:
            with suppress(OSError, ServerError):
                lock.let_go()
