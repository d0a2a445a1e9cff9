"""A comparison as a page."""

from __future__ import annotations

from deploy.report import html
from deploy.report.html import BarGroup
from deploy.rollout.canary.report import CanaryReport

_SHOWN = 20  # requests that were refused


def report_page(report: CanaryReport, title: str = "") -> str:
    """HTML that stands alone: what changed in the answers, how far, how fast, and what was refused."""
    sides = (report.before, report.after)
    curves = html.percentiles([(side.ref, side.timings.percentile) for side in sides],
                             lambda seconds: f"{seconds * 1e3:.1f} ms")
    latencies = html.table(("", "requests", "p50 ms", "p90 ms", "p99 ms"), [
        (side.ref, len(side.timings), *(f"{side.timings.percentile(p) * 1e3:.2f}" for p in (50, 90, 99)))
        for side in sides])
    return html.page(title or f"{report.after.ref} beside {report.before.ref}", [
        html.verdict(report.ok, "within the limits" if report.ok else "outside the limits", report.summary),
        html.listed(report.problems, "bad"),
        html.section("Answers", _answers(report)), html.section("Deviation", _deviations(report)),
        html.section("Latency", latencies, curves),
        html.section("Refused", html.listed(report.after.errors[:_SHOWN]))])


def _answers(report: CanaryReport) -> str:
    head = ("output", "values", "changed", "largest", "mean", "decided otherwise", "NaN before", "NaN after")
    return html.table(head, [
        (f"{o.signature}/{o.output}", o.values, o.changed, f"{o.max:.4g}", f"{o.mean:.4g}",
         f"{o.flips} of {o.decisions}" if o.decisions else "–", f"{o.nan_before:.2%}", f"{o.nan_after:.2%}")
        for o in report.drift.outputs])


def _deviations(report: CanaryReport) -> str:
    """The largest and the mean one of each output, on one scale."""
    outputs = report.drift.outputs
    if not any(output.max for output in outputs):
        return "<p>None: all numbers are equal.</p>"
    groups = [BarGroup(f"{o.signature}/{o.output}", [(name, value, f"{value:.3g}") for name, value in
                                                     (("largest", o.max), ("mean", o.mean))]) for o in outputs]
    return html.bars("", groups, one_scale=True)
