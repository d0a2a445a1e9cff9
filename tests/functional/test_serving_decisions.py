"""What `up` decides before it starts anything: versions, backend, plan, permissions; and how `down` drains."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from deploy import Repository, backends, render, serving
from deploy.backends import Progress
from deploy.backends.container import ContainerBackend
from deploy.backends.process import EmbeddedBackend
from deploy.errors import (
    BackendMissing,
    LockHeld,
    Rejected,
    RepositoryError,
    RolloutError,
    ServerError,
    SpecError,
    Unreachable,
    VersionNotFound,
)
from deploy.locks import locked
from deploy.serving import planning, preflight, start_stop
from deploy.serving.planning import Choice, choose_backend
from deploy.serving.preflight import number
from deploy.serving.resolving import ResolvedModel, resolve
from deploy.spec import Resources
from deploy.types import All, Latest, ServedModel, Specific, VersionPolicy, VersionStatus
from deploy.waiting import Deadline
from tests.support.docker_engine import NO_CONTAINERS, engine_that_says
from tests.support.repository import savedmodel
from tests.support.serving import AVAILABLE, END, UNLOADING, FakeClock, FakeControl, spec_at


def base(directory: Path, *versions: str) -> str:
    for v in versions:
        (directory / "m" / v).mkdir(parents=True)
    return str(directory / "m")


@pytest.mark.parametrize(("policy", "versions"), [
    (Latest(1), {11}), (Latest(2), {9, 11}), (Latest(9), {2, 9, 11}), (All(), {2, 9, 11}), (Specific((2, 11)), {2, 11}),
])
def test_versions_are_resolved_as_the_server_does(tmp_path: Path, policy: VersionPolicy, versions: set[int]) -> None:
    path = base(tmp_path, "2", "9", "11", ".stage-12", "notes")
    assert resolve(ServedModel("m", path, policy), "models/0").versions == versions


@pytest.mark.parametrize(("policy", "there", "sentence"), [
    (Latest(1), (), "base path .* doesn't exist"),
    (Latest(1), ("notes",), "no version in"),
    (Specific((3,)), ("1", "2"), r"version 3 isn't in .*; there: 1, 2"),
])
def test_what_the_server_would_wait_for_is_refused(tmp_path: Path, policy: VersionPolicy, there: tuple[str, ...],
                                                   sentence: str) -> None:
    base(tmp_path, *there)
    with pytest.raises(VersionNotFound, match=sentence):
        resolve(ServedModel("m", str(tmp_path / "m"), policy), "models/0")


def test_a_file_with_a_number_for_a_name_is_refused(tmp_path: Path) -> None:
    path = base(tmp_path, "1")
    Path(path, "2").write_text("")
    with pytest.raises(RepositoryError, match=r"would take .*/2 for a version"):
        resolve(ServedModel("m", path, Latest(1)), "models/0")


def test_a_label_to_a_version_that_isnt_served_now_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="models/0/labels/old: version 1 is not served"):
        resolve(ServedModel("m", base(tmp_path, "1", "2"), Latest(1), {"old": 1}), "models/0")


def test_an_incomplete_version_is_refused(tmp_path: Path) -> None:
    base(tmp_path / "models", "1")
    with pytest.raises(RepositoryError, match="m/1"):
        serving.wanted(spec_at(tmp_path))


class Images:
    def __init__(self, *, here: bool = True, pulls: bool = True, machine: str = "") -> None:
        self.here, self.pulls, self.pulled, self.machine = here, pulls, 0, machine

    def has_image(self, image: str) -> bool:
        return self.here

    def pull(self, image: str, progress: Progress) -> None:
        self.pulled += 1
        if not self.pulls:
            raise BackendMissing(f"image {image} isn't here and can't be pulled: no route")


def no_engine() -> Images:
    raise BackendMissing("no Docker engine answers at unix:///s")


def auto(engine: Callable[[], Images | None], no_embedded: str | None = None) -> tuple[backends.Backend, ...]:
    """What `backend: auto` may choose from."""
    return ContainerBackend(engine), EmbeddedBackend(lambda: no_embedded)  # type: ignore[arg-type]


@pytest.mark.parametrize(("images", "kind", "why"), [
    (Images(), "container", "has tensorflow/serving:2.20.0"),
    (Images(here=False), "container", "pulled tensorflow/serving:2.20.0"),
    (Images(here=False, pulls=False), "embedded", "can't be pulled: no route"),
    (None, "embedded", "no Docker engine answers"),
])
def test_auto_says_which_and_why(tmp_path: Path, images: Images | None, kind: str, why: str) -> None:
    engine = no_engine if images is None else lambda: images
    made = choose_backend(spec_at(tmp_path), candidates=auto(engine))
    assert made.backend.name == kind and why in made.why


def test_auto_with_nothing_that_could_serve_names_both_reasons(tmp_path: Path) -> None:
    with pytest.raises(BackendMissing, match=r"no Docker engine answers .* no wheel"):
        choose_backend(spec_at(tmp_path), candidates=auto(no_engine, "no wheel"))


def test_a_dry_run_pulls_nothing(tmp_path: Path) -> None:
    images = Images(here=False)
    made = choose_backend(spec_at(tmp_path), pull=False, candidates=auto(lambda: images))
    assert made.backend.name == "container" and "would be pulled" in made.why and images.pulled == 0


LATER = {"image": "tensorflow/serving:2.8.0", "flags": {"enable_grpc_healthcheck_service": True}}


def test_auto_asks_what_the_images_release_knows_only_where_the_image_would_run(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="2.8.* doesn't know --enable_grpc_healthcheck_service"):
        choose_backend(spec_at(tmp_path, **LATER), candidates=auto(Images))
    assert choose_backend(spec_at(tmp_path, **LATER), candidates=auto(no_engine)).backend.name == "embedded"


def test_a_flag_of_a_later_release_is_told_before_an_engine_is_told_anything(tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
    Repository(tmp_path / "models").publish(savedmodel(tmp_path / "build" / "m"), "m")
    with engine_that_says(NO_CONTAINERS, tmp_path) as asked, pytest.raises(SpecError) as caught:
        serving.up(spec_at(tmp_path, backend="container", **LATER))
    assert caught.value.id == "flag-of-later-release"
    assert asked and all(request.startswith(b"GET ") for request in asked)


@pytest.mark.parametrize("backend", backends.BACKENDS.values())
def test_a_backend_that_is_named_is_taken(tmp_path: Path, backend: backends.Backend) -> None:
    named = choose_backend(spec_at(tmp_path, backend=backend.name), candidates=())
    assert named == Choice(backend, "the spec says so")


def test_the_plan_of_a_container_is_data(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "real")
    spec = spec_at(tmp_path, grpc_port=8500, rest_port=0, resources=Resources(cpus=2, memory="1g"), restart="always")
    plan = planning.make(spec, Choice(backends.BACKENDS["container"], "x")).to_json()
    assert json.loads(json.dumps(plan))["backend"] == "container"
    assert plan["argv"][0] == "/usr/bin/tensorflow_model_server"
    assert {"--port=8500", "--rest_api_port=8501", "--model_config_file=/etc/tfs/models.config"} <= {*plan["argv"]}
    assert 'base_path: "/models/m"' in plan["files"]["models.config"]
    docker = plan["container"]
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in docker["mounts"]] == [
        (str(tmp_path / "real/m"), "/models/m", True), (str(tmp_path / ".tfs/serving/config"), "/etc/tfs", True)]
    assert docker["ports"] == {"8500/tcp": ("127.0.0.1", 8500), "8501/tcp": ("127.0.0.1", None)}
    assert docker["nano_cpus"] == 2_000_000_000 and docker["mem_limit"] == 1 << 30


@pytest.mark.parametrize("kind", ["process", "embedded"])
def test_the_plan_of_a_process_is_data(tmp_path: Path, kind: str) -> None:
    spec = spec_at(tmp_path, binary="/opt/tms", drain=3.0)
    plan = planning.make(spec, Choice(backends.BACKENDS[kind], "x")).to_json()
    assert f"--model_config_file={tmp_path}/.tfs/serving/config/models.config" in plan["argv"]
    assert f'base_path: "{tmp_path}/models/m"' in plan["files"]["models.config"]
    assert (plan["argv"][0] == "/opt/tms") is (kind == "process")
    assert ("--tfs_drain_seconds=3" in plan["argv"]) is (kind == "embedded")


def test_the_digest_tells_what_is_served_not_how_it_is_started(tmp_path: Path) -> None:
    spec = spec_at(tmp_path, grpc_port=1, rest_port=2)
    assert planning.digest(spec) == planning.digest(spec_at(tmp_path, grpc_port=1, rest_port=2, backend="embedded",
                                                            drain=1.0, start_timeout=1.0))
    assert planning.digest(spec) != planning.digest(spec_at(tmp_path, grpc_port=3, rest_port=2))
    other = msgspec.structs.replace(spec, models=(ServedModel("m", "/elsewhere/m", Specific((1,))),))
    assert planning.digest(spec) != planning.digest(other)


def published(directory: Path) -> ResolvedModel:
    version = Path(base(directory, "1"), "1")
    (version / "saved_model.pb").write_bytes(b"x")
    for path in (version.parent, version, version / "saved_model.pb"):
        path.chmod(0o755)
    return ResolvedModel("m", {1: version})


STRANGER = "4242:4242"


def test_what_everyone_can_read_is_fine(tmp_path: Path) -> None:
    preflight.check_readable([published(tmp_path)], STRANGER)
    preflight.check_readable([published(tmp_path / "x")], None)


@pytest.mark.parametrize(("path", "mode"), [("1/saved_model.pb", 0o600), ("1", 0o700), ("1", 0o744), (".", 0o750)])
def test_what_the_containers_user_cannot_read_is_named(tmp_path: Path, path: str, mode: int) -> None:
    model = published(tmp_path)
    (tmp_path / "m" / path).chmod(mode)
    with pytest.raises(RepositoryError) as e:
        preflight.check_readable([model], STRANGER)
    assert str((tmp_path / "m" / path).resolve()) in e.value.message and "chmod -R a+rX" in e.value.hint
    preflight.check_readable([model], f"{os.getuid()}:{os.getgid()}")


def test_a_link_out_of_the_mount_leads_nowhere_in_a_container(tmp_path: Path) -> None:
    model = published(tmp_path)
    (tmp_path / "elsewhere").write_bytes(b"x")
    (tmp_path / "m/1/variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryError, match="isn't in the container"):
        preflight.check_readable([model], STRANGER)
    preflight.check_readable([model], None)


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path, "up"), pytest.raises(LockHeld) as e, locked(tmp_path, "down"):
        pytest.fail("two hold it")
    assert f"(process {os.getpid()})" in e.value.by and e.value.why == "up"
    with locked(tmp_path, "down"):
        pass


def drain(control: FakeControl, seconds: float = 10) -> tuple[bool, list[str]]:
    told: list[str] = []
    return start_stop.drain(control, ["m"], Deadline(seconds, FakeClock()), told.append), told


def test_draining_unloads_everything_and_waits_for_the_last_request() -> None:
    running = [VersionStatus(1, UNLOADING)]
    control = FakeControl({"m": [running, running, [VersionStatus(1, END)]]})
    assert drain(control)[0] is True
    sent = control.reloads[0]
    assert sent.WhichOneof("config") == "model_config_list" and not sent.model_config_list.config
    assert len(control.statuses["m"]) == 1


def test_draining_waits_for_a_server_that_is_too_busy_to_say() -> None:
    no_room = Rejected("no room", code="RESOURCE_EXHAUSTED")
    control = FakeControl({"m": [no_room, [VersionStatus(1, UNLOADING)], [VersionStatus(1, END)]]})
    assert drain(control)[0] is True and len(control.statuses["m"]) == 1


def test_draining_ends_at_its_deadline() -> None:
    assert drain(FakeControl({"m": [[VersionStatus(1, AVAILABLE)]]}))[0] is False


def test_a_model_that_is_unknown_has_no_requests() -> None:
    assert drain(FakeControl({"m": [Rejected("unknown", code="NOT_FOUND")]}))[0] is True


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    done, told = drain(FakeControl({"m": [Unreachable("nobody there")]}))
    assert done is False and told[-1] == "can't wait for running requests: nobody there"


def test_the_rooms_names() -> None:
    assert all(hasattr(serving, name) for name in serving.__all__)


@pytest.mark.parametrize(("flag", "value", "says"), [
    ("file_system_poll_wait_seconds", "soon", "expected a whole number, got 'soon'"),
    ("model_config_file_poll_wait_seconds", "", "expected a whole number, got ''"),
    ("max_num_load_retries", 1.5, "expected a whole number, got 1.5"),
    ("per_process_gpu_memory_fraction", "half", "expected a number, got 'half'"),
    ("enable_model_warmup", "yes", "expected true or false, got 'yes'"),
])
def test_a_value_that_the_server_could_not_read(tmp_path: Path, flag: str, value: object, says: str) -> None:
    spec = spec_at(tmp_path, "models: [{name: m, versions: 1}]", flags={flag: value})
    with pytest.raises(SpecError, match=says) as caught:
        planning.make(spec, Choice(backends.BACKENDS["embedded"], "asked for"))
    assert caught.value.path == f"server/flags/{flag}"
    assert number({"file_system_poll_wait_seconds": "  5"}, "file_system_poll_wait_seconds") == 5
    assert number({}, "file_system_poll_wait_seconds") == 1


def test_a_file_that_cannot_be_written_is_no_mistake_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match=r"can't write .*file.*: .*make room, or check who owns") as caught:
        render.write({"a": "b"}, tmp_path / "file" / "below")
    assert caught.value.exit_code == 6
    with pytest.raises(RolloutError):
        render.write({"a": "b"}, tmp_path / "file", error=RolloutError)


def test_down_doesnt_say_that_nothing_runs_when_the_engine_cant_be_asked(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(BackendMissing, match="no Docker engine answers"):
        serving.down(spec_at(tmp_path, backend="container"))
    assert serving.down(spec_at(tmp_path, backend="embedded")) is False
    assert serving.down(spec_at(tmp_path, backend="auto")) is False


def test_an_engine_on_another_machine_is_no_choice_for_a_server_on_this_one(tmp_path: Path) -> None:
    spec = spec_at(tmp_path)
    away = choose_backend(spec, candidates=auto(lambda: Images(machine="docker")))
    assert away.backend.name == "embedded"
    assert away.why == "the Docker engine is on another machine, docker, and server/host is this one"
    there = spec_at(tmp_path, host="0.0.0.0")
    assert choose_backend(there, candidates=auto(lambda: Images(machine="docker"))).backend.name == "container"
