"""The gRPC server: ports, threads, deadlines; what it says on the wire is in deploy.net.http2."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from deploy.modelserver import execution
from deploy.modelserver.execution import InlinePolicy, Steps, finish, never
from deploy.modelserver.listening import close_listeners, listening_sockets, new_loop
from deploy.modelserver.status import Code, NeverAnswered, StatusError
from deploy.net.http2 import messages
from deploy.net.http2.connection import Connection
from deploy.net.http2.frames import ENHANCE_YOUR_CALM
from deploy.net.http2.limits import Limits, Memory
from deploy.net.http2.streams import Stream
from deploy.net.pool import Exhausted, RefusingPool

log = logging.getLogger("modelserver")
Handler = Callable[[messages.Message], Steps[bytes]]
_SOON = 0.01  # seconds; a deadline that is nearer may be over before a short call is
_FLUSH = 2.0  # seconds for clients to take the last bytes
_TICK = 1.0  # seconds


class GrpcServer:
    """Listens as soon as it is made.

    handlers: full method path -> function of a serialized request; it, and its steps, may raise StatusError.
    addresses: `host:port` or `unix:path`. share: let other servers listen on the same ports, as gRPC does.
    Raises StatusError if an address can't be had.
    """

    def __init__(self, handlers: Mapping[str, Handler], addresses: Sequence[str], *, max_threads: int,
                 tls: ssl.SSLContext | None = None, share: bool = True, limits: Limits | None = None) -> None:
        self._handlers = {path.encode(): handler for path, handler in handlers.items()}
        self._limits, self._tls = limits or Limits(), tls
        self._sockets = listening_sockets(addresses, share)
        self.ports = [0 if s.family == socket.AF_UNIX else int(s.getsockname()[1]) for s in self._sockets]
        self._pool = RefusingPool(max(0, max_threads - 1))  # the real server's last thread polls
        self._connections: set[Connection] = set()
        self.memory = Memory(self._limits.held_by_all, self._shed)
        self._stopping, self._inline = False, InlinePolicy(lambda: self._pool.idle)
        self._listeners: list[asyncio.AbstractServer] = []
        self._loop, self._ready = new_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="grpc", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._listeners = [self._loop.run_until_complete(self._listen(s)) for s in self._sockets]
        finally:
            self._ready.set()
        self._loop.call_later(_TICK, self._tick)
        self._loop.run_forever()
        close_listeners(self._loop, self._listeners)

    async def _listen(self, bound: socket.socket) -> asyncio.AbstractServer:
        create = self._loop.create_unix_server if bound.family == socket.AF_UNIX else self._loop.create_server
        handshake = float(self._limits.handshake) if self._tls else None
        return await create(self._connection, sock=bound, backlog=1024, ssl=self._tls, ssl_handshake_timeout=handshake)

    # -- connections

    def _connection(self) -> Connection:
        return Connection(self, self._limits, self._loop.call_soon)

    def come(self, connection: Connection) -> bool:
        """Where there is no place left, the connection that was quiet for longest makes room."""
        if len(self._connections) >= self._limits.connections:
            waiting = [c for c in self._connections if not c.busy]
            if not waiting:
                return False
            max(waiting, key=lambda c: (not c.settled, c.quiet)).make_room()
        self._connections.add(connection)
        return True

    def gone(self, connection: Connection | None) -> None:
        """A connection has ended. The last one ends the loop of a server that is stopping."""
        if connection is not None:
            self._connections.discard(connection)
        if self._stopping and not self._connections:
            self._loop.stop()

    def _shed(self) -> None:
        largest = max(self._connections, key=lambda c: c.held, default=None)
        if largest is not None:
            log.warning("gRPC requests and replies take up more than %d bytes (--tfs_grpc_max_held_bytes): the "
                        "connection with the most, %d, is ended", self._limits.held_by_all, largest.held)
            largest.fail(ENHANCE_YOUR_CALM)

    def _tick(self) -> None:
        for connection in list(self._connections):
            connection.tick()
        self._loop.call_later(_TICK, self._tick)

    # -- calls

    def accept(self, connection: Connection, stream: Stream) -> None:
        """A request begins: answer it if it isn't a call of a known method, else set its clock."""
        headers = stream.headers
        if headers[b":method"] != b"POST":
            connection.reply(stream, messages.NOT_POST, messages.SPEAKS_GRPC, b"")
            return
        if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            connection.reply(stream, messages.NOT_GRPC, messages.SPEAKS_GRPC, b"")
            return
        stream.handler = self._handlers.get(headers[b":path"])
        if stream.handler is None:
            self._refuse(connection, stream, StatusError(Code.UNIMPLEMENTED, ""))
            return
        seconds = messages.timeout(headers)
        if seconds is not None:
            stream.soon, stream.until = seconds <= _SOON, self._loop.time() + seconds
            stream.timer = self._loop.call_later(seconds, self._refuse, connection, stream, StatusError(
                Code.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def too_long(self, connection: Connection, stream: Stream, size: int) -> None:
        self._refuse(connection, stream, messages.too_long(size, self._limits.message))

    def too_many_headers(self, connection: Connection, stream: Stream, size: int) -> None:
        self._refuse(connection, stream, StatusError(
            Code.RESOURCE_EXHAUSTED, f"received metadata size exceeds hard limit ({size} vs. {self._limits.block})"))

    def serve(self, connection: Connection, stream: Stream) -> None:
        """Answer a call, in the loop as far as the policy lets it, else in a thread."""
        steps = None
        key = stream.headers[b":path"], messages.model_of(stream.body)
        if (not stream.soon and b"grpc-encoding" not in stream.headers
                and self._inline.may_begin(key, len(stream.body))):
            try:
                steps = self._begun(stream)
                reply = self._inline.advance(key, steps)
            except NeverAnswered:
                steps = never()
            except Exception as error:
                self._refuse(connection, stream, error)
                return
            else:
                if reply is not None:
                    connection.reply(stream, messages.HEADERS, messages.framed(reply), messages.TRAILERS)
                    return
        try:
            self._pool.submit(self._work, connection, stream, steps, time.monotonic())
        except Exhausted:
            if steps is not None:
                steps.close()
            self._refuse(connection, stream, _exhausted())
        else:
            stream.handed = True

    def _begun(self, stream: Stream) -> Steps[bytes]:
        steps: Steps[bytes] = stream.handler(messages.unpacked(stream.headers, stream.body, self._limits.message))
        return steps

    def _work(self, connection: Connection, stream: Stream, steps: Steps[bytes] | None, handed_over: float) -> None:
        """In a thread: answer a call by the steps that the loop has left, None for all."""
        answer: Callable[[], None] | None = None
        try:
            if not stream.closed:  # else nobody waits for it any more
                answer = self._answer(connection, stream, steps, handed_over)
        except NeverAnswered:
            gone = threading.Event()
            self._call(_when_closed, stream, gone.set)
            gone.wait()
        except Exception as error:
            answer = partial(self._refuse, connection, stream, error)
        finally:
            if steps is not None:
                steps.close()
        self._call(_returned, connection, stream, answer)

    def _answer(self, connection: Connection, stream: Stream, steps: Steps[bytes] | None, handed_over: float
                ) -> Callable[[], None]:
        if self._pool.refusing:
            raise _exhausted()
        until = None if stream.until is None else time.monotonic() + stream.until - self._loop.time()
        with execution.deadline(until, handed_over=None if steps is None else handed_over):
            reply = messages.framed(finish(self._begun(stream) if steps is None else steps))
        return partial(connection.reply, stream, messages.HEADERS, reply, messages.TRAILERS)

    def _refuse(self, connection: Connection, stream: Stream, error: Exception) -> None:
        """Answer a call by a failure; an error that isn't meant for clients is logged, too."""
        if not isinstance(error, StatusError | messages.Unreadable):
            log.error("a call failed", exc_info=error)
            error = StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        connection.refuse(stream, messages.FAILED, messages.failure(error))

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """In the event loop; that it has ended meanwhile doesn't matter."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            if not self._stopping:
                raise

    # -- the end

    def stop(self, grace: float) -> None:
        """Take no new calls, give those that run `grace` seconds."""
        if self._stopping:
            return
        self._stopping = True
        self._call(self._leave)
        self._thread.join(grace)
        self._call(self._close_all)
        self._thread.join(_FLUSH)
        self._call(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown()

    def _leave(self) -> None:
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.leave()
        self.gone(None)

    def _close_all(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self.gone(None)


def _exhausted() -> StatusError:
    return StatusError(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")


def _when_closed(stream: Stream, callback: Callable[[], object]) -> None:
    if stream.closed:
        callback()
    else:
        stream.on_close = callback


def _returned(connection: Connection, stream: Stream, answer: Callable[[], None] | None) -> None:
    """A thread is done with a call."""
    connection.returned(stream)
    if answer is not None:
        answer()
