"""Containers on another machine's Docker engine: over TLS and over SSH; it sees nothing of this machine's disk."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from docker.models.services import Service
from docker.types import Mount

from deploy import files as disk
from deploy import fleet, rollout, serving
from deploy.backends import BACKENDS, find
from deploy.backends.container_files import models_volume
from deploy.backends.engine import connect
from deploy.backends.volume_files import _show
from deploy.backends.volumes import tar_of
from deploy.errors import BackendMissing, DeployError, PortTaken, ServerError
from deploy.repository import versions_of
from deploy.serving.snapshot import open_release
from deploy.spec import RolloutPart, Spec, load_spec
from deploy.state import ledger_of
from tests.support.docker_engine import engine_that_says
from tests.support.peers.engines import OtherEngine, load, other_engine
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, server_image_or_skip, until
from tests.support.serving import spec_at
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


def test_a_spec_that_names_another_engine_leaves_no_server_behind(spec: Spec, other: OtherEngine) -> None:
    """Both engines are real; the server runs on the other machine, and the spec says it is here."""
    serving.up(spec)
    here = msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, docker=None))
    where = f"is on {spec.server.docker}, where it was started"
    assert where in serving.status(here).problems[0] and "tfs down stops it there" in serving.status(here).problems[0]
    for refused_verb in (lambda: serving.up(here), lambda: rollout.roll_out(here, "m", 2)):
        with pytest.raises(ServerError, match=where) as e:
            refused_verb()
        assert e.value.id == "engine-moved" and len(str(e.value).splitlines()) == 1
    gone = msgspec.structs.replace(here, server=msgspec.structs.replace(here.server, docker="unix:///nowhere.sock"))
    assert where in serving.status(gone).problems[0]
    told = list[str]()
    assert serving.down(here, progress=told.append) and where in told[0]
    assert find(spec) is None and not serving.down(here)
    assert "isn't running" in serving.status(here).problems[0]


@pytest.fixture(scope="module")
def image(other: OtherEngine) -> str:
    return load(other, server_image_or_skip(engine_or_skip()))


@pytest.fixture
def spec(other: OtherEngine, image: str, home: Path, tmp_path: Path) -> Iterator[Spec]:
    """A server of model m, version 1, on the other machine, over SSH."""
    savedmodel(tmp_path / "models" / "m" / "1", weights=3_000_000)
    spec = spec_at(tmp_path, "models: [{name: m, versions: [1], labels: {stable: 1}}]", backend="container",
                   image=image, docker=other.ssh_address, host="0.0.0.0", grpc_port=0, rest_port=0, restart="always",
                   flags={"tfs_loader": "echo"})
    yield spec
    serving.down(spec, volumes=True)
    assert not [v.name for v in other.connect().client.volumes.list() if "tfs" in v.name]
    assert not other.connect().client.containers.list(all=True)


def quick(spec: Spec) -> Spec:
    return msgspec.structs.replace(spec, rollout=RolloutPart(canary=False, compare=False, soak=0.1, hold=0.1))


def inside(other: OtherEngine, spec: Spec, command: str) -> str:
    server = find(spec)
    assert server is not None
    ran = other.connect().client.containers.get(server.describe()["container_name"]).exec_run(["sh", "-c", command])
    return str(ran.output.decode())


def test_a_server_there_from_up_to_down(other: OtherEngine, spec: Spec) -> None:
    said: list[str] = []
    running = serving.up(spec, progress=said.append)
    assert running.endpoint.host == other.address
    assert [line for line in said if "doesn't see this machine's files" in line]
    assert [line for line in said if line.startswith("bringing m/1 to the engine at ssh://")]
    status = serving.status(spec)
    assert status.running and not status.problems and not status.drift
    assert "tfs_loader" in " ".join(running.server.argv) and serving.logs(spec, 5)
    assert inside(other, spec, "touch /models/x || touch /etc/tfs/x").count("Read-only") == 2
    assert inside(other, spec, "stat -c '%u %a' /models/m/1/saved_model.pb /models/m/1 /etc/tfs/models.config").split(
        ) == ["65534", "644", "65534", "755", "65534", "644"]
    serving.up(spec, progress=(again := list[str]()).append)
    assert not [line for line in again if "bringing" in line]


def test_a_release_there(other: OtherEngine, spec: Spec, tmp_path: Path) -> None:
    serving.up(spec)
    savedmodel(tmp_path / "models" / "m" / "2", weights=1000)
    said: list[str] = []
    rollout.roll_out(quick(spec), "m", 2, progress=said.append)
    assert [line for line in said if line.startswith("bringing m/2")]
    assert "versions: 2" in inside(other, spec, "cat /etc/tfs/models.config")


def test_only_what_is_missing_is_sent_and_what_was_removed_here_goes_there(
        other: OtherEngine, spec: Spec, tmp_path: Path) -> None:
    def staged(*numbers: int) -> list[str]:
        said: list[str] = []
        stored = versions_of(spec.models[0])
        BACKENDS["container"].stage(spec, [stored.version(number) for number in numbers], said.append)
        with models_volume(spec, other.connect).held() as holder:
            assert holder.run("ls -A /tfs").split() == [".tfs-index.json", "m"]
            there = holder.run("ls /tfs/m").split()
        return [*(line.split()[1] for line in said if line.startswith("bringing")), "->", *there]

    assert staged(1) == ["m/1", "->", "1"]
    savedmodel(tmp_path / "models" / "m" / "2")
    assert staged(1, 2) == ["m/2", "->", "1", "2"]
    assert staged(2) == ["->", "1", "2"]
    shutil.rmtree(tmp_path / "models" / "m" / "1")
    (tmp_path / "models" / "m" / "2" / "more").write_text("changed by hand, as what has no manifest may be")
    assert staged(2) == ["m/2", "->", "2"]


def test_what_arrives_otherwise_than_it_was_sent_is_shown_to_nobody(other: OtherEngine, spec: Spec, tmp_path: Path
                                                                    ) -> None:
    volume = models_volume(spec, other.connect)
    with volume.held() as holder:
        holder.put(tar_of({".tfs-stage/m/1/saved_model.pb": b"other",
                           ".tfs-stage/m/1.sums": b"0" * 64 + b"  saved_model.pb\n"}))
        with pytest.raises(ServerError, match="saved_model.pb: FAILED"):
            holder.run(_show(["m/1"], (65534, 65534)))
        assert holder.run("ls /tfs") == "" == holder.run("rm -r /tfs/.tfs-stage")


KILLED = """
import os, sys
from pathlib import Path
from deploy import serving, rollout
from deploy.backends.volumes import Holder
from deploy.spec import load_spec

point, put, run = sys.argv[2], Holder.put, Holder.run

def end():
    os.kill(os.getpid(), 9)

def half(stream):
    for number, piece in enumerate(stream):
        yield piece
        if number == 3:
            end()

def deadly_put(self, stream, path="/tfs"):
    if isinstance(stream, bytes):
        return put(self, stream, path)
    put(self, half(stream) if point == "while it is sent" else stream, path)

def deadly_run(self, script):
    if "sha256sum" in script and point == "before it is checked":
        self._container.start = end
    answer = run(self, script)
    if "sha256sum" in script and point == "when it is shown":
        end()
    if "-models.config" in script:
        end()
    return answer

Holder.put, Holder.run = deadly_put, deadly_run
spec = load_spec(sys.argv[1])
rollout.roll_out(spec, "m", 2) if len(sys.argv) > 3 else serving.up(spec)
"""


def killed(spec: Spec, point: str, *more: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(spec.path), point, *more], capture_output=True, text=True,
                          check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_the_tool_is_killed_while_it_copies(other: OtherEngine, spec: Spec, tmp_path: Path) -> None:
    """At each step of bringing a version, and of writing a config file: nothing half-done is there for the server, and
    the same command goes on."""
    spec.path.write_text(
        "models: [{name: m, versions: [1], labels: {stable: 1}}]\nserver: {backend: container, host: 0.0.0.0, "
        f"grpc_port: 0, rest_port: 0, image: '{spec.server.image}', docker: '{other.docker}', "
        f"docker_tls: '{other.tls}', restart: always, flags: {{tfs_loader: echo}}}}\n"
        "rollout: {canary: false, compare: false, soak: 0, hold: 0}\n")
    near, engine = load_spec(spec.path), other.connect()

    def shown() -> list[str]:
        """What a server sees; each version is whole."""
        holder = engine.client.containers.run(
            spec.server.image, ["-c", "cd /x && ls m 2> /dev/null; cat m/2/* m/2/*/* 2> /dev/null | wc -c"],
            entrypoint="sh", user="0", remove=True, mounts=[Mount("/x", models_volume(spec, other.connect).name)])
        *versions, size = holder.decode().split()
        assert int(size) == (disk.total(tmp_path / "models" / "m" / "2")[0] if "2" in versions else 0)
        return versions

    killed(near, "while it is sent")
    assert shown() == [] and find(near) is None
    serving.up(near)
    savedmodel(tmp_path / "models" / "m" / "2", weights=3_000_000)
    for point, there in (("while it is sent", ["1"]), ("before it is checked", ["1"]),
                         ("when it is shown", ["1", "2"]), ("a config file", ["1", "2"])):
        killed(near, point, "rollout")
        assert shown() == there, point
        status = serving.status(near)
        served = {1, 2} if point == "a config file" else {1}  # it is written when the new version has been tested
        assert status.running and set(status.models[0].served) == served and not status.problems, (point, status)
    rollout.go_on(near, "m") if open_release(ledger_of(near).read()) else rollout.roll_out(near, "m", 2)
    status = serving.status(near)
    assert status.ready and not status.drift and set(status.models[0].served) == {2}
    with models_volume(spec, other.connect).held() as holder:
        assert holder.run("ls -A /tfs").split() == [".tfs-index.json", "m"]
    assert len(engine.client.containers.list(all=True)) == 1, "the server's; what killed ones left is gone"
    assert "models.config" in inside(other, near, "ls -A /etc/tfs").split()
    assert not [name for name in inside(other, near, "ls -A /etc/tfs").split() if name.startswith(".")]


def test_a_full_disk_there(other: OtherEngine, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.backends.volume_files._SPARE", 1 << 60)
    with pytest.raises(ServerError, match="MB left") as error:
        serving.up(spec)
    assert error.value.id == "engine-disk-full" and find(spec) is None


def test_a_volume_of_somebody_else_stays(other: OtherEngine, spec: Spec) -> None:
    stranger = other.connect().client.volumes.create(models_volume(spec, other.connect).name)
    try:
        with pytest.raises(ServerError, match="isn't ours"):
            serving.up(spec)
    finally:
        stranger.remove()


def test_a_port_that_is_taken_there(other: OtherEngine, spec: Spec, tmp_path: Path) -> None:
    running = serving.up(spec)
    second = spec_at(tmp_path / "second", f"repository: {tmp_path}/models\nmodels: [{{name: m, versions: [1]}}]",
                     image=spec.server.image, docker=spec.server.docker, backend="container", host="0.0.0.0",
                     rest_port=running.endpoint.rest_port)
    with pytest.raises(PortTaken, match=f"{running.endpoint.rest_port}.*serving runs there already, which was started "
                                        f"from {spec.state_dir}"):
        serving.up(second)
    shared = msgspec.structs.replace(second, rollout=RolloutPart(lock=str(tmp_path / "ops")))
    for verb in (serving.up, serving.status, serving.down):
        with pytest.raises(ServerError, match=f"was started on that Docker engine from {spec.state_dir}") as e:
            verb(shared)
        assert e.value.id == "other-state"
    serving.down(second, volumes=True)


def test_a_server_on_its_loopback_is_refused_before_anything_is_copied(other: OtherEngine, spec: Spec) -> None:
    here = msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, host="127.0.0.1"))
    with pytest.raises(ServerError, match="can't be reached from here") as error:
        serving.up(here)
    assert error.value.id == "engine-elsewhere" and not other.connect().client.volumes.list()


@pytest.fixture
def swarm(other: OtherEngine) -> Iterator[None]:
    client = other.connect().client
    client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    yield
    client.swarm.leave(force=True)


def test_a_release_of_a_service_in_swarm(other: OtherEngine, spec: Spec, swarm: None, tmp_path: Path) -> None:
    service = quick(msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, backend="swarm")))
    try:
        serving.up(service)
        savedmodel(tmp_path / "models" / "m" / "2", weights=1000)
        before = other.connect().client.containers.list()[0].id
        rollout.roll_out(service, "m", 2)
        status = serving.status(service)
        assert status.running and not status.problems and not status.drift
        assert [c.id for c in other.connect().client.containers.list()] == [before], "no task was replaced"
        assert "versions: 2" in inside(other, service, "cat /etc/tfs/models.config")
    finally:
        serving.down(service, volumes=True)
    assert not other.connect().client.services.list()


def test_services_that_others_change(other: OtherEngine, image: str, home: Path, swarm: None, tmp_path: Path) -> None:
    """Two services, released in waves; between two waves Swarm replaces a task; then somebody scales a service."""
    for number in (1, 2, 3):
        savedmodel(tmp_path / "models" / "m" / str(number))
    (tmp_path / "serving.yaml").write_text(
        "models: [{name: m, versions: [1], labels: {stable: 1}}]\n"
        f"server: {{backend: swarm, host: 0.0.0.0, grpc_port: 0, rest_port: 0, image: '{image}', restart: always, "
        f"docker: '{other.docker}', docker_tls: '{other.tls}', flags: {{tfs_loader: echo}}}}\n"
        "servers: [{name: a}, {name: b}]\n"
        "rollout: {canary: false, compare: false, soak: 0, hold: 0, patience: 60, waves: [1, 100%]}\n")
    spec, client = load_spec(tmp_path / "serving.yaml"), other.connect().client
    first, second = spec.servers

    def served(one: Spec) -> list[int]:
        return list(serving.status(one).models[0].served)

    def service(one: Spec) -> Service:
        (found,) = client.services.list(filters={"label": f"org.tfs-deploy.name={one.name}"})
        return found

    try:
        assert not [r.error for r in fleet.everywhere(spec.servers, lambda one, _: serving.up(one)) if r.error]
        waited = fleet.roll_out(spec, "m", 2, pause_before=["wave"])
        assert waited.ended.outcome == "paused" and [served(one) for one in spec.servers] == [[1, 2], [1]]
        before = find(first)
        assert before is not None
        old = before.instance()
        service(first).force_update()
        until(lambda: (now := find(first)) is not None and now.alive() and now.instance() != old, "another task runs")
        assert fleet.go_on(spec, "m").ended.outcome == "done" and [served(one) for one in spec.servers] == [[2], [2]]
        service(second).scale(2)
        name = service(second).name
        for refused_verb in (lambda: serving.up(second), lambda: rollout.roll_out(second, "m", 3)):
            with pytest.raises(DeployError, match=f"somebody has scaled service {name} to 2 tasks"):
                refused_verb()
        assert f"scaled service {name} to 2 tasks" in " ".join(serving.status(second).problems)
        service(second).scale(1)
        until(lambda: serving.status(second).ready, "it is one again")
        assert fleet.roll_out(spec, "m", 3).ended.outcome == "done"
        assert [served(one) for one in spec.servers] == [[3], [3]]
    finally:
        for one in spec.servers:
            serving.down(one, volumes=True)
    assert not client.services.list()


def test_swarm_where_there_is_none_or_on_one_address(other: OtherEngine, spec: Spec) -> None:
    change = msgspec.structs.replace
    for server, words in ((change(spec.server, backend="swarm"), "manages no swarm"),
                          (change(spec.server, backend="swarm", host=other.address), "listens on all addresses")):
        with pytest.raises(ServerError, match=words) as error:
            serving.up(change(spec, server=server))
        assert error.value.id == "swarm-unusable"
    serving.down(spec, volumes=True)
