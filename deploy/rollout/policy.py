"""What to do next, decided from a snapshot alone: pure, stateless, the same answer however often it is asked.

Forward: load the version beside the others, `canary` on it, checks, move the label, checks, drop what isn't wanted.
Backward is the same way with an older goal and no checks: the label first, then the bad version goes.

The server's rules behind the order: a label needs a loaded version, so it moves in a reload of its own; a label
survives its version and then leads nowhere, so it is dropped before; a version that failed isn't tried again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from deploy.rollout.algebra import (
    COMING,
    Abort,
    Action,
    Change,
    Check,
    Done,
    DropLabel,
    Goal,
    Load,
    Observed,
    Pause,
    PointLabel,
    Unload,
    Wait,
)
from deploy.state import Serving
from deploy.types import VersionState

BURNT = "its number is burnt: this server doesn't try it again; repair the model and publish the next number"


def promoted(observed: Observed, goal: Goal) -> bool:
    """Whether the label leads to the goal's version."""
    return observed.labels.get(goal.label) == goal.version and goal.version in observed.loaded


def next_action(observed: Observed, goal: Goal) -> Action:
    """The one thing to do now."""
    if observed.trouble:
        return Abort(observed.trouble)
    steps = (_present, _trial, _labels, _after, _leftovers)
    return next((action for step in steps if (action := step(observed, goal)) is not None), Done())


def _present(observed: Observed, goal: Goal) -> Action | None:
    """All versions that are needed now are loaded."""
    keep = goal.to.versions
    if not goal.backward and not promoted(observed, goal):
        keep |= goal.before.versions  # whoever restarted the server meanwhile, traffic stays where it was
    for version in sorted(keep):
        action = _loaded(version, observed, goal)
        if action is not None:
            return action
    return None


def _loaded(version: int, observed: Observed, goal: Goal) -> Action | None:
    status = observed.statuses.get(version)
    if status is not None and status.serving:
        return None
    if status is not None and status.failed:
        return Abort(f"version {version} can't be loaded: {status.error or 'the server gives no reason'}", BURNT)
    if status is not None and status.state in (*COMING, VersionState.UNLOADING):
        return Wait(f"version {version} is {status.state.name}")
    if version in observed.confirmed and version == goal.version and not goal.backward:
        return Abort(f"version {version} was loaded and is gone: the server was started again, "
                     "or somebody else changed its configuration")
    return _step("load", Load(version), observed, goal) if version == goal.version else Load(version)


def _trial(observed: Observed, goal: Goal) -> Action | None:
    """The version proves itself before traffic gets to it; or at least afterwards, if somebody else was quicker."""
    if not promoted(observed, goal):
        anchor = goal.before.labels.get(goal.label)
        if anchor is not None and observed.labels.get(goal.label) != anchor and not goal.backward:
            return PointLabel(goal.label, anchor)
        if goal.canary is not None and observed.labels.get(goal.canary) != goal.version:
            return _step("canary", PointLabel(goal.canary, goal.version), observed, goal)
    return _checks(goal.trial, observed, goal)


def _checks(names: Iterable[str], observed: Observed, goal: Goal) -> Action | None:
    return next((_step(name, Check(name), observed, goal) for name in names if name not in observed.passed), None)


def _labels(observed: Observed, goal: Goal) -> Action | None:
    """The label that traffic follows first, then the others."""
    for label in sorted(goal.to.labels, key=lambda name: (name != goal.label, name)):
        if label == goal.canary and not promoted(observed, goal):
            continue
        version = goal.to.labels[label]
        if observed.labels.get(label) != version:
            action = PointLabel(label, version)
            return _step("promote", action, observed, goal) if label == goal.label else action
    return None


def _after(observed: Observed, goal: Goal) -> Action | None:
    return _checks(goal.after, observed, goal)


def _leftovers(observed: Observed, goal: Goal) -> Action | None:
    """Labels first: one that leads to a version which is gone answers 404 from then on."""
    for label in sorted(observed.labels.keys() - goal.to.labels.keys()):
        return _step("unload", DropLabel(label), observed, goal)
    told = observed.told
    for version, status in sorted(observed.statuses.items()):
        if version in goal.to.versions:
            continue
        burnt = status.failed and (told is None or version in told)
        if status.serving or status.state in COMING or burnt:
            return _step("unload", Unload(version), observed, goal)
        if status.state is VersionState.UNLOADING:
            return Wait(f"version {version} is UNLOADING")
    return None


def _step(name: str, action: Action, observed: Observed, goal: Goal) -> Action:
    return Pause(name) if name in goal.pauses and name not in observed.let_go else action


def told_next(observed: Observed, change: Change) -> Serving:
    """What the server is told for a change: all of the model's versions and labels, as each reload replaces them."""
    versions, labels = observed.named, dict(observed.labels)
    if isinstance(change, Load):
        versions |= {change.version}
    elif isinstance(change, Unload):
        versions -= {change.version}
        labels = {k: v for k, v in labels.items() if v != change.version}
    elif isinstance(change, PointLabel):
        labels[change.label] = change.version
    else:
        labels.pop(change.label, None)
    return Serving(versions, labels)


def relied_on(observed: Observed, goal: Goal) -> Serving:
    """What the config file should name now: what the server may be started with at any moment.

    Until everything is where it should be and all checks have passed, also those after the label moved, that is what
    was there before: a version that fails late was never relied on, so the way back needs no write to be safe. From
    then on the goal; while the version that was left is still held, that one too.
    """
    reached = goal.to.versions <= observed.loaded and all(
        observed.labels.get(k) == v for k, v in goal.to.labels.items())
    if not reached or not (goal.backward or observed.passed >= {*goal.trial, *goal.after}):
        return goal.before
    if goal.backward:
        return goal.to
    return replace(goal.to, versions=goal.to.versions | (goal.before.versions & observed.loaded))
