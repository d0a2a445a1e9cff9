"""The REST client against a small HTTP server in this process."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from deploy import client
from deploy.client import Client, snippets
from deploy.client.rest import RestClient
from deploy.errors import BadReply, BadRequest, Rejected, SpecError, TimedOut, Unreachable
from deploy.types import Endpoint, ModelRef, Signature, TensorSpec, Tls, VersionState

X = TensorSpec("x", "float32", (None,))
SIGNATURE = Signature("serving_default", (X,), (TensorSpec("y", "float32", (None,)),))
Answer = tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], None]


def metadata(output: str = "y", dtype: str = "DT_FLOAT", version: str = "3") -> bytes:
    def tensor(kind: str) -> dict[str, Any]:
        shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
        return {"name": "t:0", "dtype": kind, "tensor_shape": shape}

    signature = {"inputs": {"x": tensor("DT_FLOAT")}, "outputs": {output: tensor(dtype)},
                 "method_name": "tensorflow/serving/predict", "defaults": {}}
    return json.dumps({"model_spec": {"name": "m", "version": version, "signature_name": ""}, "metadata": {
        "signature_def": {"signature_def": {"serving_default": signature}}}}).encode()


class Stub(ThreadingHTTPServer):
    """Answers what `answers` holds for a path, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answers = self.server.answers.get(self.path, [(404, b'{"error": "no such path"}')])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer(self)
            return
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(answer[1])))
        self.end_headers()
        self.wfile.write(answer[1])

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def rest(stub: Stub) -> Iterator[RestClient]:
    with RestClient(stub.url, timeout=5, attempts=1) as made:
        yield made


PREDICT, METADATA = "/v1/models/m:predict", "/v1/models/m/metadata"


def test_the_signature_is_asked_for_once(stub: Stub, rest: RestClient) -> None:
    stub.answers = {METADATA: [(200, metadata())], PREDICT: [(200, b'{"outputs": [2.5]}')]}
    for _ in range(3):
        assert rest.predict("m", [1.0])["y"].tolist() == [2.5]
    assert stub.paths() == [f"GET {METADATA}", *[f"POST {PREDICT}"] * 3]
    assert json.loads(stub.asked[1][3]) == {"signature_name": "serving_default", "inputs": {"x": [1.0]}}
    headers = stub.asked[1][2]
    assert headers["content-type"] == "application/json" and headers["user-agent"].startswith("tfs-deploy/")
    assert headers["accept-encoding"] == "identity"


def test_a_given_signature_spares_the_question(stub: Stub, rest: RestClient) -> None:
    stub.answers = {PREDICT: [(200, b'{"predictions": [2.5]}')]}
    assert rest.predict("m", [1.0], signature=SIGNATURE, form="row")["y"].dtype == np.float32
    assert stub.paths() == [f"POST {PREDICT}"]


def test_an_answer_that_does_not_fit_a_kept_signature_is_looked_at_again(stub: Stub, rest: RestClient) -> None:
    stub.answers = {METADATA: [(200, metadata()), (200, metadata("words", "DT_STRING", "4"))],
                    PREDICT: [(200, b'{"outputs": [2.5]}'), (200, b'{"outputs": ["a"]}')]}
    assert list(rest.predict("m", [1.0])) == ["y"]
    assert rest.predict("m", [1.0])["words"].tolist() == [b"a"]


def test_answers_that_fit_no_signature(stub: Stub, rest: RestClient) -> None:
    stub.answers = {METADATA: [(200, metadata())], PREDICT: [(200, b'{"outputs": ["a"]}')]}
    with pytest.raises(BadReply, match="expected float32, got JSON of type str") as caught:
        rest.predict("m", [1.0])
    assert caught.value.endpoint == stub.url and caught.value.ref == ModelRef("m")
    assert caught.value.details["call"] == f"predict of m at {stub.url}"


@pytest.mark.parametrize(("status", "body", "kind", "why"), [
    (400, b'{"error": "no batch"}', Rejected, r"400 INVALID_ARGUMENT\): no batch; signature .* takes x: float32\[\?\]"),
    (404, b'{"error": "gone"}', Rejected, "404 NOT_FOUND"), (404, b"<HTML>Not Found", Rejected, "<HTML>Not Found"),
    (400, b"", Rejected, "without a reason"), (429, b"", Rejected, "RESOURCE_EXHAUSTED.*send fewer"),
    (503, b"", Unreachable, "unavailable"), (504, b"", TimedOut, "no answer"), (302, b"", BadReply, "HTTP status 302"),
    (200, b"<html>", BadReply, "expected JSON"), (200, b'{"error": "x"}', BadReply, "'outputs'"),
])
def test_other_answers(stub: Stub, rest: RestClient, status: int, body: bytes, kind: type[Exception], why: str) -> None:
    stub.answers = {PREDICT: [(status, body)]}
    with pytest.raises(kind, match=why):
        rest.predict("m", [1.0], signature=SIGNATURE)


def test_status_and_control(stub: Stub, rest: RestClient) -> None:
    stub.answers = {"/v1/models/m": [(200, json.dumps({"model_version_status": [
        {"version": "1", "state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "why"}},
        {"version": "9", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}).encode())],
        "/v1/models/m/labels/stable/metadata": [(200, metadata(version="9007199254740993"))]}
    newest, oldest = rest.status("m")
    assert (newest.version, newest.state, newest.error_code) == (9, VersionState.AVAILABLE, 0)
    assert oldest.failed and oldest.error_code == 5 and oldest.error == "why"
    assert rest.resolve("m@stable").version == 2**53 + 1
    stub.answers["/v1/models/m"] = [(200, b'{"model_version_status": [{"version": "x"}]}')]
    with pytest.raises(BadReply):
        rest.status("m")


def test_a_server_that_trickles_meets_the_deadline(stub: Stub, rest: RestClient) -> None:
    release = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not release.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()
        handler.close_connection = True

    stub.answers = {"/v1/models/m": [trickle]}
    try:
        with pytest.raises(TimedOut, match=r"within 0.2 s"):
            rest.status("m", timeout=0.2)
    finally:
        release.set()


def test_a_server_that_is_silent_meets_the_deadline(stub: Stub, rest: RestClient) -> None:
    release = threading.Event()
    stub.answers = {"/v1/models/m": [lambda handler: (release.wait(10), None)[1]]}
    try:
        with pytest.raises(TimedOut):
            rest.status("m", timeout=0.1)
    finally:
        release.set()


def test_a_connection_lost_in_the_middle(stub: Stub, rest: RestClient) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b'{"model')
        handler.close_connection = True

    stub.answers = {"/v1/models/m": [cut]}
    with pytest.raises(Unreachable):
        rest.status("m")


def test_only_a_missing_connection_is_tried_again(stub: Stub) -> None:
    def vanish(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    stub.answers = {"/v1/models/m": [vanish, (200, b'{"model_version_status": []}')],
                    "/v1/models/n": [(500, b""), (200, b'{"model_version_status": []}')]}
    with RestClient(stub.url, attempts=2) as rest:
        assert rest.status("m") == []
        with pytest.raises(Rejected):
            rest.status("n")
    assert stub.paths() == ["GET /v1/models/m"] * 2 + ["GET /v1/models/n"]


def test_headers_are_sent_and_never_shown(stub: Stub) -> None:
    stub.answers = {"/v1/models/m": [(200, b'{"model_version_status": []}')]}
    with client.connect(stub.url, metadata={"Authorization": "Bearer sesame"}) as made:
        made.status("m")
        assert made.rest is not None
        shown = [repr(made), repr(made.rest), repr(made.rest._headers), made.rest.curl("/v1/models/m", b"{}"),
                 str(vars(made))]
    assert stub.asked[0][2]["authorization"] == "Bearer sesame"
    assert not any("sesame" in text for text in shown)
    assert "-H 'authorization: ...'" in shown[3]


def test_proxies_are_not_for_this_machine(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    stub.answers = {"/v1/models/m": [(200, b'{"model_version_status": []}')]}
    with client.connect(stub.url) as made:
        assert made.status("m") == []
    with RestClient("http://serving.example:80") as far:
        assert far._transport.proxies["http"] == "http://127.0.0.1:1"


def test_nobody_listens_and_somebody_else_listens() -> None:
    with RestClient("http://127.0.0.1:9", attempts=1) as nobody, pytest.raises(Unreachable, match="Connection refused"):
        nobody.status("m")


def test_a_closed_client_and_impossible_timeouts(stub: Stub, rest: RestClient) -> None:
    with pytest.raises(BadRequest, match="leaves no time"):
        rest.status("m", timeout=0)
    rest.close()
    rest.close()
    with pytest.raises(BadRequest, match="closed"):
        rest.status("m")


# connect

def test_addresses() -> None:
    def parts(made: Client) -> tuple[str | None, str | None]:
        with made:
            return made.rpc and made.rpc.endpoint, made.rest and made.rest.endpoint

    assert parts(client.connect("127.0.0.1:8500")) == ("127.0.0.1:8500", None)
    assert parts(client.connect("[::1]:8500", rest="http://[::1]:8501/")) == ("[::1]:8500", "http://[::1]:8501")
    assert parts(client.connect("https://host/serving")) == (None, "https://host/serving")
    assert parts(client.connect(Endpoint(rest_port=None))) == ("127.0.0.1:8500", None)
    assert parts(client.connect(Endpoint(grpc_port=None))) == (None, "http://127.0.0.1:8501")


@pytest.mark.parametrize("target", ["", "host", "host:port", "ftp://h:1", "http://", "http://user:pw@h:1", "http://h:99999",
                                    "http://h/?a", Endpoint(grpc_port=None, rest_port=None)])
def test_no_addresses(target: str | Endpoint) -> None:
    with pytest.raises(SpecError):
        client.connect(target)


@pytest.mark.parametrize("given", [{"bad name": "x"}, {"x": "line\nend"}, {"grpc-timeout": "1"}, {"x-bin": "1"},
                                   {"x": "é"}])
def test_impossible_headers(given: dict[str, str]) -> None:
    with pytest.raises(SpecError):
        client.connect("127.0.0.1:1", metadata=given)


def test_missing_pem_files_and_keys_stay_unnamed() -> None:
    with pytest.raises(SpecError, match=r"TLS ca /no/ca\.pem can't be read"):
        client.connect("127.0.0.1:1", tls=Tls(ca="/no/ca.pem"))
    with pytest.raises(SpecError) as caught:
        client.connect("https://127.0.0.1:1", tls=Tls(key="/no/secret.key"))
    assert "secret" not in str(caught.value)


# curl

def test_curl_lines() -> None:
    url = "http://h:1/v1/models/m:predict"
    assert snippets.curl_line(url) == f"curl -sS {url}"
    quoted = f"""curl -sS -d '{{"instances": ["it'"'"'s"]}}' {url}"""
    assert snippets.curl_line(url, b'{"instances": ["it\'s"]}') == quoted
    for body in (b"\xff\0" * 10, b"'" * 200_000, '"\u00e9\\n"'.encode() * 900):
        piped, _, call = snippets.curl_line(url, body).rpartition(" | ")
        assert call.endswith(f" @- {url}")
        assert subprocess.run(["sh"], input=piped.encode(), stdout=subprocess.PIPE, check=True).stdout == body
