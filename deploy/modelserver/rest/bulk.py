"""A long predict body with one regular array of numbers, which is what most are: JSON -> array, no object per number.

simdjson reads the numbers; that they make one regular array shows in what is left of the body without them. Anything
else is for `decode`, which knows all the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import simdjson

from deploy.wire.dtypes import Array

LONG = 1 << 10  # bytes; shorter bodies aren't worth it
_NUMBERS = b"0123456789.+-eE \t\n\r"
_WIDE = 64  # numbers per list from which it is faster to look at the lists
_MOST_DIMS = 32  # what every numpy can have
_KEYS = {"instances", "inputs", "signature_name"}


@dataclass(frozen=True, slots=True)
class Bulk:
    """A body's contents. key: `instances` or `inputs`; numbers: float64."""

    signature: str
    key: str
    numbers: Array


def read(body: bytes) -> Bulk | None:
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
    rows, seen = [array], 1
    for size in shape[1:]:
        rows = [row for rows_of in rows for row in rows_of]
        seen += len(rows)
        if not all(isinstance(row, simdjson.Array) and len(row) == size for row in rows):
            return False
    return _has(body, b"[", seen)


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
