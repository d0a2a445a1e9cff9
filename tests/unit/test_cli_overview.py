"""`tfs` alone: the next command, for each way that a directory can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli.app import app
from deploy.cli.overview import Overview, next_command
from deploy.state import releases
from deploy.types import Endpoint

SERVED: dict[str, Any] = {"spec": "serving.yaml", "models": ("m",), "versions": {"m": (1, 2)}, "served": {"m": (2,)}}
RUNS: dict[str, Any] = {**SERVED, "server": "embedded", "endpoint": Endpoint()}
STATE = {"versions": [1], "labels": {"stable": 1}}
(OPEN,) = releases([{"event": "begin", "release": "r", "model": "m", "kind": "rollout", "version": 2, "before": STATE,
                     "goal": STATE, "by": {}, "at": "2026-01-01T00:00:00+00:00"}])


@pytest.mark.parametrize(("how_far", "command"), [
    ({}, "tfs export my_code.py:build --name my_model"),
    ({"exports": False}, "tfs publish PATH/TO/SAVED_MODEL --name my_model"),
    ({"saved_models": ("a b/3",)}, "tfs export 'a b/3' --name 'a b'"),
    ({"saved_models": ("a b/3",), "exports": False}, "tfs publish 'a b/3' --name 'a b'"),
    ({"versions": {}}, "tfs export my_code.py:build --name my_model"),
    ({"versions": {"m": (1,)}}, "tfs init > serving.yaml"),
    ({"versions": {"m": (1,)}, "problem": "no"}, "tfs repository list"),
    ({**SERVED, "problem": "line 3"}, "tfs configure --dry-run"),
    ({**SERVED, "unexported": ("m",)}, "tfs export my_code.py:build --name m"),
    (SERVED, "tfs up"),
    ({**SERVED, "failed": "port 8500 is taken"}, "tfs doctor"),
    ({**RUNS, "ended": True}, "tfs doctor"),
    (RUNS, "tfs smoke"),
    ({**RUNS, "served": {}}, "tfs smoke"),
    ({**RUNS, "versions": None}, "tfs smoke"),
    ({**RUNS, "versions": {"m": (2, 10)}}, "tfs rollout m --to 10"),
    ({**RUNS, "versions": {"m": (2, 10)}, "release": OPEN}, "tfs rollout m --resume"),
    ({**RUNS, "release": replace(OPEN, paused="promote")}, "tfs rollout m --continue"),
])
def test_the_next_command(how_far: dict[str, Any], command: str) -> None:
    now = Overview(**how_far)
    assert next_command(now).command == command
    assert json.loads(json.dumps(now.to_json()))["next"]["command"] == command


def tfs(*args: str) -> str:
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no models/ here" in tfs() and "there is no serving.yaml here" in tfs()
    (tmp_path / "build" / "m").mkdir(parents=True)
    (tmp_path / "build" / "m" / "saved_model.pb").write_bytes(b"")
    assert json.loads(tfs("--json"))["next"]["command"] .endswith(" build/m --name m")


def test_a_spec_that_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serving.yaml").write_text("models: [")
    assert "not valid YAML: line 1" in tfs() and "tfs configure --dry-run" in tfs()


def test_json_of_a_command_belongs_behind_it() -> None:
    done = CliRunner().invoke(app, ["--json", "status"])
    assert done.exit_code == 2 and "tfs status ... --json" in done.output


def test_elsewhere_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFS_REPOSITORY", "s3://bucket/models")
    assert "s3://bucket/models: a store, not asked" in tfs()
