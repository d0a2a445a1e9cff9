"""What goes out on an HTTP/2 connection: replies, within the windows and as far as the client reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from deploy.net.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    WINDOW,
    WINDOW_UPDATE,
    frame,
    frames_of,
    number32,
    three,
)
from deploy.net.http2.limits import (
    BUDGET,
    BURST,
    LEAST_RETURNED,
    MOST_BUDGET,
    PER_CALL,
    RECEIVE_WINDOW,
    SMALL,
    Limits,
    Memory,
)
from deploy.net.http2.streams import Closed, End, State, Stream

OPEN, CLIENT_ENDED, WE_ENDED, CLOSED = State
BOTH_ENDED = End.BOTH_ENDED
_NOTHING = bytearray()  # in place of a body that isn't needed any more


class Service(Protocol):
    """What a connection is for. All is called in the event loop. C: the connection's class."""

    memory: Memory

    def come(self, connection: Any) -> bool:
        """A client is there; False: there are too many."""
        ...

    def gone(self, connection: Any) -> None: ...

    def accept(self, connection: Any, stream: Stream) -> None:
        """A request begins; one that is answered here isn't read."""

    def too_long(self, connection: Any, stream: Stream, size: int) -> None:
        """A request's body has more bytes than allowed, `size` at least: answer it."""

    def too_many_headers(self, connection: Any, stream: Stream, size: int) -> None:
        """A request's header fields are longer than allowed, `size` bytes: answer it."""

    def serve(self, connection: Any, stream: Stream) -> None:
        """A request has come completely."""


class Sender:
    """The half of a connection that writes."""

    def __init__(self, service: Service, limits: Limits, later: Callable[[Callable[[], None]], object]) -> None:
        self._service, self._limits, self._later = service, limits, later
        self._memory = service.memory
        self._transport: Any = None
        self._streams: dict[int, Stream] = {}
        self._closed = Closed()
        self._last = 0  # the highest number of a stream so far
        self._orphans = 0  # threads that work for streams that have ended
        self._window = self._stream_window = WINDOW
        self._frame = self._longest_frame = FRAME  # bytes of a frame that may be sent, be received
        self._budget = BUDGET
        self._sending: dict[int, Stream] = {}  # streams with a reply that isn't sent completely
        self._sent = False  # anything of those, since the last tick
        self._full = self._leaving = self._over = False
        self._work = 0  # of this turn
        self.age = 0  # ticks since the connection began, a header block began, or the end
        self.held = 0  # bytes of requests and replies
        self._unreturned = 0  # bytes received since the client was given more window
        self._answering = 0  # of these, bytes of requests that have come completely

    # -- replies

    def reply(self, stream: Stream, headers: bytes, body: bytes, trailers: bytes) -> None:
        """Answer a request: header block, body, block of trailers (b"": none). Too late: nothing happens."""
        state = stream.state
        if stream.begun or self._over or state is CLOSED or state is WE_ENDED:
            return
        number, size = stream.number, len(body)
        if (state is CLIENT_ENDED and size <= self._window and size <= stream.window and size <= self._frame
                and trailers and not self._full):
            self._window -= size
            if not self._transport.is_closing():
                self._transport.write(three(number, headers, body, trailers))
            if self._budget < MOST_BUDGET:
                self._budget += PER_CALL
            self._close(stream, BOTH_ENDED)
            return
        self._write(frame(HEADERS, END_HEADERS, number, headers))
        self._release(stream)
        stream.begun = True
        stream.pending, stream.trailers = memoryview(body), trailers
        self._sending[number] = stream
        self.hold(stream, size)
        self._flush(stream)

    def refuse(self, stream: Stream, headers: bytes, trailers: bytes) -> None:
        """Answer a request by a header block only; by its trailers, if a reply has begun."""
        if stream.closed or self._over:
            return
        stream.pending = None
        self._earn(PER_CALL if stream.accepted else 0)
        self._last_block(stream, trailers if stream.begun else headers + trailers)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream without an answer."""
        if stream.state is not CLOSED:
            self._write_reset(stream.number, code)
            self._close(stream, End.WE_RESET)

    def returned(self, stream: Stream) -> None:
        """The thread that worked for a stream is done with it."""
        stream.handed = False
        if stream.closed:
            self._orphans -= 1

    def _flush_all(self) -> None:
        for stream in list(self._sending.values()):
            if self._window <= 0 or self._full:
                return
            self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        """Send as much as the windows allow and the client reads."""
        while stream.pending:
            size = min(len(stream.pending), self._window, stream.window, BURST)
            if size <= 0 or self._full or self._over:
                return
            self._window -= size
            stream.window -= size
            self._write(frames_of(stream.number, stream.pending[:size], self._frame))
            stream.pending = stream.pending[size:]
            self._sent = True
            self._earn((2 + (self._frame >> 12)) * -(-size // self._frame) if size >= SMALL else 0)
            self.hold(stream, -size)
        if stream.pending is not None:
            self._earn(PER_CALL if stream.accepted else 0)
            self._last_block(stream, stream.trailers)

    def _last_block(self, stream: Stream, block: bytes) -> None:
        if not block:
            self._write(frame(DATA, END_STREAM, stream.number))
        parts = [block[at:at + FRAME] for at in range(0, len(block), FRAME)]
        for index, part in enumerate(parts):
            frame_type, flags = (CONTINUATION, 0) if index else (HEADERS, END_STREAM)
            self._write(frame(frame_type, flags | (END_HEADERS if index == len(parts) - 1 else 0), stream.number, part))
        if stream.state is CLIENT_ENDED:
            self._close(stream, End.BOTH_ENDED)
        elif self._leaving:
            self.reset(stream, NO_ERROR)
        else:
            self._stop_sending(stream)
            stream.state = WE_ENDED

    # -- ends

    def _close(self, stream: Stream, end: End) -> None:
        state = stream.state
        if state is not WE_ENDED and state is not CLOSED:
            self._stop_sending(stream)
        stream.state = CLOSED
        self._streams.pop(stream.number, None)
        self._closed.add(stream.number, end)
        if self._leaving and not self._streams:
            self.close()

    def _stop_sending(self, stream: Stream) -> None:
        """Nothing more will be sent on a stream: what was kept for it isn't needed."""
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.handed:
            self._orphans += 1
        if stream.pending is not None or stream.begun:
            stream.pending = None
            self._sending.pop(stream.number, None)
        if stream.held:
            self._release(stream)
        else:
            stream.body = _NOTHING
        if stream.on_close is not None:
            stream.on_close()

    def leave(self) -> None:
        """Take no new requests; close when all are answered."""
        if not self._leaving:
            self._leaving = True
            self._goaway(NO_ERROR)
        for stream in [s for s in self._streams.values() if s.state is WE_ENDED]:
            self.reset(stream, NO_ERROR)
        if not self._streams:
            self.close()

    def fail(self, code: int) -> None:
        """End the connection, and all that was asked on it."""
        if self._over:
            return
        self._goaway(code)
        self._end()
        self.close()

    def close(self) -> None:
        """End the connection once what was written is sent."""
        if self._transport is not None and not self._transport.is_closing():
            self.age = 0
            self._transport.close()

    def _end(self) -> None:
        self._over = True
        for stream in list(self._streams.values()):
            self._close(stream, End.WE_RESET)

    # -- what is held, and what it costs

    def hold(self, stream: Stream, size: int) -> None:
        """A stream takes up so many bytes more."""
        stream.held += size
        self.count(size)

    def count(self, size: int) -> None:
        """The connection takes up so many bytes more."""
        memory = self._memory
        self.held += size
        memory.total += size
        if size > 0 and (memory.total > memory.most or self.held > self._limits.held):
            if self.held > self._limits.held:
                self.fail(ENHANCE_YOUR_CALM)
            else:
                memory.shed()

    def _release(self, stream: Stream) -> None:
        """A stream's request isn't needed any more."""
        stream.body = _NOTHING
        if stream.held:
            if stream.state is CLIENT_ENDED and not stream.begun:
                self._answering -= stream.held
            self.hold(stream, -stream.held)
            self._give_window()

    def _give_window(self) -> None:
        """Let the client send as much as it has sent, unless too many bytes of requests wait for their answers."""
        if self._unreturned >= LEAST_RETURNED and self._answering < RECEIVE_WINDOW and not self._over:
            self._write(frame(WINDOW_UPDATE, 0, 0, number32(self._unreturned)))
            self._unreturned = 0

    def _earn(self, amount: int) -> None:
        if self._budget < MOST_BUDGET:
            self._budget += amount

    # -- bytes

    def _goaway(self, code: int) -> None:
        self._write(frame(GOAWAY, 0, 0, number32(self._last) + number32(code)))

    def _write_reset(self, number: int, code: int) -> None:
        self._write(frame(RST_STREAM, 0, number, number32(code)))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
