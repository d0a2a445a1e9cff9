"""How far answers have drifted, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.cli.escaping import line
from deploy.cli.options import table

if TYPE_CHECKING:
    from deploy.goldens.drift import Drift


def drift_table(drift: Drift) -> object:
    """Deviations by output, then what was refused or isn't within the tolerance."""
    from rich.console import Group
    from rich.text import Text

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
