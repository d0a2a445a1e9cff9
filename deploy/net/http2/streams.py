"""A stream: one request and its reply, and the state that it is in (RFC 9113, 5.1)."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any


class State(enum.Enum):
    """Of a stream that was opened; one with a higher number than all of these is idle."""

    OPEN = "open"
    CLIENT_ENDED = "half-closed (remote)"
    WE_ENDED = "half-closed (local)"
    CLOSED = "closed"


class End(enum.Enum):
    """How a stream was closed. What comes after it is an error, an echo of the past, or a crossing of messages."""

    BOTH_ENDED = "END_STREAM of both"
    CLIENT_RESET = "RST_STREAM of the client"
    WE_RESET = "RST_STREAM of ours"


class Stream:
    """One request and its reply.

    window: bytes that may be sent beyond those of the connection's initial window. unreturned: bytes received since the
    client was given more window. length: bytes that its content-length still promises. held: bytes that it takes up.
    announced: bytes that the body is to have. accepted: it is to be served. begun: the reply's headers are sent.
    handed: a thread works for it. soon: its deadline is near. until: its deadline, in the loop's time.
    """

    state = State.OPEN
    pending: memoryview | None = None
    trailers = b""
    timer: asyncio.TimerHandle | None = None
    until: float | None = None
    on_close: Callable[[], object] | None = None
    handler: Any = None
    accepted = begun = handed = soon = False
    unreturned = held = announced = 0

    def __init__(self, number: int, headers: dict[bytes, bytes], length: int | None, window: int) -> None:
        self.number, self.headers, self.length, self.window = number, headers, length, window
        self.body = bytearray()

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.state is State.CLOSED or self.state is State.WE_ENDED


class Closed:
    """The last streams that were closed, some hundred at least: the others can't be told from those never opened."""

    def __init__(self, most: int = 512) -> None:
        self._most = most
        self._recent: dict[int, End] = {}
        self._older: dict[int, End] = {}

    def add(self, number: int, end: End) -> None:
        if len(self._recent) >= self._most:
            self._recent, self._older = {}, self._recent
        self._recent[number] = end

    def get(self, number: int) -> End | None:
        return self._recent.get(number) or self._older.get(number)
