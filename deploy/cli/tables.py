"""What people see at a terminal: a console that nobody else's codes get through, and tables of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from deploy.cli.escaping import Escaping, line, printable
from deploy.cli.options import table

if TYPE_CHECKING:
    from deploy.checks import CheckReport, Finding
    from deploy.goldens.drift import AnswerDrift
    from deploy.types import Contract

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


class SafeConsole(Console):
    """Prints text as it is, without markup; what steers a terminal comes from styles only."""

    def __init__(self, stream: TextIO, width: int | None) -> None:
        raw = stream.stream if isinstance(stream, Escaping) else stream
        super().__init__(file=raw, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does, with the text of each segment escaped."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else printable(segment.text)
            yield segment if safe == segment.text else Segment(safe, segment.style)


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
