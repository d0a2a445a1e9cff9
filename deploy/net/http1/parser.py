"""Bytes -> requests: a parser in C (httptools), its callbacks, and what a request may have.

What isn't HTTP, or isn't wanted, becomes a refusal, after which nothing is understood any more.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import httptools

from deploy.net.http1 import heads
from deploy.net.http1 import limits as most
from deploy.net.http1.limits import Limits
from deploy.net.http1.messages import Request, Response, error_reply, html_error

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Item = Request | Response | bytes  # to be answered, to be sent as an answer, to be sent as it is


class ParserContext(Protocol):
    """What all connections of a server share. held: bytes of all bodies that are being kept."""

    held: int
    limits: Limits

    def refusal(self, request: Request) -> Response | None:
        """The response to a request that is wrong whatever its body is."""


class Incoming:
    """The requests of one connection, in their order, in `found`.

    held: bytes of bodies that are kept. left: bytes that are sure to be the body's. arriving: a request has begun.
    deaf: nothing that follows is understood. since: when its head began.
    """

    def __init__(self, server: ParserContext, items: deque[Item]) -> None:
        self._server, self._items = server, items
        self._parser = httptools.HttpRequestParser(self)
        self._request, self._target, self._headers = Request(), b"", dict[bytes, bytes]()
        self._body: bytes | bytearray = b""  # nearly always in one piece, as it came
        self.arriving = self.deaf = self._keeps = self._chunked = False
        self.in_head = True
        self.held = self.left = self._got = self._framing = self._fields = self._chunks = 0

    def take(self, data: bytes | memoryview) -> None:
        """Take in some bytes. Large pieces are for bodies: all requests in them are found at once."""
        before, size = self._got, len(data)
        while data and not self.deaf:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + bytes(data[upgrade.args[0]:])
            except httptools.HttpParserInvalidMethodError:
                self.refuse(html_error(501))
            except httptools.HttpParserError:
                self.refuse(html_error(400))
        self._framing += size - self._got + before
        if self._framing > most.MOST_FRAMING and self._framing > (
                most.MOST_HEAD if self.in_head else most.MOST_FRAMING + most.FRAMING_PER_CHUNK * self._chunks):
            self.refuse(html_error(400))

    def _without_upgrade(self) -> bytes:
        """The head of a request to upgrade, to be read again as if nobody had asked: the parser skips its body."""
        parser, request = self._parser, self._request
        self._parser = httptools.HttpRequestParser(self)
        self.deaf = parser.get_method() == b"CONNECT"  # never answered, as by the real server
        first = b"%b %b HTTP/%b\r\n" % (parser.get_method(), request.target.encode("latin-1"),
                                        parser.get_http_version().encode())
        others = [b"%b: %b\r\n" % field for field in request.headers.items() if field[0] != b"upgrade"]
        return first + b"".join(others) + b"\r\n"

    def await_body(self) -> None:
        """A request has begun, whose head the parser will be given later, together with its body."""
        self.arriving, self.in_head = True, False

    def refuse(self, response: Response) -> None:
        """Answer so; what comes after this isn't taken in any more."""
        if not self.deaf:
            self.deaf, self.left = True, 0
            self._drop_body()
            self._items.append(response)

    def too_late(self) -> None:
        """The request that is arriving took too long."""
        self.refuse(html_error(408))

    def _drop_body(self) -> None:
        self.release(len(self._body))
        self._body, self._keeps = b"", False

    # -- the parser's callbacks

    def on_message_begin(self) -> None:
        self._target, self._headers, self.arriving, self.in_head = b"", {}, True, True
        self._framing = self._fields = self._chunks = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer
        self._fields += 1
        name, headers = name.lower(), self._headers
        if name not in headers:
            headers[name] = value.rstrip(b" \t")
        elif name in (b"transfer-encoding", b"host"):
            headers[name] += b", " + value
        if self._fields > most.MOST_FIELDS:
            self.refuse(html_error(400))

    def on_headers_complete(self) -> None:
        parser, headers, self.in_head, self._keeps = self._parser, self._headers, False, True
        request = self._request = Request(parser.get_method().decode(), self._target.decode("latin-1"), headers)
        self._chunked = chunked = b"transfer-encoding" in headers
        if self.deaf or parser.should_upgrade():
            return
        version = parser.get_http_version()
        if version != "1.1" or chunked or not heads.is_host(headers.get(b"host")):
            if (status := heads.refusal(version, headers)) is not None:
                self.refuse(html_error(status))
                return
            request.old = version == "1.0"
        request.keep_alive = parser.should_keep_alive() and not (request.old and chunked)
        self.left = left = most.LONG if chunked else heads.length(headers)
        if not chunked and left > self._server.limits.body > 0:
            self._refuse_body()
        elif not chunked and left > most.LONG:
            self._look_ahead()
        if b"expect" in headers and left and not request.old and heads.continues(headers) and not self.deaf:
            self._go_ahead()

    def _look_ahead(self) -> None:
        """Answer a request now whose body makes no difference; it isn't kept then."""
        request = self._request
        request.refusal = self._server.refusal(request)
        if request.refusal is not None:
            self._drop_body()
            self._items.append(request)

    def _go_ahead(self) -> None:
        """Tell the client to send the body, unless it makes no difference: then it may come, or another request."""
        if self._request.refusal is None:
            self._look_ahead()
        if self._request.refusal is None:
            self._items.append(CONTINUE)
        else:
            self._request.keep_alive, self.deaf = False, True

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        size = len(body)
        self._got += size
        if not self._chunked:
            self.left -= size
        if not self._keeps or self.deaf:
            return
        before, server = len(self._body), self._server
        if before + size > server.limits.body > 0:
            self._refuse_body()
            return
        if not self.hold(size):
            self.refuse(error_reply(503, "The server holds too many bytes of requests; try again"))
            return
        if not before:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if self._chunked and before <= most.LONG < before + size:
            self._look_ahead()

    def hold(self, size: int) -> bool:
        """Count so many bytes of a body as kept; False if the server has no room for them."""
        server = self._server
        if server.held + size > server.limits.bodies > 0:
            return False
        server.held += size
        self.held += size
        return True

    def release(self, size: int) -> None:
        """So many bytes aren't needed any more."""
        self._server.held -= size
        self.held -= size

    def _refuse_body(self) -> None:
        if (refusal := self._server.refusal(self._request)) is not None:
            self._request.refusal, self._request.keep_alive, self.deaf = refusal, False, True
            self._drop_body()
            self._items.append(self._request)
            return
        self.refuse(error_reply(413, "The request's body is longer than "
                                     f"--tfs_rest_max_body_bytes={self._server.limits.body} allows"))

    def on_message_complete(self) -> None:
        request, body, self.arriving, self.left = self._request, self._body, False, 0
        if self._parser.should_upgrade() or self.deaf:
            return  # requests to upgrade come again
        if request.refusal is None:
            request.size = len(body)
            if isinstance(body, bytes):
                request.body = body
            elif request.size <= most.SHORT:
                request.body = bytes(body)
            else:
                request.collected = body
            self._body = b""
            self._items.append(request)
