"""The nouns of a rollout: its goal, what is observed, what can be done, what a check gets to know, progress. Values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from deploy.errors import DeployError
from deploy.state import Release
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


@dataclass(frozen=True, slots=True)
class RolloutOutcome:
    """How a run ended. Paused: it waits before `step`. Undone: for this `reason`."""

    outcome: Literal["done", "undone", "paused"]
    reason: str = ""
    hint: str = ""
    step: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """What a run knows beside what it sees.

    goal: what it aims at now; another one since `undoing`, why it goes back.
    passed: checks that passed, passed_on: and on which run of the server. approved: steps that may go on.
    instance: the run of the server that was seen last; None if nobody knows. looked: whether one was seen at all.
    confirmed: versions that this run has loaded. configured: versions of the last accepted reload.
    known_good: what a restart would serve by the ledger. unwritten: why that isn't what it should be.
    trouble: an error that the policy has yet to see. interrupted: by Ctrl-C, or SIGTERM.
    """

    goal: Goal
    passed: frozenset[str] = frozenset()
    passed_on: Mapping[str, str | None] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()
    instance: str | None = None
    looked: bool = False
    confirmed: frozenset[int] = frozenset()
    configured: frozenset[int] | None = None
    known_good: Serving | None = None
    unwritten: DeployError | None = None
    trouble: DeployError | None = None
    interrupted: bool = False
    undoing: RolloutOutcome | None = None

    @classmethod
    def of(cls, release: Release, goal: Goal, known_good: Serving | None) -> RolloutProgress:
        """Where a run of the release begins: at its start, or where an earlier run has left it."""
        progress = cls(goal, frozenset(release.passed), dict(release.passed_on), release.approved,
                       known_good=known_good)
        return progress.undone(release.undoing) if release.undoing else progress

    @property
    def lenient(self) -> bool:
        """Whether what can't be written stops nothing: traffic gets back to a good version first."""
        return self.undoing is not None or self.goal.backward

    @property
    def verified(self) -> bool:
        """Whether every check has passed and that is written down: then only leftovers remain."""
        goal = self.goal
        return (self.passed >= {*goal.trial, *goal.after} and self.known_good is not None
                and self.known_good.labels.get(goal.label) == goal.version)

    def observed(self, statuses: Mapping[int, VersionStatus], labels: Mapping[str, int]) -> Observed:
        """A snapshot for the policy."""
        return Observed(statuses, labels, self.passed, self.approved, self.confirmed, self.configured,
                        self.trouble.message if self.trouble else "")

    def on(self, instance: str | None, statuses: Mapping[int, VersionStatus]) -> RolloutProgress:
        """What counts on this run of the server: what a version passed on another one, loaded once, says nothing."""
        now = replace(self, instance=instance, looked=True)
        if self.undoing is not None or self.verified:
            return now
        status = statuses.get(self.goal.version)
        loaded = status is not None and status.serving
        return replace(now, passed=frozenset(c for c in self.passed if loaded and self.passed_on.get(c) == instance))

    def restarted(self, instance: str | None) -> bool:
        """Whether another run of the server is seen than before, while that matters."""
        return self.looked and instance != self.instance and self.undoing is None and not self.verified

    def passing(self, check: str) -> RolloutProgress:
        """As a check that passed leaves it."""
        return replace(self, passed=self.passed | {check}, passed_on={**self.passed_on, check: self.instance})

    def undone(self, reason: str, hint: str = "") -> RolloutProgress:
        """On the way back, for this reason, or for the trouble that it comes from."""
        cause = self.trouble
        why = RolloutOutcome("undone", reason, hint or (cause.hint if cause else ""),
                             details=cause.details if cause else {})
        return replace(self, goal=self.goal.undone(), trouble=None, undoing=why)
