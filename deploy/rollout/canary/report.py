"""What a comparison found: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.errors import RolloutError
from deploy.goldens.compare import AnswerDrift
from deploy.goldens.timing import Timings


@dataclass(frozen=True, slots=True)
class CanarySide:
    """One of the two. errors: what was refused, and why. timings: of its timed requests."""

    ref: str
    errors: tuple[str, ...]
    timings: Timings

    def to_json(self) -> dict[str, Any]:
        return {"ref": self.ref, "errors": list(self.errors), "timed": len(self.timings),
                "seconds": {f"p{p}": round(self.timings.percentile(p), 6) for p in (50, 90, 99)}}


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """before: what traffic gets. after: what is on trial. problems: limits that were passed, in sentences."""

    before: CanarySide
    after: CanarySide
    requests: int
    drift: AnswerDrift
    problems: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def summary(self) -> str:
        """`12 requests: up to 0.3 apart, 1 of 24 rows decided otherwise, 1.2 times the latency`."""
        parts = [f"up to {max((o.max for o in self.drift.outputs), default=0.0):.3g} apart"]
        rows = sum(o.decisions for o in self.drift.outputs)
        if rows:
            parts.append(f"{self.drift.flips} of {rows} rows decided otherwise")
        if self.after.errors:
            parts.append(f"{len(self.after.errors)} refused")
        if self.before.timings.median:
            parts.append(f"{self.after.timings.median / self.before.timings.median:.2g} times the latency")
        return f"{self.requests} request{'s' * (self.requests != 1)}: {', '.join(parts)}"

    def raise_if_refused(self) -> None:
        """Raises RolloutError with the first limit that was passed, and the whole report as details."""
        if self.problems:
            raise RolloutError(f"{self.after.ref} isn't like {self.before.ref}: {self.problems[0]}",
                               hint="if that is meant, set the limits in rollout/compare of the spec",
                               details={"problems": list(self.problems), "comparison": self.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"ok": self.ok, "problems": list(self.problems), "requests": self.requests,
                "seconds": round(self.seconds, 3), "before": self.before.to_json(), "after": self.after.to_json(),
                "drift": self.drift.to_json()}
