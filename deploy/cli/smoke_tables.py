"""A smoke test's report as a table for people at a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.smoke import Outcome, SmokeCheck, SmokeReport
from deploy.smoke.report import COLUMN, ROW, RPC

_COLUMNS = ("status", "contract", RPC, COLUMN, ROW, "agree", "address", "errors")
_ADDRESS = ("label", "label answers", "name alone")
_ERRORS = ("unknown version", "unknown model", "malformed request")


def smoke_table(report: SmokeReport) -> Group:
    """A line per version and label, then each failure in full, then why something was skipped or not run."""
    parts: list[Table | Text] = [_overview(report)]
    parts += [_failure(check) for check in report.failed]
    parts += [Text(reason, style="yellow") for reason in _reasons(report, Outcome.SKIPPED)]
    parts += [Text(reason, style="red") for reason in _reasons(report, Outcome.NOT_RUN)]
    return Group(*parts, Text(report.summary, style="green" if report.ok else "bold red"))


def _overview(report: SmokeReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what", overflow="fold")
    for name in (*_COLUMNS, "warm-up", "first/later gRPC", "first/later REST"):
        table.add_column(name, justify="right", overflow="fold")
    for subject in dict.fromkeys(check.subject for check in report.checks):
        checks = [check for check in report.checks if check.subject == subject]
        cells = [_cell([check for check in checks if _column(check) == name]) for name in _COLUMNS]
        times = [_latency(report, subject, protocol) for protocol in (RPC, "REST")]
        table.add_row(Text(subject), *cells, _warmup(report, subject), *times)
    return table


def _column(check: SmokeCheck) -> str:
    if check.name in ("status", "contract"):
        return check.name
    if check.name in _ADDRESS or check.name in _ERRORS:
        return "address" if check.name in _ADDRESS else "errors"
    if check.name.startswith("agreement"):
        return "agree"
    return COLUMN if check.protocol == "REST" else check.protocol


def _cell(checks: list[SmokeCheck]) -> Text:
    """`5`, `4 of 5`, or `skipped`."""
    asked = [check for check in checks if check.outcome is not Outcome.SKIPPED]
    passed = sum(check.ok is True for check in asked)
    if not asked:
        return Text("skipped" if checks else "", style="yellow")
    fine = passed == len(asked)
    return Text(f"{passed} ok" if fine else f"{passed} of {len(asked)}", style="green" if fine else "bold red")


def _warmup(report: SmokeReport, subject: str) -> Text:
    """`4 in 12 ms`, `none`, or nothing where the server doesn't tell."""
    for one in report.latencies:
        if f"{one.model}/{one.version}" == subject and one.warmed is not None:
            return Text(f"{one.warmed} in {one.warm_seconds * 1e3:.0f} ms" if one.warmed else "none")
    return Text("")


def _latency(report: SmokeReport, subject: str, protocol: str) -> Text:
    for one in report.latencies:
        if f"{one.model}/{one.version}" == subject and one.protocol == protocol:
            return Text(f"{one.first * 1e3:.1f}/{one.steady * 1e3:.1f} ms")
    return Text("")


def _failure(check: SmokeCheck) -> Text:
    text = Text(f"\n{check.subject}: {check.name} over {check.protocol}\n", style="bold red")
    for name, value in (("expected ", check.expected), ("seen     ", check.seen), ("reproduce", check.reproduce)):
        if value:
            text.append(f"  {name}  {value}\n", style="not bold default")
    return text


def _reasons(report: SmokeReport, outcome: Outcome) -> list[str]:
    """Each reason once, with the number of checks that it kept from being asked."""
    reasons: dict[tuple[str, str], int] = {}
    for check in report.checks:
        if check.outcome is outcome:
            key = (check.subject, check.seen)
            reasons[key] = reasons.get(key, 0) + 1
    return [f"{outcome.value} ({count}): {subject}: {why}" for (subject, why), count in reasons.items()]
