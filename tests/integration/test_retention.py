"""`tfs prune` beside real servers: what nothing refers to goes, what may be in use stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import rollout, serving
from deploy.errors import LockHeld, RepositoryError
from deploy.locks import locked
from deploy.repository import Repository
from deploy.repository.stores.conditional import MemoryStore
from deploy.serving import RetentionRule, plan_prune, prune
from deploy.spec import Spec, load_spec
from deploy.state import Ledger
from deploy.types import ModelVersion
from tests.support.ports import free_ports
from tests.support.repository import savedmodel

TEXT = """
models:
  - {name: half, versions: [2], labels: {stable: 2}}
server: {backend: embedded, start_timeout: 60, drain: 1}
rollout: {soak: 0.2, hold: 0.2, interval: 0.1}
"""


@pytest.fixture
def repo(models: Path, tmp_path: Path) -> Repository:
    """half/1 to half/6."""
    repository = Repository(tmp_path / "models")
    for _ in range(6):
        repository.publish(models / "half_plus_two", "half")
    return repository


@pytest.fixture
def spec(tmp_path: Path, repo: Repository) -> Iterator[Spec]:
    path = tmp_path / "serving.yaml"
    path.write_text(TEXT)
    spec = load_spec(path)
    yield spec
    serving.down(spec)


def going(plan: serving.PrunePlan) -> list[int]:
    return [fate.mv.version for fate in plan.going]


def why(plan: serving.PrunePlan, number: int) -> str:
    return "; ".join(next(fate.reasons for fate in plan.versions if fate.mv.version == number))


def test_rank_and_age(repo: Repository) -> None:
    assert going(plan_prune(repo, [], RetentionRule(last=2))) == [1, 2, 3, 4]
    assert going(plan_prune(repo, [], RetentionRule(last=1))) == [1, 2, 3, 4, 5]
    young = plan_prune(repo, [], RetentionRule(last=1, days=1))
    assert going(young) == [] and why(young, 1) == "0 days old"
    assert repo.versions("half") == [1, 2, 3, 4, 5, 6], "a plan changes nothing"


def test_other_tools_versions_stay(repo: Repository) -> None:
    savedmodel(repo.root / "half/3000")
    (repo.root / "half/1/assets.extra/tfs_manifest.json").write_text("{}")
    plan = plan_prune(repo, [], RetentionRule(last=1))
    assert going(plan) == [2, 3, 4, 5, 6] and "can't be read" in why(plan, 1) and "newest" in why(plan, 3000)


@pytest.mark.tensorflow
def test_what_spec_ledger_and_server_name(repo: Repository, spec: Spec) -> None:
    serving.up(spec)
    rollout.roll_out(spec, "half", 4)
    plan = prune(repo, [spec], RetentionRule(last=1, quarantine=0))
    assert going(plan) == [1, 3, 5] and repo.versions("half") == [2, 4, 6]
    assert "what a rollback goes back to" in why(plan, 2) and "wanted" in why(plan, 2)
    assert "known good" in why(plan, 4) and "served now" in why(plan, 4) and "label stable" in why(plan, 4)
    assert {path.name for path in (repo.root / "half").iterdir()} == {"2", "4", "6"}
    rollout.roll_back(spec, "half")
    assert repo.next_version("half") == 7


@pytest.mark.tensorflow
def test_a_server_that_is_asked_by_its_address(repo: Repository, spec: Spec) -> None:
    endpoint = serving.up(spec).endpoint
    plan = plan_prune(repo, [], RetentionRule(last=1), servers=[endpoint.grpc_target])
    assert going(plan) == [1, 3, 4, 5] and f"{endpoint.grpc_target}: the server has it, AVAILABLE" in why(plan, 2)


def test_a_server_that_doesnt_answer_uses_everything(repo: Repository) -> None:
    closed, _ = free_ports()
    plan = plan_prune(repo, [], RetentionRule(last=1), servers=[f"127.0.0.1:{closed}"])
    assert going(plan) == [] and "doesn't answer, and may use it" in why(plan, 1)


def test_a_ledger_that_cant_be_read_uses_everything(repo: Repository, spec: Spec) -> None:
    spec.state_dir.mkdir(parents=True)
    Ledger(spec.state_dir).path.write_text('{"event": "begin", "release": 1}\n')
    plan = plan_prune(repo, [spec], RetentionRule(last=1))
    assert going(plan) == [] and "serving.yaml: may use it: line 1 of the ledger" in why(plan, 1)


def test_not_while_a_release_is_under_way(repo: Repository, spec: Spec) -> None:
    with locked(spec.state_dir, "rollout of half"), pytest.raises(LockHeld):
        prune(repo, [spec], RetentionRule(last=1))
    assert len(repo.versions("half")) == 6


def test_quarantine(models: Path) -> None:
    repo = Repository(MemoryStore())
    for _ in range(3):
        repo.publish(models / "half_plus_two", "half")
    assert going(prune(repo, [], RetentionRule(last=1, quarantine=7))) == [1, 2]
    assert repo.versions("half") == [3] and len(repo.removed()) == 2
    repo.restore(ModelVersion("half", 1))
    assert repo.verify(ModelVersion("half", 1))
    again = prune(repo, [], RetentionRule(last=2, quarantine=1e-9))
    assert again.delete == (ModelVersion("half", 2),) and repo.removed() == {}
    assert not list(repo.store.list("half/2"))


def tfs(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy", *argv], check=False, text=True, capture_output=True,
                          timeout=120, cwd=cwd)


def test_the_command(repo: Repository, tmp_path: Path) -> None:
    unproven = tfs("prune", cwd=tmp_path)
    assert unproven.returncode == 4 and "nobody says which servers read from this repository" in unproven.stderr
    said = tfs("prune", "--keep", "2", "--unserved", cwd=tmp_path)
    assert said.returncode == 0 and "4 of 6 would go" in said.stdout and "--yes" in said.stdout, said.stderr
    assert len(repo.versions("half")) == 6
    done = json.loads(tfs("prune", "--keep", "2", "--unserved", "--quarantine", "1", "--yes", "--json",
                          cwd=tmp_path).stdout)
    assert done["done"] and [one["version"] for one in done["versions"] if one["goes"]] == [1, 2, 3, 4]
    assert repo.versions("half") == [5, 6]
    assert tfs("prune", "--restore", "half/2", cwd=tmp_path).returncode == 0 and repo.versions("half") == [2, 5, 6]
    missing = tfs("prune", "--restore", "half/9", cwd=tmp_path)
    assert missing.returncode == 4 and "there: half/1, half/3, half/4" in missing.stderr
    assert tfs("prune", "--restore", "half", cwd=tmp_path).returncode == 2


def test_what_cant_be_read(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="doesn't exist"):
        plan_prune(Repository(tmp_path / "none"), [])
