"""A loaded version as requests take it: its signatures looked up once, and how many requests hold it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from deploy.modelserver.catalog import Id
from deploy.modelserver.loader import Model
from deploy.wire import model_pb2
from deploy.wire import serving_pb2 as pb


@dataclass(frozen=True, slots=True)
class ServedSignature:
    """inputs, outputs: alias -> tensor; feeds, fetches: the tensors only. dtypes: of the inputs, as numbers.

    reply: a PredictResponse without outputs.
    """

    definition: model_pb2.SignatureDef
    inputs: Mapping[str, str]
    dtypes: Mapping[str, int]
    outputs: Mapping[str, str]
    reply: bytes
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]


def served_signatures(id: Id, signatures: Mapping[str, model_pb2.SignatureDef]) -> dict[str, ServedSignature]:
    """Each signature by its name; inputs and outputs in the order of their names."""
    return {name: _served_signature(id, name, signature) for name, signature in signatures.items()}


def _served_signature(id: Id, name: str, signature: model_pb2.SignatureDef) -> ServedSignature:
    reply = pb.PredictResponse()
    reply.model_spec.name, reply.model_spec.signature_name = id.name, name
    reply.model_spec.version.value = id.version
    inputs, outputs = sorted(signature.inputs.items()), sorted(signature.outputs.items())
    return ServedSignature(signature, {alias: info.name for alias, info in inputs},
                {alias: int(info.dtype) for alias, info in inputs}, {alias: info.name for alias, info in outputs},
                bytes(reply.SerializeToString()), tuple([info.name for _, info in inputs]),
                tuple([info.name for _, info in outputs]))


@dataclass(slots=True)
class Servable:
    """A loaded version, and how many requests hold it; a `with` gives it back in the end."""

    id: Id
    model: Model
    holders: int = 0
    signatures: Mapping[str, ServedSignature] = field(init=False)  # by name
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _idle: threading.Condition = field(init=False)
    _awaited: bool = field(init=False, default=False)  # somebody waits until nobody holds it

    def __post_init__(self) -> None:
        self._idle = threading.Condition(self._lock)
        self.signatures = served_signatures(self.id, self.model.signatures)

    def __enter__(self) -> Servable:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.release()

    def hold(self) -> None:
        with self._lock:
            self.holders += 1

    def release(self) -> None:
        with self._lock:
            self.holders -= 1
            if self._awaited and not self.holders:
                self._idle.notify_all()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Whether no request holds it any more, after at most `timeout` seconds."""
        with self._idle:
            self._awaited = True
            return self._idle.wait_for(lambda: not self.holders, timeout)
