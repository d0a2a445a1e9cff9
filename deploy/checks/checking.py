"""From a path to a report: which rules apply to what lies there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy import savedmodel
from deploy.checks import files, report, rules, targets
from deploy.checks.report import Report
from deploy.checks.rules import RULES, Finding, Where
from deploy.checks.targets import Target
from deploy.errors import BadReply, IncompleteVersion
from deploy.files import reason

Gate = Callable[[Path], tuple[str, ...]]
"""Looks at a directory before it is published: raises if it mustn't be, returns what should be said of it."""

_SAVED_MODEL, _TFLITE = "saved_model.pb", "model.tflite"


def check(path: str | Path, target: Target | None = None, allow: Mapping[str, str] | None = None) -> Report:
    """Check a SavedModel directory, a .tflite file, or a Keras archive. TensorFlow isn't needed, nothing is run.

    target: the server that is to load it; by default that of a spec that names none.
    allow: rule -> why its findings are accepted.

    Raises IncompleteVersion if there is nothing that could be checked, ExportError for a Keras file that can't be read,
    SpecError for an allowance of an unknown rule. Findings don't raise: see Report.raise_if_refused.
    """
    path, target = Path(path), target or targets.default()
    allowed = rules.check_allowances(allow or {})
    if path.name == _SAVED_MODEL and path.is_file():
        path = path.parent
    try:
        found = list(_findings(path, target))
    except OSError as error:
        raise _unreadable(path, error) from error
    return report.make(str(path), str(target), found, allowed)


def gate(target: Target | None = None, allow: Mapping[str, str] | None = None) -> Gate:
    """`check` as a gate: raises CheckFailed where something refuses a directory, returns its warnings as sentences.

    A directory that isn't a whole SavedModel raises IncompleteVersion, as publishing it does, and one with nothing
    wrong but its warm-up file RepositoryError.
    """
    rules.check_allowances(allow or {})

    def decide(directory: Path) -> tuple[str, ...]:
        report = check(directory, target, allow)
        if any(finding.rule == "complete" for finding in report.findings):
            savedmodel.check_complete(directory)
        if {finding.rule for finding in report.findings if finding.refuses} == {"warm-up"}:
            _refuse_warmup(directory)
        report.raise_if_refused()
        return report.sentences()

    return decide


def _refuse_warmup(directory: Path) -> None:
    """Raises RepositoryError for the warm-up file, as publishing it does."""
    from deploy.goldens import warmup
    checked = warmup.check(directory, savedmodel.read(directory).contract)
    if checked is not None:
        checked.raise_if_refused()


def unrestored(directory: Path) -> list[str]:
    """What the rule of that name finds in a SavedModel: variables that requests use and that loading doesn't fill.

    Raises IncompleteVersion.
    """
    from deploy.checks import graph

    return sorted(place.node for place in graph.unrestored(graph.Graph(directory / _SAVED_MODEL, targets.default())))


def _findings(path: Path, target: Target) -> Iterator[Finding]:
    from deploy.checks import keras_archives

    if path.suffix == ".tflite" and path.is_file():
        yield from files.tflite_file(path, target)
    elif path.is_file() and (path.suffix.lower() in keras_archives.SUFFIXES or keras_archives.is_pickle(path)):
        yield from keras_archives.check(path)
    elif (path / _SAVED_MODEL).is_file():
        yield from _saved_model(path, target)
    elif (path / _TFLITE).is_file():
        yield from files.tflite_file(path / _TFLITE, target)
    else:
        raise _nothing(path)


def _saved_model(directory: Path, target: Target) -> Iterator[Finding]:

    file = directory / _SAVED_MODEL
    sized = list(files.size(file))
    yield from sized
    if not any(finding.severity is RULES["graph-size"].severity for finding in sized):
        yield from _graph(directory, file, target)
    if (directory / _TFLITE).is_file():  # served instead of the graph with --prefer_tflite_model
        yield from files.tflite_beside(directory, target)


def _graph(directory: Path, file: Path, target: Target) -> Iterator[Finding]:
    try:
        yield from _judged(directory, file, target)
    except (IncompleteVersion, BadReply) as error:  # a dtype that doesn't exist is a reply's error elsewhere
        yield RULES["complete"].found(error.message, Where(file=file.name))


def _judged(directory: Path, file: Path, target: Target) -> Iterator[Finding]:
    from deploy.checks import filenames, graph, loading, signatures
    from deploy.wire.contracts import contract_from_map

    read = graph.Graph(file, target)
    tags = frozenset(read.outline.graph.meta_info_def.tags)
    if tags != target.tags:
        yield RULES["serve-tag"].found(f"the server looks for a graph tagged {_listed(target.tags)}, and there is one "
                                       f"tagged {_listed(tags)}", Where(file=file.name))
    yield from files.complete(directory, read.outline)
    yield from files.inside(directory, read.outline)
    yield from files.encodings(directory, read.outline)
    contract = contract_from_map(read.outline.graph.signature_def)
    yield from signatures.check(contract, read.outline.graph, target, directory)
    yield from files.warm_up(directory, contract)
    yield from graph.check(read)
    yield from filenames.check(read)
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
