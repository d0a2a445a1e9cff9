"""A repository on another machine, over SSH: what either side refuses, in one sentence. A real sshd."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.errors import RepositoryError
from deploy.repository import Repository, pull
from deploy.repository.failures import Refused
from deploy.repository.stores.addresses import open_store
from deploy.types import ModelVersion
from tests.support.peers import program
from tests.support.peers.sshd import SshServer, sshd
from tests.support.ports import free_ports
from tests.support.repository import savedmodel

ONE = ModelVersion("m", 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def home(server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return server.home_of_its_own(tmp_path / "home", monkeypatch)


def refused(address: str) -> RepositoryError:
    with pytest.raises(RepositoryError) as error:
        Repository(address).models()
    assert len(str(error.value).splitlines()) == 1
    return error.value


def test_there_and_back(server: SshServer, home: Path, tmp_path: Path) -> None:
    remote = Repository(f"{server.address}/there")
    published = remote.publish(savedmodel(tmp_path / "source", weights=20_000_000), "m")
    assert published.where == f"{server.address}/there/m/1" and remote.verify(ONE)
    here = Repository(tmp_path / "here")
    assert pull(remote, here, ONE) is not None and here.verify(ONE) == published.manifest
    assert remote.facts(ONE).digest == published.manifest.digest


def test_an_unknown_host(server: SshServer, home: Path) -> None:
    (home / ".ssh/known_hosts").write_text("")
    error = refused(server.address)
    assert error.id == "host-key" and "isn't in" in error.message and error.hint.endswith(
        f", then connect once: ssh -p {server.port} root@127.0.0.1"), "typed as it stands, it asks the same server"
    assert (home / ".ssh/known_hosts").read_text() == "", "nobody is let in silently"


def test_another_host_key(server: SshServer, home: Path) -> None:
    key = (home / ".ssh/id_ed25519.pub").read_text().split()[1]
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{server.port} ssh-ed25519 {key}\n")
    error = refused(server.address)
    assert error.id == "host-key" and "has another host key" in error.message and error.hint.endswith(
        f"ssh-keygen -R '[127.0.0.1]:{server.port}'")


def test_a_key_that_isnt_accepted(server: SshServer, home: Path) -> None:
    for path in (home / ".ssh").glob("id_*"):
        path.unlink()
    none = refused(server.address)
    assert none.id == "credentials-refused" and "wants a key, and there is none" in none.message
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / ".ssh/id_ed25519")], check=True)
    error = refused(server.address)
    assert error.id == "credentials-refused" and "accepts no key of root" in error.message


def test_nobody_there(home: Path) -> None:
    (port,) = free_ports(1)
    error = refused(f"ssh://root@127.0.0.1:{port}/x")
    assert error.id == "store-unreachable" and "can't be reached" in error.message


def test_something_else_than_ssh(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        error = refused_slowly(f"ssh://root@127.0.0.1:{listening.getsockname()[1]}/x")
    assert error.id == "store-unreachable"


def test_a_command_says_one_sentence(home: Path) -> None:
    """The traceback that paramiko logs about a connection which the other side closes isn't for people."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def close() -> None:
            listening.accept()[0].close()

        closing = threading.Thread(target=close, daemon=True)
        closing.start()
        address = f"ssh://root@127.0.0.1:{listening.getsockname()[1]}/x"
        done = subprocess.run([sys.executable, "-m", "deploy", "repository", "list", "-r", address], check=False,
                              text=True, capture_output=True, timeout=60)
        closing.join()
    assert done.returncode == 4 and "can't be talked to" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def refused_slowly(address: str) -> RepositoryError:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFS_STORE_DEADLINE", "0.5")
        return refused(address)


def test_a_directory_that_cant_be_made(server: SshServer, home: Path, tmp_path: Path) -> None:
    (server.data / "file").write_text("x")
    with pytest.raises(RepositoryError, match="can't"):
        Repository(f"{server.address}/file/below").publish(savedmodel(tmp_path / "source"), "m")


def test_the_configuration_names_the_host(server: SshServer, home: Path) -> None:
    (home / ".ssh/config").write_text(f"Host store\n  HostName 127.0.0.1\n  Port {server.port}\n  User root\n")
    assert Repository(f"ssh://store{server.data}/named").models() == []


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """A server that refuses what a file has beyond 64 KiB, as a full disk does."""
    server = program("/usr/lib/openssh/sftp-server", "apt-get install openssh-sftp-server")
    transfer = tmp_path / "transfer"
    transfer.write_text(f"#!/bin/bash\ntrap '' XFSZ\nulimit -f 64\nexec {server}\n")
    transfer.chmod(0o755)
    (tmp_path / "peer").mkdir()
    with sshd(tmp_path / "peer", str(transfer)) as running:
        monkeypatch.setenv("HOME", str(running.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield running


@pytest.mark.parametrize("size", [70_000, 1_000_000, 20_000_000])
def test_a_full_disk_shows_nothing(full: SshServer, tmp_path: Path, size: int) -> None:
    store, source = open_store(full.address), tmp_path / "source"
    source.write_bytes(bytes(size))
    for put in (lambda: store.put("a/b", source), lambda: store.put("a/b", bytes(size)),
                lambda: store.put_if_absent("a/b", bytes(size))):
        with pytest.raises(Refused, match="can't write a/b"):
            put()
        assert [path for path in full.data.rglob("*") if path.is_file()] == []


def test_a_full_disk_publishes_nothing(full: SshServer, tmp_path: Path) -> None:
    remote = Repository(full.address)
    with pytest.raises(RepositoryError, match="can't publish"):
        remote.publish(savedmodel(tmp_path / "source", weights=500_000), "m")
    assert remote.versions("m") == []


def test_a_source_that_is_gone(server: SshServer, home: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        open_store(server.address).put("a/b", tmp_path / "gone")


def test_what_cant_be_put_leaves_nothing(server: SshServer, home: Path) -> None:
    (server.data / "taken").mkdir(exist_ok=True)
    (server.data / "taken" / "below").write_text("x")
    store = open_store(server.address)
    with pytest.raises(Refused, match="can't write taken"):
        store.put("taken", b"x")
    assert not list(server.data.rglob(".tfs-part-*"))
