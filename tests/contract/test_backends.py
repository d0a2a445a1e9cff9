"""One contract for every kind of server: the Protocol's docstring, sentence by sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deploy import serving
from deploy.backends import Server, container_server, find, process_server
from deploy.backends.base import ProcessOptions
from deploy.backends.container_options import DIGEST_LABEL, LOGS, PROCESSES, RUN_LABEL, Mount
from deploy.backends.container_server import ContainerServer
from deploy.backends.engine import Engine, connect
from deploy.backends.inspecting import inspect
from deploy.backends.process import embedded_options
from deploy.backends.process_server import ProcessServer
from deploy.errors import BackendMissing, PortTaken, ServerError, StartFailed
from deploy.types import Endpoint
from tests.repository_support import savedmodel
from tests.servers_support import (
    STAND_IN,
    answers,
    container_options,
    engine_or_skip,
    fake_argv,
    free_ports,
    image_or_skip,
    spec_of,
    taken_port,
    until,
)
from tests.serving_support import spec_at

ROOT = Path(__file__).parents[2]
KINDS = ["process", "embedded", pytest.param("container", marks=pytest.mark.docker)]
needs_docker = pytest.mark.docker


@dataclass
class Maker:
    """Makes servers of one kind, and ends what a failed test left."""

    kind: str
    state: Path
    made: list[Server]

    def __call__(self, *misbehaviour: str) -> Server:
        server = {"process": self.process, "embedded": self.embedded, "container": self.container}[self.kind](
            misbehaviour)
        self.made.append(server)
        return server

    def process(self, flags: tuple[str, ...]) -> Server:
        grpc, rest = free_ports()
        return ProcessServer(ProcessOptions("fake", fake_argv(grpc, rest, *flags), Endpoint("127.0.0.1", grpc, rest),
                                            str(self.state), labels={"org.tfs-deploy.config": "c1"}))

    def embedded(self, flags: tuple[str, ...]) -> Server:
        """The real embedded server, with no models: it needs no TensorFlow for that."""
        grpc, rest = free_ports()
        empty = self.state / "models.config"
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.write_text("model_config_list {}\n")
        argv = [f"--port={grpc}", f"--rest_api_port={rest}", f"--model_config_file={empty}", "--tfs_loader=echo"]
        if any("fake_exit" in f for f in flags):
            argv.append("--grpc_max_threads=not-a-number")
        return ProcessServer(embedded_options("fake", argv, Endpoint("127.0.0.1", grpc, rest), self.state,
                                               labels={"org.tfs-deploy.config": "c1"}))

    def container(self, flags: tuple[str, ...]) -> Server:
        return ContainerServer(container_options(self.state, *flags, name="fake",
                                                 labels={"org.tfs-deploy.config": "c1"}))


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engine_or_skip()


@pytest.fixture(scope="session")
def stand_in(engine: Engine) -> str:
    return image_or_skip(engine)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    if request.param == "container":
        request.getfixturevalue("stand_in")
    maker = Maker(request.param, tmp_path / ".tfs" / "fake", [])
    yield maker
    for server in maker.made:
        server.stop(0)


def ready(server: Server) -> None:
    e = server.endpoint
    wanted = {e.grpc_port, e.rest_port}
    until(lambda: wanted <= server.listening() and all(answers_tcp(p) for p in wanted), "it listens",
          evidence=lambda: f"{server.describe()} {server.logs()}")


def answers_tcp(port: int | None) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port or 0), 2).close()
    except OSError:
        return False
    return True


def test_it_starts_listens_and_stops(make: Maker) -> None:
    server = make()
    assert not server.alive() and server.returncode() is None and server.listening() == frozenset()
    endpoint = server.start()
    ready(server)
    assert endpoint == server.endpoint and endpoint.host == "127.0.0.1"
    assert server.alive() and server.returncode() is None
    server.stop(5)
    assert not server.alive() and server.listening() == frozenset()
    assert not answers_tcp(endpoint.grpc_port) and not answers_tcp(endpoint.rest_port)


def test_stop_is_safe_at_any_time_and_twice(make: Maker) -> None:
    server = make()
    server.stop()
    server.start()
    server.stop(0)
    server.stop(0)
    assert not server.alive()


def test_it_has_one_life(make: Maker) -> None:
    server = make()
    server.start()
    with pytest.raises(ServerError, match="started before"):
        server.start()
    assert server.alive()


def test_as_a_context_manager_it_ends_with_the_block(make: Maker) -> None:
    server = make()
    with pytest.raises(ZeroDivisionError), server:
        assert server.alive()
        raise ZeroDivisionError
    assert not server.alive()


def test_what_ends_by_itself_leaves_exit_code_and_words(make: Maker) -> None:
    server = make("--fake_exit=255")
    server.start()
    until(lambda: not server.alive(), "it ends")
    assert server.returncode() not in (None, 0)
    assert make.kind == "embedded" or (server.returncode() == 255 and "a fake reason" in server.logs())
    assert server.logs(1).count("\n") == 0
    server.stop()


def test_it_is_found_again_with_everything_known(make: Maker) -> None:
    server = make()
    server.start()
    ready(server)
    server.detach()
    found = find(spec_of(server.name, make.state))
    assert found is not None and found.alive()
    assert (found.name, found.kind, found.argv) == (server.name, server.kind, server.argv)
    assert found.endpoint == server.endpoint and found.labels == {"org.tfs-deploy.config": "c1"}
    assert found.listening() == server.listening()
    until(lambda: server.logs() and found.logs() == server.logs(), "both read the same log")
    found.stop(5)
    assert not server.alive()
    assert find(spec_of(server.name, make.state)) is None
    server.stop()


def test_nothing_is_found_where_nothing_was_started(make: Maker) -> None:
    assert find(spec_of("fake", make.state)) is None


def test_detached_it_outlives_the_block(make: Maker) -> None:
    server = make()
    with server:
        server.detach()
    assert server.alive()


def test_it_describes_itself_as_json(make: Maker) -> None:
    import json

    with make() as server:
        told = json.loads(json.dumps(server.describe()))
        assert told["running"] is True and told["kind"] == make.kind and told["argv"] == list(server.argv)
        assert told["endpoint"]["rest_port"] == server.endpoint.rest_port and told["since"]
    assert server.describe()["running"] is False


@pytest.mark.parametrize("kind", ["process", pytest.param("container", marks=needs_docker)])
def test_who_ignores_sigterm_is_killed_after_the_grace(kind: str, tmp_path: Path, request: pytest.FixtureRequest
                                                       ) -> None:
    if kind == "container":
        request.getfixturevalue("stand_in")
    server = Maker(kind, tmp_path, [])("--fake_deaf=true")
    server.start()
    ready(server)
    server.stop(0.2)
    assert not server.alive()


def test_a_process_takes_its_children_along(tmp_path: Path) -> None:
    server = Maker("process", tmp_path, [])("--fake_child=true")
    server.start()
    ready(server)
    child = int(server.logs().partition("child ")[2].split()[0])
    assert psutil.pid_exists(child)
    server.stop(5)
    until(lambda: not psutil.pid_exists(child), "the child ends, too")


@pytest.mark.parametrize("detach", [True, False])
def test_a_process_outlives_the_program_that_detached_it(tmp_path: Path, detach: bool) -> None:
    grpc, rest = free_ports()
    program = textwrap.dedent(f"""
        from deploy.backends.base import ProcessOptions
        from deploy.backends.process_server import ProcessServer
        from deploy.types import Endpoint
        server = ProcessServer(ProcessOptions("fake", {fake_argv(grpc, rest)!r},
                               Endpoint("127.0.0.1", {grpc}, {rest}), {str(tmp_path)!r}))
        with server:
            {"server.detach()" if detach else "pass"}
    """)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)
    found = process_server.find("fake", tmp_path, "process")
    assert (found is not None) is detach
    if found:
        ready(found)
        found.stop(5)
        assert process_server.find("fake", tmp_path, "process") is None


def test_ctrl_c_reaches_neither_the_detached_server_nor_is_it_lost(tmp_path: Path) -> None:
    """A terminal sends SIGINT to its whole process group; ours isn't in it."""
    grpc, rest = free_ports()
    program = textwrap.dedent(f"""
        import os, signal
        from deploy.backends.base import ProcessOptions
        from deploy.backends.process_server import ProcessServer
        from deploy.types import Endpoint
        server = ProcessServer(ProcessOptions("fake", {fake_argv(grpc, rest)!r},
                               Endpoint("127.0.0.1", {grpc}, {rest}), {str(tmp_path)!r}))
        server.start(); server.detach()
        os.killpg(os.getpgrp(), signal.SIGINT)
    """)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, start_new_session=True, check=False,
                          capture_output=True)
    assert done.returncode == -signal.SIGINT
    found = process_server.find("fake", tmp_path, "process")
    assert found is not None
    found.stop(5)


@pytest.fixture
def run_container(stand_in: str, tmp_path: Path) -> Iterator[Callable[..., ContainerServer]]:
    made: list[ContainerServer] = []

    def run(*flags: str, **changes: object) -> ContainerServer:
        made.append(ContainerServer(container_options(tmp_path, *flags, **changes)))
        made[-1].start()
        return made[-1]

    yield run
    for server in made:
        server.stop(0)


@needs_docker
def test_inside_it_is_nobody_and_cannot_write(run_container: Callable[..., ContainerServer], engine: Engine) -> None:
    server = run_container()
    ready(server)
    until(lambda: answers("127.0.0.1", server.endpoint.rest_port or 0), "the program inside answers")
    assert "uid 65534" in server.logs() and "pid 1\n" not in server.logs() + "\n"
    container = engine.client.containers.get(server.options.container_name)
    for command, fine in (("touch /x", False), ("touch /tmp/x", True), ("chown 1:1 /tmp/x", False)):
        assert (container.exec_run(command).exit_code == 0) is fine, command
    host = container.attrs["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and host["ReadonlyRootfs"] and host["Init"]
    assert {b[0]["HostIp"] for b in container.attrs["NetworkSettings"]["Ports"].values() if b} == {"127.0.0.1"}


@needs_docker
def test_limits_and_restart_policy_reach_the_engine(run_container: Callable[..., ContainerServer], engine: Engine
                                                    ) -> None:
    server = run_container(cpus=0.5, memory="256m", restart="on-failure")
    container = engine.client.containers.get(server.options.container_name)
    assert container.attrs["HostConfig"]["NanoCpus"] == 500_000_000
    assert container.attrs["HostConfig"]["Memory"] == 256 << 20
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
    assert container.attrs["HostConfig"]["PidsLimit"] == PROCESSES
    memory = engine.host().memory
    plain = engine.client.containers.get(run_container().options.container_name).attrs["HostConfig"]
    assert (plain["Memory"], plain["MemorySwap"]) == (memory * 9 // 10, -1 if memory else 0)
    if engine.host().log_driver == "json-file":
        assert container.attrs["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": LOGS}
    digest = engine.pinned(server.options.image)
    assert container.attrs["Config"]["Image"] == digest == container.labels[DIGEST_LABEL]
    again = container_server.find(server.name, server.options.state_dir)
    assert again is not None and again.describe()["image"] == STAND_IN and again.describe()["image_digest"] == digest
    assert inspect(server.options.container_name, engine=engine).image == STAND_IN
    server.detach()
    container.reload()
    assert container.attrs["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}


@needs_docker
def test_only_what_carries_our_label_is_removed(run_container: Callable[..., ContainerServer], engine: Engine) -> None:
    stranger = engine.client.containers.create(STAND_IN, ["sleep", "60"], name=f"stranger-{uuid.uuid4().hex[:6]}",
                                               labels={RUN_LABEL: "another"})
    try:
        server = run_container()
        server.stop(0)
        stranger.reload()
    finally:
        stranger.remove(force=True)


@needs_docker
def test_a_taken_port_is_named_and_no_container_stays(stand_in: str, tmp_path: Path, engine: Engine) -> None:
    with taken_port() as port:
        server = ContainerServer(container_options(tmp_path, rest_port=port))
        with pytest.raises(PortTaken, match=str(port)):
            server.start()
    assert container_server.find(server.name, str(tmp_path)) is None


@needs_docker
def test_an_image_without_the_program_ends_and_says_so(run_container: Callable[..., ContainerServer]) -> None:
    server = run_container(argv=("/usr/bin/no-such-program", "--port=8500"))
    until(lambda: not server.alive(), "it ends")
    assert server.returncode() == 127 and "no-such-program" in server.logs()


@needs_docker
def test_what_the_engine_refuses_fails_with_evidence(engine: Engine, stand_in: str, tmp_path: Path) -> None:
    options = container_options(tmp_path, mounts=(Mount("/no/such/models", "/models/m"),))
    with pytest.raises(StartFailed, match="/no/such/models") as e:
        ContainerServer(options).start()
    assert e.value.argv == options.argv and e.value.details["image"] == STAND_IN
    assert e.value.details["mounts"] == ["/no/such/models -> /models/m (read-only)"]
    assert container_server.find(options.name, str(tmp_path)) is None


@needs_docker
def test_an_empty_mount_is_noticed_before_the_server_waits_for_ever(engine: Engine, stand_in: str, tmp_path: Path
                                                                    ) -> None:
    (tmp_path / "m").mkdir()
    options = container_options(tmp_path, mounts=(Mount(str(tmp_path / "m"), "/models/m"),),
                                expects=("/models/m/1/saved_model.pb",))
    with pytest.raises(StartFailed, match=r"/models/m/1/saved_model\.pb isn't in the container") as e:
        ContainerServer(options).start()
    assert e.value.details["mounts"] == [f"{tmp_path}/m -> /models/m (read-only)"] and "tfs image build" in e.value.hint
    assert container_server.find(options.name, str(tmp_path)) is None
    (tmp_path / "m/1").mkdir()
    (tmp_path / "m/1/saved_model.pb").write_bytes(b"x" * (1 << 22))
    with ContainerServer(options) as server:
        assert server.alive()


@needs_docker
def test_an_image_that_cannot_be_had_is_named(engine: Engine, tmp_path: Path) -> None:
    options = container_options(tmp_path, image="localhost:1/tfs-deploy/no-such-image:1")
    with pytest.raises(BackendMissing, match="localhost:1/tfs-deploy/no-such-image:1"):
        ContainerServer(options).start()


def test_without_an_engine_it_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(BackendMissing, match="no Docker engine answers") as e:
        connect()
    assert "start it" in e.value.hint
    with pytest.raises(BackendMissing):
        ContainerServer(container_options(tmp_path)).start()
    assert process_server.find("fake", tmp_path, "process") is None  # no engine, no container of ours


def test_a_program_that_is_no_executable_is_told(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_bytes(b"\0\0no program")
    program.chmod(0o755)
    server = ProcessServer(ProcessOptions("fake", (str(program),), Endpoint(), str(tmp_path)))
    with pytest.raises(StartFailed, match="can't be run"):
        server.start()
    server.stop()


@needs_docker
def test_a_container_that_ends_at_once_is_told_by_its_end(tmp_path: Path, stand_in: str) -> None:
    """Its ports, picked by the engine, were never known."""
    savedmodel(tmp_path / "models" / "m" / "1")
    spec = spec_at(tmp_path, "models: [{name: m, versions: 1}]", backend="container", image=STAND_IN, grpc_port=0,
                   rest_port=0, flags={"fake_exit": 3})
    with pytest.raises(StartFailed, match="ended with exit code 3 while starting"):
        serving.up(spec)
