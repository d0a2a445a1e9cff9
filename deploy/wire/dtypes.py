"""TensorFlow's data types: names, wire numbers and numpy's types for them.

Names are those that `tf.DType.name` has. Source: tensorflow/core/framework/types.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.errors import BadReply, BadRequest
from deploy.wire import tensor_pb2

_IRREGULAR = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}


def _name(label: str) -> str:
    base = label.removesuffix("_REF")
    name = _IRREGULAR.get(base, base.removeprefix("DT_").lower())
    return f"{name}_ref" if base != label else name


NAMES: Mapping[int, str] = MappingProxyType({number: _name(label) for label, number in tensor_pb2.DataType.items()})
NUMBERS: Mapping[str, int] = MappingProxyType({name: number for number, name in NAMES.items()})

_PLAIN: Mapping[str, np.dtype[Any]] = MappingProxyType({
    name: np.dtype(name).newbyteorder("<")
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64",
                 "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128")
} | {"string": np.dtype(object)})

SENDABLE = (*_PLAIN, "bfloat16")
"""The dtypes that have an array form here; all others are names only."""

WITHOUT_JSON = frozenset({"float16", "bfloat16", "uint16", "complex64", "complex128"})
"""Those that TensorFlow Serving's JSON has no form for (tensorflow_serving/util/json_tensor.cc)."""

BYTES_SUFFIX = "_bytes"
"""Tensors whose name ends so hold bytes, not text: the server sends them as {"b64": ...} in JSON."""

Array = NDArray[Any]
"""An array of any dtype that has a form here; strings: dtype object, bytes."""


def dtype_number(name: str) -> int:
    """The wire number of `float32` (1), `string` (7), ... Raises BadRequest for a name that TensorFlow doesn't have."""
    try:
        return NUMBERS[name]
    except KeyError:
        raise BadRequest(f"TensorFlow has no dtype called {name!r}", hint=f"known: {', '.join(SENDABLE)}") from None


def dtype_from_number(number: int) -> str:
    """The name of wire number 1 (`float32`), 120 (`resource_ref`), ... Raises BadReply for an unknown number."""
    try:
        return NAMES[number]
    except KeyError:
        raise BadReply(f"the message names dtype number {number}, which TensorFlow doesn't define") from None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's little-endian type for `name`; `string` is `object` (holding bytes), `bfloat16` is ml_dtypes' own.

    Raises BadRequest for a dtype without an array form (resource, variant, quantized, float8, int4 ...).
    """
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    dtype_number(name)
    raise BadRequest(f"tensors of dtype {name} can't be sent or received", hint=f"possible: {', '.join(SENDABLE)}")


@lru_cache(256)  # numpy makes a type's name anew each time, which takes longer than a small model
def dtype_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of a numpy type, in any byte order; text, bytes and objects are `string`.

    Raises BadRequest for types that TensorFlow doesn't take (datetime64, longdouble, structured ...).
    """
    if dtype.kind in "OSU":
        return "string"
    if dtype.name in _PLAIN or dtype.name == "bfloat16":
        return str(dtype.name)
    raise BadRequest(f"arrays of numpy type {dtype} can't be sent", hint=f"possible: {', '.join(SENDABLE)}")
