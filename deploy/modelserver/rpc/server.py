"""The gRPC server: ports, threads, deadlines."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.modelserver.haste import Haste
from deploy.modelserver.loops import new_loop
from deploy.modelserver.pool import RefusingPool
from deploy.modelserver.rpc import messages
from deploy.modelserver.rpc.http2 import Connection, Stream
from deploy.modelserver.status import Code, NeverAnswered, StatusError

log = logging.getLogger("modelserver")

Handler = Callable[[messages.Message, bool], bytes]
_SOON = 0.01  # seconds; a deadline that is nearer may be over before a short call is
_FLUSH = 2.0  # seconds for clients to take the last bytes
_FAILED = "Failed to BuildAndStart gRPC server"


class GrpcServer:
    """Listens as soon as it is made.

    handlers: full method path -> function of a serialized request; it may raise StatusError. Called in a thread, or, if
    its second argument is true, in the event loop: then it has to raise Postponed instead of taking long.
    addresses: `host:port` or `unix:path`. share: let other servers listen on the same ports, as gRPC does.
    Raises StatusError if an address can't be had.
    """

    def __init__(self, handlers: Mapping[str, Handler], addresses: Sequence[str], *, max_threads: int,
                 tls: ssl.SSLContext | None = None, share: bool = True, most_streams: int | None = None) -> None:
        self._handlers = {path.encode(): handler for path, handler in handlers.items()}
        self._most_streams, self._tls = most_streams, tls
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._sockets.append(_bound(address, share))
        except OSError as error:
            for bound in self._sockets:
                bound.close()
            raise StatusError(Code.INVALID_ARGUMENT, _FAILED) from error
        self.ports = [0 if s.family == socket.AF_UNIX else int(s.getsockname()[1]) for s in self._sockets]
        self._pool = RefusingPool(max(1, max_threads - 1))  # the real server's last thread polls
        self._connections: set[Connection] = set()
        self._stopping, self._haste = False, Haste()
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._run, name="grpc", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._listeners = [self._loop.run_until_complete(self._listen(s)) for s in self._sockets]
        self._loop.run_forever()

    async def _listen(self, bound: socket.socket) -> asyncio.AbstractServer:
        create = self._loop.create_unix_server if bound.family == socket.AF_UNIX else self._loop.create_server
        return await create(self._connection, sock=bound, backlog=1024, ssl=self._tls)

    def _connection(self) -> Connection:
        return Connection(self._serve, self._connections.add, self._gone, self._most_streams)

    # -- calls

    def _serve(self, connection: Connection, stream: Stream) -> None:
        headers = stream.headers
        if headers.get(b":method") != b"POST":
            connection.refuse(stream, messages.NOT_POST)
            return
        if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            connection.refuse(stream, messages.NOT_GRPC)
            return
        handler = self._handlers.get(headers.get(b":path", b""))
        if handler is None:
            connection.refuse(stream, messages.failure(StatusError(Code.UNIMPLEMENTED, "")))
            return
        seconds = messages.timeout(headers)
        if seconds is not None:
            stream.timer = self._loop.call_later(seconds, connection.refuse, stream, messages.failure(
                StatusError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")))
        if self._pool.idle and (seconds is None or seconds > _SOON) and self._at_once(connection, stream, handler):
            return
        self._pool.submit(self._work, connection, stream, handler)

    def _at_once(self, connection: Connection, stream: Stream, handler: Handler) -> bool:
        """Answer, if that doesn't keep others waiting."""
        kind = stream.headers[b":path"], messages.model_of(stream.body)
        if b"grpc-encoding" in stream.headers:
            return False
        try:
            reply = self._haste.attempt(kind, len(stream.body), lambda: messages.framed(
                handler(messages.unpacked(stream.headers, stream.body), True)))
        except Exception as error:
            connection.refuse(stream, _failure(error))
            return True
        if reply is None:
            return False
        connection.reply(stream, messages.HEADERS, reply, messages.TRAILERS)
        return True

    def _work(self, connection: Connection, stream: Stream, handler: Handler) -> None:
        if stream.closed:
            return  # nobody waits for it any more
        try:
            if self._pool.refusing:
                raise StatusError(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            reply = messages.framed(handler(messages.unpacked(stream.headers, stream.body), False))
        except NeverAnswered:
            gone = threading.Event()
            self._call(_when_closed, stream, gone.set)
            gone.wait()
        except Exception as error:
            self._call(connection.refuse, stream, _failure(error))
        else:
            self._call(connection.reply, stream, messages.HEADERS, reply, messages.TRAILERS)

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
        self._gone(None)

    def _close_all(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self._gone(None)

    def _gone(self, connection: Connection | None) -> None:
        if connection is not None:
            self._connections.discard(connection)
        if self._stopping and not self._connections:
            self._loop.stop()


def _failure(error: Exception) -> bytes:
    """The reply to a call that failed; an error that isn't meant for clients is logged, too."""
    if not isinstance(error, StatusError):
        log.error("a call failed", exc_info=error)
        error = StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
    return messages.failure(error)


def _when_closed(stream: Stream, told: Callable[[], object]) -> None:
    if stream.closed:
        told()
    else:
        stream.on_close = told


def _bound(address: str, share: bool) -> socket.socket:
    """A socket that listens. Raises OSError."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        made = socket.socket(socket.AF_UNIX)
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
                Path(path).unlink()  # of a server that has ended
        except FileNotFoundError:
            pass
        return _listening(made, path)
    host, _, port = address.rpartition(":")
    family, kind, _, _, name = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share and hasattr(socket, "SO_REUSEPORT"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _listening(made, name)


def _listening(made: socket.socket, name: object) -> socket.socket:
    try:
        made.bind(name)  # type: ignore[arg-type]
        made.listen(1024)
    except OSError:
        made.close()
        raise
    return made


def tls_context(key: bytes, certificate: bytes, roots: bytes | None, client_verify: bool) -> ssl.SSLContext:
    """TLS of PEM texts; client_verify: clients have to show a certificate of `roots`. Raises StatusError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
            context.load_cert_chain(certificate_file, key_file)
        if client_verify:
            context.verify_mode = ssl.CERT_REQUIRED
            if roots:
                context.load_verify_locations(cadata=roots.decode())
    except (OSError, ValueError) as error:
        raise StatusError(Code.INVALID_ARGUMENT, _FAILED) from error
    return context


@contextmanager
def _as_file(text: bytes) -> Iterator[str]:
    """A path that has this text, since Python's binding of OpenSSL reads keys from files only.

    Not on a disk, where the system can do that. Raises OSError.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pem"), "wb") as file:
            file.write(text)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        yield file.name
