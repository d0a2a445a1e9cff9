"""Releases of several real servers (the embedded one, without TensorFlow): waves, the way back, kill -9, operators."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from deploy import Repository, client, fleet, goldens, rollout, serving
from deploy.backends import ports, silent
from deploy.errors import ClientError, LockHeld, RolloutError, ServerError, SpecError
from deploy.goldens import Golden
from deploy.rollout.goals import current
from deploy.signing import receipts_of
from deploy.spec import Spec, load_spec
from deploy.state import changing_all, ledger_of
from deploy.state.ledger import listening
from deploy.state.lines import Line
from deploy.types import ModelRef, ModelVersion, VersionState
from deploy.waiting import Deadline, poll
from tests.support.repository import savedmodel

STRIDE = 9  # of the points at which the tool is killed, in CI
NAMES, ROOT = "abcd", Path(__file__).parents[2]


def written(directory: Path, names: str, *, waves: str = "[1, 50%]", extra: str = "", own: str = "") -> Spec:
    """own: names of servers with a repository of their own."""
    lines = [f"- {{name: {name}{f', repository: models-{name}' if name in own else ''}}}" for name in names]
    (directory / "serving.yaml").write_text(
        "models: [{name: m, versions: [1], labels: {stable: 1}}]\n"
        "server: {backend: embedded, grpc_port: 0, rest_port: 0, drain: 0, flags: {tfs_loader: echo}}\n"
        f"rollout: {{soak: 0, hold: 0.05, interval: 0.05, patience: 1, waves: {waves}{extra}}}\n"
        "servers:\n" + "\n".join(lines) + "\n")
    return load_spec(directory / "serving.yaml")


def publish(directory: Path, versions: int, repository: str = "models", *, wrong: bool = False) -> None:
    """Versions of y = x. wrong: with an answer that no server gives."""
    x = np.array([1.0, 2.0], np.float32)
    for _ in range(versions):
        place = savedmodel(directory / "build" / repository / str(os.urandom(4).hex()) / "m")
        goldens.write(place, [Golden("serving_default", {"x": x}, {"y": x + 1 if wrong else x})], "m")
        Repository(directory / repository).publish(place, "m")


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Spec]:
    """Four servers with version 1; 2 and 3 are there."""
    publish(tmp_path, 3)
    with running(written(tmp_path, NAMES)) as spec:
        yield spec


@contextmanager
def running(spec: Spec) -> Iterator[Spec]:
    try:
        started = fleet.everywhere(spec.members, lambda one, _: serving.up(one))
        assert not [result.error for result in started if result.error is not None]
        yield spec
    finally:
        fleet.everywhere(load_spec(spec.path).members, lambda one, _: serving.down(one))


def served(spec: Spec) -> dict[str, tuple[list[int], dict[str, int]]]:
    """By server, what it answers: its loaded versions, and its labels."""
    seen = {}
    for member in spec.members:
        server = serving.find(member)
        if server is None or not server.alive():
            continue
        with client.connect(server.endpoint) as asked:
            assert asked.rpc is not None
            versions = sorted(s.version for s in asked.rpc.status(ModelRef("m")) if s.state is VersionState.AVAILABLE)
            seen[member.short_name] = versions, {"stable": asked.rpc.resolve(ModelRef("m", label="stable")).version}
    return seen


def everywhere(version: int, names: str = NAMES) -> dict[str, tuple[list[int], dict[str, int]]]:
    return {name: ([version], {"stable": version}) for name in names}


def steps(spec: Spec) -> list[tuple[str, str]]:
    return [(line["do"], "".join(line["servers"])) for line in ledger_of(spec).read() if line["event"] == "fleet_apply"]


def test_a_release_of_all_leaves_one_receipt(four: Spec, tmp_path: Path) -> None:
    """However many servers there are: a version can't have more than a thousand."""
    fleet.roll_out(four, "m", 2, note="new rows")
    fleet.roll_back(four, "m")
    place = Repository(tmp_path / "models")
    (forth,) = receipts_of(place, ModelVersion("m", 2))
    (back,) = receipts_of(place, ModelVersion("m", 1))
    assert forth.kind == back.kind == "rollout"
    assert forth.result == f"rollout on {four.name} done" and any("gate" in each for each in forth.passed)
    assert any("new rows" in note for note in forth.notes) and "rollback" in back.result


def test_waves_and_back(four: Spec) -> None:
    released = fleet.roll_out(four, "m", 2)
    assert released.ended.outcome == "done" and released.text().startswith("m is served in version 2 by 4 servers")
    assert served(four) == everywhere(2)
    assert steps(four) == [("stage", "abcd"), ("change", "a"), ("bake", "a"), ("change", "b"), ("bake", "b"),
                           ("change", "c"), ("change", "d"), ("bake", "cd"), ("finish", "abcd")]
    assert fleet.roll_out(four, "m", 2).release is None, "nothing to do"
    back = fleet.roll_back(four, "m")
    assert back.release is not None and set(back.release.home.values()) == {1}
    assert served(four) == everywhere(1)
    assert [(r.kind, r.outcome) for r in fleet.history(four)] == [("rollout", "done"), ("rollback", "done")]


def test_a_wave_waits_and_the_old_version_stays_loaded_until_the_last_one(four: Spec) -> None:
    assert fleet.roll_out(four, "m", 2, pause_before=["wave"]).ended.wave == 2
    assert served(four) == {"a": ([1, 2], {"stable": 2})} | everywhere(1, "bcd")
    with pytest.raises(LockHeld, match=r"release f1 of all servers \(rollout of m to 2\).*waits before wave 2"):
        fleet.roll_out(four, "m", 3)
    assert fleet.go_on(four, "m").ended.wave == 3
    assert fleet.abort(four, "m").ended.outcome == "undone"
    assert served(four) == everywhere(1)
    with pytest.raises(RolloutError, match="no release of m is open"):
        fleet.go_on(four, "m")


@pytest.mark.parametrize(("before", "says"), [("promote", "can't pause before 'promote'"), ("wave:9", "no wave 9")])
def test_steps_that_there_are_not(four: Spec, before: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        fleet.roll_out(four, "m", 2, pause_before=[before])
    assert fleet.history(four) == []


def test_one_wave_has_nothing_to_wait_before(four: Spec) -> None:
    one = written(four.path.parent, NAMES, waves="[100%]")
    with pytest.raises(SpecError, match="there is one wave, and none before which it could wait"):
        fleet.roll_out(one, "m", 2, pause_before=["wave"])
    assert fleet.history(one) == []
    assert fleet.roll_out(one, "m", 2, pause_before=["wave:1"]).ended.wave == 1


def test_a_version_damaged_at_one_server_stops_before_any_is_told(tmp_path: Path) -> None:
    publish(tmp_path, 2)
    shutil.copytree(tmp_path / "models", tmp_path / "models-d")
    with (tmp_path / "models-d" / "m" / "2" / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    with running(written(tmp_path, NAMES, own="d")) as spec:
        before = served(spec)
        with pytest.raises(RolloutError, match=r"as it was before on all servers: d: .*saved_model\.pb"):
            fleet.roll_out(spec, "m", 2)
        assert served(spec) == before == everywhere(1)
        assert steps(spec) == [("stage", "abcd")]
        assert all(rollout.history(member) == [] for member in spec.members), "no server was told"


def test_a_version_that_answers_wrongly_at_one_server_goes_back_everywhere(tmp_path: Path) -> None:
    publish(tmp_path, 2)
    publish(tmp_path, 1, "models-c")
    publish(tmp_path, 1, "models-c", wrong=True)
    with running(written(tmp_path, NAMES, own="c")) as spec:
        with pytest.raises(RolloutError, match=r"as it was before on all servers: c: ") as caught:
            fleet.roll_out(spec, "m", 2)
        assert caught.value.id == "release-undone"
        assert served(spec) == everywhere(1)
        assert ("home", "ab") in steps(spec) and ("change", "d") not in steps(spec)


def test_a_server_that_dies_between_two_waves_is_brought_to_it_when_it_is_back(four: Spec) -> None:
    fleet.roll_out(four, "m", 2, pause_before=["wave:2"])
    dead = four.members[2]
    kill(dead)
    tolerant = written(four.path.parent, NAMES, extra=", max_unavailable: 2")
    with pytest.raises(RolloutError, match=r"the rollout of m is done, but not on c \(") as caught:
        fleet.go_on(tolerant, "m")
    assert caught.value.id == "servers-missing"
    assert served(four) == everywhere(2, "abd")
    serving.up(dead)
    assert served(four)["c"] == ([1], {"stable": 1}), "what it was known to serve well"
    assert fleet.roll_out(four, "m", 2).ended.outcome == "done"
    assert served(four) == everywhere(2)


def test_no_server_changes_while_as_many_as_may_are_unavailable(four: Spec) -> None:
    fleet.roll_out(four, "m", 2, pause_before=["wave:2"])
    kill(four.members[2])
    with pytest.raises(RolloutError, match=r"as it was before on all servers: c doesn't answer, so none may change"):
        fleet.go_on(four, "m")
    assert served(four) == everywhere(1, "abd")


def test_a_server_that_is_dead_keeps_nobody_from_going_back(four: Spec) -> None:
    fleet.roll_out(four, "m", 2, pause_before=["wave:3"])
    kill(four.members[0])
    undone = fleet.abort(four, "m")
    assert undone.ended.outcome == "undone" and not undone.ended.missing
    assert served(four) == everywhere(1, "bcd")
    serving.up(four.members[0])
    assert served(four) == everywhere(1)


def test_servers_join_and_leave_in_the_middle(four: Spec) -> None:
    fleet.roll_out(four, "m", 2, pause_before=["wave:2"])
    left = four.members[1]
    changed = written(four.path.parent, "acde")
    joined = changed.members[3]
    fleet.inherit(changed, joined)
    serving.up(joined)
    try:
        assert fleet.go_on(changed, "m").ended.outcome == "done"
        assert served(changed) == everywhere(2, "acde")
    finally:
        serving.down(left)
    late = written(four.path.parent, "acdef").members[4]
    fleet.inherit(load_spec(four.path), late)
    serving.up(late)
    assert served(load_spec(four.path)) == everywhere(2, "acdef"), "a new one starts with what the others serve"


def test_ctrl_c_brings_all_back(four: Spec) -> None:
    """Sent to the command while the second wave is watched."""
    command = [sys.executable, "-m", "deploy", "rollout", "m", "--to", "2", "--spec", str(four.path), "--events"]
    process = subprocess.Popen([*command, "--hold", "20"], stdout=subprocess.PIPE, text=True, cwd=four.path.parent)
    assert process.stdout is not None
    for line in process.stdout:
        if '"promote"' in line or ('"confirm"' in line and '"point"' in line and '"stable"' in line):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(30) == 8, rest
    assert '"release-undone"' in rest and "interrupted" in rest
    assert served(four) == everywhere(1)


def test_killed_at_any_point_another_run_ends_it_well(tmp_path: Path) -> None:
    """kill -9 of the tool as soon as the n-th line of any of the five ledgers is on the disk."""
    publish(tmp_path, 3)
    with running(written(tmp_path, NAMES, waves="[1]", extra=", max_unavailable: 4, compare: false")) as spec:
        fleet.roll_out(spec, "m", 2)
        for at in range(1, 1000, STRIDE):
            target = 5 - served(spec)["a"][1]["stable"]  # to and fro between 2 and 3
            dying = subprocess.run([sys.executable, "-m", "tests.support.dying", spec.path, "m", str(target), str(at)],
                                   cwd=ROOT, check=False, capture_output=True, text=True)
            if dying.returncode == 0:
                assert at > 60, "there are more points than that"
                break
            assert dying.returncode == -signal.SIGKILL, dying.stderr
            assert all(labels["stable"] in (2, 3) for _, labels in served(spec).values())
            if at % 2:
                released = fleet.roll_out(spec, "m", target)
                assert released.ended.outcome == "done"
                assert served(spec) == everywhere(target), at
            elif fleet.unfinished(spec) is not None:
                before = {name: current(s, "stable") for name, s in fleet.history(spec)[-1].before.items()}
                assert fleet.abort(spec, "m").ended.outcome == "undone"
                assert {name: labels["stable"] for name, (_, labels) in served(spec).items()} == before, at


def test_a_server_killed_at_any_point_keeps_nobody_from_the_end(tmp_path: Path) -> None:
    """kill -9 of one of five servers, each in turn, as soon as the n-th line of any of the six ledgers is written. What
    the others serve is good; once it is back, the same rollout ends it."""
    publish(tmp_path, 3)
    names = NAMES + "e"
    with running(written(tmp_path, names, waves="[1, 60%]", extra=", max_unavailable: 2, compare: false")) as spec:
        fleet.roll_out(spec, "m", 2)
        for at in range(1, 1000, STRIDE):
            victim = spec.members[at // STRIDE % len(names)]
            stable = {labels["stable"] for _, labels in served(spec).values()}
            target, lines = 5 - stable.pop(), 0

            def tell(_: Line, at: int = at, victim: Spec = victim) -> None:
                nonlocal lines
                lines += 1
                if lines == at:
                    kill(victim)

            with listening(tell), suppress(RolloutError, ClientError, ServerError):
                fleet.roll_out(spec, "m", target)
            if lines < at:
                assert at > 60, "there are more points than that"
                break
            seen = served(spec)
            assert len(seen) == len(names) - 1 and victim.short_name not in seen, at
            assert all(labels["stable"] in (2, 3) and labels["stable"] in versions
                       for versions, labels in seen.values()), (at, seen)
            serving.up(victim)
            fleet.roll_out(spec, "m", target)
            assert served(spec) == everywhere(target, names), at


def test_two_operators(four: Spec) -> None:
    with changing_all(four, "rollout of m", silent), pytest.raises(LockHeld, match="rollout of m"):
        fleet.roll_out(four, "m", 2)


@pytest.mark.parametrize("where", ["memory:releases", "shared"])
def test_the_lock_and_the_ledger_are_where_all_operators_see_them(four: Spec, where: str) -> None:
    """The second operator has the spec, and nothing of the first one's state directory for all servers."""
    text = four.path.read_text().replace("patience: 1", f"patience: 1, lock: '{where}'")
    four.path.write_text(text)
    spec = load_spec(four.path)
    fleet.roll_out(spec, "m", 2, pause_before=["wave:2"])
    shutil.rmtree(spec.state_dir, ignore_errors=True)
    assert fleet.history(spec)[0].paused == 2
    with changing_all(spec, "rollout of m", silent):
        shutil.rmtree(spec.state_dir, ignore_errors=True)
        with pytest.raises(LockHeld, match="rollout of m"), changing_all(spec, "another", silent):
            pass
    assert fleet.go_on(spec, "m").ended.outcome == "done"
    assert served(spec) == everywhere(2)


def kill(member: Spec) -> None:
    server = serving.find(member)
    assert server is not None
    pid = server.describe()["pid"]
    os.kill(pid, signal.SIGKILL)
    assert poll(lambda: None if server.alive() else True, Deadline(10))


@pytest.mark.parametrize("stolen", ["gRPC", "REST"])
def test_a_free_port_that_another_program_takes_first_is_another_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stolen: str) -> None:
    """On a busy machine: each connection that anybody opens has a number of the same range."""
    publish(tmp_path, 1)
    member = written(tmp_path, "a").members[0]
    pick, tries = ports.pick, list[dict[str, int]]()
    with socket.create_server(("127.0.0.1", 0)) as other:
        def late(host: str, wanted: Mapping[str, int]) -> dict[str, int]:
            free = pick(host, wanted)
            tries.append(free if tries else {**free, stolen: other.getsockname()[1]})
            return tries[-1]

        monkeypatch.setattr(ports, "pick", late)
        try:
            told = list[str]()
            up = serving.up(member, progress=told.append)
            assert len(tries) == 2 and up.endpoint.grpc_port == tries[1]["gRPC"]
            assert any("another program took a port" in sentence for sentence in told)
        finally:
            serving.down(member)
