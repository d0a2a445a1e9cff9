"""Releases on a real server without TensorFlow: what works, what fails, and what a kill at any point leaves."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.errors import NotReady, Rejected, RolloutError, TimedOut
from deploy.leases import HeldLease, now, under
from deploy.rollout import CanaryTrial, LiveServer, Strategy, Timeouts, Unfinished, backward, begin, goal_of
from deploy.rollout.actions import PointLabel
from deploy.rollout.configs import find, serving_of
from deploy.rollout.live_server import confirm, settle
from deploy.state import releases
from deploy.types import Serving, VersionState, VersionStatus
from tests.support.rollout import BROKEN, MODEL, NEW, OLD, PASSING, STRATEGY, Bench, Busy, adds, bench, passes, refuses
from tests.support.serving import FakeClock


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def test_a_rollout(there: Bench) -> None:
    seen: list[tuple[str, str]] = []

    def gate(trial: CanaryTrial) -> str:
        seen.append((str(trial.candidate), str(trial.current)))
        assert there.live == Serving(frozenset({1, 2}), {"stable": 1, "canary": 2}) and there.named == OLD
        return "fine"

    ended = there.drive(there.begin(), {**PASSING, "gate": gate})
    assert ended.outcome == "done" and there.live == there.named == NEW and there.answer() == 2
    assert seen == [("m@canary", "m@stable")]
    assert "# ours" in (there.directory / "models.config").read_text()
    release = there.release()
    assert (release.outcome, release.before, release.goal) == ("done", OLD, NEW)
    assert set(release.passed) == {"gate", "confirm"}
    assert there.events() == ["begin", "known_good", *["apply", "confirm"] * 2, "passed", "apply", "confirm",
                              "passed", "known_good", *["apply", "confirm"] * 2, "known_good", "end"]


def test_and_back_again(there: Bench) -> None:
    there.drive(there.begin())
    told: list[str] = []
    goal = backward(there.live, there.release().before, STRATEGY)
    assert there.drive(begin(there.ledger, MODEL, "rollback", goal), goal=goal, told=told).outcome == "done"
    assert there.live == there.named == OLD and there.answer() == 1
    assert [t for t in told if t.startswith(("load", "point", "unload"))] == [
        "load m/1", "point m@stable to version 1", "unload m/2"]


def test_back_while_the_old_one_is_loaded_is_instant(there: Bench) -> None:
    release = there.begin(strategy=Strategy(trial=(), after=(), pauses=frozenset({"unload"})))
    assert there.drive(release).step == "unload"
    goal = backward(there.live, OLD, STRATEGY)
    assert goal.trial == ()
    told: list[str] = []
    there.drive(begin(there.ledger, MODEL, "rollback", goal), goal=goal, told=told)
    assert told[0] == "point m@stable to version 1" and there.live == OLD


def interrupts(trial: CanaryTrial) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("version", "checks", "reason", "hint"), [
    (3, {}, "version 3 can't be loaded: out of memory", "failed permanently"),
    (2, {"gate": refuses}, "m@canary answers nonsense", "look at it"),
    (2, {"gate": interrupts}, "interrupted", ""),
    (2, {"confirm": refuses}, "m@stable answers nonsense", "look at it"),
], ids=["it doesn't load", "the gate", "Ctrl-C", "after the label moved"])
def test_failure_is_boring(there: Bench, version: int, checks: dict[str, Any], reason: str, hint: str) -> None:
    ended = there.drive(there.begin(version), {**PASSING, **checks})
    assert (ended.outcome, ended.reason) == ("undone", reason) and hint in ended.hint
    assert there.live == there.named == OLD and there.answer() == 1
    assert (there.release().outcome, there.release().reason) == ("undone", reason)


def test_a_failed_version_is_taken_out_of_the_configuration(there: Bench) -> None:
    there.drive(there.begin(3))
    assert [line["config"]["versions"] for line in there.ledger.read() if line["event"] == "apply"] == [[1, 3], [1]]
    there.drive(there.begin(2))
    assert there.live == NEW


def test_ctrl_c_when_traffic_has_moved_leaves_it_there(there: Bench) -> None:
    with pytest.raises(Unfinished, match="interrupted; stable resolves to version 2 already"):
        there.drive(there.begin(), {**PASSING, "confirm": interrupts})
    assert there.answer() == 2 and there.release().open
    assert there.drive(there.release()).outcome == "done" and there.live == NEW


def test_a_pause_and_what_comes_after(there: Bench) -> None:
    release = there.begin(strategy=Strategy(trial=("gate",), after=(), pauses=frozenset({"promote"})))
    ended = there.drive(release)
    assert (ended.outcome, ended.step) == ("paused", "promote")
    assert there.release().paused == "promote" and there.live.labels == {"stable": 1, "canary": 2}
    there.ledger.append("go", release=release.id, steps=["promote"], by={"by": "somebody else"})
    assert there.drive(there.release()).outcome == "done" and there.live == NEW
    assert there.release().by["by"] == "somebody else"


def test_the_server_is_away_and_comes_back(there: Bench) -> None:
    release = there.begin()
    there.stop()
    with pytest.raises(Unfinished, match="doesn't answer") as e:
        there.drive(release)
    assert "tfs up" in e.value.hint and there.release().open and there.named == OLD
    there.restart()
    assert there.drive(there.release()).outcome == "done" and there.live == NEW


def test_a_server_that_starts_again_during_the_trial_ends_it(there: Bench) -> None:
    def gate(trial: CanaryTrial) -> str:
        asked = there.asked
        asked.reload(there.file.read())  # as a restart from the file would: version 2 is gone
        while any(s.version == 2 and s.serving for s in there.running.statuses(MODEL)):
            pass
        return "fine"

    ended = there.drive(there.begin(), {**PASSING, "gate": gate})
    assert ended.outcome == "undone" and "is gone" in ended.reason and there.live == OLD


@pytest.mark.parametrize("pause", ["promote", "bake_after"])
def test_what_one_run_of_the_server_passed_says_nothing_of_the_next(there: Bench, pause: str) -> None:
    asked: list[str] = []

    def noting(name: str) -> Callable[[CanaryTrial], str]:
        return lambda trial: asked.append(name) or "fine"  # type: ignore[func-returns-value]

    checks = {name: noting(name) for name in PASSING}
    strategy = Strategy(trial=("gate", "bake_before"), after=("confirm", "bake_after"), pauses=frozenset({pause}))
    there.drive(there.begin(strategy=strategy), checks)
    there.restart()
    assert there.live == there.named == OLD  # also where the label had moved: it wasn't known to be good yet
    first, told = list(asked), list[str]()
    asked.clear()
    there.ledger.append("go", release=there.release().id, steps=[pause], by={"by": "an operator"})
    assert there.drive(there.release(), checks, told=told).outcome == "done"
    assert asked == ["gate", "bake_before", "confirm", "bake_after"] and set(first) < set(asked)
    assert any("asking again" in t and "gate" in t for t in told)
    assert there.live == there.named == NEW


def test_what_is_known_to_be_good_stays_so(there: Bench) -> None:
    release = there.begin(strategy=Strategy(trial=("gate",), after=("confirm",), pauses=frozenset({"unload"})))
    assert there.drive(release).step == "unload"
    there.restart()
    assert there.answer() == 2
    there.ledger.append("go", release=release.id, steps=["unload"], by={"by": "an operator"})
    assert there.drive(there.release(), {**PASSING, "gate": refuses}).outcome == "done" and there.live == NEW


@pytest.mark.parametrize("step", ["gate", "confirm"])
def test_a_server_that_starts_again_under_a_check_ends_the_release(there: Bench, step: str) -> None:
    def check(trial: CanaryTrial) -> str:
        there.starts += 1  # seen from outside; that its versions are still there proves nothing
        return "fine"

    ended = there.drive(there.begin(), {**PASSING, step: check})
    assert ended.outcome == "undone" and "started again" in ended.reason and there.live == there.named == OLD


class Watched:
    """A ledger or file that keeps what it was told to rely on."""

    def __init__(self, thing: Any, relied: list[Any]) -> None:
        self._thing, self._relied = thing, relied

    def __getattr__(self, name: str) -> Any:
        return getattr(self._thing, name)

    def change(self, model: str, serving: Serving) -> Any:
        self._relied.append(serving)
        return self._thing.change(model, serving)

    def append(self, event: str, **fields: Any) -> Any:
        if event == "known_good":
            self._relied.append(Serving.from_json(fields["serving"]))
        return self._thing.append(event, **fields)


@pytest.mark.parametrize("failing", ["confirm", "bake_after"])
def test_a_version_that_fails_after_the_label_moved_is_never_relied_on(there: Bench, failing: str) -> None:
    relied: list[Serving] = []
    there.wrap = lambda thing: Watched(thing, relied) if thing in (there.ledger, there.file) else thing
    strategy = Strategy(trial=("gate",), after=("confirm", "bake_after"))
    assert there.drive(there.begin(strategy=strategy), {**PASSING, failing: refuses}).outcome == "undone"
    assert relied and set(map(str, relied)) == {str(OLD)}


@pytest.mark.parametrize("failing", ["confirm", "bake_after"])
def test_a_disk_that_is_full_when_it_fails_does_not_keep_the_label(there: Bench, failing: str) -> None:
    disk = [1000]

    def refuses_on_a_full_disk(trial: CanaryTrial) -> str:
        disk[0] = 0
        return refuses(trial)

    there.wrap = lambda thing: Full(thing, disk) if thing in (there.ledger, there.file) else thing
    release = there.begin(strategy=Strategy(trial=("gate",), after=("confirm", "bake_after")))
    ended = there.drive(release, {**PASSING, failing: refuses_on_a_full_disk})
    assert ended.outcome == "undone" and "nonsense" in ended.reason and there.live == there.named == OLD
    there.restart()
    assert there.live == OLD


def test_a_rollback_on_a_full_disk_moves_the_label_and_says_what_is_lost(there: Bench) -> None:
    there.drive(there.begin(strategy=Strategy(pauses=frozenset({"unload"}))))
    assert there.named.labels == {"stable": 2}
    goal = backward(there.live, OLD, STRATEGY)
    there.wrap = lambda thing: Full(thing, [0]) if thing in (there.ledger, there.file) else thing
    release = begin(there.wrap(there.ledger), MODEL, "rollback", goal)
    with pytest.raises(Unfinished, match=r"1 \(stable -> 1\) is served again, which can't be .*No space left"):
        there.drive(release, goal=goal)
    assert there.live == OLD


class Held:
    """A lock that others see."""

    def renew(self) -> bool:
        return True

    def let_go(self) -> None: ...


def test_who_has_lost_the_lock_leaves_the_server_to_who_has_it(there: Bench) -> None:
    release = there.begin()
    lease = HeldLease(Held(), 1000, now())

    def taken_over(_: CanaryTrial) -> str:
        lease.taken_over = True
        return ""

    with under(lease), pytest.raises(RolloutError, match="somebody else has taken the lock") as caught:
        there.drive(release, {**PASSING, "gate": taken_over})
    assert caught.value.id == "lock-lost" and there.live.versions == {1, 2}, "nothing was undone"
    there.drive(there.release())
    assert there.live == there.named == NEW


class Refusing:
    """A control whose reloads are refused, or hang."""

    def __init__(self, there: Bench, error: Exception, after: int = 0) -> None:
        self._rpc, self._error, self._left = there.asked.rpc, error, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    def reload(self, config: Any, /, *, timeout: float | None = None) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error
        self._rpc.reload(config, timeout=timeout)  # type: ignore[union-attr]


def test_a_reload_that_hangs_or_is_refused(there: Bench) -> None:
    def wrap(error: Exception, after: int) -> Callable[[Any], Any]:
        control = Refusing(there, error, after)
        return lambda thing: control if thing is there.asked.rpc else thing

    there.wrap = wrap(TimedOut("no answer within 30 s"), 0)
    ended = there.drive(there.begin())
    assert ended.outcome == "undone" and "hangs: no answer" in ended.reason and "base path" in ended.hint
    there.wrap = wrap(Rejected("no", code="FAILED_PRECONDITION", details={"server": "label refused"}), 1)
    refused = "refused `point m@canary to version 2`: label refused; and the way back failed"
    with pytest.raises(Unfinished, match=refused):
        there.drive(there.begin())
    there.wrap = lambda thing: thing
    assert there.drive(there.release()).outcome == "undone"  # later, it only goes back
    assert there.live == there.named == OLD


def test_a_busy_server_is_asked_again(there: Bench) -> None:
    release = there.begin(strategy=Strategy(canary=None, trial=("gate",), after=()))
    busy = Busy(there.asked.rpc)
    there.wrap = lambda thing: busy if thing is there.asked.rpc else thing
    assert there.drive(release).outcome == "done"
    there.wrap = lambda thing: thing
    assert there.live == NEW


class Late:
    """A control whose statuses are those before the last reload, for the first few looks after it."""

    def __init__(self, rpc: Any) -> None:
        self._rpc, self._before, self._looks = rpc, [], 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    def status(self, *args: Any, **kwargs: Any) -> Any:
        self._looks -= 1
        return self._before if self._looks >= 0 else self._rpc.status(*args, **kwargs)

    def reload(self, *args: Any, **kwargs: Any) -> None:
        self._before, self._looks = self._rpc.status(MODEL), 4
        self._rpc.reload(*args, **kwargs)


def test_a_server_that_takes_its_time_is_told_once(there: Bench) -> None:
    release, late = there.begin(strategy=Strategy(canary=None, trial=(), after=())), Late(there.asked.rpc)
    there.wrap = lambda thing: late if thing is there.asked.rpc else thing
    assert there.drive(release).outcome == "done" and there.live == NEW
    assert [line["action"]["do"] for line in there.ledger.read() if line["event"] == "apply"] == [
        "load", "point", "unload"]


class Loading:
    """A control whose server is still loading version 3, for the first few looks; or for good."""

    def __init__(self, rpc: Any, looks: float) -> None:
        self._rpc, self._looks = rpc, looks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    def status(self, *args: Any, **kwargs: Any) -> Any:
        self._looks -= 1
        state = VersionState.START if self._looks > 2 else VersionState.LOADING
        return [*self._rpc.status(*args, **kwargs), *([VersionStatus(3, state)] if self._looks >= 0 else [])]


@pytest.mark.parametrize(("looks", "words"), [
    (0, []),
    (5, ["waiting until the server has loaded m/3 (it is START)",
         "waiting until the server has loaded m/3 (it is LOADING)"]),
])
def test_what_a_server_is_loading_is_waited_for(there: Bench, looks: int, words: list[str]) -> None:
    told: list[str] = []
    there.wrap = lambda thing: Loading(thing, looks) if thing is there.asked.rpc else thing
    settle(there.live_server(), there.named, 2, told.append)
    assert told == words


def test_a_load_that_never_ends_is_refused_before_anything_is_changed(there: Bench) -> None:
    there.wrap = lambda thing: Loading(thing, math.inf) if thing is there.asked.rpc else thing
    with pytest.raises(NotReady, match=r"what is served of m isn't settled: the server has been loading m/3 "
                                       r"\(it is START\) for 300 s and more; nothing was changed; see why: tfs logs"):
        settle(there.live_server(), there.named, 2, lambda _: None)
    assert there.events() == []


def test_a_label_has_moved_when_all_protocols_say_so(there: Bench) -> None:
    other = SimpleNamespace(metadata=lambda ref, *, timeout: SimpleNamespace(version=7))
    site = LiveServer(MODEL, there.asked.rpc, there.file, others=[other],  # type: ignore[arg-type, list-item]
                timeouts=Timeouts(load=1.0), clock=FakeClock())
    with pytest.raises(RolloutError, match=r"isn't done after 1 s: it resolves to (1 and 7|7 and 1)"):
        confirm(site, PointLabel("stable", 1))


class Full:
    """A ledger or file on a disk that has room for so many writes."""

    def __init__(self, thing: Any, left: list[int]) -> None:
        self._thing, self._left = thing, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if name not in ("append", "change"):
            return found

        def write(*args: Any, **kwargs: Any) -> Any:
            if name == "change" and serving_of(find(self._thing.read(), args[0])) == args[1]:
                return False  # nothing to write
            self._left[0] -= 1
            if self._left[0] < 0:
                raise RolloutError("No space left on device")
            return found(*args, **kwargs)

        return write


@pytest.mark.parametrize("after", range(14))
def test_a_full_disk_leaves_a_good_version(there: Bench, after: int) -> None:
    release = there.begin()
    disk = [after]
    there.wrap = lambda thing: Full(thing, disk) if thing is there.ledger else thing
    if after < 10:
        ended = there.drive(release)
        assert ended.outcome == "undone" and "No space left" in ended.reason
        assert there.live == there.named == OLD
    else:
        with pytest.raises(Unfinished, match="passed everything and stable stays on it.*No space left"):
            there.drive(release)
        assert there.answer() == 2 and there.named.labels == {"stable": 2}
    there.wrap = lambda thing: thing
    assert releases(there.ledger.read())[0].open  # nobody could write down that it is over
    assert there.drive(there.release()).outcome == "done"  # so the next run begins where it was


def test_a_torn_ledger_line_is_passed_over(there: Bench) -> None:
    release = there.begin()
    with there.ledger.path.open("ab") as f:
        f.write(b'{"at": "2026-11-21T08:00:00+00:00", "event": "app')
        os.fsync(f.fileno())
    assert there.drive(release).outcome == "done"
    assert there.release().outcome == "done" and there.ledger.path.read_bytes().count(b'"app\n') == 1
    assert goal_of(there.release()) == goal_of(release)


def test_a_model_that_had_no_labels(tmp_path: Path) -> None:
    with bench(tmp_path, {1: adds(1), 2: adds(2)}) as there:
        there.file.change(MODEL, Serving(frozenset({1})))
        there.restart()
        assert there.drive(there.begin()).outcome == "done"
        assert there.live == NEW == there.named


def test_other_versions_and_labels_stay(tmp_path: Path) -> None:
    with bench(tmp_path, {1: adds(1), 2: adds(2), 4: adds(4), 5: adds(5), 6: BROKEN}) as there:
        there.file.change(MODEL, Serving(frozenset({1, 4, 5}), {"stable": 4, "canary": 5}))
        there.restart()
        there.drive(there.begin(2), {**PASSING, "gate": passes})
        assert there.live == there.named == Serving(frozenset({1, 2}), {"stable": 2, "canary": 2})
        there.drive(there.begin(6))
        assert there.live == there.named == Serving(frozenset({1, 2}), {"stable": 2, "canary": 2})
