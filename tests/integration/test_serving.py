"""up, status, logs, down with real servers: what is promised when it works, and what is left when it doesn't."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from deploy import client, serving
from deploy.backends import record
from deploy.backends.container_options import NAME_LABEL
from deploy.backends.engine import Engine
from deploy.errors import (
    BackendMissing,
    DeployError,
    IncompleteVersion,
    NotReady,
    PortTaken,
    RepositoryError,
    ServerError,
    StartFailed,
    VersionNotFound,
)
from deploy.spec import Spec
from deploy.state import Ledger
from deploy.wire import model_pb2
from tests.support.servers import (
    FAKE,
    engine_or_skip,
    image_or_skip,
    server_image_or_skip,
    taken_port,
    until,
)
from tests.support.serving import spec_at

ROOT = Path(__file__).parents[2]
TWO_MODELS = """
models:
  - {name: half, versions: [1, 2], labels: {stable: 1, canary: 2}}
  - {name: mnist, versions: latest}
"""
ECHO = {"tfs_loader": "echo"}
KINDS = ["embedded", "process", pytest.param("container", marks=pytest.mark.docker)]
pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="session")
def engine() -> Engine:
    return engine_or_skip()


@pytest.fixture
def repository(models: Path, tmp_path: Path) -> Path:
    """half/1, half/2 and mnist/3, readable for everybody."""
    root = tmp_path / "models"
    for name, version in (("half_plus_two", "half/1"), ("half_plus_three", "half/2"), ("mnist", "mnist/3")):
        shutil.copytree(models / name, root / version)
    return root


def binary(tmp_path: Path) -> str:
    """The embedded server as if it were a tensorflow_model_server of this machine."""
    program = tmp_path / "tensorflow_model_server"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m deploy.modelserver "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def started() -> Iterator[list[Spec]]:
    """Specs whose servers a failed test may have left."""
    specs: list[Spec] = []
    yield specs
    for spec in specs:
        left = serving.find(spec)
        if left is not None:
            left.stop(0)


def spec_for(kind: str, tmp_path: Path, request: pytest.FixtureRequest, **server: object) -> Spec:
    given: dict[str, object] = {"backend": kind, "drain": 2.0, "start_timeout": 60.0, **server}
    if kind == "container":
        given = {"image": server_image_or_skip(request.getfixturevalue("engine")), **given}
    if kind == "process":
        given = {"binary": binary(tmp_path), **given}
    return spec_at(tmp_path, TWO_MODELS, **given)


def nothing_left(spec: Spec) -> None:
    assert serving.find(spec) is None
    assert record.read(spec.state_dir) is None
    marked = str(spec.state_dir)
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if marked in " ".join(p.info["cmdline"] or ())] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_life(kind: str, repository: Path, tmp_path: Path, request: pytest.FixtureRequest,
                        started: list[Spec]) -> None:
    spec = spec_for(kind, tmp_path, request)
    started.append(spec)
    told: list[str] = []
    running = serving.up(spec, progress=told.append)
    assert (running.backend, running.already) == (kind, False) and any("started" in t for t in told)
    assert running.to_json()["models"]["half"] == {"versions": [1, 2], "labels": {"stable": 1, "canary": 2}}

    for target in (running.endpoint.grpc_target, running.endpoint.rest_url):
        with client.connect(target) as asked:
            for ref, answer in (("half@stable", 3.0), ("half@canary", 4.0), ("half/1", 3.0), ("half", 4.0)):
                got = asked.predict(ref, {"x": np.array([2.0], np.float32)})
                assert got["y"].tolist() == [answer], (target, ref)
            assert asked.predict("mnist", np.zeros((2, 784), np.float32))["probs"].shape == (2, 10)

    status = serving.status(spec)
    assert status.ready and not status.problems and not status.changes
    assert status.to_json()["models"][0]["labels"]["canary"] == {"wanted": 2, "live": 2}
    assert status.models[1].served == [3]
    assert serving.logs(spec)

    again = serving.up(spec)
    assert again.already and again.endpoint == running.endpoint
    with pytest.raises(ServerError, match="another configuration"):
        serving.up(msgspec.structs.replace(spec, models=spec.models[:1]))
    assert serving.status(msgspec.structs.replace(spec, models=spec.models[:1])).changes

    assert serving.down(spec) is True
    nothing_left(spec)
    assert serving.down(spec) is False
    assert serving.status(spec).problems == ["serving isn't running"]


@pytest.mark.parametrize("kind", KINDS)
def test_free_ports_on_request(kind: str, repository: Path, tmp_path: Path, request: pytest.FixtureRequest,
                               started: list[Spec]) -> None:
    spec = spec_for(kind, tmp_path, request, grpc_port=0, rest_port=0, flags=ECHO)
    started.append(spec)
    running = serving.up(spec)
    assert running.endpoint.grpc_port and running.endpoint.rest_port
    assert serving.up(spec).endpoint == running.endpoint
    serving.down(spec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_a_taken_port(kind: str, port: str, repository: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with taken_port() as number:
        spec = spec_for(kind, tmp_path, request, flags=ECHO, **{port: number})
        with pytest.raises(PortTaken, match=str(number)):
            serving.up(spec)
    nothing_left(spec)


def break_op(version: Path) -> None:
    """Make the graph ask for an op that no server has; everything else about the version stays whole."""
    saved = model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "AddV2":
                node.op = "NoSuchOp"
    (version / "saved_model.pb").write_bytes(saved.SerializeToString())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_fails_to_load(kind: str, repository: Path, tmp_path: Path,
                                    request: pytest.FixtureRequest) -> None:
    break_op(repository / "half/2")
    spec = spec_for(kind, tmp_path, request)
    with pytest.raises((StartFailed, NotReady)) as e:
        serving.up(spec)
    assert "NoSuchOp" in e.value.logs + e.value.message
    assert e.value.argv and e.value.details["kind"] == kind
    nothing_left(spec)


def test_a_server_that_dies_while_starting(repository: Path, tmp_path: Path) -> None:
    spec = spec_at(tmp_path, TWO_MODELS, backend="process", binary=str(fake(tmp_path)), flags={"fake_exit": 255})
    with pytest.raises(StartFailed, match="exit code 255 while starting; its last words: Failed to start") as e:
        serving.up(spec)
    assert e.value.returncode == 255 and "a fake reason" in e.value.logs and e.value.exit_code == 6
    nothing_left(spec)
    assert "a fake reason" in serving.logs(spec)


def fake(tmp_path: Path) -> Path:
    program = tmp_path / "fake_model_server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.docker
def test_a_container_that_dies_while_starting_is_removed_after_its_evidence(
        repository: Path, tmp_path: Path, engine: Engine) -> None:
    spec = spec_at(tmp_path, TWO_MODELS, backend="container", image=image_or_skip(engine), flags={"fake_exit": 255})
    with pytest.raises(StartFailed, match="exit code 255 while starting; its last words: Failed to start") as e:
        serving.up(spec)
    assert f"{repository}/half -> /models/half (read-only)" in e.value.details["mounts"]  # type: ignore[operator]
    assert e.value.details["user"] != "0:0" and "a fake reason" in e.value.logs
    nothing_left(spec)


@pytest.mark.docker
def test_an_image_that_does_not_exist(repository: Path, tmp_path: Path, engine: Engine) -> None:
    image = "localhost:1/no/such-image:1"
    with pytest.raises(BackendMissing, match=image):
        serving.up(spec_at(tmp_path, TWO_MODELS, backend="container", image=image))
    made = serving.choose_backend(spec_at(tmp_path, TWO_MODELS, image=image))
    assert made.backend.name == "embedded" and image in made.why


@pytest.mark.docker
def test_files_that_the_container_cannot_read(repository: Path, tmp_path: Path, engine: Engine) -> None:
    (repository / "half/1/saved_model.pb").chmod(0o200)
    spec = spec_at(tmp_path, TWO_MODELS, backend="container", image=image_or_skip(engine))
    with pytest.raises(RepositoryError, match=r"half/1/saved_model.pb is not readable for the container's user"):
        serving.up(spec)
    nothing_left(spec)


def test_no_engine(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(BackendMissing, match="no Docker engine answers"):
        serving.up(spec_at(tmp_path, TWO_MODELS, backend="container"))
    made = serving.choose_backend(spec_at(tmp_path, TWO_MODELS))
    assert made.backend.name == "embedded" and "no Docker engine answers" in made.why


def test_no_binary(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendMissing, match="no-such-server"):
        serving.up(spec_at(tmp_path, TWO_MODELS, backend="process", binary="no-such-server"))


def test_the_deadline_ends_a_server_that_never_serves(repository: Path, tmp_path: Path) -> None:
    """Both ports are open and its own, but nothing that speaks the protocol is behind them."""
    spec = spec_at(tmp_path, TWO_MODELS, backend="process", binary=str(fake(tmp_path)), start_timeout=1.0)
    with pytest.raises(NotReady, match="isn't ready after"):
        serving.up(spec)
    nothing_left(spec)


@pytest.mark.parametrize(("damage", "error"), [
    (lambda r: shutil.rmtree(r / "half"), VersionNotFound),
    (lambda r: shutil.rmtree(r / "half/2"), VersionNotFound),
    (lambda r: (r / "half/2/saved_model.pb").unlink(), IncompleteVersion),
    (lambda r: shutil.rmtree(r / "half/2/variables"), IncompleteVersion),
    (lambda r: os.truncate(r / "half/2/saved_model.pb", 100), IncompleteVersion),
])
def test_what_could_never_be_served_is_refused_before_anything_starts(
        damage: object, error: type[DeployError], repository: Path, tmp_path: Path) -> None:
    damage(repository)  # type: ignore[operator]
    spec = spec_at(tmp_path, TWO_MODELS, backend="embedded")
    with pytest.raises(error, match="half"):
        serving.up(spec)
    nothing_left(spec)


def test_up_reads_the_ledger_once(repository: Path, tmp_path: Path, started: list[Spec],
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock, so that nobody writes meanwhile."""
    spec, reads, read = spec_at(tmp_path, TWO_MODELS, backend="embedded", flags=ECHO), list[Path](), Ledger.read
    started.append(spec)
    monkeypatch.setattr(Ledger, "read", lambda ledger: reads.append(ledger.path) or read(ledger))
    serving.up(spec)
    assert len(reads) == 1
    assert serving.down(spec) is True


def test_the_dry_run_starts_nothing(repository: Path, tmp_path: Path) -> None:
    spec = spec_at(tmp_path, TWO_MODELS, backend="embedded")
    plan = serving.plan(spec).to_json()
    assert plan["wanted"]["mnist"]["versions"] == [3] and "models.config" in plan["files"]
    assert not spec.state_dir.exists()


UP = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    import msgspec
    from deploy import serving
    from deploy.spec import load_spec
    spec = load_spec({spec!r})
    serving.up(spec)
    print("up", flush=True)
"""


def write_spec(spec: Spec, text: str, **server: object) -> str:
    """The spec as a file, for another process."""
    told = {"backend": spec.server.backend, "grpc_port": spec.server.grpc_port, "rest_port": spec.server.rest_port,
            "start_timeout": 60.0, **server}
    spec.path.write_text(f"{text}\nserver: {msgspec.json.encode(told).decode()}\n")
    return textwrap.dedent(UP).format(root=str(ROOT), spec=str(spec.path))


def test_it_outlives_the_program_that_started_it(repository: Path, tmp_path: Path, started: list[Spec]) -> None:
    spec = spec_at(tmp_path, TWO_MODELS, backend="embedded")
    started.append(spec)
    done = subprocess.run([sys.executable, "-c", write_spec(spec, TWO_MODELS, flags=ECHO)], check=False,
                          capture_output=True, text=True, timeout=100, start_new_session=True)
    assert done.stdout == "up\n", done.stderr
    found = serving.find(spec)
    assert found is not None and found.alive() and serving.status(spec).running
    assert serving.down(spec) is True
    nothing_left(spec)


@pytest.mark.parametrize("kind", ["process", pytest.param("container", marks=pytest.mark.docker)])
def test_ctrl_c_during_up_leaves_nothing_running(kind: str, repository: Path, tmp_path: Path,
                                                 request: pytest.FixtureRequest) -> None:
    """The server is the fake one, so that `up` waits until it is interrupted."""
    spec = spec_at(tmp_path, TWO_MODELS, backend=kind)
    where = ({"binary": str(fake(tmp_path))} if kind == "process" else
             {"image": image_or_skip(request.getfixturevalue("engine"))})
    child = subprocess.Popen([sys.executable, "-c", write_spec(spec, TWO_MODELS, **where)], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    until(lambda: child.poll() is not None or ((found := serving.find(spec)) and found.listening()), "it starts")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode in (-signal.SIGINT, 130) and "KeyboardInterrupt" in err and out == ""
    nothing_left(spec)


@pytest.mark.docker
def test_a_container_that_ended_by_itself_is_told_and_cleared_away(repository: Path, tmp_path: Path, engine: Engine,
                                                                   request: pytest.FixtureRequest) -> None:
    spec = spec_for("container", tmp_path, request, flags=ECHO)
    serving.up(spec)
    try:
        engine.containers({NAME_LABEL: spec.name})[0].kill()
        until(lambda: not serving.status(spec).running, "the engine notices")
        assert serving.status(spec).problems == ["serving ended with exit code 137"]
        assert serving.logs(spec)
    finally:
        assert serving.down(spec) is False
    nothing_left(spec)


GATED = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from deploy.modelserver import main
    from deploy.modelserver.echo import EchoLoader, EchoModel

    class Gated(EchoLoader):
        def load(self, name, version, path):
            model = super().load(name, version, path)
            return EchoModel(model.signatures, {{"serving_default": gate}})

    def gate(values):
        if values["x"].ravel().tolist() != [5.0]:  # what `up` asks
            return {{"y": values["x"]}}
        Path({gate!r}, "entered").touch()
        while not Path({gate!r}, "go").exists():
            time.sleep(0.01)
        return {{"y": values["x"]}}

    main.make_loader = lambda options: Gated()
    main.run()
"""


def test_down_lets_a_running_request_finish(repository: Path, tmp_path: Path, started: list[Spec]) -> None:
    """The program has no drain of its own: SIGTERM ends it at once, as it ends tensorflow_model_server."""
    script = tmp_path / "gated.py"
    script.write_text(textwrap.dedent(GATED).format(root=str(ROOT), gate=str(tmp_path)))
    program = tmp_path / "gated"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    text = "models: [{name: half, versions: [1]}]"
    spec = spec_at(tmp_path, text, backend="process", binary=str(program), drain=30.0)
    started.append(spec)
    running = serving.up(spec)
    answers: list[object] = []
    with client.connect(running.endpoint.grpc_target, timeout=60) as asked:
        request = threading.Thread(target=lambda: answers.append(
            asked.predict("half", {"x": np.array([5.0], np.float32)})["y"].tolist()))
        request.start()
        until((tmp_path / "entered").exists, "the request is being computed")
        downs: list[bool] = []
        down = threading.Thread(target=lambda: downs.append(serving.down(spec)))
        down.start()
        until(lambda: asked.status("half")[0].state.name != "AVAILABLE", "the model is being unloaded")
        assert not answers and not downs
        (tmp_path / "go").touch()
        request.join(30)
        down.join(30)
    assert answers == [[5.0]] and downs == [True]
    nothing_left(spec)
