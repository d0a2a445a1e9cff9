"""Tables for people at a terminal: signatures, findings of a check, answers that were asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.cli.escaping import line
from deploy.cli.options import table

if TYPE_CHECKING:
    from deploy.checks import CheckReport, Finding
    from deploy.goldens.compare import AnswerDrift
    from deploy.types import Contract

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check_table(report: CheckReport, *, notes: bool = True) -> Table:
    """One line for each finding: what, where, and what to do or why it is allowed."""
    shown = table(f"{report.path}, for {report.target}", "", "rule", "where", "what", "what to do")
    for finding in report.shown(notes=notes):
        label, style = ("allowed", "green") if finding.allowed is not None else \
            (finding.severity.value, _STYLES[finding.severity.value])
        shown.add_row(Text(label, style=style), finding.rule, Text(_one(str(finding.where))),
                      Text(_one(finding.message)), Text(_advice(finding)))
    return shown


def _one(text: str) -> str:
    """A name of the model's makes no lines of its own in the table."""
    return text.replace("\n", "\\n")


def _advice(finding: Finding) -> str:
    return finding.fix if finding.allowed is None else f"allowed: {finding.allowed}"


def drift_table(drift: AnswerDrift) -> Group:
    """Deviations by output, then what was refused or isn't within the tolerance."""
    shown = table("", "signature", "output", ">cases", ">max", ">mean", ">changed", ">argmax flips", ">NaN before",
                  ">NaN now", "")
    for o in drift.outputs:
        flips = f"{o.flips} of {o.decisions}" if o.decisions else "-"
        shown.add_row(line(o.signature), line(o.output), str(o.cases), f"{o.max:.3g}", f"{o.mean:.3g}",
                      f"{o.changed} of {o.values}", flips, f"{o.nan_before:.1%}", f"{o.nan_after:.1%}",
                      "within" if o.within else Text("outside", style="bold red"))
    lines = [Text(f"refused: {line(text)}") for text in drift.refused[:5]]
    lines += [Text(line(f"{o.signature}: {o.outside[0]}")) for o in drift.outputs if o.outside]
    return Group(shown, *lines)


def signatures_table(contract: Contract) -> Table:
    """Signatures with their inputs and outputs, one line per tensor."""
    shown = table("", "signature", "method", "inputs", "outputs")
    for signature in contract.values():
        shown.add_row(Text(line(signature.name)), line(signature.method_name.rpartition("/")[2]),
                      Text("\n".join(line(str(spec)) for spec in signature.inputs) or "none"),
                      Text("\n".join(line(str(spec)) for spec in signature.outputs)))
    return shown
