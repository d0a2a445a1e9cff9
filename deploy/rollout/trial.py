"""What a check gets to know of the version on trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.rollout.algebra import Goal, Observed
from deploy.rollout.policy import promoted
from deploy.types import ModelRef

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """candidate, current: how to address the version on trial, and the one that traffic gets (None: there is no other).

    By label where one leads there, as clients do.
    """

    model: str
    version: int
    candidate: ModelRef
    current: ModelRef | None


Checks = Mapping[str, Callable[[Trial], str]]
"""By name: returns in a sentence what was found; raises DeployError if the version isn't good enough."""


def trial_of(model: str, observed: Observed, goal: Goal) -> Trial:
    """The trial as the snapshot shows it."""
    label = goal.label if promoted(observed, goal) else goal.canary
    if label is not None and observed.labels.get(label) == goal.version:
        candidate = ModelRef(model, label=label)
    else:
        candidate = ModelRef(model, goal.version)
    return Trial(model, goal.version, candidate, _current(model, observed, goal))


def _current(model: str, observed: Observed, goal: Goal) -> ModelRef | None:
    others = (goal.before.versions - {goal.version}) & observed.loaded
    version = goal.before.labels.get(goal.label, max(others, default=None))
    if version not in others:
        return None
    if observed.labels.get(goal.label) == version:
        return ModelRef(model, label=goal.label)
    return ModelRef(model, version)
