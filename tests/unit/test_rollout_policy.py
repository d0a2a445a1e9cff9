"""What a release does next: a table of snapshots, and what follows from it by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.render import models_config
from deploy.rollout.actions import (
    Abort,
    Action,
    Done,
    DropLabel,
    Goal,
    LoadVersion,
    Observed,
    Pause,
    PointLabel,
    RunCheck,
    UnloadVersion,
    Wait,
)
from deploy.rollout.goals import Strategy, backward
from deploy.rollout.policy import PERMANENTLY_FAILED, known_good, next_action, next_config, unsettled
from deploy.rollout.preflight import drift
from deploy.types import ServedModel, Serving, Specific, VersionState, VersionStatus

STATES = {"a": VersionState.AVAILABLE, "l": VersionState.LOADING, "s": VersionState.START, "u": VersionState.UNLOADING,
          "e": VersionState.END, "f": VersionState.END}
OLD, NEW = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({2}), {"stable": 2})
FORWARD = Goal(2, OLD, NEW, canary="canary", trial=("gate", "bake_before"), after=("confirm", "bake_after"))
PLAIN = Goal(2, OLD, NEW)
BARE = Goal(2, Serving(frozenset({1})), NEW, canary="canary", trial=("gate",))
BACK = FORWARD.undone()
GATED, ALL = {"gate", "bake_before"}, {"gate", "bake_before", "confirm", "bake_after"}


def seen(states: str, labels: str = "", passed: set[str] | None = None, **more: object) -> Observed:
    """`1a 2l`, `stable1 canary2`."""
    statuses = {int(s[:-1]): VersionStatus(int(s[:-1]), STATES[s[-1]], *((13, "broken") if s[-1] == "f" else ()))
                for s in states.split()}
    where = {label[:-1]: int(label[-1]) for label in labels.split()}
    return Observed(statuses, where, frozenset(passed or ()), **more)  # type: ignore[arg-type]


BROKEN = Abort("version 2 can't be loaded: broken", PERMANENTLY_FAILED)
TABLE: list[tuple[str, Goal, Observed, Action]] = [
    # forward, step by step
    ("the new version loads beside the old one", FORWARD, seen("1a", "stable1"), LoadVersion(2)),
    ("a version that was unloaded before is history", FORWARD, seen("1a 2e", "stable1"), LoadVersion(2)),
    ("it is loading", FORWARD, seen("1a 2l", "stable1"), Wait("version 2 is LOADING")),
    ("it is about to load", FORWARD, seen("1a 2s", "stable1"), Wait("version 2 is START")),
    ("it is still going from an earlier time", FORWARD, seen("1a 2u", "stable1"), Wait("version 2 is UNLOADING")),
    ("it failed", FORWARD, seen("1a 2f", "stable1"), BROKEN),
    ("it is loaded", FORWARD, seen("1a 2a", "stable1"), PointLabel("canary", 2)),
    ("the canary was somewhere else", FORWARD, seen("1a 2a", "stable1 canary1"), PointLabel("canary", 2)),
    ("the canary is on it", FORWARD, seen("1a 2a", "stable1 canary2"), RunCheck("gate")),
    ("the gate passed", FORWARD, seen("1a 2a", "stable1 canary2", {"gate"}), RunCheck("bake_before")),
    ("all of the trial passed", FORWARD, seen("1a 2a", "stable1 canary2", GATED), PointLabel("stable", 2)),
    ("traffic is on it", FORWARD, seen("1a 2a", "stable2 canary2", GATED), RunCheck("confirm")),
    ("confirmed", FORWARD, seen("1a 2a", "stable2 canary2", GATED | {"confirm"}), RunCheck("bake_after")),
    ("held long enough", FORWARD, seen("1a 2a", "stable2 canary2", ALL), DropLabel("canary")),
    ("no canary any more", FORWARD, seen("1a 2a", "stable2", ALL), UnloadVersion(1)),
    ("the old one is going", FORWARD, seen("1u 2a", "stable2", ALL), Wait("version 1 is UNLOADING")),
    ("the old one is gone", FORWARD, seen("1e 2a", "stable2", ALL), Done()),
    ("a server that was started again since", FORWARD, seen("2a", "stable2", ALL), Done()),
    # without a canary, checks, labels
    ("no canary wanted", PLAIN, seen("1a 2a", "stable1"), PointLabel("stable", 2)),
    ("a model without labels: the canary comes first", BARE, seen("1a 2a"), PointLabel("canary", 2)),
    ("then the label is new", BARE, seen("1a 2a", "canary2", {"gate"}), PointLabel("stable", 2)),
    # surprises
    ("the server was started again during the trial", FORWARD, seen("1a", "stable1", {"gate"}), LoadVersion(2)),
    ("that came by the version that this run had loaded", FORWARD,
     seen("1a", "stable1", {"gate"}, confirmed=frozenset({2})),
     Abort("version 2 was loaded and is gone: the server was started again, or somebody else changed its "
           "configuration")),
    ("the old version went away before its time", FORWARD, seen("2a", "canary2", {"gate"}), LoadVersion(1)),
    ("somebody moved the label away", FORWARD, seen("1a 2a", "stable3 canary2", {"gate"}), PointLabel("stable", 1)),
    ("somebody moved the label already: it is checked all the same", FORWARD, seen("1a 2a", "stable2"),
     RunCheck("gate")),
    ("trouble", FORWARD, seen("1a 2a", "stable1 canary2", trouble="gate: no"), Abort("gate: no")),
    # back
    ("back: the canary goes first", BACK, seen("1a 2a", "stable1 canary2"), DropLabel("canary")),
    ("back: then the version", BACK, seen("1a 2a", "stable1"), UnloadVersion(2)),
    ("back: a version that is loading goes as well", BACK, seen("1a 2l", "stable1"), UnloadVersion(2)),
    ("back: traffic first", BACK, seen("1a 2a", "stable2 canary2"), PointLabel("stable", 1)),
    ("back: nothing was begun", BACK, seen("1a", "stable1"), Done()),
    ("back: a failed version is taken out", BACK, seen("1a 2f", "stable1"), UnloadVersion(2)),
    ("back: it is out", BACK, seen("1a 2f", "stable1", configured=frozenset({1})), Done()),
    ("back: the old one has to be loaded again", BACK, seen("1e 2a", "stable2"), LoadVersion(1)),
    ("back: it can't be", BACK, seen("1f 2a", "stable2"),
     Abort("version 1 can't be loaded: broken", PERMANENTLY_FAILED)),
]


@pytest.mark.parametrize(("goal", "observed", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_next_action(goal: Goal, observed: Observed, action: Action) -> None:
    assert next_action(observed, goal) == action
    assert next_action(observed, goal) == action  # however often it is asked


@pytest.mark.parametrize(("step", "observed"), [
    ("load", seen("1a", "stable1")), ("canary", seen("1a 2a", "stable1")),
    ("gate", seen("1a 2a", "stable1 canary2")), ("promote", seen("1a 2a", "stable1 canary2", GATED)),
    ("unload", seen("1a 2a", "stable2", ALL)),
])
def test_a_pause(step: str, observed: Observed) -> None:
    goal = replace(FORWARD, pauses=frozenset({step}))
    assert next_action(observed, goal) == Pause(step)
    assert next_action(replace(observed, approved=frozenset({step})), goal) == next_action(observed, FORWARD)


@pytest.mark.parametrize(("goal", "observed", "expected"), [
    (FORWARD, seen("1a 2a", "stable1 canary2", GATED), OLD),
    (FORWARD, seen("1a 2a", "stable2 canary2"), OLD),  # somebody else moved it: nothing is known to be good
    (FORWARD, seen("1a 2a", "stable2 canary2", GATED), OLD),  # it may fail yet
    (FORWARD, seen("1a 2a", "stable2 canary2", GATED | {"confirm"}), OLD),
    (FORWARD, seen("1a 2a", "stable2 canary2", ALL), Serving(frozenset({1, 2}), {"stable": 2})),
    (FORWARD, seen("1e 2a", "stable2", ALL), NEW),
    (FORWARD, seen("2a", "", GATED), OLD),
    (BACK, seen("1a 2a", "stable2"), OLD),  # what failed isn't relied on, wherever the label leads still
    (backward(NEW, OLD, Strategy()), seen("1a 2a", "stable2"), NEW),
    (BACK, seen("1a 2a", "stable1"), OLD),  # the bad one is still loaded, and named no more
])
def test_what_a_restart_relies_on(goal: Goal, observed: Observed, expected: Serving) -> None:
    assert known_good(observed, goal) == expected


@pytest.mark.parametrize(("change", "states", "labels", "expected"), [
    (LoadVersion(2), "1a", "stable1", Serving(frozenset({1, 2}), {"stable": 1})),
    (LoadVersion(2), "1a 3l 4e 5f", "stable1", Serving(frozenset({1, 2, 3}), {"stable": 1})),
    (PointLabel("stable", 2), "1a 2a", "stable1 canary2", Serving(frozenset({1, 2}), {"stable": 2, "canary": 2})),
    (DropLabel("canary"), "1a 2a", "stable1 canary2", Serving(frozenset({1, 2}), {"stable": 1})),
    (UnloadVersion(2), "1a 2a", "stable1 canary2", Serving(frozenset({1}), {"stable": 1})),
])
def test_the_next_configuration(change: object, states: str, labels: str, expected: Serving) -> None:
    assert next_config(seen(states, labels), change) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("states", "named", "version", "expected"), [
    ("1a", {1}, 2, {}),
    ("1a 3l", {1, 3}, 2, {3: VersionState.LOADING}),  # named, not loaded yet: not the same as not served
    ("1a 3l", {1}, 2, {3: VersionState.LOADING}),  # whoever wants it: what is served stays
    ("1a 3s 4l", {1}, 2, {3: VersionState.START, 4: VersionState.LOADING}),
    ("1a 2l", {1}, 2, {}),  # what the release wants anyway
    ("1a 2l", {1, 2}, 2, {2: VersionState.LOADING}),  # it was served before: the way back keeps it
    ("1a 3f", {1, 3}, 2, {}),  # it won't be served, however long one waits
    ("1a 3u 4e", {1}, 2, {}),
])
def test_what_is_waited_for_before_the_goal_is_taken_from_what_is_served(
        states: str, named: set[int], version: int, expected: dict[int, VersionState]) -> None:
    assert unsettled(seen(states).statuses, Serving(frozenset(named)), version) == expected


@pytest.mark.parametrize(("states", "different"), [
    ("1a 2a", False), ("1a 2l", False), ("1a 2s", False), ("1a", True), ("1a 2f", True), ("1a 2a 3l", True),
    ("1a 2a 3e", False),
])
def test_another_model_that_a_reload_would_change(states: str, different: bool) -> None:
    models = [ServedModel("m", "/m", Specific((1,))), ServedModel("other", "/o", Specific((1, 2)))]
    config = models_config(models, {"m": "/m", "other": "/o"})
    assert bool(drift(config, "m", {"other": seen(states).statuses})) is different


def walk(goal: Goal, observed: Observed) -> list[Action]:
    """Carry every action out in thought."""
    taken: list[Action] = []
    while not isinstance(action := next_action(observed, goal), (Done, Abort)):
        assert action not in taken, "the same action twice"
        taken.append(action)
        if isinstance(action, RunCheck):
            observed = replace(observed, passed=observed.passed | {action.name})
            continue
        assert not isinstance(action, (Wait, Pause))
        config = next_config(observed, action)
        states = {v: VersionStatus(v, VersionState.END) for v in observed.statuses}
        states |= {v: VersionStatus(v, VersionState.AVAILABLE) for v in config.versions}
        observed = replace(observed, statuses=states, labels=config.labels, configured=config.versions)
        assert all(v in config.versions for v in config.labels.values()), "a label without its version"
        rely = known_good(observed, goal)
        assert rely in (goal.before, goal.to) or set(rely.versions) == {1, 2}
    assert action == Done()
    return taken


def test_the_whole_way_there_and_back_from_everywhere() -> None:
    steps = walk(FORWARD, seen("1a", "stable1"))
    assert steps == [LoadVersion(2), PointLabel("canary", 2), RunCheck("gate"), RunCheck("bake_before"),
                     PointLabel("stable", 2), RunCheck("confirm"), RunCheck("bake_after"), DropLabel("canary"),
                     UnloadVersion(1)]
    for observed in (seen("1a", "stable1"), seen("1a 2a", "stable1"), seen("1a 2a", "stable1 canary2"),
                     seen("1a 2a", "stable2 canary2"), seen("1a 2a", "stable2"), seen("1e 2a", "stable2")):
        back = walk(BACK, observed)
        assert not any(isinstance(action, RunCheck) for action in back)
    assert walk(BACK, seen("1e 2a", "stable2")) == [LoadVersion(1), PointLabel("stable", 1), UnloadVersion(2)]
