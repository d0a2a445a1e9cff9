"""tfs rollout --replace-pods: what is said; the replacement itself is tested in a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy import rollout
from deploy.backends import ServerChange
from deploy.cli.app import app
from deploy.errors import ServerError
from deploy.rollout import Replaced

TEXT = """
name: wine
models: [{name: wine, versions: [1]}]
server: {backend: kubernetes}
"""
CHANGE = ServerChange(("Service wine-rest: spec.type: ClusterIP -> NodePort",), ("Deployment wine: args: with --a",))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def replaced(spec: Any, *, planned: Any, **_: object) -> Replaced:
        if planned:
            planned(CHANGE)
        return Replaced(spec.name, "done", CHANGE, "p1", 12.0)

    monkeypatch.setattr(rollout, "replace_replicas", replaced)
    monkeypatch.setattr(rollout, "plan_replacement", lambda *_, **__: CHANGE)
    path = tmp_path / "serving.yaml"
    path.write_text(TEXT)
    return path


def ask(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["rollout", "--replace-pods", *arguments])
    return result.exit_code, result.stdout


def test_what_changes_is_said_before_it_is_done(spec: Path) -> None:
    code, said = ask("--spec", str(spec))
    assert code == 0 and said.splitlines() == [
        "pods are replaced for: Deployment wine: args: with --a",
        "afterwards: Service wine-rest: spec.type: ClusterIP -> NodePort",
        "wine runs as the spec says, all pods replaced (replacement p1, 12 s)"]


def test_a_plan_and_a_result_as_json(spec: Path) -> None:
    code, said = ask("--spec", str(spec), "--plan", "--json")
    assert code == 0 and json.loads(said) == CHANGE.to_json()
    code, said = ask("--spec", str(spec), "--json")
    assert code == 0 and json.loads(said)["outcome"] == "done"


def test_several_servers_are_gone_through_one_by_one(spec: Path) -> None:
    spec.write_text(f"{TEXT}servers: [{{name: eu}}, {{name: us, server: {{kubernetes: {{namespace: us}}}}}}]\n")
    code, said = ask("--spec", str(spec), "--json")
    assert code == 0 and list(json.loads(said)) == ["eu", "us"]


@pytest.mark.parametrize("more", [["wine"], ["--to", "2"], ["--canary"], ["--resume"]])
def test_versions_and_pods_are_not_replaced_at_once(spec: Path, more: list[str]) -> None:
    assert ask("--spec", str(spec), *more)[0] == 2


@pytest.mark.parametrize("backend", ["auto", "embedded", "container"])
@pytest.mark.parametrize("more", [[], ["--plan"], ["--abort"]])
def test_a_server_without_pods_is_told_so_before_anything_is_looked_at(tmp_path: Path, backend: str, more: list[str]
                                                                       ) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text(f"models: [{{name: wine, versions: [1]}}]\nserver: {{backend: {backend}}}\n")
    with pytest.raises(ServerError, match=f"has no pods to replace one by one: its backend is {backend}") as refused:
        CliRunner().invoke(app, ["rollout", "--replace-pods", "--spec", str(path), *more], catch_exceptions=False)
    assert refused.value.id == "not-replaced" and not (tmp_path / "models").exists()
