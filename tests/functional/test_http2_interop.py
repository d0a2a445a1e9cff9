"""Our HTTP/2 with Python's h2 on the other side: as our client, and as a server that judges the same frames."""

from __future__ import annotations

import random
from functools import partial

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deploy.net.http2 import frames as http2
from deploy.net.http2 import messages
from deploy.net.http2.frames import END_HEADERS, END_STREAM, frame, number32
from tests.support.http2 import FIELDS, Client, reset, window

bounded = partial(settings, derandomize=True, deadline=None, database=None)


class Pair:
    """h2's client, and our connection. Bytes go to and fro until neither has anything to say."""

    def __init__(self, **values: int) -> None:
        self.server = Client(answer=False)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        if values:
            self.h2.update_settings({h2.settings.SettingCodes[key]: value for key, value in values.items()})
        self.replies: dict[int, bytes] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.resets: dict[int, int] = {}
        self.ended: int | None = None
        self.talk()

    def talk(self, give_window: bool = True) -> None:
        for _ in range(10_000):
            outgoing, incoming = self.h2.data_to_send(), bytes(self.server.transport.written)
            self.server.transport.written.clear()
            if outgoing:
                self.server.send(outgoing)
            for event in self.h2.receive_data(incoming) if incoming else ():
                self.take(event, give_window)
            if not outgoing and not incoming:
                return
        raise AssertionError("they talk without end")

    def take(self, event: h2.events.Event, give_window: bool) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.replies[event.stream_id] = self.replies.get(event.stream_id, b"") + event.data
            if give_window and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.ended = int(event.error_code)

    def ask(self, message: bytes, pieces: int = 1, **fields: str) -> int:
        body = messages.framed(message)
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, list({**FIELDS, **fields}.items()))
        for index in range(pieces):
            part = body[len(body) * index // pieces:len(body) * (index + 1) // pieces]
            while part:
                size = min(len(part), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                assert size, "the window isn't enlarged"
                self.h2.send_data(number, part[:size])
                part = part[size:]
                self.talk()
        self.h2.end_stream(number)
        self.talk()
        return number


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 4)), min_size=1, max_size=6), st.integers(0, 99),
       st.sampled_from([0, 1000, 65535, 1 << 20]), st.sampled_from([1 << 14, 1 << 20]))
@bounded(max_examples=40, phases=[Phase.generate])
def test_calls_of_h2_s_client(calls: list[tuple[int, int]], seed: int, initial: int, longest: int) -> None:
    """Whatever the windows and frame sizes, h2 finds nothing wrong, and all replies come whole."""
    chance = random.Random(seed)
    pair = Pair(INITIAL_WINDOW_SIZE=initial, MAX_FRAME_SIZE=longest)
    bodies = {pair.ask(chance.randbytes(size), pieces): size for size, pieces in calls}
    served = list(pair.server.served)
    assert [len(s.body) - 5 for s in served] == list(bodies.values())
    chance.shuffle(served)
    expected = {s.number: bytes(s.body) for s in served}
    for stream in served:
        pair.server.reply(stream, bytes(stream.body))
    pair.talk()
    if initial < 65535:
        pair.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        pair.talk()
    assert {n: pair.replies.get(n, b"") for n in expected} == expected
    assert all(pair.trailers[n][b"grpc-status"] == b"0" for n in expected)
    assert (pair.server.connection.held, pair.server.memory.total, pair.ended) == (0, 0, None)


def test_a_long_body_comes_through_the_windows() -> None:
    pair = Pair()
    number = pair.ask(bytes(20 << 20))
    pair.server.reply(pair.server.served[0], b"x")
    pair.talk()
    assert (pair.replies[number], pair.ended) == (b"x", None)


def test_h2_sees_refusals_and_resets() -> None:
    pair = Pair()
    refused = pair.ask(b"x", **{":path": "/no"})
    plain = pair.ask(b"x", **{":method": "PUT"})
    assert pair.trailers[refused][b"grpc-status"] == b"12"
    assert (pair.trailers[plain][b":status"], b"gRPC" in pair.replies[plain]) == (b"405", True)
    over = pair.ask(b"x")
    pair.server.connection.reset(pair.server.served[-1], http2.CANCEL)
    pair.talk()
    assert (pair.resets, pair.ended) == ({over: http2.CANCEL}, None)


def test_a_deadline_that_fires_during_a_reply_ends_it_by_trailers() -> None:
    """After the reply's headers nothing but trailers may come: h2 raises for a second :status."""
    pair = Pair(INITIAL_WINDOW_SIZE=10)
    number = pair.ask(b"x" * 100)
    stream = pair.server.served[0]
    pair.server.reply(stream, bytes(100))
    pair.talk(give_window=False)
    pair.server.refuse(stream, "Deadline Exceeded")
    pair.talk(give_window=False)
    assert pair.trailers[number] == {b"grpc-status": b"4", b"grpc-message": b"Deadline Exceeded"}
    assert (len(pair.replies[number]), pair.ended, pair.server.connection.held) == (10, None, 0)


# -- h2 as a judge

STEPS = st.one_of(
    st.tuples(st.just("headers"), st.integers(0, 9), st.sampled_from([END_HEADERS, END_HEADERS | END_STREAM]),
              st.sampled_from([{}, {"te": None}, {"_path": ""}, {"_scheme": None}, {"_method": None}, {"x": "y"},
                               {"connection": "close"}, {"te": "gzip"}])),
    st.tuples(st.just("data"), st.integers(0, 9), st.sampled_from([0, END_STREAM]), st.binary(max_size=8)),
    st.tuples(st.just("reset"), st.integers(0, 9)),
    st.tuples(st.just("window"), st.integers(0, 9), st.sampled_from([0, 1, 1000, 2**31 - 1])),
    st.tuples(st.just("settings"), st.sampled_from([(2, 0), (2, 2), (3, 5), (4, 0), (4, 2**31), (4, 70_000), (5, 100),
                                                    (5, 20_000), (99, 1)])),
    st.tuples(st.just("ping"), st.integers(0, 1), st.integers(7, 8)),
)


def written(client: Client, step: tuple[object, ...]) -> bytes:
    """A step's frame. Even numbers are of the server's streams."""
    match step:
        case "headers", int(number), int(flags), dict(fields):
            return client.headers(number, flags, **fields)
        case "data", int(number), int(flags), bytes(payload):
            return frame(http2.DATA, flags, number, payload)
        case "reset", int(number):
            return reset(number)
        case "window", int(number), int(more):
            return window(number, more)
        case "settings", (int(key), int(value)):
            return frame(http2.SETTINGS, 0, 0, key.to_bytes(2, "big") + number32(value))
        case "ping", int(number), int(size):
            return frame(http2.PING, 0, number, bytes(size))
    raise AssertionError(step)


def judged(data: bytes) -> bool:
    """Whether h2's server finds a sequence of frames right."""
    judge = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    judge.initiate_connection()
    judge.clear_outbound_data_buffer()
    try:
        judge.receive_data(data)
    except h2.exceptions.ProtocolError:
        return False
    return not any(kind in (http2.RST_STREAM, http2.GOAWAY) for kind in kinds(judge.data_to_send()))


def kinds(data: bytes) -> list[int]:
    found = []
    while data:
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3], "big"):]
    return found


@given(st.lists(STEPS, min_size=1, max_size=8))
@bounded(max_examples=600)
def test_h2_s_server_judges_the_same(steps: list[tuple[object, ...]]) -> None:
    client = Client(answer=False).greet()
    data = b"".join(written(client, step) for step in steps)
    client.send(data)
    ours = not any(f.kind in (http2.RST_STREAM, http2.GOAWAY) for f in client.frames())
    assert ours == judged(http2.PREFACE + frame(http2.SETTINGS, 0, 0) + data)
