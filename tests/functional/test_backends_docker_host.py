"""Which Docker engine is asked: the one that the docker CLI would ask."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from deploy.backends import docker_host
from deploy.backends.container_options import ContainerOptions
from deploy.backends.container_server import ContainerServer
from deploy.backends.docker_host import DEFAULT, EngineAddress, address
from deploy.backends.engine import Engine, connect
from deploy.cli.app import app
from deploy.errors import BackendMissing, ServerError
from tests.support.docker_engine import NO_CONTAINERS, engine_that_says


def context(config: Path, name: str, endpoints: object, *pems: str) -> None:
    number = hashlib.sha256(name.encode()).hexdigest()
    meta, tls = config / "contexts" / "meta" / number, config / "contexts" / "tls" / number / "docker"
    for directory in (meta, tls):
        directory.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": endpoints}))
    for pem in pems:
        (tls / pem).write_text("")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    context(tmp_path, "remote", {"docker": {"Host": "tcp://h:2376", "SkipTLSVerify": True}}, "ca.pem", "cert.pem",
            "key.pem")
    context(tmp_path, "near", {"docker": {"Host": "unix:///near.sock"}})
    context(tmp_path, "kubernetes", {"kubernetes": {}})
    context(tmp_path, "odd", [1])
    return tmp_path


@pytest.mark.parametrize(("env", "current", "host", "source"), [
    ({}, None, DEFAULT, ""),
    ({"DOCKER_HOST": "", "DOCKER_CONTEXT": ""}, None, DEFAULT, ""),
    ({"DOCKER_HOST": "tcp://h:1"}, "near", "tcp://h:1", "DOCKER_HOST"),
    ({"DOCKER_HOST": "ssh://u@h", "DOCKER_CONTEXT": "near"}, None, "ssh://u@h", "DOCKER_HOST"),
    ({"DOCKER_CONTEXT": "near"}, "remote", "unix:///near.sock", "DOCKER_CONTEXT 'near'"),
    ({"DOCKER_CONTEXT": "default"}, "near", DEFAULT, ""),
    ({}, "near", "unix:///near.sock", "currentContext in {}/config.json"),
    ({}, "default", DEFAULT, ""),
    ({"DOCKER_HOST": "unix:///s", "DOCKER_TLS_VERIFY": "1"}, None, "unix:///s", "DOCKER_HOST"),
    ({"DOCKER_TLS_VERIFY": "1"}, None, DEFAULT, ""),
])
def test_host_then_context_then_the_current_context(config: Path, env: dict[str, str], current: str | None, host: str,
                                                    source: str) -> None:
    if current:
        (config / "config.json").write_text(json.dumps({"currentContext": current}))
    assert address({"DOCKER_CONFIG": str(config), **env}) == EngineAddress(host, source.format(config))


def test_a_contexts_certificates_are_used(config: Path) -> None:
    found = address({"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "remote"})
    assert found.tls is not None and sorted(found.tls) == ["ca", "cert", "key"] and not found.verify
    assert str(found) == "tcp://h:2376 (from DOCKER_CONTEXT 'remote')"


def test_tls_of_the_environment(config: Path) -> None:
    given = {"DOCKER_CONFIG": str(config), "DOCKER_HOST": "tcp://h:1", "DOCKER_TLS_VERIFY": "0"}
    with pytest.raises(BackendMissing, match=f"none of ca.pem, cert.pem and key.pem in {config}"):
        address(given)
    (config / "ca.pem").write_text("")
    assert address(given) == EngineAddress("tcp://h:1", "DOCKER_HOST", {"ca": str(config / "ca.pem")})
    (config / "cert.pem").write_text("")
    found = address({**given, "DOCKER_TLS_VERIFY": "", "DOCKER_TLS": "1", "DOCKER_CERT_PATH": str(config)})
    assert found.tls is not None and sorted(found.tls) == ["ca", "cert"] and not found.verify


@pytest.mark.parametrize(("name", "why"), [
    ("gone", "there is no Docker context 'gone'"), ("kubernetes", "can't be read: .*KeyError"),
    ("odd", "can't be read: .*TypeError"), ("../near", "there is no Docker context")])
def test_a_context_that_isnt_there_or_is_no_engines_is_told(config: Path, name: str, why: str) -> None:
    with pytest.raises(BackendMissing, match=why) as e:
        address({"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": name})
    assert "from DOCKER_CONTEXT" in e.value.message and "docker context ls" in e.value.hint


@pytest.mark.parametrize("text", ["[1]", "7", '"x"', '{"auths": [1]}', '{"proxies": 7}'])
def test_a_configuration_of_another_form_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BackendMissing, match=r"docker's configuration .*config\.json"):
        connect()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0"])
def test_a_configuration_that_is_no_json_is_passed_over_as_by_the_cli(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert address({"DOCKER_CONFIG": str(tmp_path)}) == EngineAddress()


@pytest.mark.parametrize(("host", "said"), [
    ("tcp://127.0.0.1:1", "no Docker engine answers at tcp://127.0.0.1:1 (from DOCKER_HOST)"),
    ("unix:///no.sock", "no Docker engine answers at unix:///no.sock (from DOCKER_HOST)"),
    ("garbage://x", "no Docker engine answers at garbage://x (from DOCKER_HOST): Invalid bind address protocol"),
    ("tcp://nohost.invalid:1", "no Docker engine answers at tcp://nohost.invalid:1 (from DOCKER_HOST): "),
    ("ssh://u@127.0.0.1:1", "(from DOCKER_HOST)")])
def test_an_engine_that_doesnt_answer_is_named_with_who_named_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                 host: str, said: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
    with pytest.raises(BackendMissing) as e:
        connect()
    assert said in e.value.message and "backend: embedded" in e.value.hint


def test_the_clis_directory() -> None:
    assert docker_host.config_dir({"HOME": "/h"}) == Path("/h/.docker")
    assert docker_host.config_dir({"HOME": "/h", "DOCKER_CONFIG": "/c"}) == Path("/c")


@pytest.mark.parametrize(("host", "machine"), [
    ("unix:///var/run/docker.sock", ""), ("tcp://127.0.0.1:2375", ""), ("tcp://localhost:2375", ""),
    ("tcp://[::1]:1", ""), ("tcp://docker:2375", "docker"), ("https://h:2376", "h"), ("ssh://u@h", "h"),
    ("h:2375", "h"), ("tcp://10.1.2.3:1", "10.1.2.3")])
def test_the_machine_that_ports_are_on(host: str, machine: str) -> None:
    assert EngineAddress(host).machine == machine


def test_a_server_on_another_machine_is_reached_there_or_refused() -> None:
    options = ContainerOptions("m", "i", None, "/s")
    away = Engine(SimpleNamespace(), "tcp://docker:2375", "docker")  # type: ignore[arg-type]
    server = ContainerServer(options, engine=away)
    with pytest.raises(ServerError, match="is on another machine, and a server on its 127.0.0.1") as e:
        server.start()
    assert "0.0.0.0" in e.value.hint
    for asked, reached in (("0.0.0.0", "docker"), ("10.1.2.3", "10.1.2.3")):
        made = ContainerServer(replace(options, host=asked), engine=away)
        with pytest.raises(AttributeError):  # this engine has no images
            made.start()
        assert made.endpoint.host == reached


@pytest.mark.parametrize(("reply", "none"), [
    (NO_CONTAINERS, True),
    (b'HTTP/1.0 200 OK\r\n\r\n[{"Id": "4f"}]\n', False),
    (b'HTTP/1.0 500 Internal Server Error\r\n\r\n{"message": "no"}', False),
    (b"HTTP/1.0 500 Internal Server Error\r\n\r\n[]", False),
    (b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (1 << 15) + b"[]", False),  # more than an empty list takes
    (b"", False),
    (b"SSH-2.0-OpenSSH_9.2\r\n", False),
])
def test_an_engine_without_such_a_container_is_asked_without_the_sdk(
        reply: bytes, none: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
    with engine_that_says(reply, tmp_path) as asked:
        assert docker_host.knows_none({"org.tfs-deploy.name": "m & n"}) is none
    assert asked[0].startswith(b"GET /containers/json?all=1&filters=%7B%22label%22%3A%20%5B%22org.tfs-deploy.name"
                               b"%3Dm%20%26%20n%22%5D%7D HTTP/1.0\r\n")


@pytest.mark.parametrize("host", ["unix:///nowhere/s", "tcp://127.0.0.1:1", "ssh://u@h", "unix://" + "s" * 200])
def test_of_an_engine_that_isnt_there_nothing_is_known(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    assert not docker_host.knows_none({"org.tfs-deploy.name": "m"})


def nobody(tmp_path: Path, text: str = "") -> Path:
    """A spec whose engine doesn't answer."""
    path = tmp_path / "serving.yaml"
    path.write_text(text or "models: [{name: half, versions: [1]}]\nserver: {backend: container, "
                            f"docker: 'unix://{tmp_path}/none.sock'}}\n")
    return path


SAID = "nobody can say whether {} runs: no Docker engine answers at unix://{}/none.sock"


@pytest.mark.parametrize("verb", ["status", "ready", "smoke", "logs", "rollback half", "repair"])
def test_a_server_whose_engine_does_not_answer_is_not_said_to_be_down(tmp_path: Path, verb: str) -> None:
    spec = nobody(tmp_path)
    done = CliRunner().invoke(app, [*verb.split(), "--spec", str(spec)])
    said = str(done.exception) if isinstance(done.exception, BackendMissing) else done.output
    assert "no Docker engine answers" in " ".join(said.split()) and "n't running" not in said, said
    assert isinstance(done.exception, BackendMissing) or done.exit_code == BackendMissing.exit_code


def test_status_says_that_nobody_can_know(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["status", "--json", "--spec", str(nobody(tmp_path))])
    data = json.loads(done.output)
    assert (done.exit_code, data["running"], data["ready"]) == (BackendMissing.exit_code, None, False)
    assert data["problems"][0].startswith(SAID.format("serving", tmp_path))
    several = nobody(tmp_path, "models: [{name: half, versions: [1]}]\nserver: {backend: container}\nservers:\n"
                               f"- {{name: a, server: {{docker: 'unix://{tmp_path}/none.sock'}}}}\n"
                               "- {name: b, server: {backend: embedded, grpc_port: 8510, rest_port: 8511}}\n")
    done = CliRunner().invoke(app, ["status", "--spec", str(several)])
    assert done.exit_code == BackendMissing.exit_code and "not known" in done.output and "not running" in done.output


def test_no_command_at_all_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nobody(tmp_path).parent)
    done = CliRunner().invoke(app, ["--json"])
    assert json.loads(done.output)["next"]["command"] == "tfs doctor", done.output
    assert f"not known: no Docker engine answers at unix://{tmp_path}/none.sock" in CliRunner().invoke(app, []).output
