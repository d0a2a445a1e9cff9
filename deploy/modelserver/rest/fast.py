"""Nested lists of numbers -> array in one go, for those that need no closer look."""

from __future__ import annotations

import struct
from itertools import chain
from typing import Any

import numpy as np

from deploy.engine import denormals
from deploy.wire.dtypes import Array
from deploy.wire.tensors import numpy_dtype

# struct's code that takes what RapidJSON takes for a dtype: whole numbers only, and only within its range.
_TYPES = {"float32": "d", "float64": "d", "int64": "q", "uint64": "Q", "uint32": "I",
          "int32": "i", "int16": "i", "int8": "i", "uint8": "i"}


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
    if denormals.flushes():  # what became a float32 here has lost them on the way
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
        made = flushed(numbers.astype(numpy_dtype(dtype), copy=False))
    try:
        return made.reshape(shape)
    except ValueError:  # more dimensions than an array can have
        return None
