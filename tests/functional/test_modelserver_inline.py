"""What the event loops answer by themselves, and what they leave to threads."""

from __future__ import annotations

import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from deploy.engine.latency import LatencyEstimate, Shapes
from deploy.modelserver.execution import LONG, InlinePolicy, Run, Steps, finish
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.rest.http import RestServer
from deploy.modelserver.status import NeverAnswered
from deploy.net.http1.messages import Request, Response


class Model:
    """A model whose runs take a known time for one shape."""

    def __init__(self, seconds: float, static_cost: bool = True) -> None:
        self.estimate = LatencyEstimate(static_cost)
        self.estimate.observe(seconds, seconds, 1, 1)

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> LatencyEstimate | None:
        return self.estimate if shapes == ((1,),) else None


def run(model: Model, *shape: int) -> Run:
    return Run(model, ("x",), ("y",), (shape,))


def steps(*taken: Run | None, log: list[str] | None = None) -> Steps[str]:
    try:
        yield from taken
        return "done"
    finally:
        if log is not None:
            log.append("given back")


def test_after_one_that_a_thread_took_over_some_go_to_threads() -> None:
    policy = InlinePolicy()
    assert policy.may_begin("a", 10)
    assert policy.advance("a", steps(LONG)) is None
    assert [policy.may_begin("a", 10) for _ in range(34)] == [False] * 32 + [True] * 2
    assert policy.may_begin("b", 10)


def test_long_requests_go_to_threads_and_all_while_all_threads_are_busy() -> None:
    assert not InlinePolicy().may_begin("a", 1 << 20)
    assert not InlinePolicy(lambda: False).may_begin("a", 1)


def test_kinds_dont_pile_up() -> None:
    policy = InlinePolicy()
    for number in range(5000):
        policy.advance(number, steps(LONG))
    assert len(policy._left) <= 1024


@pytest.mark.parametrize(("taken", "answer"), [
    ((), "done"),
    ((run(Model(5e-5), 1),), "done"),
    ((run(Model(5e-5), 1), LONG), None),
    ((run(Model(5e-4), 1),), None),
    ((run(Model(5e-5), 2),), None),
    ((run(Model(5e-5, static_cost=False), 1),), None),
    ((LONG,), None),
])
def test_the_loop_goes_on_as_long_as_steps_are_short(taken: tuple[Run | None, ...], answer: str | None) -> None:
    log: list[str] = []
    begun = steps(*taken, log=log)
    assert InlinePolicy().advance("a", begun) == answer
    assert bool(log) is bool(answer)
    if answer is None:
        assert finish(begun) == "done"
    assert log == ["given back"]


def test_what_nobody_goes_on_with_is_given_back() -> None:
    log: list[str] = []
    begun = steps(LONG, log=log)
    InlinePolicy().advance("a", begun)
    begun.close()
    assert log == ["given back"]


def answer(request: Request) -> Steps[Response]:
    """Tells where it was asked; `/slow...` isn't answered by the loop."""
    if request.target == "/never":
        raise NeverAnswered
    before = threading.current_thread().name
    if request.target.startswith(("/slow", "/stuck")):
        yield LONG
    if request.target == "/stuck":
        STUCK.wait(10)
    if request.target == "/broken":
        raise ValueError("broken")
    return Response(200, f"{request.target} by {WHO[before]}, {WHO[threading.current_thread().name]}".encode())


class _Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "a thread"


STUCK, WHO = threading.Event(), _Names(rest="the loop")


@contextmanager
def serving(timeout: float = 30.0) -> Iterator[socket.socket]:
    """A client of a server that answers so."""
    server = RestServer("127.0.0.1", 0, answer, threads=2, timeout=timeout, late=Response(504, b"late"))
    try:
        with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as client:
            yield client
    finally:
        server.stop(0.1)


def post(target: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def replies(client: socket.socket, count: int) -> list[bytes]:
    """Bodies of the next replies."""
    found, file = [], client.makefile("rb")
    for _ in range(count):
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        found.append(file.read(length))
    return found


@pytest.mark.parametrize(("data", "body"), [
    (post("/a"), b"/a by the loop, the loop"),
    (post("/slow"), b"/slow by the loop, a thread"),
    (post("/long", b"x" * 300_000), b"/long by a thread, a thread"),
    (post("/gzip", zlib.compress(b"{}", wbits=31), "Content-Encoding: gzip\r\n"), b"/gzip by a thread, a thread"),
])
def test_who_answers(data: bytes, body: bytes) -> None:
    with serving() as client:
        client.sendall(data)
        assert replies(client, 1) == [body]


def test_replies_come_in_order_whoever_gives_them() -> None:
    targets = ["/a", "/slow1", "/b", "/slow2", "/slow1", "/c", "/d"] * 20
    with serving() as client:
        client.sendall(b"".join(map(post, targets)))
        assert [body.split()[0].decode() for body in replies(client, len(targets))] == targets


def test_what_fails_ends_its_connection() -> None:
    with serving() as client:
        client.sendall(post("/broken") + post("/a"))
        assert b"500 Internal Server Error" in replies(client, 1)[0]
        assert client.recv(100) == b""


def test_what_is_never_answered_isnt_either_when_its_time_is_over() -> None:
    with serving(timeout=0.5) as client:
        client.sendall(post("/never") + post("/a"))
        with closing(socket.create_connection(client.getpeername(), 10)) as other:
            other.sendall(post("/stuck"))
            assert replies(other, 1) == [b"late"]
        STUCK.set()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_latency_is_without_the_wait_for_a_thread() -> None:
    """As in the real server, whose clock starts in the thread that answers."""
    metrics, gate = Metrics(), threading.Event()

    def counted(request: Request) -> Steps[Response]:
        with metrics.request(request.target, "predict", "REST"):
            yield LONG
            if request.target == "/first":
                gate.wait(10)
            return Response(200, b"")

    server = RestServer("127.0.0.1", 0, counted, threads=1, timeout=30.0, late=Response(504, b"late"))
    try:
        with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as first, \
                closing(socket.create_connection(("127.0.0.1", server.port), 10)) as second:
            first.sendall(post("/first"))
            second.sendall(post("/second"))
            time.sleep(0.3)
            gate.set()
            replies(first, 1)
            replies(second, 1)
    finally:
        server.stop(0.1)
    text = metrics.page().decode()
    took = {target: float(re.findall(rf'request_latency_sum{{model_name="/{target}".*}} (.*)', text)[0])
            for target in ("first", "second")}
    assert took["first"] > 250_000  # microseconds
    assert took["second"] < 100_000
