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

import numpy as np

from deploy.modelserver.rest.limits import MOST_RATIO, MOST_UNPACKED, UNPACKED_ANYWAY
from deploy.modelserver.status import Abandoned

JSON, HTML, TEXT = "application/json", "text/html", "text/plain"
UNTYPED = "text/html; charset=ISO-8859-1"  # what libevent says of a reply that nobody gave a type
_COMMA = ord(",")
_PIECE, _INPUT = 1 << 20, 1 << 16  # bytes that are unpacked between two looks at whether somebody still waits; of input


@dataclass(slots=True)
class Request:
    """One request. target: path, query and fragment as sent.

    at_once: it is answered in the event loop, so what might take long has to raise Postponed. collected: a long body,
    until a thread makes `body` of it. old: of HTTP/1.0. refusal: the response that it gets without its body. size: the
    body's, as it was sent. over: nobody waits for the answer any more.
    """

    method: str = ""
    target: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    at_once: bool = False
    collected: bytearray | None = None
    old: bool = False
    refusal: Response | None = None
    size: int = 0
    over: bool = False

    def go_on(self) -> None:
        """Raises Abandoned if nobody waits for the answer any more."""
        if self.over:
            raise Abandoned


@dataclass(frozen=True, slots=True)
class Response:
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


@lru_cache(1)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}\r\n"


def rendered(request: Request, response: Response) -> bytes:
    """The reply's bytes."""
    head = [_fixed(response.status, response.content_type, response.headers), _date(int(time.time()))]
    body = response.body
    if request.method == "HEAD":
        body = b""
    else:
        head.append(f"Content-Length: {len(body)}\r\n")
    if response.close or not request.keep_alive:
        head.append("Connection: close\r\n")
    elif request.old:
        head.append("Connection: keep-alive\r\n")
    head.append("\r\n")
    return "".join(head).encode("latin-1") + body


@lru_cache(64)
def _fixed(status: int, content_type: str, headers: tuple[tuple[str, str], ...]) -> str:
    """The lines that many replies share."""
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    return "".join([f"HTTP/1.1 {status} {reason}\r\n", f"Content-Type: {content_type}\r\n",
                    *(f"{name}: {value}\r\n" for name, value in headers)])


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
    found, commas = np.frombuffer(body, np.uint8), 0
    for start in range(0, len(body), _PIECE):  # without Python's lock, and little memory
        commas += int(np.count_nonzero(found[start:start + _PIECE] == _COMMA))
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
