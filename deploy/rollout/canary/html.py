"""A comparison as a page: plain HTML and SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.rollout.canary.report import Report, Side

_BEFORE, _AFTER = "#4878a8", "#d07030"
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}.bad{color:#b00020}.good{color:#1b7a34}svg{width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:#555}"""


def page(report: Report, title: str) -> str:
    """The whole document."""
    verdict = "within the limits" if report.ok else "outside the limits"
    problems = "".join(f'<li class="bad">{escape(p)}</li>' for p in report.problems)
    errors = "".join(f"<li>{escape(e)}</li>" for e in report.after.errors[:20])
    return "\n".join([
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>',
        f"<h1>{escape(title)}</h1>",
        f'<p class="{"good" if report.ok else "bad"}"><b>{verdict}</b>: {escape(report.summary)}</p>',
        f"<ul>{problems}</ul>" if problems else "",
        "<h2>Answers</h2>", _answers(report), "<h2>Deviation</h2>",
        _bars([(f"{o.signature}/{o.output}", o.max, o.mean) for o in report.drift.outputs]),
        "<h2>Latency</h2>", _latencies(report.before, report.after), _curves(report.before, report.after),
        f"<h2>Refused</h2><ul>{errors}</ul>" if errors else "", "</html>\n"])


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def row(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(r, 'td') for r in rows)}</table>"


def _answers(report: Report) -> str:
    return _table(("output", "values", "changed", "largest", "mean", "decided otherwise", "NaN before", "NaN after"), [
        (f"{o.signature}/{o.output}", o.values, o.changed, f"{o.max:.4g}", f"{o.mean:.4g}",
         f"{o.flips} of {o.decisions}" if o.decisions else "–", f"{o.nan_before:.2%}", f"{o.nan_after:.2%}")
        for o in report.drift.outputs])


def _latencies(before: Side, after: Side) -> str:
    return _table(("", "requests", "p50 ms", "p90 ms", "p99 ms"), [
        (side.ref, len(side.seconds), *(f"{side.percentile(p) * 1e3:.2f}" for p in (50, 90, 99)))
        for side in (before, after)])


def _bars(outputs: Sequence[tuple[str, float, float]]) -> str:
    """Largest (light) and mean (dark) deviation of each output, each scaled to the largest of all."""
    top = max((largest for _, largest, _ in outputs), default=0.0)
    if not top:
        return "<p>None: all numbers are equal.</p>"
    parts = []
    for i, (name, largest, mean) in enumerate(outputs):
        y, wide = 26 * i, 380 * largest / top
        parts.append(f'<text x="0" y="{y + 16}">{escape(name)}</text>'
                     f'<rect x="260" y="{y + 4}" width="{wide:.1f}" height="16" fill="{_AFTER}" opacity=".35"/>'
                     f'<rect x="260" y="{y + 4}" width="{380 * mean / top:.1f}" height="16" fill="{_AFTER}"/>'
                     f'<text x="{266 + wide:.1f}" y="{y + 16}">{largest:.3g} (mean {mean:.3g})</text>')
    return f'<svg viewBox="0 0 800 {26 * len(outputs) + 4}" role="img">{"".join(parts)}</svg>'


def _curves(before: Side, after: Side) -> str:
    """Latency by percentile: 0 to 99."""
    top = max(before.percentile(99), after.percentile(99))
    if not top:
        return ""

    def curve(side: Side, colour: str, y: int) -> str:
        points = " ".join(f"{60 + 7 * p},{210 - 190 * side.percentile(p) / top:.1f}" for p in range(100))
        return (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                f'<text x="80" y="{y}" style="fill:{colour}">{escape(side.ref)}</text>')

    ticks = "".join(f'<text x="{60 + 7 * p}" y="228" text-anchor="middle">p{p}</text>' for p in (0, 25, 50, 75, 90, 99))
    return (f'<svg viewBox="0 0 800 240" role="img"><path d="M60 10V210H760" stroke="#999" fill="none"/>{ticks}'
            f'<text x="54" y="24" text-anchor="end">{top * 1e3:.1f} ms</text>'
            '<text x="54" y="212" text-anchor="end">0</text>'
            f"{curve(before, _BEFORE, 30)}{curve(after, _AFTER, 48)}</svg>")
