"""All findings about one model, with what is allowed, for people and for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deploy.checks.rules import RULES, Finding, Severity
from deploy.errors import CheckFailed
from deploy.savedmodel import SavedModelInfo

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the checks say of the model at `path`, for the server `target`.

    findings: the worst first. unused: allowed rules that found nothing.
    info: what the SavedModel holds, as it was read for this; None for other files, and for a graph that can't be read.
    """

    path: str
    target: str
    findings: tuple[Finding, ...]
    unused: tuple[str, ...] = ()
    info: SavedModelInfo | None = field(default=None, compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """Nothing refuses it."""
        return not self._refusing(strict=False)

    def accepted(self, *, strict: bool = False) -> bool:
        """`ok`; with `strict`, there is no warning either that isn't allowed."""
        return not self._refusing(strict)

    def shown(self, *, notes: bool = True) -> list[Finding]:
        """The findings, perhaps without notes."""
        return [finding for finding in self.findings if notes or finding.severity is not Severity.NOTE]

    def raise_if_refused(self, *, strict: bool = False) -> None:
        """Raises CheckFailed if there is an error (with `strict`: or a warning) that isn't allowed."""
        refusing = self._refusing(strict)
        if not refusing:
            return
        first = refusing[0]
        place = f" ({first.where})" if str(first.where) else ""
        more = f", and {len(refusing) - 1} more" if len(refusing) > 1 else ""
        allow = "" if RULES[first.rule].fixed else f"; or allow it with a reason: --allow {first.rule}=\"why\""
        raise CheckFailed(f"{self.path} is refused: {first.rule}: {first.message}{place}{more}",
                          hint=f"{first.fix}{allow}", details={"findings": [f.to_json() for f in self.findings]})

    def sentences(self) -> tuple[str, ...]:
        """What should be said of a model that isn't refused: warnings, and what is allowed with its reason."""
        return tuple(f"{f.rule}: {f.message}{f' ({f.where})' if str(f.where) else ''}"
                     f"{'' if f.allowed is None else f'; allowed: {f.allowed}'}" for f in self.shown(notes=False))

    def _refusing(self, strict: bool) -> list[Finding]:
        return [finding for finding in self.shown(notes=False)
                if finding.refuses or (strict and finding.allowed is None)]

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"path": self.path, "target": self.target, "ok": self.ok, "unused_allowances": list(self.unused),
                "findings": [finding.to_json() for finding in self.findings]}


def make(path: str, target: str, all_findings: Iterable[Finding], allow: Mapping[str, str],
         info: SavedModelInfo | None = None) -> CheckReport:
    """A report in which what `allow` (rule: reason) names is allowed."""
    findings = sorted((dataclasses.replace(finding, allowed=allow.get(finding.rule)) for finding in all_findings),
                      key=_rank)
    unused = tuple(sorted(allow.keys() - {finding.rule for finding in findings}))
    return CheckReport(path, target, tuple(findings), unused, info)


def _rank(finding: Finding) -> tuple[bool, int, int, str]:
    place = list(RULES).index(finding.rule)
    return finding.allowed is not None, _ORDER[finding.severity], place, str(finding.where)
