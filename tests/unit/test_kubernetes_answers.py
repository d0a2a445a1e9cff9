"""Limits of what an API server and a pod may answer, without either: a connection that plays a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from kubernetes.client import Configuration

from deploy.backends.kubernetes import cluster as module
from deploy.backends.kubernetes import streams
from deploy.backends.kubernetes.cluster import Cluster
from deploy.errors import BackendMissing, ServerError

POD = ("v1", "Pod")


class Answer:
    """As urllib3's, in parts."""

    def __init__(self, body: bytes, status: int = 200, parts: int = 1) -> None:
        self.status, self._body, self._parts, self.closed = status, body, parts, False
        self.headers = dict[str, str]()

    def stream(self, _: int) -> Iterator[bytes]:
        for _ in range(self._parts):
            yield self._body

    def release_conn(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Pool:
    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def request(self, _: str, url: str, **__: Any) -> Answer:
        self.asked.append(url)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def cluster_of(*answers: Answer) -> tuple[Cluster, Pool]:
    pool = Pool(*answers)
    return Cluster(Configuration(host="https://cluster"), "https://cluster", "ml", _pool=pool), pool


def page(*names: str, more: str = "") -> Answer:
    return Answer(json.dumps({"metadata": {"continue": more}, "items": [{"metadata": {"name": n}} for n in names]}
                             ).encode())


def failed(status: int, message: str) -> Answer:
    return Answer(json.dumps({"kind": "Status", "message": message}).encode(), status)


def names(cluster: Cluster) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.list(POD)]


def test_a_list_in_pages() -> None:
    cluster, pool = cluster_of(page("b", more="x"), page("a"))
    assert names(cluster) == ["a", "b"]
    assert "continue" not in pool.asked[0] and pool.asked[1].endswith("limit=500&continue=x")


def test_a_list_that_changes_too_much_is_begun_again() -> None:
    cluster, pool = cluster_of(page("old", more="x"), failed(410, "continue has expired"), page("new", more="y"),
                               page("newer"))
    assert names(cluster) == ["new", "newer"] and len(pool.asked) == 4


def test_a_list_that_is_never_whole() -> None:
    pages = [one for _ in range(9) for one in (page("a", more="x"), failed(410, "continue has expired"))]
    cluster, pool = cluster_of(*pages)
    with pytest.raises(ServerError, match="continue has expired"):
        names(cluster)
    assert len(pool.asked) == 8


def test_a_list_without_end() -> None:
    cluster, pool = cluster_of(page("a", more="x"))
    with pytest.raises(ServerError, match=r"can't list pods: the cluster at \S+ has more than 100000 of them") as e:
        names(cluster)
    assert e.value.id == "kubernetes-answer" and len(pool.asked) == 200


def test_an_answer_that_is_too_long() -> None:
    answer = Answer(b" " * (1 << 20), parts=1000)
    with pytest.raises(ServerError, match="answers with more than 67108864 bytes") as e:
        names(cluster_of(answer)[0])
    assert answer.closed and e.value.id == "kubernetes-answer"


def test_an_answer_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE", 0.0)
    answer = Answer(b" ", parts=1000)
    with pytest.raises(BackendMissing, match="its answer hasn't ended after 0 s") as e:
        names(cluster_of(answer)[0])
    assert answer.closed and e.value.id == "kubernetes-unreachable"


def test_a_log_that_is_too_long() -> None:
    with pytest.raises(ServerError, match="more than 8388608 bytes"):
        cluster_of(Answer(b"x" * (1 << 20), parts=9))[0].text("/log", "read a log", {})


# -- a command in a pod

class Frame:
    def __init__(self, data: bytes) -> None:
        self.data = data


class Socket:
    """As websocket-client's."""

    def __init__(self, *messages: bytes | BaseException) -> None:
        self._messages, self.closed = list(messages), False

    def settimeout(self, _: float) -> None: ...

    def recv_data_frame(self, _: bool) -> tuple[int, Frame]:
        if not self._messages:
            raise websocket.WebSocketConnectionClosedException("closed")
        message = self._messages.pop(0)
        if isinstance(message, BaseException):
            raise message
        return websocket.ABNF.OPCODE_BINARY, Frame(message)

    def close(self, **_: Any) -> None:
        self.closed = True


SUCCESS = b'\x03{"status": "Success"}'
FAILURE = b'\x03{"status": "Failure", "message": "command terminated with exit code 2"}'


def output(monkeypatch: pytest.MonkeyPatch, *messages: bytes | BaseException, seconds: float = 5.0) -> str:
    connection = Socket(*messages)
    monkeypatch.setattr(streams, "opened", lambda *_: connection)
    try:
        return streams.output(cluster_of(page())[0], "/exec", "run sh in pod p", seconds=seconds)
    finally:
        assert connection.closed


def test_what_a_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert output(monkeypatch, b"\x01", b"\x01a\n", b"\x02oh", b"\x01b", SUCCESS) == "a\nb"


@pytest.mark.parametrize(("messages", "seconds", "sentence"), [
    ((b"\x02no such file", FAILURE), 5, r"command terminated with exit code 2 \(no such file\)"),
    ((b"\x01half",), 5, "the connection ended before the command did"),
    ((b"\x03{",), 5, "the connection ended before the command did"),
    ((websocket.WebSocketTimeoutException(),), 5, "it hasn't ended after 5 s"),
    ((b"\x01y", b"\x01y"), 0, "it hasn't ended after 0 s"),
    ((b"\x01" + b"x" * (1 << 19),) * 3, 5, "it prints more than 1048576 bytes"),
])
def test_a_command_that_fails(monkeypatch: pytest.MonkeyPatch, messages: tuple[bytes, ...], seconds: float,
                              sentence: str) -> None:
    with pytest.raises(ServerError, match=f"can't run sh in pod p: {sentence}") as e:
        output(monkeypatch, *messages, seconds=seconds)
    assert e.value.id == "kubernetes-exec"
