"""The event loops of the two protocols, and how many connections they may have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where it is installed (not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def open_files() -> int | None:
    """How many files and sockets this process may have; None if there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else int(soft)


def close_listeners(loop: asyncio.AbstractEventLoop, listeners: Iterable[asyncio.AbstractServer]) -> None:
    """Close them in a loop that has stopped; uvloop's sockets need some turns for that."""
    for listener in listeners:
        listener.close()
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()
