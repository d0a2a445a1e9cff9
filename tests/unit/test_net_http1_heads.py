"""Heads that are known already: the answers are those of the parser, for the same bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from deploy.net.http1 import limits as most
from deploy.net.http1.connection import Connection
from deploy.net.http1.heads import HeadCache
from deploy.net.http1.limits import Limits
from deploy.net.http1.messages import Request, Response, rendered


class Loop:
    """Callbacks run when `data` of a client was taken in."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def time(self) -> float:
        return 1.0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def run(self) -> None:
        while self.callbacks:
            self.callbacks.pop(0)()


class Server:
    """Answers with what it understood; one with the path /thread later."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.loop, self.heads, self.limits, self.held = Loop(), HeadCache(), limits or Limits(), 0
        self.submitted: list[tuple[Connection, int, Request]] = []

    def came(self, connection: Connection) -> None: ...

    def gone(self, connection: Connection) -> None: ...

    def refusal(self, request: Request) -> Response | None:
        return None

    def answer(self, connection: Connection, number: int, request: Request) -> Response | None:
        if request.target == "/thread":
            self.submitted.append((connection, number, request))
            return None
        return Response(200, repr((request.method, request.target, sorted(request.headers.items()), request.body,
                                   request.size, request.old)).encode())

    def reply(self, connection: Connection, request: Request, response: Response) -> tuple[bytes, bool]:
        data = rendered(request, response)
        return data[:data.index(b"Date: ")] + data[data.index(b" GMT"):], response.close or not request.keep_alive


class Client:
    """A transport that keeps what is written."""

    def __init__(self, server: Server) -> None:
        self.server, self.received, self.closed = server, b"", False
        self.connection = Connection(server)  # type: ignore[arg-type]
        self.connection.connection_made(self)  # type: ignore[arg-type]

    def send(self, *pieces: bytes) -> bytes:
        """What comes back for them."""
        self.received = b""
        for piece in pieces:
            if not self.closed:
                self.connection.data_received(piece)
                self.server.loop.run()
        self.server.loop.run()
        return self.received + (b"closed" if self.closed else b"")

    def write(self, data: bytes) -> None:
        self.received += data

    def close(self) -> None:
        self.closed = True

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def request(line: str = "POST /a HTTP/1.1", *headers: str, body: bytes = b"", host: str | None = "a",
            length: int | None = -1) -> bytes:
    lines = [line, *([f"Host: {host}"] if host is not None else []), *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "".join(f"{part}\r\n" for part in lines).encode("latin-1") + b"\r\n" + body


KNOWN = [
    request(), request(body=b"abc"), request(body=b"x" * 100_000), request("GET /a?b=c HTTP/1.1", length=None),
    request("HEAD /a HTTP/1.1", length=None), request("POST /a HTTP/1.1", length=None), request(body=b"\r\n\r\n"),
    request("POST http://b/a HTTP/1.1", "X: y", "x: z", "Y:", "Z:   v  ", body=b"a"), request(body=request()),
    request("POST /a HTTP/1.1", "Connection: keep-alive", "Accept: */*", "Content-Type: application/json", body=b"{}"),
    request("GET /a HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade", length=None),
    request("POST /a HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade", body=b"abc"),
    request("GET  /a HTTP/1.1", length=None),
]
PARSED = [
    request("GET /a HTTP/1.0", length=None), request("GET /a HTTP/1.0", "Connection: keep-alive", length=None),
    request("GET /a HTTP/1.1", "Connection: close", length=None), request(host=None), request(host="a b"),
    request("POST /a HTTP/1.1", "Content-Length: 1", body=b"b"), request(length=5, body=b"abc"),
    request("POST /a HTTP/1.1", "Transfer-Encoding: chunked", length=None, body=b"1\r\na\r\n0\r\n\r\n"),
    request("POST /a HTTP/1.1", "Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n\r\n"),
    request("POST /a HTTP/1.1", "Transfer-Encoding: gzip", length=None), request(body=b"abc", length=2),
    request("POST /a HTTP/1.1", "Expect: 100-continue", body=b"abc"), request("GET /a HTTP/1.1", "X: " + "y" * 3000),
    request("CONNECT a:1 HTTP/1.1", length=None),
    request("POST /a HTTP/1.1", "Content-Encoding: gzip", body=b"abc"), request("GET /a HTTP/2.0", length=None),
    request("FETCH /a HTTP/1.1", length=None), b"nonsense\r\n\r\n",
    request("POST /a HTTP/1.1", "X : y"), request("POST /a HTTP/1.1", "Content-Length: +1", length=None),
    request().replace(b"\r\n", b"\n"), b"\r\n\r\n", request()[:-1], request(body=b"abc")[:-1], request() * 2,
    request(length=1), request(body=b"a", length=0), request("POST /a HTTP/1.1", "X: y\r\n z"),
]


@pytest.mark.parametrize("data", [*KNOWN, *PARSED, b"\r\n" + request()])
def test_a_request_that_comes_again_has_the_answer_that_it_has_in_pieces(data: bytes) -> None:
    server = Server()
    client, parser = Client(server), Client(Server())
    pieces = [data[i:i + 1] for i in range(len(data))] if len(data) < 5000 else [data[:-1], data[-1:]]
    for _ in range(3):
        assert client.send(data) == parser.send(*pieces)
    assert client.closed == parser.closed
    other = Client(server)  # it knows what another one has sent
    fresh = Client(Server())
    assert other.send(data) == fresh.send(*pieces)


@pytest.mark.parametrize("data", [*KNOWN, *PARSED])
def test_a_body_that_comes_after_its_head_makes_no_difference(data: bytes) -> None:
    head = data.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else len(data)
    server, fresh = Server(), Client(Server())
    client = Client(server)
    for _ in range(3):
        assert client.send(data[:head], data[head:]) == fresh.send(data)
    for cut in (head - 1, head, head + 1, len(data) - 1):
        client, fresh = Client(server), Client(Server())
        for pieces in ((data[:cut], data[cut:]), (data[:head], data[head:cut], data[max(cut, head):]),
                       (data[:head], data[head:] + data[:head], data[head:]), (data,)):
            assert client.send(*filter(None, pieces)) == fresh.send(b"".join(pieces))


def test_a_head_that_came_before_its_body_is_known() -> None:
    server = Server()
    data = request(body=b"abc")
    Client(server).send(data[:-3], data[-3:])
    assert server.heads.request(data) is not None


def test_blank_lines_before_a_head_are_none() -> None:
    server = Server()
    head = request("POST /a HTTP/1.1", "Content-Length: 49", length=None)
    assert len(head) == 49
    Client(server).send(b"\r\n\r\n" + head, b"x" * len(head))
    Client(server).send(b"\r\n\r\n" + head + b"x" * len(head))
    assert len(server.heads) == 0


@pytest.mark.parametrize("late", [False, True])
def test_a_known_head_without_its_body_is_a_request_that_arrives(late: bool) -> None:
    server = Server(Limits(stall=60))
    data = request(body=b"abc")
    client = Client(server)
    client.send(data)
    client.send(data[:-3])
    assert client.connection.idle_since is None
    client.connection.finish()
    if late:
        client.connection.look(1.0 + server.limits.stall + 1)
        assert b" 408 " in client.send()
    else:
        assert not client.closed
        assert client.send(b"abc").endswith(b"closed")


def test_a_known_head_counts_when_its_client_stops_reading() -> None:
    server = Server()
    data = request(body=b"abc")
    client = Client(server)
    client.send(data)
    client.send(data[:-3])
    client.connection.pause_writing()
    assert client.send(b"abc") == b""
    client.connection.resume_writing()
    assert client.send().count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("data", KNOWN)
def test_heads_of_usual_requests_are_known(data: bytes) -> None:
    server = Server()
    Client(server).send(data)
    assert server.heads.request(data) is not None
    for other in (data + b"x", data[:-1], b"x" + data, b"\r\n" + data, data * 2):
        assert server.heads.request(other) is None


@pytest.mark.parametrize("data", PARSED)
def test_heads_that_change_how_a_connection_goes_on_are_parsed_each_time(data: bytes) -> None:
    server = Server()
    client = Client(server)
    client.send(data)
    client.send(data)
    assert server.heads.request(data) is None


def test_a_known_head_in_the_middle_of_another_request_is_its_body() -> None:
    server = Server()
    client = Client(server)
    client.send(request(body=b"abc"))
    known, outer = request(body=b"abc"), request(body=request(body=b"abc"), line="POST /b HTTP/1.1")
    answer = client.send(outer[:-len(known)], known)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"'/b'" in answer


def test_requests_of_any_mixture_are_answered_as_by_the_parser_alone() -> None:
    choose = random.Random(7)
    server, parser = Server(), Client(Server())
    client = Client(server)
    for _ in range(1000):
        data = b"".join(choose.choices(KNOWN, k=choose.choice([1, 1, 1, 2, 3])))
        cut = choose.choice([0, 0, data.index(b"\r\n\r\n") + 4, choose.randrange(len(data))])
        if waits := choose.random() < 0.2:
            client.connection.pause_writing()
        received = client.send(*filter(None, (data[:cut], data[cut:])))
        if waits:
            client.connection.resume_writing()
            received += client.send()
        assert received == parser.send(data[:1], data[1:])
    assert not client.closed
    assert server.held == 0


def test_what_is_known_has_a_limit() -> None:
    server = Server()
    for number in range(3 * most.KNOWN_HEADS):
        Client(server).send(request(f"GET /{number} HTTP/1.1", length=None))
        assert len(server.heads) <= most.KNOWN_HEADS


def test_heads_that_are_new_each_time_are_seldom_kept_and_a_usual_one_soon_after_them() -> None:
    server = Server()
    client = Client(server)
    for number in range(100):
        client.send(request(f"GET /{number} HTTP/1.1", length=None))
    assert len(server.heads) < 20
    for _ in range(most.KEEP_ONE_OF):
        client.send(request())
    assert server.heads.request(request()) is not None


@pytest.mark.parametrize("known", [False, True])
def test_a_body_counts_as_held_until_its_answer(known: bool) -> None:
    server = Server(Limits(bodies=1000))
    client, other = Client(server), Client(server)
    data = request("POST /thread HTTP/1.1", body=b"x" * 600)
    for _ in range(1 + known):
        client.send(data)
        assert server.held == 600
        assert b" 503 " in Client(server).send(request(body=b"x" * 401))
        connection, number, _ = server.submitted.pop()
        connection.reply(number, b"done", False)
        assert server.held == 0
    other.send(data)
    other.connection.connection_lost(None)
    assert server.held == 0
    connection, number, left = server.submitted.pop()
    assert left.over
    connection.reply(number, b"done", False)
    assert server.held == 0
