"""SignatureDef <-> Signature, and the map of them inside GetModelMetadata's Any.

Source: tensorflow/core/protobuf/meta_graph.proto, tensorflow_serving/apis/get_model_metadata.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from google.protobuf import any_pb2

from deploy.errors import BadReply
from deploy.types import Contract, Signature, TensorSpec
from deploy.wire import model_pb2, serving_pb2, tensor_pb2
from deploy.wire.dtypes import dtype_from_number, dtype_number
from deploy.wire.text import pack, unpack

METADATA_FIELD = "signature_def"
"""The only field that a server's metadata has."""

CACHED = 1 << 16
"""Bytes of a reply that is kept with what it means: servers are asked again and again, and many serve the same."""

INTERNAL_SIGNATURES = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
"""Ops that TensorFlow keeps among the signatures; nobody can call them, so they are no part of a contract."""


def signature_from_proto(name: str, proto: model_pb2.SignatureDef) -> Signature:
    """The signature as a value. Raises BadReply for a dtype that TensorFlow doesn't define.

    A sparse or composite tensor is kept with its dtype and dense shape; its `tensor` is empty.
    """
    inputs = tuple(_spec(key, info) for key, info in proto.inputs.items())
    outputs = tuple(_spec(key, info) for key, info in proto.outputs.items())
    return Signature(name, inputs, outputs, proto.method_name)


def signature_to_proto(signature: Signature) -> model_pb2.SignatureDef:
    """The inverse of `signature_from_proto`."""
    proto = model_pb2.SignatureDef(method_name=signature.method_name)
    for specs, infos in ((signature.inputs, proto.inputs), (signature.outputs, proto.outputs)):
        for spec in specs:
            _fill(infos[spec.name], spec)
    return proto


def contract_from_map(signatures: Mapping[str, model_pb2.SignatureDef]) -> Contract:
    """The contract of a MetaGraphDef's or SignatureDefMap's `signature_def` field."""
    return Contract(tuple(signature_from_proto(name, proto) for name, proto in signatures.items()
                          if name not in INTERNAL_SIGNATURES))


def contract_to_map(contract: Contract) -> serving_pb2.SignatureDefMap:
    """The inverse of `contract_from_map`, as the message that a metadata reply carries."""
    result = serving_pb2.SignatureDefMap()
    for name, signature in contract.items():
        result.signature_def[name].CopyFrom(signature_to_proto(signature))
    return result


def pack_signatures(signatures: serving_pb2.SignatureDefMap) -> any_pb2.Any:
    """The map as GetModelMetadata's reply holds it, under TF Serving's type URL."""
    return pack(signatures)


def unpack_signatures(packed: any_pb2.Any) -> serving_pb2.SignatureDefMap:
    """The map inside `packed`. Raises BadReply if something else is in there."""
    return unpack(packed, serving_pb2.SignatureDefMap)


def contract_from_metadata(response: serving_pb2.GetModelMetadataResponse) -> Contract:
    """The contract that a metadata reply tells. Raises BadReply if it tells none."""
    if METADATA_FIELD not in response.metadata:
        raise BadReply(f"the metadata reply has no {METADATA_FIELD!r}, but {sorted(response.metadata)}",
                       hint=f"ask for metadata_field {METADATA_FIELD!r}")
    packed = response.metadata[METADATA_FIELD].SerializeToString()
    return _contract(packed) if len(packed) <= CACHED else _contract.__wrapped__(packed)


@lru_cache(64)
def _contract(packed: bytes) -> Contract:
    return contract_from_map(unpack_signatures(any_pb2.Any.FromString(packed)).signature_def)


def shape_from_proto(proto: tensor_pb2.TensorShapeProto) -> tuple[int | None, ...] | None:
    """None for an unknown rank; None inside for an unknown dimension."""
    return None if proto.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in proto.dim)


def _spec(name: str, info: model_pb2.TensorInfo) -> TensorSpec:
    return TensorSpec(name, dtype_from_number(info.dtype), shape_from_proto(info.tensor_shape), info.name)


def _fill(info: model_pb2.TensorInfo, spec: TensorSpec) -> None:
    info.name = spec.tensor
    info.dtype = dtype_number(spec.dtype)  # type: ignore[assignment]  # numbers are fine
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
    for size in spec.shape or ():
        info.tensor_shape.dim.add(size=-1 if size is None else size)
