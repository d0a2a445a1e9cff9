"""What the event loops answer by themselves, and what they leave to threads."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from deploy.modelserver.haste import Haste
from deploy.modelserver.rest.http import RestServer
from deploy.modelserver.status import NeverAnswered, Postponed
from deploy.net.http1.messages import Request, Response


def test_after_one_that_was_postponed_some_go_to_threads() -> None:
    haste = Haste()
    assert haste.fits("a", 10)
    haste.postponed("a")
    assert [haste.fits("a", 10) for _ in range(34)] == [False] * 32 + [True] * 2
    assert haste.fits("b", 10)


def test_long_requests_go_to_threads() -> None:
    assert not Haste().fits("a", 1 << 20)


def test_kinds_dont_pile_up() -> None:
    haste = Haste()
    for number in range(5000):
        haste.postponed(number)
    assert len(haste._left) <= 1024


STUCK = threading.Event()


def answer(request: Request) -> Response:
    """Tells where it was asked; `/slow...` isn't answered at once."""
    if request.target == "/never":
        raise NeverAnswered
    if request.target.startswith(("/slow", "/stuck")) and request.at_once:
        raise Postponed
    if request.target == "/stuck":
        STUCK.wait(10)
    if request.target == "/broken":
        raise ValueError("broken")
    in_loop = threading.current_thread().name == "rest"
    assert in_loop is request.at_once
    return Response(200, f"{request.target} by {'the loop' if in_loop else 'a thread'}".encode())


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
    (post("/a"), b"/a by the loop"),
    (post("/slow"), b"/slow by a thread"),
    (post("/long", b"x" * 300_000), b"/long by a thread"),
    (post("/gzip", zlib.compress(b"{}", wbits=31), "Content-Encoding: gzip\r\n"), b"/gzip by a thread"),
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
