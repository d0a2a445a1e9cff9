"""The HTTP/2 connection, fed with bytes: every way in which a client may cut them, and what it must not send."""

from __future__ import annotations

import random
import socket
import sys

import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.modelserver.execution import Steps
from deploy.modelserver.grpc_server import GrpcServer
from deploy.modelserver.status import Code, StatusError
from deploy.net.http2 import frames as http2
from deploy.net.http2 import messages
from deploy.net.http2.connection import Connection
from deploy.net.http2.frames import frame
from deploy.net.http2.limits import Limits
from deploy.net.http2.streams import Stream
from tests.support.http2 import END, FIELDS, SETTINGS, Client, Frame


def request(client: Client, number: int, body: bytes, *, pieces: int = 1, padded: bool = False) -> bytes:
    """A request's frames; its header block is cut into pieces."""
    block = client.block()
    cuts = [len(block) * i // pieces for i in range(pieces + 1)]
    made = b""
    for index in range(pieces):
        kind = http2.CONTINUATION if index else http2.HEADERS
        flags = http2.END_HEADERS if index == pieces - 1 else 0
        made += frame(kind, flags, number, block[cuts[index]:cuts[index + 1]])
    if padded:
        return made + frame(http2.DATA, http2.PADDED | http2.END_STREAM, number, b"\x03" + body + b"\0\0\0")
    return made + frame(http2.DATA, http2.END_STREAM, number, body)


def answers(client: Client) -> dict[int, bytes]:
    """Bodies by stream, of streams that are answered completely."""
    bodies: dict[int, bytes] = {}
    done = set()
    for kind, flags, number, payload in client.frames():
        if kind == http2.DATA:
            bodies[number] = bodies.get(number, b"") + payload
        elif kind == http2.HEADERS and flags & http2.END_STREAM:
            assert Decoder().decode(payload) == [("grpc-status", "0")]
            done.add(number)
    return {number: body for number, body in bodies.items() if number in done}


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 4), st.booleans()), min_size=1, max_size=5),
       st.randoms())
@settings(max_examples=50)
def test_however_it_is_cut(bodies: list[tuple[bytes, int, bool]], chance: random.Random) -> None:
    client = Client()
    data = http2.PREFACE + SETTINGS
    expected = {}
    for index, (body, pieces, padded) in enumerate(bodies):
        data += request(client, 2 * index + 1, body, pieces=pieces, padded=padded)
        expected[2 * index + 1] = body
    while data:
        size = chance.randint(1, len(data))
        client.send(data[:size])
        data = data[size:]
    assert answers(client) == expected
    assert [s.headers[b":path"] for s in client.served] == [b"/a/B"] * len(bodies)


FORMS = {
    "a call": lambda c, n: c.call(n, b"12345"),
    "an empty call": lambda c, n: c.call(n, b""),
    "a long call": lambda c, n: c.call(n, bytes(16_000)),
    "one of another method": lambda c, n: c.call(n, b"12345", _path="/a/C"),
    "an unknown method": lambda c, n: c.call(n, b"12345", _path="/no/Such"),
    "no call": lambda c, n: c.call(n, b"12345", _method="GET"),
    "a malformed one": lambda c, n: c.call(n, b"12345", _path=""),
    "many header fields": lambda c, n: c.call(n, b"12345", x="a" * 17_000),
    "a content-length": lambda c, n: c.call(n, b"12345", **{"content-length": "5"}),
    "another content-length": lambda c, n: c.call(n, b"12345", **{"content-length": "4"}),
    "a body in two frames": lambda c, n: c.headers(n) + frame(http2.DATA, 0, n, b"123") + frame(
        http2.DATA, http2.END_STREAM, n, b"45"),
    "a body that doesn't end": lambda c, n: c.headers(n) + frame(http2.DATA, 0, n, b"12345"),
    "a body with padding": lambda c, n: request(c, n, b"12345", padded=True),
    "trailers": lambda c, n: c.headers(n) + frame(http2.DATA, 0, n, b"12345") + frame(
        http2.HEADERS, END, n, c.encoder.encode([("x", "y")])),
    "no body": lambda c, n: c.headers(n, END),
    "somebody else's body": lambda c, n: c.headers(n) + frame(http2.DATA, http2.END_STREAM, n - 2, b"12345"),
    "an even number": lambda c, n: c.call(n + 1, b"12345"),
    "a number that was": lambda c, n: c.call(1, b"12345"),
    "a number passed over": lambda c, n: c.call(n + 4, b"12345") + c.call(n + 2, b"12345"),
    "a reserved bit": lambda c, n: c.call(n | 1 << 31, b"12345"),
    "a message that is too long": lambda c, n: c.headers(n) + frame(http2.DATA, http2.END_STREAM, n, bytes(16_100)),
    "a frame that is too long": lambda c, n: c.headers(n) + frame(http2.DATA, http2.END_STREAM, n, bytes(16_385)),
}


@pytest.mark.parametrize("answer", [True, False])
@given(forms=st.lists(st.sampled_from(sorted(FORMS)), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_calls_in_one_read_are_what_their_frames_are_one_by_one(answer: bool, forms: list[str]) -> None:
    outcomes = []
    for whole in (True, False):
        client = Client(Limits(streams=6, message=16_050), answer=answer).greet()
        client.send(client.call(1), client.call(3))  # the block is known from now on
        data = b"".join(FORMS[form](client, 5 + 6 * index) for index, form in enumerate(forms))
        if whole:
            client.send(data)
        while data and not whole:
            end = 9 + int.from_bytes(data[:3], "big")
            client.send(data[:end])
            data = data[end:]
        seen = client.connection
        outcomes.append((client.frames(), client.transport.closed, [bytes(s.body) for s in client.served],
                         [(s.number, s.state, s.accepted, s.held) for s in client.served], seen._budget, seen.held,
                         seen._unreturned, seen._answering, seen._last, sorted(seen._streams), client.memory.total))
    assert outcomes[0] == outcomes[1]


def test_a_reply_waits_for_the_windows() -> None:
    client = Client()
    client.greet(b"\0\x04" + (10).to_bytes(4, "big"))
    client.frames()
    client.send(request(client, 1, b"x" * 25))
    assert [f[3] for f in client.frames() if f[0] == http2.DATA] == [b"x" * 10]
    client.send(frame(http2.WINDOW_UPDATE, 0, 1, (3).to_bytes(4, "big")))
    assert [f[3] for f in client.frames()] == [b"x" * 3]
    client.send(frame(http2.SETTINGS, 0, 0, b"\0\x04" + (100).to_bytes(4, "big")))
    kinds = [(f[0], f[3]) for f in client.frames()]
    assert kinds == [(http2.SETTINGS, b""), (http2.DATA, b"x" * 12), (http2.HEADERS, messages.TRAILERS)]


def test_a_refused_request_whose_answer_waits_for_the_window_is_not_served() -> None:
    client = Client().greet(b"\0\x04" + bytes(4))
    client.send(client.headers(1, _method="GET"), frame(http2.DATA, http2.END_STREAM, 1, b"x"))
    assert (client.served, len(client.frames())) == ([], 1)
    client.send(frame(http2.WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
    assert [f.payload for f in client.frames()] == [messages.SPEAKS_GRPC, b""]
    assert not client.connection._streams


def test_a_long_reply_takes_the_connection_s_window() -> None:
    client = Client()
    client.greet(b"\0\x04" + (2**31 - 1).to_bytes(4, "big"))
    client.send(client.headers(1), client.body(1, bytes(100_000)))
    sent = [f for f in client.frames() if f[0] == http2.DATA]
    assert sum(len(f[3]) for f in sent) == 65535
    assert max(len(f[3]) for f in sent) == 16384
    client.send(frame(http2.WINDOW_UPDATE, 0, 0, (10**6).to_bytes(4, "big")))
    assert sum(len(f[3]) for f in client.frames() if f[0] == http2.DATA) == 100_000 - 65535


def test_the_same_block_means_something_else_once_the_table_changes() -> None:
    client = Client()
    client.greet()
    client.send(frame(http2.HEADERS, END, 1, client.block(x="one")))
    again = client.block(x="one")  # numbers of the table's entries now
    client.send(frame(http2.HEADERS, END, 3, again), frame(http2.HEADERS, END, 5, again))
    client.send(frame(http2.HEADERS, END, 7, client.block(x="two")))
    client.send(frame(http2.HEADERS, END, 9, client.block(x="one")))
    assert [s.headers[b"x"] for s in client.served] == [b"one", b"one", b"one", b"two", b"one"]


def test_pings_are_answered_and_unknown_frames_ignored() -> None:
    client = Client()
    client.greet()
    client.frames()
    client.send(frame(http2.PING, 0, 0, b"12345678"), frame(99, 255, 7, b"?"), frame(http2.PRIORITY, 0, 1, b"12345"))
    assert client.frames() == [(http2.PING, http2.ACK, 0, b"12345678")]


def test_a_stream_that_is_reset_is_not_answered() -> None:
    client = Client(answer=False)
    client.greet()
    told: list[bool] = []
    client.send(request(client, 1, b"x"))
    client.served[0].on_close = lambda: told.append(True)
    client.frames()
    client.send(frame(http2.RST_STREAM, 0, 1, b"\0\0\0\x08"))
    client.connection.reply(client.served[0], messages.HEADERS, b"x", messages.TRAILERS)
    client.connection.refuse(client.served[0], messages.FAILED, b"")
    assert (client.frames(), told) == ([], [True])


def test_after_an_early_refusal_the_rest_of_the_request_is_passed_over() -> None:
    client = Client(answer=False)
    client.greet()
    client.send(frame(http2.HEADERS, http2.END_HEADERS, 1, client.block()))
    stream = client.connection._streams[1]
    client.frames()
    client.connection.refuse(stream, messages.FAILED, messages.failure(StatusError(Code.NOT_FOUND, "100% \u00e4\n")))
    ((kind, flags, _, block),) = client.frames()
    assert (kind, flags) == (http2.HEADERS, END)
    assert dict(Decoder().decode(block))["grpc-message"] == "100%25 %C3%A4%0A"
    client.send(frame(http2.DATA, 0, 1, b"late" * 100))
    assert (client.frames(), len(stream.body), client.connection.held) == ([], 0, 0)
    client.send(client.body(1, b"late" * 20_000, 0))
    assert client.frames() == [Frame(http2.RST_STREAM, 0, 1, bytes(4))]
    client.send(frame(http2.DATA, http2.END_STREAM, 1, b"late"))
    assert client.failed() is None


def test_a_long_text_continues() -> None:
    client = Client(answer=False)
    client.greet()
    client.send(request(client, 1, b""))
    client.frames()
    long = messages.failure(StatusError(Code.INTERNAL, "x" * 40_000))
    client.connection.refuse(client.served[0], messages.FAILED, long)
    found = client.frames()
    assert [f[0] for f in found] == [http2.HEADERS, http2.CONTINUATION, http2.CONTINUATION]
    assert [f[1] for f in found] == [http2.END_STREAM, 0, http2.END_HEADERS]


def test_leaving_answers_what_runs_and_takes_nothing_new() -> None:
    client = Client(answer=False)
    client.greet()
    client.send(request(client, 1, b"x"))
    client.connection.leave()
    client.send(request(client, 3, b"y"))
    assert not client.transport.closed
    client.connection.reply(client.served[0], messages.HEADERS, b"x", messages.TRAILERS)
    found = client.frames()
    assert [f[:3] for f in found][-4:] == [(http2.RST_STREAM, 0, 3), (http2.HEADERS, 4, 1), (http2.DATA, 0, 1),
                                          (http2.HEADERS, 5, 1)]
    assert client.transport.closed


def test_no_more_streams_than_allowed() -> None:
    client = Client(Limits(streams=1), answer=False)
    client.greet()
    client.send(request(client, 1, b"x"), request(client, 3, b"y"))
    assert len(client.served) == 1
    assert (http2.RST_STREAM, 0, 3) in [f[:3] for f in client.frames()]


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n",
    http2.PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    http2.PREFACE + frame(http2.DATA, 0, 1, b"x"),
    http2.PREFACE + frame(http2.HEADERS, END, 2, b"\x83"),
    http2.PREFACE + frame(http2.HEADERS, END, 1, b"\xff\xff\xff"),
    http2.PREFACE + frame(http2.HEADERS, END | http2.PADDED, 1, b"\x09\x83"),
    http2.PREFACE + frame(http2.HEADERS, END | http2.PRIORITIZED, 1, b"\x83"),
    http2.PREFACE + frame(http2.HEADERS, 0, 1, b"\x83") + frame(http2.PING, 0, 0, b"12345678"),
    http2.PREFACE + frame(http2.HEADERS, 0, 1, b"") + frame(http2.CONTINUATION, 0, 1, b"\0" * 70_000),
    http2.PREFACE + frame(http2.CONTINUATION, END, 1, b"\x83"),
    http2.PREFACE + frame(http2.SETTINGS, 0, 0, b"12345"),
    http2.PREFACE + frame(http2.SETTINGS, 0, 1, b""),
    http2.PREFACE + frame(http2.SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff"),
    http2.PREFACE + frame(http2.SETTINGS, 0, 0, b"\0\x05\0\0\0\x01"),
    http2.PREFACE + frame(http2.PING, 0, 0, b"1"),
    http2.PREFACE + frame(http2.PUSH_PROMISE, 0, 1, b""),
    http2.PREFACE + frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
    http2.PREFACE + frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
])
def test_what_ends_a_connection(data: bytes) -> None:
    client = Client()
    client.send(data)
    assert client.failed()


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9),
                                                   st.binary(max_size=40)), max_size=10))
def test_any_bytes(noise: bytes, frames: list[tuple[int, int, int, bytes]]) -> None:
    client = Client()
    client.greet()
    for kind, flags, number, payload in frames:
        client.send(frame(kind, flags, number, payload))
    client.send(noise)
    client.connection.connection_lost(None)
    assert client.is_gone


def test_who_keeps_a_frame_of_the_program_alive_doesn_t_keep_bytes_from_being_dropped() -> None:
    """A traceback does, and with it what it was called with."""
    kept: list[object] = []

    class Keeping(Client):
        def serve(self, connection: Connection, stream: Stream) -> None:
            kept.append(sys._getframe(1))
            super().serve(connection, stream)

    client = Keeping().greet()
    data = b"".join(request(client, number, b"x" * 100) for number in range(1, 99, 2))
    for at in range(0, len(data), 70):
        client.send(data[at:at + 70])
    assert (len(client.served), len(kept), client.transport.closed) == (49, 49, False)


def echoed(message: messages.Message) -> Steps[bytes]:
    yield from ()
    return bytes(message)


def test_deadlines_of_less_than_a_millisecond_are_no_error(caplog: pytest.LogCaptureFixture) -> None:
    server = GrpcServer({"/a/B": echoed}, ["127.0.0.1:0"], max_threads=4)
    fields = {**FIELDS, "grpc-timeout": "100u"}
    block = b"".join(messages.field(k.encode(), v.encode()) for k, v in fields.items())
    try:
        with socket.create_connection(("127.0.0.1", server.ports[0]), timeout=30) as client:
            client.sendall(http2.PREFACE + SETTINGS)
            for number in range(1, 401, 2):
                client.sendall(frame(http2.HEADERS, http2.END_HEADERS, number, block)
                               + frame(http2.DATA, http2.END_STREAM, number, bytes(5)))
            client.sendall(frame(http2.GOAWAY, 0, 0, bytes(8)))
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
    finally:
        server.stop(5)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
