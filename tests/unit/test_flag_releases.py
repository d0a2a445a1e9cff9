"""Flags that the release in a server's image doesn't know: what is known, and what is said before a start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from deploy import backends, serving
from deploy.checks.flags import LACKING, lacked, release_of
from deploy.cli.app import app
from deploy.errors import SpecError
from deploy.render.configs import argv, mounted_layout
from deploy.rollout import preflight
from deploy.serving.release_flags import KEYS, check_release
from deploy.spec import Spec, parse
from deploy.wire.flags import FLAGS
from tests.support.checks import serves
from tests.support.savedmodel import save
from tests.support.serving import FakeServer

HERE = Path("/nowhere/serving.yaml")
HEALTH = "flags: {enable_grpc_healthcheck_service: true}"


def spec(server: str) -> Spec:
    return parse(f"name: prod\nmodels: [{{name: m, versions: [1]}}]\nserver: {{{server}}}\n", HERE)


def key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def refused(one: Spec, *, image: str = "") -> SpecError:
    with pytest.raises(SpecError) as caught:
        check_release(one, backends.preferred(one), image)
    return caught.value


# What is known

def test_what_is_known_is_about_flags_of_the_real_server_and_in_order() -> None:
    known = {flag.name for flag in FLAGS if not flag.name.startswith("tfs_")}
    assert LACKING.keys() <= known
    for without, having in LACKING.values():
        assert key(without) < key(having) <= (2, 20)


@pytest.mark.parametrize(("image", "release"), [
    ("tensorflow/serving:2.8.0", "2.8"), ("tensorflow/serving:2.19.1-gpu", "2.19"),
    ("tensorflow/serving:1.15.0-devel-gpu", "1.15"), ("docker.io/tensorflow/serving:2.8", "2.8"),
    ("registry:5000/tensorflow/serving:2.8.0", "2.8"), ("tensorflow/serving:2.8.0@sha256:" + "0" * 64, "2.8"),
    ("tensorflow/serving", None), ("tensorflow/serving:latest", None), ("tensorflow/serving:nightly-gpu", None),
    ("tensorflow/serving@sha256:" + "0" * 64, None), ("registry:5000/tensorflow/serving", None),
    ("team/serving:2.8.0", None), ("team/digits:1.4", None), ("mytensorflow/serving:2.8.0", None),
    ("tensorflow/serving:2.8.0x", None), ("", None)])
def test_the_release_of_an_image_is_known_by_the_official_name_and_tag_only(image: str, release: str | None) -> None:
    assert release_of(image) == release


@pytest.mark.parametrize(("release", "flags"), [
    ("2.8", ["enable_grpc_healthcheck_service", "enable_serialization_as_tensor_content"]),
    ("2.14", ["enable_grpc_healthcheck_service", "enable_serialization_as_tensor_content"]),
    ("2.15", ["enable_serialization_as_tensor_content"]),
    ("2.17", ["enable_serialization_as_tensor_content"]),
    ("2.18", []), ("2.20", []), ("3.0", [])])
def test_nothing_is_said_of_releases_of_which_nobody_knows(release: str, flags: list[str]) -> None:
    names = ["port", "enable_grpc_healthcheck_service", "no_such_flag", "enable_serialization_as_tensor_content"]
    assert [each for each in names if lacked(each, release)] == flags


# What is said

def test_a_flag_that_came_later_is_one_sentence() -> None:
    error = refused(spec(f"image: 'tensorflow/serving:2.8.0', {HEALTH}"))
    assert (error.id, error.path) == ("flag-of-later-release", "server/flags/enable_grpc_healthcheck_service")
    assert str(error) == (
        "server/flags/enable_grpc_healthcheck_service: TensorFlow Serving 2.8, which 'prod' would run "
        "(tensorflow/serving:2.8.0), doesn't know --enable_grpc_healthcheck_service: it came after 2.14, and 2.15 has "
        "it; use an image of 2.15 or later, or take this out: the server would print its usage and go on without it")


@pytest.mark.parametrize(("image", "server"), [
    ("tensorflow/serving:2.15.0", HEALTH), ("tensorflow/serving:latest", HEALTH), ("team/serving:2.8.0", HEALTH),
    ("tensorflow/serving:2.5.4", "threads: {load: 2}"), ("tensorflow/serving:2.8.0", "flags: {no_such_flag: 1}")])
def test_what_may_be_known_is_let_through(image: str, server: str) -> None:
    one = spec(f"image: '{image}', {server}")
    check_release(one, backends.preferred(one))


@pytest.mark.parametrize("server", ["", "batching: {max_batch_size: 8}", "monitoring: {}", "platform_file: true"])
def test_what_the_toolkit_adds_by_itself_is_no_reason_to_refuse_an_old_server(server: str) -> None:
    one = spec(f"image: 'tensorflow/serving:1.9.0'{', ' if server else ''}{server}")
    check_release(one, backends.preferred(one))


@pytest.mark.parametrize(("image", "server", "flag", "path"), [
    ("2.4.1", "threads: {load: 2}", "num_load_threads", "server/threads/load"),
    ("2.4.1", "threads: {grpc_max: 8}", "grpc_max_threads", "server/threads/grpc_max"),
    ("2.4.1", "flags: {grpc_max_threads: 256}", "grpc_max_threads", "server/flags/grpc_max_threads"),
    ("1.12.0", "threads: {intra_op: 2}", "tensorflow_intra_op_parallelism", "server/threads/intra_op"),
    ("1.12.0", "threads: {inter_op: 2}", "tensorflow_inter_op_parallelism", "server/threads/inter_op")])
def test_flags_that_a_key_of_the_spec_means(image: str, server: str, flag: str, path: str) -> None:
    error = refused(spec(f"image: 'tensorflow/serving:{image}', {server}"))
    assert error.path == path and f"--{flag}" in error.message


def test_every_flag_that_came_later_and_that_keys_mean_has_its_key() -> None:
    full = spec("batching: {max_batch_size: 8}, monitoring: {}, resources: {gpu_memory_fraction: 0.5}, "
                "threads: {intra_op: 1, inter_op: 1, rest: 1, grpc_max: 1, load: 1}")
    rendered = {each[2:].partition("=")[0] for each in argv(full, mounted_layout(full), 1, 2)}
    plain = {each[2:].partition("=")[0] for each in argv(spec(""), mounted_layout(full), 1, 2)}
    assert rendered & LACKING.keys() - plain <= KEYS.keys()


def test_threads_of_a_platform_file_are_no_flags() -> None:
    one = spec("image: 'tensorflow/serving:1.12.0', platform_file: true, threads: {intra_op: 2}")
    check_release(one, backends.preferred(one))


@pytest.mark.parametrize("server", [
    "backend: embedded", "backend: process",
    "backend: remote, remote: {grpc: 'h:8500', models: {m: /models/m}}"])
def test_servers_that_dont_run_the_image(server: str) -> None:
    one = spec(f"{server}, image: 'tensorflow/serving:2.8.0'{', ' + HEALTH if 'remote' not in server else ''}")
    check_release(one, backends.preferred(one))


# Before anything is started

@pytest.mark.parametrize("backend", ["container", "swarm"])
def test_no_backend_is_chosen_for_it_and_so_nothing_is_pulled_or_started(backend: str) -> None:
    one = spec(f"backend: {backend}, image: 'tensorflow/serving:2.8.0', {HEALTH}")
    with pytest.raises(SpecError, match="doesn't know --enable_grpc_healthcheck_service"):
        serving.choose_backend(one)


@pytest.mark.parametrize("make", [serving.build_image, serving.push_image])
def test_no_image_is_made_on_such_a_release(make: Callable[..., object]) -> None:
    with pytest.raises(SpecError, match=r"run \(tensorflow/serving:2.14.1\), doesn't know --enable_grpc_healthcheck"):
        make(spec(HEALTH), "registry:5000/team/m:1", base_image="tensorflow/serving:2.14.1")


def test_a_release_of_a_running_server_is_told_and_not_refused() -> None:
    context: Any = SimpleNamespace(spec=spec(f"image: 'tensorflow/serving:2.8.0', {HEALTH}"),
                                   server=FakeServer(kind="container"))
    findings = preflight.Findings([], [])
    preflight._flags(context, findings)
    assert not findings.problems
    assert "doesn't know --enable_grpc_healthcheck_service" in findings.notes[0] and "runs without" in findings.notes[0]


FLEET = """
name: prod
models: [{name: m, versions: [1]}]
server: {backend: container, image: 'tensorflow/serving:2.20.0', flags: {enable_grpc_healthcheck_service: true}}
servers: [{name: new}, {name: old, server: {image: 'tensorflow/serving:2.8.0', grpc_port: 1, rest_port: 2}}]
"""


def tfs(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    return done.exit_code, f"{done.exception} {done.output}"


def test_each_server_of_a_fleet_is_looked_at_with_its_own_image(tmp_path: Path) -> None:
    new, old = parse(FLEET, HERE).members
    check_release(new, backends.preferred(new))
    assert "'prod.old'" in refused(old).message
    place = tmp_path / "serving.yaml"
    place.write_text(FLEET)
    version = save(tmp_path / "m" / "1", serves("Relu"))
    _, said = tfs("check", version, "--spec", place)
    assert "'prod.old'" in said and "nothing to object to" not in said
    place.write_text(FLEET.replace("2.8.0", "2.19.0"))
    assert tfs("check", version, "--spec", place)[0] == 0


@pytest.mark.parametrize(("option", "value"), [("--image", "tensorflow/serving:2.14.1"), ("--server-version", "2.14")])
def test_a_check_for_another_server_than_the_specs(tmp_path: Path, option: str, value: str) -> None:
    place = tmp_path / "serving.yaml"
    place.write_text(FLEET)
    version = save(tmp_path / "m" / "1", serves("Relu"))
    _, said = tfs("check", version, "--spec", place, option, value)
    assert "doesn't know --enable_grpc_healthcheck_service" in said
    assert tfs("check", version, "--spec", place, option, value.replace("2.14", "2.16"))[0] == 0
