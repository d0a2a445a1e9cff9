"""What a comparison found: plain values, for people, for JSON and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.errors import RolloutError
from deploy.goldens.drift import Drift

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. errors: what was refused, and why. seconds: of each timed request."""

    ref: str
    errors: tuple[str, ...]
    seconds: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Seconds; 0 if nothing was answered."""
        if not self.seconds:
            return 0.0
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]

    def to_json(self) -> dict[str, Any]:
        return {"ref": self.ref, "errors": list(self.errors), "timed": len(self.seconds),
                "seconds": {f"p{p}": round(self.percentile(p), 6) for p in (50, 90, 99)}}


@dataclass(frozen=True, slots=True)
class Report:
    """before: what traffic gets. after: what is on trial. problems: limits that were passed, in sentences."""

    before: Side
    after: Side
    requests: int
    drift: Drift
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
        if self.before.percentile(50):
            parts.append(f"{self.after.percentile(50) / self.before.percentile(50):.2g} times the latency")
        return f"{self.requests} requests: {', '.join(parts)}"

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

    def to_html(self, title: str = "") -> str:
        """A page that stands alone: no scripts, nothing loaded from elsewhere."""
        from deploy.rollout.canary.html import page

        return page(self, title or f"{self.after.ref} beside {self.before.ref}")

    def table(self) -> Group:
        """For people."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("output", "values", "changed", "largest", "mean", "decided otherwise", "NaN before", "NaN after"):
            table.add_column(name, justify="left" if name == "output" else "right")
        for o in self.drift.outputs:
            table.add_row(f"{o.signature}/{o.output}", str(o.values), str(o.changed), f"{o.max:.3g}", f"{o.mean:.3g}",
                          f"{o.flips} of {o.decisions}" if o.decisions else "-", f"{o.nan_before:.1%}",
                          f"{o.nan_after:.1%}")
        times = "   ".join(f"p{p} {self.before.percentile(p) * 1e3:.2f} -> {self.after.percentile(p) * 1e3:.2f} ms"
                           for p in (50, 90, 99))
        return Group(table, Text(times), *[Text(p, style="red") for p in self.problems],
                     Text(self.summary, style="green" if self.ok else "bold red"))
