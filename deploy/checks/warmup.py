"""The rule about a version's warm-up requests, which the server replays when it loads the version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploy.checks.findings import Finding, Where
from deploy.checks.rules import RULES
from deploy.goldens import warmup
from deploy.goldens.recorded import FILE
from deploy.types import Contract


def check(directory: Path, contract: Contract) -> Iterator[Finding]:
    """One finding: the first thing that a server refuses, or mustn't do."""
    checked = warmup.check(directory, contract)
    fatal = [problem for problem in checked.problems if problem.fatal] if checked else []
    if fatal:
        more = f"; and {len(fatal) - 1} more" if len(fatal) > 1 else ""
        yield RULES["warm-up"].found(f"{fatal[0]}{more}", Where(file=str(FILE)))
