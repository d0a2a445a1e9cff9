"""Connections into a pod, through the API server: a websocket with a time limit for each wait, and what a command in a
pod says. Each direction of a forwarded port holds a bounded number of bytes: who doesn't read makes the other wait.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
from contextlib import suppress
from typing import Any

from deploy.backends.kubernetes.cluster import Cluster
from deploy.backends.kubernetes.refusals import translated
from deploy.errors import ServerError
from deploy.waiting import Deadline

CONNECT = 10.0  # seconds until the API server has to have let a connection through
MOST_OUTPUT = 1 << 20  # bytes that a command in a pod may print
_CHUNK = 1 << 16  # bytes
_HELD = 1 << 20  # bytes in one direction that wait for their reader
_CAME = select.POLLIN | select.POLLHUP | select.POLLERR
_PROTOCOL = "v4.channel.k8s.io"  # a message's first byte is its channel
_STDOUT, _STDERR, _ERROR = 1, 2, 3  # of a command; a port's channels are 0 and, for what failed, 1


def opened(cluster: Cluster, path: str, doing: str) -> Any:
    """A websocket to a path of the API server, which has CONNECT seconds for each answer of the handshake.

    Raises BackendMissing, ServerError.
    """
    import websocket
    from kubernetes.stream.ws_client import get_websocket_url, websocket_proxycare

    about = cluster.configuration
    header = [f"{name}: {value}" for name, value in {**cluster.authorization(),
                                                      "sec-websocket-protocol": _PROTOCOL}.items()]
    checked = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": about.ssl_ca_cert,
               **({} if about.assert_hostname is None else {"check_hostname": about.assert_hostname})}
    options = {**(checked if about.verify_ssl else {"cert_reqs": ssl.CERT_NONE}),
               **{name: value for name, value in (("certfile", about.cert_file), ("keyfile", about.key_file),
                                                  ("server_hostname", about.tls_server_name)) if value}}
    with translated(doing, cluster.where):
        connection: Any = websocket.WebSocket(sslopt=options)
        url, settings = get_websocket_url(about.host + path), {"header": header, "timeout": CONNECT}
        if about.proxy or about.proxy_headers:
            settings = websocket_proxycare(settings, about, url, {})
        connection.connect(url, **settings)
    return connection


def output(cluster: Cluster, path: str, doing: str, *, seconds: float) -> str:
    """What the command of an exec path prints. Raises ServerError if it fails, prints too much or takes too long."""
    connection, deadline = opened(cluster, path, doing), Deadline(seconds)
    channels = {_STDOUT: bytearray(), _STDERR: bytearray(), _ERROR: bytearray()}
    with translated(doing, cluster.where):
        try:
            while message := _message(connection, deadline):
                channels.setdefault(message[0], bytearray()).extend(message[1:])
                if sum(map(len, channels.values())) > MOST_OUTPUT:
                    raise ServerError(f"can't {doing}: it prints more than {MOST_OUTPUT} bytes", id="kubernetes-exec")
                if deadline.over:
                    raise TimeoutError
        except TimeoutError:
            raise ServerError(f"can't {doing}: it hasn't ended after {seconds:g} s", id="kubernetes-exec",
                              hint="is the pod's node busy or gone?") from None
        finally:
            connection.close(timeout=0)
    _require_success(doing, bytes(channels[_ERROR]), bytes(channels[_STDERR]))
    return channels[_STDOUT].decode(errors="replace")


def _message(connection: Any, deadline: Deadline) -> bytes:
    """The next one of a channel; empty at the end. Raises TimeoutError."""
    import websocket

    while True:
        connection.settimeout(max(0.01, deadline.left))
        try:
            code, frame = connection.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            raise TimeoutError from None
        except websocket.WebSocketConnectionClosedException:
            return b""
        if code == websocket.ABNF.OPCODE_CLOSE:
            return b""
        if code in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data:
            return bytes(frame.data)


def _require_success(doing: str, status: bytes, stderr: bytes) -> None:
    """By the last message, a Status object."""
    try:
        outcome = json.loads(status)
        if outcome.get("status") == "Success":
            return
        why = str(outcome.get("message"))
    except (ValueError, AttributeError, RecursionError):
        why = "the connection ended before the command did"
    said = " ".join(stderr.decode(errors="replace").split())[:300]
    raise ServerError(f"can't {doing}: {why}{f' ({said})' if said else ''}", id="kubernetes-exec")


def forward(here: socket.socket, there: Any) -> None:
    """Pass on what comes from each side until one of them ends; there: a websocket to a port of a pod.

    Raises OSError.
    """
    there.settimeout(None)
    here.setblocking(True)
    up, down, greeted = bytearray(), bytearray(), set[int]()
    while True:
        poll = select.poll()  # select() takes no descriptor above 1024
        mine = (select.POLLIN if len(up) < _HELD else 0) | (select.POLLOUT if down else 0)
        theirs = (select.POLLIN if len(down) < _HELD else 0) | (select.POLLOUT if up else 0)
        poll.register(here, mine)
        poll.register(there.sock, theirs)
        unread = bool(theirs & select.POLLIN) and _buffered(there)
        ready = dict(poll.poll(0 if unread else None))
        of_here, of_there = ready.get(here.fileno(), 0), ready.get(there.sock.fileno(), 0)
        if (unread or of_there & _CAME) and not _received(there, down, greeted):
            with suppress(OSError):
                here.sendall(down)
            return
        try:
            if of_here & _CAME:
                data = here.recv(_CHUNK)
                if not data:
                    return
                up += _framed(data)
            if of_here & select.POLLOUT:
                del down[:here.send(down)]
        except OSError:  # the client is gone: nobody is left to tell
            return
        if of_there & select.POLLOUT:
            del up[:there.sock.send(bytes(up[:_CHUNK]))]


def _buffered(connection: Any) -> bool:
    """Whether bytes are decrypted already: nothing tells of them."""
    return isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending() > 0


def _framed(data: bytes) -> bytes:
    import websocket

    return bytes(websocket.ABNF.create_frame(b"\0" + data, websocket.ABNF.OPCODE_BINARY).format())


def _received(connection: Any, down: bytearray, greeted: set[int]) -> bool:
    """Take one message; False if it was the last. Each channel's first names the port; channel 1 says what is wrong."""
    import websocket

    try:
        code, frame = connection.recv_data_frame(True)
    except (websocket.WebSocketException, OSError):
        return False
    if code == websocket.ABNF.OPCODE_CLOSE:
        return False
    if code == websocket.ABNF.OPCODE_BINARY and frame.data:
        channel, data = frame.data[0], frame.data[1:]
        if channel in greeted and channel:
            return False
        if channel in greeted:
            down += data
        greeted.add(channel)
    return True
