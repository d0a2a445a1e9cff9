"""Regular arrays of numbers, which most bodies are: JSON -> array in one go, with no look at a number.

Of a long body, simdjson reads the numbers; that they make one regular array shows in what is left of the body without
them. Nested lists go through `struct` at once. Anything else is for `decode`, which knows all the rules.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import simdjson

from deploy.engine import settings
from deploy.wire.dtypes import Array
from deploy.wire.tensors import numpy_dtype

LONG_BODY = 1 << 10  # bytes; shorter bodies aren't worth it
_NUMBERS = b"0123456789.+-eE \t\n\r"
_WIDE = 64  # numbers per list from which it is faster to look at the lists
_MOST_DIMS = 32  # what every numpy can have
_KEYS = {"instances", "inputs", "signature_name"}
# struct's code that takes what RapidJSON takes for a dtype: whole numbers only, and only within its range.
_TYPES = {"float32": "d", "float64": "d", "int64": "q", "uint64": "Q", "uint32": "I",
          "int32": "i", "int16": "i", "int8": "i", "uint8": "i"}


@dataclass(frozen=True, slots=True)
class Bulk:
    """A body's contents. key: `instances` or `inputs`; numbers: float64."""

    signature: str
    key: str
    numbers: Array


def read_bulk(body: bytes) -> Bulk | None:
    """The body's array; None if it is any other body, or none at all."""
    try:
        document = simdjson.Parser().parse(body)
        if not isinstance(document, simdjson.Object):
            return None
        keys = list(document.keys())
        signature = document["signature_name"] if "signature_name" in keys else ""
        (key,) = (k for k in keys if k != "signature_name")
        if not _KEYS.issuperset(keys) or len(set(keys)) != len(keys) or not isinstance(signature, str):
            return None
        array: Any = document[key]
        shape = _shape(array)
        if not shape or math.prod(shape) > len(body) or "[" in signature or not _regular(array, body, shape):
            return None
        numbers = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
        return Bulk(signature, key, numbers.reshape(shape))
    except (ValueError, TypeError, RuntimeError, UnicodeError):  # not JSON; not numbers; too large for simdjson
        return None


def _shape(array: Any) -> tuple[int, ...]:
    """Sizes of the array, its first element, that one's first element ...; empty if there is nothing in it."""
    shape: list[int] = []
    while isinstance(array, simdjson.Array):
        shape.append(len(array))
        if not shape[-1] or len(shape) > _MOST_DIMS:
            return ()
        array = array[0]
    return tuple(shape)


def _regular(array: Any, body: bytes, shape: tuple[int, ...]) -> bool:
    """Whether the array, the body's first, has this shape all over."""
    return _all_rows(array, body, shape) if shape[-1] >= _WIDE else _what_is_left(body, shape)


def _all_rows(array: Any, body: bytes, shape: tuple[int, ...]) -> bool:
    """By looking at every list but those within the last: there must be none, since the body has no more brackets."""
    rows, brackets = [array], 1
    for size in shape[1:]:
        rows = [row for rows_of in rows for row in rows_of]
        brackets += len(rows)
        if not all(isinstance(row, simdjson.Array) and len(row) == size for row in rows):
            return False
    return _has(body, b"[", brackets)


def _has(body: bytes, byte: bytes, times: int) -> bool:
    """Whether the byte is there so many times: few, so that finding is faster than counting."""
    at = -1
    for _ in range(times):
        at = body.find(byte, at + 1)
        if at < 0:
            return False
    return body.find(byte, at + 1) < 0


def _what_is_left(body: bytes, shape: tuple[int, ...]) -> bool:
    """By comparing what is left of the body without its numbers."""
    expected = b"[" + b"," * (shape[-1] - 1) + b"]"
    for size in reversed(shape[:-1]):
        expected = b"[" + b",".join([expected] * size) + b"]"
    left = body.translate(None, _NUMBERS)
    return left.startswith(expected, left.find(b"["))


def rounded(numbers: Array, dtype: str) -> Array | None:
    """float64 numbers as an array of `dtype`, None if that isn't one of floats that JSON has."""
    if dtype not in ("float32", "float64"):
        return None
    with np.errstate(over="ignore"):
        return flushed(numbers.astype(numpy_dtype(dtype), copy=False))


def flushed(numbers: Array) -> Array:
    """Denormal floats are zero: the real server reads JSON in threads that don't know them."""
    if numbers.dtype.kind != "f":
        return numbers
    if settings.flushes():  # what became a float32 here has lost them on the way
        return numbers * 1.0 if numbers.dtype.itemsize == 8 else numbers
    with np.errstate(under="ignore", invalid="ignore"):
        return np.asarray(numbers * (np.abs(numbers) >= np.finfo(numbers.dtype).tiny))


def numeric(value: Any, dtype: str, plain: bool) -> Array | None:
    """The value as an array of `dtype`; None if it has to be looked at element by element.

    plain: there are certainly no booleans in it, which would pass for numbers.
    """
    if dtype not in _TYPES or not plain or not isinstance(value, list):
        return None
    shape = [len(value)]
    try:
        while isinstance(value[0], list):
            sizes = set(map(len, value))
            if len(sizes) != 1:
                return None  # ragged
            shape.append(sizes.pop())
            value = list(chain.from_iterable(value))
        packed = struct.pack(f"={len(value)}{_TYPES[dtype]}", *value)  # twice as fast as numpy, and stricter
    except (TypeError, OverflowError, IndexError, struct.error):
        return None
    numbers = np.frombuffer(packed, np.dtype(f"={_TYPES[dtype]}"))
    with np.errstate(over="ignore"):
        array = flushed(numbers.astype(numpy_dtype(dtype), copy=False))
    try:
        return array.reshape(shape)
    except ValueError:  # more dimensions than an array can have
        return None
