"""`tfs prune` beside several servers: what their common ledger names stays, and none is released meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import fleet, serving
from deploy.backends import silent
from deploy.repository import Repository
from deploy.serving import RetentionRule, plan_prune
from deploy.serving.references import KeepReason, summary
from deploy.spec import Spec, load_spec
from deploy.state import changing_all, ledger_of
from tests.support.echo_fleet import echo_fleet

QUICK = {"soak": 0, "hold": 0.05, "interval": 0.05, "patience": 1}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spec]:
    """Three servers of m/1; m/2 and m/3 are there."""
    with echo_fleet(tmp_path_factory.mktemp("fleet"), 3, rollout=QUICK) as path:
        yield load_spec(path)


@pytest.fixture
def spec(served: Spec, tmp_path: Path) -> Spec:
    """The same servers, of whose releases nobody has heard yet."""
    path = tmp_path / "serving.yaml"
    path.write_text(f"repository: {served.repository}\n{served.path.read_text()}")
    spec = load_spec(path)
    for member in spec.members:
        serving.up(member)
    return spec


def tfs(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy", *argv], check=False, text=True, capture_output=True,
                          timeout=60, cwd=cwd)


def stays(spec: Spec, *specs: Spec) -> dict[int, str]:
    """The versions that stay, and why, with the newest alone kept for its rank."""
    plan = plan_prune(Repository(spec.repository), specs or spec.members, RetentionRule(last=1))
    return {fate.mv.version: "; ".join(fate.reasons) for fate in plan.versions if not fate.goes}


def test_what_an_open_release_is_about_stays(spec: Spec) -> None:
    assert stays(spec).keys() == {1, 3}
    assert fleet.roll_out(spec, "m", 2, pause_before=["wave:1"]).ended.outcome == "paused"
    assert stays(spec).keys() == {1, 2, 3} and "release f1 is open" in stays(spec)[2]
    assert "release f1 is open" in stays(spec, spec)[2], "the spec of all of them, instead of each"
    fleet.abort(spec, "m")
    assert stays(spec).keys() == {1, 3}


def test_where_a_rollback_of_all_leads_and_what_all_serve_stays(spec: Spec) -> None:
    """As the fleet's ledger has it: for servers that join later, and where a server's own was lost."""
    ledger = ledger_of(spec)
    one, two = ({"versions": [number], "labels": {"stable": number}} for number in (1, 2))
    for name in ("fleet_begin", "fleet_end"):
        ledger.append(name, release="f1", model="m", kind="rollback", version=2, waves=[["s000"]], outcome="done",
                      before={"s000": one}, home={"s000": 2}, by={"by": "me"})
    assert "a rollback" in stays(spec)[2] and "a rollback" in stays(spec)[1]
    ledger.append("fleet_begin", release="f2", model="m", kind="rollout", version=3, waves=[["s000"]],
                  before={"s000": one}, by={"by": "me"})
    ledger.append("fleet_end", release="f2", outcome="undone")
    assert stays(spec).keys() == {1, 3}
    ledger.append("fleet_known_good", model="m", serving=two, entry={})
    assert "known good" in stays(spec)[2]


def test_a_ledger_of_all_that_cant_be_read_uses_everything(spec: Spec) -> None:
    ledger_of(spec).path.parent.mkdir(parents=True, exist_ok=True)
    ledger_of(spec).path.write_text('{"event": "fleet_begin", "release": 1}\n')
    assert stays(spec).keys() == {1, 2, 3} and "may use it: line 1 of the ledger" in stays(spec)[2]


def test_not_while_a_release_of_all_is_under_way(spec: Spec) -> None:
    with changing_all(spec, "rollout of m", silent):
        refused = tfs("prune", "-r", str(spec.repository), "--keep", "1", "--yes", "--json", cwd=spec.path.parent)
        assert refused.returncode == 5 and "`rollout of m`" in refused.stdout, refused
        planned = tfs("prune", "-r", str(spec.repository), "--keep", "1", "--json", cwd=spec.path.parent)
        assert planned.returncode == 0 and not json.loads(planned.stdout)["done"], planned
    assert Repository(spec.repository).versions("m") == [1, 2, 3]


def test_no_release_of_all_begins_meanwhile(spec: Spec) -> None:
    refused = []

    def begin(step: str) -> None:
        if step.startswith("looking at") and not refused:
            refused.append(tfs("rollout", "m", "--to", "3", cwd=spec.path.parent))

    serving.prune(Repository(spec.repository), spec.members, RetentionRule(last=3), progress=begin)
    assert [done.returncode for done in refused] == [5] and "`prune`" in refused[0].stderr, refused


def test_who_says_so_is_counted_and_told_once(spec: Spec) -> None:
    fleet.roll_out(spec, "m", 2)
    told = tfs("prune", "-r", str(spec.repository), "--keep", "1", cwd=spec.path.parent)
    lines = told.stdout.splitlines()
    row = next(line for line in lines if line.startswith("m/2"))
    assert "known good: the fleet, s000 and 2 more" in row and "served now: s000, s001, s002" in row, told
    assert "what a rollback goes back to: the fleet, s000 and 2 more" in told.stdout, told
    assert "config file" not in told.stdout and "it wants" not in told.stdout, told
    assert sum(line.startswith("m/") for line in lines) == 3, "one line for each version"
    assert [f"pruning: looking at serving.yaml ({name})" in told.stderr for name in ("s000", "s001", "s002")] == [
        True] * 3, told
    data = json.loads(tfs("prune", "-r", str(spec.repository), "--keep", "1", "--json", cwd=spec.path.parent).stdout)
    reasons = data["versions"][1]["reasons"]
    assert [f"serving.yaml ({name}): known good" in reasons for name in ("s000", "s001", "s002")] == [True] * 3


def test_many_names_are_counted() -> None:
    def told(what: str, *servers: str, file: str = "serving.yaml") -> list[KeepReason]:
        return [KeepReason(what, file, server) for server in servers]

    names = [f"s{number:03}" for number in range(200)]
    assert summary([KeepReason("the newest"), *told("known good", *names), *told("served now", *names),
                    *told("label stable", "s007")]) == (
        "the newest; known good, served now: s000, s001 and 198 more; label stable: s007")
    two = [*told("wanted", "", file="eu.yaml"), *told("wanted", "a", file="us.yaml")]
    away = KeepReason("may use it", "us.yaml", "b", "it can't be reached")
    assert summary([*two, away, KeepReason("the server has it", "", "h:1")]) == (
        "wanted: eu.yaml, us.yaml (a); may use it (it can't be reached): us.yaml (b); the server has it: h:1")
