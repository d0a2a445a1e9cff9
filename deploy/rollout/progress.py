"""How far a run of a release is: one frozen value, of which the driver keeps the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from deploy.errors import DeployError
from deploy.rollout.actions import Goal, Observed
from deploy.state import Release
from deploy.types import Serving, VersionStatus


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
