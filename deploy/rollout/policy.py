"""What to do next, decided from a snapshot alone: pure, stateless, the same answer however often it is asked.

Forward: load the version beside the others, `canary` on it, checks, move the label, checks, drop what isn't wanted.
Backward is the same way with an older goal and no checks: the label first, then the bad version goes.

The server's rules behind the order: a label needs a loaded version, so it moves in a reload of its own; a label
survives its version and then resolves to nothing, so it is dropped before; a version that failed isn't tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from deploy.rollout.actions import (
    COMING,
    Abort,
    Action,
    CanaryTrial,
    Change,
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
from deploy.types import ModelRef, Serving, VersionState, VersionStatus

PERMANENTLY_FAILED = ("its number has failed permanently: this server doesn't try it again; repair the model and "
                      "publish the next number")


def promoted(observed: Observed, goal: Goal) -> bool:
    """Whether the label resolves to the goal's version."""
    return observed.labels.get(goal.label) == goal.version and goal.version in observed.loaded


def unsettled(statuses: Mapping[int, VersionStatus], named: Serving, version: int) -> dict[int, VersionState]:
    """The versions whose loading has yet to end, before a goal is taken from what is served: one that is taken for
    "not served" would be unloaded later. A version that failed is settled, and so is one that is on its way out.

    named: what the config file names. version: the one that is to be rolled out; unless the file names it as well, its
    loading is what the release wants anyway.
    """
    return {v: s.state for v, s in sorted(statuses.items())
            if s.state in COMING and (v != version or v in named.versions)}


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
        return Abort(f"version {version} can't be loaded: {status.error or 'the server gives no reason'}",
                     PERMANENTLY_FAILED)
    if status is not None and status.state in (*COMING, VersionState.UNLOADING):
        return Wait(f"version {version} is {status.state.name}")
    if version in observed.confirmed and version == goal.version and not goal.backward:
        return Abort(f"version {version} was loaded and is gone: the server was started again, "
                     "or somebody else changed its configuration")
    return _step("load", LoadVersion(version), observed, goal) if version == goal.version else LoadVersion(version)


def _trial(observed: Observed, goal: Goal) -> Action | None:
    """The version is verified before traffic gets to it; or at least afterwards, if somebody else was quicker."""
    if not promoted(observed, goal):
        anchor = goal.before.labels.get(goal.label)
        if anchor is not None and observed.labels.get(goal.label) != anchor and not goal.backward:
            return PointLabel(goal.label, anchor)
        if goal.canary is not None and observed.labels.get(goal.canary) != goal.version:
            return _step("canary", PointLabel(goal.canary, goal.version), observed, goal)
    return _checks(goal.trial, observed, goal)


def _checks(names: Iterable[str], observed: Observed, goal: Goal) -> Action | None:
    return next((_step(name, RunCheck(name), observed, goal) for name in names if name not in observed.passed), None)


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
    """Labels first: one whose version is gone answers 404 from then on."""
    for label in sorted(observed.labels.keys() - goal.to.labels.keys()):
        return _step("unload", DropLabel(label), observed, goal)
    configured = observed.configured
    for version, status in sorted(observed.statuses.items()):
        if version in goal.to.versions:
            continue
        failed = status.failed and (configured is None or version in configured)
        if status.serving or status.state in COMING or failed:
            return _step("unload", UnloadVersion(version), observed, goal)
        if status.state is VersionState.UNLOADING:
            return Wait(f"version {version} is UNLOADING")
    return None


def _step(name: str, action: Action, observed: Observed, goal: Goal) -> Action:
    return Pause(name) if name in goal.pauses and name not in observed.approved else action


def next_config(observed: Observed, change: Change) -> Serving:
    """The configuration that a change needs: all of the model's versions and labels, as each reload replaces them."""
    versions, labels = observed.named, dict(observed.labels)
    if isinstance(change, LoadVersion):
        versions |= {change.version}
    elif isinstance(change, UnloadVersion):
        versions -= {change.version}
        labels = {k: v for k, v in labels.items() if v != change.version}
    elif isinstance(change, PointLabel):
        labels[change.label] = change.version
    else:
        labels.pop(change.label, None)
    return Serving(versions, labels)


def known_good(observed: Observed, goal: Goal) -> Serving:
    """What the config file should name now: what the server may be started with at any moment.

    Until everything is where it should be and all checks have passed, also those after the label moved, that is what
    was there before: a version that fails late was never known to be good, so the way back needs no write to be safe.
    From then on the goal; while the version that was left is still loaded, that one too.
    """
    reached = goal.to.versions <= observed.loaded and all(
        observed.labels.get(k) == v for k, v in goal.to.labels.items())
    if not reached or not (goal.backward or observed.passed >= {*goal.trial, *goal.after}):
        return goal.before
    if goal.backward:
        return goal.to
    return replace(goal.to, versions=goal.to.versions | (goal.before.versions & observed.loaded))


def trial_of(model: str, observed: Observed, goal: Goal) -> CanaryTrial:
    """The trial as the snapshot shows it."""
    label = goal.label if promoted(observed, goal) else goal.canary
    if label is not None and observed.labels.get(label) == goal.version:
        candidate = ModelRef(model, label=label)
    else:
        candidate = ModelRef(model, goal.version)
    return CanaryTrial(model, goal.version, candidate, _current(model, observed, goal))


def _current(model: str, observed: Observed, goal: Goal) -> ModelRef | None:
    others = (goal.before.versions - {goal.version}) & observed.loaded
    version = goal.before.labels.get(goal.label, max(others, default=None))
    if version not in others:
        return None
    if observed.labels.get(goal.label) == version:
        return ModelRef(model, label=goal.label)
    return ModelRef(model, version)
