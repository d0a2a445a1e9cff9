"""Many at once: clients, reloads, polls, moving labels, and the end of a server under load."""

from __future__ import annotations

import gc
import http.client
import itertools
import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from deploy.testing import serve
from deploy.types import Endpoint, Latest, VersionState
from deploy.waiting import Deadline, poll
from deploy.wire import config_pb2, methods, tensors
from deploy.wire import serving_pb2 as pb
from deploy.wire.flags import Options
from tests.support.modelserver import echoable, is_open, server

Ask = Callable[[], float]


def of(version: int) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """What a version answers: its number, for each row."""
    return lambda inputs: {"y": np.full_like(inputs["x"], version)}


def rest(endpoint: Endpoint, path: str) -> Ask:
    """Asks on one connection that is kept; returns the answer, which is the same for all rows."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.rest_port, timeout=20)

    def ask() -> float:
        connection.request("POST", f"/v1/models/{path}:predict", b'{"instances": [0, 0, 0]}')
        reply = connection.getresponse()
        text = reply.read()
        assert reply.status == 200, text
        return only(json.loads(text)["predictions"])

    return ask


def rpc(endpoint: Endpoint, spec: pb.ModelSpec) -> Ask:
    channel = grpc.insecure_channel(endpoint.grpc_target, options=[("grpc.use_local_subchannel_pool", 1)])
    request = pb.PredictRequest(model_spec=spec)
    request.inputs["x"].CopyFrom(tensors.encode(np.zeros(3, np.float32)))
    call = channel.unary_unary(methods.PREDICT, lambda m: m.SerializeToString(), pb.PredictResponse.FromString)

    def ask() -> float:
        reply = call(request, timeout=20)
        answer = only(tensors.decode(reply.outputs["y"]).tolist())
        assert answer in (reply.model_spec.version.value, 0), "another version than it says"
        return answer

    return ask


def only(values: list[float]) -> float:
    assert len(set(values)) == 1, f"more than one version answered: {values}"
    return values[0]


@contextmanager
def asking(*asks: Ask) -> Iterator[Counter[float]]:
    """Asks all the time in threads until the block ends; what fails there, fails the test."""
    ended, answers = threading.Event(), Counter[float]()

    def run(ask: Ask) -> None:
        while not ended.is_set():
            answers[ask()] += 1

    with ThreadPoolExecutor(len(asks)) as pool:
        running = [pool.submit(run, ask) for ask in asks]
        try:
            yield answers
        finally:
            ended.set()
        for done in running:
            done.result(30)


def both(endpoint: Endpoint, label: str = "") -> tuple[Ask, ...]:
    """Asks model m over both protocols, by label if there is one."""
    spec = pb.ModelSpec(name="m", version_label=label) if label else pb.ModelSpec(name="m")
    path = f"m/labels/{label}" if label else "m"
    return rest(endpoint, path), rest(endpoint, path), rpc(endpoint, spec), rpc(endpoint, spec)


def config(*names: str, labels: Mapping[str, int] | None = None, latest: int = 0) -> config_pb2.ModelServerConfig:
    """All versions of these models, or the latest; labels are m's."""
    made = config_pb2.ModelServerConfig()
    for name in names:
        model = made.model_config_list.config.add(name=name, base_path=f"memory://{name}", model_platform="tensorflow")
        if latest:
            model.model_version_policy.latest.num_versions = latest
        else:
            model.model_version_policy.all.SetInParent()
        if name == "m":
            model.version_labels.update(labels or {})
    return made


def reload(endpoint: Endpoint, wanted: config_pb2.ModelServerConfig) -> None:
    with grpc.insecure_channel(endpoint.grpc_target) as channel:
        call = channel.unary_unary(methods.HANDLE_RELOAD_CONFIG_REQUEST, lambda m: m.SerializeToString(),
                                   pb.ReloadConfigResponse.FromString)
        assert not call(pb.ReloadConfigRequest(config=wanted), timeout=20).status.error_code


def reload_or_lose(endpoint: Endpoint, wanted: config_pb2.ModelServerConfig) -> None:
    """Reload. A model that is back while it is being unloaded counts as failed, as in the real server."""
    try:
        reload(endpoint, wanted)
    except grpc.RpcError as error:
        assert "did not become available" in error.details()


def test_reloads_from_several_clients() -> None:
    models = {"m": {1: of(1)}, "a": {1: None}, "b": {1: None}}
    with serve(models) as running, asking(*both(running.endpoint)) as answers:
        wanted = [config("m"), config("m", "a"), config("m", "b"), config("m", "a", "b"), config("m", latest=1)]
        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(reload_or_lose, running.endpoint, wanted[n % len(wanted)]) for n in range(60)]:
                done.result(30)
        reload_or_lose(running.endpoint, config("m", "a"))
        assert poll(lambda: running.statuses("a")[0].state is VersionState.AVAILABLE or None, Deadline(20))
    assert set(answers) == {1}


def test_versions_come_and_go_while_configurations_change() -> None:
    chance = random.Random(5)
    with serve({"m": {1: of(1)}}, versions=Latest(1)) as running, asking(*both(running.endpoint)) as answers:
        ended = threading.Event()

        def reloads() -> None:
            while not ended.is_set():
                reload(running.endpoint, config("m", latest=chance.choice([1, 2])))
                running._server.poller.poll_once()

        with ThreadPoolExecutor(2) as pool:
            others = [pool.submit(reloads) for _ in range(2)]
            for version in range(2, 40):
                running.publish("m", version, of(version))
                running._memory.put("m", version - 1, None)
            ended.set()
            for other in others:
                other.result(30)
        assert poll(lambda: [s.version for s in running.statuses("m") if s.serving] == [39] or None, Deadline(20))
    assert set(answers) <= set(range(1, 40))
    assert len(answers) > 5


def test_a_label_moves_under_load() -> None:
    """From version to version, each of which is gone soon after."""
    with serve({"m": {1: of(1)}}, labels={"m": {"stable": 1}}) as running, \
            asking(*both(running.endpoint, "stable")) as answers:
        for version in range(2, 30):
            running.publish("m", version, of(version))
            reload(running.endpoint, config("m", labels={"stable": version}))
            running.remove("m", version - 1)
    assert set(answers) <= set(range(1, 30))
    assert len(answers) > 5


def test_two_hundred_clients() -> None:
    before = threading.active_count()  # other tests' clients leave threads of theirs in this process
    with serve({"m": {1: None}}) as running:
        asks = [maker for _ in range(100) for maker in (rest(running.endpoint, "m"),
                                                        rpc(running.endpoint, pb.ModelSpec(name="m")))]
        with ThreadPoolExecutor(len(asks)) as pool:
            start = threading.Barrier(len(asks))

            def several(ask: Ask) -> list[float]:
                start.wait(30)
                return [ask() for _ in range(5)]

            assert list(pool.map(several, asks)) == [[0.0] * 5] * len(asks)
        assert threading.active_count() - before < 100


def test_what_runs_is_answered_before_the_end() -> None:
    """Over both protocols; more REST requests than there are threads."""
    go, begun = threading.Event(), itertools.count(1)
    seven = threading.Event()

    def slow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if next(begun) >= 11:
            seven.set()
        go.wait(20)
        return {"y": inputs["x"]}

    with serve({"m": {1: slow}}, options=Options(rest_api_num_threads=8)) as running, ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(rest(running.endpoint, "m")) for _ in range(30)]
        answers += [pool.submit(rpc(running.endpoint, pb.ModelSpec(name="m"))) for _ in range(3)]
        assert seven.wait(20)
        stopped = pool.submit(running._server.stop, 20.0)
        assert poll(lambda: not is_open(running.endpoint.rest_port) or None, Deadline(10))
        go.set()
        assert [answer.result(20) for answer in answers] == [0.0] * 33
        stopped.result(20)


@pytest.mark.parametrize("round_", range(3))
def test_sigterm_under_load_breaks_no_reply(tmp_path: Path, round_: int) -> None:
    """Clients may find the door closed, but who is inside gets a whole answer."""
    echoable(tmp_path / "m", 1)
    with server(tmp_path, "--tfs_loader=echo", "--model_name=m", f"--model_base_path={tmp_path}/m",
                "--tfs_drain_seconds=10") as running:
        endpoint, ended = Endpoint("127.0.0.1", running.port, running.rest_port), Counter[str]()

        def until_closed(ask: Ask) -> int:
            for number in itertools.count():
                try:
                    ask()
                except (ConnectionError, http.client.RemoteDisconnected) as error:
                    ended[type(error).__name__] += 1
                    return number
                except grpc.RpcError as error:
                    ended[error.code().name] += 1
                    return number
            raise AssertionError

        asks = [rest(endpoint, "m") for _ in range(8)] + [rpc(endpoint, pb.ModelSpec(name="m")) for _ in range(4)]
        with ThreadPoolExecutor(len(asks)) as pool:
            counts = [pool.submit(until_closed, ask) for ask in asks]
            log = [rest(endpoint, "m")() for _ in range(100)]
            running.process.send_signal(signal.SIGTERM)
            answered = sum(count.result(20) for count in counts)
        assert running.ended() == 0
        assert len(log) == 100
        assert answered > 50
        # gRPC's core cancels calls that arrive between the end and the client's notice of it.
        assert set(ended) <= {"ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError", "RemoteDisconnected",
                              "UNAVAILABLE", "CANCELLED"}
        assert "Traceback" not in running.log.read_text()


def test_servers_that_ended_leave_nothing_behind() -> None:
    process = psutil.Process()

    def once() -> None:
        with serve({"m": {1: None}}, options=Options(enable_batching=True)) as running:
            assert rest(running.endpoint, "m")() == 0.0
            assert rpc(running.endpoint, pb.ModelSpec(name="m"))() == 0.0

    def state() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), process.num_fds()

    once()
    threads, files = state()
    for _ in range(10):
        once()
    assert poll(lambda: state()[0] <= threads + 2 or None, Deadline(10)), [t.name for t in threading.enumerate()]
    assert state()[1] <= files + 6


def test_running_is_what_the_name_says(tmp_path: Path) -> None:
    """Open files and threads of a process stay the same while connections come and go."""
    echoable(tmp_path / "m", 1)
    with server(tmp_path, "--tfs_loader=echo", "--model_name=m", f"--model_base_path={tmp_path}/m") as running:
        endpoint, process = Endpoint("127.0.0.1", running.port, running.rest_port), psutil.Process(running.process.pid)

        def round_() -> tuple[int, int]:
            for _ in range(30):
                assert rest(endpoint, "m")() == 0.0
                assert running.grpc(methods.GET_MODEL_STATUS, pb.GetModelStatusRequest(
                    model_spec=pb.ModelSpec(name="m")), pb.GetModelStatusResponse)
            gc.collect()
            return process.num_threads(), process.num_fds()

        round_()
        threads, files = round_()
        for _ in range(5):
            round_()
        assert poll(lambda: process.num_fds() <= files + 3 or None, Deadline(10))
        assert process.num_threads() <= threads + 1
