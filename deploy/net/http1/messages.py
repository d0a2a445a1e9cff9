"""Requests and replies as values, and a reply's bytes on the wire."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

import numpy as np

from deploy.net.http1.limits import MOST_RATIO, MOST_UNPACKED, UNPACKED_ANYWAY

JSON, HTML, TEXT = "application/json", "text/html", "text/plain"
UNTYPED = "text/html; charset=ISO-8859-1"  # what libevent says of a reply that nobody gave a type
_COMMA = ord(",")
_PIECE, _INPUT = 1 << 20, 1 << 16  # bytes that are unpacked between two looks at whether somebody still waits; of input


class Abandoned(Exception):
    """A request that nobody waits for any more: its client has gone, or was told that its time is over."""


@dataclass(slots=True)
class Request:
    """One request. target: path, query and fragment as sent.

    collected: a long body, until a thread makes `body` of it. old: of HTTP/1.0. refusal: the response that it gets
    without its body. size: the body's, as it was sent. over: nobody waits for the answer any more.
    """

    method: str = ""
    target: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    collected: bytearray | None = None
    old: bool = False
    refusal: Response | None = None
    size: int = 0
    over: bool = False

    def go_on(self) -> None:
        """Raises Abandoned if nobody waits for the answer any more."""
        if self.over:
            raise Abandoned


class Response(NamedTuple):
    """One reply."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False


def html_error(status: int) -> Response:
    """libevent's page for an error, after which it closes the connection."""
    reason = HTTPStatus(status).phrase
    page = f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return Response(status, page.encode(), HTML, close=True)


def error_reply(status: int, text: str, *, close: bool = True) -> Response:
    """An error that the real server doesn't have: a limit that it lacks."""
    return Response(status, json.dumps({"error": text}, indent=4).encode(), close=close)


def rendered(request: Request, response: Response) -> bytes:
    """The reply's bytes."""
    status, body, content_type, headers, close = response
    start = _start(status, content_type, headers, int(time.time()))
    if request.method == "HEAD":
        length = body = b""
    else:
        length = b"Content-Length: %d\r\n" % len(body)
    connection = (b"Connection: close\r\n" if close or not request.keep_alive
                  else b"Connection: keep-alive\r\n" if request.old else b"")
    return b"%b%b%b\r\n%b" % (start, length, connection, body)


@lru_cache(64)
def _start(status: int, content_type: str, headers: tuple[tuple[str, str], ...], second: int) -> bytes:
    """The lines that the replies of one second share."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Type: {content_type}",
             *(f"{name}: {value}" for name, value in headers), f"Date: {formatdate(second, usegmt=True)}"]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def endless(request: Request) -> bool:
    """Whether libevent can't know where the body ends: a `Connection` that isn't to be closed, and no length."""
    connection = request.headers.get(b"connection", b"close").lower()
    return (request.method in ("POST", "PUT", "PATCH") and connection != b"close"
            and b"content-length" not in request.headers
            and request.headers.get(b"transfer-encoding", b"").lower() != b"chunked")


class TooLarge(Exception):
    """A body that unpacks to more than is worth the while."""


def check_values(body: bytes, most: int) -> None:
    """Raises TooLarge for JSON of more than `most` values, which take many times the bytes of their text."""
    if len(body) <= most or not most:
        return
    text, commas = np.frombuffer(body, np.uint8), 0
    for start in range(0, len(body), _PIECE):  # without Python's lock, and little memory
        commas += int(np.count_nonzero(text[start:start + _PIECE] == _COMMA))
    if commas >= most:
        raise TooLarge(f"The body has more values than --tfs_rest_max_values={most} allows; send it in parts, or raise "
                       "the limit")


def is_packed(request: Request) -> bool:
    return b"gzip" in request.headers.get(b"content-encoding", b"")


class Heavier(Exception):
    """A body unpacks to more than was expected; it is as it came."""


def unpack(request: Request, expected: int | None = None) -> None:
    """Uncompress the body in its place; one that can't be, or is longer than the real server's limit, counts as empty.

    Raises TooLarge, Abandoned, and Heavier for more than `expected` bytes.
    """
    pieces: list[bytes] = []
    size, most = 0, max(UNPACKED_ANYWAY, MOST_RATIO * len(request.body))
    try:
        for piece in _unpacked(request.body):
            request.go_on()
            size += len(piece)
            if expected is not None and size > expected:
                raise Heavier
            if size > MOST_UNPACKED:
                pieces.clear()
                break
            if size > most:
                raise TooLarge(f"The body unpacks to more than {most} bytes, {MOST_RATIO} times its size; send it as "
                               "it is, or in parts")
            pieces.append(piece)
    except zlib.error:
        pieces.clear()
    request.body = b"".join(pieces)


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Pieces of uncompressed data. Raises zlib.error, also for data that is cut off."""
    gzip, view = zlib.decompressobj(wbits=31), memoryview(data)
    for start in range(0, len(data), _INPUT):
        rest: bytes | memoryview = view[start:start + _INPUT]
        while rest and not gzip.eof:
            yield gzip.decompress(rest, _PIECE)
            rest = gzip.unconsumed_tail
    while not gzip.eof:
        piece = gzip.decompress(b"", _PIECE)
        if not piece:
            raise zlib.error("cut off")
        yield piece
