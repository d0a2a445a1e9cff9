"""From a live object, a file or a SavedModel to a published version: save, judge, prove, publish."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from deploy import checks, goldens
from deploy.checks import Gate
from deploy.errors import ExportError, SpecError
from deploy.export import failures, judging, parity, processes, quiet, saving, signatures, targets, tflite
from deploy.export.examples import loaded
from deploy.export.options import Exportable, OutputNames, Recording, SignatureFunction, TFLite
from deploy.export.parity import Parity, Proof
from deploy.export.recipes.parsing import read as read_recipes
from deploy.export.recipes.recipe import apply as apply_recipes
from deploy.export.sources import tflite_files
from deploy.export.tflite import Sibling
from deploy.naming import check_name
from deploy.repository import Repository, VersionStage
from deploy.savedmodel import SavedModelInfo, tflite_alone
from deploy.savedmodel.recipes import RecipeRecord
from deploy.savedmodel.tflite import FILE
from deploy.types import Contract, ModelVersion
from deploy.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

Progress = Callable[[str], None]
Copied = Callable[[int, int], None]

_SAVED_AGAIN = "it was saved again: as it stood, loading it doesn't restore its variables ({}, ...), and a server " \
    "fails every request; tf.saved_model.save does that to Keras 3 models"


@dataclass(frozen=True, slots=True)
class Exported:
    """A version that was published, and what is known of it.

    goldens: recorded calls inside the version. notes: names and dtypes that were derived, and what isn't proven.
    seconds: what it took. tflite: the TFLite model beside the SavedModel, if one was asked for.
    """

    model_version: ModelVersion
    path: Path
    contract: Contract
    goldens: int
    parity: Parity
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    tflite: Sibling | None = None

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"model": self.model_version.name, "version": self.model_version.version, "path": str(self.path),
                "contract": self.contract.to_json(), "goldens": self.goldens, "parity": self.parity.to_json(),
                "notes": list(self.notes), "seconds": round(self.seconds, 3),
                "tflite": self.tflite.to_json() if self.tflite else None}


class Fields(TypedDict, total=False):
    """The fields of Exportable, Recording and TFLite (its limit), as keywords of `export_model`."""

    inputs: object
    signatures: Mapping[str, object] | None
    output_names: OutputNames | None
    custom_objects: Mapping[str, object] | Sequence[str] | None
    recipes: Sequence[object] | None
    examples: object
    batch_sizes: Sequence[int] | None
    tolerance: object
    timeout: float | None
    tflite_limit: float | None


_OF_MODEL = ("inputs", "signatures", "output_names", "custom_objects", "recipes")
_OF_RECORDING = ("examples", "batch_sizes", "tolerance", "timeout")


@dataclass(frozen=True, slots=True)
class _Saved:
    """What stands in the stage. live: the signatures whose own answers are the truth; none for a copy."""

    info: SavedModelInfo
    producer: Mapping[str, str]
    notes: tuple[str, ...] = ()
    live: Mapping[str, SignatureFunction] = field(default_factory=dict)
    recipes: tuple[RecipeRecord, ...] = ()


def export_model(model: object, repository: Repository | str | Path, name: str | None = None,
                 version: int | None = None, *, recording: Recording | None = None, tflite: TFLite | str | None = None,
                 gate: Gate | None = None, progress: Progress | None = None, copied: Copied | None = None,
                 **fields: Unpack[Fields]) -> Exported:
    """Publish `model` as a version of `name`, after its saved form has answered like the object itself.

    model: a Keras model; a tf.Module or another trackable with tf.functions; a tf.function; a function of tensors;
        Predict, Classify or Regress; what `load_target` takes: a .keras or .h5 file, a SavedModel directory or .tflite
        file (copied as it is), `pkg.module:attribute`; or an Exportable with one of these and what its signatures look
        like.
    repository: a Repository or its root directory, which is made if there is none.
    name: by default the file's; for objects it has to be given. version: by default the next free number.
    recording: examples and tolerances: what is proven and recorded; by default generated ones.
    tflite: also write model.tflite into the version; a TFLite or only its mode.
    gate: looks at what was saved before it is proven and published; by default checks.gate(), without allowances.
    progress: called with a line for each step. copied: with bytes done and bytes in all, where files are copied, and
        where they are hashed and made durable.
    fields: those of Exportable (inputs, signatures, output_names, custom_objects, recipes) and Recording (examples,
        batch_sizes, tolerance, timeout) can be given directly, and so can TFLite's limit as tflite_limit. What is said
        here wins over what a builder's Exportable says.

    Raises ExportError if the model can't be served, CheckFailed if the gate refuses it, ParityError if its saved form
    answers differently, RepositoryError, SpecError for a name or version that isn't valid. Then nothing is published.
    """
    started, say = time.monotonic(), progress or _silent
    recording, tflite = _recording(recording, fields), _tflite(tflite, fields)
    name = check_name(_name(name, model))
    repository = Repository(repository) if isinstance(repository, str | Path) else repository
    if version is not None:
        repository.check_free(name, version)  # before somebody trains for it
    recording = replace(recording, examples=loaded(recording.examples))
    say(targets.loading(model.model if isinstance(model, Exportable) else model))
    source = targets.resolve(_exportable(model, fields))
    if recording.examples is None:
        recording = replace(recording, examples=loaded(source.examples))
    source = replace(source, examples=recording.examples)
    gate = gate or checks.gate()
    shown = str(source.model) if isinstance(source.model, Path) else f"the model {name!r}"
    with processes.Replay(recording.timeout) as replay, repository.stage(name, version) as stage, \
            failures.renamed(stage.path, shown):
        saved = _copied(source, source.model, stage.path, gate, say, copied=copied) if isinstance(source.model, Path) \
            else _saved(source, stage.path, gate, say)
        say("asking the saved model in a fresh process")
        proof = parity.prove(stage.path, saved.info, saved.live, replay, recording)
        sibling = _sibling(stage.path, saved, proof, tflite, say)
        say("publishing")
        return _published(stage, saved, proof, sibling, recording=recording, started=started, copied=copied)


def _saved(source: Exportable, directory: Path, gate: Gate, say: Progress,
           methods: Mapping[str, str] | None = None) -> _Saved:
    """A Python object, saved. methods: signature -> method name, where the object lost it."""
    around = read_recipes(source.recipes or ())
    own = replace(source, examples=None) if around else source  # which are for the recipes, and don't say its inputs
    endpoints = [replace(each, method_name=(methods or {}).get(each.name, each.method_name))
                 for each in signatures.find(own)]
    with tempfile.TemporaryDirectory(prefix="tfs-recipes-") as scratch:
        endpoints = apply_recipes(around, endpoints, Path(scratch))
        say(f"tracing {', '.join(each.name for each in endpoints)}")
        functions = [saving.trace(each) for each in endpoints]
        say("saving")
        saving.save(endpoints, functions, directory)
    say("checking what was saved")
    info, notes = judging.accepted(gate, directory)
    producer = {"tensorflow": info.producer.tensorflow, "keras": _version("keras")}
    return _Saved(info, producer, (*(note for each in endpoints for note in each.notes), *notes),
                  {each.name: each for each in endpoints}, tuple(each.record for each in around))


def _copied(source: Exportable, origin: Path, directory: Path, gate: Gate, say: Progress, *,
            copied: Copied | None) -> _Saved:
    """A SavedModel directory or a TFLite file, copied as it is; its own answers are recorded."""
    if origin.is_file():
        tflite_files.check_options(source, origin)
        named = tflite_files.place(origin, directory, source.output_names)
        info, notes = judging.accepted(gate, directory)
        return _Saved(info, {}, (*named, *notes))
    given = [key for key in ("inputs", "signatures", "output_names") if getattr(source, key) is not None]
    if given:
        raise ExportError(f"{given[0]} can't be changed in {origin}, which is saved already",
                          hint="export the model object instead")
    before = saving.state(origin)
    say("checking it")
    report = gate.judge(origin)
    lost = judging.unrestored(report) if report.info else ""
    if source.recipes and not lost:
        judging.accept(gate, origin, report)
    if report.info and (lost or source.recipes):
        return _saved_again(source, origin, directory, gate, say, contract=report.info.contract, lost=lost)
    info, notes = judging.accept(gate, origin, report)
    say("copying it")
    saving.copy(origin, directory, copied)
    if saving.state(origin) != before:
        raise ExportError(f"{origin} was changed while it was exported", hint="export it when nobody writes to it")
    return _Saved(info.moved(directory), {"tensorflow": info.producer.tensorflow} if info.tags else {}, notes)


def _saved_again(source: Exportable, origin: Path, directory: Path, gate: Gate, say: Progress, *, contract: Contract,
                 lost: str = "") -> _Saved:
    """TensorFlow's Python loader finds all variables, so what it loads is saved as an object."""
    tf = quiet.tensorflow()
    say("loading it with TensorFlow")
    try:
        with quiet.muted():
            model = tf.saved_model.load(str(origin))
    except Exception as error:
        raise failures.user_error(f"loading {origin}", error, "export the model object instead") from error
    methods = {signature.name: signature.method_name for signature in contract.values()}
    saved = _saved(replace(source, model=model), directory, gate, say, methods)
    return replace(saved, notes=(_SAVED_AGAIN.format(lost), *saved.notes)) if lost else saved


def _sibling(directory: Path, saved: _Saved, proof: Proof, asked: TFLite | None, say: Progress) -> Sibling | None:
    if asked is None:
        return None
    if tflite_alone(directory):
        raise ExportError("the model is a TFLite model already", hint="export it without --tflite")
    say(f"converting to TFLite ({asked.mode})")
    left_out = {name: each.no_tflite for name, each in saved.live.items() if each.no_tflite}
    return tflite.convert(directory, saved.info.contract, proof.cases, asked.mode, directory / FILE, limit=asked.limit,
                          left_out=left_out)


def _published(stage: VersionStage, saved: _Saved, proof: Proof, sibling: Sibling | None, *, recording: Recording,
               started: float, copied: Copied | None) -> Exported:
    info, limits = saved.info, sibling.tolerances(proof.parity.tolerances) if sibling else {}
    kept = [case for case in proof.cases if sibling is None or case.signature in sibling.served]
    if proof.cases:
        (stage.path / goldens.FILE).unlink(missing_ok=True)
    if kept:
        goldens.write(stage.path, kept, stage.model)
    if not info.describes(stage.path):
        raise ExportError("the model was changed after it was checked", hint="let nobody write to the repository")
    published = stage.publish(producer={"tfs_deploy": __version__, **saved.producer}, goldens=len(kept), info=info,
                              tolerances=parity.describe(proof.parity.tolerances),
                              tflite_tolerances=parity.describe(limits), recipes=saved.recipes, progress=copied)
    notes = (*saved.notes, *proof.notes, *(sibling.notes(info.contract, recording.examples) if sibling else ()))
    if sibling:
        sibling = replace(sibling, path=published.path / sibling.path.name)
    return Exported(published.mv, published.path, published.manifest.contract, len(kept), proof.parity,
                    tuple(dict.fromkeys(notes)),  # a model in two signatures says the same twice
                    time.monotonic() - started, sibling)


def _exportable(model: object, fields: Fields) -> Exportable:
    """The model with what the caller says of it, which wins."""
    if unknown := sorted(fields.keys() - Fields.__annotations__.keys()):
        raise TypeError(f"export_model() got an unexpected keyword argument {unknown[0]!r}")
    own = Exportable(None, **_chosen(fields, _OF_MODEL))
    return own.filled(model if isinstance(model, Exportable) else Exportable(model))


def _recording(given: Recording | None, fields: Fields) -> Recording:
    own = _chosen(fields, _OF_RECORDING)
    if given is not None and own:
        raise SpecError(f"{next(iter(own))} is given beside recording", hint=f"say Recording({next(iter(own))}=...)")
    return given or Recording(**own)


def _tflite(given: TFLite | str | None, fields: Fields) -> TFLite | None:
    limit = fields.get("tflite_limit")
    if limit is not None and not isinstance(given, str):
        raise SpecError("tflite_limit is given without the mode's name", hint="say tflite=TFLite('int8', limit=...)")
    return TFLite(given, limit) if isinstance(given, str) else given


def _chosen(fields: Fields, names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key in names and value is not None}


def _name(name: str | None, model: object) -> str:
    model = model.model if isinstance(model, Exportable) else model
    if name is not None:
        return name
    if isinstance(model, str | Path):
        return targets.default_name(model)
    raise SpecError(f"no name is given for the {type(model).__name__}",
                    hint="export_model(model, repository, 'my_model')")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _silent(_: str) -> None:
    """Progress that nobody asked for."""
