"""What one client may ask of the gRPC port: budgets, windows, bytes, seconds, and turns that leave room for others."""

from __future__ import annotations

import threading
import zlib

import pytest

from deploy.modelserver.status import Code
from deploy.net.http2 import frames as http2
from deploy.net.http2 import limits, messages
from deploy.net.http2.frames import frame, number32
from deploy.net.http2.limits import Limits
from deploy.net.http2.streams import State
from deploy.net.pool import Exhausted, RefusingPool
from tests.support.http2 import END, Client, Frame, reset, window

CALM = http2.ENHANCE_YOUR_CALM
MIB = 1 << 20
PING = frame(http2.PING, 0, 0, bytes(8))


def resets(client: Client, number: int) -> bytes:
    return client.call(number) + reset(number)


FLOODS = {
    "PING": lambda c, n: PING,
    "PING acknowledged": lambda c, n: frame(http2.PING, http2.ACK, 0, bytes(8)),
    "SETTINGS": lambda c, n: frame(http2.SETTINGS, 0, 0),
    "SETTINGS with many parameters": lambda c, n: frame(http2.SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff" * 100),
    "PRIORITY": lambda c, n: frame(http2.PRIORITY, 0, n, bytes(5)),
    "WINDOW_UPDATE": lambda c, n: window(0, 1),
    "unknown frames": lambda c, n: frame(99, 0, n),
    "GOAWAY": lambda c, n: frame(http2.GOAWAY, 0, 0, bytes(8)),
    "empty DATA": lambda c, n: (c.headers(1) if n == 1 else b"") + frame(http2.DATA, 0, 1),
    "tiny DATA": lambda c, n: (c.headers(1) if n == 1 else b"") + frame(http2.DATA, 0, 1, b"\0"),
    "padding only": lambda c, n: (c.headers(1) if n == 1 else b"") + frame(http2.DATA, 8, 1, b"\xff" + bytes(255)),
    "DATA for a refused call": lambda c, n: (c.headers(1, _path="/no") if n == 1 else b"") + frame(http2.DATA, 0, 1),
    "DATA for a reset call": lambda c, n: (c.headers(1) + reset(1) if n == 1 else b"") + frame(http2.DATA, 0, 1),
    "empty CONTINUATION": lambda c, n: (c.headers(1, 0) if n == 1 else b"") + frame(http2.CONTINUATION, 0, 1),
    "rapid reset": resets,
    "rapid reset without a body": lambda c, n: c.headers(n) + reset(n),
    "refused calls": lambda c, n: c.headers(n, END, _path="/no"),
    "refused calls without a message": lambda c, n: c.call(n, b"", _path="/no"),
    "refused calls that are reset": lambda c, n: c.headers(n, _path="/no") + reset(n),
    "requests that aren't calls": lambda c, n: c.headers(n, END, _method="GET"),
    "malformed requests": lambda c, n: c.headers(n, END, _path=""),
    "more streams than allowed": lambda c, n: c.headers(n),
    "trailers that aren't": lambda c, n: c.headers(n) + c.headers(n),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_what_carries_nothing_ends_the_connection(kind: str) -> None:
    client = Client(answer=False).greet()
    for number in range(1, 5000, 2):
        client.send(FLOODS[kind](client, number))
        if client.transport.closed:
            break
    assert client.failed() == CALM
    assert (client.connection.held, client.memory.total) == (0, 0)


def test_honest_calls_pay_for_their_control_frames() -> None:
    """A client that pings, gives window and says its settings around each call goes on for ever."""
    client = Client().greet()
    for number in range(1, 10_001, 2):
        client.send(client.call(number), PING, window(0, 1), frame(http2.SETTINGS, 0, 0), frame(http2.PRIORITY, 0, 1,
                                                                                               bytes(5)))
    assert not client.transport.closed


def test_a_client_that_gives_window_for_each_frame_of_a_long_reply_goes_on() -> None:
    client = Client().greet()
    client.answer = False
    client.send(window(0, 2**31 - 1 - 65535), client.call(1))
    client.reply(client.served[0], bytes(64 * MIB))
    sent = 0
    while parts := [f for f in client.frames() if f.kind == http2.DATA]:
        sent += sum(len(f.payload) for f in parts)
        for part in parts:
            client.send(window(1, len(part.payload)), window(0, 1))
    assert (sent, client.transport.closed) == (64 * MIB, False)


def test_calls_of_an_unknown_method_cost_what_answered_calls_do() -> None:
    """A client that is older or newer than the server may ask for such a method as fast as it gets the answers."""
    client = Client().greet()
    client.send(b"".join(client.call(n, b"\0\0\0\0\0", _path="/no/Such") for n in range(1, 10_001, 2)))
    assert [f.number for f in client.frames()] == list(range(1, 10_001, 2))
    assert not client.transport.closed


def test_refused_calls_take_as_much_of_a_turn_as_others() -> None:
    client = Client().greet()
    client.send(client.call(1, _path="/no/Such"))
    client.frames()
    client.connection.data_received(b"".join(client.call(n, _path="/no/Such") for n in range(3, 403, 2)))
    assert 0 < len(client.frames()) <= limits.TURN // limits.CALL_WORK


def test_time_fills_the_budget() -> None:
    client = Client().greet()
    for _ in range(100):
        client.send(PING * limits.PER_SECOND)
        client.connection.tick()
    assert not client.transport.closed


def test_a_call_that_was_given_up_takes_a_place_until_its_thread_is_done() -> None:
    client = Client(Limits(streams=2), answer=False).greet()
    for number in range(1, 40, 2):
        client.send(client.call(number))
        if len(client.served) * 2 > number:
            client.served[-1].handed = True
        client.send(reset(number))
    assert len(client.served) == 8  # four times as many as streams
    for stream in client.served:
        client.connection.returned(stream)
    client.frames()
    client.send(client.call(41))
    assert len(client.served) == 9


# -- turns


def test_a_turn_takes_so_many_calls_and_then_it_is_the_others() -> None:
    client = Client().greet()
    client.connection.data_received(b"".join(client.call(n) for n in range(1, 1001, 2)))
    first = len(client.served)
    assert (0 < first <= limits.TURN // limits.CALL_WORK, client.transport.reading) == (True, False)
    turns = client.run()
    assert (len(client.served), client.transport.reading) == (500, True)
    assert turns >= 500 // (first + 1)


@pytest.mark.parametrize(("part", "most"), [(PING, 600), (frame(http2.DATA, 0, 1, bytes(200)), 600)])
def test_a_turn_takes_so_many_frames(part: bytes, most: int) -> None:
    client = Client(answer=False).greet()
    client.send(client.headers(1))
    client.connection.data_received(part * 900)
    assert len(client.connection._arrived) - client.connection._at >= len(part) * (900 - most)
    client.run()
    assert not client.connection._arrived
    assert not client.transport.closed


def test_header_blocks_that_have_to_be_read_take_turns() -> None:
    client = Client().greet()
    blocks = b"".join(client.headers(n, END, **{f"x{n}-{i}": f"{n * i}" for i in range(100)}) for n in range(1, 21, 2))
    client.connection.data_received(blocks)
    assert len(client.served) <= 3
    client.run()
    assert len(client.served) == 10


def test_a_long_read_is_followed_by_others_first() -> None:
    """The loop reads up to 32 times from a connection whose buffer was full, before it looks at the next one."""
    client = Client(answer=False).greet()
    client.send(client.headers(1))
    client.connection.data_received(client.body(1, b"\0\0\xff\0\0" + bytes(250_000), 0))
    assert not client.transport.reading
    client.run()
    assert client.transport.reading


def test_one_settings_frame_walks_the_streams_once() -> None:
    client = Client(Limits(streams=10_000), answer=False).greet()
    for number in range(1, 4001, 2):
        client.send(client.call(number))
    before = client.connection._budget
    client.connection.data_received(frame(http2.SETTINGS, 0, 0, b"".join(
        b"\0\x04" + number32(70_000 + n) for n in range(500))))
    assert client.connection._work <= limits.FRAME_WORK + 2000
    assert client.connection._budget < before
    assert {s.window for s in client.served} == {70_499}


# -- bytes


def test_a_message_of_unlimited_length_is_refused_when_it_is_announced() -> None:
    client = Client(Limits(message=1000)).greet()
    client.send(client.headers(1), frame(http2.DATA, 0, 1, b"\0\0\x01\0\0"))
    (answer,) = client.frames()
    assert b"larger than max (65536 vs. 1000)" in answer.payload
    client.send(client.body(1, bytes(65536)))
    assert (client.served, client.connection.held, client.transport.closed) == ([], 0, False)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_message_that_is_too_long_is_refused(pieces: int) -> None:
    client = Client(Limits(message=1000)).greet()
    client.send(client.headers(1), *[frame(http2.DATA, 0, 1, bytes(500))] * (pieces - 1),
                frame(http2.DATA, http2.END_STREAM, 1, bytes(1006)))
    assert b"larger than max" in client.frames()[0].payload
    assert (client.served, client.connection.held) == ([], 0)


def test_what_a_refused_request_sends_isn_t_kept() -> None:
    client = Client().greet()
    client.send(client.headers(1, _path="/no"), *[frame(http2.DATA, 0, 1, bytes(1 << 14))] * 20)
    assert [f.kind for f in client.frames()] == [http2.HEADERS, http2.RST_STREAM]
    assert (client.connection.held, client.memory.total, client.connection._streams) == (0, 0, {})


def test_who_holds_the_most_is_ended_when_all_hold_too_much() -> None:
    client = Client(Limits(held_by_all=5 * MIB, held=100 * MIB), answer=False).greet()
    for number in range(1, 99, 2):
        client.send(client.headers(number), client.body(number, bytes(3 << 18), 0))
    assert client.failed() == CALM
    assert (client.memory.total, client.connection.held) == (0, 0)


def test_one_connection_holds_so_many_bytes() -> None:
    client = Client(Limits(held=5 * MIB), answer=False).greet()
    for number in range(1, 99, 2):
        client.send(client.headers(number), client.body(number, bytes(3 << 18), 0))
    assert client.failed() == CALM
    assert (client.memory.total, client.connection.held) == (0, 0)


def test_replies_that_aren_t_read_count() -> None:
    client = Client(Limits(held=5 * MIB), answer=False).greet(b"\0\x04" + bytes(4))
    for number in range(1, 99, 2):
        client.send(client.call(number))
        client.reply(client.served[-1], bytes(MIB))
        if client.transport.closed:
            break
    assert (client.failed(), number) == (CALM, 11)
    assert (client.memory.total, client.connection.held) == (0, 0)


def test_windows_are_given_back_when_the_requests_are_answered() -> None:
    client = Client(answer=False).greet()
    for number in range(1, 17, 2):
        client.send(client.headers(number), client.body(number, bytes(12 * MIB)))
    given = sum(int.from_bytes(f.payload, "big") for f in client.frames()
                if f.kind == http2.WINDOW_UPDATE and not f.number)
    assert given < 80 * MIB
    for stream in client.served:
        client.reply(stream, b"")
    given += sum(int.from_bytes(f.payload, "big") for f in client.frames()
                 if f.kind == http2.WINDOW_UPDATE and not f.number)
    assert given == 96 * MIB
    assert client.connection.held == 0


def test_a_reply_waits_for_a_client_that_reads() -> None:
    client = Client(answer=False).greet(b"\0\x04" + number32(2**31 - 1))
    client.send(window(0, 2**31 - 1 - 65535), client.call(1))
    client.transport.room = 100_000
    client.reply(client.served[0], bytes(MIB))
    assert len(client.transport.written) < 300_000
    assert not client.transport.reading
    assert client.connection.held > MIB - 300_000
    while client.served[0].state is not State.CLOSED:
        client.transport.written.clear()
        client.transport.room = 100_000
        client.connection.resume_writing()
    assert (client.connection.held, client.connection._sending) == (0, {})


def test_frames_that_came_before_the_client_stopped_reading_are_taken_afterwards() -> None:
    client = Client().greet()
    client.transport.room = 0
    client.connection.data_received(b"".join(client.call(n) for n in range(1, 201, 2)))
    client.run()
    assert len(client.served) < 100
    client.transport.room = None
    client.connection.resume_writing()
    client.run()
    assert (len(client.served), client.transport.reading) == (100, True)


@pytest.mark.parametrize(("size", "code"), [(15_000, None), (17_000, 8), (60_000, 8), (66_000, CALM)])
def test_headers_of_a_call_have_a_limit(size: int, code: int | None) -> None:
    client = Client().greet()
    block = client.block(x="a" * size)
    parts = [block[at:at + (1 << 14)] for at in range(0, len(block), 1 << 14)]
    client.send(frame(http2.HEADERS, http2.END_STREAM | (http2.END_HEADERS if len(parts) == 1 else 0), 1, parts[0]))
    for part in parts[1:]:
        client.send(frame(http2.CONTINUATION, http2.END_HEADERS if part is parts[-1] else 0, 1, part))
    if code == CALM:
        assert client.failed() == CALM
    else:
        answer = client.frames()[0]
        assert (b"bytes of headers" in answer.payload, client.transport.closed) == (code is not None, False)


def test_longer_frames_are_allowed_once_a_client_sends_long_messages() -> None:
    client = Client().greet()
    client.send(client.headers(1), frame(http2.DATA, 0, 1, b"\0\0\1\0\1"))
    assert [f for f in client.frames() if f.kind == http2.SETTINGS] == [
        Frame(http2.SETTINGS, 0, 0, b"\0\5" + number32(limits.LONGEST_FRAME))]
    client.send(frame(http2.SETTINGS, http2.ACK, 0), frame(http2.DATA, 0, 1, bytes(1 << 17)))
    assert not client.transport.closed
    client.send(frame(http2.DATA, 0, 1, bytes(limits.LONGEST_FRAME + 1)))
    assert client.failed() == http2.FRAME_SIZE_ERROR


# -- seconds


def ticks(client: Client, count: int) -> None:
    for _ in range(count):
        client.connection.tick()


@pytest.mark.parametrize("sent", [b"", http2.PREFACE[:5], http2.PREFACE, http2.PREFACE + bytes((0, 0, 0, 4))])
def test_a_client_that_doesn_t_begin_is_ended(sent: bytes) -> None:
    client = Client(Limits(handshake=3))
    if sent:
        client.send(sent)
    ticks(client, 3)
    assert not client.transport.closed
    ticks(client, 1)
    assert client.transport.aborted


def test_a_header_block_that_doesn_t_end_is_ended() -> None:
    client = Client(Limits(handshake=3)).greet()
    ticks(client, 10)
    client.send(client.headers(1, 0))
    ticks(client, 3)
    assert not client.transport.closed
    ticks(client, 1)
    assert client.transport.aborted


def test_an_idle_connection_is_asked_to_go_and_ended() -> None:
    client = Client(Limits(idle=5)).greet()
    ticks(client, 5)
    client.send(client.call(1))
    ticks(client, 5)
    client.frames()
    ticks(client, 1)
    assert [(f.kind, f.code) for f in client.frames()] == [(http2.GOAWAY, http2.NO_ERROR)]
    assert not client.transport.closed
    ticks(client, 1)
    assert client.transport.closed


def test_a_request_that_never_ends_is_idle() -> None:
    client = Client(Limits(idle=5)).greet()
    client.send(client.headers(1))
    ticks(client, 7)
    assert client.transport.closed
    assert client.connection.held == 0


def test_a_connection_that_waits_for_an_answer_isn_t_idle() -> None:
    client = Client(Limits(idle=5), answer=False).greet()
    client.send(client.call(1))
    ticks(client, 50)
    assert not client.transport.closed


def test_replies_that_nobody_takes_are_given_up() -> None:
    client = Client(Limits(stall=5), answer=False).greet(b"\0\x04" + bytes(4))
    client.send(client.call(1))
    client.reply(client.served[0], bytes(100))
    ticks(client, 5)
    client.send(window(1, 1))
    ticks(client, 6)
    assert not client.transport.closed
    ticks(client, 1)
    assert (client.transport.aborted, client.connection.held) == (True, 0)


def test_a_client_that_doesn_t_read_is_given_up() -> None:
    client = Client(Limits(stall=5)).greet()
    client.transport.unsent = 1000
    ticks(client, 1)
    client.transport.unsent = 999
    ticks(client, 6)
    assert not client.transport.closed
    ticks(client, 1)
    assert client.transport.aborted


def test_with_a_stall_of_0_a_client_may_take_any_time() -> None:
    client = Client(Limits(stall=0)).greet()
    client.transport.unsent = 1000
    ticks(client, 1000)
    assert not client.transport.closed


def test_a_closed_connection_whose_client_doesn_t_read_is_given_up() -> None:
    client = Client(Limits(stall=5)).greet()
    client.connection.fail(http2.PROTOCOL_ERROR)
    ticks(client, 5)
    assert not client.transport.aborted
    ticks(client, 1)
    assert client.transport.aborted


# -- compressed messages


def packed(data: bytes, wbits: int = 31) -> bytearray:
    packer = zlib.compressobj(wbits=wbits)
    message = packer.compress(data) + packer.flush()
    return bytearray(b"\1" + len(message).to_bytes(4, "big") + message)


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_what_a_compressed_message_becomes_is_limited(encoding: str, wbits: int) -> None:
    headers = {b"grpc-encoding": encoding.encode()}
    body = packed(bytes(3 * MIB), wbits)
    assert messages.unpacked(headers, body, 3 * MIB) == bytes(3 * MIB)
    with pytest.raises(messages.Unreadable, match="larger than max") as raised:
        messages.unpacked(headers, body, 3 * MIB - 1)
    assert raised.value.code == Code.RESOURCE_EXHAUSTED


def test_a_small_message_can_t_become_a_large_one() -> None:
    assert messages.most_unpacked(1000, 2**31) == 64 * MIB
    assert messages.most_unpacked(10 * MIB, 2**31) == 1000 * MIB
    assert messages.most_unpacked(10 * MIB, 100) == 100
    body = packed(bytes(65 * MIB))
    with pytest.raises(messages.Unreadable, match="larger than max"):
        messages.unpacked({b"grpc-encoding": b"gzip"}, body, 2**31)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:11] + b"\xff" + b[12:],
                                    lambda b: b[:1], lambda b: b""])
def test_damaged_compressed_data(damage: object) -> None:
    message = bytes(packed(b"x" * 1000))[5:]
    with pytest.raises(zlib.error):
        messages.inflated(damage(message), messages.GZIP, MIB)  # type: ignore[operator]


def test_a_pool_takes_so_many_functions() -> None:
    """Whatever the number of threads."""
    pool, go, started = RefusingPool(1, most=3), threading.Event(), threading.Event()
    pool.submit(lambda: (started.set(), go.wait(30)))
    assert started.wait(30)
    try:
        for _ in range(3):
            pool.submit(go.wait, 30)
        with pytest.raises(Exhausted):
            pool.submit(int)
    finally:
        go.set()
        pool.shutdown()
