"""The embedded server as a process on real models, and in this process on the echo loader."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from deploy.testing import Version, serve
from deploy.types import Latest, VersionState
from deploy.waiting import Deadline, poll
from deploy.wire import methods, tensors
from deploy.wire import serving_pb2 as pb
from deploy.wire.flags import Options
from tests.support.modelserver import ROOT, Process, echoable, is_open, publish, server
from tests.support.ports import free_ports

# -- on the engine


@pytest.fixture(scope="module")
def half(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    where = tmp_path_factory.mktemp("half")
    for name in ("half_plus_two", "two_signatures", "vocabulary", "classes", "fails", "dtypes", "loops"):
        shutil.copytree(models / name, where / name / "1")
    listed = "\n".join(f'config {{ name: "{p.name}" base_path: "{p}" model_platform: "tensorflow" }}'
                       for p in where.iterdir() if p.is_dir())
    config = where / "models.config"
    config.write_text(f"model_config_list {{ {listed} }}")
    with server(where, f"--model_config_file={config}") as running:
        yield running


@pytest.mark.tensorflow
def test_predict_over_rest(half: Process) -> None:
    assert half.rest("/v1/models/half_plus_two:predict", {"instances": [1.0, 2.0]}) == (
        200, {"predictions": [2.5, 3.0]})
    assert half.rest("/v1/models/half_plus_two/versions/1:predict", {"inputs": {"x": [1.0]}}) == (
        200, {"outputs": [2.5]})
    status, reply = half.rest("/v1/models/two_signatures:predict", {
        "signature_name": "scale", "inputs": {"x": [[1, 2, 3]], "factor": 2}})
    assert (status, reply) == (200, {"outputs": {"scaled": [[2.0, 4.0, 6.0]], "total": [6.0]}})
    assert half.rest("/v1/models/vocabulary:predict", {"instances": ["fox", "cat"]}) == (200, {"predictions": [3, -1]})


@pytest.mark.tensorflow
def test_a_long_run_holds_up_nobody(half: Process) -> None:
    """Although all before it were short."""

    def over_rest(times: int) -> object:
        return half.rest("/v1/models/loops:predict", {"inputs": times})

    def over_grpc(times: int) -> object:
        request = pb.PredictRequest(model_spec=pb.ModelSpec(name="loops"))
        request.inputs["times"].CopyFrom(tensors.encode(np.int64(times)))
        return half.grpc(methods.PREDICT, request, pb.PredictResponse)

    for count in (over_rest, over_grpc):
        for _ in range(50):
            count(1)
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(count, 1_000_000)
            for _ in range(50):
                assert half.rest("/v1/models/half_plus_two:predict", {"instances": [1.0]})[0] == 200
            assert not long.done()
            long.result(60)


@pytest.mark.tensorflow
def test_predict_over_grpc(half: Process) -> None:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"))
    request.inputs["x"].CopyFrom(tensors.encode(np.array([1, 2], np.float32)))
    reply = half.grpc(methods.PREDICT, request, pb.PredictResponse)
    assert tensors.decode(reply.outputs["y"]).tolist() == [2.5, 3.0]
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (1, "serving_default")
    assert list(reply.outputs["y"].float_val) == [2.5, 3.0]


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
                                   "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128", "string"])
def test_every_dtype_over_grpc(half: Process, dtype: str) -> None:
    values = [b"a", b""] if dtype == "string" else [1, 0]
    array = np.array(values, dtype=tensors.numpy_dtype(dtype))
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="dtypes", signature_name=dtype))
    request.inputs["x"].CopyFrom(tensors.encode(array))
    answered = tensors.decode(half.grpc(methods.PREDICT, request, pb.PredictResponse).outputs["y"])
    assert (answered.dtype, answered.tolist()) == (array.dtype, array.tolist())


@pytest.mark.tensorflow
def test_examples(half: Process) -> None:
    assert half.rest("/v1/models/classes:classify", {"examples": [{"x": 0.25}]}) == (
        200, {"results": [[["yes", 0.25], ["no", 0.75]]]})
    assert half.rest("/v1/models/classes:regress", {"signature_name": "regress", "examples": [{"x": 1.5}]}) == (
        200, {"results": [3.0]})


@pytest.mark.tensorflow
def test_errors(half: Process) -> None:
    assert half.rest("/v1/models/nope:predict", {"instances": [1]}) == (
        404, {"error": "Servable not found for request: Latest(nope)"})
    status, reply = half.rest("/v1/models/fails:predict", {"instances": [-1.0]})
    assert status == 400
    assert "negative input" in reply["error"]
    with pytest.raises(grpc.RpcError) as caught:
        half.grpc(methods.PREDICT, pb.PredictRequest(model_spec=pb.ModelSpec(name="nope")), pb.PredictResponse)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.tensorflow
def test_metadata_and_status(half: Process) -> None:
    status, reply = half.rest("/v1/models/two_signatures/metadata")
    assert status == 200
    assert set(reply["metadata"]["signature_def"]["signature_def"]) >= {"serving_default", "scale"}
    assert half.rest("/v1/models/two_signatures") == (200, {"model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]})


@pytest.mark.tensorflow
def test_a_new_version_takes_over(models: Path, tmp_path: Path) -> None:
    base = tmp_path / "half"
    publish(models / "half_plus_two", base, 1)
    with server(tmp_path, "--model_name=half", f"--model_base_path={base}") as running:
        publish(models / "half_plus_three", base, 2)

        def answered() -> bool | None:
            status, reply = running.rest("/v1/models/half:predict", {"instances": [2.0]})
            assert status == 200
            return reply == {"predictions": [4.0]} or None

        assert poll(answered, Deadline(30))
        assert poll(lambda: running.rest("/v1/models/half/versions/1:predict", {"instances": [2.0]})[0] == 404 or None,
                    Deadline(30))


# -- the process, on the echo loader


def test_sigterm_ends_it_at_once_or_drains(tmp_path: Path) -> None:
    echoable(tmp_path / "m", 1)
    flags = ("--tfs_loader=echo", "--model_name=m", f"--model_base_path={tmp_path}/m")
    for extra, code in (((), -signal.SIGTERM), (("--tfs_drain_seconds=5",), 0)):
        with server(tmp_path, *flags, *extra) as running:
            running.process.terminate()
            assert running.ended() == code


def test_a_taken_rest_port_is_only_fatal_by_flag(tmp_path: Path) -> None:
    echoable(tmp_path / "m", 1)
    flags = ("--tfs_loader=echo", f"--model_base_path={tmp_path}/m")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        rest = f"--rest_api_port={taken.getsockname()[1]}"
        with server(tmp_path, *flags, rest, rest=False) as running:
            assert poll(lambda: "Failed to start HTTP Server" in running.log.read_text() or None, Deadline(30))
        with server(tmp_path, *flags, rest, "--tfs_fail_on_taken_port", rest=False, wait=False) as running:
            assert running.ended() == 255


def test_two_servers_share_a_grpc_port_unless_told_not_to(tmp_path: Path) -> None:
    echoable(tmp_path / "m", 1)
    flags = ("--tfs_loader=echo", f"--model_base_path={tmp_path}/m")
    with server(tmp_path, *flags) as first:
        with server(tmp_path, *flags, f"--port={first.port}") as second:
            assert second.process.poll() is None
        with server(tmp_path, *flags, f"--port={first.port}", "--tfs_fail_on_taken_port", wait=False) as third:
            assert third.ended() == 255
            assert "Failed to BuildAndStart gRPC server" in third.log.read_text()


def test_ports_open_when_all_models_are_there(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with server(tmp_path, "--tfs_loader=echo", f"--model_base_path={tmp_path}/m", wait=False) as running:
        assert poll(lambda: "No versions of servable default found" in running.log.read_text() or None, Deadline(30))
        assert not is_open(running.port)
        echoable(tmp_path / "m", 3)
        running.wait_open(running.rest_port)
        assert running.rest("/v1/models/default:predict", {"instances": [1.0]}) == (200, {"predictions": [1.0]})


def test_a_polled_config_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        echoable(tmp_path / name, 1)
    config = tmp_path / "models.config"

    def write(name: str) -> None:
        stage = tmp_path / "stage"
        stage.write_text(f'model_config_list {{ config {{ name: "{name}" base_path: "{tmp_path}/{name}" '
                         'model_platform: "tensorflow" } }')
        stage.rename(config)

    write("a")
    with server(tmp_path, "--tfs_loader=echo", f"--model_config_file={config}",
                "--model_config_file_poll_wait_seconds=1") as running:
        write("b")
        assert poll(lambda: running.rest("/v1/models/b:predict", {"instances": [1]})[0] == 200 or None, Deadline(30))
        assert poll(lambda: running.rest("/v1/models/a:predict", {"instances": [1]})[0] == 404 or None, Deadline(30))


@pytest.mark.parametrize(("flags", "text"), [
    (["--port=x"], "usage: "),
    (["--help"], "usage: "),
    ([], "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path"),
    (["--model_base_path=/tmp", "--tfs_loader=none"], "there are 'engine' and 'echo'"),
])
def test_starts_that_fail(tmp_path: Path, flags: list[str], text: str) -> None:
    with server(tmp_path, *flags, wait=False) as running:
        assert running.ended() == 255
        assert text in running.log.read_text()


@pytest.mark.parametrize(("flags", "config", "text"), [
    (["--num_load_threads=-1"], "", "num_threads >= 0 (-1 vs. 0): --num_load_threads=-1 is too low"),
    (["--num_unload_threads=-2"], "", "--num_unload_threads=-2 is too low"),
    (["--grpc_max_threads=0"], "", "--grpc_max_threads=0 is too low"),
    (["--rest_api_num_threads=0"], "", "--rest_api_num_threads=0 is too low"),
    ([], 'custom_model_config { type_url: "a/b" }', "ModelServer does not yet support custom model config."),
])
def test_starts_that_are_aborted(tmp_path: Path, flags: list[str], config: str, text: str) -> None:
    """Where the real server fails a check, which ends it with SIGABRT."""
    (tmp_path / "models.config").write_text(config)
    with server(tmp_path, "--tfs_loader=echo", f"--model_config_file={tmp_path}/models.config", *flags,
                wait=False) as running:
        assert running.ended() == -signal.SIGABRT
        assert text in running.log.read_text()


def test_the_only_thread_for_grpc_polls(tmp_path: Path) -> None:
    """So every call is refused, as by the real server."""
    echoable(tmp_path / "m", 1)
    with (server(tmp_path, "--tfs_loader=echo", "--model_name=m", f"--model_base_path=file://{tmp_path}/m",
                 "--grpc_max_threads=1") as running, grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel):
        assert running.rest("/v1/models/m:predict", {"instances": [1]})[0] == 200
        ask = channel.unary_unary(methods.GET_MODEL_STATUS, lambda m: m.SerializeToString(),
                                  pb.GetModelStatusResponse.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            ask(pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="m")), timeout=20)
        assert caught.value.details() == "Server Threadpool Exhausted"


def test_of_a_rest_port_16_bits_count(tmp_path: Path) -> None:
    echoable(tmp_path / "m", 1)
    (port,) = free_ports(1)
    with server(tmp_path, "--tfs_loader=echo", "--model_name=m", f"--model_base_path={tmp_path}/m",
                f"--rest_api_port={port + (1 << 16)}", wait=False) as running:
        running.wait_open(port)


def test_a_config_file_that_cant_be_parsed_is_told_on_stderr(tmp_path: Path) -> None:
    """In protobuf's words, which tools look for there; the real server's own are on stdout."""
    file = tmp_path / "models.config"
    file.write_text("improperly formatted")
    done = subprocess.run([sys.executable, "-m", "deploy.modelserver", f"--model_config_file={file}"], cwd=ROOT,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: " in done.stderr
    assert "Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: " in done.stdout


def test_of_two_servers_on_one_unix_socket_the_later_one_answers(tmp_path: Path) -> None:
    (tmp_path / "half" / "1").mkdir(parents=True)
    (tmp_path / "half" / "1" / "saved_model.pb").touch()
    common = [f"--model_base_path={tmp_path / 'half'}", f"--grpc_socket_path={tmp_path / 's'}", "--tfs_loader=echo"]
    with (server(tmp_path, "--model_name=first", *common), server(tmp_path, "--model_name=second", *common),
          grpc.insecure_channel(f"unix:{tmp_path / 's'}") as channel):
        ask = channel.unary_unary(methods.GET_MODEL_STATUS, lambda m: m.SerializeToString(),
                                  pb.GetModelStatusResponse.FromString)
        assert len(ask(pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="second"))).model_version_status) == 1


def test_version_flag() -> None:
    shown = subprocess.run([sys.executable, "-m", "deploy.modelserver", "--version"], cwd=ROOT, capture_output=True,
                           text=True, check=True).stdout
    assert re.fullmatch(r"TensorFlow ModelServer: \S+\+tfs-deploy\nTensorFlow Library: \S+\n", shown)


def test_the_echo_process_needs_no_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echoable(tmp_path / "m", 1)
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with server(tmp_path, "--tfs_loader=echo", f"--model_base_path={tmp_path}/m") as running:
        assert running.rest("/v1/models/default:predict", {"instances": [1]})[0] == 200


# -- in this process


def ask(url: str, path: str, body: object = None) -> tuple[int, object]:
    try:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{url}{path}", data, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_serve_for_tests() -> None:
    with serve({"half": {1: lambda inputs: {"y": inputs["x"] / 2}}}, labels={"half": {"stable": 1}}) as running:
        url = running.endpoint.rest_url
        assert ask(url, "/v1/models/half:predict", {"instances": [3]}) == (200, {"predictions": [1.5]})
        running.publish("half", 2, lambda inputs: {"y": inputs["x"] * 2})
        assert ask(url, "/v1/models/half:predict", {"instances": [3]}) == (200, {"predictions": [6.0]})
        assert ask(url, "/v1/models/half/labels/stable:predict", {"instances": [3]}) == (200, {"predictions": [1.5]})
        running.break_version("half", 3, "no luck")
        running.remove("half", 1)
        assert [(s.version, s.state, s.error) for s in running.statuses("half")] == [
            (3, VersionState.END, "no luck"), (2, VersionState.AVAILABLE, ""), (1, VersionState.END, "")]


def test_stopping_finishes_what_runs() -> None:
    started, go = threading.Event(), threading.Event()

    def slow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        started.set()
        go.wait(10)
        return {"y": inputs["x"]}

    with serve({"m": {1: slow}}) as running, ThreadPoolExecutor(2) as pool:
        answer = pool.submit(ask, running.endpoint.rest_url, "/v1/models/m:predict", {"instances": [1]})
        assert started.wait(10)
        stopped = pool.submit(running._server.stop, 10.0)
        assert poll(lambda: not is_open(running.endpoint.rest_port) or None, Deadline(10))
        go.set()
        assert answer.result(10) == (200, {"predictions": [1.0]})
        stopped.result(10)


def test_a_request_holds_its_version_while_it_runs() -> None:
    started, go = threading.Event(), threading.Event()

    def slow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        started.set()
        go.wait(10)
        return {"y": inputs["x"]}

    with serve({"m": {1: slow}}, versions=Latest(1)) as running, ThreadPoolExecutor(2) as pool:
        url = running.endpoint.rest_url
        answer = pool.submit(ask, url, "/v1/models/m:predict", {"instances": [1]})
        assert started.wait(10)
        running.publish("m", 2)
        assert poll(lambda: running.statuses("m")[1].state is VersionState.UNLOADING or None, Deadline(10))
        assert ask(url, "/v1/models/m/versions/1:predict", {"instances": [1]})[0] == 404
        assert ask(url, "/v1/models/m:predict", {"instances": [1]})[0] == 200
        go.set()
        assert answer.result(10) == (200, {"predictions": [1.0]})
        assert poll(lambda: running.statuses("m")[1].state is VersionState.END or None, Deadline(10))


def test_a_new_version_that_fails_leaves_the_old_one() -> None:
    with serve({"m": {1: None}}, versions=Latest(1)) as running:
        running.break_version("m", 2)
        assert ask(running.endpoint.rest_url, "/v1/models/m:predict", {"instances": [1]}) == (
            200, {"predictions": [1.0]})
        running.publish("m", 3, Version())
        assert ask(running.endpoint.rest_url, "/v1/models/m/versions/3")[0] == 200


def test_a_late_reply_is_a_504() -> None:
    go = threading.Event()

    def slow(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        go.wait(10)
        return {"y": inputs["x"]}

    with serve({"m": {1: slow}}, options=Options(rest_api_timeout_in_ms=50)) as running:
        assert ask(running.endpoint.rest_url, "/v1/models/m:predict", {"instances": [1]}) == (
            504, {"error": "Timed out waiting for notification"})
        go.set()
        assert ask(running.endpoint.rest_url, "/v1/models/m")[0] == 200


def test_a_batch_without_rows_is_never_answered() -> None:
    """As by the real server; the client's deadline ends its wait, and nobody else's."""
    with serve({"m": {1: None}}, options=Options(enable_batching=True, grpc_max_threads=3)) as running:
        request = pb.PredictRequest(model_spec=pb.ModelSpec(name="m"))
        request.inputs["x"].CopyFrom(tensors.encode(np.empty(0, np.float32)))
        with grpc.insecure_channel(running.endpoint.grpc_target) as channel:
            call = channel.unary_unary(methods.PREDICT, lambda m: m.SerializeToString(), pb.PredictResponse.FromString)
            for _ in range(5):
                with pytest.raises(grpc.RpcError) as caught:
                    call(request, timeout=0.05)
                assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ask(running.endpoint.rest_url, "/v1/models/m:predict", {"inputs": [1, 2]}) == (200, {"outputs": [1, 2]})
