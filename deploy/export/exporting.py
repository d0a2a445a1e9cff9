"""From a live object, a file or a SavedModel to a published version: save, judge, prove, publish."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from deploy import checks, goldens
from deploy.checks import Gate
from deploy.errors import ExportError, RepositoryError, SpecError
from deploy.export import failures, parity, processes, registries, staging, targets, tflite
from deploy.export.examples import loaded
from deploy.export.options import Exportable, FrozenGraph, OutputNames, Recording, SavedModelDirectory, TFLite
from deploy.export.parity import Parity, Proof
from deploy.export.staging import Copied, Progress, Saved
from deploy.export.tflite import Sibling
from deploy.naming import check_name
from deploy.repository import Repository, VersionStage
from deploy.savedmodel import tflite_alone
from deploy.savedmodel.tflite import FILE
from deploy.types import Contract, ModelVersion
from deploy.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Unpack

@dataclass(frozen=True, slots=True)
class Exported:
    """A version that was published, and what is known of it.

    where: for people; local: its directory, None if the repository isn't on this machine.
    goldens: recorded calls inside the version. notes: names and dtypes that were derived, and what isn't proven.
    seconds: what it took. tflite: the TFLite model beside the SavedModel, if one was asked for.
    """

    model_version: ModelVersion
    where: str
    local: Path | None
    contract: Contract
    goldens: int
    parity: Parity
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    tflite: Sibling | None = None

    @property
    def path(self) -> Path:
        """Its directory. Raises RepositoryError if it isn't on this machine."""
        if self.local is None:
            raise RepositoryError(f"{self.model_version} is in {self.where}, not on this machine",
                                  hint="see `tfs pull`")
        return self.local

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"model": self.model_version.name, "version": self.model_version.version, "path": self.where,
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


def export_model(model: object, repository: Repository | str | Path, name: str | None = None,
                 version: int | None = None, *, recording: Recording | None = None, tflite: TFLite | str | None = None,
                 gate: Gate | None = None, producer: Mapping[str, str] | None = None, progress: Progress | None = None,
                 copied: Copied | None = None, **fields: Unpack[Fields]) -> Exported:
    """Publish `model` as a version of `name`, after its saved form has answered like the object itself.

    model: a Keras model; a tf.Module or another trackable with tf.functions; a tf.function; a function of tensors;
        Predict, Classify or Regress; what `load_target` takes: a .keras or .h5 file, a SavedModel directory or .tflite
        file (copied as it is), a frozen graph, `pkg.module:attribute`, `mlflow:models:/name@alias`;
        or an Exportable with one of these and what its signatures look like.
    repository: a Repository or its root directory, which is made if there is none.
    name: by default the file's; for objects it has to be given. version: by default the next free number.
    recording: examples and tolerances: what is proven and recorded; by default generated ones.
    tflite: also write model.tflite into the version; a TFLite or only its mode.
    gate: looks at what was saved before it is proven and published; by default checks.gate(), without allowances.
    producer: where it came from, for the manifest; the toolkit adds versions of its own and of TensorFlow.
    progress: called with a line for each step. copied: with bytes done and bytes in all, where files are copied, and
        where they are hashed and made durable.
    fields: those of Exportable (inputs, signatures, output_names, custom_objects, recipes) and Recording (examples,
        batch_sizes, tolerance, timeout) can be given directly, and so can TFLite's limit as tflite_limit. What is said
        here wins over what a builder's Exportable says.

    Raises ExportError if the model can't be served, CheckFailed if the gate refuses it, ParityError if its saved form
    answers differently, RepositoryError, SpecError for a name or version that isn't valid. Then nothing is published.
    """
    reference = model.model if isinstance(model, Exportable) else model
    if registries.is_reference(reference):
        (progress or _silent)(f"downloading {reference}")
        with registries.opened(str(reference)) as found:
            given = replace(model, model=found.path) if isinstance(model, Exportable) else found.path
            return export_model(given, repository, name or found.name, version, recording=recording, tflite=tflite,
                                gate=gate, producer={**found.producer, **(producer or {})}, progress=progress,
                                copied=copied, **fields)
    started, say = time.monotonic(), progress or _silent
    recording, tflite = _recording(recording, fields), _tflite(tflite, fields)
    name = check_name(_name(name, model))
    repository = Repository(repository) if isinstance(repository, str | Path) else repository
    if version is not None:
        repository.check_free(name, version)  # before somebody trains for it
    recording = replace(recording, examples=loaded(recording.examples))
    named = model.model if isinstance(model, Exportable) else model
    say(targets.loading(_path(named) or named))
    source = targets.resolve(_exportable(model, fields))
    if recording.examples is None:
        recording = replace(recording, examples=loaded(source.examples))
    source = replace(source, examples=recording.examples)
    gate = gate or checks.gate()
    shown = str(_path(source.model) or f"the model {name!r}")
    with processes.Replay(recording.timeout) as replay, repository.stage(name, version) as stage, \
            failures.renamed(stage.path, shown):
        saved = staging.saved(source, staging.Staging(stage.path, gate, say, copied))
        saved = replace(saved, producer={**saved.producer, **(producer or {})})
        say("asking the saved model in a fresh process")
        proof = parity.prove(stage.path, saved.info, saved.live, replay, recording)
        sibling = _sibling(stage.path, saved, proof, tflite, say)
        say("publishing")
        return _published(stage, saved, proof, sibling, recording=recording, started=started, copied=copied)


def _sibling(directory: Path, saved: Saved, proof: Proof, asked: TFLite | None, say: Progress) -> Sibling | None:
    if asked is None:
        return None
    if tflite_alone(directory):
        raise ExportError("the model is a TFLite model already", hint="export it without --tflite")
    say(f"converting to TFLite ({asked.mode})")
    left_out = {name: each.no_tflite for name, each in saved.live.items() if each.no_tflite}
    return tflite.convert(directory, saved.info.contract, proof.cases, asked.mode, directory / FILE, limit=asked.limit,
                          left_out=left_out)


def _published(stage: VersionStage, saved: Saved, proof: Proof, sibling: Sibling | None, *, recording: Recording,
               started: float, copied: Copied | None) -> Exported:
    info, limits = saved.info, sibling.tolerances(proof.parity.tolerances) if sibling else {}
    kept = [case for case in proof.cases if sibling is None or case.signature in sibling.served]
    if proof.cases:
        (stage.path / goldens.FILE).unlink(missing_ok=True)
    if kept:
        goldens.write(stage.path, kept, stage.model)
    if not info.describes(stage.path):
        raise ExportError("the model was changed after it was checked", hint="let nobody write to the repository",
                          id="model-changed")
    published = stage.publish(producer={"tfs_deploy": __version__, **saved.producer}, goldens=len(kept), info=info,
                              tolerances=parity.describe(proof.parity.tolerances),
                              tflite_tolerances=parity.describe(limits), recipes=saved.recipes, progress=copied)
    notes = (*saved.notes, *proof.notes, *(sibling.notes(info.contract, recording.examples) if sibling else ()))
    if sibling:
        sibling = replace(sibling, path=Path(published.where) / sibling.path.name)
    return Exported(published.mv, published.where, published.local, published.manifest.contract, len(kept),
                    proof.parity, tuple(dict.fromkeys(notes)),  # a model in two signatures says the same twice
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
    model = _path(model) or model
    if isinstance(model, str | Path):
        return targets.default_name(model)
    raise SpecError(f"no name is given for the {type(model).__name__}",
                    hint="export_model(model, repository, 'my_model')", id="bad-name")


def _path(model: object) -> Path | None:
    """Of a model that is a file or a directory."""
    if isinstance(model, SavedModelDirectory | FrozenGraph):
        return model.path
    return model if isinstance(model, Path) else None


def _silent(_: str) -> None:
    """Progress that nobody asked for."""
