"""Judge a version on trial by its answers, beside those of the version that it should replace.

    report = judge(client, ModelRef("m", label="stable"), ModelRef("m", label="canary"), requests, limits=ComparePart())
    report.raise_if_refused()
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deploy.client import Prediction
from deploy.errors import BadReply, BadRequest, Rejected, RolloutError
from deploy.goldens import Golden
from deploy.goldens.compare import AnswerDrift, AnswerPair, measure
from deploy.goldens.timing import Timings
from deploy.goldens.tolerances import Tolerances
from deploy.report import html
from deploy.report.html import BarGroup
from deploy.rollout.live_server import patiently
from deploy.spec import ComparePart
from deploy.types import ModelRef
from deploy.waiting import Clock, Deadline
from deploy.wire.dtypes import Array, Arrays

_MOST = 2000  # requests for the latencies, on each side
_SLACK = 0.002  # seconds of median latency that nobody is blamed for
_FEW, _SOME, _ENOUGH = 4, 16, 64  # timed requests of a side: show that all is well; that it plainly isn't; settle it
_PATIENCE, _PAUSE = 1.0, 0.05  # seconds; a server with all threads at work says so at once
_OWN = (Rejected, BadReply, BadRequest)  # the model's affair; without a connection there is nothing to compare

_PERCENTS = (50, 90, 99)
_SHOWN = 20  # requests that were refused


@dataclass(frozen=True, slots=True)
class CanarySide:
    """One of the two. errors: what was refused, and why. timings: of its timed requests."""

    ref: str
    errors: tuple[str, ...]
    timings: Timings

    def to_json(self) -> dict[str, Any]:
        return {"ref": self.ref, "errors": list(self.errors), "timed": len(self.timings),
                "seconds": {f"p{p}": round(value, 6)
                            for p, value in zip(_PERCENTS, self.timings.percentiles(_PERCENTS), strict=True)}}


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
                               details={"problems": list(self.problems), "comparison": self.to_json()},
                               id="canary-differs")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"ok": self.ok, "problems": list(self.problems), "requests": self.requests,
                "seconds": round(self.seconds, 3), "before": self.before.to_json(), "after": self.after.to_json(),
                "drift": self.drift.to_json()}


class PredictClient(Protocol):
    """What is asked of a client."""

    def predict(self, ref: ModelRef, inputs: Arrays, /, *, signature: str, timeout: float | None = None
                ) -> Prediction: ...


def judge(client: PredictClient, current: ModelRef, candidate: ModelRef, requests: Sequence[Golden], *,
          limits: ComparePart, tolerances: Tolerances | None = None, timeout: float = 30.0,
          clock: Clock = time, brief: bool = False, beside: PredictClient | None = None) -> CanaryReport:
    """Send every request to both, compare the answers, and hold the differences against the limits.

    Both are asked in turns, so that what else keeps the machine busy keeps both waiting. By chance it may hit one of
    them more often: if the candidate seems slow, both are timed again and again until it is clear.

    tolerances: for the report's count of answers that differ at all; they refuse nothing. brief: whether a few timed
    requests are enough as long as the candidate doesn't seem slow, those that are compared among them: where many
    servers are asked about one version.
    beside: where the candidate is, if not on the client's server.
    Never raises for what the model answers. Raises Unreachable or TimedOut for a server that doesn't.
    """
    began = clock.monotonic()
    sides = _Asked(client, current, timeout, clock), _Asked(beside or client, candidate, timeout, clock)
    pairs = []
    for number, request in enumerate(requests):
        one, other = _both(sides, request, swapped=bool(number % 2))
        if not isinstance(one, str):  # what was refused before may well be answered now
            pairs.append(AnswerPair(request.signature, one, other))
    count = max(1, len(requests))
    turns, few, enough = min(limits.repeats, max(1, _MOST // count)) - 1, -(-_FEW // count), -(-_ENOUGH // count)
    done = _time(sides, requests, 0, min(few * (count < _FEW), turns) if brief else turns)
    while done < enough and _unclear(sides[0].result(), sides[1].result(), limits):
        done = _time(sides, requests, done, max(done, turns, few))
    before, after = (side.result() for side in sides)
    drift = measure(pairs, tolerances or {})
    problems = (*_problems(before, after, drift, limits, len(requests)), *_far_apart(pairs, limits))
    return CanaryReport(before, after, len(requests), drift, problems, clock.monotonic() - began)


def _time(sides: tuple[_Asked, _Asked], requests: Sequence[Golden], done: int, turns: int) -> int:
    """So many turns more. done: those before; returned with these."""
    for turn in range(done, done + turns):
        for request in requests:
            for side in sides if turn % 2 else reversed(sides):
                side.time(request)
    return done + turns


def _both(sides: tuple[_Asked, _Asked], request: Golden, *, swapped: bool) -> tuple[Arrays | str, Arrays | str]:
    if swapped:
        other, one = sides[1].ask(request), sides[0].ask(request)
        return one, other
    return sides[0].ask(request), sides[1].ask(request)


class _Asked:
    """One side."""

    def __init__(self, client: PredictClient, ref: ModelRef, timeout: float, clock: Clock) -> None:
        self._client, self._ref, self._timeout, self._clock = client, ref, timeout, clock
        self._errors, self._seconds, self._first = list[str](), list[float](), list[float]()

    def ask(self, request: Golden) -> Arrays | str:
        """The answer, or why there is none."""
        try:
            answer, seconds = self._send(request)
        except _OWN as e:
            self._errors.append(e.message)
            return e.message
        self._first.append(seconds)
        return dict(answer)

    def time(self, request: Golden) -> None:
        """Ask again, only for the latency."""
        with suppress(*_OWN):
            self._seconds.append(self._send(request)[1])

    def _send(self, request: Golden) -> tuple[Prediction, float]:
        """The answer and its seconds; asked again if the server had no room: that says nothing about the version."""

        def attempt() -> tuple[Prediction, float]:
            began = self._clock.monotonic()
            answer = self._client.predict(self._ref, request.inputs, signature=request.signature,
                                          timeout=self._timeout)
            return answer, self._clock.monotonic() - began

        return patiently(attempt, Deadline(_PATIENCE, self._clock), most=_PAUSE)

    def result(self) -> CanarySide:
        return CanarySide(str(self._ref), tuple(self._errors), Timings(tuple(self._seconds or self._first)))


def _far_apart(pairs: Iterable[AnswerPair], limits: ComparePart) -> list[str]:
    """Outputs without a difference in numbers: beyond any deviation that is allowed. One sentence for each."""
    reasons: dict[str, str] = {}
    for pair in pairs:
        if limits.deviation is None or isinstance(pair.after, str):
            continue
        for name in pair.before.keys() & pair.after.keys():
            if why := _no_difference(pair.before[name], pair.after[name]):
                reasons.setdefault(f"{pair.signature}/{name}", why)
    return [f"{where} {why}; up to {limits.deviation:g} apart is allowed" for where, why in sorted(reasons.items())]


def _no_difference(before: Array, after: Array) -> str:
    if before.shape != after.shape:
        return f"has shape {list(after.shape)}, {list(before.shape)} before"
    if before.dtype.kind in "OSU" or after.dtype.kind in "OSU":
        return ""
    number = int(np.count_nonzero((np.isinf(before) | np.isinf(after)) & (before != after)))
    return f"is infinitely far apart in {number} of {before.size} values" if number else ""


def _problems(before: CanarySide, after: CanarySide, drift: AnswerDrift, limits: ComparePart, asked: int) -> list[str]:
    problems = []
    more = (len(after.errors) - len(before.errors)) / max(1, asked)
    if more > limits.errors:
        problems.append(f"{len(after.errors)} requests refused, {len(before.errors)} before: {after.errors[0]}")
    for output in drift.outputs:
        where = f"{output.signature}/{output.output}"
        if limits.deviation is not None and output.max > limits.deviation:
            problems.append(f"{where} is up to {output.max:.3g} apart, {limits.deviation:g} allowed")
        if output.decisions and output.flips / output.decisions > limits.flips:
            problems.append(f"{where} decides otherwise in {output.flips} of {output.decisions} rows, "
                            f"{limits.flips:.0%} allowed")
        if output.nan_after - output.nan_before > limits.nan:
            problems.append(f"{where} has {output.nan_after:.1%} NaN, {output.nan_before:.1%} before")
    if _slow(before, after, limits):
        slow, usual = after.timings.median, before.timings.median
        problems.append(f"the median request takes {slow * 1e3:.1f} ms, {usual * 1e3:.1f} ms before; "
                        f"{limits.latency:g} times that is allowed")
    return problems


def _slow(before: CanarySide, after: CanarySide, limits: ComparePart) -> bool:
    return _longer(before.timings.median, after.timings.median, limits)


def _unclear(before: CanarySide, after: CanarySide, limits: ComparePart) -> bool:
    """Whether the candidate may be slow, and it may be chance: some took long, but not nearly all."""
    (quick, usual, long), (fast, median, _) = (side.timings.percentiles((25, 50, 75)) for side in (before, after))
    slow = _longer(quick, fast, limits) or _longer(usual, median, limits)
    return slow and not (len(after.timings) >= _SOME and _longer(long, fast, limits))


def _longer(before: float, after: float, limits: ComparePart) -> bool:
    return after - before > _SLACK and after > limits.latency * before


def report_page(report: CanaryReport, title: str = "") -> str:
    """HTML that stands alone: what changed in the answers, how far, how fast, and what was refused."""
    sides = (report.before, report.after)
    curves = html.percentiles([(side.ref, side.timings.percentiles(range(100))) for side in sides],
                             lambda seconds: f"{seconds * 1e3:.1f} ms")
    latencies = html.table(("", "requests", "p50 ms", "p90 ms", "p99 ms"), [
        (side.ref, len(side.timings), *(f"{value * 1e3:.2f}" for value in side.timings.percentiles(_PERCENTS)))
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
