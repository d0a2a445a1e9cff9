"""Predict's messages as bytes, for big tensors.

protobuf copies a tensor's bytes into the message and again into the serialized form, and twice on the way back. Here
they go from the array into the final bytes once, and coming back they are viewed where they lie. Small messages take
protobuf's own way, which is as fast for them. What is written and read is the same (tests compare them).

gRPC takes these functions as (de)serializers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from deploy.errors import BadReply
from deploy.wire import serving_pb2, tensor_pb2
from deploy.wire.dtypes import Array, dtype_from_number
from deploy.wire.field_scan import fields, varint
from deploy.wire.tensors import SENDABLE, check_size, decode, encode, from_bytes, header, shape_of
from deploy.wire.values import dtype_name, numpy_dtype

SMALL = 1 << 18
"""Bytes below which protobuf's own way is taken."""

Piece = bytes | memoryview
Field = tuple[int, memoryview, memoryview | None]
M = TypeVar("M", serving_pb2.PredictRequest, serving_pb2.PredictResponse)

_INPUTS, _OUTPUTS = 2, 1  # field numbers of PredictRequest.inputs and PredictResponse.outputs
_TENSOR_CONTENT = 4
_LENGTH_DELIMITED = 2


def write_predict_request(spec: serving_pb2.ModelSpec, inputs: Mapping[str, Array],
                          output_filter: Sequence[str] = ()) -> bytes:
    """A serialized PredictRequest. Raises BadRequest for an array of a dtype that can't be sent."""
    request = serving_pb2.PredictRequest(model_spec=spec, output_filter=output_filter)
    return _write(request, request.inputs, _INPUTS, inputs)


def write_predict_response(spec: serving_pb2.ModelSpec, outputs: Mapping[str, Array]) -> bytes:
    """A serialized PredictResponse. Raises BadRequest for an array of a dtype that can't be sent."""
    response = serving_pb2.PredictResponse(model_spec=spec)
    return _write(response, response.outputs, _OUTPUTS, outputs)


def read_predict_request(data: bytes) -> tuple[serving_pb2.PredictRequest, dict[str, Array]]:
    """A serialized PredictRequest as everything but its inputs, and the inputs.

    The arrays may be read-only views of `data`. Raises BadReply if the bytes are no such message.
    """
    return _read(data, serving_pb2.PredictRequest, _INPUTS)


def read_predict_response(data: bytes) -> tuple[serving_pb2.PredictResponse, dict[str, Array]]:
    """A serialized PredictResponse as everything but its outputs, and the outputs.

    The arrays may be read-only views of `data`. Raises BadReply if the bytes are no such message.
    """
    return _read(data, serving_pb2.PredictResponse, _OUTPUTS)


def _write(message: M, entries: Any, number: int, arrays: Mapping[str, Array]) -> bytes:
    pieces: list[Piece] = []
    for name, array in arrays.items():
        if array.nbytes < SMALL or dtype_name(array.dtype) == "string":
            entries[name].CopyFrom(encode(array))
        else:
            pieces += _entry(number, name, array)
    rest = message.SerializeToString()
    check_size(len(rest) + sum(map(len, pieces)))
    return b"".join((rest, *pieces)) if pieces else rest


def _entry(number: int, name: str, array: Array) -> tuple[Piece, ...]:
    """A map entry {1: name, 2: tensor} in the order that leaves the tensor's bytes at the end."""
    dtype = dtype_name(array.dtype)
    plain = np.ascontiguousarray(array, numpy_dtype(dtype))
    head = header(dtype, array.shape).SerializeToString()
    content = plain.reshape(-1).view(np.uint8).data
    head += _tag(_TENSOR_CONTENT) + varint(content.nbytes)
    key = name.encode()
    start = _tag(1) + varint(len(key)) + key + _tag(2) + varint(len(head) + content.nbytes)
    return _tag(number) + varint(len(start) + len(head) + content.nbytes), start, head, content


def _tag(number: int) -> bytes:
    return bytes((number << 3 | _LENGTH_DELIMITED,))


def _read(data: bytes, message_type: type[M], number: int) -> tuple[M, dict[str, Array]]:
    if len(data) >= SMALL:
        try:
            return _scan(data, message_type, number)
        except (DecodeError, UnicodeDecodeError, IndexError):
            pass  # unusual or damaged: protobuf itself decides which
    try:
        return _unpack(message_type.FromString(data), number)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadReply(f"{len(data)} bytes that are no {message_type.DESCRIPTOR.name}") from error


def _scan(data: bytes, message_type: type[M], number: int) -> tuple[M, dict[str, Array]]:
    """The message without its map, parsed by protobuf, and the map's tensors where they lie."""
    rest, arrays = bytearray(), {}
    for field, whole, value in _fields(memoryview(data)):
        if field == number and value is not None:
            name, array = _read_entry(value)
            if name in arrays:
                raise DecodeError("a key that comes twice")
            arrays[name] = array
        else:
            rest += whole
    return message_type.FromString(bytes(rest)), arrays


def _unpack(message: M, number: int) -> tuple[M, dict[str, Array]]:
    field = message.DESCRIPTOR.fields_by_number[number].name
    arrays = {name: decode(tensor) for name, tensor in getattr(message, field).items()}
    message.ClearField(field)
    return message, arrays


def _read_entry(entry: memoryview) -> tuple[str, Array]:
    """A map entry as every serializer writes it: {1: name, 2: tensor}. Raises DecodeError for any other."""
    (first, _, key), (second, _, value) = _pair(entry)
    if (first, second) != (1, 2) or key is None or value is None:
        raise DecodeError("an unusual map entry")
    name, tensor = str(key, "utf-8"), tensor_pb2.TensorProto()
    content = _merge(tensor, value)
    return name, decode(tensor) if content is None else _view(tensor, content)


def _pair(entry: memoryview) -> list[Field]:
    pair = list(_fields(entry))
    if len(pair) != 2:
        raise DecodeError("an unusual map entry")
    return pair


def _view(tensor: tensor_pb2.TensorProto, content: memoryview) -> Array:
    dtype, shape = dtype_from_number(tensor.dtype), shape_of(tensor)
    if dtype == "string" or dtype not in SENDABLE or 0 in shape:
        tensor.tensor_content = bytes(content)
        return decode(tensor)
    return from_bytes(content, numpy_dtype(dtype), shape)


def _merge(tensor: tensor_pb2.TensorProto, value: memoryview) -> memoryview | None:
    """Parse all fields of a TensorProto but its content, which is returned where it lies."""
    rest, content = bytearray(), None
    for field, whole, inner in _fields(value):
        if field == _TENSOR_CONTENT and inner is not None and content is None:
            content = inner
        else:
            rest += whole
    tensor.MergeFromString(bytes(rest))
    if tensor.tensor_content:
        raise DecodeError("content that comes twice")
    return content


def _fields(view: memoryview) -> Iterator[Field]:
    """Each field of a message: number, all of its bytes, and the value's if it is length-delimited.

    Raises DecodeError or IndexError if the bytes end too early or are no message.
    """
    for number, start, value, end in fields(view, 0, len(view)):
        yield number, view[start:end], view[value:end] if view[start] & 7 == _LENGTH_DELIMITED else None
