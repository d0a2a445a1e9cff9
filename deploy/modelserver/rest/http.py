"""HTTP/1.1 connections: an event loop (uvloop) and a parser (httptools) in C.

Short requests are answered in the loop, all others by threads. Replies to requests on one connection go out in their
order. What isn't HTTP is answered as libevent does, which the real server is built on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httptools

from deploy.modelserver.haste import Haste
from deploy.modelserver.loops import new_loop
from deploy.modelserver.rest.messages import Request, Response, html_error, rendered, unpacked
from deploy.modelserver.status import NeverAnswered, Postponed

log = logging.getLogger("modelserver")

Answer = Callable[[Request], Response]
_FLUSH = 2.0  # seconds for clients to take the last bytes
_LAST_IN = 0.02  # seconds in which clients that have already been let in by the kernel are taken over
_LINGER = 0.25  # seconds for a client's next request, so that the reply can tell that the connection ends
_MOST_HEAD = 1 << 20  # bytes of a request line and headers
_MOST_WAITING = 64  # requests of one connection that wait for their turn; while there are more, nothing is read


class _Connection(asyncio.Protocol):
    """One client. Parser callbacks build a request; one request at a time is being answered."""

    def __init__(self, server: RestServer) -> None:
        self._server, self._asked = server, 0
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._request, self._parts = Request(), [b""]
        self._waiting: deque[Request | Response] = deque()
        self._busy = self._full = self._deaf = self._ended = self._paused = self._arriving = self._closing = False
        self._head: int | None = 0  # bytes of the request's head so far; None: it is complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._server.gone(self)

    def close(self) -> None:
        """End the connection once what was written is sent."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def finish(self) -> None:
        """Answer what has arrived or is arriving, then end the connection."""
        if self._busy or self._waiting or self._arriving:
            self._ended = True
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        while data and not self._deaf:
            data = self._parse(data)
        self._answer_waiting()
        if len(self._waiting) > _MOST_WAITING and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def _parse(self, data: bytes) -> bytes:
        """Take in bytes; returns those to go on with after a wish that isn't granted."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            head = self._head_without_wish()
            self._deaf = self._parser.get_method() == b"CONNECT"
            self._parser = httptools.HttpRequestParser(self)
            return head + data[upgrade.args[0]:]
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501)
        except httptools.HttpParserError:
            self._refuse(400)
        if self._head is not None:
            self._head += len(data)
            if self._head > _MOST_HEAD:
                self._refuse(400)
        return b""

    def _head_without_wish(self) -> bytes:
        """The head of a request to upgrade, to be read again as if nobody had asked: the parser skips its body."""
        parser, request = self._parser, self._request
        first = b"%b %b HTTP/%b\r\n" % (parser.get_method(), request.target.encode("latin-1"),
                                        parser.get_http_version().encode())
        others = [b"%b: %b\r\n" % field for field in request.headers.items() if field[0] not in (b"upgrade", b"expect")]
        return first + b"".join(others) + b"\r\n"

    def _refuse(self, status: int) -> None:
        """What comes after this can't be understood."""
        if not self._deaf:
            self._deaf = True
            self._waiting.append(html_error(status))

    def eof_received(self) -> bool:
        """The client won't send more. True: it still gets the replies."""
        self._ended, self._arriving = True, False
        return self._busy or bool(self._waiting)

    def pause_writing(self) -> None:
        """The client doesn't read: answer no more of its requests until it does."""
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._answer_waiting()

    # -- parser's callbacks

    def on_message_begin(self) -> None:
        self._request, self._parts, self._head, self._arriving = Request(), [], 0, True

    def on_url(self, url: bytes) -> None:
        self._request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._head = None
        if self._request.headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        request, self._arriving = self._request, False
        request.method = self._parser.get_method().decode("ascii")
        if self._parser.should_upgrade():
            return  # CONNECT is never answered, as by the real server; others come again
        request.body = b"".join(self._parts)
        request.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(request)

    # -- answers

    @property
    def answers_last(self) -> bool:
        """Whether no other request waits or arrives behind the one that is being answered."""
        return not self._waiting and not self._arriving

    def _answer_waiting(self) -> None:
        """Answer requests in their order, up to one that a thread has to answer."""
        while self._waiting and not self._busy and not self._full and self._transport and not self._closing:
            item = self._waiting.popleft()
            if self._paused and len(self._waiting) <= _MOST_WAITING:
                self._paused = False
                self._transport.resume_reading()
            if isinstance(item, Response):
                self._send(rendered(Request(keep_alive=False), item), True)
            elif (response := self._server.at_once(item)) is not None:
                self._send(*self._server.reply(self, item, response))
            else:
                self._busy = True
                self._asked += 1
                self._server.submit(self, self._asked, item)

    def reply(self, number: int, data: bytes, close: bool) -> None:
        """Send the reply to this connection's request with this number, unless it has one. Called in the loop."""
        if number == self._asked and self._busy:
            self._busy = False
            self._send(data, close)
            self._answer_waiting()

    def _send(self, data: bytes, close: bool) -> None:
        if self._transport is not None:
            self._transport.write(data)
            if close or (self._ended and self.answers_last):
                self.close()


class RestServer:
    """Listens as soon as it is made. Raises OSError if the address can't be had.

    late: the reply to a request that isn't answered after `timeout` seconds (0: however long it takes).
    """

    def __init__(self, host: str, port: int, answer: Answer, *, threads: int, timeout: float, late: Response) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(1024)
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self.connections: set[_Connection] = set()
        self._answer, self._timeout, self._late = answer, timeout, late
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="rest")
        self._loop, self._ready = new_loop(), threading.Event()
        self._haste = Haste()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="rest", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._listener = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), sock=self._socket, backlog=1024))
        self._ready.set()
        self._loop.run_forever()

    def at_once(self, request: Request) -> Response | None:
        """The response, if it can be had without keeping others waiting. Called in the loop."""
        if b"content-encoding" in request.headers:
            return None
        request.at_once = True
        response = self._haste.attempt(request.target, len(request.body), lambda: self._answered(request))
        request.at_once = response is not None
        return response

    def submit(self, connection: _Connection, number: int, request: Request) -> None:
        """Answer in a thread. Called in the loop."""
        timer = None
        if self._timeout:
            timer = self._loop.call_later(self._timeout, self._finish, None, connection, number, request, self._late)
        self._pool.submit(self._work, connection, number, request, timer)

    def _work(self, connection: _Connection, number: int, request: Request, timer: asyncio.Handle | None) -> None:
        done: Callable[[], None] | None
        try:
            response = self._answered(unpacked(request))
            done = partial(self._finish, timer, connection, number, request, response)
        except NeverAnswered:  # not even when its time is over
            done = timer.cancel if timer else None
        if done is not None:
            with suppress(RuntimeError):  # the loop ended before this request did
                self._loop.call_soon_threadsafe(done)

    def _answered(self, request: Request) -> Response:
        try:
            return self._answer(request)
        except (NeverAnswered, Postponed):
            raise
        except Exception:
            log.exception("a request failed")
            return html_error(500)

    def _finish(self, timer: asyncio.Handle | None, connection: _Connection, number: int, request: Request,
                response: Response) -> None:
        if timer is not None:
            timer.cancel()
        connection.reply(number, *self.reply(connection, request, response))

    def reply(self, connection: _Connection, request: Request, response: Response) -> tuple[bytes, bool]:
        """A response's bytes, and whether the connection ends with them."""
        if self._stopping and connection.answers_last:
            request.keep_alive = False
        return rendered(request, response), response.close or not request.keep_alive

    def stop(self, grace: float) -> None:
        """Take no new connections, give requests that have arrived `grace` seconds, then close all."""
        if self._stopping:
            return
        self._stopping = True
        for last, seconds in ((self._listener.close, _LAST_IN), (self._drain, _LINGER)):
            self._loop.call_soon_threadsafe(self._loop.call_later, min(grace, seconds), last)
        self._thread.join(grace)
        for last in (self._close_all, self._loop.stop):
            with suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(last)
            self._thread.join(_FLUSH)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False)

    def _drain(self) -> None:
        for connection in list(self.connections):
            connection.finish()
        self.gone(None)

    def _close_all(self) -> None:
        for connection in list(self.connections):
            connection.close()
        self.gone(None)

    def gone(self, connection: _Connection | None) -> None:
        """A connection ended; the last one ends the loop of a server that is stopping. Called in the event loop."""
        self.connections.discard(connection)
        if self._stopping and not self.connections:
            self._loop.stop()
