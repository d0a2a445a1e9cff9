"""One client that floods the gRPC port: another one gets its answers meanwhile, and memory stays bounded."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from hpack import Encoder

from deploy.net.http2 import frames as http2
from deploy.net.http2.frames import frame, number32, parameters
from deploy.waiting import Deadline, poll
from deploy.wire import methods, tensors
from deploy.wire import serving_pb2 as pb
from tests.support.http2 import END, FIELDS, reset, window
from tests.support.modelserver import Process, server

GREETING = http2.PREFACE + frame(http2.SETTINGS, 0, 0)
MOST = 200 << 20  # bytes of a flood
CALLS = 25
SECONDS = 3.0  # for one answer during a flood; with none it takes milliseconds
Ask = Callable[[], None]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    where = tmp_path_factory.mktemp("floods")
    (where / "m" / "1").mkdir(parents=True)
    (where / "m" / "1" / "saved_model.pb").touch()
    flags = ("--tfs_loader=echo", "--model_name=m", f"--model_base_path={where / 'm'}")
    with server(where, *flags, rest=False) as running:
        yield running


def request(size: int = 3) -> pb.PredictRequest:
    made = pb.PredictRequest(model_spec=pb.ModelSpec(name="m"))
    made.inputs["x"].CopyFrom(tensors.encode(np.zeros(size, np.float32)))
    return made


@contextmanager
def asking(port: int, **options: object) -> Iterator[Callable[..., grpc.Future]]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1),
                                                             *options.items()]) as channel:
        call = channel.unary_unary(methods.PREDICT, lambda m: m.SerializeToString(), pb.PredictResponse.FromString)
        call(request(), timeout=30)
        yield call


# -- floods, from the first stream's number on


def block(**fields: str) -> bytes:
    """A header block that no table is needed for."""
    wanted = {**FIELDS, ":path": methods.PREDICT, **fields}
    return b"".join(b"\0" + bytes((len(k),)) + k.encode() + bytes((len(v),)) + v.encode() for k, v in wanted.items())


def each(part: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    """Streams, 500 at a time."""
    def chunks() -> Iterator[bytes]:
        for first in range(1, 2**31, 1000):
            yield b"".join(part(number) for number in range(first, first + 1000, 2))
    return chunks


def again(part: bytes, first: bytes = b"") -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        yield first
        while True:
            yield part * 4000
    return chunks


def read_anew() -> Iterator[bytes]:
    """Header blocks that change the table each time."""
    encoder = Encoder()
    for number in range(1, 2**31, 2):
        fields = {**FIELDS, **{f"x{number}-{n}": f"{number * n}" for n in range(60)}}
        yield frame(http2.HEADERS, END, number, encoder.encode(list(fields.items())))


def streams_and_settings() -> Iterator[bytes]:
    yield b"".join(frame(http2.HEADERS, http2.END_HEADERS, number, block()) for number in range(1, 201, 2))
    many = b"".join(b"\0\x04" + number32(70_000 + n) for n in range(2500))
    while True:
        yield frame(http2.SETTINGS, 0, 0, many) * 10


BODY = b"\0" + len(request().SerializeToString()).to_bytes(4, "big") + request().SerializeToString()
HEADERS = frame(http2.HEADERS, http2.END_HEADERS, 1, block())
FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "empty CONTINUATION": again(frame(http2.CONTINUATION, 0, 1), frame(http2.HEADERS, 0, 1, block())),
    "empty DATA": again(frame(http2.DATA, 0, 1), HEADERS),
    "DATA for nobody": again(frame(http2.DATA, 0, 1, bytes(200)), HEADERS + reset(1)),
    "SETTINGS": again(frame(http2.SETTINGS, 0, 0)),
    "SETTINGS with many parameters": streams_and_settings,
    "PING": again(frame(http2.PING, 0, 0, bytes(8))),
    "WINDOW_UPDATE": again(window(0, 1)),
    "PRIORITY": again(frame(http2.PRIORITY, 0, 1, bytes(5))),
    "rapid reset": each(lambda n: frame(http2.HEADERS, http2.END_HEADERS, n, block())
                        + frame(http2.DATA, http2.END_STREAM, n, BODY) + reset(n)),
    "reset before the body": each(lambda n: frame(http2.HEADERS, http2.END_HEADERS, n, block()) + reset(n)),
    "refused calls": each(lambda n: frame(http2.HEADERS, END, n, block(**{":path": "/no/Such"}))),
    "malformed requests": each(lambda n: frame(http2.HEADERS, END, n, block(**{":scheme": ""}))),
    "header blocks": read_anew,
    "calls": each(lambda n: frame(http2.HEADERS, http2.END_HEADERS, n, block())
                  + frame(http2.DATA, http2.END_STREAM, n, BODY)),
}


@contextmanager
def flooding(port: int, chunks: Callable[[], Iterator[bytes]]) -> Iterator[threading.Event]:
    """Sends all the time, again and again on new connections, and reads what comes; begun: set by the first bytes."""
    begun, ended = threading.Event(), threading.Event()

    def send() -> None:
        sent = 0
        while not ended.is_set() and sent < MOST:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as client:
                reader = threading.Thread(target=drained, args=(client,), daemon=True)
                reader.start()
                client.sendall(GREETING)
                for chunk in chunks():
                    client.sendall(chunk)
                    sent += len(chunk)
                    begun.set()
                    if ended.is_set() or sent >= MOST:
                        break
        begun.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield begun
    finally:
        ended.set()
        thread.join(60)


def drained(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(1 << 16):
            pass


@pytest.mark.parametrize("kind", FLOODS)
def test_others_are_answered_during_a_flood(served: Process, kind: str) -> None:
    with asking(served.port) as ask, flooding(served.port, FLOODS[kind]) as begun:
        assert begun.wait(30)
        for _ in range(CALLS):
            ask(request(), timeout=SECONDS)


def test_others_are_answered_while_an_honest_client_has_thousands_of_calls_in_flight(served: Process) -> None:
    with asking(served.port) as busy, asking(served.port) as ask:
        pending = []
        for _ in range(12):
            answered = [one for one in pending if one.done()]
            pending = [one for one in pending if not one.done()]
            for one in answered:
                one.result()
            pending += [busy.future(request(), timeout=60) for _ in range(3000 - len(pending))]
            ask(request(), timeout=SECONDS)
        for one in pending:
            one.result()


def test_what_a_compressed_message_stands_for_is_limited(served: Process) -> None:
    """1 MB of gzip, 1 GB unpacked."""
    message = gzip.compress(bytes(1 << 30), 1)
    process = psutil.Process(served.process.pid)
    before = process.memory_info().rss
    headers = block(**{"grpc-encoding": "gzip"})
    with socket.create_connection(("127.0.0.1", served.port), 30) as client:
        client.sendall(GREETING + frame(http2.HEADERS, http2.END_HEADERS, 1, headers))
        body = b"\1" + number32(len(message)) + message
        for at in range(0, len(body), 1 << 14):
            last = http2.END_STREAM if at + (1 << 14) >= len(body) else 0
            client.sendall(frame(http2.DATA, last, 1, body[at:at + (1 << 14)]))
        reply = b""
        while b"larger than max" not in reply:
            part = client.recv(1 << 16)
            assert part, reply
            reply += part
    assert process.memory_info().rss - before < 800 << 20


def test_replies_that_aren_t_read_don_t_pile_up(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").touch()
    flags = ("--tfs_loader=echo", "--model_name=m", f"--model_base_path={tmp_path / 'm'}",
             f"--tfs_grpc_max_held_bytes={64 << 20}")
    message = request(1 << 18).SerializeToString()  # 1 MiB of reply
    body = b"\0" + number32(len(message)) + message
    with server(tmp_path, *flags, rest=False) as running, asking(running.port) as ask:
        with socket.create_connection(("127.0.0.1", running.port), 30) as client:
            client.sendall(http2.PREFACE + parameters(INITIAL_WINDOW_SIZE=0))
            with suppress(ConnectionError):
                for number in range(1, 199, 2):
                    client.sendall(frame(http2.HEADERS, http2.END_HEADERS, number, block()))
                    for at in range(0, len(body), 1 << 14):
                        client.sendall(frame(http2.DATA, http2.END_STREAM if at + (1 << 14) >= len(body) else 0, number,
                                             body[at:at + (1 << 14)]))
            with suppress(ConnectionError):
                while client.recv(1 << 20):
                    pass  # until the server ends it
        ask(request(), timeout=SECONDS)


def test_idle_connections_make_room_for_others(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").touch()
    flags = ("--tfs_loader=echo", "--model_name=m", f"--model_base_path={tmp_path / 'm'}",
             "--tfs_grpc_max_connections=20", "--grpc_channel_arguments=grpc.server_handshake_timeout_ms=1000")
    with server(tmp_path, *flags, rest=False) as running:
        idle = [socket.create_connection(("127.0.0.1", running.port), 30) for _ in range(100)]
        with asking(running.port) as ask:
            ask(request(), timeout=SECONDS)
            assert poll(lambda: all(ended(client) for client in idle) or None, Deadline(20))  # none has sent a preface
            ask(request(), timeout=SECONDS)
        for client in idle:
            client.close()


def ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True
