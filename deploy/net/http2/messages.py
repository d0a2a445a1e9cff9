"""gRPC in HTTP/2 (grpc's PROTOCOL-HTTP2.md): a message with five bytes in front; the status in the trailers.

Compressed messages are unpacked piece by piece: a small one can stand for gigabytes.
"""

from __future__ import annotations

import re
import zlib
from typing import Protocol

Message = bytes | memoryview
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 8, 12, 13  # of google.rpc.Code
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_FIRST = 0x0A  # tag of a message's field 1 that has a length
_UNSAFE = re.compile(rb"[^\x20-\x24\x26-\x7e]")
GZIP, DEFLATE = 31, 15  # zlib's wbits
ANY_RATIO, MOST_RATIO = 64 << 20, 100  # bytes that may come of little; for more of them, how much longer than packed
_PIECE = 1 << 20


class Failure(Protocol):
    """What a failed call is answered with: a google.rpc code and a text."""

    @property
    def code(self) -> int: ...

    @property
    def message(self) -> str: ...


class Unreadable(Exception):
    """A request that is answered with this code and text, since no message can be read from it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def field(name: bytes, value: bytes) -> bytes:
    """A header field as HPACK writes it without tables (RFC 7541, 6.2.2)."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,))
    digits, size = bytearray(b"\x7f"), size - 0x7F
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)

_OK = b"\x88"  # :status 200, from the static table
HEADERS = _OK + field(b"content-type", b"application/grpc") + field(b"grpc-accept-encoding", b"identity, deflate, gzip")
TRAILERS = field(b"grpc-status", b"0")
FAILED = _OK + field(b"content-type", b"application/grpc")  # a failed call's reply has this in front of its trailers
_TEXT = field(b"content-type", b"text/plain")
NOT_GRPC = field(b":status", b"415") + _TEXT
NOT_POST = field(b":status", b"405") + field(b"allow", b"POST") + _TEXT
SPEAKS_GRPC = b"This port speaks gRPC: POST, with content-type application/grpc.\n"


def failure(error: Failure) -> bytes:
    """A failed call's trailers."""
    block = field(b"grpc-status", b"%d" % error.code)
    if not error.message:
        return block
    text = _UNSAFE.sub(lambda m: b"%%%02X" % m[0][0], error.message.encode("utf-8", "surrogateescape"))
    return block + field(b"grpc-message", text)


def timeout(headers: dict[bytes, bytes]) -> float | None:
    """Seconds that the client waits."""
    match = _TIMEOUT.fullmatch(headers.get(b"grpc-timeout", b""))
    return int(match[1]) * _UNITS[match[2]] if match else None


def unpacked(headers: dict[bytes, bytes], body: bytearray, most: int) -> Message:
    """The request's message, where it lies in the body unless it is compressed. Raises Unreadable."""
    message = memoryview(body)[5:]
    if len(body) < 5 or int.from_bytes(body[1:5], "big") != len(message):
        raise Unreadable(INTERNAL, "")
    if not body[0]:
        return message
    encoding = headers.get(b"grpc-encoding", b"identity")
    if encoding not in (b"gzip", b"deflate"):
        raise Unreadable(UNIMPLEMENTED, f"Compression algorithm '{encoding.decode('latin-1')}' is not supported")
    try:
        return inflated(message, GZIP if encoding == b"gzip" else DEFLATE, most)
    except TooLong as error:
        raise too_long(error.args[0] + 1, error.args[0]) from error
    except zlib.error as error:
        raise Unreadable(INTERNAL, "") from error


def too_long(size: int, most: int) -> Unreadable:
    return Unreadable(RESOURCE_EXHAUSTED, f"SERVER: Received message larger than max ({size} vs. {most})")


def model_of(body: bytearray) -> bytes:
    """What tells apart the models that a method's requests are for: the start of a message whose first field says it.

    All requests of TF Serving's API have their ModelSpec there.
    """
    return bytes(body[5:7 + body[6]]) if len(body) > 6 and body[5] == _FIRST else b""


def framed(message: bytes) -> bytes:
    """The message as a reply's body."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class TooLong(Exception):
    """It would be longer than allowed."""


def most_unpacked(packed: int, most: int) -> int:
    """How long `packed` bytes may become: at most `most`, and, beyond 64 MiB, a hundred times as long."""
    return min(most, max(ANY_RATIO, packed * MOST_RATIO))


def inflated(packed: bytes | bytearray | memoryview, wbits: int, most: int) -> bytes:
    """All of a compressed body. Raises TooLong; zlib.error if it is damaged, cut off, or followed by something."""
    unpacker, pieces, size = zlib.decompressobj(wbits=wbits), [], 0
    most = most_unpacked(len(packed), most)
    rest: bytes | bytearray | memoryview = packed
    while not unpacker.eof:
        piece = unpacker.decompress(rest, _PIECE)
        rest = unpacker.unconsumed_tail
        size += len(piece)
        if size > most:
            raise TooLong(most)
        if not piece and not rest and not unpacker.eof:
            raise zlib.error("it is cut off")
        pieces.append(piece)
    if unpacker.unused_data:
        raise zlib.error("something follows")
    return b"".join(pieces)
