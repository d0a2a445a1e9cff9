"""OpenSSH's server on loopback, for one user with one key; its file transfer is sshd's own."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.peers import program, running
from tests.support.ports import free_ports


@dataclass(frozen=True)
class SshServer:
    """home: what HOME is for its clients; it holds the key, known_hosts and config."""

    address: str
    port: int
    home: Path
    data: Path

    def home_of_its_own(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A copy of the home directory, to be spoilt, which is HOME from now on."""
        shutil.copytree(self.home, home)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        monkeypatch.setenv("TFS_STORE_DEADLINE", "10")
        return home


@contextmanager
def sshd(place: Path, transfer: str = "internal-sftp", *, listen: str = "127.0.0.1", inside: Sequence[str] = ()
         ) -> Iterator[SshServer]:
    """A server whose data directory is new. place: where its files go. transfer: the command that serves files.

    listen: its address. inside: a command that runs it somewhere else, such as in another network.
    """
    server = program("/usr/sbin/sshd", "apt-get install openssh-server")
    keygen = program("ssh-keygen", "apt-get install openssh-client")
    (port,) = free_ports(1)
    home, data = place / "home", place / "data"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    data.mkdir()
    for key in (place / "host_key", home / ".ssh" / "id_ed25519"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (place / "authorized").write_text((home / ".ssh" / "id_ed25519.pub").read_text())
    host_key = (place / "host_key.pub").read_text().split()
    (home / ".ssh" / "known_hosts").write_text(f"[{listen}]:{port} {host_key[0]} {host_key[1]}\n")
    config = place / "sshd_config"
    config.write_text(f"""
ListenAddress {listen}:{port}
HostKey {place / 'host_key'}
AuthorizedKeysFile {place / 'authorized'}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
MaxSessions 100
MaxStartups 100
Subsystem sftp {transfer}
PidFile none
""")
    Path("/run/sshd").mkdir(exist_ok=True)

    def up() -> bool:
        return subprocess.run(["ssh-keyscan", "-T", "2", "-p", str(port), listen], capture_output=True,
                              check=False).stdout != b""

    with running([*inside, server, "-D", "-e", "-f", str(config)], up):
        yield SshServer(f"ssh://{getpass.getuser()}@{listen}:{port}{data}", port, home, data)
