"""HTTP/2's frames (RFC 9113, 4 and 6): numbers, how one is written, and what a client may not say in one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(6, 10)
ENHANCE_YOUR_CALM = 11
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 2, 3, 4, 5, 6

MOST = 2**31 - 1  # of a window, of a stream's number
WINDOW, FRAME = 65535, 1 << 14  # what both sides start with
HEAD = struct.Struct(">HBBBI")  # length (upper 16 bits, lower 8), type, flags, stream


class Failed(Exception):
    """The connection can't go on."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def frame(frame_type: int, flags: int, number: int, payload: bytes | memoryview = b"") -> bytes:
    size = len(payload)
    return b"".join((HEAD.pack(size >> 8, size & 0xFF, frame_type, flags, number), payload))


def three(number: int, headers: bytes, body: bytes, trailers: bytes) -> bytes:
    """A whole reply: HEADERS, DATA, and HEADERS that end the stream."""
    stream, size = number.to_bytes(4, "big"), len(body)
    return b"".join((_before_stream(len(headers), END_HEADERS), stream, headers,
                     HEAD.pack(size >> 8, size & 0xFF, DATA, 0, number), body,
                     _before_stream(len(trailers), END_HEADERS | END_STREAM), stream, trailers))


@lru_cache(maxsize=256)
def _before_stream(size: int, flags: int) -> bytes:
    """A HEADERS frame's first five bytes; nearly all replies have the same blocks."""
    return size.to_bytes(3, "big") + bytes((HEADERS, flags))


def frames_of(number: int, data: memoryview, most: int) -> bytes:
    """DATA frames, of so many bytes at most."""
    parts: list[bytes | memoryview] = []
    for at in range(0, len(data), most):
        part = data[at:at + most]
        parts += (HEAD.pack(len(part) >> 8, len(part) & 0xFF, DATA, 0, number), part)
    return b"".join(parts)


def number32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def unpadded(flags: int, payload: memoryview) -> memoryview:
    if not flags & PADDED:
        return payload
    if not payload:
        raise Failed(FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):
        raise Failed(PROTOCOL_ERROR)
    return payload[1:len(payload) - payload[0]]


def fragment(flags: int, number: int, payload: memoryview) -> tuple[bytes, bool]:
    """A HEADERS frame's part of a header block, and whether its stream depends on itself (RFC 7540, 5.3.1)."""
    block = unpadded(flags, payload)
    if not flags & PRIORITIZED:
        return bytes(block), False
    if len(block) < 5:
        raise Failed(FRAME_SIZE_ERROR)
    return bytes(block[5:]), dependency(block) == number


def dependency(priority: memoryview) -> int:
    """The stream that another one depends on: of no consequence, but it can't be itself."""
    return int.from_bytes(priority[:4], "big") & MOST


def settings(flags: int, number: int, payload: memoryview) -> Iterator[tuple[int, int]]:
    """A SETTINGS frame's parameters, each of them checked."""
    if number:
        raise Failed(PROTOCOL_ERROR)
    if len(payload) % 6 or (flags & ACK and payload):
        raise Failed(FRAME_SIZE_ERROR)
    for key, value in struct.iter_unpack(">HI", payload):
        if key == INITIAL_WINDOW_SIZE and value > MOST:
            raise Failed(FLOW_CONTROL_ERROR)
        if (key == ENABLE_PUSH and value > 1) or (key == MAX_FRAME_SIZE and not FRAME <= value < 1 << 24):
            raise Failed(PROTOCOL_ERROR)
        yield key, value


def parameters(**values: int) -> bytes:
    """A SETTINGS frame with parameters by name."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", globals()[key], value) for key, value in values.items()))
