"""From a path to a report: which rules apply to what lies there, what is allowed; and the same as a gate."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy import savedmodel
from deploy.checks import files, graph, keras_archives, loading, rules, signatures, targets
from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.checks.targets import Target
from deploy.errors import BadReply, CheckFailed, IncompleteVersion
from deploy.files import reason
from deploy.goldens import warmup
from deploy.savedmodel import SavedModelInfo, reader, tflite
from deploy.wire.contracts import contract_from_map

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
                          hint=f"{first.fix}{allow}", id=first.rule,
                          details={"findings": [f.to_json() for f in self.findings]})

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


@dataclass(frozen=True, slots=True)
class Gate:
    """`check` in front of the repository: for one server, with what is allowed (rule: reason).

    further: other servers that are to load it, too.
    """

    target: Target
    allow: Mapping[str, str] = field(default_factory=dict)
    further: tuple[Target, ...] = ()

    def __call__(self, directory: Path) -> tuple[str, ...]:
        """Look at a directory before it is published: raises if it mustn't be, returns what should be said of it.

        Raises CheckFailed where something refuses the directory; IncompleteVersion, as publishing does, if it isn't a
        whole SavedModel; RepositoryError if nothing is wrong but its warm-up file.
        """
        judged = self.judge(directory)
        self.raise_if_refused(directory, judged)
        return judged.sentences()

    def judge(self, directory: Path) -> CheckReport:
        """What the rules say of the directory, and what it holds. Raises as `check` does."""
        return check(directory, self.target, self.allow, further=self.further)

    @staticmethod
    def raise_if_refused(directory: Path, judged: CheckReport) -> None:
        """Raises as `gate(directory)` does."""
        if any(finding.rule == "complete" for finding in judged.findings):
            savedmodel.check_complete(directory)
        if {finding.rule for finding in judged.findings if finding.refuses} == {"warm-up"} and judged.info:
            checked = warmup.check(directory, judged.info.contract)
            if checked is not None:
                checked.raise_if_refused()
        judged.raise_if_refused()


def gate(target: Target | None = None, allow: Mapping[str, str] | None = None, further: Iterable[Target] = ()) -> Gate:
    """The gate for a server, by default that of a spec that names none. Raises SpecError for an unknown rule."""
    return Gate(target or targets.default(), rules.check_allowances(allow or {}), tuple(further))


def check(path: str | Path, target: Target | None = None, allow: Mapping[str, str] | None = None, *,
          further: Iterable[Target] = ()) -> CheckReport:
    """Check a SavedModel directory, a .tflite file, or a Keras archive. TensorFlow isn't needed, nothing is run.

    target: the server that is to load it; by default that of a spec that names none. further: other servers that are
        to load it, too; what holds for several of them is found once.
    allow: rule -> why its findings are accepted.

    Raises IncompleteVersion if there is nothing that could be checked, ExportError for a Keras file that can't be read,
    SpecError for an allowance of an unknown rule. Findings don't raise: see CheckReport.raise_if_refused.
    """
    path, target = Path(path), target or targets.default()
    allowed = rules.check_allowances(allow or {})
    if path.name == reader.GRAPH and path.is_file():
        path = path.parent
    loaders = list(dict.fromkeys([target, *further]))
    try:
        examined = [_examined(path, loader) for loader in loaders]
    except OSError as error:
        raise _unreadable(path, error) from error
    findings = dict.fromkeys(finding for each, _ in examined for finding in each)
    named = " and ".join(dict.fromkeys(map(str, loaders)))
    return make(str(path), named, findings, allowed, examined[0][1])


def _examined(path: Path, target: Target) -> tuple[list[Finding], SavedModelInfo | None]:
    if path.suffix == ".tflite" and path.is_file():
        return list(files.tflite_file(path, target)), None
    if path.is_file() and (path.suffix.lower() in keras_archives.SUFFIXES or keras_archives.is_pickle(path)):
        return list(keras_archives.check(path)), None
    if (path / reader.GRAPH).is_file():
        return _saved_model(path, target)
    if savedmodel.tflite_alone(path):
        return _tflite_alone(path, target)
    raise _nothing(path)


def _tflite_alone(directory: Path, target: Target) -> tuple[list[Finding], SavedModelInfo | None]:
    findings = list(files.tflite_file(directory / tflite.FILE, target))
    if any(finding.rule == "complete" for finding in findings):
        return findings, None
    if not target.prefers_tflite:
        findings.append(RULES["tflite-alone"].found("it holds model.tflite and no saved_model.pb: only a "
                                                    "server with --prefer_tflite_model loads it",
                                                    Where(file=tflite.FILE)))
    try:
        info = savedmodel.read(directory)
    except IncompleteVersion as error:
        return [*findings, RULES["complete"].found(error.message, Where(file=tflite.FILE))], None
    return [*findings, *files.links(directory), *files.warm_up(directory, info.contract)], info


def _saved_model(directory: Path, target: Target) -> tuple[list[Finding], SavedModelInfo | None]:
    file, info = directory / reader.GRAPH, None
    findings = list(files.size(file))
    if not any(finding.severity is RULES["graph-size"].severity for finding in findings):
        try:
            read = graph.Graph(file, target)
            for finding in _judged(directory, read):
                findings.append(finding)
            info = reader.described(directory, read.file, read.outline)
        except (IncompleteVersion, BadReply) as error:  # a dtype that doesn't exist is a reply's error elsewhere
            findings.append(RULES["complete"].found(error.message, Where(file=file.name)))
    if (directory / tflite.FILE).is_file():  # served instead of the graph with --prefer_tflite_model
        findings += files.tflite_beside(directory, target)
    return findings, info


def _judged(directory: Path, read: graph.Graph) -> Iterator[Finding]:
    tags = frozenset(read.outline.graph.meta_info_def.tags)
    if tags != read.target.tags:
        yield RULES["serve-tag"].found(f"the server looks for a graph tagged {_listed(read.target.tags)}, and there is "
                                       f"one tagged {_listed(tags)}", Where(file=read.file.path.name))
    yield from files.check(directory, read.outline)
    contract = contract_from_map(read.outline.graph.signature_def)
    yield from signatures.check(contract, read.outline.graph, read.target, directory)
    yield from files.warm_up(directory, contract)
    yield from graph.check(read)
    yield from files.touched(read)
    yield from loading.check(read)


def _unreadable(path: Path, error: OSError) -> IncompleteVersion:
    where = os.fsdecode(error.filename) if error.filename else str(path)
    return IncompleteVersion(f"{where} can't be read: {reason(error)}",
                             hint="name a model that this user may read, with nothing in it but its files")


def _listed(tags: frozenset[str]) -> str:
    return ", ".join(sorted(tags)) or "with nothing"


def _nothing(path: Path) -> IncompleteVersion:
    """Why there is nothing to check."""
    try:
        savedmodel.check_complete(path)
    except IncompleteVersion as error:
        return error
    return IncompleteVersion(f"{path} holds nothing that can be checked")
