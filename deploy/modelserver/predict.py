"""Predict: named tensors in, named tensors out. Checks and texts are those of the real server's predict_util.

Replies: typed values, or with --enable_serialization_as_tensor_content bytes. Fixed-width values are put together here,
without a message: that is a tenth of a small reply's time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from deploy.engine.latency import Shapes, shapes_of
from deploy.errors import DeployError
from deploy.modelserver.execution import LONG, Run, Steps
from deploy.modelserver.servable import Servable, ServedSignature
from deploy.modelserver.status import Code, StatusError, failed_precondition, invalid
from deploy.types import CLASSIFY_METHOD, DEFAULT_SIGNATURE, PREDICT_METHOD, REGRESS_METHOD
from deploy.wire import model_pb2, serving_pb2, tensor_pb2
from deploy.wire.dtypes import Array
from deploy.wire.field_scan import varint
from deploy.wire.tensors import decode, dims, dtype_name, header

_MOST_DIMS = 16
_STRING = tensor_pb2.DataType.DT_STRING
_ONE, _TWO = b"\x0a", b"\x12"  # tags of length-delimited fields
Encode = Callable[[Array], bytes]  # to a serialized TensorProto

# Fixed-width values: the packed field's bytes on the wire are the array's. Name -> tag of its field in TensorProto.
_PACKED = {"float32": b"\x2a", "float64": b"\x32", "complex64": b"\x4a", "bool": b"\x5a", "complex128": b"\x62"}
_CONTENT = b"\x22"
_INTEGERS = {"int64": "int64_val", "uint32": "uint32_val", "uint64": "uint64_val",
             "int32": "int_val", "int16": "int_val", "int8": "int_val", "uint16": "int_val", "uint8": "int_val"}


def typed(array: Array) -> bytes:
    """The array in the field of its dtype, all values spelled out."""
    name = dtype_name(array.dtype)
    head = _head(name, dims(array))
    if not array.size:
        return head
    if name in _PACKED:
        content = _little_endian(array).tobytes()
        return b"".join((head, _PACKED[name], varint(len(content)), content))
    proto = header(name, dims(array))
    if name in _INTEGERS:
        getattr(proto, _INTEGERS[name]).extend(array.ravel().tolist())
    elif name == "string":
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.half_val.extend(np.ascontiguousarray(array).view("<u2").ravel().tolist())
    return bytes(proto.SerializeToString())


def as_content(array: Array) -> bytes:
    """The array as bytes; strings with all their lengths in front."""
    name = dtype_name(array.dtype)
    if name == "string":
        strings = array.ravel().tolist()
        content = b"".join(map(varint, map(len, strings))) + b"".join(strings)
    else:
        content = _little_endian(array).tobytes()
    head = _head(name, dims(array))
    return b"".join((head, _CONTENT, varint(len(content)), content)) if content else head


@lru_cache(maxsize=1024)
def _head(name: str, shape: tuple[int, ...]) -> bytes:
    return bytes(header(name, shape).SerializeToString())


def _little_endian(array: Array) -> np.ndarray[Any, Any]:
    return array if array.dtype.byteorder != ">" else array.astype(array.dtype.newbyteorder("<"))


def predict(servable: Servable, request: serving_pb2.PredictRequest, encode: Encode = typed, *,
            method_check: bool = False) -> Steps[bytes]:
    """Answer a PredictRequest by a serialized PredictResponse.

    method_check: --enable_signature_method_name_check. The steps raise StatusError.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if method_check:
        check_method(signature.definition)
    given = dict(request.inputs.items())
    if given.keys() != signature.inputs.keys():
        check_inputs(signature.definition, given)
    wanted = wanted_outputs(signature, request.output_filter) if request.output_filter else signature.outputs
    shapes = _claimed_shapes(signature, given)
    yield LONG if shapes is None else Run(servable.model, signature.feeds, tuple(wanted.values()), shapes)
    outputs = run(servable, signature, {alias: _decoded(alias, proto) for alias, proto in given.items()}, wanted)
    parts = [signature.reply]
    for alias, array in outputs.items():
        key, value = alias.encode(), encode(array)
        inner = _ONE + varint(len(key)) + key + _TWO + varint(len(value))
        parts += (_ONE, varint(len(inner) + len(value)), inner, value)
    return b"".join(parts)


def _claimed_shapes(signature: ServedSignature, given: Mapping[str, tensor_pb2.TensorProto]) -> Shapes | None:
    """What the inputs say of their shapes, which may be far more than they bring; None if that doesn't tell all.

    Strings may be of any length, and defaults may be long.
    """
    shapes = []
    for alias, dtype in signature.dtypes.items():
        proto = given.get(alias)
        if proto is None or proto.dtype != dtype or dtype == _STRING:
            return None
        dims = proto.tensor_shape.dim
        if len(dims) > _MOST_DIMS:
            return None
        shapes.append(tuple([dim.size for dim in dims]))
    return tuple(shapes)


def next_run(servable: Servable, signature: ServedSignature, inputs: Mapping[str, Array]) -> Run | None:
    """The step that a run for all outputs is; LONG for strings, and unless all inputs are there."""
    arrays = [inputs[alias] for alias in signature.inputs if alias in inputs]
    if len(arrays) != len(signature.inputs) or any(array.dtype.hasobject for array in arrays):
        return LONG
    return Run(servable.model, signature.feeds, signature.fetches, shapes_of(arrays))


def check_method(signature: model_pb2.SignatureDef) -> None:
    """Raises StatusError for a signature that is for none of the three calls, like that of an initializer."""
    methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if signature.method_name not in methods:
        raise StatusError(Code.INTERNAL, "Expected prediction signature method_name to be one of "
                                         f"{{{', '.join(methods)}}}. Was: {signature.method_name}")


def check_inputs(signature: model_pb2.SignatureDef, given: Mapping[str, object]) -> None:
    """Raises StatusError unless exactly the signature's inputs are given."""
    defaults = dict(signature.defaults)
    sent, known = set(given), set(signature.inputs)
    if len(sent | (known & defaults.keys())) != len(known):
        missing = known - sent - defaults.keys()
        raise invalid(f"input size does not match signature: {len(sent)}!={len(known)} len({_names(sent)}) != "
                      f"len({_names(known)}). Sent extra: {_names(sent - known)}. Missing but required: "
                      f"{_names(missing)}.")
    for alias, info in sorted(signature.inputs.items()):
        if alias not in sent and alias not in defaults:
            raise invalid(f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default "
                          f"value provided. Inputs expected to be in the request {_names(sent)}, or default input "
                          f"alias set: {','.join(sorted(defaults))}")


def wanted_outputs(signature: ServedSignature, output_filter: Sequence[str]) -> dict[str, str]:
    """The outputs of the filter: alias -> tensor. Raises StatusError."""
    wanted: dict[str, str] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                          f"{_names(signature.outputs)}.")
        if alias in wanted:
            raise invalid(f"duplicate output tensor alias: {alias}")
        wanted[alias] = signature.outputs[alias]
    return wanted


def run(servable: Servable, signature: ServedSignature, inputs: Mapping[str, Array], outputs: Mapping[str, str]
        ) -> dict[str, Array]:
    """Run the model on named arrays; outputs: alias -> tensor. Raises StatusError."""
    feeds = {tensor: inputs[alias] if alias in inputs else _decoded(alias, signature.definition.defaults[alias])
             for alias, tensor in signature.inputs.items()}
    return dict(zip(outputs, servable.model.run(feeds, list(outputs.values())), strict=True))


def _decoded(alias: str, proto: tensor_pb2.TensorProto) -> Array:
    try:
        return decode(proto)
    except DeployError as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def _names(names: Mapping[str, object] | set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
