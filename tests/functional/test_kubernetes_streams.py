"""Ports of pods through the API server, without a cluster: the other side is a socket of this machine."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from kubernetes.client import Configuration

from deploy.backends.kubernetes import streams
from deploy.backends.kubernetes.cluster import Cluster
from deploy.backends.kubernetes.forwarding import Forward
from deploy.errors import BackendMissing

GREETING = [b"\0" + struct.pack("<H", 8500), b"\1" + struct.pack("<H", 8500)]


def frame(data: bytes) -> bytes:
    """As a server sends it: not masked."""
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
    return b"\x82" + length + data


class Forwarded:
    """A connection that is forwarded. client: this machine's end; server: the API server's."""

    def __init__(self) -> None:
        self.client, here = socket.socketpair()
        self.server, there = socket.socketpair()
        connection: Any = websocket.WebSocket()
        connection.sock, connection.connected = there, True
        self._run = threading.Thread(target=self._forward, args=(here, connection), daemon=True)
        self._run.start()
        for one in GREETING:
            self.server.sendall(frame(one))

    def _forward(self, here: socket.socket, connection: Any) -> None:
        streams.forward(here, connection)
        here.close()

    def ended(self) -> bool:
        self._run.join(5)
        return not self._run.is_alive()

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def forwarded() -> Iterator[Forwarded]:
    made = Forwarded()
    yield made
    made.close()


def received(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := source.recv(1 << 16)):
        data += chunk
    return data


def test_both_directions_at_the_same_time(forwarded: Forwarded) -> None:
    size = 5_000_000
    down, up = bytes(range(256)) * (size // 256), b"u" * size
    pieces = [down[i:i + 30_000] for i in range(0, len(down), 30_000)]
    sending = [threading.Thread(target=lambda: [forwarded.server.sendall(frame(b"\0" + p)) for p in pieces]),
               threading.Thread(target=forwarded.client.sendall, args=(up,))]
    for thread in sending:
        thread.start()
    upward = threading.Thread(target=received, args=(forwarded.server, size))
    upward.start()
    assert received(forwarded.client, len(down)) == down
    for thread in [*sending, upward]:
        thread.join(10)
        assert not thread.is_alive()


def test_who_does_not_read_makes_the_other_wait(forwarded: Forwarded) -> None:
    forwarded.server.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 50_000_000:
            forwarded.server.sendall(frame(b"\0" + b"x" * 60_000))
            sent += 60_000
    assert sent < 10_000_000


def test_a_port_that_the_api_server_calls_wrong(forwarded: Forwarded) -> None:
    forwarded.server.sendall(frame(b"\1nothing listens on port 8500"))
    assert forwarded.ended()
    assert forwarded.client.recv(1) == b""


@pytest.mark.parametrize("side", ["client", "server"])
def test_one_side_ends(forwarded: Forwarded, side: str) -> None:
    getattr(forwarded, side).close()
    assert forwarded.ended()


def test_what_came_before_the_end_arrives(forwarded: Forwarded) -> None:
    forwarded.server.sendall(frame(b"\0last words"))
    forwarded.server.sendall(b"\x88\x00")
    assert received(forwarded.client, 99) == b"last words"


def test_an_api_server_that_takes_connections_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cluster = Cluster(Configuration(host=where), where, "ml")
        began = time.monotonic()
        with pytest.raises(BackendMissing, match=f"can't run sh in pod p: the Kubernetes API server at {where} doesn't "
                                                 "answer: .*timed out"):
            streams.output(cluster, "/exec", "run sh in pod p", seconds=5)
        forward = Forward(cluster, "web-1", 8500)
        with socket.create_connection(("127.0.0.1", forward.port), 5) as client:
            assert client.recv(1) == b""
        forward.close()
        assert time.monotonic() - began < 5
