"""A release's goal: from what is desired and the strategy; and read back from the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.errors import RolloutError, SpecError
from deploy.locks import whoami
from deploy.rollout.actions import Goal
from deploy.spec import Spec
from deploy.state import Ledger, Release, ledger_of, releases
from deploy.state.ledger import utc_now
from deploy.state.release import Kind
from deploy.types import ServedModel, Serving


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a release is carried out: labels, checks (before the label moves, after it has), steps that wait."""

    label: str = "stable"
    canary: str | None = "canary"
    trial: tuple[str, ...] = ("gate", "compare", "bake_before")
    after: tuple[str, ...] = ("confirm", "bake_after")
    pauses: frozenset[str] = frozenset()

    @property
    def steps(self) -> tuple[str, ...]:
        """Everything that may wait for approval, in order."""
        canary = ("canary",) if self.canary else ()
        return ("load", *canary, *self.trial, "promote", *self.after, "unload")


def current(serving: Serving, label: str) -> int | None:
    """The version that traffic gets: the label's; without one the highest, as unlabelled requests do."""
    return serving.labels.get(label, max(serving.versions, default=None))


def forward(before: Serving, version: int, strategy: Strategy) -> Goal:
    """Put `version` in the place of the label's version. What else is served stays."""
    labels = {**before.labels, strategy.label: version}
    leaving = {current(before, strategy.label)}
    if strategy.canary in before.labels:
        assert strategy.canary is not None
        leaving.add(before.labels[strategy.canary])
        labels[strategy.canary] = version
    to = Serving((before.versions - leaving) | set(labels.values()), labels)
    return Goal(version, before, to, strategy.label, strategy.canary, strategy.trial, strategy.after, strategy.pauses)


def backward(before: Serving, to: Serving, strategy: Strategy) -> Goal:
    """Back to what was served once: at once if its versions are loaded still, else after the gate."""
    version = current(to, strategy.label)
    if version is None:
        raise RolloutError("there is nothing to go back to", hint="name a version with --to",
                           id="nothing-to-go-back-to")
    trial = () if to.versions <= before.versions else tuple(c for c in strategy.trial if c == "gate")
    return Goal(version, before, to, strategy.label, None, trial, tuple(c for c in strategy.after if c == "confirm"),
                strategy.pauses, backward=True)


def begin(ledger: Ledger, model: str, kind: Kind, goal: Goal, *, note: str = "", spec: Mapping[str, Any] | None = None,
          settings: Mapping[str, Any] | None = None) -> Release:
    """Write a release's first line; from then on it is open. Raises RolloutError if a rollout's can't be written.

    A rollback's may be lost: on a full disk, too, traffic gets back to a good version.
    """
    number = 1 + max((int(r.id[1:]) for r in releases(ledger.read()) if r.id[1:].isdecimal()), default=0)
    fields = {"release": f"r{number}", "model": model, "kind": kind, "version": goal.version,
              "before": goal.before.to_json(), "goal": goal.to.to_json(), "by": whoami(), "note": note,
              "options": {**_options(goal), **(settings or {})}, "spec": dict(spec or {})}
    try:
        line = ledger.append("begin", **fields)
    except RolloutError:
        if kind != "rollback":
            raise
        line = {"at": utc_now().isoformat(timespec="milliseconds"), "event": "begin", **fields}
    return releases([line])[0]


def goal_of(release: Release) -> Goal:
    """The goal that a release began with."""
    o = release.options
    return Goal(release.version, release.before, release.goal, str(o.get("label", "stable")), o.get("canary"),
                tuple(o.get("trial", ())), tuple(o.get("after", ())), frozenset(o.get("pauses", ())),
                bool(o.get("backward")))


def history(spec: Spec, model: str | None = None) -> list[Release]:
    """All releases, oldest first. Raises RolloutError if the ledger can't be read."""
    if model is not None:
        model_of(spec, model)
    return releases(ledger_of(spec).read(), model)


def model_of(spec: Spec, name: str) -> ServedModel:
    """Raises SpecError if the spec has no such model."""
    for model in spec.models:
        if model.name == name:
            return model
    raise SpecError(f"there is no model {name!r} in {spec.path.name}",
                    hint=f"it has {', '.join(m.name for m in spec.models)}", id="unknown-model")


def _options(goal: Goal) -> dict[str, Any]:
    return {"label": goal.label, "canary": goal.canary, "trial": list(goal.trial), "after": list(goal.after),
            "pauses": sorted(goal.pauses), "backward": goal.backward}
