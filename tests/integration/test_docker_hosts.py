"""Containers on another machine's Docker engine: over TLS and over SSH; it sees nothing of this machine's disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.backends.engine import connect
from deploy.errors import BackendMissing
from tests.support.docker_engine import engine_that_says
from tests.support.peers.engines import OtherEngine, other_engine
from tests.support.tls import self_signed

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherEngine]:
    with other_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture
def home(other: OtherEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with the key for the other machine, to be spoilt."""
    shutil.copytree(other.ssh.home, tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("SSH_AUTH_SOCK", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def refused(named: str, tls: Path | None = None) -> BackendMissing:
    with pytest.raises(BackendMissing) as error:
        connect(named, str(tls) if tls else None)
    assert len(str(error.value).splitlines()) == 1, str(error.value)
    assert "server/docker" in error.value.message or "server/docker" in error.value.hint
    return error.value


def test_it_answers_over_tls_and_ssh_and_is_another_machine(other: OtherEngine, home: Path) -> None:
    over_tls, over_ssh = other.connect(), connect(other.ssh_address)
    assert over_tls.machine == over_ssh.machine == other.address
    roots = [engine.client.info()["DockerRootDir"] for engine in (over_tls, over_ssh, connect())]
    assert roots[0] == roots[1] != roots[2]


def test_a_context_by_name(other: OtherEngine, home: Path) -> None:
    subprocess.run(["docker", "context", "create", "prod", "--docker",
                    f"host={other.docker},ca={other.tls}/ca.pem,cert={other.tls}/cert.pem,key={other.tls}/key.pem"],
                   check=True, capture_output=True)
    engine = connect("prod")
    assert engine.machine == other.address and "server/docker 'prod'" in engine.where
    assert refused("pord").id == "docker-context"


def test_a_name_of_ssh_config_is_the_machine_behind_it(other: OtherEngine, home: Path) -> None:
    (home / ".ssh/config").write_text(f"Host prod\n  HostName {other.address}\n  Port {other.ssh.port}\n  User root\n")
    assert connect("ssh://prod").machine == other.address


def test_a_host_that_isnt_known_is_not_let_in(other: OtherEngine, home: Path) -> None:
    known = home / ".ssh/known_hosts"
    key = (home / ".ssh/id_ed25519.pub").read_text().split()[1]
    known.write_text(f"[{other.address}]:{other.ssh.port} ssh-ed25519 {key}\n")
    assert refused(other.ssh_address).id == "host-key"
    known.write_text("")
    assert refused(other.ssh_address).id == "host-key" and known.read_text() == ""


def test_without_a_key_that_is_accepted(other: OtherEngine, home: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "new")], check=True)
    (home / "new").replace(home / ".ssh/id_ed25519")
    assert refused(other.ssh_address).id == "credentials-refused"


def test_a_machine_that_has_no_docker_says_so(other: OtherEngine, home: Path) -> None:
    (other.ssh.home.parent / "authorized").write_text('command="echo sh: docker: not found >&2; exit 127" ' + (
        home / ".ssh/id_ed25519.pub").read_text())
    try:
        error = refused(other.ssh_address)
    finally:
        (other.ssh.home.parent / "authorized").write_text((home / ".ssh/id_ed25519.pub").read_text())
    assert error.id == "engine-missing" and "docker: not found" in error.message


def test_tls_that_doesnt_fit(other: OtherEngine, home: Path, tmp_path: Path) -> None:
    stranger, nobody = tmp_path / "stranger", tmp_path / "nobody"
    stranger.mkdir()
    self_signed(stranger, other.address)
    shutil.copy(other.tls / "ca.pem", stranger)
    error = refused(other.docker, stranger)
    assert error.id == "docker-tls" and "of its authority" in error.message
    shutil.copy(stranger / "cert.pem", stranger / "ca.pem")
    error = refused(other.docker, stranger)
    assert error.id == "docker-tls" and "can't be trusted" in error.message
    nobody.mkdir()
    assert refused(other.docker, nobody).id == "docker-tls"
    error = refused(other.docker)
    assert error.id == "docker-tls" and "speaks TLS only" in error.message


def test_tls_where_none_is_spoken(other: OtherEngine, home: Path) -> None:
    error = refused(f"tcp://{other.address}:{other.ssh.port}", other.tls)
    assert error.id == "docker-tls" and "doesn't speak TLS" in error.message


def test_an_engine_without_what_servers_need(tmp_path: Path) -> None:
    body = b'{"ApiVersion": "1.24", "Version": "1.12"}'
    reply = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with engine_that_says(reply, tmp_path):
        error = refused(f"unix://{tmp_path}/s")
    assert error.id == "engine-too-old" and "1.24" in error.message and "1.25" in error.message
