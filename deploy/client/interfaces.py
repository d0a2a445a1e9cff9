"""What a client offers: the data plane (Predictor) and the control plane (Control), and what they answer with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from deploy.types import DEFAULT_SIGNATURE, Contract, ModelRef, ModelVersion, Signature, VersionStatus
from deploy.wire.dtypes import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from deploy.wire import serving_pb2 as pb

Inputs: TypeAlias = "Mapping[str, ArrayLike] | ArrayLike"
Feature: TypeAlias = "str | bytes | float | Sequence[str] | Sequence[bytes] | Sequence[float] | Array"
Features = Mapping[str, Feature]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction(Mapping[str, Array]):
    """Outputs by name, as numpy arrays of the signature's dtypes; strings are object arrays of bytes.

    Arrays may be read-only views of the received bytes; copy them to write into them.
    model_version: which version answered. Only gRPC tells it.
    """

    outputs: Mapping[str, Array]
    model_version: ModelVersion | None = None
    signature: str = DEFAULT_SIGNATURE

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What GetModelMetadata answers: the version that a ref resolves to now, and its signatures."""

    version: int
    contract: Contract


class Predictor(Protocol):
    """The data plane. Thread-safe; usable until its client is closed.

    Every call may raise Unreachable, TimedOut, Rejected, BadReply, and BadRequest for what was never sent.
    timeout: seconds for the whole call, retries included; None: the client's.
    """

    def predict(self, ref: ModelRef | str, inputs: Inputs, *, signature: str | Signature = DEFAULT_SIGNATURE,
                outputs: Sequence[str] = (), timeout: float | None = None) -> Prediction:
        """Ask a model. ref: `mnist`, `mnist/3`, `mnist@stable` or a ModelRef.

        inputs: arrays (or what numpy makes arrays of) by input name; a bare one for a signature with one input.
        signature: its name, or the Signature itself, which spares the look at the server's metadata.
        outputs: only these; all by default.
        """
        ...

    def classify(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                 signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> list[list[tuple[str, float]]]:
        """Per example, the labels with their scores. Features by name become tf.Examples: text and bytes are bytes,
        integers and bools int64, floats float32. context: features that all examples share."""
        ...

    def regress(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> Array:
        """One float32 per example, shape [examples]."""
        ...


class Control(Protocol):
    """The control plane. Thread-safe; raises as Predictor does."""

    def status(self, ref: ModelRef | str, *, timeout: float | None = None) -> list[VersionStatus]:
        """The states of a model's versions, or of one version. Labels are ignored by the server.

        Versions that were unloaded stay listed as END. Raises Rejected with code NOT_FOUND for an unknown model.
        """
        ...

    def metadata(self, ref: ModelRef | str, *, timeout: float | None = None) -> Metadata:
        """The signatures behind `ref`, and the version that it resolves to: so a label can be resolved."""
        ...

    def resolve(self, ref: ModelRef | str, *, timeout: float | None = None) -> ModelVersion:
        """The version that answers requests to `ref` now."""
        ...


class ReloadControl(Control, Protocol):
    """The control plane over gRPC, which also takes configurations."""

    def reload(self, config: pb.ModelServerConfig, *, timeout: float | None = None) -> None:
        """Let the server serve what `config` says, and nothing else. Its OK says that the configuration was accepted,
        not that anything is loaded. Raises Rejected for one that it refuses, TimedOut for a base path that isn't
        there."""
        ...


class Asked(Protocol):
    """What a probe asks of a client."""

    def predict(self, ref: ModelRef, inputs: Inputs, /, *, signature: Signature, timeout: float | None = None
                ) -> Prediction: ...
