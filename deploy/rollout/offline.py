"""A rollback while the server is down, perhaps because of the very version that was rolled out: what it starts from."""

from __future__ import annotations

from deploy import backends
from deploy.errors import RolloutError
from deploy.repository import versions_of
from deploy.rollout.actions import Goal
from deploy.rollout.configs import ConfigFile
from deploy.rollout.goals import begin
from deploy.spec import Spec
from deploy.state import Ledger, Release, Serving, releases, started_from
from deploy.state.releases import Outcome, entry
from deploy.types import ServedModel

DOWN = "the server was down: it starts with this"


def known_good_of(spec: Spec, model: ServedModel) -> Serving:
    """What the server would start with. Raises RolloutError if no release has changed anything since the spec."""
    serving = started_from(Ledger(spec.state_dir).read(), model)
    if serving is None:
        raise RolloutError(f"{spec.name} isn't running, and would start {model.name} as {spec.path.name} says: "
                           "there is nothing to go back to", hint="edit the file, or start it: tfs up")
    return serving


def roll_back(spec: Spec, model: ServedModel, goal: Goal, note: str) -> Release:
    """Let the next start serve the goal. Whoever calls holds the lock. Raises RepositoryError, RolloutError."""
    _verify(model, goal.to)
    release = begin(Ledger(spec.state_dir), model.name, "rollback", goal, note=note, spec=entry(model))
    return _settle(spec, model, release, goal.to, outcome="done", reason=DOWN)


def undo(spec: Spec, model: ServedModel, release: Release, reason: str) -> Release:
    """Let the next start serve what was served before an open release. As `roll_back`."""
    _verify(model, release.before)
    Ledger(spec.state_dir).append("undo", release=release.id, reason=reason)
    return _settle(spec, model, release, release.before, outcome="undone", reason=f"{reason}; the server was down")


def finish(spec: Spec, model: ServedModel, release: Release) -> Release:
    """Let the next start serve what an open rollback aims at. As `roll_back`."""
    _verify(model, release.goal)
    return _settle(spec, model, release, release.goal, outcome="done", reason=DOWN)


def _verify(model: ServedModel, serving: Serving) -> None:
    for version in serving.versions:
        versions_of(model).version(version).check()


def _settle(spec: Spec, model: ServedModel, release: Release, serving: Serving, *, outcome: Outcome, reason: str
            ) -> Release:
    file, ledger = ConfigFile(backends.config(spec)), Ledger(spec.state_dir)
    if file.exists:  # a container starts again by itself from this file
        file.change(model.name, serving)
    ledger.append("known_good", release=release.id, model=model.name, serving=serving.to_json(), spec=entry(model))
    ledger.append("end", release=release.id, outcome=outcome, reason=reason)
    return next(r for r in releases(ledger.read()) if r.id == release.id)
