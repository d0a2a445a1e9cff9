"""The gRPC client against a small gRPC server in this process; TLS over both protocols."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from deploy import client
from deploy.client import Client
from deploy.client.rpc import RpcClient
from deploy.errors import BadReply, BadRequest, Rejected, TimedOut, Unreachable
from deploy.types import Contract, ModelVersion, Signature, TensorSpec, Tls
from deploy.waiting import Deadline, poll
from deploy.wire import methods, predict_codec
from deploy.wire import serving_pb2 as pb
from deploy.wire.contracts import contract_to_map, pack_signatures
from tests.support.tls import self_signed

X, Y = TensorSpec("x", "float32", (None,)), TensorSpec("y", "float32", (None,))
SIGNATURE = Signature("serving_default", (X,), (Y,))
Answer = Callable[[bytes, grpc.ServicerContext], bytes]


class Stub(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers with what `answers` holds for a method; keeps methods, metadata and deadlines that it was asked with."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        self.answers: dict[str, Answer] = {methods.GET_MODEL_METADATA: self.tell_metadata, methods.PREDICT: double}
        self.asked: list[str] = []
        self.metadata: dict[str, str] = {}
        self.remaining: float | None = None
        self.contract = Contract((SIGNATURE,))
        self.server = grpc.server(ThreadPoolExecutor(4), handlers=[self], options=[
            ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        self.port = (self.server.add_secure_port(f"127.0.0.1:{port}", credentials) if credentials
                     else self.server.add_insecure_port(f"127.0.0.1:{port}"))
        self.target = f"127.0.0.1:{self.port}"
        self.server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.asked.append(details.method.rpartition("/")[2])
            self.metadata = dict(context.invocation_metadata())
            self.remaining = context.time_remaining()
            return self.answers[details.method](request, context)

        return grpc.unary_unary_rpc_method_handler(answer) if details.method in self.answers else None

    def tell_metadata(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        reply = pb.GetModelMetadataResponse()
        reply.model_spec.name, reply.model_spec.version.value = "m", 3
        reply.metadata["signature_def"].CopyFrom(pack_signatures(contract_to_map(self.contract)))
        return reply.SerializeToString()


def double(request: bytes, _: grpc.ServicerContext) -> bytes:
    asked, inputs = predict_codec.read_predict_request(request)
    asked.model_spec.version.value = 3
    return predict_codec.write_predict_response(asked.model_spec, {"y": inputs["x"] * 2})


def failing(code: grpc.StatusCode, text: str = "why") -> Answer:
    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, text)
        raise AssertionError

    return answer


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.server.stop(None).wait()


@pytest.fixture
def rpc(stub: Stub) -> Iterator[RpcClient]:
    with RpcClient(stub.target, timeout=5, attempts=1) as made:
        yield made


def test_predict(stub: Stub, rpc: RpcClient) -> None:
    for _ in range(3):
        answer = rpc.predict("m@stable", [1, 2], timeout=3)
        assert answer["y"].tolist() == [2, 4] and answer["y"].dtype == np.float32
        assert answer.model_version == ModelVersion("m", 3)
    assert stub.asked == ["GetModelMetadata", "Predict", "Predict", "Predict"]
    assert stub.remaining is not None and 2 < stub.remaining < 3.5


def test_without_checks_nothing_else_is_asked(stub: Stub) -> None:
    with RpcClient(stub.target, check=False) as rpc:
        assert rpc.predict("m", {"x": np.ones(2, "f4")})["y"].tolist() == [2, 2]
    assert stub.asked == ["Predict"]


def test_messages_of_any_size(rpc: RpcClient) -> None:
    big = np.ones(5_000_000, np.float32)
    assert rpc.predict("m", big, signature=SIGNATURE)["y"].shape == big.shape


def test_refusals(stub: Stub, rpc: RpcClient) -> None:
    for code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED):
        stub.answers[methods.PREDICT] = failing(code)
        with pytest.raises(Rejected) as caught:
            rpc.predict("m/7", [1.0], signature=SIGNATURE)
        assert (caught.value.code, caught.value.status) == (code.name, None)
        assert str(caught.value).startswith(f"predict of m/7 was refused by {stub.target} ({code.name}): why")
    stub.answers[methods.PREDICT] = failing(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(Rejected, match=r"takes x: float32\[\?\]"):
        rpc.predict("m", [1.0], signature=SIGNATURE)
    with pytest.raises(Rejected, match=r"UNIMPLEMENTED.*does a TensorFlow Serving server listen there"):
        rpc.status("m")


def test_only_a_missing_connection_is_tried_again(stub: Stub) -> None:
    tried = []

    def flaky(request: bytes, context: grpc.ServicerContext) -> bytes:
        tried.append(1)
        return failing(grpc.StatusCode.UNAVAILABLE)(request, context) if len(tried) == 1 else double(request, context)

    stub.answers[methods.PREDICT] = flaky
    with RpcClient(stub.target, attempts=2) as rpc:
        assert rpc.predict("m", [1.0], signature=SIGNATURE)["y"].tolist() == [2]
    reloads = []

    def unavailable(request: bytes, context: grpc.ServicerContext) -> bytes:
        reloads.append(1)
        return failing(grpc.StatusCode.UNAVAILABLE)(request, context)

    stub.answers[methods.HANDLE_RELOAD_CONFIG_REQUEST] = unavailable
    with RpcClient(stub.target, attempts=5) as rpc, pytest.raises(Unreachable):
        rpc.reload(pb.ModelServerConfig())
    assert len(reloads) == 1


def test_a_call_that_got_no_thread_never_ran_so_it_is_sent_again(stub: Stub) -> None:
    """As a server with --grpc_max_threads at work says it: whatever the call, and however few attempts it has."""
    left = {"Predict": 3, "GetModelMetadata": 2, "HandleReloadConfigRequest": 2}

    def busy_before(method: str, then: Answer) -> Answer:
        name = method.rpartition("/")[2]

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            left[name] -= 1
            if left[name] >= 0:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            return then(request, context)

        return answer

    for method, then in ((methods.PREDICT, double), (methods.GET_MODEL_METADATA, stub.tell_metadata),
                         (methods.HANDLE_RELOAD_CONFIG_REQUEST, lambda *_: b"")):
        stub.answers[method] = busy_before(method, then)
    with RpcClient(stub.target, attempts=1, timeout=30) as rpc:
        assert rpc.predict("m", [1.0])["y"].tolist() == [2]
        rpc.reload(pb.ModelServerConfig())
    assert all(n == -1 for n in left.values())


def test_reload_looks_at_the_status_in_the_reply(stub: Stub, rpc: RpcClient) -> None:
    reply = pb.ReloadConfigResponse(status=pb.StatusProto(error_code=3, error_message="no such platform"))
    stub.answers[methods.HANDLE_RELOAD_CONFIG_REQUEST] = lambda *_: reply.SerializeToString()
    with pytest.raises(Rejected, match=r"reload was refused .* \(INVALID_ARGUMENT\): no such platform"):
        rpc.reload(pb.ModelServerConfig())


def test_a_hanging_reload_meets_its_deadline(stub: Stub, rpc: RpcClient) -> None:
    release = threading.Event()
    stub.answers[methods.HANDLE_RELOAD_CONFIG_REQUEST] = lambda *_: (release.wait(10), b"")[1]
    with pytest.raises(TimedOut, match=r"within 0\.1 s"):
        rpc.reload(pb.ModelServerConfig(), timeout=0.1)
    release.set()


def test_replies_that_are_none(stub: Stub, rpc: RpcClient) -> None:
    stub.answers.update({m: lambda *_: b"\xff\xff" for m in (methods.PREDICT, methods.GET_MODEL_STATUS)})
    for ask in (lambda: rpc.predict("m", [1.0], signature=SIGNATURE), lambda: rpc.status("m")):
        with pytest.raises(BadReply) as caught:
            ask()
        assert caught.value.endpoint == stub.target


def test_a_closed_client(rpc: RpcClient) -> None:
    rpc.close()
    rpc.close()
    with pytest.raises(BadRequest, match="closed"):
        rpc.status("m")


def test_a_server_that_comes_back_is_found_soon(stub: Stub) -> None:
    with RpcClient(stub.target, attempts=1) as rpc:
        assert rpc.metadata("m").version == 3
        stub.server.stop(None).wait()
        with pytest.raises(Unreachable, match="is the server running"):
            rpc.metadata("m")
        again = Stub(port=stub.port)
        found = poll(lambda: _version(rpc), Deadline(10))
        again.server.stop(None).wait()
        assert found == 3


def _version(rpc: RpcClient) -> int | None:
    try:
        return rpc.metadata("m", timeout=1).version
    except Unreachable:
        return None


def test_metadata_is_sent_and_never_shown(stub: Stub) -> None:
    with client.connect(stub.target, metadata=[("Authorization", "Bearer sesame")]) as made:
        made.metadata("m")
        assert "sesame" not in repr(made) + repr(vars(made.rpc))
    assert stub.metadata["authorization"] == "Bearer sesame"


# TLS

@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return self_signed(tmp_path_factory.mktemp("tls"))


def ask_both(target: str, trust: Tls) -> Any:
    with client.connect(target, tls=trust, attempts=1) as made:
        assert isinstance(made, Client)
        return made.status("m")


def test_grpc_over_tls(pems: Tls) -> None:
    assert pems.ca and pems.key
    pem, key = Path(pems.ca).read_bytes(), Path(pems.key).read_bytes()
    stub = Stub(grpc.ssl_server_credentials([(key, pem)], pem, require_client_auth=True))
    stub.answers[methods.GET_MODEL_STATUS] = lambda *_: b""
    try:
        assert ask_both(stub.target, pems) == []
        with pytest.raises(Unreachable):
            ask_both(stub.target, Tls())  # the system's authorities don't know it
    finally:
        stub.server.stop(None).wait()


def test_rest_over_tls(pems: Tls) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"model_version_status": []}')

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    assert pems.ca
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pems.ca, pems.key)
    context.load_verify_locations(pems.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        try:
            assert ask_both(url, pems) == []
            with pytest.raises(Unreachable, match=r"TLS: .*check the certificate authority"):
                ask_both(url, Tls())
        finally:
            server.shutdown()
            thread.join()


def test_a_connection_may_take_its_time(stub: Stub) -> None:
    """A far server, or a busy one: what answers the client's greeting comes half a second late."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def forward() -> None:
            here, _ = listener.accept()
            with here, socket.create_connection(("127.0.0.1", int(stub.target.rpartition(":")[2]))) as there:
                time.sleep(0.5)
                back = threading.Thread(target=pump, args=(there, here))
                back.start()
                pump(here, there)
                back.join()

        threading.Thread(target=forward, daemon=True).start()
        with RpcClient(f"127.0.0.1:{listener.getsockname()[1]}", attempts=1) as rpc:
            assert rpc.metadata("m").version == 3


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(("answer", "says"), [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1 answers there, as on TensorFlow Serving's REST port.*; give the"),
    (b"\x15\x03\x01\x00\x02\x02\x28", "; is the server running, .*does it want TLS"),  # an alert of TLS
    (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there doesn't speak gRPC; does a TensorFlow Serving server"),
])
def test_what_answers_something_else_than_grpc_is_told_in_a_sentence(answer: bytes, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def speak() -> None:
            with suppress(OSError):
                while True:
                    here, _ = listener.accept()
                    here.sendall(answer)
                    here.recv(1 << 16)
                    here.close()

        threading.Thread(target=speak, daemon=True).start()
        with client.connect(f"127.0.0.1:{listener.getsockname()[1]}", attempts=1) as asking, \
                pytest.raises(Unreachable, match=says):
            asking.status("m")
        listener.shutdown(socket.SHUT_RDWR)
