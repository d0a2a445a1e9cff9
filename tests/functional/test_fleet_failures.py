"""Releases of several real servers (the embedded one, without TensorFlow) in states that nobody wishes for."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy import fleet, leases, rollout, serving
from deploy.backends import silent
from deploy.cli.app import app
from deploy.errors import LockHeld, RolloutError, ServerError
from deploy.fleet.driver import FleetDriver
from deploy.fleet.policy import MemberState, ReleaseStage
from deploy.fleet.server import FleetServer
from deploy.repository.stores.addresses import open_store
from deploy.spec import Spec, load_spec
from deploy.state import Ledger, changing_all, ledger_of
from tests.functional.test_fleet_releases import NAMES, everywhere, kill, publish, running, served, written


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Spec]:
    """Three servers with version 1; 2 and 3 are there."""
    publish(tmp_path, 3)
    with running(written(tmp_path, "abc", extra=", max_unavailable: 2, compare: false")) as spec:
        yield spec


def shared(spec: Spec, place: str) -> Spec:
    return load_spec(rewritten(spec, "patience: 1", f"patience: 1, lock: '{place}'"))


def rewritten(spec: Spec, old: str, new: str) -> Path:
    spec.path.write_text(spec.path.read_text().replace(old, new))
    return spec.path


def test_a_server_that_was_away_at_the_beginning_goes_home_with_the_others(three: Spec) -> None:
    kill(three.members[0])
    fleet.roll_out(three, "m", 2, pause_before=["wave:2"])
    serving.up(three.members[0])
    assert fleet.go_on(three, "m", approve=False).ended.wave == 2
    assert served(three)["a"][1] == {"stable": 2}
    assert fleet.abort(three, "m").ended.outcome == "undone"
    assert served(three) == everywhere(1, "abc")


def test_a_rollback_reaches_a_server_that_is_down(three: Spec) -> None:
    fleet.roll_out(three, "m", 2)
    kill(three.members[1])
    back = fleet.roll_back(three, "m")
    assert back.release is not None and back.release.home == {"a": 1, "b": 1, "c": 1}
    serving.up(three.members[1])
    assert served(three) == everywhere(1, "abc")


def test_a_rollback_says_which_servers_only_start_with_it(three: Spec) -> None:
    fleet.roll_out(three, "m", 2)
    kill(three.members[1])
    back = invoked(three, "rollback", "m")
    assert back.exit_code == 0, back.output
    assert "m is back on version 1 on 2 servers (release f2)\nb wasn't told, and starts with it: " in back.output
    assert fleet.history(three)[-1].reason == "b was down: it starts with this"


def test_a_rollback_of_servers_that_are_all_down_says_that_none_was_told(three: Spec) -> None:
    fleet.roll_out(three, "m", 2)
    for member in three.members:
        kill(member)
    with pytest.raises(RolloutError) as caught:
        fleet.roll_back(three, "m")
    assert caught.value.message == ("the rollback of m is recorded, and no server was told, since none answers: "
                                    "a, b, c start with version 1")
    assert caught.value.id == "servers-missing" and caught.value.hint.startswith("start them: tfs up")
    assert sorted(caught.value.details["down"]) == ["a", "b", "c"]
    for member in three.members:
        serving.up(member)
    assert served(three) == everywhere(1, "abc")


def test_a_server_that_missed_the_end_of_a_release_is_named_before_another_begins(three: Spec) -> None:
    """And goes back with the others, down or not."""
    fleet.roll_out(three, "m", 2, pause_before=["wave:2"])
    kill(three.members[0])
    with pytest.raises(RolloutError, match="is done, but not on a"):
        fleet.go_on(three, "m")
    count = len(fleet.history(three))
    with pytest.raises(RolloutError, match=r"release r1 of m to version 2 is open on a") as caught:
        fleet.roll_out(three, "m", 3)
    assert caught.value.id == "release-open" and len(fleet.history(three)) == count, "nothing was begun"
    assert "tfs rollout m --to 2" in caught.value.hint
    assert set(fleet.roll_back(three, "m").ended.down) == {"a"}
    serving.up(three.members[0])
    assert served(three) == everywhere(1, "abc")


def test_down_stops_no_server_while_a_release_goes_on(three: Spec) -> None:
    with changing_all(three, "rollout of m", silent):
        result = Context().run(invoked, three, "down")
    assert isinstance(result.exception, LockHeld) and set(served(three)) == set("abc")


def test_a_rollback_of_one_server_that_is_down_does_not_say_that_it_serves(three: Spec) -> None:
    fleet.roll_out(three, "m", 2)
    kill(three.members[0])
    back = invoked(three, "rollback", "m", "--server", "a")
    assert back.exit_code == 0
    assert "m is to serve 1 (stable -> 1) (release r2: the server was down: it starts with this)\n" in back.output
    serving.up(three.members[0])
    assert served(three)["a"] == everywhere(1, "a")["a"]


def test_a_rollout_of_servers_that_are_not_there_is_refused_at_once(three: Spec) -> None:
    patient = load_spec(rewritten(three, "patience: 1", "patience: 300"))
    for member in patient.members:
        kill(member)
    with pytest.raises(ServerError, match=r"a, b, c aren't running, and rollout/max_unavailable is 2: nothing was begun"
                       ) as caught:
        fleet.roll_out(patient, "m", 2)
    assert (caught.value.exit_code, caught.value.id, caught.value.hint) == (
        6, "not-running", "start them: tfs up --server a,b,c")
    assert not fleet.history(patient), "nothing is open"


def test_a_rollback_tells_which_server_knows_nothing_to_go_back_to(three: Spec) -> None:
    fleet.roll_out(three, "m", 2)
    (three.members[1].state_dir / "ledger.jsonl").unlink()
    with pytest.raises(RolloutError, match=r"rollback of m is done, but not on b \(no release is known") as caught:
        fleet.roll_back(three, "m")
    assert caught.value.id == "servers-missing"
    assert served(three) == everywhere(1, "ac") | everywhere(2, "b")


def test_a_release_of_some_servers_is_not_what_all_of_them_serve(three: Spec) -> None:
    fleet.roll_out(three, "m", 2, only=["a"])
    assert not [line for line in ledger_of(three).read() if line["event"] == "fleet_known_good"]
    fleet.roll_out(three, "m", 2)
    assert [line for line in ledger_of(three).read() if line["event"] == "fleet_known_good"]


def test_a_release_that_a_server_has_begun_by_itself_is_undone_to_what_was_before_it(three: Spec) -> None:
    rollout.roll_out(three.members[0], "m", 2, pause_before=["promote"])
    fleet.roll_out(three, "m", 2, pause_before=["wave:2"])
    undone = fleet.abort(three, "m")
    assert undone.ended.outcome == "undone" and not undone.ended.missing
    assert served(three) == everywhere(1, "abc")


def test_a_server_that_loses_the_version_again_and_again_ends_the_release(
        three: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that somebody else reconfigures after each step."""
    state = FleetServer.state
    looks = [0]

    def forgetful(self: Any, release: Any, staged: bool) -> MemberState:
        looks[0] += 1
        assert looks[0] < 100, "it never ends"
        real = state(self, release, staged)
        forgets = self.name == "a" and real.stage > ReleaseStage.STAGED and not release.undoing
        return MemberState(ReleaseStage.STAGED, real.home) if forgets else real

    monkeypatch.setattr(FleetServer, "state", forgetful)
    with pytest.raises(RolloutError, match=r"a: .*doesn't keep it"):
        fleet.roll_out(three, "m", 2)
    assert fleet.unfinished(three) is None


# -- the ledger of all servers

def test_a_full_disk_on_the_way_forward_sends_all_back(three: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    unwritable(monkeypatch, after="fleet_confirm", nth=2)
    with pytest.raises(RolloutError, match=r"as it was before on all servers: can't write the ledger"):
        fleet.roll_out(three, "m", 2)
    assert served(three) == everywhere(1, "abc")
    monkeypatch.undo()
    assert fleet.roll_out(three, "m", 2).ended.outcome == "done", "the one that is open still is gone on with"


@pytest.mark.parametrize("paused", [False, True], ids=["rollback", "abort"])
def test_a_full_disk_keeps_nobody_from_going_back(three: Spec, monkeypatch: pytest.MonkeyPatch, paused: bool) -> None:
    fleet.roll_out(three, "m", 2, pause_before=["wave:2"] if paused else [])
    unwritable(monkeypatch)
    fleet.roll_back(three, "m")
    assert {name: labels["stable"] for name, (_, labels) in served(three).items()} == dict.fromkeys("abc", 1)


def unwritable(monkeypatch: pytest.MonkeyPatch, after: str = "", nth: int = 0) -> None:
    """The fleet's ledger can't be written any more, from the n-th such line on."""
    write, seen = Ledger._write, [0]

    def full(self: Ledger, data: bytes) -> None:
        event = json.loads(data)["event"]
        seen[0] += event == after
        if event.startswith("fleet_") and seen[0] >= nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(Ledger, "_write", full)


@pytest.mark.parametrize("line", [
    {"event": "fleet_join", "release": "f1"}, {"event": "fleet_go", "release": "f1"},
    {"event": "fleet_end", "release": "f1", "outcome": "perhaps"}, {"event": "fleet_pause", "release": "f1"},
    {"event": "fleet_undo", "release": "f1"}, {"event": "fleet_begin", "release": "f2"},
    {"event": "fleet_apply", "release": "f1", "do": "change"}])
def test_a_damaged_line_is_named(tmp_path: Path, line: dict[str, object]) -> None:
    publish(tmp_path, 1)
    spec = written(tmp_path, NAMES)
    with changing_all(spec, "test", silent) as ledger:
        ledger.append("fleet_begin", release="f1", model="m", kind="rollout", version=2, waves=[["a"]], before={},
                      by={})
        ledger.append(**line)
    with pytest.raises(RolloutError, match=r"line 2 of the ledger .* is damaged"):
        fleet.history(spec)


def test_who_reads_a_shared_ledger_takes_no_line_from_who_writes_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, 1)
    spec = shared(written(tmp_path, NAMES), "memory:readers")
    with changing_all(spec, "rollout of m", silent) as ledger:
        ledger.append("first")
        with monkeypatch.context() as patch:  # it has read just before the line was written
            patch.setattr("deploy.backends.shared_place.StorePlace.read", lambda *_: b"")
            assert Context().run(lambda: ledger_of(spec).read()) == []
        ledger.append("second")
    assert [line["event"] for line in ledger_of(spec).read()] == ["first", "second"]


def test_who_has_lost_the_lock_leaves_the_servers_to_who_has_it(three: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = shared(three, "memory:lost")
    fleet.roll_out(spec, "m", 2, pause_before=["wave:2"])
    look = FleetDriver._look

    def taken_over(self: FleetDriver) -> None:
        for lease in leases._held.get():
            lease.taken_over = True
        look(self)

    monkeypatch.setattr(FleetDriver, "_look", taken_over)
    with pytest.raises(RolloutError, match="somebody else has taken the lock") as caught:
        fleet.abort(spec, "m")
    assert caught.value.id == "lock-lost"
    assert served(spec)["a"][1] == {"stable": 2}
    open_store("memory:lost").delete("serving.lock.2")  # whoever had taken it is done


def test_numbers_of_releases_go_on_where_the_first_lines_are_gone(three: Spec) -> None:
    """A ledger in a cluster keeps its last lines only."""
    fleet.roll_out(three, "m", 2)
    fleet.roll_back(three, "m")
    path = three.state_dir / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    second = next(i for i, line in enumerate(lines) if b'"f2"' in line)
    path.write_bytes(b"".join(lines[second:]))
    assert fleet.roll_out(three, "m", 3, only=["a"]).release.id == "f3"  # type: ignore[union-attr]


def test_a_server_alone_is_not_released_to_another_version_while_all_are(three: Spec) -> None:
    fleet.roll_out(three, "m", 2, pause_before=["wave:2"])
    result = CliRunner().invoke(app, ["rollout", "m", "--to", "3", "--server", "a", "--spec", str(three.path)])
    assert isinstance(result.exception, LockHeld) and "release f1 of all servers" in result.exception.message


# -- releases of some of the servers

def invoked(spec: Spec, *args: str) -> Any:
    return CliRunner().invoke(app, [*args, "--spec", str(spec.path)])


def test_a_release_of_all_joins_none_of_some(three: Spec) -> None:
    fleet.roll_out(three, "m", 2, only=["a", "b"], pause_before=["wave:2"])
    with pytest.raises(LockHeld, match=r"release f1 of a, b \(rollout of m to 2\), .* waits before wave 2") as e:
        fleet.roll_out(three, "m", 2)
    assert "tfs rollout m --server a,b --continue" in str(e.value)
    with pytest.raises(LockHeld, match="release f1 of a, b"):
        fleet.roll_out(three, "m", 2, only=["b", "c"])
    assert fleet.roll_out(three, "m", 2, only=["b", "a"]).ended.wave == 2, "the same: it is gone on with"
    assert served(three)["c"] == ([1], {"stable": 1})


def test_to_go_on_with_some_is_not_to_go_on_with_all(three: Spec) -> None:
    fleet.roll_out(three, "m", 2, pause_before=["wave:2"])
    for args in (["--continue"], ["--abort"]):
        result = invoked(three, "rollout", "m", "--server", "a,b", *args)
        assert isinstance(result.exception, LockHeld), result.output
        assert "release f1 of all servers" in result.exception.message
        result = invoked(three, "rollout", "m", "--server", "a", *args)
        assert isinstance(result.exception, LockHeld), result.output
        assert "release f1 of all servers" in result.exception.message
    result = invoked(three, "rollback", "m", "--server", "a")
    assert isinstance(result.exception, LockHeld), result.output
    assert fleet.abort(three, "m").ended.outcome == "undone"
    fleet.roll_out(three, "m", 2, only=["a", "b"], pause_before=["wave:2"])
    done = invoked(three, "rollout", "m", "--server", "a,b", "--continue", "--json")
    assert done.exit_code == 0 and served(three) == everywhere(2, "ab") | everywhere(1, "c")
    fleet.roll_out(three, "m", 3, only=["a", "b"], pause_before=["wave:2"])
    assert invoked(three, "rollout", "m", "--to", "2", "--server", "c", "--json").exit_code == 0, "not one of those"


def test_a_server_that_is_down_and_never_had_a_release_is_where_a_rollback_leads(three: Spec) -> None:
    fleet.roll_out(three, "m", 2, only=["a", "b"])
    kill(three.members[2])
    back = fleet.roll_back(three, "m")
    assert back.ended.outcome == "done" and not back.ended.missing
    serving.up(three.members[2])
    assert served(three) == everywhere(1, "abc")
