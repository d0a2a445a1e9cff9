"""The REST API's routes: which target and method leads where, on the echo server."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest

from deploy.net.http1.heads import Uri, unescaped
from deploy.testing import serve
from deploy.wire.flags import Options

OPTIONS = Options(max_num_load_retries=0, allow_version_labels_for_unavailable_models=True,
                  rest_api_enable_cors_support=True)
BODY = b'{"instances": [1.0]}'
CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers")


@pytest.mark.parametrize(("target", "path", "more"), [
    ("/v1/models/m", "/v1/models/m", ""),
    ("/v1/models/m?x=1#y", "/v1/models/m", "?x=1#y"),
    ("/v1/models/m#y?x", "/v1/models/m", "#y?x"),
    ("http://example.com/v1/models/m", "/v1/models/m", ""),
    ("http://user:secret@[::1]:80/a?b", "/a", "?b"),
    ("x:/v1/models/m", "/v1/models/m", ""),
    ("//host:80/v1/models/m", "/v1/models/m", ""),
    ("//v1/models/m", "/models/m", ""),
    ("http://example.com", "", ""),
    ("*", "*", ""),
    ("v1/models/m:predict", "v1/models/m:predict", ""),
    ("/%7Bm%7d", "/%7Bm%7d", ""),
])
def test_uris(target: str, path: str, more: str) -> None:
    assert Uri.of(target) == Uri(path, more)


@pytest.mark.parametrize("target", [
    "/v1/models/m%", "/v1/models/m%4", "/v1/models/%zz", "/v1/models/{m}", '/"', "/a b", "/<", "/a|b", "/a\\b", "/a^b",
    "/`", "/caf\xe9", "/m?a[0]", "/m#a#b", "/[a]", "//host:99999/v1", "//host:port/v1", "//ho{st/v1", "1:2/3",
])
def test_what_is_no_uri(target: str) -> None:
    assert Uri.of(target) is None


@pytest.mark.parametrize(("part", "text"), [
    ("m", "m"), ("%6D", "m"), ("a%2Fb%3a", "a/b:"), ("caf%C3%A9", "café"), ("%2541", "%41"), ("a+b", "a+b"),
])
def test_names_are_unescaped_once(part: str, text: str) -> None:
    assert unescaped(part) == text


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve({"m": {1: None}, "a/b:c é": {2: None}}, labels={"m": {"st/able": 1}}, options=OPTIONS) as server:
        assert server.endpoint.rest_port
        yield server.endpoint.rest_port


def ask(port: int, method: str, target: str, body: bytes | None = None,
        headers: dict[str, str] | None = None) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, body, headers or {})
        reply = connection.getresponse()
        return reply, reply.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "target", "status", "text"), [
    ("POST", "/v1/models/%6d:predict", 200, '"predictions"'),
    ("POST", "/v1/models/a%2Fb%3Ac%20%C3%A9:predict", 200, '"predictions"'),
    ("POST", "/v1/models/m/labels/st%2Fable:predict", 200, '"predictions"'),
    ("POST", "/v1/models/m/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
    ("POST", "/v1/models/n%21:predict", 404, "Servable not found for request: Latest(n!)"),
    ("POST", "//host/v1/models/m:predict", 200, '"predictions"'),
    ("POST", "/v1/models/{m}:predict", 400, "<TITLE>400 Bad Request</TITLE>"),
    ("GET", "/v1/models/%zz", 400, "<TITLE>400 Bad Request</TITLE>"),
    ("GET", "/nowhere", 404, "<TITLE>404 Not Found</TITLE>"),
    ("GET", "/v1/models/m/metadata", 200, '"metadata"'),
    ("GET", "/v1/models/m/METADATA", 200, '"model_version_status"'),
    ("GET", "/V1/Models/m/Versions/1/metadata", 200, '"metadata"'),
    ("GET", "/v1/models/m/versions/1", 200, '"model_version_status"'),
    ("POST", "/v1/models/m/versions/99999999999999999999:PREDICT", 400, ""),
])
def test_targets(port: int, method: str, target: str, status: int, text: str) -> None:
    reply, content = ask(port, method, target, BODY if method == "POST" else None)
    assert (reply.status, text in content) == (status, True), content


def test_html_errors_close_the_connection(port: int) -> None:
    for target in ("/nowhere", "/v1/models/{}"):
        reply, _ = ask(port, "GET", target)
        assert reply.getheader("Connection") == "close"
    assert ask(port, "GET", "/v1/models/none")[0].getheader("Connection") is None


@pytest.mark.parametrize(("headers", "status"), [
    ({"Connection": "keep-alive"}, 400), ({"Connection": "close"}, 404), ({}, 404),
    ({"Connection": "keep-alive", "Content-Length": "0"}, 404),
])
def test_a_body_has_to_have_an_end(port: int, headers: dict[str, str], status: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/nowhere")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_replies_to_head_have_no_length(port: int) -> None:
    reply, content = ask(port, "HEAD", "/v1/models/m")
    assert (reply.status, reply.getheader("Content-Length"), content) == (400, None, "")


@pytest.mark.parametrize(("method", "target", "origin", "status"), [
    ("GET", "/v1/models/m", None, 200),
    ("POST", "/v1/models/none:predict", None, 404),
    ("OPTIONS", "/v1/models/m:predict", "http://example.com", 200),
    ("OPTIONS", "/v1/models/m:predict", "https://example.com", 200),
    ("OPTIONS", "/v1/whatever", "http://example.com", 200),
    ("OPTIONS", "/v1/models/m:predict", None, 400),
    ("OPTIONS", "/v1/models/m:predict", "null", 400),
])
def test_cors(port: int, method: str, target: str, origin: str | None, status: int) -> None:
    reply, content = ask(port, method, target, BODY if method == "POST" else None, {"Origin": origin} if origin else {})
    assert [reply.status, *map(reply.getheader, CORS)] == [status, "*", "POST, GET", "Content-Type"]
    if method == "OPTIONS":
        assert (content, reply.getheader("Content-Type")) == ("", "text/html; charset=ISO-8859-1")


def test_other_origins_are_answered_without_cors_but_not_allowed() -> None:
    with serve({"m": {1: None}}) as server:
        port = server.endpoint.rest_port or 0
        for headers, status in (({"Origin": "http://example.com"}, 200), ({}, 400)):
            reply, content = ask(port, "OPTIONS", "/v1/models/m:predict", headers=headers)
            assert [reply.status, content, *map(reply.getheader, CORS)] == [status, "", None, None, None]
        assert ask(port, "OPTIONS", "/elsewhere", headers={"Origin": "http://example.com"})[0].status == 404


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 200), ("x-gzip", 200), ("GZIP", 400), ("deflate", 400)])
def test_content_encodings(port: int, encoding: str, status: int) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(BODY) + packer.flush()
    reply, _ = ask(port, "POST", "/v1/models/m:predict", packed, {"Content-Encoding": encoding})
    assert reply.status == status


def test_a_gzipped_body_that_is_cut_off_counts_as_empty(port: int) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = (packer.compress(BODY) + packer.flush())[:-4]
    _, content = ask(port, "POST", "/v1/models/m:predict", packed, {"Content-Encoding": "gzip"})
    assert json.loads(content) == {"error": "JSON Parse error: The document is empty"}
