"""numpy arrays <-> TensorProto.

What is accepted follows tensorflow/core/framework/tensor.cc (Tensor::FromProto): bytes in `tensor_content`, or values
in the field of their type, where the last one stands for all that are missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import accumulate, pairwise
from operator import mul
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike

from deploy.errors import BadReply, BadRequest
from deploy.wire import tensor_pb2
from deploy.wire.dtypes import SENDABLE, Array, dtype_from_number, dtype_number
from deploy.wire.field_scan import varint
from deploy.wire.values import as_array, as_bytes, cast, checked_array, dtype_name, numpy_dtype

__all__ = ["SENDABLE", "Folded", "as_array", "decode", "dims", "dtype_from_number", "dtype_name", "dtype_number",
           "encode", "header", "numpy_dtype", "shape_of", "shaped"]


MESSAGE_LIMIT = 2**31 - 1
"""protobuf's own limit, which no server can lift."""

FILL_LIMIT = 1 << 28
"""Bytes up to which a tensor may have fewer values than its shape says: a few bytes mustn't claim all memory."""

STRING_SIZE = 24
"""Bytes of a string in TensorFlow's memory, without its characters."""

MOST_DIMS = 254
"""TensorFlow's limit."""

_MOST = 2**63 - 1  # elements
_FILLED = 2 * STRING_SIZE  # a tensor that takes more memory than this times its message has values filled in


class Folded(np.ndarray[Any, np.dtype[Any]]):
    """A tensor of a shape that numpy can't have: more dimensions than it allows, or huge ones beside one of zero.

    All elements in a row; `dims` has the shape.
    """

    dims: tuple[int, ...]

    def __array_finalize__(self, obj: object) -> None:
        self.dims = self.shape


def dims(array: Array) -> tuple[int, ...]:
    """A tensor's shape, also that of a folded one."""
    return array.dims if isinstance(array, Folded) else array.shape


def shaped(flat: Array, shape: tuple[int, ...]) -> Array:
    """`flat` in this shape, folded if numpy doesn't have it. Raises ValueError if TensorFlow doesn't, either."""
    try:
        return flat.reshape(shape)
    except ValueError:
        too_many = any(size > _MOST for size in accumulate(shape, mul))
        if len(shape) > MOST_DIMS or too_many or flat.size != math.prod(shape):
            raise
    folded = flat.ravel().view(Folded)
    folded.dims = shape
    return folded


def encode(array: ArrayLike, dtype: str | None = None) -> tensor_pb2.TensorProto:
    """A TensorProto with the array's values: raw little-endian bytes, or `string_val` for strings.

    array: anything that numpy takes; text becomes UTF-8 bytes.
    dtype: TensorFlow's name; by default the array's own (a Python float is a float64, as in numpy).
    Raises BadRequest if the array has no dtype of TensorFlow's, or loses something on the way to `dtype`.
    """
    values = checked_array(array, "the tensor")
    name = dtype or dtype_name(values.dtype)
    if name == "string":
        values = as_bytes(values, "the tensor")
        proto = header(name, values.shape)
        proto.string_val.extend(values.ravel().tolist())
        return proto
    values = cast(values, name, "the tensor", python=not hasattr(array, "dtype"))
    check_size(values.nbytes)
    proto = header(name, values.shape)
    proto.tensor_content = values.tobytes()
    return proto


def check_size(size: int) -> None:
    """Raises BadRequest if `size` bytes are more than a message can have."""
    if size > MESSAGE_LIMIT:
        raise BadRequest(f"{size} bytes are more than a message can have ({MESSAGE_LIMIT})",
                         hint="send fewer examples at once", id="request-too-big")


def header(name: str, shape: Iterable[int]) -> tensor_pb2.TensorProto:
    """A TensorProto of dtype `name` and this shape, without values."""
    proto = tensor_pb2.TensorProto(dtype=dtype_number(name))  # type: ignore[arg-type]  # numbers are fine
    proto.tensor_shape.SetInParent()  # a scalar's shape is known, too
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def decode(proto: tensor_pb2.TensorProto) -> Array:
    """The tensor's values; strings as an object array of bytes.

    The array may be a read-only view of bytes that belong to nobody else; copy it to write into it.
    Raises BadReply if shape, dtype and values don't fit together.
    """
    name = dtype_from_number(proto.dtype)
    if name not in SENDABLE:
        raise _no_array(name)
    shape = shape_of(proto)
    dtype = numpy_dtype(name)
    if proto.tensor_content and 0 not in shape and name != "string":
        return from_bytes(proto.tensor_content, dtype, shape)
    size = math.prod(shape)
    try:
        flat = _strings(proto, size) if name == "string" else _fit(_FIELDS[name](proto, dtype), size, dtype)
    except (MemoryError, ValueError, OverflowError) as error:  # the shape alone decides how much is asked for
        raise BadReply(f"a tensor of dtype {name} and shape {list(shape)} doesn't fit into memory") from error
    return _shaped(flat, shape)


def claimed(proto: tensor_pb2.TensorProto) -> int:
    """Bytes that the tensor's values would take in memory by its dtype and shape, without the characters of strings.

    Raises BadReply if it has no array form.
    """
    name = dtype_from_number(proto.dtype)
    if name not in SENDABLE:
        raise _no_array(name)
    return math.prod(shape_of(proto)) * (STRING_SIZE if name == "string" else numpy_dtype(name).itemsize)


def check(proto: tensor_pb2.TensorProto) -> None:
    """Raise BadReply if `decode` would; what is missing isn't filled in to see that, so it takes no memory."""
    size = claimed(proto)
    if proto.tensor_content or size <= _FILLED * proto.ByteSize():
        decode(proto)
        return
    _check_fill(0, size, 1)
    _shaped(np.broadcast_to(np.empty((), np.uint8), (math.prod(shape_of(proto)),)), shape_of(proto))


def _no_array(name: str) -> BadReply:
    return BadReply(f"got a tensor of dtype {name}, which has no array form",
                    hint=f"possible: {', '.join(SENDABLE)}")


def from_bytes(content: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """A read-only view of `content` as little-endian values. Raises BadReply if the length doesn't fit the shape."""
    expected = math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise BadReply(f"a tensor of dtype {dtype_name(dtype)} and shape {list(shape)} takes {expected} bytes, "
                       f"got {len(content)}")
    flat = np.frombuffer(content, dtype=dtype)
    if dtype == np.bool_ and (flat.view(np.uint8) > 1).any():
        raise BadReply(f"a tensor of dtype bool and shape {list(shape)} has bytes other than 0 and 1")
    return _shaped(flat if flat.flags.aligned else flat.copy(), shape)


def _shaped(flat: Array, shape: tuple[int, ...]) -> Array:
    try:
        return shaped(flat, shape)
    except ValueError as error:
        raise BadReply(f"no array can have the shape {list(shape)}") from error


def shape_of(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    """The tensor's shape; of an unknown rank only the dimensions count. Raises BadReply if one isn't known."""
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise BadReply(f"got a tensor of shape {list(shape)}; a value's dimensions have to be known")
    return shape


def _fit(values: Array, size: int, dtype: np.dtype[Any]) -> Array:
    """`size` values: the last one repeated if there are fewer, zeros if there is none, the first ones if more."""
    if len(values) >= size:
        return values[:size]
    _check_fill(len(values), size, dtype.itemsize)
    if not len(values):
        return np.zeros(size, dtype)
    fitted = np.empty(size, dtype)
    fitted[:len(values)] = values
    fitted[len(values):] = values[-1]
    return fitted


def _check_fill(given: int, size: int, width: int) -> None:
    if size * width > FILL_LIMIT:
        raise BadReply(f"got a tensor whose shape takes {size * width} bytes, but values of {given * width}",
                       hint=f"missing values are filled in up to {FILL_LIMIT} bytes")


def _fixed(field: str) -> Callable[[tensor_pb2.TensorProto, np.dtype[Any]], Array]:
    """A reader of a field of fixed-width values: its packed form on the wire is the array."""
    width = {"float_val": 4, "scomplex_val": 4, "double_val": 8, "dcomplex_val": 8, "bool_val": 1}[field]

    def read(proto: tensor_pb2.TensorProto, dtype: np.dtype[Any]) -> Array:
        whole = len(getattr(proto, field)) * width // dtype.itemsize  # complex: a lone real part doesn't count
        only = tensor_pb2.TensorProto()
        getattr(only, field).MergeFrom(getattr(proto, field))
        packed = only.SerializeToString()
        start = len(packed) - len(getattr(proto, field)) * width
        return np.frombuffer(packed, dtype, whole, start) if whole else np.empty(0, dtype)

    return read


def _varints(field: str, carrier: type[np.generic]) -> Callable[[tensor_pb2.TensorProto, np.dtype[Any]], Array]:
    """A reader of a field of integers, narrowed as C does."""

    def read(proto: tensor_pb2.TensorProto, dtype: np.dtype[Any]) -> Array:
        values = getattr(proto, field)
        return np.fromiter(values, carrier, len(values)).astype(dtype, copy=False)

    return read


def _halves(proto: tensor_pb2.TensorProto, dtype: np.dtype[Any]) -> Array:
    """Two-byte floats stand in `half_val` as the integer that has their bits."""
    return np.fromiter(proto.half_val, np.int32, len(proto.half_val)).astype("<u2").view(dtype)


_FIELDS: dict[str, Callable[[tensor_pb2.TensorProto, np.dtype[Any]], Array]] = {
    "float32": _fixed("float_val"), "float64": _fixed("double_val"), "bool": _fixed("bool_val"),
    "complex64": _fixed("scomplex_val"), "complex128": _fixed("dcomplex_val"),
    "float16": _halves, "bfloat16": _halves,
    "int64": _varints("int64_val", np.int64), "uint32": _varints("uint32_val", np.uint32),
    "uint64": _varints("uint64_val", np.uint64),
    **{name: _varints("int_val", np.int32) for name in ("int32", "int16", "int8", "uint16", "uint8")},
}


def _strings(proto: tensor_pb2.TensorProto, size: int) -> Array:
    if not size:
        return np.empty(0, dtype=object)
    values = _packed_strings(proto.tensor_content, size) if proto.tensor_content else list(proto.string_val)
    if len(values) < size:
        _check_fill(len(values), size, STRING_SIZE)
    array = np.empty(size, dtype=object)
    array[:len(values)] = values[:size]
    if len(values) < size:
        array[len(values):] = values[-1] if values else b""
    return array


def _packed_strings(content: bytes, size: int) -> list[bytes]:
    """Strings as TensorFlow packs them into bytes: all lengths as varints, then all characters."""
    last_bytes = np.flatnonzero(np.frombuffer(content, np.uint8) < 0x80)
    start = int(last_bytes[size - 1]) + 1 if len(last_bytes) >= size else len(content) + 1
    packed = tensor_pb2.TensorProto()
    if start <= len(content):  # a packed field has the same form as these lengths
        with suppress(DecodeError):  # numbers of more than ten bytes
            packed.MergeFromString(b"\x8a\x01" + varint(start) + content[:start])
    lengths = np.fromiter(packed.uint64_val, np.uint64, len(packed.uint64_val))
    ends = np.cumsum(np.minimum(lengths, len(content) + 1), dtype=np.int64) + start  # none is so big that sums wrap
    if len(ends) != size or ends[-1] != len(content):
        raise BadReply(f"{size} strings packed into {len(content)} bytes: the lengths don't add up")
    bounds = [start, *ends.tolist()]
    return [content[a:b] for a, b in pairwise(bounds)]
