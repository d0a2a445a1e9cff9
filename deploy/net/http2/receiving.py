"""Requests that come in: header blocks and bodies, by the state of their stream (RFC 9113, 5.1, 6.1, 6.2 and 8.1)."""

from __future__ import annotations

from collections.abc import Callable

from deploy.net.http2 import limits as cost
from deploy.net.http2.control import ControlFrames
from deploy.net.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME,
    HEAD,
    MOST,
    NO_ERROR,
    PADDED,
    PRIORITIZED,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Failed,
    fragment,
    frame,
    number32,
    parameters,
    unpadded,
)
from deploy.net.http2.limits import (
    CALL_WORK,
    EMPTY_MESSAGE,
    FRAME_WORK,
    LEAST_RETURNED,
    RECEIVE_WINDOW,
    SMALL,
    STREAM_WINDOW,
    Limits,
)
from deploy.net.http2.sending import CLIENT_ENDED, OPEN, WE_ENDED, Service
from deploy.net.http2.streams import Block, Blocks, End, Stream

_MORE = PADDED | PRIORITIZED


class Receiver(ControlFrames):
    """The part of a connection that takes them."""

    def __init__(self, service: Service, limits: Limits, later: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(service, limits, later)
        self._blocks = Blocks(max(cost.MOST_BLOCK, limits.block))
        self._continued: tuple[int, bytearray, bool, bool] | None = None  # stream, block, END_STREAM, depends on itself
        self._continuations = 0
        self._longest, self._longest_block = limits.message + 5, max(cost.MOST_BLOCK, limits.block)
        self.quiet = 0  # ticks without a call

    def _call(self, view: memoryview, begin: int, end: int, number: int) -> int:
        """Take a call that is what nearly all are: a known header block, here, and all of its body in the frame behind.

        Returns where that frame ends; 0: it's something else, and nothing was taken.
        """
        known = self._blocks.remembered.get(bytes(view[begin:end]))
        if known is None or not known.any_length or known.size > self._limits.block:
            return 0
        high, low, frame_type, flags, same = HEAD.unpack_from(view, end)
        size, begin = high << 8 | low, end + 9
        end = begin + size
        if (frame_type != DATA or flags != END_STREAM or same != number or end > len(view)
                or size > FRAME or size > self._longest or self._unreturned + size > RECEIVE_WINDOW
                or not self._last < number <= MOST or not number & 1 or self._continued is not None
                or self._leaving or len(self._streams) + self._orphans // 4 >= self._limits.streams):
            return 0
        self._last, self.quiet = number, 0
        self._work += CALL_WORK + 2 * FRAME_WORK
        stream = self._streams[number] = Stream(number, known.fields, None, self._stream_window)
        self._service.accept(self, stream)
        if stream.begun or stream.state is not OPEN:
            self._spend(cost.REFUSAL_PRICE)
            self._data(flags, number, view[begin:end])
        else:
            stream.accepted, stream.body, stream.state = True, bytearray(view[begin:end]), CLIENT_ENDED
            self._unreturned += size
            self._service.serve(self, stream)
            if stream.state is CLIENT_ENDED and not stream.begun:
                self._answering += size
                self.hold(stream, size)
            if self._unreturned >= LEAST_RETURNED:
                self._give_window()
        return end

    def _data(self, flags: int, number: int, payload: memoryview) -> None:
        size = len(payload)
        self._unreturned += size
        if self._unreturned > RECEIVE_WINDOW:
            raise Failed(FLOW_CONTROL_ERROR)
        stream = self._streams.get(number) or self._known(number)
        if flags & PADDED:
            payload = unpadded(flags, payload)
        if stream is None or stream.state is CLIENT_ENDED:
            if size < SMALL:
                self._spend(1)
            self._late(stream, number)
        else:
            self.quiet = 0
            stream.unreturned += size
            if stream.length is not None:
                stream.length -= len(payload)
            if stream.unreturned > STREAM_WINDOW:
                self.reset(stream, FLOW_CONTROL_ERROR)
            elif stream.length is not None and (stream.length < 0 or (flags & END_STREAM and stream.length)):
                self.reset(stream, PROTOCOL_ERROR)
            else:
                self._body(stream, payload, flags)
        if self._unreturned >= LEAST_RETURNED:
            self._give_window()

    def _body(self, stream: Stream, payload: memoryview, flags: int) -> None:
        """DATA that is as it should be."""
        unanswered = stream.state is OPEN and not stream.begun
        if unanswered:
            stream.body += payload
        if flags & END_STREAM:
            self._complete(stream)
            return
        if len(payload) < SMALL:
            self._spend(1)
        if unanswered:
            self._go_on(stream, len(payload))
        elif stream.unreturned > cost.LATE_DATA:
            self.reset(stream, NO_ERROR)

    def _go_on(self, stream: Stream, size: int) -> None:
        """A request's body has come in part."""
        self.hold(stream, size)
        body, most = stream.body, self._longest
        if not stream.announced and len(body) >= 5:
            stream.announced = 5 + int.from_bytes(body[1:5], "big")
            if cost.LONG_MESSAGE < stream.announced <= most and self._longest_frame == FRAME:
                self._longest_frame = cost.LONGEST_FRAME
                self._write(parameters(MAX_FRAME_SIZE=cost.LONGEST_FRAME))
        if stream.announced > most or len(body) > most:
            self._service.too_long(self, stream, max(len(body), stream.announced) - 5)
        elif stream.unreturned > STREAM_WINDOW // 4 and stream.state is OPEN:
            self._write(frame(WINDOW_UPDATE, 0, stream.number, number32(stream.unreturned)))
            stream.unreturned = 0

    def _complete(self, stream: Stream) -> None:
        if stream.state is WE_ENDED:
            if not stream.accepted and stream.unreturned >= EMPTY_MESSAGE:
                self._earn(cost.REFUSAL_PRICE)  # a whole call that was refused: no flood, if answered calls are none
            self._close(stream, End.BOTH_ENDED)
            return
        stream.state = CLIENT_ENDED
        if stream.begun:
            return  # it is being answered, as a request that isn't a call
        self._answering += stream.held
        self._work += CALL_WORK
        size = len(stream.body)
        if size > self._longest:
            self._service.too_long(self, stream, size - 5)
        else:
            self._service.serve(self, stream)
        if not stream.closed and not stream.begun:
            self._answering += size - stream.held
            self.hold(stream, size - stream.held)

    def _late(self, stream: Stream | None, number: int) -> None:
        """DATA or a header block for a stream on which the client has nothing more to say."""
        if stream is not None:
            self._spend(cost.RESET_PRICE)
            self.reset(stream, STREAM_CLOSED)
            return
        end = self._closed.get(number)
        if end is End.CLIENT_RESET:
            self._spend(cost.RESET_PRICE)
            self._write_reset(number, STREAM_CLOSED)
            self._closed.add(number, End.WE_RESET)
        elif end is not End.WE_RESET:
            raise Failed(STREAM_CLOSED)

    def _headers(self, flags: int, number: int, payload: memoryview) -> None:
        if not number & 1:
            raise Failed(PROTOCOL_ERROR)
        self.quiet = 0
        block, on_itself = fragment(flags, number, payload) if flags & _MORE else (bytes(payload), False)
        if flags & END_HEADERS:
            self._open(number, block, bool(flags & END_STREAM), on_itself)
        else:
            self._continued = (number, bytearray(block), bool(flags & END_STREAM), on_itself)
            self._continuations, self.age = 0, 0

    def _continuation(self, flags: int, number: int, payload: memoryview) -> None:
        if self._continued is None or self._continued[0] != number:
            raise Failed(PROTOCOL_ERROR)
        _, block, end, on_itself = self._continued
        block += payload
        self._continuations += 1
        if len(block) > self._longest_block or self._continuations > cost.MOST_CONTINUATIONS:
            raise Failed(ENHANCE_YOUR_CALM)
        if len(payload) < cost.SMALL:
            self._spend(1)
        if flags & END_HEADERS:
            self._continued = None
            self._open(number, bytes(block), end, on_itself)

    def _decoded(self, block: bytes) -> Block:
        known = self._blocks.remembered.get(block)
        if known is not None:
            return known
        if len(block) > self._longest_block:
            raise Failed(ENHANCE_YOUR_CALM)
        self._work += len(block)  # a microsecond for a byte
        return self._blocks.read(block)

    def _open(self, number: int, block: bytes, end: bool, on_itself: bool) -> None:
        read = self._decoded(block)
        stream = self._streams.get(number)
        if stream is not None:
            self._trailers(stream, read, end and not on_itself)
            return
        if number <= self._last:
            if self._closed.get(number) is None:
                raise Failed(PROTOCOL_ERROR)  # it was passed over, or ended long ago
            self._late(None, number)
            return
        self._last = number
        code = PROTOCOL_ERROR
        if read.request and not on_itself and not (end and read.length):
            code = REFUSED_STREAM
            if not self._leaving and len(self._streams) + self._orphans // 4 < self._limits.streams:
                stream = self._streams[number] = Stream(number, read.fields, read.length, self._stream_window)
                self._begin(stream, end, read.size)
                return
        self._spend(cost.RESET_PRICE)
        self._write_reset(number, code)
        self._closed.add(number, End.WE_RESET)

    def _begin(self, stream: Stream, end: bool, size: int) -> None:
        if end:
            stream.state = CLIENT_ENDED
        if size > self._limits.block:
            self._service.too_many_headers(self, stream, size)
        else:
            self._service.accept(self, stream)
        if stream.closed or stream.begun:
            self._work += CALL_WORK
            self._spend(cost.REFUSAL_PRICE)
            return
        stream.accepted = True
        if end:
            self._complete(stream)

    def _trailers(self, stream: Stream, block: Block, end: bool) -> None:
        if stream.state is CLIENT_ENDED:
            self._late(stream, stream.number)
        elif not end or not block.trailers or stream.length:
            self._spend(cost.RESET_PRICE)
            self.reset(stream, PROTOCOL_ERROR)
        else:
            self._complete(stream)
