"""Bad input of all kinds to the embedded server: it answers as the real one does, goes on, and doesn't grow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from deploy import engine
from deploy.testing import Running, serve
from deploy.waiting import Deadline, poll
from tests.support.modelserver import read_reply

PREDICT = "/v1/models/m:predict"
GET = b"GET /v1/models/m HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module", params=[None, lambda inputs: {"y": inputs["x"]}], ids=["in the loop", "in threads"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with serve({"m": {1: request.param}}) as server:
        yield server


class Client:
    """A raw connection to the REST port."""

    def __init__(self, running: Running, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.endpoint.rest_port), timeout)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def reply(self) -> tuple[int, bytes]:
        """The next reply's status and body; status 0 for a connection that was closed instead."""
        return read_reply(self._file)

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def sent(running: Running, data: bytes) -> int:
    """The status of the reply to these bytes."""
    with closing(Client(running)) as client:
        return client.send(data).reply()[0]


def post(body: bytes, headers: str = "", path: str = PREDICT) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


# -- connections


def test_upgrades_that_arent_offered_dont_pile_up(running: Running) -> None:
    request = b"GET /v1/models/m HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with closing(Client(running)) as client:
        client.send(request * 2000)
        assert {client.reply()[0] for _ in range(2000)} == {200}


def test_a_wish_to_upgrade_takes_nothing_from_its_request(running: Running) -> None:
    """Java's HttpClient has it in every first request."""
    wish = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    request = post(b'{"instances": [1]}', wish)
    chunked = (f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\n{wish}Transfer-Encoding: chunked\r\n\r\n"
               '8\r\n{"inputs\r\n6\r\n":[1]}\r\n0\r\n\r\n').encode()
    for data in (request, chunked):
        for cut in (len(data), data.index(b"\r\n\r\n") + 4, data.index(b"\r\n\r\n") + 9, 40):
            with closing(Client(running)) as client:
                client.send(data[:cut])
                assert sent(running, GET) == 200  # the rest comes later
                client.send(data[cut:] + GET)
                status, body = client.reply()
                assert (status, b"1.0" in body) == (200, True)
                assert client.reply()[0] == 200


def test_a_client_that_only_writes_is_read_no_further(running: Running) -> None:
    """Neither its requests nor the replies pile up."""
    with closing(Client(running, timeout=2.0)) as client, pytest.raises(TimeoutError):
        for _ in range(400):  # 100 MiB
            client.send(GET * 8192)
    assert sent(running, GET) == 200


def test_replies_of_a_client_that_reads_late_come_in_order(running: Running) -> None:
    bodies = [b'{"instances": [%d]}' % n for n in range(3000)]
    with closing(Client(running)) as client:
        client.send(b"".join(post(body) for body in bodies))
        for number in range(len(bodies)):
            status, body = client.reply()
            assert (status, body) == (200, b'{\n    "predictions": [%d.0\n    ]\n}' % number)


def test_a_client_that_ends_its_side_gets_its_replies(running: Running) -> None:
    with closing(Client(running)) as client:
        client.send(post(b'{"instances": [1]}') * 3)
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.reply()[0] for _ in range(4)] == [200, 200, 200, 0]


def test_what_follows_an_error_is_ignored(running: Running) -> None:
    with closing(Client(running)) as client:
        client.send(GET * 3 + b"\0" * 100_000)
        assert [client.reply()[0] for _ in range(4)] == [200, 200, 200, 501]


@pytest.mark.parametrize("data", [
    b"GET /v1/models/m HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000_000,
    b"GET /v1/models/" + b"a" * 2_000_000,
    b"GET /v1/models/m HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: a\r\n" % n for n in range(200_000)),
])
def test_headers_end_somewhere(running: Running, data: bytes) -> None:
    with closing(Client(running)) as client:
        try:
            client.send(data)
        except ConnectionError:
            return
        assert client.reply()[0] == 400


def test_slow_and_silent_clients_hinder_nobody(running: Running) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5"
    beginnings = (b"", b"G", GET[:-2], post(b"x" * 1000)[:-999], chunked)
    slow = [Client(running) for _ in range(200)]
    try:
        for number, client in enumerate(slow):
            client.send(beginnings[number % len(beginnings)])
        assert sent(running, GET) == 200
    finally:
        for client in slow:
            client.close()


@pytest.mark.parametrize(("data", "status"), [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 501),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"GET / HTTP/9.9\r\n\r\n", 400),
    (post(b"")[:-2].replace(b"Length: 0", b"Length: -5") + b"\r\n", 400),
    (post(b"")[:-2].replace(b"Length: 0", b"Length: " + b"9" * 30) + b"\r\n", 400),
    (post(b"0\r\n\r\n", "Transfer-Encoding: chunked\r\n"), 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n", 404),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
])
def test_damaged_http(running: Running, data: bytes, status: int) -> None:
    assert sent(running, data) == status


def test_the_go_ahead_is_given_before_the_body(running: Running) -> None:
    body = b'{"instances": [1]}'
    with closing(Client(running)) as client:
        client.send(post(body, "Expect: 100-continue\r\n")[:-len(body)])
        assert client.reply() == (100, b"")
        assert client.send(body).reply()[0] == 200


# -- gRPC's connections

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0)) + bytes(4)


@pytest.mark.parametrize("frame", [
    bytes((0, 0, 8, 6, 0)) + bytes(12),  # PING
    bytes((0, 0, 0, 4, 0)) + bytes(4),  # SETTINGS
])
def test_a_client_that_wants_answers_but_reads_none(running: Running, frame: bytes) -> None:
    """It is ended (the server doesn't wait for it to read), or isn't read any further."""
    with socket.create_connection(("127.0.0.1", running.endpoint.grpc_port), 2) as client, \
            pytest.raises((TimeoutError, ConnectionError)):
        client.sendall(GREETING)
        for _ in range(200):
            client.sendall(frame * 20_000)


@pytest.mark.parametrize("frames", [
    (1 << 17).to_bytes(3, "big") + bytes((1, 4)) + (1).to_bytes(4, "big") + b"\x82" * (1 << 17),
    (bytes((0, 0, 0, 1, 0)) + (1).to_bytes(4, "big")
     + (bytes((0, 0x40, 0, 9, 0)) + (1).to_bytes(4, "big") + b"\x82" * 0x4000) * 9),
    (1 << 21).to_bytes(3, "big") + bytes((0, 0)) + (1).to_bytes(4, "big"),
    bytes((0, 0, 100, 1, 4)) + (1).to_bytes(4, "big") + b"\x00\x7f" + b"\xff" * 98,
], ids=["long header block", "endless continuation", "long frame", "long number"])
def test_headers_of_a_call_end_somewhere(running: Running, frames: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.endpoint.grpc_port), 10) as client:
        try:
            client.sendall(GREETING + frames)
            while client.recv(65536):
                pass
        except ConnectionError:
            pass


# -- stopping


def test_a_request_that_goes_on_and_on_doesnt_hold_up_the_end() -> None:
    started, go = threading.Event(), threading.Event()

    def endless(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        started.set()
        go.wait(60)
        return {"y": inputs["x"]}

    with serve({"m": {1: endless}}) as running, closing(Client(running)) as client:
        client.send(post(b'{"instances": [1]}'))
        assert started.wait(10)
        began = time.monotonic()
        running._server.stop(0.1)
        assert time.monotonic() - began < 10
        go.set()


def test_what_has_arrived_is_answered_before_the_end() -> None:
    """Also requests that wait behind others on their connection."""
    started, go = threading.Event(), threading.Event()

    def slow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        started.set()
        go.wait(10)
        return {"y": inputs["x"]}

    with serve({"m": {1: slow}}) as running, closing(Client(running)) as client, ThreadPoolExecutor() as pool:
        client.send(post(b'{"instances": [1]}') * 5)
        assert started.wait(10)
        stopped = pool.submit(running._server.stop, 10.0)
        assert poll(lambda: sent_or_none(running) is None or None, Deadline(10))
        go.set()
        assert [client.reply()[0] for _ in range(6)] == [200] * 5 + [0]
        stopped.result(10)


def sent_or_none(running: Running) -> int | None:
    try:
        return sent(running, GET)
    except ConnectionError:
        return None


# -- the engine


@pytest.mark.tensorflow
def test_plans_of_runs_dont_pile_up(models: Path) -> None:
    with engine.load(models / "half_plus_two") as session:
        (output,) = session.contract["serving_default"].outputs
        (given,) = session.contract["serving_default"].inputs
        feeds = {given.tensor: np.ones(1, np.float32)}
        for number in range(1, 300):
            assert len(session.run(feeds, [output.tensor] * number)) == number
        assert len(session._plans) <= 256
        for name in ("0" * 5000, "9" * 5000, "0000000000000000000009", "-1", "\u0665"):
            with pytest.raises(engine.EngineError, match="the graph has no tensor"):
                session.run(feeds, [f"{output.tensor.partition(':')[0]}:{name}"])
