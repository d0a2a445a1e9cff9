"""What turns a version's directory into something that answers: the loader Protocol, TensorFlow's and LiteRT's loader.

With --prefer_tflite_model, versions with a model.tflite are loaded by LiteRT, others by the loader below. Signatures
are those that the file's metadata has; without, one is made of the first graph's tensors, as the real server does: the
signatures that newer converters write into the file are not looked at there either.
Source: tensorflow_serving/servables/tensorflow/{saved_model_bundle_factory,tflite_session}.cc.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy import engine
from deploy.engine.latency import LatencyEstimate, Shapes
from deploy.engine.tflite import TfliteSession
from deploy.errors import DeployError
from deploy.modelserver import execution
from deploy.modelserver.execution import Measured
from deploy.modelserver.status import Code, StatusError, invalid, not_found
from deploy.savedmodel import tflite
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature, TensorSpec
from deploy.wire import model_pb2
from deploy.wire.contracts import signature_to_proto
from deploy.wire.dtypes import Array

_TFLITE_FILE = "model.tflite"
log = logging.getLogger("modelserver")


class Model(Measured, Protocol):
    """A loaded version. All methods may be called from several threads at once, `close` after the last call ended."""

    @property
    def signatures(self) -> Mapping[str, model_pb2.SignatureDef]:
        """The meta graph's signatures."""

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Values of the tensors named `fetches`, given those of `feeds`; strings are object arrays of bytes.

        Raises StatusError with the graph's own error.
        """

    def close(self) -> None:
        """Free what the version holds."""


class Loader(Protocol):
    """Makes models of version directories."""

    def load(self, name: str, version: int, path: str) -> Model:
        """Load one version. May take long; is called from several threads. Raises StatusError."""


def check_directory(path: str) -> None:
    """Raises StatusError (NOT_FOUND) unless `path` is a directory that has a SavedModel's graph."""
    if not any((Path(path) / f"saved_model.{end}").is_file() for end in ("pb", "pbtxt", "cpb")):
        raise not_found("Specified file path does not appear to contain a SavedModel bundle "
                        f"(should have a file called `saved_model.pb`)\nSpecified file path: {path}")


@dataclass(frozen=True, slots=True)
class EngineLoader:
    """Loads SavedModels into TensorFlow's runtime, without its Python."""

    tags: tuple[str, ...] = ("serve",)
    intra_op: int = 0
    inter_op: int = 0

    def load(self, name: str, version: int, path: str) -> Model:  # noqa: ARG002
        check_directory(path)
        try:
            return EngineModel(engine.load(path, tags=self.tags, intra_op=self.intra_op, inter_op=self.inter_op))
        except DeployError as error:
            raise status_error(error) from error


class EngineModel:
    """A session of the engine."""

    def __init__(self, session: engine.Session) -> None:
        self._session = session
        self.signatures: Mapping[str, model_pb2.SignatureDef] = dict(session.metagraph.signature_def)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        try:
            return self._session.run(feeds, fetches, timeout=execution.seconds_left())
        except DeployError as error:
            raise status_error(error) from error

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> LatencyEstimate | None:
        return self._session.latency(feeds, fetches, shapes)

    def close(self) -> None:
        self._session.close()


def status_error(error: DeployError) -> StatusError:
    """An error of the engine as an answer, TensorFlow's code and text unchanged."""
    return StatusError(getattr(error, "code", Code.INTERNAL), error.message)


@dataclass(frozen=True, slots=True)
class TfliteLoader:
    """A loader that prefers TFLite files. pools: interpreters per version; threads: of each, 0 for LiteRT's choice."""

    inner: Loader
    pools: int = 1
    threads: int = 0

    def load(self, name: str, version: int, path: str) -> Model:
        file = Path(path) / _TFLITE_FILE
        if not file.is_file():
            return self.inner.load(name, version, path)
        try:
            session = TfliteSession(file, max(1, self.pools), self.threads)
        except DeployError as error:
            raise status_error(error) from error
        except OSError as error:
            raise StatusError(Code.UNKNOWN, f"{file}; {error.strerror}") from error
        return TfliteModel(session, signatures(file, session))


class TfliteModel:
    """A session of LiteRT."""

    def __init__(self, session: TfliteSession, signatures: Mapping[str, model_pb2.SignatureDef]) -> None:
        self._session, self.signatures = session, signatures

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        try:
            return self._session.run(feeds, fetches)
        except DeployError as error:
            raise status_error(error) from error

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> None:  # noqa: ARG002
        return None  # a call may wait for an interpreter

    def close(self) -> None:
        self._session.close()


def signatures(file: Path, session: TfliteSession) -> dict[str, model_pb2.SignatureDef]:
    """The model's signatures, tensors under the names that the session knows. Raises StatusError."""
    try:
        by_name = tflite.signature_defs(file)
    except DeployError as error:
        raise invalid(f"Invalid SignatureDefs found in TfLite model: {error.message}") from error
    if not by_name:
        log.warning("No signature def found in TFLite model. Generating one.")
        return {DEFAULT_SIGNATURE: _invented(session)}
    for signature in by_name.values():
        for direction, infos, known in (("input", signature.inputs, session.inputs),
                                   ("output", signature.outputs, session.outputs)):
            for alias, info in infos.items():
                info.name = _known(info.name, known, f"Signature {direction} {alias} references an unknown tensor")
    return by_name


def _known(name: str, known: Mapping[str, TensorSpec], context: str) -> str:
    """Converters used to cut off the `:0`."""
    for candidate in (name, name.partition(":")[0]):
        if candidate in known:
            return candidate
    raise StatusError(Code.INTERNAL, f"Unknown tensor '{name}'.\n\t{context}")


def _invented(session: TfliteSession) -> model_pb2.SignatureDef:
    def specs(tensors: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name.partition(":")[0], spec.dtype, tuple(size or 0 for size in spec.shape or ()), name)
                     for name, spec in tensors.items())

    return signature_to_proto(Signature("", specs(session.inputs), specs(session.outputs), PREDICT_METHOD))
