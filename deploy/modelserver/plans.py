"""A signature of a loaded version with everything that a request needs looked up once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.modelserver.catalog import Id
from deploy.wire import model_pb2
from deploy.wire import serving_pb2 as pb


@dataclass(frozen=True, slots=True)
class Plan:
    """inputs, outputs: alias -> tensor; feeds, fetches: the tensors only. dtypes: of the inputs, as numbers.

    reply: a PredictResponse without outputs.
    """

    signature: model_pb2.SignatureDef
    inputs: Mapping[str, str]
    dtypes: Mapping[str, int]
    outputs: Mapping[str, str]
    reply: bytes
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]


def plans(id: Id, signatures: Mapping[str, model_pb2.SignatureDef]) -> dict[str, Plan]:
    """A plan for each signature; inputs and outputs in the order of their names."""
    return {name: _plan(id, name, signature) for name, signature in signatures.items()}


def _plan(id: Id, name: str, signature: model_pb2.SignatureDef) -> Plan:
    reply = pb.PredictResponse()
    reply.model_spec.name, reply.model_spec.signature_name = id.name, name
    reply.model_spec.version.value = id.version
    inputs, outputs = sorted(signature.inputs.items()), sorted(signature.outputs.items())
    return Plan(signature, {alias: info.name for alias, info in inputs},
                {alias: int(info.dtype) for alias, info in inputs}, {alias: info.name for alias, info in outputs},
                bytes(reply.SerializeToString()), tuple([info.name for _, info in inputs]),
                tuple([info.name for _, info in outputs]))
