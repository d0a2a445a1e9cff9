"""How long the call that a thread is answering may still take: its client's deadline, or the REST API's.

A run that goes on longer is stopped, so that it doesn't keep a thread and its version for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float | None] = ContextVar("until", default=None)


@contextmanager
def until(moment: float | None) -> Iterator[None]:
    """What is run in this `with` may take until then (time.monotonic()); None: as long as it takes."""
    before = _until.set(moment)
    try:
        yield
    finally:
        _until.reset(before)


def moment() -> float | None:
    """When patience ends, if it does."""
    return _until.get()


def left() -> float | None:
    """Seconds that are left, some at least; None: as many as it takes."""
    end = _until.get()
    return None if end is None else max(0.001, end - time.monotonic())
