"""What is left of a spec that can't be read any more: enough to stop its server."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from deploy import serving, spec
from deploy.cli.outcome import run
from deploy.errors import LockHeld, ServerError
from deploy.locks import locked
from deploy.serving.start_record import remember_start
from deploy.spec import Spec
from tests.support.ports import free_ports
from tests.support.repository import savedmodel

TEXT = """\
name: mine   # as it is called
models: [{{name: m, versions: [1]}}]
server: {{backend: embedded, grpc_port: {}, rest_port: {}, flags: {{tfs_loader: echo}}}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    savedmodel(tmp_path / "models" / "m" / "1")
    made = tmp_path / "serving.yaml"
    made.write_text(TEXT.format(*free_ports()))
    return made


def broken(path: Path) -> None:
    path.write_text(path.read_text() + "servr: {}\n")


def torn(path: Path) -> None:
    path.write_text(path.read_text() + "models: [\n")


def nameless(path: Path) -> None:
    path.write_text("\0\xff")


@pytest.mark.parametrize("how", [broken, torn, Path.unlink])
def test_the_spec_of_the_last_start_is_what_counts(path: Path, how: object) -> None:
    remember_start(spec.load_spec(path))
    started = spec.load_spec(path)
    how(path)  # type: ignore[operator]
    assert serving.last_started(path) == started
    assert serving.last_started(path.with_name("other.yaml")) is None


def test_without_one_there_is_nothing_to_go_by(path: Path) -> None:
    broken(path)
    assert serving.last_started(path) is None and not (path.parent / ".tfs").exists()
    assert run(["down", "--spec", str(path)]) == 2 and not (path.parent / ".tfs").exists()


def test_a_spec_that_was_edited_while_it_started_isnt_taken_for_it(path: Path) -> None:
    made = spec.load_spec(path)
    broken(path)
    remember_start(made)
    assert serving.last_started(path) is None


@pytest.mark.parametrize("how", [broken, torn])
def test_a_broken_spec_doesnt_keep_its_server(path: Path, how: object, capfd: pytest.CaptureFixture[str]
                                              ) -> None:
    serving.up(spec.load_spec(path))
    how(path)  # type: ignore[operator]
    assert run(["down", "--spec", str(path)]) == 0
    said = capfd.readouterr()
    assert said.out == "mine is stopped\n" and "warning: " in said.err and "going by what was started last" in said.err
    assert run(["down", "--spec", str(path)]) == 0 and "wasn't running" in capfd.readouterr().out


def test_a_server_without_spec_and_state_is_found_by_its_name(path: Path) -> None:
    serving.up(spec.load_spec(path))
    for file in (path.parent / ".tfs" / "mine").glob("*.*"):
        if file.is_file():
            file.unlink()
    broken(path)
    last = serving.last_started(path)
    assert last is not None and (last.name, last.models) == ("mine", ())
    assert serving.down(last) and serving.last_started(path) is None


@pytest.mark.parametrize(("env", "key", "expected"), [
    ("", "", "{}/.tfs/serving"), ("", "state: /var/lib/tfs", "/var/lib/tfs/serving"),
    ("", "state: ../x", "{}/../x/serving"), ("/e", "state: /var/lib/tfs", "/e/serving-")])
def test_the_state_can_be_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, key: str,
                                         expected: str) -> None:
    monkeypatch.setenv("TFS_STATE_DIR", env)
    made = spec.parse(f"models: [{{name: m, versions: 1}}]\n{key}", tmp_path / "serving.yaml")
    assert str(made.state_dir).startswith(os.path.normpath(expected.format(tmp_path)))
    other = spec.parse(f"models: [{{name: m, versions: 1}}]\n{key}", tmp_path / "b" / "serving.yaml")
    if env:
        assert other.state_dir != made.state_dir and made.state_dir.name == "serving"


def test_a_directory_that_cant_be_written_says_where_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made: Spec = msgspec.structs.replace(spec.parse("models: [{name: m, versions: 1}]", tmp_path / "s.yaml"),
                                         state=tmp_path / "file")
    says = r"can't keep the server's state in .*`state` in the spec, or TFS_STATE_DIR"
    with pytest.raises(ServerError, match=says), locked(made.state_dir, "up"):
        raise AssertionError


def test_a_lock_that_is_held_is_still_that(tmp_path: Path) -> None:
    with locked(tmp_path / "x", "up"), pytest.raises(LockHeld), locked(tmp_path / "x", "down"):
        raise AssertionError
