"""One contract for every kind of backend: the Protocols' docstrings, sentence by sentence."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

import msgspec
import psutil
import pytest
from _pytest.mark import ParameterSet

from deploy import serving
from deploy.backends import (
    BACKENDS,
    Backend,
    Server,
    container_server,
    find,
    forget,
    left,
    logs,
    ports,
    process_server,
    silent,
)
from deploy.backends.backend import LocalConfig
from deploy.backends.base import ProcessOptions
from deploy.backends.container_options import DIGEST_LABEL, LOGS, PROCESSES, RUN_LABEL, Mount
from deploy.backends.container_server import ContainerServer
from deploy.backends.engine import Engine, connect
from deploy.backends.inspecting import inspect
from deploy.backends.kubernetes.cluster import connect as connect_cluster
from deploy.backends.kubernetes.options import KubernetesOptions
from deploy.backends.kubernetes.server import KubernetesServer
from deploy.backends.process_server import ProcessServer
from deploy.errors import BackendMissing, PortTaken, ServerError, StartFailed
from deploy.repository import versions_of
from deploy.spec import BackendKind, KubernetesPart, ModelsPart, RemotePart, Resources, Spec
from deploy.types import Endpoint
from tests.support.peers.engines import OtherEngine, load, other_engine
from tests.support.peers.kubernetes import VERSION, kill_container, namespace
from tests.support.ports import free_ports
from tests.support.remote import LABELS_FLAG, elsewhere
from tests.support.repository import savedmodel
from tests.support.servers import (
    FAKE,
    STAND_IN,
    answers,
    container_options,
    engine_or_skip,
    fake_argv,
    image_or_skip,
    limited_files,
    taken_port,
    until,
)
from tests.support.serving import spec_at

ROOT = Path(__file__).parents[2]
needs_docker = pytest.mark.docker
LABELS = {"org.tfs-deploy.config": "c1"}


@dataclass(frozen=True)
class Setup:
    """What a backend's servers need in these tests. A new backend needs one of these, and no other line here.

    server: the spec's server part that runs the stand-in program, or the embedded server. ends: flags with which the
    program prints something and ends by itself. crash: kills a server's program from outside. docker: needs an engine.
    foreign: somebody else starts it: `running` does, and what is about starting and stopping isn't asked.
    swarm: needs a swarm. backend: its name, for a second way to have its servers.
    kubernetes: needs a cluster. here: its ports are this machine's. text: bytes of a config file that its store takes.
    """

    server: Callable[[Path], dict[str, object]]
    ends: dict[str, object]
    crash: Callable[[Server], None]
    docker: bool = False
    foreign: bool = False
    swarm: bool = False
    backend: str = ""
    kubernetes: bool = False
    here: bool = True
    text: int = 1 << 20


def kill_process(server: Server) -> None:
    psutil.Process(server.describe()["pid"]).kill()


def kill_inside(server: Server) -> None:
    connect().client.containers.get(server.describe()["container_name"]).exec_run(["sh", "-c", "kill -9 -1"])


def kill_in_pod(server: Server) -> None:
    part = cast("KubernetesOptions", cast("KubernetesServer", server).options).part
    for pod in connect_cluster(part).list(("v1", "Pod")):
        kill_container(pod)


def in_pods(directory: Path) -> dict[str, object]:
    part = KubernetesPart(version=VERSION, namespace=NAMESPACE[-1] if NAMESPACE else "none", pull_policy="Never",
                          models=ModelsPart(host_path=str(directory / "models")))
    return {"image": STAND_IN, "kubernetes": part, "drain": 0.0}


def in_swarm(_: Path) -> dict[str, object]:
    there = SWARM[0] if SWARM else None
    return {"image": STAND_IN, "grpc_port": 0, "rest_port": 0, "host": "0.0.0.0", **(
        {"docker": there.docker, "docker_tls": str(there.tls)} if there else {"docker_files": "volumes"})}


def kill_in_swarm(server: Server) -> None:
    SWARM[0].connect().client.containers.get(server.describe()["container_name"]).exec_run(["sh", "-c", "kill -9 -1"])


def fake_program(directory: Path) -> dict[str, object]:
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "fake_server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    return {"binary": str(program)}


SETUPS = {
    "process": Setup(fake_program, {"fake_exit": 255}, kill_process),
    "embedded": Setup(lambda _: {"flags": {"tfs_loader": "echo"}}, {"grpc_max_threads": "not-a-number"}, kill_process),
    "container": Setup(lambda _: {"image": STAND_IN, "grpc_port": 0, "rest_port": 0}, {"fake_exit": 255}, kill_inside,
                       docker=True),
    "container by volumes": Setup(lambda _: {"image": STAND_IN, "grpc_port": 0, "rest_port": 0,
                                             "docker_files": "volumes"},
                                  {"fake_exit": 255}, kill_inside, docker=True, backend="container"),
    "swarm": Setup(in_swarm, {"fake_exit": 255}, kill_in_swarm, docker=True, swarm=True, here=False),
    "remote": Setup(lambda _: {}, {}, kill_process, foreign=True),
    "kubernetes": Setup(in_pods, {"fake_exit": 255}, kill_in_pod, docker=True, kubernetes=True, here=False,
                        text=1 << 18),
}
NAMESPACE = list[str]()  # of the test that runs
SWARM = list[OtherEngine]()  # the engine that manages one, once a test has asked for it


def names(*, foreign: bool) -> list[ParameterSet]:
    """The backends, those whose servers we start, or all."""
    return [pytest.param(name, marks=marks(setup)) for name, setup in SETUPS.items() if foreign or not setup.foreign]


def marks(setup: Setup) -> list[pytest.MarkDecorator]:
    return [*[needs_docker] * setup.docker, *[pytest.mark.kubernetes] * setup.kubernetes]


def surround(setup: Setup, request: pytest.FixtureRequest, stack: ExitStack) -> None:
    """What a backend's servers need around them, until the stack ends."""
    if setup.docker:
        request.getfixturevalue("stand_in")
    if setup.swarm:
        request.getfixturevalue("swarm")
    if setup.kubernetes:
        NAMESPACE.append(stack.enter_context(namespace()).name)


@dataclass
class Maker:
    """Makes servers of one backend, and ends what a failed test left."""

    backend: Backend
    setup: Setup
    directory: Path
    made: list[Server] = field(default_factory=list)

    def spec(self, flags: dict[str, object] | None = None, **server: object) -> Spec:
        """A spec of one model that is there, whose server is this backend's."""
        if not (self.directory / "models").exists():
            savedmodel(self.directory / "models" / "m" / "1")
        ours = self.setup.server(self.directory)
        known = cast("dict[str, object]", ours.get("flags", {}))
        return spec_at(self.directory, backend=self.backend.name,
                       **{**ours, **server, "flags": {**known, **(flags or {})}})

    def __call__(self, flags: dict[str, object] | None = None, **server: object) -> Server:
        """Made as `up` makes it, not started."""
        spec = self.backend.prepared(self.spec(flags, **server))
        self.backend.stage(spec, [versions_of(spec.models[0]).version(1)], silent)
        launch = self.backend.plan(spec, labels=LABELS, versions={"m": ["1"]})
        self.backend.config(spec).write(launch.files)
        made = self.backend.server(launch, silent)
        self.made.append(made)
        return made


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engine_or_skip()


@pytest.fixture(scope="session")
def stand_in(engine: Engine) -> str:
    return image_or_skip(engine)


@pytest.fixture(scope="session")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine of another machine that manages a swarm of its own, with the stand-in's image."""
    with other_engine(tmp_path_factory.mktemp("swarm")) as other:
        load(other)
        image_or_skip(other.connect())
        other.connect().client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
        SWARM.append(other)
        yield
        SWARM.clear()


@pytest.fixture(params=names(foreign=True))
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Maker, Server]]:
    """A server that answers: started as `up` does, or by somebody else."""
    setup = SETUPS[request.param]
    with ExitStack() as stack:
        if setup.foreign:
            there = stack.enter_context(elsewhere(tmp_path / "there"))
            setup = replace(setup, server=lambda _: {"remote": there.part(models=str(there.models),
                                                                          stage=str(there.models))})
        surround(setup, request, stack)
        maker = Maker(BACKENDS[setup.backend or request.param], setup, tmp_path)
        server = maker()
        stack.callback(lambda: maker.backend.discard(maker.spec()) if setup.backend or setup.swarm else None)
        if not setup.foreign:
            stack.enter_context(server)
        ready(server)
        yield maker, server


@pytest.fixture(params=names(foreign=False))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    setup = SETUPS[request.param]
    with ExitStack() as stack:
        surround(setup, request, stack)
        maker = Maker(BACKENDS[setup.backend or request.param], setup, tmp_path)
        yield maker
        for server in maker.made:
            server.stop(0)
        if maker.made:
            maker.backend.discard(maker.spec())


def ready(server: Server) -> None:
    e = server.endpoint
    wanted = {e.grpc_port, e.rest_port}
    until(lambda: wanted <= server.listening() and all(answers_tcp(p, e.host) for p in wanted), "it listens",
          evidence=lambda: f"{server.describe()} {server.logs()}")


def answers_tcp(port: int | None, host: str = "127.0.0.1") -> bool:
    import socket

    try:
        socket.create_connection((host, port or 0), 2).close()
    except OSError:
        return False
    return True


def test_every_backend_keeps_the_contract() -> None:
    ours = {name for name, setup in SETUPS.items() if not setup.backend}
    assert ours == BACKENDS.keys() == {*get_args(BackendKind)} - {"auto"}


def test_it_starts_listens_and_stops(make: Maker) -> None:
    server = make()
    assert not server.alive() and server.returncode() is None and server.listening() == frozenset()
    endpoint = server.start()
    ready(server)
    assert endpoint == server.endpoint and (endpoint.host == "127.0.0.1") is make.setup.here
    assert server.alive() and server.returncode() is None
    server.stop(5)
    assert not server.alive() and server.listening() == frozenset()
    assert not answers_tcp(endpoint.grpc_port, endpoint.host) and not answers_tcp(endpoint.rest_port, endpoint.host)
    assert server.describe()["running"] is False


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
    server = make(make.setup.ends)
    server.start()
    until(lambda: not server.alive(), "it ends")
    assert server.returncode() not in (None, 0)
    assert server.logs() and server.logs(1).count("\n") == 0
    server.stop()


def test_it_is_found_again_with_everything_known(make: Maker) -> None:
    server = make()
    server.start()
    ready(server)
    server.detach()
    found = find(make.spec())
    assert found is not None and found.alive()
    assert (found.name, found.kind, found.argv) == (server.name, server.kind, server.argv)
    assert found.endpoint == server.endpoint and found.labels == LABELS
    assert found.listening() == server.listening()
    until(lambda: server.logs() and found.logs() == server.logs(), "both read the same log")
    found.stop(5)
    assert not server.alive()
    assert find(make.spec()) is None
    server.stop()


def test_nothing_is_found_where_nothing_was_started(make: Maker) -> None:
    assert find(make.spec()) is None and make.backend.logs(make.spec(), 10) is None


def test_detached_it_outlives_the_block(make: Maker) -> None:
    server = make()
    with server:
        server.detach()
    assert server.alive()


def test_it_describes_itself_as_json(running: tuple[Maker, Server]) -> None:
    (make, server), can = running, running[0].backend.capabilities
    told = json.loads(json.dumps(server.describe()))
    assert told["running"] is True and told["kind"] == make.backend.name and told["argv"] == list(server.argv)
    assert told["endpoint"]["rest_port"] == server.endpoint.rest_port and bool(told["since"]) is can.starts


def test_who_starts_it_is_known(running: tuple[Maker, Server]) -> None:
    make, server = running
    found = find(make.spec())
    assert found is not None and found.alive() and found.endpoint == server.endpoint
    if not make.backend.capabilities.starts:
        with pytest.raises(ServerError, match="somebody else"):
            server.start()
        server.stop(0)
        assert server.alive() and server.listening() == {server.endpoint.grpc_port, server.endpoint.rest_port}


def test_where_it_sees_its_files(running: tuple[Maker, Server]) -> None:
    make, server = running
    spec, can = make.spec(), make.backend.capabilities
    layout, here = make.backend.layout(spec), spec.models[0].base_path
    inside = [layout.base_paths["m"], f"{layout.base_paths['m']}/1/saved_model.pb", layout.config("models.config")]
    assert server.missing([*inside, f"{layout.base_paths['m']}/2"]) == [f"{layout.base_paths['m']}/2"]
    assert can.own_files is (layout.base_paths["m"] != here)
    if can.starts:  # else nobody knows what it has besides its models
        assert bool(server.missing([here])) is can.own_files
    assert (make.backend.user is None) or make.backend.user == ":".join(map(str, make.backend.reader))


def test_who_listens_on_its_ports_here(running: tuple[Maker, Server]) -> None:
    make, server = running
    pid, owners = server.describe().get("pid"), ports.owners(server.endpoint.rest_port or 0)
    assert any(f"(pid {pid})" in owner for owner in owners) is not make.backend.capabilities.own_network


def test_who_drains_ends_well(make: Maker) -> None:
    """tensorflow_model_server, and the stand-in for it, is ended by the signal."""
    server = make()
    server.start()
    ready(server)
    server.stop(10)
    if server.returncode() is not None:  # where the server goes with its exit code nobody can tell
        assert (server.returncode() == 0) is make.backend.capabilities.drains


def test_who_restarts_comes_back_as_another_run(make: Maker) -> None:
    server = make(restart="always")  # ports that an engine picked are others then
    server.start()
    ready(server)
    server.detach()
    before = server.instance()
    assert before is not None and server.instance() == before
    make.setup.crash(server)
    if make.backend.capabilities.restarts:
        until(lambda: server.instance() not in (None, before), "it comes back", evidence=server.describe)
        ready(server)
    else:
        until(lambda: not server.alive(), "it ends")
        assert server.instance() is None
    server.stop(0)
    assert not server.alive()


def test_what_it_said_outlives_it(make: Maker) -> None:
    """Another process asks: by the spec only."""
    server = make(make.setup.ends)
    server.start()
    until(lambda: not server.alive(), "it ends")
    said, again = (re.sub(r"\bpid \d+", "", text) for text in (server.logs(3), logs(make.spec(), 3)))
    # of another run than the first one's, where it was started again meanwhile
    assert (again == said and said != "") is make.backend.capabilities.logs_after_end


def test_what_ended_is_found_or_has_left_something(make: Maker) -> None:
    server = make(make.setup.ends)
    server.start()
    until(lambda: not server.alive(), "it ends")
    found, remains = find(make.spec()), left(make.spec(), 3)
    assert (found is None) is (remains is not None)
    seen = remains[1] if remains is not None else found.inspect(3) if found is not None else None
    assert seen is not None and seen.argv == server.argv and not seen.running and seen.log == server.logs(3)
    assert remains is None or remains[0] is make.backend
    server.stop(0)
    forget(make.spec())
    assert find(make.spec()) is None and left(make.spec(), 3) is None


def test_what_it_is_from_outside(running: tuple[Maker, Server]) -> None:
    make, server = running
    if make.backend.capabilities.starts:
        until(lambda: server.logs() and server.inspect(10).log == server.logs(10), "its log is there")
    seen = server.inspect(10)
    assert seen.running and seen.argv == server.argv and seen.exit_code is None


def test_its_limits_hold(make: Maker) -> None:
    with make(resources=Resources(memory="256m")) as server:
        ready(server)
        memory = server.memory()
        if memory is None and make.setup.kubernetes:  # without a metrics server nobody knows
            return
        assert memory is not None and 0 < memory.used < memory.limit
        assert (memory.limit == 256 << 20) is make.backend.capabilities.limits_memory


def test_one_process_stands_behind_its_address(make: Maker) -> None:
    server = make()
    assert server.replicas() == ()
    with server:
        ready(server)
        replicas = server.replicas()
        assert make.backend.capabilities.replicas or [r.endpoint for r in replicas] == [server.endpoint]
        assert len({r.name for r in replicas}) == len(replicas) > 0
    assert server.replicas() == ()


def test_what_it_needs_and_is(running: tuple[Maker, Server]) -> None:
    make, _ = running
    spec, can = make.spec(), make.backend.capabilities
    needs = make.backend.surroundings(spec)
    assert not needs.engine_error and not needs.program_error
    assert (needs.image == spec.server.image) is (needs.image_here is True) is can.images
    argv = make.backend.plan(spec, labels={}).options.argv or ()
    assert ("deploy.modelserver" in argv) is can.bundled
    assert make.backend.offer(spec, silent, pull=False) is not None


@pytest.mark.parametrize("backend", BACKENDS.values())
def test_a_plan_is_json_and_asks_nobody(backend: Backend, tmp_path: Path) -> None:
    setup = SETUPS[backend.name]
    if setup.foreign:
        setup = replace(setup, server=lambda _: {"remote": RemotePart(grpc="192.0.2.1:8500", models="/models")})
    make = Maker(backend, setup, tmp_path)
    spec = make.spec(grpc_port=8500, rest_port=0)
    launch = make.backend.plan(spec, labels=LABELS)
    assert launch == make.backend.plan(spec, labels=LABELS)
    assert json.loads(json.dumps(launch.options.to_json())) and launch.options.name == spec.name
    assert "models.config" in launch.files and not spec.state_dir.exists()


@pytest.fixture(params=[*names(foreign=True), "remote with a file there"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    """For their config stores; nothing runs."""
    name, _, file = request.param.partition(" with ")
    setup = SETUPS[name]
    with ExitStack() as stack:
        if setup.kubernetes or setup.swarm or setup.backend:
            surround(setup, request, stack)
        maker = stores_of(setup.backend or name, setup, tmp_path, file)
        yield maker
        if setup.backend or setup.swarm:
            maker.backend.discard(maker.spec())


def stores_of(name: str, setup: Setup, tmp_path: Path, file: str) -> Maker:
    if setup.foreign:
        there = tmp_path / "there"
        there.mkdir()
        part = RemotePart(grpc="192.0.2.1:8500", config_file=str(there / "served.config") if file else None)
        setup = replace(setup, server=lambda _: {"remote": part, "flags": {LABELS_FLAG: True}})
    return Maker(BACKENDS[name], setup, tmp_path)


def test_the_config_store_gives_back_what_it_got(stores: Maker) -> None:
    make = stores
    store = make.backend.config(make.spec())
    assert store.read("models.config") is None
    store.write({"models.config": "one\n", "other": "\u00e4\n"}, {"ssl.config": "key\n"})
    assert [store.read(n) for n in ("models.config", "other", "ssl.config")] == ["one\n", "\u00e4\n", "key\n"]
    store.write({"models.config": "two\n"})
    again = make.backend.config(make.spec())
    assert [again.read(n) for n in ("models.config", "other")] == ["two\n", "\u00e4\n"]
    assert again.place in again.path("models.config")
    assert (again.lost_on_restart == "") is (make.backend.capabilities.starts or "config_file" in
                                             json.dumps(msgspec.to_builtins(make.spec().server)))


def test_the_config_store_has_the_old_text_or_the_new_one(stores: Maker) -> None:
    store, texts = stores.backend.config(stores.spec()), [letter * stores.setup.text for letter in "ab"]
    store.write({"models.config": texts[0]})
    seen: set[str | None] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(store.read("models.config"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 20):
            store.write({"models.config": texts[number % 2]})
    finally:
        over.set()
        reader.join()
    assert seen <= {*texts}


def test_a_config_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    """A disk that is full, as far as a text longer than what is left of it goes."""
    store = LocalConfig(tmp_path / "config")
    store.write({"models.config": "old\n"})
    with limited_files(1000), pytest.raises(ServerError, match=r"can't write"):
        store.write({"models.config": "x" * 5000})
    assert store.read("models.config") == "old\n"


@pytest.mark.parametrize("name", ["process", pytest.param("container", marks=needs_docker)])
def test_who_ignores_sigterm_is_killed_after_the_grace(name: str, tmp_path: Path, request: pytest.FixtureRequest
                                                       ) -> None:
    if SETUPS[name].docker:
        request.getfixturevalue("stand_in")
    server = Maker(BACKENDS[name], SETUPS[name], tmp_path)({"fake_deaf": True})
    server.start()
    ready(server)
    server.stop(0.2)
    assert not server.alive()


def test_a_process_takes_its_children_along(tmp_path: Path) -> None:
    server = Maker(BACKENDS["process"], SETUPS["process"], tmp_path)({"fake_child": True})
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
