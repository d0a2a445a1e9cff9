"""Requests and replies as values, and a reply's bytes on the wire."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

MOST_UNPACKED = 100 << 20  # bytes; ZLib::kMaxUncompressedBytes of the real server's net_http
JSON, HTML, TEXT = "application/json", "text/html", "text/plain"


@dataclass(slots=True)
class Request:
    """One request. target: path, query and fragment as sent.

    at_once: it is answered in the event loop, so what might take long has to raise Postponed.
    """

    method: str = ""
    target: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    at_once: bool = False


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


def unpacked(request: Request) -> Request:
    """The request with its body uncompressed; a body that can't be is taken as empty."""
    if b"gzip" in request.headers.get(b"content-encoding", b""):
        gzip = zlib.decompressobj(wbits=31)
        try:
            body = gzip.decompress(request.body, MOST_UNPACKED)
        except zlib.error:
            body = b""
        request.body = body if gzip.eof else b""
    return request
