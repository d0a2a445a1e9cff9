"""What a smoke test found: plain values."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

from deploy.errors import SmokeFailed
from deploy.types import ModelRef


class Outcome(enum.Enum):
    """How a check ended. Skipped: can't be asked in this protocol, and the reason stands in `seen`.
    Not run: it could, but the server was gone or an earlier check left nothing to ask."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"


class CheckId(NamedTuple):
    """Which check it is: `mnist/3`, `golden 1 of serving_default`, `REST row`. A smoke test asks each once."""

    subject: str
    name: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.subject} {self.name} [{self.protocol}]"


@dataclass(frozen=True, slots=True)
class SmokeCheck:
    """One question and its answer.

    name: `status`, `contract`, `golden 1 of serving_default`, `agreement ...`, `label`, `unknown version`, ...
    protocol: gRPC, REST, REST row, REST column, or both.
    reproduce: a line for a shell; empty for what passed.
    seconds: how long it took.
    """

    model: str
    version: int | None
    label: str | None
    name: str
    protocol: str
    outcome: Outcome
    expected: str = ""
    seen: str = ""
    reproduce: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool | None:
        """None for what was skipped or not run."""
        return {Outcome.PASSED: True, Outcome.FAILED: False}.get(self.outcome)

    @property
    def subject(self) -> str:
        """`mnist/3`, `mnist@stable`, `mnist`."""
        return str(ModelRef(self.model, self.version, self.label))

    @property
    def id(self) -> CheckId:
        return CheckId(self.subject, self.name, self.protocol)

    def to_json(self) -> dict[str, object]:
        return {"model": self.model, "version": self.version, "label": self.label, "name": self.name,
                "protocol": self.protocol, "outcome": self.outcome.value, "ok": self.ok, "expected": self.expected,
                "seen": self.seen, "reproduce": self.reproduce, "seconds": round(self.seconds, 6)}


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one request: the first of this run on that version and protocol, and the median of later ones.

    warmed: requests with which the server warmed that version up, in warm_seconds; None if it doesn't tell.
    """

    model: str
    version: int
    protocol: str
    first: float
    steady: float
    calls: int
    warmed: int | None = None
    warm_seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        return {"model": self.model, "version": self.version, "protocol": self.protocol,
                "first": round(self.first, 6), "steady": round(self.steady, 6), "calls": self.calls,
                "warmed": self.warmed, "warm_seconds": round(self.warm_seconds, 6)}


@dataclass(frozen=True, slots=True)
class SmokeReport:
    """Everything that was asked, in order. gone: why the server stopped answering; empty if it didn't."""

    endpoint: str
    checks: tuple[SmokeCheck, ...]
    latencies: tuple[Latency, ...]
    seconds: float
    gone: str = ""

    @property
    def ok(self) -> bool:
        """Something passed, nothing failed, and nothing was left out that could have been asked."""
        counts = self.counts
        return bool(counts[Outcome.PASSED]) and not counts[Outcome.FAILED] and not counts[Outcome.NOT_RUN]

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(check.outcome for check in self.checks)

    @property
    def failed(self) -> tuple[SmokeCheck, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    @property
    def summary(self) -> str:
        """`48 checks passed, 1 failed, 2 skipped, 0 not run in 0.8 s`."""
        counts = self.counts
        numbers = ", ".join(f"{counts[o]} {'checks ' if o is Outcome.PASSED else ''}{o.value}" for o in Outcome)
        return f"{numbers} in {self.seconds:.1f} s"

    def raise_if_failed(self) -> None:
        """Raises SmokeFailed with the first thing that isn't right, and the whole report as details."""
        if self.ok:
            return
        if self.gone:
            why = f"the server stopped answering: {self.gone}"
        elif self.failed:
            check = self.failed[0]
            why = f"{check.subject}, {check.name} over {check.protocol}: expected {check.expected}, seen {check.seen}"
        else:
            why = "there was nothing to check" if not self.counts[Outcome.NOT_RUN] else "not everything could be asked"
        raise SmokeFailed(f"what is served at {self.endpoint} isn't right: {why}", hint=self._hint(),
                          details={"report": self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"ok": self.ok, "endpoint": self.endpoint, "seconds": round(self.seconds, 3), "gone": self.gone,
                "counts": {outcome.value: self.counts[outcome] for outcome in Outcome},
                "checks": [check.to_json() for check in self.checks],
                "latencies": [latency.to_json() for latency in self.latencies]}

    def _hint(self) -> str:
        line = next((check.reproduce for check in self.failed if check.reproduce), "")
        return f"reproduce: {line}" if line else self.summary
