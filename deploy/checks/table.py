"""A report for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.checks.rules import Finding, Severity

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.checks.report import Report

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def table(report: Report, *, notes: bool = True) -> Table:
    """One line for each finding: what, where, and what to do or why it is allowed."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=f"{report.path}, for {report.target}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                 show_edge=False)
    for column in ("", "rule", "where", "what", "what to do"):
        made.add_column(column, overflow="fold")
    for finding in report.shown(notes=notes):
        label, style = ("allowed", "green") if finding.allowed is not None else \
            (finding.severity.value, _STYLES[finding.severity])
        made.add_row(Text(label, style=style), finding.rule, Text(_one(str(finding.where))),
                     Text(_one(finding.message)), Text(_advice(finding)))
    return made


def _one(text: str) -> str:
    """A name of the model's makes no lines of its own in the table."""
    return text.replace("\n", "\\n")


def _advice(finding: Finding) -> str:
    return finding.fix if finding.allowed is None else f"allowed: {finding.allowed}"
