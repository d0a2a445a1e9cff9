"""`tfs ready`, as a value, as a command and over HTTP, against the echo server."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from deploy import client, goldens, testing
from deploy.cli.app import app
from deploy.cli.outcome import run
from deploy.client import Client
from deploy.errors import Malformed, NotReady, PortTaken, Rejected, RepositoryError, SpecError
from deploy.goldens.recorded import Golden
from deploy.modelserver.status import Code, StatusError
from deploy.readiness import Desired
from deploy.repository import Repository
from deploy.serving.healthz import Cached, listen
from deploy.serving.ready import Prober, ReadyAnswer, expected_from, golden_of, missing
from deploy.state import Release
from deploy.types import Endpoint, ServedModel, Serving, Specific, VersionState, VersionStatus
from tests.support.ports import free_ports
from tests.support.repository import savedmodel
from tests.support.servers import taken_port
from tests.support.serving import spec_at

ONE, TWO = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
OPEN = Release("r1", "m", "rollout", 2, ONE, TWO, {}, "2026-01-01T00:00:00+00:00")


def twice(inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    return {"y": inputs["x"] * 2}


@pytest.fixture(scope="module")
def running() -> Iterator[testing.Running]:
    """m: 1 and 2, stable -> 1."""
    with testing.serve({"m": {1: twice, 2: twice}}, versions=Specific((1, 2)), labels={"m": {"stable": 1}}) as server:
        yield server


def connect(endpoint: Endpoint) -> Callable[[], Client]:
    return lambda: client.connect(endpoint, timeout=5.0, attempts=1)


def case(answer: float) -> Golden:
    asked, answered = np.array([1], np.float32), np.array([answer], np.float32)
    return Golden("serving_default", {"x": asked}, {"y": answered})


BOTH = frozenset({1, 2})


@pytest.mark.parametrize(("expected", "why"), [
    (Desired("m", BOTH, {"stable": 1}), ""),
    (Desired("m"), ""),
    (Desired("m", labels={"stable": None}), ""),
    (Desired("m", frozenset({1}), {"stable": 1}, OPEN), ""),  # 2 is on trial
    (Desired("m", frozenset({1})), "m serves 1, 2, wanted 1"),
    (Desired("m", frozenset({3})), "m serves 1, 2, wanted 3"),
    (Desired("m", BOTH, {"stable": 2}), "m@stable resolves to 1, wanted 2"),
    (Desired("m", BOTH, {"canary": 2}), "m@canary resolves to nothing, wanted 2"),
])
def test_exactly_what_is_wanted(running: testing.Running, expected: Desired, why: str) -> None:
    answer = Prober(None, connect(running.endpoint), [expected]).ask()
    assert (answer.ready, answer.why, answer.exit_code) == (not why, why, NotReady.exit_code if why else 0)


def test_an_unknown_model_and_a_closed_port() -> None:
    grpc, rest = free_ports()
    answer = Prober(None, connect(Endpoint("127.0.0.1", grpc, rest)), [Desired("m")], timeout=1).ask()
    assert not answer.ready and str(rest) in answer.why


def test_a_failed_version_says_why(running: testing.Running) -> None:
    with testing.serve({"m": {1: twice}}) as server:
        server.break_version("m", 2, "out of memory")
        answer = Prober(None, connect(server.endpoint), [Desired("m", BOTH)]).ask()
    assert answer.why == "m/2 can't be loaded: out of memory"


@pytest.mark.parametrize(("right", "why"), [(2.0, ""), (3.0, "m/1 answers wrongly over REST: ")])
def test_one_right_answer_over_both_protocols(running: testing.Running, right: float, why: str) -> None:
    checked: list[str] = []
    with connect(running.endpoint)() as connected:
        found = list(missing(connected, [Desired("m", BOTH, {"stable": 1})], lambda _: case(right), checked))
    assert [f.startswith(why) for f in found[:1]] == ([True] if why else [])
    assert len(found) == (1 if why else 0)
    assert why or checked[-1] == "m/1: a golden answer over REST and gRPC"


def test_refs_are_what_a_stranger_has_to_serve() -> None:
    assert expected_from(["m", "n/3", "n/4", "n@stable"]) == [
        Desired("m"), Desired("n", frozenset({3, 4}), {"stable": None})]
    with pytest.raises(SpecError):
        expected_from(["a b"])


def test_the_command(running: testing.Running) -> None:
    there = ["--rest-url", running.endpoint.rest_url, "--grpc", running.endpoint.grpc_target]
    told = CliRunner().invoke(app, ["ready", *there, "--model", "m/1", "--model", "m/2", "--json"])
    assert told.exit_code == 0 and json.loads(told.output)["ready"]
    told = CliRunner().invoke(app, ["ready", *there, "--model", "m/1"])
    assert told.exit_code == 6 and told.output == "not ready: m serves 1, 2, wanted 1\n"
    assert run(["ready", *there, "--model", "m/1", "--wait", "0.05"]) == 6
    assert run(["ready", "--model", "m"]) == 2


def test_many_models_are_a_line_each(running: testing.Running) -> None:
    names = [f"m{i:02}" for i in range(24)]
    with testing.serve({name: {1: twice} for name in names}) as server:
        there = ["ready", "--rest-url", server.endpoint.rest_url, "--grpc", server.endpoint.grpc_target]
        wanted = [word for name in names for word in ("--model", name)]
        told = CliRunner().invoke(app, [*there, *wanted])
        lines = told.output.splitlines()
        assert told.exit_code == 0 and lines[0] == "ready:" and len(lines) == 22
        assert lines[1].startswith("  m00: versions and labels over REST and gRPC") and max(map(len, lines)) < 200
        assert lines[-1] == "  and 4 more (--json has all)"
        for name in names[:3]:
            server.break_version(name, 2, "out of memory")
        told = CliRunner().invoke(app, [*there, *wanted[6:], "--model", "none", "--model", "m00/2", "--model", "m01/2",
                                        "--json"])
        gaps = json.loads(told.output)["gaps"]
        told = CliRunner().invoke(app, [*there, "--model", "m00/2", "--model", "m01/2", "--model", "m03"])
    assert len(gaps) == 3 and "none" in gaps[0] and gaps[2] == "m01/2 can't be loaded: out of memory"
    assert told.output == "not ready:\n  m00/2 can't be loaded: out of memory\n  m01/2 can't be loaded: out of memory\n"


@pytest.mark.parametrize(("error", "why"), [
    (StatusError(Code.NOT_FOUND, "Op type not registered 'X' in binary"), "m/1 is AVAILABLE, but can't answer"),
    (StatusError(Code.INVALID_ARGUMENT, "not a JPEG"), "")])
def test_without_a_golden_case_one_generated_request_is_asked(error: StatusError, why: str) -> None:
    def broken(_: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        raise error

    with testing.serve({"m": {1: broken}}) as server, connect(server.endpoint)() as asked:
        checked = list[str]()
        found = next(missing(asked, [Desired("m")], lambda _: None, checked), "")
    assert found.startswith(why) and bool(found) == bool(why)
    assert why or checked[-1] == "m/1: generated requests for no signature; refused as made up: serving_default"


def test_a_server_without_a_free_thread_says_nothing_about_a_label() -> None:
    class Busy:
        def status(self, *_: object, **__: object) -> list[VersionStatus]:
            return [VersionStatus(1, VersionState.AVAILABLE)]

        def metadata(self, *_: object, **__: object) -> object:
            raise Rejected("busy", code="RESOURCE_EXHAUSTED")

    asked = Client(Busy(), None)  # type: ignore[arg-type]
    wanted = Desired("m", labels={"stable": 1})
    assert list(missing(asked, [wanted], lambda _: None, [])) == ["m@stable can't be asked for: busy"]


@contextmanager
def served(ask: Callable[[], ReadyAnswer]) -> Iterator[int]:
    server = listen(ask, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("answer", "status"), [
    (ReadyAnswer(ready=True, why="", checked=("m",), seconds=0.01), 200),
    (ReadyAnswer(ready=False, why="m serves nothing", checked=(), seconds=0.01), 503),
])
def test_the_endpoint(answer: ReadyAnswer, status: int) -> None:
    with served(lambda: answer) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        for method in ("GET", "HEAD", "GET"):
            connection.request(method, "/healthz?x")
            reply = connection.getresponse()
            body = reply.read()
            assert reply.status == status and reply.headers["Content-Type"] == "application/json"
            assert method == "HEAD" or json.loads(body) == answer.to_json()
        connection.close()


def test_many_probes_are_one_question() -> None:
    asked: list[int] = []

    def ask() -> ReadyAnswer:
        asked.append(1)
        return ReadyAnswer(ready=True, why="", checked=(), seconds=0)

    cached = Cached(ask, seconds=60)
    threads = [threading.Thread(target=cached) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cached().ready and len(asked) == 1


def test_a_taken_port() -> None:
    with taken_port() as port, pytest.raises(PortTaken, match=str(port)):
        listen(lambda: ReadyAnswer(ready=True, why="", checked=(), seconds=0), "127.0.0.1", port)


def test_a_damaged_golden_is_said_and_not_passed_over(tmp_path: Path, running: testing.Running) -> None:
    x = np.array([1.0], np.float32)
    source = savedmodel(tmp_path / "source")
    goldens.write(source, [Golden("serving_default", {"x": x}, {"y": x})], "m")
    Repository(tmp_path / "models").publish(source, "m")
    model = ServedModel("m", str(tmp_path / "models" / "m"), Specific((1,)), {})
    found = golden_of(model, 1)
    assert found is not None and found.outputs["y"] == x
    assert golden_of(model, 2) is None
    warmup = tmp_path / "models" / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    damaged = bytearray(warmup.read_bytes())
    damaged[20] ^= 1
    warmup.chmod(0o644)
    warmup.write_bytes(damaged)
    with pytest.raises(Malformed, match="tf_serving_warmup_requests") as e:
        golden_of(model, 1)
    spec = spec_at(tmp_path, "models: [{name: m, versions: [1, 2]}]")
    answer = Prober(spec, connect(running.endpoint), [Desired("m", labels={"stable": 1})]).ask()
    assert (answer.ready, answer.why, answer.exit_code) == (False, e.value.message, RepositoryError.exit_code)


def test_an_output_that_no_golden_has_is_wrong(running: testing.Running) -> None:
    asked = np.array([1], np.float32)
    short = Golden("serving_default", {"x": asked})
    with connect(running.endpoint)() as connected:
        assert "output 'y' is not expected" in next(missing(
            connected, [Desired("m", BOTH, {"stable": 1})], lambda _: short, []))


@pytest.mark.parametrize("address", ["x", "1.2.3.4", "70000", "0.0.0.0:", "0.0.0.0:http"])
def test_where_nobody_can_listen(address: str) -> None:
    told = CliRunner().invoke(app, ["ready", "--rest-url", "http://127.0.0.1:1", "--serve", address])
    assert told.exit_code == 2 and "is no port and no HOST:PORT" in told.output
