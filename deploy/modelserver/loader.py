"""What turns a version's directory into something that answers: the loader Protocol and the engine's loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy import engine
from deploy.engine.latency import LatencyEstimate, Shapes
from deploy.errors import DeployError
from deploy.modelserver import patience
from deploy.modelserver.inline import Measured
from deploy.modelserver.status import Code, StatusError, not_found
from deploy.wire import model_pb2
from deploy.wire.dtypes import Array


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
            return self._session.run(feeds, fetches, timeout=patience.left())
        except DeployError as error:
            raise status_error(error) from error

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> LatencyEstimate | None:
        return self._session.latency(feeds, fetches, shapes)

    def close(self) -> None:
        self._session.close()


def status_error(error: DeployError) -> StatusError:
    """An error of the engine as an answer, TensorFlow's code and text unchanged."""
    return StatusError(getattr(error, "code", Code.INTERNAL), error.message)
