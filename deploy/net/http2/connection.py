"""A connection: a request with a body comes in; headers, one body and trailers go out.

Clauses and what happens at each are a table in tests/unit/test_http2_clauses.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from deploy.net.http2 import limits as cost
from deploy.net.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    FRAME,
    FRAME_SIZE_ERROR,
    HEAD,
    HEADERS,
    MOST,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    Failed,
    frame,
    number32,
    parameters,
)
from deploy.net.http2.limits import FRAME_WORK, LONG_READ, TURN, WRITE_BUFFER, Limits
from deploy.net.http2.receiving import Receiver
from deploy.net.http2.sending import CLIENT_ENDED, Service


class Connection(Receiver, asyncio.Protocol):
    """One client. All methods are called in the event loop; later: calls a function in its next turn."""

    def __init__(self, service: Service, limits: Limits, later: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(service, limits, later)
        self._arrived, self._at = b"", 0  # what has arrived, and where what isn't taken yet begins
        self._greeted = self._settled = False  # the preface has come, and the SETTINGS after it
        self._buffered = 0  # bytes of this that are counted
        self._waiting, self._reading = False, True
        self._unsent = 0  # bytes that the transport had not sent at the last tick
        self._stalled = 0  # ticks in which nothing of what waits was sent

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(WRITE_BUFFER)
        tls = transport.get_extra_info("ssl_object")
        if not self._service.come(self) or (tls is not None and tls.selected_alpn_protocol() != "h2"):
            self._over = True
            transport.close()
            return
        self._write(parameters(MAX_CONCURRENT_STREAMS=self._limits.streams, INITIAL_WINDOW_SIZE=cost.STREAM_WINDOW,
                               MAX_HEADER_LIST_SIZE=self._limits.block)
                    + frame(WINDOW_UPDATE, 0, 0, number32(cost.RECEIVE_WINDOW - WINDOW)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._drop_buffer()
        self._end()
        self._service.gone(self)

    def pause_writing(self) -> None:
        """The client doesn't read: take nothing more from it until it does, or answers to pings would pile up."""
        self._full = True
        self._read_or_wait()

    def resume_writing(self) -> None:
        self._full = False
        self._flush_all()
        if self._at < len(self._arrived) and not self._waiting:
            self._waiting = True
            self._later(self._next_turn)
        self._read_or_wait()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        received = len(data)
        self._arrived = self._arrived[self._at:] + data if self._arrived else data
        self._at = 0
        if not self._waiting:
            self._turn(received)

    # -- turns

    def _turn(self, received: int) -> None:
        """Take as many frames as one turn allows. What is left waits until other connections had theirs."""
        self._work = 0
        try:
            self._at = self._read(memoryview(self._arrived), self._at)
        except Failed as failed:
            self.fail(failed.code)
        if self._over:
            self._drop_buffer()
            return
        left = len(self._arrived) - self._at
        if not left:
            self._arrived, self._at = b"", 0
        if left > FRAME or self._buffered:
            self.count(left - self._buffered)
            self._buffered = left
        # a read that fills the loop's buffer is followed by another one of the same connection
        waiting = self._work >= TURN or received >= LONG_READ
        if waiting or self._waiting:
            self._waiting = waiting
            if waiting:
                self._later(self._next_turn)
            self._read_or_wait()

    def _drop_buffer(self) -> None:
        self._arrived, self._at = b"", 0
        self.count(-self._buffered)
        self._buffered = 0

    def _next_turn(self) -> None:
        if not self._waiting or self._over:
            return
        if self._full:
            self._waiting = False  # `resume_writing` goes on
        else:
            self._turn(0)

    def _read_or_wait(self) -> None:
        """Read from the client, unless there is enough to do, or it doesn't take the answers."""
        if self._transport is None or self._transport.is_closing():
            return
        wanted = not self._full and not self._waiting
        if wanted != self._reading:
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def tick(self) -> None:
        """A second has passed."""
        self._budget = max(self._budget, min(self._budget + cost.PER_SECOND, cost.BUDGET))
        self.age, self.quiet = self.age + 1, self.quiet + 1
        limits, waiting = self._limits, self._transport.get_write_buffer_size()
        moves = self._sent or waiting < self._unsent or not (self._sending or waiting)
        self._sent, self._unsent, self._stalled = False, waiting, 0 if moves else self._stalled + 1
        if self._transport.is_closing():
            if limits.stall and self.age > limits.stall:
                self._transport.abort()
        elif self._leaving and self.idle:
            self.fail(NO_ERROR)
        elif (limits.stall and self._stalled > limits.stall) or (
                self.age > limits.handshake and (not self._settled or self._continued)):
            self.fail(ENHANCE_YOUR_CALM)
            self._transport.abort()
        elif self.idle:
            self._leaving = True
            self._goaway(NO_ERROR)

    @property
    def settled(self) -> bool:
        """Whether the client has shown that it speaks HTTP/2."""
        return self._settled

    def make_room(self) -> None:
        """End a connection that isn't busy; its client may open another one."""
        self.fail(NO_ERROR)
        self._later(self._transport.abort)

    @property
    def idle(self) -> bool:
        """Whether the client has asked nothing for long, and waits for no answer."""
        return self.quiet > self._limits.idle and not self.busy

    @property
    def busy(self) -> bool:
        """Whether the client waits for an answer."""
        return any(s.state is CLIENT_ENDED for s in self._streams.values())

    # -- frames that come in

    def _read(self, view: memoryview, at: int) -> int:
        """Take complete frames from here on; returns where the first one begins that isn't taken."""
        end, unpack = len(view), HEAD.unpack_from
        if not self._greeted:
            if not PREFACE.startswith(bytes(view[:len(PREFACE)])):
                raise Failed(PROTOCOL_ERROR)
            if end < len(PREFACE):
                return 0
            self._greeted, at = True, len(PREFACE)
        while end - at >= 9 and self._work < TURN:
            high, low, frame_type, flags, number = unpack(view, at)
            stop = at + 9 + (high << 8 | low)
            if stop > at + 9 + self._longest_frame:
                raise Failed(FRAME_SIZE_ERROR)
            if end < stop:
                break
            if frame_type == HEADERS and flags == END_HEADERS and end - stop > 9 and (after := self._call(
                    view, at + 9, stop, number)):
                at = after
                continue
            self._work += FRAME_WORK
            self._take(frame_type, flags, number & MOST, view[at + 9:stop])
            at = stop
        return at

    def _take(self, frame_type: int, flags: int, number: int, payload: memoryview) -> None:
        if self._continued is not None and frame_type != CONTINUATION:
            raise Failed(PROTOCOL_ERROR)
        if not self._settled:
            if frame_type != SETTINGS or flags & ACK:
                raise Failed(PROTOCOL_ERROR)
            self._settled = True
        if frame_type == DATA:
            self._data(flags, number, payload)
        elif frame_type == HEADERS:
            self._headers(flags, number, payload)
        elif frame_type == CONTINUATION:
            self._continuation(flags, number, payload)
        elif frame_type == RST_STREAM:
            self._reset_by_client(number, payload)
        else:
            self._spend(1)
            self._control(frame_type, flags, number, payload)
