"""A Docker engine of another machine: dockerd with its own network and its own view of the file system.

Containers of it are reached at its address and not on loopback, and directories of tests aren't there. It is reached
over TCP with TLS, and over SSH by a real sshd that runs beside it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from deploy.backends.engine import Engine, connect
from deploy.errors import BackendMissing
from deploy.waiting import Deadline, poll
from tests.support.peers import absent, program, running
from tests.support.peers.sshd import SshServer, sshd
from tests.support.servers import engine_or_skip

_MADE = itertools.count()  # by this process
_IMAGE = "tfs-deploy/base:ci"  # small, with Python: what the stand-in server needs
_SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/place /run/sshd
mount --bind {place} /run/place
mount -t tmpfs tmpfs {hidden}
mkdir -p {place}
mount --bind /run/place {place}
ip link set lo up
until ip link show {link}b > /dev/null 2>&1; do sleep 0.05; done
ip address add {address}/30 dev {link}b
ip link set {link}b up
ip route add default via {gateway}
export DOCKER_SERVICE_PREFER_OFFLINE_IMAGE=1  # Swarm asks registries first, for 20 s without a network
exec dockerd --data-root {place}/data --exec-root /run/exec --pidfile /run/dockerd.pid -H unix:///var/run/docker.sock \
  -H tcp://{address}:2376 --tlsverify --tlscacert {place}/tls/ca.pem --tlscert {place}/tls/server.pem \
  --tlskey {place}/tls/server-key.pem
"""


@dataclass(frozen=True)
class OtherEngine:
    """address: of its machine. docker, tls: as server/docker and server/docker_tls. ssh: its sshd; HOME has the key."""

    address: str
    docker: str
    tls: Path
    ssh: SshServer

    def connect(self) -> Engine:
        return connect(self.docker, str(self.tls))

    @property
    def ssh_address(self) -> str:
        return self.ssh.address.removesuffix(str(self.ssh.data))


@contextmanager
def other_engine(place: Path) -> Iterator[OtherEngine]:
    """place: where its files go, below a directory that it doesn't see but for that place."""
    if os.getuid() != 0:
        absent("another Docker engine needs a network of its own, which only root can make")
    for name, package in (("dockerd", "docker.io"), ("ip", "iproute2"), ("unshare", "util-linux")):
        program(name, f"apt-get install {package}")
    number = (os.getpid() * 8 + next(_MADE)) % 15750  # an earlier one's containers may hold its network for a while
    gateway, address = (f"10.213.{number // 63}.{number % 63 * 4 + i}" for i in (1, 2))
    link, script = f"tfs{number}", place / "run.sh"
    _certificates(place / "tls", address)
    script.write_text(_SCRIPT.format(place=place, hidden=place.parent, link=link, address=address, gateway=gateway))
    tls = place / "tls"

    def up() -> bool:
        with suppress(BackendMissing):
            connect(f"tcp://{address}:2376", str(tls)).client.close()
            return True
        return False

    with ExitStack() as stack:
        daemon = stack.enter_context(running(["unshare", "-m", "-n", "bash", str(script)], lambda: True))
        networks = Path(f"/proc/{daemon.pid}/ns/net"), Path("/proc/self/ns/net")
        assert poll(lambda: networks[0].readlink() != networks[1].readlink() or None, Deadline(10)), "no own network"
        _link(link, gateway, daemon.pid)
        assert poll(lambda: up() or None, Deadline(60)), "the other engine doesn't answer"
        inside = ["nsenter", "-t", str(daemon.pid), "-m", "-n"]
        (place / "ssh").mkdir()
        server = stack.enter_context(sshd(place / "ssh", listen=address, inside=inside))
        yield OtherEngine(address, f"tcp://{address}:2376", tls, server)


def load(engine: OtherEngine, image: str = _IMAGE) -> str:
    """Bring an image of this machine's engine to the other one; returns its name there."""
    here, there = engine_or_skip(), engine.connect()
    if not here.has_image(image):
        absent(f"there is no image {image}: .ci/base-image makes it")
    if not there.has_image(image):
        there.client.images.load(cast("IO[bytes]", here.client.images.get(image).save(named=image)))
    return image


def _link(name: str, gateway: str, pid: int) -> None:
    """A cable between this machine and the other; it goes with the other one's network."""
    for command in (f"ip link add {name} type veth peer name {name}b netns {pid}",
                    f"ip address add {gateway}/30 dev {name}", f"ip link set {name} up"):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            absent(f"this machine lets nobody make a network: {command}: {done.stderr.strip()}")


def _certificates(place: Path, address: str) -> None:
    """ca.pem, cert.pem and key.pem for a client, server.pem and server-key.pem for the engine."""
    openssl = program("openssl", "apt-get install openssl")
    place.mkdir()
    (place / "server.ext").write_text(f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth\n")
    (place / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    sign = "x509 -req -days 2 -CA ca.pem -CAkey ca-key.pem -CAcreateserial"
    for command in (f"req -x509 {key} -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem",
                    f"req {key} -subj /CN=engine -keyout server-key.pem -out server.csr",
                    f"{sign} -in server.csr -extfile server.ext -out server.pem",
                    f"req {key} -subj /CN=client -keyout key.pem -out client.csr",
                    f"{sign} -in client.csr -extfile client.ext -out cert.pem"):
        subprocess.run([openssl, *command.split()], cwd=place, check=True, capture_output=True)
