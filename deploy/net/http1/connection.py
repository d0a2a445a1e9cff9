"""One client's connection: requests in, replies out in their order, and no more of either than it may have.

What has arrived is taken in and answered by turns: a share of it, then the other connections have theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from deploy.net.http1 import limits as most
from deploy.net.http1.heads import HeadCache
from deploy.net.http1.messages import Request, Response, error_reply, rendered
from deploy.net.http1.parser import Incoming, Item, ParserContext


class ConnectionContext(ParserContext, Protocol):
    """A connection's server. All is called in its loop."""

    loop: asyncio.AbstractEventLoop
    heads: HeadCache

    def answer(self, connection: Connection, number: int, request: Request) -> Response | None:
        """The response, if it can be had without keeping others waiting.

        None: it is being made, and `connection.reply` will be called in the loop with this number.
        """

    def reply(self, connection: Connection, request: Request, response: Response) -> tuple[bytes, bool]:
        """A response's bytes, and whether the connection ends with them."""

    def came(self, connection: Connection) -> None:
        """A client has connected."""

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""


class Connection(asyncio.Protocol):
    """One client. One of its requests at a time is being answered.

    busy: a thread is at a request. full: the client doesn't read. ended: no more requests are wanted, by the client or
    by the server. lingering: the last reply was sent, and what the client still sends is thrown away.
    """

    def __init__(self, server: ConnectionContext) -> None:
        self._server, self._loop, self._asked = server, server.loop, 0
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Item] = deque()
        self._incoming, self._heads = Incoming(server, self._waiting), server.heads
        self._running: Request | None = None
        self._inbox: bytes | memoryview = b""
        self._known_head = self._new_head = b""  # of a request whose body hasn't begun; the parser has the latter only
        self._full = self._ended = self._paused = self._closing = self._scheduled = self._lingering = False
        self._thrown = self._unsent = self._unknown = 0
        self._since = self._began = self._loop.time()

    # -- the transport's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._server.came(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        if self._running is not None:
            self._running.over, self._running = True, None
        self._incoming.release(self._incoming.held)
        self._waiting.clear()
        self._inbox = b""
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        self._since, incoming = self._loop.time(), self._incoming
        if self._known_head:  # as if both had come together
            data, self._known_head, incoming.arriving = self._known_head + data, b"", False
        if incoming.deaf:
            self._throw_away(data)
        elif (self._waiting or self._inbox or self._running or self._scheduled or self._full or self._paused
              or self._closing):
            self._new_head = b""
            self._inbox = bytes(self._inbox) + data if self._inbox else data
            if not self._scheduled:
                self._turn()
        elif incoming.arriving:
            head, self._new_head = self._new_head, b""
            self._take_first(data, head)
        elif (request := self._heads.request(data)) is not None and incoming.hold(request.size):
            self._unknown = 0
            self._answer(request)
        elif self._heads.awaits_body(data):
            self._known_head = data
            incoming.await_body()
        else:
            self._began = self._since
            self._take_first(data, data)

    def _take_first(self, data: bytes, first: bytes) -> None:
        """Take in what has arrived where nothing waits: nearly always one request, or a part of one.

        first: what its request began with, if that was a head, with or without all of its body.
        """
        incoming, waiting = self._incoming, self._waiting
        if len(data) <= most.FIRST or len(data) <= incoming.left:
            incoming.take(data)
        else:
            self._inbox = memoryview(data)
            self._take_in()
            if 0 < len(self._inbox) <= incoming.left:
                self._take_in()
        if self._inbox or len(waiting) > 1:
            self._turn()
        elif waiting:
            item = waiting.popleft()
            if first and isinstance(item, Request) and not incoming.arriving:
                if self._unknown % most.KEEP_ONE_OF == 0:
                    self._heads.keep(data[:len(data) - item.size] if first is data else first, item)
                self._unknown += 1
            self._answer(item)
        elif first is data and len(data) <= most.LONGEST_KNOWN_HEAD and not incoming.in_head:
            self._new_head = first

    def eof_received(self) -> bool:
        """The client won't send more. True: it still gets the replies."""
        self._ended, self._incoming.arriving = True, False
        return not self._lingering and (self.busy or bool(self._waiting))

    def pause_writing(self) -> None:
        """The client doesn't read: answer no more of its requests until it does."""
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._turn_soon()

    # -- turns

    def _turn(self) -> None:
        """Answer and take in a share of what is there; the rest has to wait for the next turn."""
        self._scheduled = False
        answers, taken = most.TURN_REQUESTS, 0
        while self._transport is not None and not self._closing:
            while answers and self._can_answer:
                answers -= 1
                self._answer(self._waiting.popleft())
            if not answers or taken >= most.TURN_BYTES or not self._can_take_in:
                break
            taken += self._take_in()
        if self._can_answer or (self._can_take_in and not self._closing):
            self._turn_soon()
        self._read_on(not self._inbox and len(self._waiting) < most.MOST_WAITING)

    def _turn_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    @property
    def busy(self) -> bool:
        return self._running is not None

    @property
    def _can_answer(self) -> bool:
        return bool(self._waiting) and self._running is None and not (self._full or self._closing)

    @property
    def _can_take_in(self) -> bool:
        return bool(self._inbox) and len(self._waiting) < most.MOST_WAITING

    def _take_in(self) -> int:
        """Parse a slice of what has arrived: little between requests, so that few are found at once, more of a body."""
        incoming, data = self._incoming, self._inbox
        size = max(most.SLICE if self._waiting or self._running else most.FIRST, incoming.left)
        if len(data) > size:
            view = memoryview(data)
            data, self._inbox = view[:size], view[size:]
        else:
            self._inbox = b""
        if not incoming.arriving:
            self._began = self._since
        incoming.take(data)
        if incoming.deaf:
            self._inbox = b""
        return len(data)

    def _read_on(self, wanted: bool) -> None:
        if self._paused is wanted and self._transport is not None and not self._closing:
            self._paused = not wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    # -- answers

    @property
    def answers_last(self) -> bool:
        """Whether no other request waits or arrives behind the one that is being answered."""
        return not self._waiting and not self._incoming.arriving and not self._inbox

    def _answer(self, item: Item) -> None:
        """Answer a request, or have a thread do it."""
        if isinstance(item, bytes):
            self._write(item)
        elif isinstance(item, Response):
            self._send(rendered(Request(keep_alive=False), item), True)
        elif (response := item.refusal or self._server.answer(self, self._asked + 1, item)) is not None:
            data, close = self._server.reply(self, item, response)
            self._incoming.release(item.size)
            self._send(data, close)
        else:
            self._running = item
            self._asked += 1

    def reply(self, number: int, data: bytes, close: bool) -> None:
        """Send the reply to this connection's request with this number, unless it has one. Called in the loop."""
        request = self._running
        if number == self._asked and request is not None:
            self._running = None
            self._incoming.release(request.size)
            self._send(data, close)
            if self._waiting or self._inbox:
                self._turn_soon()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._since = self._loop.time()
            self._transport.write(data)

    def _send(self, data: bytes, close: bool) -> None:
        self._write(data)
        if close or (self._ended and self.answers_last):
            self._leave()

    # -- the end

    def _leave(self) -> None:
        """End the connection; a client that is still sending must not lose the reply by that."""
        if self._transport is None or not (self._incoming.deaf or self._incoming.arriving) or self._ended:
            self.close()
            return
        self._incoming.deaf = self._lingering = True
        self._waiting.clear()
        self._inbox = b""
        self._transport.write_eof()
        self._read_on(True)

    def _throw_away(self, data: bytes) -> None:
        self._thrown += len(data)
        if self._thrown > most.MOST_LINGERING:
            self.close()

    def turn_away(self) -> None:
        """There are too many connections, and none of them is silent."""
        self._write(rendered(Request(keep_alive=False), error_reply(503, "The server has too many connections")))
        self.close()

    def close(self) -> None:
        """End the connection once what was written is sent."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def finish(self) -> None:
        """Answer what has arrived or is arriving, then end the connection."""
        if self._lingering or (self.answers_last and not self.busy):
            self.close()
        else:
            self._ended = True

    @property
    def idle_since(self) -> float | None:
        """Since when nothing goes on here; None if something does."""
        return self._since if not self.busy and self.answers_last else None

    def look(self, now: float) -> None:
        """End what takes too long: a silent client, a request that doesn't get on, a reply that isn't taken."""
        limits, transport = self._server.limits, self._transport
        if transport is None or (self.busy and not self._full):
            return
        if unsent := transport.get_write_buffer_size():
            if unsent != self._unsent:
                self._unsent, self._since = unsent, now
            if _over(limits.stall, now - self._since):
                transport.abort()
        elif self._lingering:
            if now - self._since > most.LINGER:
                self.close()
        elif self._incoming.arriving and not self._incoming.deaf:
            late = (_over(limits.head, now - self._began) if self._incoming.in_head
                    else _over(limits.stall, now - self._since))
            if late and not self._paused:
                self._incoming.too_late()
                self._turn_soon()
        elif not self._waiting and _over(limits.idle, now - self._since):
            self.close()


def _over(limit: float, seconds: float) -> bool:
    return 0 < limit < seconds
