"""From a live object to a published version: trace, save, examine, prove, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import ExportError, SpecError
from deploy.export import failures, targets
from deploy.export.examples import loaded
from deploy.export.plans import OutputNames, Servable
from deploy.types import Contract, ModelVersion, check_name
from deploy.version import __version__

if TYPE_CHECKING:
    from deploy.checks import Gate
    from deploy.export.parity import Parity, Proof
    from deploy.export.tflite import Sibling
    from deploy.repository import Repository, VersionStage
    from deploy.savedmodel import SavedModelInfo

Progress = Callable[[str], None]

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


@dataclass(frozen=True, slots=True)
class _Job:
    """What stays the same from the call of `export` to its end. asked.model: an object, or the Path of a SavedModel."""

    asked: Servable
    repository: Repository
    name: str
    version: int | None
    tolerance: object
    say: Progress
    timeout: float
    started: float
    gate: Gate
    batches: Sequence[int] | None = None
    tflite: str | None = None
    tflite_limit: float | None = None
    notes: tuple[str, ...] = ()


def export_model(model: object, repository: Repository | str | Path, name: str | None = None,
                 version: int | None = None, *,
                 inputs: object = None, signatures: Mapping[str, object] | None = None, examples: object = None,
                 custom_objects: Mapping[str, object] | Sequence[str] | None = None, tolerance: object = None,
                 output_names: OutputNames | None = None, batch_sizes: Sequence[int] | None = None,
                 tflite: str | None = None, tflite_limit: float | None = None, progress: Progress | None = None,
                 gate: Gate | None = None, timeout: float = 300.0) -> Exported:
    """Publish `model` as a version of `name`, after its saved form has answered like the object itself.

    model: a Keras 3 model; a tf.Module or another trackable with tf.functions; a tf.function; a function of tensors; a
        Servable, Predict, Classify or Regress; or what `load_target` takes: a .keras or .h5 file, a SavedModel
        directory (copied as it is), `pkg.module:attribute`.
    repository: a Repository or its root directory, which is made if there is none.
    name: by default the file's; for objects it has to be given. version: by default the next free number.
    inputs: what it takes, where the object doesn't say it or something is to be pinned: see specs.parse. Shapes include
        the batch dimension, which is free by default.
    signatures: name -> tf.function, function, Keras model, Predict, Classify or Regress.
    examples: inputs to prove and record answers for: see examples.cases; generated from the signatures by default.
        An empty list: none, then nothing is proven.
    custom_objects: classes and functions that a Keras file names, or `pkg.module:Class` strings.
    tolerance: how far answers may be apart: see parity.tolerances. Integers, strings and bools have to be equal.
    output_names: see Predict.outputs.
    batch_sizes: of generated examples, 1 and 2 by default: those that a server's batching allows belong here.
    tflite: `none`, `dynamic`, `float16` or `int8`: also write model.tflite into the version; see tflite.SHARES.
    tflite_limit: how far its answers may be off, as a share of the outputs' largest magnitude; by default the mode's.
    gate: looks at what was saved before it is proven and published; by default checks.gate(), without allowances.
    progress: called with a line for each step. timeout: seconds for the fresh process to answer.

    Raises ExportError if the model can't be served, CheckFailed if the gate refuses it, ParityError if its saved form
    answers differently, RepositoryError, SpecError for a name or version that isn't valid. Then nothing is published.
    """
    from deploy import checks

    started = time.monotonic()
    name, repository = check_name(_name(name, model)), _repository(repository)
    if version is not None and repository.root.is_dir():
        with repository.stage(name, version):  # a number that is taken is told before somebody trains for it
            pass
    arguments = Servable(None, inputs, signatures, loaded(examples), output_names)  # before it is built
    while isinstance(model, str) or (isinstance(model, Path) and not (model / "saved_model.pb").is_file()):
        model = targets.load_target(model, custom_objects)
    asked = _merged(model if isinstance(model, Servable) else Servable(model), arguments)
    if isinstance(asked.model, str | Path):
        asked = replace(asked, model=targets.load_target(asked.model, custom_objects))
    say = progress or _silent
    job = _Job(asked, repository, name, version, tolerance, say, timeout, started, gate or checks.gate(), batch_sizes,
               tflite, tflite_limit)
    return _existing(job, asked.model) if isinstance(asked.model, Path) else _live(job)


def _live(job: _Job, methods: Mapping[str, str] | None = None) -> Exported:
    """A Python object: its own answers are the truth. methods: signature -> method name, where the object lost it."""
    from deploy.export import graphs, parity, saving, signatures

    with parity.Replay(job.timeout) as replay:
        found = [replace(e, method_name=(methods or {}).get(e.name, e.method_name)) for e in signatures.find(job.asked)]
        job.say(f"tracing {', '.join(endpoint.name for endpoint in found)}")
        functions = [saving.trace(endpoint) for endpoint in found]
        with job.repository.stage(job.name, job.version) as stage, failures.of_model(stage.path, job.name):
            job.say("saving")
            saving.save(found, functions, stage.path)
            info = graphs.examined(stage.path)
            said = job.gate(stage.path)
            job.say("asking the saved model in a fresh process")
            proof = parity.prove(stage.path, info, {endpoint.name: endpoint for endpoint in found}, replay,
                                  given=job.asked.examples, tolerance=job.tolerance, batches=job.batches)
            producer = {"tensorflow": info.producer.tensorflow, "keras": _version("keras")}
            notes = tuple(note for endpoint in found for note in endpoint.notes)
            return _publish(replace(job, notes=job.notes + notes + said), stage, info, proof, producer)


def _existing(job: _Job, directory: Path) -> Exported:
    """A SavedModel directory: it is copied as it is, and its own answers are recorded."""
    from deploy import checks
    from deploy.export import graphs, parity, saving

    given = [key for key in ("inputs", "signatures", "output_names") if getattr(job.asked, key) is not None]
    if given:
        raise ExportError(f"{given[0]} can't be changed in {directory}, which is saved already",
                          hint="export the model object instead")
    info = graphs.examined(directory)
    lost = checks.unrestored(directory)
    if lost:
        return _saved_again(job, directory, info, lost)
    job = replace(job, notes=job.notes + job.gate(directory))
    with parity.Replay(job.timeout) as replay:
        job.say("asking the saved model in a fresh process")
        proof = parity.prove(directory, info, {}, replay, given=job.asked.examples, tolerance=job.tolerance,
                              batches=job.batches)
        with job.repository.stage(job.name, job.version) as stage:
            saving.copy(directory, stage.path)
            return _publish(job, stage, info, proof, {"tensorflow": info.producer.tensorflow})


def _saved_again(job: _Job, directory: Path, info: SavedModelInfo, lost: Sequence[str]) -> Exported:
    """TensorFlow's Python loader finds all variables, so what it loads is exported as an object."""
    from deploy.export import quiet

    tf = quiet.tensorflow()
    job.say("loading it with TensorFlow")
    try:
        with quiet.muted():
            loaded = tf.saved_model.load(str(directory))
    except Exception as error:
        raise failures.user_error(f"loading {directory}", error, "export the model object instead") from error
    methods = {signature.name: signature.method_name for signature in info.contract.values()}
    again = replace(job, asked=replace(job.asked, model=loaded), notes=(_SAVED_AGAIN.format(lost[0]),))
    return _live(again, methods)


def _publish(job: _Job, stage: VersionStage, info: SavedModelInfo, proof: Proof, producer: Mapping[str, str]
             ) -> Exported:
    from deploy import goldens
    from deploy.export import parity

    sibling = _sibling(job, stage.path, info, proof)
    kept = [case for case in proof.cases if sibling is None or case.signature in sibling.served]
    if proof.cases:
        (stage.path / goldens.FILE).unlink(missing_ok=True)
    if kept:
        goldens.write(stage.path, kept, job.name)
    notes = (*job.notes, *proof.notes, *(sibling.notes(info.contract, job.asked.examples) if sibling else ()))
    limits = sibling.tolerances(proof.parity.tolerances) if sibling else {}
    notes = tuple(dict.fromkeys(notes))  # a model in two signatures says the same twice
    published = stage.publish(producer={"tfs_deploy": __version__, **producer}, goldens=len(kept),
                              tolerances=parity.describe(proof.parity.tolerances),
                              tflite_tolerances=parity.describe(limits))
    if sibling:
        sibling = replace(sibling, path=published.path / sibling.path.name)
    return Exported(published.mv, published.path, published.manifest.contract, len(kept), proof.parity, notes,
                    time.monotonic() - job.started, sibling)


def _sibling(job: _Job, directory: Path, info: SavedModelInfo, proof: Proof) -> Sibling | None:
    if job.tflite is None:
        return None
    from deploy.export import tflite
    from deploy.savedmodel.tflite import FILE

    job.say(f"converting to TFLite ({job.tflite})")
    return tflite.convert(directory, info.contract, proof.cases, job.tflite, directory / FILE, limit=job.tflite_limit)


def _name(name: str | None, model: object) -> str:
    if name is not None:
        return name
    if isinstance(model, str | Path):
        return targets.default_name(model)
    raise SpecError(f"no name is given for the {type(model).__name__}",
                    hint="export_model(model, repository, 'my_model')")


def _merged(own: Servable, arguments: Servable) -> Servable:
    """What the caller says wins over what the builder said."""
    fields = ("inputs", "signatures", "examples", "output_names")
    return replace(own, **{key: value for key in fields if (value := getattr(arguments, key)) is not None})


def _repository(given: Repository | str | Path) -> Repository:
    from deploy.repository import Repository

    return Repository(given) if isinstance(given, str | Path) else given


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _silent(line: str) -> None:
    """Progress that nobody asked for."""
    del line
