"""What is exported, saved into the stage and judged by the gate: an object, or one of the sources that are files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from deploy.checks import CheckReport, Gate
from deploy.errors import ExportError
from deploy.export import graph_size, judging, saving, signatures
from deploy.export.options import Exportable, FrozenGraph, SavedModelDirectory, SignatureFunction
from deploy.export.recipes.parsing import read as read_recipes
from deploy.export.recipes.recipe import apply as apply_recipes
from deploy.export.sources import callables, frozen_graphs, saved_models, sessions, tflite_files
from deploy.savedmodel import SavedModelInfo
from deploy.savedmodel.recipes import RecipeRecord
from deploy.types import Contract

Progress = Callable[[str], None]
Copied = Callable[[int, int], None]

_SAVED_AGAIN = "it was saved again: as it stood, loading it doesn't restore its variables ({}, ...), and a server " \
    "fails every request; tf.saved_model.save does that to Keras 3 models"
_LOADING = "loading it with TensorFlow"


@dataclass(frozen=True, slots=True)
class Staging:
    """Where it is saved, and by whom it is judged. say: called with each step. copied: with bytes done and in all."""

    directory: Path
    gate: Gate
    say: Progress
    copied: Copied | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What stands in the stage. live: the signatures whose own answers are the truth; none for what was saved before.
    """

    info: SavedModelInfo
    producer: Mapping[str, str]
    notes: tuple[str, ...] = ()
    live: Mapping[str, SignatureFunction] = field(default_factory=dict)
    recipes: tuple[RecipeRecord, ...] = ()


def saved(source: Exportable, to: Staging) -> Saved:
    """Save it. source: with the object, the SavedModelDirectory, the FrozenGraph, or the Path of a TFLite model.

    Raises ExportError, RepositoryError, and as the gate does.
    """
    if isinstance(source.model, SavedModelDirectory):
        return _published_directory(source, source.model, to)
    if isinstance(source.model, FrozenGraph):
        to.say(_LOADING)
        _refuse(source, source.model.path, "signatures", "output_names", "recipes")
        frozen_graphs.write(source.model, source.inputs, to.directory, to.gate.target.tags)
        return _in_place(to)
    if isinstance(source.model, Path):
        return _tflite(source, source.model, to)
    return _object(source, to)


def _tflite(source: Exportable, origin: Path, to: Staging) -> Saved:
    """A TFLite file, or a version that consists of one, copied as it is; its own answers are recorded."""
    tflite_files.check_options(source, origin)
    if origin.is_file():
        notes = tflite_files.place(origin, to.directory, source.output_names)
        result = _in_place(to)
        return replace(result, notes=(*notes, *result.notes))
    _refuse(source, origin, "output_names")
    before = saving.state(origin)
    result = _copied(origin, to, _judged(origin, to))
    _check_unchanged(origin, before)
    return result


def _object(source: Exportable, to: Staging, methods: Mapping[str, str] | None = None) -> Saved:
    """A Python object, saved. methods: signature -> method name, where the object lost it."""
    around = read_recipes(source.recipes or ())
    own = replace(source, examples=None) if around else source  # which are for the recipes, and don't say its inputs
    endpoints = [replace(each, method_name=(methods or {}).get(each.name, each.method_name))
                 for each in signatures.find(own)]
    with tempfile.TemporaryDirectory(prefix="tfs-recipes-") as scratch:
        endpoints = apply_recipes(around, endpoints, Path(scratch))
        to.say(f"tracing {', '.join(each.name for each in endpoints)}")
        functions = [saving.trace(each) for each in endpoints]
        graph_size.check(functions)
        to.say("saving")
        saving.save(endpoints, functions, to.directory)
    to.say("checking what was saved")
    info, notes = judging.accepted(to.gate, to.directory)
    producer = {"tensorflow": info.producer.tensorflow, "keras": _version("keras")}
    return Saved(info, producer, (*(note for each in endpoints for note in each.notes), *notes),
                 {each.name: each for each in endpoints}, tuple(each.record for each in around))


def _published_directory(source: Exportable, asked: SavedModelDirectory, to: Staging) -> Saved:
    """A SavedModel directory; its own answers are recorded."""
    origin, before = asked.path, saving.state(asked.path)
    change = saved_models.changes(asked, to.gate.target.tags)
    if not change:
        report = _judged(origin, to)
        if report.info and not report.info.contract:
            return _called(source, origin, to)
        _refuse(source, origin, "inputs", "signatures", "output_names")
        lost = judging.unrestored(report) if report.info else ""
        if source.recipes and not lost:
            judging.accept(to.gate, origin, report)
        if report.info and (lost or source.recipes):
            return _saved_again(source, origin, to, contract=report.info.contract, lost=lost)
        result = _copied(origin, to, report)
    else:
        _refuse(source, origin, "inputs", "signatures", "output_names", "recipes")
        notes = _changed(asked, change, to)
        result = _in_place(to)
        result = replace(result, notes=(*notes, *result.notes))
    _check_unchanged(origin, before)
    return result


def _check_unchanged(origin: Path, before: object) -> None:
    if saving.state(origin) != before:
        raise ExportError(f"{origin} was changed while it was exported", hint="export it when nobody writes to it",
                          id="model-changed")


def _changed(asked: SavedModelDirectory, change: saved_models.Changes, to: Staging) -> tuple[str, ...]:
    """The directory with its changes, and sentences about them."""
    if change.session:
        to.say(_LOADING)
        sessions.save_with_restore(asked.path, change, to.directory)
        return change.notes
    _copy(asked.path, to)
    if change.text:
        to.say(_LOADING)
        sessions.to_binary(to.directory)
        change = saved_models.changes(replace(asked, path=to.directory), to.gate.target.tags)
    if change:
        saved_models.apply(change, to.directory)
    return change.notes


def _judged(origin: Path, to: Staging) -> CheckReport:
    to.say("checking it")
    return to.gate.judge(origin)


def _copy(origin: Path, to: Staging) -> None:
    to.say("copying it")
    saving.copy(origin, to.directory, to.copied)


def _copied(origin: Path, to: Staging, report: CheckReport) -> Saved:
    """As it is."""
    info, notes = judging.accept(to.gate, origin, report)
    _copy(origin, to)
    return Saved(info.moved(to.directory), _producer(info), notes)


def _in_place(to: Staging) -> Saved:
    to.say("checking what was saved")
    info, notes = judging.accepted(to.gate, to.directory)
    return Saved(info, _producer(info), notes)


def _producer(info: SavedModelInfo) -> dict[str, str]:
    """TensorFlow's version; none for a TFLite model, which has no graph that would be tagged."""
    return {"tensorflow": info.producer.tensorflow} if info.producer.tensorflow else {}


def _called(source: Exportable, origin: Path, to: Staging) -> Saved:
    """A directory without signatures: the call of its object becomes one."""
    to.say(_LOADING)
    model = callables.load(origin, to.gate.target.tags)
    return _object(callables.called(source, model, origin), to)


def _saved_again(source: Exportable, origin: Path, to: Staging, *, contract: Contract, lost: str = "") -> Saved:
    """TensorFlow's Python loader finds all variables, so what it loads is saved as an object."""
    to.say(_LOADING)
    model = callables.load(origin, to.gate.target.tags)
    methods = {signature.name: signature.method_name for signature in contract.values()}
    again = _object(replace(source, model=model), to, methods)
    return replace(again, notes=(_SAVED_AGAIN.format(lost), *again.notes)) if lost else again


def _refuse(source: Exportable, origin: Path, *names: str) -> None:
    """What can't be said of something that is saved already. Raises ExportError."""
    if given := [name for name in names if getattr(source, name) is not None]:
        hint = "export the model object instead" if given[0] != "recipes" else \
            "publish it without, and export that version with them"
        raise ExportError(f"{given[0]} can't be changed in {origin}, which is saved already", hint=hint,
                          id="tflite-unchangeable")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
