"""What to do next while the replicas of a server are replaced, decided from a snapshot alone: pure, stateless.

Forward: the first new replica is made beside the old ones and held there; it is tested, compared, watched; then the
others follow, one by one: an old one goes when the newest one is tested; all of them are watched. Backward: replicas as
they were before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.backends import Generations
from deploy.rollout.actions import Wait

BEFORE, AFTER = "bake_before", "bake_after"


@dataclass(frozen=True, slots=True)
class ReplacementSnapshot:
    """proven: by replica, the run that was tested. baked: bake times that are over.

    undoing: why it goes back; told_back: the place has been told.
    """

    there: Generations
    proven: Mapping[str, str] = field(default_factory=dict)
    baked: frozenset[str] = frozenset()
    undoing: str = ""
    told_back: bool = False


@dataclass(frozen=True, slots=True)
class MakeFirst:
    """Have the first new replica made."""


@dataclass(frozen=True, slots=True)
class Prove:
    """Test a new replica, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Bake:
    """Watch the new replicas for the bake time of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class LetGoOn:
    """Have one old replica go, and the next new one made."""


@dataclass(frozen=True, slots=True)
class GoBack:
    """Have replicas as before. why: in a sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class FinishReplacing:
    """All are new and good."""


@dataclass(frozen=True, slots=True)
class Undone:
    """All are as before."""


ReplacementStep = MakeFirst | Prove | Bake | LetGoOn | Wait | GoBack | FinishReplacing | Undone


def next_step(snapshot: ReplacementSnapshot) -> ReplacementStep:
    """The one thing to do now."""
    there = snapshot.there
    if snapshot.undoing:
        if not snapshot.told_back:
            return GoBack(snapshot.undoing)
        return Undone() if there.all_old else Wait(there.pending or "new replicas are still there")
    return _trouble(snapshot) or (_forward(snapshot) if there.begun else MakeFirst())


def _trouble(snapshot: ReplacementSnapshot) -> ReplacementStep | None:
    there = snapshot.there
    if there.trouble:
        return GoBack(there.trouble)
    for one in there.new:
        if one.restarts:
            return GoBack(f"the new {one.name} was started again {one.restarts} time{'s' * (one.restarts > 1)}"
                          f"{f': {one.ended}' if one.ended else ''}")
    return None


def _forward(snapshot: ReplacementSnapshot) -> ReplacementStep:
    there = snapshot.there
    for one in there.new:
        if snapshot.proven.get(one.name) != one.instance:
            return Prove(one.name)
    if there.held:
        if there.coming or not there.new:
            return Wait(there.pending or "no new replica runs yet")
        if BEFORE not in snapshot.baked:
            return Bake(BEFORE)
        return LetGoOn()
    if not there.all_new:
        return Wait(there.pending or "old replicas are still there")
    return Bake(AFTER) if AFTER not in snapshot.baked else FinishReplacing()
