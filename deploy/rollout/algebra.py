"""The nouns of a release: where it leads, what is seen, what can be done. Frozen values, no rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.state import Serving
from deploy.types import VersionState, VersionStatus

COMING = (VersionState.UNKNOWN, VersionState.START, VersionState.LOADING)


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version beside those that are loaded."""

    version: int


@dataclass(frozen=True, slots=True)
class PointLabel:
    """Let the label lead to this version, which is loaded."""

    label: str
    version: int


@dataclass(frozen=True, slots=True)
class DropLabel:
    """Let the label lead nowhere."""

    label: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Take this version out of the configuration; requests that run finish."""

    version: int


@dataclass(frozen=True, slots=True)
class Check:
    """Run the check of this name; `gate`, `soak`, ..."""

    name: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop here until somebody lets it go on. before: the step that waits."""

    before: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The server is at it; look again."""

    why: str


@dataclass(frozen=True, slots=True)
class Done:
    """The goal is reached."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The goal can't be reached, or isn't wanted any more."""

    reason: str
    hint: str = ""


Change = Load | PointLabel | DropLabel | Unload
Action = Change | Check | Pause | Wait | Done | Abort


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a release leads.

    version: it gets `label`. before: what was served when the release began. to: what is served in the end.
    canary: a label that leads to the version while it is on trial; None for no trial under a label.
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

    statuses: by version, as the server tells it. labels: where those lead that lead anywhere.
    passed: checks that passed. let_go: steps that may go on. confirmed: versions that were seen loaded in this run.
    told: the versions that the last accepted reload named; None if that isn't known.
    trouble: why it can't go on; empty if it can.
    """

    statuses: Mapping[int, VersionStatus]
    labels: Mapping[str, int] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    let_go: frozenset[str] = frozenset()
    confirmed: frozenset[int] = frozenset()
    told: frozenset[int] | None = None
    trouble: str = ""

    @property
    def loaded(self) -> frozenset[int]:
        return frozenset(v for v, s in self.statuses.items() if s.serving)

    @property
    def named(self) -> frozenset[int]:
        """The versions that the server has or is about to have."""
        return frozenset(v for v, s in self.statuses.items() if s.serving or s.state in COMING)
