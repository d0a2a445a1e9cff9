"""Addresses that are meant, and what is said about those that aren't quite."""

from __future__ import annotations

import pytest

from deploy import client
from deploy.addresses import grpc_target, rest_url
from deploy.cli.outcome import run
from deploy.errors import SpecError
from deploy.types import Endpoint


@pytest.mark.parametrize(("text", "target"), [
    ("localhost:8500", "localhost:8500"), ("localhost:8500/", "localhost:8500"), ("grpc://h:8500", "h:8500"),
    ("[::1]:8500", "[::1]:8500"), ("host_name:085", "host_name:85"), ("dns:///h:1", "dns:///h:1"),
    ("unix:/tmp/x", "unix:/tmp/x"), ("ipv6:[::1]:1", "ipv6:[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")])
def test_targets(text: str, target: str) -> None:
    assert grpc_target(text) == target


@pytest.mark.parametrize(("text", "why"), [
    ("localhost", "it has no port"), ("localhost:", "it has no port"), ("", "it is empty"), ("  ", "it is empty"),
    ("h:0", "ports are 1 to 65535, not 0"), ("h:65536", "ports are 1 to 65535, not 65536"), ("h:99999", "not 99999"),
    ("::1", r"brackets.*\[::1\]:8500"), ("::1:8501", r"brackets.*\[::1\]:8501"), ("[::1]", r"brackets.*\[::1\]:8500"),
    ("h:8500 ", "spaces"), ("h h:1", "spaces"), ("h:1,g:2", "one address at a time"),
    ("tcp://h:1", "tcp:// isn't spoken"),
    ("http://h:8500", "that is a REST address"), ("h:8500/v1", "a path"), ("/tmp/x", "a path"), ("h:-1", "no name"),
    ("u@h:1", "no name"), ("h\\x:1", "no name"), ("h:\uff18\uff15", "no name")])
def test_what_is_no_target(text: str, why: str) -> None:
    with pytest.raises(SpecError, match=f"expected host:port, got .*{why}") as e:
        grpc_target(text)
    assert "http://host:8501" in e.value.hint


@pytest.mark.parametrize("text", ["http://h:8501", "http://h:8501/", "http://h", "https://h/serving", "HTTP://h:1",
                                  "http://[::1]:8501"])
def test_urls(text: str) -> None:
    assert rest_url(text) == text


@pytest.mark.parametrize(("text", "why"), [
    ("localhost:8501", "no http:// in front"), ("h", "no http://"), ("ftp://h:1", "no http://"), ("", "no http://"),
    ("http://", "names no host"), ("http://:8501", "names no host"), ("http://h:99999", "ports are 1 to 65535"),
    ("http://h:x", "ports are 1 to 65535"), ("http://h:0", "port 0"), ("http://::1:8501", r"brackets: \[::1\]:8501"),
    ("http://h:1/v1", "ends before /v1"), ("http://h:1/v1/models/m:predict", "ends before /v1"),
    ("http://h:1?x=1", "has a query"), ("http://h:1 ", "spaces"), ("http://h h:1", "spaces")])
def test_what_is_no_url(text: str, why: str) -> None:
    with pytest.raises(SpecError, match=f"expected http://host:port, got .*{why}"):
        rest_url(text)


def test_a_password_isnt_repeated() -> None:
    with pytest.raises(SpecError, match="credentials belong in metadata") as e:
        rest_url("http://u:secret@h:1")
    assert "secret" not in str(e.value)


@pytest.mark.parametrize("options", [
    ["--grpc", "http://127.0.0.1:1"], ["--rest-url", "127.0.0.1:1"], ["--grpc", "127.0.0.1"],
    ["--rest-url", "http://127.0.0.1:1/v1/models"], ["--grpc", "127.0.0.1:1", "--rest-url", "127.0.0.1:2"]])
@pytest.mark.parametrize("verb", ["ready", "smoke"])
def test_each_option_takes_its_own_kind(options: list[str], verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, *options, "--model", "m"]) == 2
    assert "expected " in capsys.readouterr().err


def test_an_ipv6_endpoint_has_brackets() -> None:
    endpoint = Endpoint("::1", 1, 2)
    assert (endpoint.grpc_target, endpoint.rest_url) == ("[::1]:1", "http://[::1]:2")
    with client.connect(endpoint) as made:
        assert made.endpoint == "[::1]:1 and http://[::1]:2"
