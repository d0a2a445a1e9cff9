"""Rollouts from the command line's side: a spec, and a real server in a process or container of its own."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from deploy import backends, client, rollout, serving
from deploy.cli.outcome import run
from deploy.errors import LockHeld, NotReady, RolloutError, ServerError, SpecError, Untrusted
from deploy.locks import locked
from deploy.render import models_config
from deploy.repository import Repository
from deploy.rollout import ConfigFile, Unfinished
from deploy.rollout.configs import replaced
from deploy.rollout.plan import RolloutPlan
from deploy.rollout.running import Released
from deploy.signing import receipts_of, sign
from deploy.spec import Monitoring, Resources, Spec
from deploy.state import Ledger
from deploy.types import ModelVersion, ServedModel, Serving, Specific
from tests.support.servers import engine_or_skip, server_image_or_skip, until
from tests.support.serving import spec_at
from tests.support.signing import key_pair

pytestmark = pytest.mark.tensorflow
ROOT = Path(__file__).parents[2]
TEXT = """
models:
  - {name: half, versions: [1], labels: {stable: 1}}
rollout: {soak: 0.2, hold: 0.2, interval: 0.1}
"""


KINDS = ["embedded", pytest.param("container", marks=pytest.mark.docker)]


@pytest.fixture
def spec(models: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Spec]:
    """half/1 is served; 2 has another offset, 3 another contract, 4 can't be loaded."""
    repository = Repository(tmp_path / "models")
    for name in ("half_plus_two", "half_plus_three", "two_signatures"):
        repository.publish(models / name, "half")
    broken = tmp_path / "broken"
    shutil.copytree(models / "half_plus_two", broken)
    from tests.integration.test_serving import break_op

    break_op(broken)
    repository.publish(broken, "half")
    server = {"backend": getattr(request, "param", "embedded"), "monitoring": Monitoring()}
    if server["backend"] == "container":
        server |= {"image": server_image_or_skip(engine_or_skip()), "resources": Resources(memory="2g")}
    made = spec_at(tmp_path, TEXT, drain=1.0, start_timeout=60.0, **server)
    made.path.write_text(TEXT)
    serving.up(made)
    yield made
    found = serving.find(made)
    if found is not None:
        found.stop(0)


def answer(spec: Spec, ref: str = "half@stable") -> float:
    found = serving.find(spec)
    assert found is not None
    with client.connect(found.endpoint) as asked:
        return float(asked.predict(ref, {"x": np.array([2.0], np.float32)})["y"][0])


def rolled(spec: Spec, to: int, **options: object) -> Released:
    done = rollout.roll_out(spec, "half", to, **options)  # type: ignore[arg-type]
    assert isinstance(done, Released)
    return done


@pytest.mark.parametrize("spec", KINDS, indirect=True)
def test_out_and_back_and_a_restart(spec: Spec) -> None:
    plan = rollout.plan_rollout(spec, "half", 2)
    assert isinstance(plan, RolloutPlan) and plan.ok and plan.findings.verdict is not None
    assert plan.steps[0] == "load half/2" and plan.steps[-1] == "unload half/1" and "memory" in plan.text()
    told: list[str] = []
    done = rolled(spec, 2, progress=told.append)
    assert done.ended.outcome == "done" and answer(spec) == 4.0
    assert any("none failed" in line for line in told), told
    reports = list((spec.state_dir / "reports").iterdir())
    assert {p.suffix for p in reports} == {".json", ".html"}
    found = json.loads(next(p for p in reports if p.suffix == ".json").read_bytes())
    assert found["drift"]["outputs"][0]["max"] == 1.0

    status = serving.status(spec)
    assert status.ready, status.problems
    assert serving.up(spec).already
    serving.down(spec)
    said: list[str] = []
    serving.up(spec, progress=said.append)
    assert answer(spec) == 4.0 and any("version 2, as rolled out; serving.yaml says 1" in s for s in said)

    back = rollout.roll_back(spec, "half")
    assert isinstance(back, Released) and answer(spec) == 3.0
    assert [(r.kind, r.outcome) for r in rollout.history(spec)] == [("rollout", "done"), ("rollback", "done")]
    with pytest.raises(RolloutError, match="no release is known that brought half/1"):
        rollout.roll_back(spec, "half")
    assert rolled(spec, 1).release is None
    assert any(line.get("memory") for line in Ledger(spec.state_dir).read())

    # whoever edits the entry means it
    serving.down(spec)
    from deploy.spec import parse

    edited = msgspec.structs.replace(parse(TEXT.replace("1", "2"), spec.path), server=spec.server)
    serving.up(edited)
    assert answer(edited) == 4.0


@pytest.mark.parametrize(("to", "message", "changed"), [
    (3, "version 3 breaks the clients of version 1", False),
    (4, "half is served as before, 1 .stable -> 1.: .*half/4.*Op type not registered 'NoSuchOp'", True),
])
def test_what_is_not_good_enough(spec: Spec, to: int, message: str, changed: bool) -> None:
    with pytest.raises(RolloutError, match=message) as e:
        rolled(spec, to)
    assert answer(spec) == 3.0 and serving.status(spec).ready and e.value.exit_code == 8
    assert [r.outcome for r in rollout.history(spec)] == (["undone"] if changed else [])


def test_a_canary_that_is_too_far_away(spec: Spec) -> None:
    strict = rollout.adjusted(spec, compare=msgspec.convert({"deviation": 0.5}, type(spec.rollout.comparison)))
    with pytest.raises(RolloutError, match="serving_default/y is up to 1 apart, 0.5 allowed"):
        rolled(strict, 2)
    assert answer(spec) == 3.0 and serving.status(spec).ready


def test_a_pause_and_a_lock(spec: Spec) -> None:
    assert rolled(spec, 2, pause_before=["promote"]).ended.step == "promote"
    assert answer(spec, "half@canary") == 4.0 and answer(spec) == 3.0
    with pytest.raises(LockHeld, match=r"release r1 \(rollout of half to 2\), begun by .* waits before `promote`"):
        rolled(spec, 3)
    assert rolled(spec, 2).ended.outcome == "paused"  # doing it again approves nothing
    with locked(spec.state_dir, "something else"), \
            pytest.raises(LockHeld, match="another operation holds the lock .*`something else`"):
        rolled(spec, 2)
    assert rollout.go_on(spec, "half").ended.outcome == "done" and answer(spec) == 4.0
    with pytest.raises(RolloutError, match="no release of half is open"):
        rollout.go_on(spec, "half")
    rolled(spec, 1, pause_before=["unload"])
    assert answer(spec) == 3.0
    assert rollout.abort(spec, "half").ended.outcome == "undone" and answer(spec) == 4.0
    with pytest.raises(SpecError, match="no step 'lunch'"):
        rolled(spec, 1, pause_before=["lunch"])


def test_a_label_moved_by_hand_is_made_to_last(spec: Spec) -> None:
    found = serving.find(spec)
    assert found is not None
    config = models_config([ServedModel("half", spec.models[0].base_path, Specific((1, 2)))],
                           {"half": spec.models[0].base_path})

    def push() -> None:
        assert found is not None
        config.model_config_list.config[0].version_labels["stable"] = 1
        with client.connect(found.endpoint) as asked:
            asked.reload(config)
            until(lambda: any(s.version == 2 and s.serving for s in asked.status("half")), "version 2 is loaded")
            config.model_config_list.config[0].version_labels["stable"] = 2
            asked.reload(config)

    push()
    assert answer(spec) == 4.0 and not serving.status(spec).ready
    rollout.repair(spec)
    assert answer(spec) == 3.0 and serving.status(spec).ready
    push()
    plan = rollout.plan_rollout(spec, "half", 2)
    assert isinstance(plan, RolloutPlan) and "the config file names 1 (stable -> 1)" in plan.text()
    done = rolled(spec, 2)
    assert done.release is not None and serving.status(spec).problems == []


def test_the_command_line(spec: Spec, capfd: pytest.CaptureFixture[str]) -> None:
    served = msgspec.to_builtins(spec.server)
    spec.path.write_text(f"{TEXT}server: {json.dumps(served)}\n")
    where = ["--spec", str(spec.path)]
    assert run(["rollout", "half", *where, "--to", "2", "--plan"]) == 0
    assert "1. load half/2" in capfd.readouterr().out
    assert run(["rollout", "half", *where, "--to", "3", "--plan"]) == 8
    assert run(["rollout", "half", *where, "--to", "4"]) == 8
    assert "tfs: half is served as before" in capfd.readouterr().err.splitlines()[-1]
    assert run(["rollout", "half", *where, "--to", "2", "--soak", "0", "--hold", "0"]) == 0
    assert "half is served: 2 (stable -> 2)" in capfd.readouterr().out
    assert run(["rollback", "half", *where]) == 0
    capfd.readouterr()
    assert run(["history", *where, "--json"]) == 0
    assert [r["outcome"] for r in json.loads(capfd.readouterr().out)] == ["undone", "done", "done"]
    assert run(["rollout", "half", *where, "--continue", "--soak", "3"]) == 2
    assert "keeps what it began with" in capfd.readouterr().err
    assert run(["rollout", "half", *where]) == 2 and run(["rollout", "other", *where, "--to", "2"]) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_told_to_stop(spec: Spec, number: signal.Signals) -> None:
    spec.path.write_text(f"{TEXT}server: {json.dumps(msgspec.to_builtins(spec.server))}\n")
    command = [sys.executable, "-m", "deploy", "rollout", "half", "--spec", str(spec.path), "--to", "2", "--soak", "5"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: any(r.passed.keys() >= {"gate", "compare"} for r in rollout.history(spec)), "it soaks")
    child.send_signal(number)
    said = child.communicate(timeout=30)[1]
    assert answer(spec) == 3.0
    if number is signal.SIGKILL:
        assert rollout.history(spec)[-1].open
        told: list[str] = []
        assert rolled(spec, 2, progress=told.append).ended.outcome == "done" and answer(spec) == 4.0
        assert "soak 5 s" in told[0]  # as the release began, whatever the spec says
        return
    assert child.returncode == 8 and "half is served as before, 1 (stable -> 1): interrupted" in said.splitlines()[-1]
    assert rollout.history(spec)[-1].outcome == "undone" and serving.status(spec).ready


@pytest.mark.parametrize("spec", KINDS, indirect=True)
def test_a_version_that_is_loading_still_is_not_taken_for_unwanted(spec: Spec, tmp_path: Path) -> None:
    serving.down(spec)
    spec = msgspec.structs.replace(spec, server=msgspec.structs.replace(
        spec.server, flags={"max_num_load_retries": 10_000, "load_retry_interval_micros": 200_000}))
    serving.up(spec)
    server = serving.find(spec)
    assert server is not None
    graph, away = tmp_path / "models/half/3/saved_model.pb", tmp_path / "away"
    graph.rename(away)
    with client.connect(server.endpoint) as asked:
        asked.reload(replaced(ConfigFile(backends.config(spec, server)).read(), "half",
                              Serving(frozenset({1, 3}), {"stable": 1})))
        until(lambda: any(s.version == 3 and not s.serving for s in asked.status("half")), "version 3 is loading")
    impatient = rollout.adjusted(spec, load_timeout=0.5)
    for change in (rollout.roll_out, rollout.plan_rollout, rollout.roll_back, rollout.plan_rollback):
        with pytest.raises(NotReady, match=r"the server has been loading half/3 \(it is LOADING\)"):
            change(impatient, "half", 2)
    assert rollout.history(spec) == [] and answer(spec) == 3.0

    def repaired(sentence: str) -> None:
        if "waiting until" in sentence:
            away.rename(graph)

    done = rolled(spec, 2, progress=repaired)
    assert done.release is not None and done.release.goal == Serving(frozenset({2, 3}), {"stable": 2})
    assert answer(spec) == 4.0


def test_a_server_that_is_killed_and_started_again(spec: Spec) -> None:
    def kill(sentence: str) -> None:
        found = serving.find(spec)
        if sentence.startswith("bake_before: asking") and found is not None:
            psutil.Process(found.describe()["pid"]).kill()

    with pytest.raises(Unfinished, match="the server doesn't answer"):
        rolled(spec, 2, progress=kill)
    assert rollout.history(spec)[-1].open
    serving.up(spec)
    assert answer(spec) == 3.0
    assert rolled(spec, 2).ended.outcome == "done" and answer(spec) == 4.0


def test_a_server_that_starts_again_while_a_release_waits(spec: Spec) -> None:
    assert rolled(spec, 2, pause_before=["promote"]).ended.step == "promote"
    serving.down(spec)
    serving.up(spec)
    told: list[str] = []
    assert rollout.go_on(spec, "half", progress=told.append).ended.outcome == "done" and answer(spec) == 4.0
    passed = [line["check"] for line in Ledger(spec.state_dir).read() if line["event"] == "passed"]
    assert passed == ["gate", "compare", "bake_before"] * 2 + ["confirm", "bake_after"]
    assert any("bake_before, compare, gate" in sentence for sentence in told)


class FullDisk:
    """Stands for the ledger's file while the disk is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def __enter__(self) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self._patch.setattr(Ledger, "_write", full)
        self._patch.setattr(ConfigFile, "change", lambda *_: (_ for _ in ()).throw(RolloutError("No space left")))

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


def test_a_full_disk_doesnt_keep_an_open_release_from_going_back(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rolled(spec, 2, pause_before=["unload"]).ended.outcome == "paused" and answer(spec) == 4.0
    with FullDisk(monkeypatch), pytest.raises(RolloutError, match="can't be written"):
        rollout.roll_back(spec, "half")
    assert answer(spec) == 3.0
    rollout.roll_back(spec, "half")
    assert answer(spec) == 3.0 and not rollout.history(spec)[-1].open


def test_a_rollback_that_is_run_again_stays_a_rollback(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(sentence: str) -> None:
        if sentence.startswith("unload"):
            raise SystemExit

    rolled(spec, 2)
    with pytest.raises(SystemExit):
        rollout.roll_back(spec, "half", progress=interrupted)
    assert rollout.history(spec)[-1].open and answer(spec) == 3.0
    done = rollout.roll_back(spec, "half")
    assert isinstance(done, Released) and done.ended.outcome == "done" and answer(spec) == 3.0
    rolled(spec, 2)
    with pytest.raises(SystemExit):
        rollout.roll_back(spec, "half", progress=interrupted)
    serving.down(spec)
    rollout.roll_back(spec, "half")
    serving.up(spec)
    assert answer(spec) == 3.0


def test_a_rollback_that_couldnt_be_written_down_goes_no_further(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    rolled(spec, 2)
    rolled(spec, 1)
    with FullDisk(monkeypatch), pytest.raises(Unfinished, match="can't be written"):
        rollout.roll_back(spec, "half")
    assert answer(spec) == 4.0
    rollout.roll_back(spec, "half")
    assert answer(spec) == 4.0 and serving.as_known_good(spec).models[0].labels == {"stable": 2}


def test_without_a_server(spec: Spec) -> None:
    rolled(spec, 2)
    serving.down(spec)
    back = rollout.roll_back(spec, "half")  # the bad version may be why it is down
    assert isinstance(back, Released) and back.release is not None and "it starts with this" in back.release.reason
    serving.up(spec)
    assert answer(spec) == 3.0
    serving.down(spec)
    with pytest.raises(RolloutError, match="no release is known that brought half/1"):
        rollout.roll_back(spec, "half")
    serving.up(spec)
    assert rolled(spec, 2, pause_before=["unload"]).ended.outcome == "paused"
    serving.down(spec)
    assert serving.as_known_good(spec).models[0].labels == {"stable": 2}
    undone = rollout.roll_back(spec, "half")
    assert isinstance(undone, Released) and undone.ended.outcome == "undone"
    assert serving.as_known_good(spec).models[0] == spec.models[0]
    with pytest.raises(ServerError, match="isn't running"):
        rolled(spec, 2)


def test_what_nobody_trusted_has_signed_isnt_rolled_out(spec: Spec, tmp_path: Path) -> None:
    pair, repository = key_pair(tmp_path), Repository(tmp_path / "models")
    spec = msgspec.structs.replace(spec, signed_by=(pair.public,))
    with pytest.raises(Untrusted, match="half/2 in .* isn't signed"):
        rolled(spec, 2)
    assert answer(spec) == 3.0
    sign(repository, ModelVersion("half", 2), pair.key)
    assert not rollout.plan_rollout(spec, "half", 4).ok
    assert rolled(spec, 2).ended.outcome == "done" and answer(spec) == 4.0
    (receipt,) = receipts_of(repository, ModelVersion("half", 2))
    assert receipt.result == f"rollout on {spec.name} done" and receipt.passed[0].startswith("gate")
    with pytest.raises(Untrusted, match="half/1 in .* isn't signed"):  # it would have to be loaded again
        rollout.roll_back(spec, "half")
