"""What the two ports listen with: event loops, sockets, TLS, and how many connections there may be."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.modelserver.status import Code, StatusError

_FAILED = "Failed to BuildAndStart gRPC server"


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where it is installed (not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def open_files() -> int | None:
    """How many files and sockets this process may have; None if there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else int(soft)


def close_listeners(loop: asyncio.AbstractEventLoop, listeners: Iterable[asyncio.AbstractServer]) -> None:
    """Close them in a loop that has stopped; uvloop's sockets need some turns for that."""
    for listener in listeners:
        listener.close()
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()


def listening_sockets(addresses: Sequence[str], share: bool) -> list[socket.socket]:
    """Sockets that listen on `host:port` or `unix:path`. Raises StatusError if one can't be had."""
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets.append(_bound(address, share))
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise StatusError(Code.INVALID_ARGUMENT, _FAILED) from error
    return sockets


def _bound(address: str, share: bool) -> socket.socket:
    """A socket that listens. Raises OSError."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        listener = socket.socket(socket.AF_UNIX)
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
                Path(path).unlink()  # of a server that has ended
        except FileNotFoundError:
            pass
        return _listening(listener, path)
    host, _, port = address.rpartition(":")
    family, socket_type, _, _, name = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket_type)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share and hasattr(socket, "SO_REUSEPORT"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _listening(listener, name)


def _listening(listener: socket.socket, name: object) -> socket.socket:
    try:
        listener.bind(name)  # type: ignore[arg-type]
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


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
