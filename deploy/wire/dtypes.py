"""TensorFlow's data types: names, wire numbers, sizes. numpy's types for them are in `values`: it isn't loaded here.

Names are those that `tf.DType.name` has. Source: tensorflow/core/framework/types.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from deploy.errors import BadReply, BadRequest
from deploy.wire import tensor_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IRREGULAR = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}


def _name(label: str) -> str:
    base = label.removesuffix("_REF")
    name = _IRREGULAR.get(base, base.removeprefix("DT_").lower())
    return f"{name}_ref" if base != label else name


NAMES: Mapping[int, str] = MappingProxyType({number: _name(label) for label, number in tensor_pb2.DataType.items()})
NUMBERS: Mapping[str, int] = MappingProxyType({name: number for number, name in NAMES.items()})

_SIZES: Mapping[str, int] = MappingProxyType({
    "float16": 2, "float32": 4, "float64": 8, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2,
    "uint32": 4, "uint64": 8, "bool": 1, "complex64": 8, "complex128": 16})

SENDABLE = (*_SIZES, "string", "bfloat16")
"""The dtypes that have an array form here; all others are names only."""

SIZES: Mapping[str, int] = MappingProxyType({**_SIZES, "bfloat16": 2})
"""Bytes of an element, of those that have an array form; strings have no size of their own."""

WITHOUT_JSON = frozenset({"float16", "bfloat16", "uint16", "complex64", "complex128"})
"""Those that TensorFlow Serving's JSON has no form for (tensorflow_serving/util/json_tensor.cc)."""

CPP_NAMES: Mapping[str, str] = MappingProxyType({"float16": "half", "float32": "float", "float64": "double"})
"""The names that TensorFlow's C++ code has in its error texts, where they differ."""

BYTES_SUFFIX = "_bytes"
"""Tensors whose name ends so hold bytes, not text: the server sends them as {"b64": ...} in JSON."""

Array: TypeAlias = "NDArray[Any]"
"""An array of any dtype that has a form here; strings: dtype object, bytes."""

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"
"""By name: the inputs of a request, or the outputs of an answer."""


def dtype_number(name: str) -> int:
    """The wire number of `float32` (1), `string` (7), ... Raises BadRequest for a name that TensorFlow doesn't have."""
    try:
        return NUMBERS[name]
    except KeyError:
        raise BadRequest(f"TensorFlow has no dtype called {name!r}", hint=f"known: {', '.join(SENDABLE)}",
                         id="unsendable-dtype") from None


def dtype_from_number(number: int) -> str:
    """The name of wire number 1 (`float32`), 120 (`resource_ref`), ... Raises BadReply for an unknown number."""
    try:
        return NAMES[number]
    except KeyError:
        raise BadReply(f"the message names dtype number {number}, which TensorFlow doesn't define") from None
