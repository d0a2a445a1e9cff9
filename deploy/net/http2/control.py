"""Frames that aren't a request's: settings, windows, resets and pings (RFC 9113, 6.3 to 6.9)."""

from __future__ import annotations

from deploy.net.http2 import limits as cost
from deploy.net.http2.frames import (
    ACK,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MOST,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    SETTINGS,
    WINDOW_UPDATE,
    Failed,
    dependency,
    frame,
    settings,
)
from deploy.net.http2.sending import Sender
from deploy.net.http2.streams import End, Stream


class ControlFrames(Sender):
    """The part of a connection that takes them. Each has its price."""

    def _spend(self, price: int) -> None:
        self._budget -= price
        if self._budget < 0:
            raise Failed(ENHANCE_YOUR_CALM)

    def _known(self, number: int, on_idle: bool = False) -> Stream | None:
        """The stream, unless it has ended. Frames for one that wasn't opened yet are refused."""
        stream = self._streams.get(number)
        if stream is None and (not number or (number > self._last and not on_idle)):
            raise Failed(PROTOCOL_ERROR)
        return stream

    def _reset_by_client(self, number: int, payload: memoryview) -> None:
        if len(payload) != 4:
            raise Failed(FRAME_SIZE_ERROR)
        stream = self._known(number)
        self._spend(cost.RESET_PRICE)
        if stream is not None:
            self._close(stream, End.CLIENT_RESET)

    def _control(self, frame_type: int, flags: int, number: int, payload: memoryview) -> None:
        if frame_type == WINDOW_UPDATE:
            self._window_update(number, payload)
        elif frame_type == SETTINGS:
            self._settings(flags, number, payload)
        elif frame_type == PING:
            if len(payload) != 8 or number:
                raise Failed(FRAME_SIZE_ERROR if len(payload) != 8 else PROTOCOL_ERROR)
            if not flags & ACK:
                self._write(frame(PING, ACK, 0, payload))
        elif frame_type == PRIORITY:
            stream = self._known(number, on_idle=True)
            if len(payload) != 5 or dependency(payload) == number:
                code = PROTOCOL_ERROR if len(payload) == 5 else FRAME_SIZE_ERROR
                if stream is None:
                    raise Failed(code)
                self.reset(stream, code)
        elif frame_type == PUSH_PROMISE or (frame_type == GOAWAY and number):
            raise Failed(PROTOCOL_ERROR)
        elif frame_type == GOAWAY and len(payload) < 8:
            raise Failed(FRAME_SIZE_ERROR)

    def _settings(self, flags: int, number: int, payload: memoryview) -> None:
        window = self._stream_window
        for key, value in settings(flags, number, payload):
            self._spend(1)
            if key == MAX_FRAME_SIZE:
                self._frame = value
            elif key == INITIAL_WINDOW_SIZE:
                window = value
        if flags & ACK:
            return
        more, self._stream_window = window - self._stream_window, window
        if more:
            self._work += len(self._streams)
            for stream in self._streams.values():
                stream.window += more
                if stream.window > MOST:
                    raise Failed(FLOW_CONTROL_ERROR)
        self._write(frame(SETTINGS, ACK, 0))
        if more > 0:
            self._flush_all()

    def _window_update(self, number: int, payload: memoryview) -> None:
        if len(payload) != 4:
            raise Failed(FRAME_SIZE_ERROR)
        more = int.from_bytes(payload, "big") & MOST
        code = FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR
        if not number:
            self._window += more
            if not more or self._window > MOST:
                raise Failed(code)
            self._work += len(self._sending)
            self._flush_all()
            return
        stream = self._known(number)
        if stream is not None:
            stream.window += more
            if not more or stream.window > MOST:
                self.reset(stream, code)
            else:
                self._flush(stream)
