"""`tfs ready` and `tfs doctor` beside real servers: the embedded one as a process, and in a container."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy import client, serving
from deploy.backends.engine import Engine
from deploy.cli.outcome import run
from deploy.errors import PortTaken, StartFailed
from deploy.render import models_config
from deploy.serving.doctor import diagnosis
from deploy.serving.doctor.diagnosis import Diagnosis, examine
from deploy.spec import Spec
from deploy.types import ServedModel, Specific
from tests.support.ports import free_ports
from tests.support.servers import engine_or_skip, server_image_or_skip, taken_port, until
from tests.support.serving import spec_at

MODELS = "models: [{name: m, versions: [1], labels: {stable: 1}}]"
ECHO = {"backend": "embedded", "flags": {"tfs_loader": "echo"}, "drain": 0.0, "start_timeout": 60.0}


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[Spec]:
    """m/1 and m/2 for the echo server."""
    for version in ("1", "2"):
        (tmp_path / "models/m" / version).mkdir(parents=True)
        (tmp_path / "models/m" / version / "saved_model.pb").write_bytes(EMPTY_GRAPH)
    made = spec_at(tmp_path, MODELS, **ECHO)
    yield made
    serving.down(made)


def _empty_graph() -> bytes:
    from deploy.wire import model_pb2

    saved = model_pb2.SavedModel()
    saved.meta_graphs.add().meta_info_def.tags.append("serve")
    return saved.SerializeToString()


EMPTY_GRAPH = _empty_graph()


def file_of(spec: Spec) -> str:
    """The spec as a file, for the command line."""
    s = spec.server
    spec.path.write_text(json.dumps({"models": [{"name": "m", "versions": [1], "labels": {"stable": 1}}], "server": {
        "backend": s.backend, "flags": dict(s.flags), "grpc_port": s.grpc_port, "rest_port": s.rest_port, "drain": 0}}))
    return str(spec.path)


def doctor(spec: Spec) -> Diagnosis:
    return examine(diagnosis.of_spec(spec))


def rules(found: Diagnosis) -> list[str]:
    return [c.rule for c in found.causes]


def test_a_good_server_is_ready_and_well(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(spec)
    assert run(["ready", "--spec", path]) == 6 and "isn't running" in capsys.readouterr().out
    assert doctor(spec).well
    running = serving.up(spec)
    assert run(["ready", "--spec", path]) == 0
    assert capsys.readouterr().out.startswith("ready (both ports are its own; m: versions and labels over REST and")
    assert run(["doctor", "--spec", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["causes"] == []

    with client.connect(running.endpoint.grpc_target) as pushed:  # somebody else changes it by RPC
        pushed.reload(models_config([ServedModel("m", spec.models[0].base_path, Specific((1, 2)), {"stable": 1})],
                                    {"m": spec.models[0].base_path}))
        until(lambda: sum(s.serving for s in pushed.status("m")) == 2, "both versions are served")
    assert run(["ready", "--spec", path]) == 6
    assert capsys.readouterr().out == "not ready: m serves 1, 2, wanted 1\n"
    assert run(["doctor", "--spec", path]) == 6
    assert "most likely: m is served as 1, 2 (stable -> 1), and the config file says 1" in \
        capsys.readouterr().out.replace("\n", "")


def test_a_version_that_failed_is_burnt(spec: Spec) -> None:
    """Repairing it in place doesn't help: the server doesn't try it again."""
    latest = spec_at(spec.path.parent, "models: [{name: m, versions: latest}]", **ECHO)
    running = serving.up(latest)
    bad = Path(latest.models[0].base_path, "3", "saved_model.pb")
    bad.parent.mkdir()
    bad.write_bytes(b"no graph")
    with client.connect(running.endpoint.grpc_target) as asked:
        until(lambda: any(s.failed for s in asked.status("m")), "version 3 failed")
    found = doctor(latest)
    assert found.most_likely is not None and found.most_likely.rule == "half-copied"
    bad.write_bytes(EMPTY_GRAPH)
    found = doctor(latest)
    assert found.most_likely is not None and found.most_likely.rule == "permanently-failed"
    assert "m/3 failed to load; its files are whole now" in found.most_likely.cause
    serving.down(latest)


def test_a_start_that_failed(spec: Spec) -> None:
    with taken_port() as port:
        blocked = spec_at(spec.path.parent, MODELS, **{**ECHO, "rest_port": port})
        with pytest.raises(PortTaken):
            serving.up(blocked)
        found = doctor(blocked)
        assert found.most_likely is not None and found.most_likely.rule == "port-taken"
        assert f"REST port {port} is taken by" in found.most_likely.cause


def test_a_process_that_ends_at_once_is_remembered(spec: Spec) -> None:
    flags = {**ECHO["flags"], "batching_parameters_file": "/nowhere"}  # type: ignore[dict-item]
    broken = spec_at(spec.path.parent, MODELS, **{**ECHO, "flags": flags})
    with pytest.raises(StartFailed):
        serving.up(broken)
    found = doctor(broken)
    assert found.most_likely is not None and found.most_likely.rule == "batching-off"
    assert "enable_batching" in found.most_likely.seen


def test_a_server_that_ended_without_being_stopped(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed, crashed, or the machine went down: the record is there, its process isn't."""
    path, running = file_of(spec), serving.up(spec)
    process = psutil.Process(running.server.describe()["pid"])
    process.kill()
    until(lambda: not running.server.alive(), "it ended")
    assert run(["doctor", "--spec", path]) == 6
    said = " ".join(capsys.readouterr().out.split())
    assert "it ended without being stopped" in said and "start it again: tfs up" in said
    serving.down(spec)
    assert doctor(spec).well


def test_a_log_and_a_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grpc, rest = free_ports()
    (tmp_path / "m").mkdir()
    flags = ["--model_name", "m", f"--model_base_path={tmp_path}/m", f"--port={grpc}", f"--rest_api_port={rest}",
             "--tfs_loader=echo"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([sys.executable, "-m", "deploy.modelserver", *flags], stdout=out,
                                  stderr=subprocess.STDOUT)
    try:
        until(lambda: b"No versions of servable" in log.read_bytes(), "it complains")
    finally:
        server.kill()
        server.wait()
    assert run(["doctor", "--log", str(log), "--json", "--", *flags]) == 6
    causes: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["causes"]
    assert [c["rule"] for c in causes] == ["base-path-empty", "two-words"]
    assert "No versions of servable default" in causes[0]["seen"] and "unknown argument" in causes[1]["seen"]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return engine_or_skip()


@pytest.mark.docker
@pytest.mark.tensorflow
def test_containers_of_others(engine: Engine, models: Path, tmp_path: Path) -> None:
    """Mounted one level off; labels without the flag; a user who may not read."""
    image = server_image_or_skip(engine)
    shutil.copytree(models / "half_plus_two", tmp_path / "half" / "1")
    (tmp_path / "half").chmod(0o755)
    tmp_path.chmod(0o755)

    def started(mount: Path, *flags: str, **more: Any) -> str:
        binds = {str(mount): {"bind": "/models/half", "mode": "ro"}}
        container = engine.client.containers.run(image, list(flags), detach=True, volumes=binds, init=True,
                                                 environment={"MODEL_NAME": "half"}, **more)
        names.append(str(container.id))
        return str(container.id)

    def cause(name: str, rule: str) -> str:
        def there() -> bool:
            return rule in rules(examine(diagnosis.of_container(name)))

        until(there, rule, evidence=lambda: examine(diagnosis.of_container(name)))
        likely = examine(diagnosis.of_container(name)).most_likely
        assert likely is not None and likely.rule == rule
        return likely.cause

    names: list[str] = []
    try:
        assert "is itself a version" in cause(started(tmp_path / "half/1"), "one-level-too-deep")
        assert "holds models (half)" in cause(started(tmp_path), "one-level-too-high")
        config = tmp_path / "half" / "models.config"
        config.write_text('model_config_list { config { name: "half" base_path: "/models/half" '
                          'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }')
        labelled = started(tmp_path / "half", "--model_config_file=/models/half/models.config")
        assert "half@stable" in cause(labelled, "labels-at-start")
        until(lambda: diagnosis.of_container(labelled).exit_code == 255, "it ends")
        (tmp_path / "half/1/saved_model.pb").chmod(0o600)
        assert "saved_model.pb isn't readable for the container's user" in cause(
            started(tmp_path / "half"), "permission-denied")
    finally:
        for name in names:
            engine.client.containers.get(name).remove(force=True, v=True)


@pytest.mark.docker
@pytest.mark.tensorflow
def test_containers_that_are_well_and_some_that_never_ran(engine: Engine, models: Path, tmp_path: Path) -> None:
    """Started as the documentation does, with the image's entry point; from a volume; created only; without a GPU."""
    image = server_image_or_skip(engine)
    shutil.copytree(models / "half_plus_two", tmp_path / "models/half/00000001")
    (tmp_path / "models.config").write_bytes(b'model_config_list { config { name: "half" base_path: "/models/half" '
                                             b'model_platform: "tensorflow" } }\r\n')
    for path in (tmp_path, tmp_path / "models", tmp_path / "models/half"):
        path.chmod(0o755)
    binds = {str(tmp_path / "models"): {"bind": "/models", "mode": "rw"},
             str(tmp_path / "models.config"): {"bind": "/c/models.config", "mode": "ro"}}
    made: list[Any] = []

    def created(*flags: str, **more: Any) -> str:
        made.append(engine.client.containers.create(image, list(flags), volumes=binds, init=True, **more))
        return str(made[-1].id)

    try:
        for well in (created("--model_config_file=/c/models.config"), created(environment={"MODEL_NAME": "half"})):
            assert rules(examine(diagnosis.of_container(well))) == ["not-started"]
            made[-1 if made[-1].id == well else -2].start()
            until(lambda name=well: examine(diagnosis.of_container(name)).causes == (),
                  "it serves, and nothing is wrong",
                  evidence=lambda name=well: examine(diagnosis.of_container(name)))
        quoted = created(environment={"MODEL_NAME": '"half"'})
        likely = examine(diagnosis.of_container(quoted)).most_likely
        assert likely is not None and likely.fix == "write -e MODEL_NAME=half" and "quotes" in likely.cause
    finally:
        for container in made:
            container.remove(force=True, v=True)
