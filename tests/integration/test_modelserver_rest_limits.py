"""The REST port under clients that want too much, or don't keep to HTTP: others are served on, nothing piles up."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from deploy.modelserver.execution import LONG, Steps
from deploy.modelserver.rest.http import RestServer
from deploy.net.http1 import limits as most
from deploy.net.http1.limits import Limits
from deploy.net.http1.messages import Abandoned, Request, Response, html_error
from deploy.waiting import Deadline, poll
from tests.support.modelserver import read_reply

HOST = b"Host: a\r\n"


class Answers:
    """A server's answers, and what it was asked, in order. `/wait` waits for `go`; `/thread` is answered by a thread.

    `/work` goes on until nobody wants the answer any more. `/not` is refused whatever its body is.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go, self.began, self.gave_up = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, request: Request) -> Steps[Response]:
        if request.target in ("/thread", "/work"):
            yield LONG
        self.asked.append(request.target)
        self.began.set()
        if request.target == "/wait" or request.target == "/thread":
            self.go.wait(10)
        if request.target == "/work":
            self._work(request)
        headers = ",".join(f"{k.decode()}={v.decode()}" for k, v in request.headers.items())
        return self.refusal(request) or Response(200, f"{len(request.body)} {headers}".encode())

    def _work(self, request: Request) -> None:
        try:
            while not self.go.wait(0.01):
                request.go_on()
        except Abandoned:
            self.gave_up.set()
            raise

    @staticmethod
    def refusal(request: Request) -> Response | None:
        if request.target == "/not":
            return html_error(404)
        return Response(400, b"{}") if request.method == "PUT" else None


class Client:
    """A raw connection."""

    def __init__(self, server: RestServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), 10)
        self._file = self.socket.makefile("rb")

    def send(self, *data: bytes) -> Client:
        self.socket.sendall(b"".join(data))
        return self

    def reply(self) -> tuple[int, bytes]:
        """The next reply's status and body; status 0 for a connection that was closed instead."""
        return read_reply(self._file)

    def statuses(self, count: int) -> list[int]:
        return [self.reply()[0] for _ in range(count)]

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def serving(limits: Limits | None = None, timeout: float = 30.0) -> Iterator[tuple[RestServer, Answers]]:
    answers = Answers()
    server = RestServer("127.0.0.1", 0, answers, threads=4, timeout=timeout, late=Response(504, b"late"),
                        refusal=answers.refusal, limits=limits)
    try:
        yield server, answers
    finally:
        answers.go.set()
        server.stop(0.1)


@contextmanager
def client_of(limits: Limits | None = None) -> Iterator[Client]:
    with serving(limits) as (server, _), closing(Client(server)) as client:
        yield client


def get(target: str = "/a") -> bytes:
    return f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n"


def post(body: bytes = b"", target: str = "/a", *, headers: bytes = b"", method: str = "POST") -> bytes:
    return b"%b %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n%b" % (method.encode(), target.encode(), HOST, len(body),
                                                                  headers, body)


CHUNKED = b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


# -- fairness


UPGRADE = b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


@pytest.mark.parametrize("request_", [get("/many"), post(b"x" * 100, "/many"),
                                      get("/many").replace(b"\r\n\r\n", UPGRADE)])
def test_whoever_sends_thousands_at_once_has_a_turn_like_others(request_: bytes) -> None:
    with serving() as (server, answers), closing(Client(server)) as many, closing(Client(server)) as other:
        sender = threading.Thread(target=many.send, args=(get("/wait") + request_ * 5000,))
        sender.start()
        assert answers.began.wait(10)
        other.send(get("/other"))
        answers.go.set()
        assert other.reply()[0] == 200
        assert answers.asked.index("/other") <= 3 * most.TURN_REQUESTS
        assert set(many.statuses(5001)) == {200}
        sender.join(10)
        assert answers.asked.count("/many") == 5000


def test_while_one_is_answered_few_others_are_taken_in() -> None:
    with serving() as (server, answers), closing(Client(server)) as client:
        sender = threading.Thread(target=client.send, args=(get("/thread") + get("/many") * 20_000,), daemon=True)
        sender.start()
        assert answers.began.wait(10)
        with closing(Client(server)) as other:  # the loop has had many turns when this is answered
            assert set(other.send(get("/other") * 50).statuses(50)) == {200}
        (connection,) = [c for c in server.connections if c.busy]
        assert len(connection._waiting) <= most.MOST_WAITING + most.FIRST // len(get("/many")) + 1
        answers.go.set()
        assert set(client.statuses(20_001)) == {200}
        sender.join(10)


# -- HTTP


def test_a_trailer_is_no_header() -> None:
    with client_of() as client:
        client.send(CHUNKED, b"2\r\nab\r\n0\r\nContent-Encoding: gzip\r\nX-T: 1\r\n\r\n", get())
        assert client.reply() == (200, b"2 host=a,transfer-encoding=chunked")
        assert client.reply() == (200, b"0 host=a")


@pytest.mark.parametrize(("data", "statuses"), [
    (b"GET /a HTTP/1.1\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.1\r\nHost: a:b\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n" * 2, [200, 200]),
    (b"GET /a HTTP/1.1\r\nhOST: [::1]:8501\r\n\r\n" * 2, [200, 200]),
    (b"GET /a HTTP/1.1\r\nHost: some_host.example:80 \r\n\r\n" * 2, [200, 200]),
    (b"GET /a HTTP/1.0\r\n\r\n", [200, 0]),
    (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2, [200, 200]),
    (b"GET /a\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/0.9\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", [400, 0]),
    (b"GET /a HTTP/1.2\r\nHost: a\r\n\r\n", [400, 0]),
    (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", [501, 0]),
    (CHUNKED.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n", [400, 0]),
    (CHUNKED.replace(b"chunked", b"gzip\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n", [501, 0]),
    (CHUNKED.replace(b"chunked", b"gzip") + b"0\r\n\r\n", [501, 0]),
    (CHUNKED.replace(b"chunked", b"CHUNKED") + b"0\r\n\r\n" + get(), [200, 200]),
    (CHUNKED.replace(b"1.1", b"1.0").replace(HOST, b"Connection: keep-alive\r\n") + b"0\r\n\r\n", [200, 0]),
    (post(b"a", headers=b"Expect: 100-continue\r\n") + get(), [100, 200, 200]),
    (post(b"a", headers=b"Expect: 100-Continue\r\n"), [100, 200]),
    (post(b"a", headers=b"Expect: something\r\n") * 2, [200, 200]),
    (post(b"", headers=b"Expect: 100-continue\r\n"), [200]),
    (post(b"a", headers=b"Expect: 100-continue\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"), [200, 0]),
    (get("/thread") + post(b"a", headers=b"Expect: 100-continue\r\n"), [200, 100, 200]),
    (post(b"a", "/not", headers=b"Expect: 100-continue\r\n")[:-1], [404, 0]),
    (b"GET /a HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (most.MOST_FIELDS - 1) + b"\r\n", [200]),
    (b"GET /a HTTP/1.1\r\n" + HOST + b"X: y\r\n" * most.MOST_FIELDS + b"\r\n", [400, 0]),
])
def test_heads(data: bytes, statuses: list[int]) -> None:
    with serving() as (server, answers), closing(Client(server)) as client:
        answers.go.set()
        assert client.send(data).statuses(len(statuses)) == statuses


def test_what_is_kept_alive_by_the_older_protocol_says_so() -> None:
    with client_of() as client:
        client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"\r\nConnection: keep-alive\r\n" in client.socket.recv(4096)


# -- bodies


def test_long_bodies_are_refused_before_they_come() -> None:
    with client_of(Limits(body=1000)) as client:
        assert client.send(post(b"x" * 1000)).reply()[0] == 200
        status, body = client.send(post(b"x" * 1001)[:-1001]).reply()
        assert (status, client.reply()[0]) == (413, 0)
        assert "--tfs_rest_max_body_bytes=1000" in json.loads(body)["error"]


def test_a_chunked_body_may_be_no_longer() -> None:
    with client_of(Limits(body=1000)) as client:
        assert client.send(CHUNKED, b"1\r\nx\r\n" * 1000, b"0\r\n\r\n").reply()[0] == 200
        assert client.send(CHUNKED, b"1\r\nx\r\n" * 1001).statuses(2) == [413, 0]


def test_bodies_of_all_clients_together_have_a_limit() -> None:
    with serving(Limits(bodies=100_000)) as (server, answers):
        with closing(Client(server)) as holder, closing(Client(server)) as other:
            holder.send(post(b"x" * 90_000, "/thread"))
            assert answers.began.wait(10)
            assert other.send(post(b"x" * 20_000)).statuses(2) == [503, 0]
            answers.go.set()
            assert holder.reply()[0] == 200
        for _ in range(3):
            with closing(Client(server)) as other:
                assert other.send(post(b"x" * 90_000)[:-1]).send(b"x").reply()[0] == 200
        with closing(Client(server)) as other:
            assert other.send(post(b"x" * 90_000) * 3).statuses(3) == [200] * 3
        assert server.held == 0


@pytest.mark.parametrize(("method", "target", "statuses"), [("POST", "/not", [404, 0]), ("PUT", "/a", [400, 200])])
def test_what_is_wrong_whatever_its_body_is_isnt_waited_for(method: str, target: str, statuses: list[int]) -> None:
    body = b"x" * 1_000_000
    data = post(body, target, method=method)
    with serving() as (server, _), closing(Client(server)) as client:
        client.send(data[:-len(body)])
        assert client.reply()[0] == statuses[0]
        client.send(body[:500_000])
        assert server.held == 0
        if statuses[1]:
            assert client.send(body[500_000:], get()).reply()[0] == statuses[1]
        else:
            assert client.reply()[0] == 0


def test_a_refused_client_that_goes_on_sending_still_reads_why() -> None:
    with client_of(Limits(body=1000)) as client:
        assert client.send(post(b"x" * 10_000_000)).statuses(2) == [413, 0]


@pytest.mark.parametrize("flood", [
    CHUNKED + b"1;" + b"x" * 2_000_000,
    CHUNKED + b"1;x=y\r\na\r\n" + b"1;" + b"x" * 2_000_000,
    CHUNKED + b"0\r\n" + b"X: y\r\n" * 500_000,
    CHUNKED + b"0\r\nX: " + b"x" * 2_000_000,
])
def test_what_is_neither_head_nor_body_has_a_limit(flood: bytes) -> None:
    with client_of() as client:
        try:
            client.send(flood)
        except ConnectionError:
            return
        assert client.reply()[0] == 400


# -- time


@pytest.mark.parametrize(("limits", "data", "statuses"), [
    (Limits(idle=0.2), b"", [0]),
    (Limits(idle=0.2), get(), [200, 0]),
    (Limits(head=0.2), get()[:-2], [408, 0]),
    (Limits(stall=0.2), post(b"x" * 10)[:-1], [408, 0]),
    (Limits(stall=0.2), CHUNKED, [408, 0]),
    (Limits(idle=0.2), b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", [0]),
])
def test_who_takes_too_long_is_let_go(limits: Limits, data: bytes, statuses: list[int]) -> None:
    with client_of(limits) as client:
        assert client.send(data).statuses(len(statuses)) == statuses


def test_a_head_has_its_time_however_often_a_byte_of_it_comes() -> None:
    with client_of(Limits(head=0.3, idle=0.1)) as client:
        client.socket.settimeout(0.05)
        client.send(get()[:-2])
        for _ in range(200):
            try:
                client.send(b"X")
                if client.socket.recv(100).startswith(b"HTTP/1.1 408"):
                    return
            except TimeoutError:
                continue
    pytest.fail("it was never over")


def test_a_client_that_doesnt_read_is_let_go() -> None:
    with serving(Limits(stall=0.2)) as (server, _), closing(Client(server)) as client:
        client.socket.settimeout(10)
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                client.send(get() * 10_000)


def test_requests_that_run_are_waited_for() -> None:
    with serving(Limits(head=0.05, idle=0.05, stall=0.05)) as (server, answers), closing(Client(server)) as client:
        client.send(get("/thread"))
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        answers.go.set()
        with closing(client.socket.dup()) as again:
            again.settimeout(10)
            assert again.recv(12) == b"HTTP/1.1 200"


def test_work_ends_when_the_client_was_told_that_its_time_is_over() -> None:
    with serving(timeout=0.1) as (server, answers), closing(Client(server)) as client:
        assert client.send(get("/work")).reply() == (504, b"late")
        assert answers.gave_up.wait(10)
        assert client.send(get()).reply()[0] == 200


def test_work_ends_when_the_client_has_gone() -> None:
    with serving() as (server, answers):
        client = Client(server)
        client.send(get("/work"))
        assert answers.began.wait(10)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert answers.gave_up.wait(10)


# -- connections


def test_beyond_the_limit_the_place_of_a_silent_client_is_taken() -> None:
    with serving(Limits(connections=3)) as (server, answers):
        clients = [Client(server) for _ in range(3)]
        clients[0].send(get("/thread"))
        assert clients[1].send(get()).reply()[0] == 200
        assert clients[2].send(get()).reply()[0] == 200
        clients.append(Client(server))
        assert clients[3].send(get()).reply()[0] == 200
        assert clients[1].reply()[0] == 0
        answers.go.set()
        assert clients[0].reply()[0] == 200
        for client in clients:
            client.close()


def test_if_none_is_silent_nobody_is_let_in() -> None:
    with serving(Limits(connections=2)) as (server, answers):
        busy = [Client(server).send(get("/thread")) for _ in range(2)]
        assert poll(lambda: len(answers.asked) == 2 or None, Deadline(10))
        with closing(Client(server)) as late:
            assert late.statuses(2) == [503, 0]
        answers.go.set()
        for client in busy:
            assert client.reply()[0] == 200
            client.close()
