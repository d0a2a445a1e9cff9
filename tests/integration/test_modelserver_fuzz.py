"""Anything at all to the embedded server: REST, gRPC, configurations, files. The same inputs in each run.

It answers with the codes of the real one, stays alive, writes no tracebacks, and doesn't grow.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf.message import DecodeError, Message
from hpack import Encoder
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deploy.modelserver import config as configs
from deploy.modelserver.core import Core
from deploy.modelserver.echo import ANY, EchoModel, signature_defs
from deploy.modelserver.examples import Examples
from deploy.modelserver.lifecycle import Lifecycle
from deploy.modelserver.loader import Model
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.source import Poller
from deploy.modelserver.status import StatusError
from deploy.modelserver.warmup import FILE, WarmingLoader
from deploy.wire import config_pb2, methods, records
from deploy.wire import serving_pb2 as pb
from tests.support.modelserver import Process, server

bounded = partial(settings, derandomize=True, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))
MODELS = ("half_plus_two", "two_signatures", "vocabulary", "classes", "shapes", "dtypes", "fails")
DTYPES = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint64", "bool", "complex64", "string")


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    where = tmp_path_factory.mktemp("fuzz")
    listed = []
    for name in MODELS:
        shutil.copytree(models / name, where / name / "1")
        listed.append(f'config {{ name: "{name}" base_path: "{where / name}" model_platform: "tensorflow" }}')
    config = where / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(listed)} }}")
    with server(where, f"--model_config_file={config}", "--enable_grpc_healthcheck_service") as running:
        yield running
        assert running.process.poll() is None, "the server died"
        log = running.log.read_text(errors="replace")
        assert "Traceback" not in log, log
        assert len(log) < 20_000


def mutated(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """`data` with some places replaced: cuts: place in 1/1000, length, what comes there."""
    for place, length, new in cuts:
        at = len(data) * place // 1000
        data = data[:at] + new + data[at + length:]
    return data


CUTS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 4), st.binary(max_size=6)), min_size=1, max_size=4)

# -- REST

NUMBERS = st.sampled_from(["1", "-0", "1.5", "1e400", "1" * 50, "-" + "9" * 5000, "NaN", "-Infinity", "2147483648",
                           "1E", "0x1"])
SCALARS = NUMBERS | st.sampled_from(["null", "true", '"a"', '"\\ud800"', '"\\u0000"', '"\xff"', '{"b64": "aGk="}',
                                     '{"b64": "*"}'])
NAMES = st.sampled_from(["x", "factor", "words", "b64", "inputs", "x\\u0000", "\xff"])
VALUES = st.recursive(SCALARS, lambda inner: (
    st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    | st.lists(st.tuples(NAMES, inner), max_size=3).map(
        lambda pairs: "{" + ", ".join(f'"{k}": {v}' for k, v in pairs) + "}")), max_leaves=8)
KEYS = st.sampled_from(["instances", "inputs", "examples", "context", "signature_name", "other"])
BODIES = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3).map(
    lambda pairs: ("{" + ", ".join(f'"{k}": {v}' for k, v in pairs) + "}").encode("latin-1"))
PATHS = st.builds("/v1/models/{}{}{}".format, st.sampled_from([*MODELS, "nope", "a%00b", "m" * 300]),
                  st.sampled_from(["", "/versions/1", "/versions/-1", f"/versions/{'9' * 30}", "/labels/x",
                                   "/labels/"]),
                  st.sampled_from([":predict", ":classify", ":regress", ":PREDICT", "/metadata", "", ":", "?x=1"]))


@pytest.mark.tensorflow
@bounded(max_examples=600)
@given(st.sampled_from(MODELS), st.sampled_from(["predict", "classify", "regress"]), BODIES)
def test_rest_bodies(served: Process, model: str, verb: str, body: bytes) -> None:
    status, reply = rest(served, "POST", f"/v1/models/{model}:{verb}", body)
    assert status in (200, 400, 501), (body, status, reply)
    assert status == 200 or set(json.loads(reply.decode("latin-1"))) == {"error"}


@pytest.mark.tensorflow
@bounded(max_examples=200)
@given(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"]), PATHS, st.dictionaries(
    st.sampled_from(["Content-Encoding", "Content-Type", "Expect", "Connection", "X"]),
    st.sampled_from(["gzip", "x", "100-continue", "close", "upgrade", "\xff", ""]), max_size=3))
def test_rest_paths_and_headers(served: Process, method: str, path: str, headers: dict[str, str]) -> None:
    status, _ = rest(served, method, path, b'{"instances": [1]}', headers)
    assert status in (200, 400, 404, 501)


@pytest.mark.tensorflow
@bounded(max_examples=250)
@given(CUTS, st.booleans())
def test_http(served: Process, cuts: list[tuple[int, int, bytes]], chunked: bool) -> None:
    """Every connection ends after the client has ended its side, with replies or without."""
    head = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: a\r\n"
    request = (head + b"Transfer-Encoding: chunked\r\n\r\n12\r\n{\"instances\": [1]}\r\n0\r\n\r\n" if chunked else
               head + b"Content-Length: 18\r\n\r\n{\"instances\": [1]}")
    with socket.create_connection(("127.0.0.1", served.rest_port), 10) as client, suppress(ConnectionError):
        client.sendall(mutated(request * 2, cuts))
        client.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(partial(client.recv, 65536), b""))
        assert b"HTTP/1.1 500" not in reply
        assert not reply or reply.startswith(b"HTTP/1.1 ")


def rest(served: Process, method: str, path: str, body: bytes,
         headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.rest_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


# -- gRPC

GOOD = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED)
REQUESTS: dict[str, type[Message]] = {
    methods.PREDICT: pb.PredictRequest, methods.CLASSIFY: pb.ClassificationRequest,
    methods.REGRESS: pb.RegressionRequest, methods.MULTI_INFERENCE: pb.MultiInferenceRequest,
    methods.GET_MODEL_METADATA: pb.GetModelMetadataRequest, methods.GET_MODEL_STATUS: pb.GetModelStatusRequest,
}
DIMENSIONS = st.sampled_from([0, 1, 2, 3, 3, -1, -(2**63), 2**31, 2**40, 2**62, 2**63 - 1])


@pytest.fixture(scope="module")
def channel(served: Process) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as opened:
        yield opened


def code(channel: grpc.Channel, method: str, payload: bytes) -> tuple[grpc.StatusCode, str]:
    try:
        channel.unary_unary(method)(payload, timeout=20)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def good_requests() -> dict[str, bytes]:
    spec = pb.ModelSpec(name="classes")
    predict = pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two"), output_filter=["y"])
    predict.inputs["x"].dtype = 1
    predict.inputs["x"].tensor_shape.dim.add(size=2)
    predict.inputs["x"].tensor_content = bytes(8)
    asked = pb.Input()
    asked.example_list.examples.add().features.feature["x"].float_list.value.append(0.5)
    tasks = [pb.InferenceTask(model_spec=spec, method_name="tensorflow/serving/classify")]
    return {
        methods.PREDICT: predict.SerializeToString(),
        methods.CLASSIFY: pb.ClassificationRequest(model_spec=spec, input=asked).SerializeToString(),
        methods.REGRESS: pb.RegressionRequest(model_spec=pb.ModelSpec(name="classes", signature_name="regress"),
                                              input=asked).SerializeToString(),
        methods.MULTI_INFERENCE: pb.MultiInferenceRequest(tasks=tasks, input=asked).SerializeToString(),
        methods.GET_MODEL_METADATA: pb.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]).SerializeToString(),
        methods.GET_MODEL_STATUS: pb.GetModelStatusRequest(model_spec=spec).SerializeToString(),
    }


@pytest.mark.tensorflow
def test_the_requests_that_get_damaged_are_good(channel: grpc.Channel) -> None:
    for method, payload in good_requests().items():
        assert code(channel, method, payload) == (grpc.StatusCode.OK, "")


@pytest.mark.tensorflow
@bounded(max_examples=600)
@given(st.sampled_from(sorted(REQUESTS)), CUTS)
def test_grpc_bytes(channel: grpc.Channel, method: str, cuts: list[tuple[int, int, bytes]]) -> None:
    payload = mutated(good_requests()[method], cuts)
    try:
        REQUESTS[method].FromString(payload)
    except DecodeError:
        assert code(channel, method, payload)[0] is grpc.StatusCode.INTERNAL
    else:
        answered, details = code(channel, method, payload)
        assert answered in GOOD, (payload, answered, details)


@pytest.mark.tensorflow
@bounded(max_examples=100)
@given(st.sampled_from(["/grpc.health.v1.Health/Check", methods.HANDLE_RELOAD_CONFIG_REQUEST, "/nope", "/a/b\xe4"]),
       st.binary(max_size=12))
def test_other_methods(channel: grpc.Channel, method: str, payload: bytes) -> None:
    with suppress(DecodeError):  # a reload that could be carried out would change what is served
        assume(not pb.ReloadConfigRequest.FromString(payload).config.HasField("model_config_list"))
    answered, details = code(channel, method, payload)
    assert answered in GOOD or (answered is grpc.StatusCode.INTERNAL and not details)


def http2(payload: bytes) -> bytes:
    """A client's side of a connection with two calls of Predict."""
    def frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
        return len(content).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + content

    headers = Encoder().encode([(":method", "POST"), (":scheme", "http"), (":path", methods.PREDICT),
                                (":authority", "a"), ("te", "trailers"), ("content-type", "application/grpc"),
                                ("grpc-timeout", "5S"), ("x", "y" * 200)])
    body = b"\0" + len(payload).to_bytes(4, "big") + payload
    calls = b"".join(frame(1, 0, number, headers[:50]) + frame(9, 4, number, headers[50:]) + frame(0, 1, number, body)
                     for number in (1, 3))
    return (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\0\x04\0\0\xff\xff") + calls
            + frame(6, 0, 0, bytes(8)) + frame(8, 0, 0, bytes((0, 0, 1, 0))) + frame(3, 0, 1, bytes(4)))


@pytest.mark.tensorflow
@bounded(max_examples=400)
@given(CUTS)
def test_http2(served: Process, cuts: list[tuple[int, int, bytes]]) -> None:
    """Every connection ends after the client has ended its side."""
    with socket.create_connection(("127.0.0.1", served.port), 10) as client, suppress(ConnectionError):
        client.sendall(mutated(http2(good_requests()[methods.PREDICT]), cuts))
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


TENSORS = st.fixed_dictionaries({
    "dtype": st.sampled_from([*range(26), 101, 107, 2**31 - 1, -1]),
    "tensor_content": st.sampled_from([b"", b"", bytes(4), bytes(24), b"\xff" * 20, b"\x01a", b"\x80" * 11]),
    "float_val": st.sampled_from([[], [1.0], [1.0] * 7]), "string_val": st.sampled_from([[], [b"a"], [b"\xff"] * 7]),
    "int_val": st.sampled_from([[], [-1], [2**31 - 1] * 3]), "half_val": st.sampled_from([[], [2**31 - 1]]),
    "scomplex_val": st.sampled_from([[], [1.0] * 3]), "bool_val": st.sampled_from([[], [True] * 3]),
})
TARGETS = st.sampled_from([("half_plus_two", "", "x"), ("two_signatures", "scale", "factor"),
                           ("vocabulary", "", "words"),
                           ("shapes", "unknown_rank", "x"), ("shapes", "unknown_dims", "x"),
                           ("shapes", "scalar_out", "x"), *(("dtypes", dtype, "x") for dtype in DTYPES)])


@pytest.mark.tensorflow
@bounded(max_examples=1000)
@given(TARGETS, TENSORS, st.lists(DIMENSIONS, max_size=4) | st.just([1] * 70) | st.just([1] * 300), st.booleans())
def test_odd_tensors(channel: grpc.Channel, target: tuple[str, str, str], fields: dict[str, object], shape: list[int],
                     unknown: bool) -> None:
    model, signature, alias = target
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=model, signature_name=signature))
    request.inputs[alias].MergeFrom(pb_tensor(fields, shape, unknown))
    answered, details = code(channel, methods.PREDICT, request.SerializeToString())
    assert answered in GOOD, (request, answered, details)


def pb_tensor(fields: dict[str, object], shape: list[int], unknown: bool) -> Message:
    tensor = type(pb.PredictRequest().inputs["x"])(**fields)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_shape.unknown_rank = unknown and not shape
    return tensor


@pytest.mark.tensorflow
def test_bad_requests_leave_no_memory_behind(served: Process, channel: grpc.Channel) -> None:
    """The last test here: everything is warm by now."""
    process = psutil.Process(served.process.pid)
    bodies = [b'{"instances": [' + b"1," * n + b"x]}" for n in range(0, 2000, 100)]

    def round_of(number: int) -> None:
        for body in bodies:
            assert rest(served, "POST", "/v1/models/half_plus_two:predict", body)[0] == 400
            assert rest(served, "POST", f"/v1/models/no{number}-{len(body)}:predict", body)[0] in (400, 404)
        for method, payload in good_requests().items():
            code(channel, method, payload[:-3])
            code(channel, method, payload + b"\xff" * 20_000)

    for number in range(10):
        round_of(number)
    before, threads, files = process.memory_info().rss, process.num_threads(), process.num_fds()
    for number in range(10, 40):
        round_of(number)
    assert process.memory_info().rss - before < 12 << 20
    assert process.num_threads() <= threads + 1
    assert process.num_fds() <= files + 2


# -- configurations and files


class Echoes:
    """A loader whose versions need no files."""

    def load(self, name: str, version: int, path: str) -> Model:
        return EchoModel(signature_defs(ANY))


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    lifecycle = Lifecycle(Echoes())
    made = Core(lifecycle, Poller(lifecycle, 0.001, lambda models: {m.name: {1: "/m"} for m in models}))
    yield made
    made.close()


CONFIG = '''model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } } version_labels { key: "stable" value: 1 } }
    config { name: "n" base_path: "memory://n" model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 2 } } } }'''


@bounded(max_examples=400)
@given(CUTS)
def test_config_texts(core: Core, tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int, bytes]]) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.config"
    file.write_bytes(mutated(CONFIG.encode(), cuts))
    with suppress(StatusError):
        core.reload(configs.read_text_proto(str(file), config_pb2.ModelServerConfig))


MODEL_CONFIGS = st.builds(
    dict, name=st.sampled_from(["m", "n", "", "a\0b", "\ufffd", "m" * 5000]),
    base_path=st.sampled_from(["/m", "relative", "", "/a\0b", "memory://x", "/" + "a" * 5000]),
    model_platform=st.sampled_from(["tensorflow", "tensorflow", "", "other"]),
    model_type=st.sampled_from([0, 0, 1, 2]),
    version_labels=st.dictionaries(st.sampled_from(["a", "", "b\0"]), st.integers(-(2**63), 2**63 - 1), max_size=2))


@bounded(max_examples=400)
@given(st.lists(MODEL_CONFIGS, max_size=3), st.booleans())
def test_config_messages(core: Core, models: list[dict[str, object]], logged: bool) -> None:
    config = config_pb2.ModelServerConfig()
    config.model_config_list.SetInParent()
    for fields in models:
        made = config.model_config_list.config.add(**fields)
        if logged:
            made.logging_config.SetInParent()
    with suppress(StatusError):
        core.reload(config)


def good_log() -> bytes:
    log = pb.PredictionLog()
    log.predict_log.request.model_spec.name = "m"
    log.predict_log.request.inputs["x"].dtype = 1
    log.predict_log.request.inputs["x"].float_val.append(1)
    return log.SerializeToString()


@bounded(max_examples=400)
@given(CUTS, CUTS)
def test_warmup_files(tmp_path_factory: pytest.TempPathFactory, inside: list[tuple[int, int, bytes]],
                      outside: list[tuple[int, int, bytes]]) -> None:
    version = tmp_path_factory.getbasetemp() / "fuzzed" / "1"
    file = version / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    records.write(file, [good_log(), mutated(good_log(), inside)])
    loader = WarmingLoader(Echoes(), Examples(), Metrics())
    with suppress(StatusError):
        loader.load("m", 1, str(version)).close()
    file.write_bytes(mutated(file.read_bytes(), outside))
    with suppress(StatusError):
        loader.load("m", 1, str(version)).close()


def test_a_record_that_claims_to_be_endless(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.parent.mkdir(parents=True)
    length = struct.pack("<Q", 2**60)
    file.write_bytes(length + records.checksum(length) + b"abc")
    with pytest.raises(StatusError, match="corrupted record at 0"):
        WarmingLoader(Echoes(), Examples(), Metrics()).load("m", 1, str(tmp_path))


DAMAGE = """
import random, sys
from pathlib import Path
from deploy import engine
from deploy.modelserver.loader import EngineLoader
from deploy.modelserver.status import StatusError
engine.quiet()
source, version, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
data, chance, loaded = source.read_bytes(), random.Random(7), 0
for number in range(count):
    damaged = bytearray(data[:chance.randrange(len(data))] if number % 4 == 0 else data)
    for _ in range(chance.randrange(1, 20)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256) if damaged else 0
    (version / "saved_model.pb").write_bytes(damaged)
    try:
        model = EngineLoader().load("m", 1, str(version))
    except StatusError:
        continue
    loaded += 1
    model.close()
print(loaded)
"""


@pytest.mark.tensorflow
def test_damaged_models(models: Path, tmp_path: Path) -> None:
    version = tmp_path / "1"
    shutil.copytree(models / "half_plus_two", version)
    done = subprocess.run([sys.executable, "-c", DAMAGE, str(models / "half_plus_two" / "saved_model.pb"), str(version),
                           "60"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 60
