"""The nouns of a rollout: its goal, what is observed, what can be done, what a check gets to know. Values, no rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.types import ModelRef, Serving, VersionState, VersionStatus

COMING = (VersionState.UNKNOWN, VersionState.START, VersionState.LOADING)


@dataclass(frozen=True, slots=True)
class LoadVersion:
    """Load this version beside those that are loaded."""

    version: int


@dataclass(frozen=True, slots=True)
class PointLabel:
    """Assign the label to this version, which is loaded."""

    label: str
    version: int


@dataclass(frozen=True, slots=True)
class DropLabel:
    """Take the label away."""

    label: str


@dataclass(frozen=True, slots=True)
class UnloadVersion:
    """Take this version out of the configuration; requests that run finish."""

    version: int


@dataclass(frozen=True, slots=True)
class RunCheck:
    """Run the check of this name; `gate`, `bake_before`, ..."""

    name: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop here until somebody lets it go on. before: the step that waits."""

    before: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The server is working on it; look again."""

    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """The goal is reached."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The goal can't be reached, or isn't wanted any more."""

    reason: str
    hint: str = ""


Change = LoadVersion | PointLabel | DropLabel | UnloadVersion
Action = Change | RunCheck | Pause | Wait | Done | Abort


@dataclass(frozen=True, slots=True)
class Goal:
    """What a release aims at.

    version: it gets `label`. before: what was served when the release began. to: what is served in the end.
    canary: a label of the version while it is on trial; None for no trial under a label.
    trial, after: names of checks to pass before the label moves, and after it has.
    pauses: steps that wait for approval: load, canary, promote, unload, or a check.
    backward: what is left is not trusted: nothing is checked, and a restart relies on `to` only.
    """

    version: int
    before: Serving
    to: Serving
    label: str = "stable"
    canary: str | None = None
    trial: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    pauses: frozenset[str] = frozenset()
    backward: bool = False

    def undone(self) -> Goal:
        """The way back to what was served before, which is all that may be relied on from now on."""
        version = self.before.labels.get(self.label, max(self.before.versions, default=self.version))
        return Goal(version, self.before, self.before, self.label, backward=True)


@dataclass(frozen=True, slots=True)
class Observed:
    """A snapshot.

    statuses: by version, as the server tells it. labels: the versions that those resolve to that are assigned.
    passed: checks that passed. approved: steps that may go on. confirmed: versions that were seen loaded in this run.
    configured: the versions that the last accepted reload named; None if that isn't known.
    trouble: why it can't go on; empty if it can.
    """

    statuses: Mapping[int, VersionStatus]
    labels: Mapping[str, int] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    approved: frozenset[str] = frozenset()
    confirmed: frozenset[int] = frozenset()
    configured: frozenset[int] | None = None
    trouble: str = ""

    @property
    def loaded(self) -> frozenset[int]:
        return frozenset(v for v, s in self.statuses.items() if s.serving)

    @property
    def named(self) -> frozenset[int]:
        """The versions that the server has or is about to have."""
        return frozenset(v for v, s in self.statuses.items() if s.serving or s.state in COMING)


@dataclass(frozen=True, slots=True)
class CanaryTrial:
    """candidate, current: how to address the version on trial, and the one that traffic gets (None: there is no other).

    By label where one is assigned to it, as clients do.
    """

    model: str
    version: int
    candidate: ModelRef
    current: ModelRef | None


Checks = Mapping[str, Callable[[CanaryTrial], str]]
"""By name: returns the result in a sentence; raises DeployError if the version isn't good enough."""


def sentence(change: Change, model: str) -> str:
    """What a change does, for people."""
    if isinstance(change, LoadVersion):
        return f"load {model}/{change.version}"
    if isinstance(change, UnloadVersion):
        return f"unload {model}/{change.version}"
    if isinstance(change, PointLabel):
        return f"point {model}@{change.label} to version {change.version}"
    return f"drop label {model}@{change.label}"


def to_json(change: Change) -> dict[str, Any]:
    """The ledger's form of a change."""
    name = {LoadVersion: "load", UnloadVersion: "unload", PointLabel: "point", DropLabel: "drop"}[type(change)]
    fields = {f: getattr(change, f) for f in ("label", "version") if hasattr(change, f)}
    return {"do": name, **fields}
