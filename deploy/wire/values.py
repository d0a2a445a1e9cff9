"""numpy's types for TensorFlow's; what a user passes -> an array that a model's input takes.

Nothing is ever rounded, cut or reinterpreted silently.

One exception, stated: Python's own floats are rounded to the dtype asked for, as in every array library.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deploy import extras
from deploy.errors import BadRequest
from deploy.types import TensorSpec
from deploy.wire.dtypes import SENDABLE, SIZES, Array, dtype_number

_PLAIN: Mapping[str, np.dtype[Any]] = MappingProxyType({
    name: np.dtype(name).newbyteorder("<") for name in SIZES if name != "bfloat16"
} | {"string": np.dtype(object)})


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's little-endian type for `name`; `string` is `object` (holding bytes), `bfloat16` is ml_dtypes' own.

    Raises BadRequest for a dtype without an array form (resource, variant, quantized, float8, int4 ...).
    """
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ModuleNotFoundError:
            extras.require("bfloat16", "a client for tensors of bfloat16")
            raise

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    dtype_number(name)
    raise BadRequest(f"tensors of dtype {name} can't be sent or received", hint=f"possible: {', '.join(SENDABLE)}",
                     id="unsendable-dtype")


@lru_cache(256)  # numpy makes a type's name anew each time, which takes longer than a small model
def dtype_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of a numpy type, in any byte order; text, bytes and objects are `string`.

    Raises BadRequest for types that TensorFlow doesn't take (datetime64, longdouble, structured ...).
    """
    if dtype.kind in "OSU":
        return "string"
    if dtype.name in _PLAIN or dtype.name == "bfloat16":
        return str(dtype.name)
    raise BadRequest(f"arrays of numpy type {dtype} can't be sent", hint=f"possible: {', '.join(SENDABLE)}",
                     id="unsendable-dtype")


def as_array(value: ArrayLike, spec: TensorSpec) -> Array:
    """`value` as an array of the spec's dtype and shape; strings as an object array of bytes.

    Casts only what loses nothing: integers that are in range or exact, floats that are exact, text to UTF-8.
    Raises BadRequest that names the input, what it takes, and what was given.
    """
    where = f"input {spec.name!r}"
    if spec.dtype not in SENDABLE:
        raise BadRequest(f"{where} takes {spec.dtype}, which can't be sent", hint=f"possible: {', '.join(SENDABLE)}",
                         id="unsendable-dtype")
    array = checked_array(value, where)
    if spec.dtype == "string":
        array = as_bytes(array, where)
    else:
        array = cast(array, spec.dtype, where, python=not hasattr(value, "dtype"))
    if not _fits(array.shape, spec.shape):
        raise BadRequest(f"{where}: expected shape {_text(spec.shape)}, got {list(array.shape)}",
                         hint=_shape_hint(array.shape, spec.shape), id="wrong-shape")
    return array


def checked_array(value: ArrayLike, where: str) -> Array:
    """`value` as numpy sees it, with text and bytes kept as they are (numpy cuts zero bytes off the end of bytes)."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
        return np.asarray(value, dtype=object) if array.dtype.kind in "SU" else array
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(f"{where}: these lists aren't an array", details={"numpy": str(error)},
                         hint="lists have to be nested evenly and hold one kind of value", id="ragged-lists") from error


def as_bytes(array: Array, where: str) -> Array:
    """An object array of bytes, from bytes or text (UTF-8). Raises BadRequest for anything else."""
    if array.dtype.kind not in "OSU" and array.size:
        raise BadRequest(f"{where}: expected string, got {array.dtype.name}", hint="pass text or bytes",
                         id="wrong-dtype")
    flat = array.ravel().tolist()
    kinds = set(map(type, flat))
    if kinds <= {bytes} and array.dtype.kind == "O":
        return array
    strings = np.empty(array.size, dtype=object)
    try:
        strings[:] = list(map(str.encode, flat)) if kinds == {str} else [_bytes(v) for v in flat]
    except UnicodeEncodeError as error:
        raise BadRequest(f"{where}: text that UTF-8 can't encode: {error.reason}", hint="pass bytes instead",
                         id="wrong-dtype") from error
    except TypeError as error:
        raise BadRequest(f"{where}: expected string, got {error}",
                         hint="lists have to be nested evenly and hold text or bytes only", id="wrong-dtype") from error
    return strings.reshape(array.shape)


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(type(value).__name__)


def cast(array: Array, name: str, where: str, *, python: bool = False) -> Array:
    """`array` as dtype `name` in little-endian order; the array itself if nothing is to be done.

    python: the values are Python's own, so floats may be rounded.
    Raises BadRequest if a value doesn't survive, or kinds differ (bool, integer, float, complex, string).
    """
    target = numpy_dtype(name)
    if array.dtype == target:
        return array
    if not array.size and python:
        return array.astype(target)
    source = _source(array, name, where)
    if target.kind == "O" or not _kinds_fit(source, name):
        raise BadRequest(f"{where}: expected {name}, got {source}", hint=_cast_hint(source, name), id="wrong-dtype")
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(target)
    rounding = python and source == "float64"
    problem = _overflow(array, result) if rounding else _loss(array, result)
    if problem:
        raise BadRequest(f"{where}: {problem} can't become {name} without loss", hint=_cast_hint(source, name),
                         id="wrong-dtype")
    return result


def _source(array: Array, name: str, where: str) -> str:
    if array.dtype.kind == "O":
        raise BadRequest(f"{where}: expected {name}, got Python objects ({_first_kind(array)})",
                         hint="pass numbers, or an array with a numeric dtype", id="wrong-dtype")
    try:
        return dtype_name(array.dtype)
    except BadRequest as error:
        raise BadRequest(f"{where}: {error.message}", hint=error.hint) from None


def _first_kind(array: Array) -> str:
    return type(array.ravel()[0]).__name__ if array.size else "none"


_RANK = {"uint": 1, "int": 1, "bfloat": 2, "float": 2, "complex": 3}


def _kinds_fit(source: str, target: str) -> bool:
    """Integers may become floats, floats complex; never the other way. A bool is no number."""
    ranks = [_RANK.get(name.rstrip("0123456789"), 0) for name in (source, target)]
    return source == target or 0 < ranks[0] <= ranks[1]


def _loss(array: Array, result: Array) -> str:
    """The first value that isn't the same any more, or nothing."""
    if array.dtype.kind not in "iu":
        same = _same_floats(array, result)
    elif result.dtype.kind in "iu":
        limits = np.iinfo(result.dtype)
        same = (array >= limits.min) & (array <= limits.max)
    else:
        same = _same_integers(array, result)
    return "" if same.all() else str(array[~same].ravel()[0])


def _same_floats(array: Array, result: Array) -> Array:
    real = result.real if result.dtype.kind == "c" and array.dtype.kind != "c" else result
    with np.errstate(over="ignore", invalid="ignore"):
        back = real.astype(array.dtype)
    same: Array = (back == array) | (np.isnan(back) & np.isnan(array))
    return same


def _same_integers(array: Array, result: Array) -> Array:
    """A float beyond the integers' range would come back as their largest, so that is looked at as well."""
    limits = np.iinfo(array.dtype)
    floats = (result.real if result.dtype.kind == "c" else result).astype(np.float64)
    inside = (floats >= float(limits.min)) & (floats < float(int(limits.max) + 1))
    same: Array = inside & (np.where(inside, floats, 0).astype(array.dtype) == array)
    return same


def _overflow(array: Array, result: Array) -> str:
    over = np.isinf(result) & ~np.isinf(array)
    return str(array[over].ravel()[0]) if over.any() else ""


def _cast_hint(source: str, target: str) -> str:
    if _kinds_fit(source, target):
        return f"if that is meant, use array.astype({target!r})"
    if target == "bool":
        return "compare, so that it is meant: array != 0"
    return f"nothing is rounded or reinterpreted silently; if that is meant, use array.astype({target!r})"


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    return wanted is None or (len(shape) == len(wanted)
                              and all(w is None or w == s for s, w in zip(shape, wanted, strict=True)))


def _text(shape: tuple[int | None, ...] | None) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape or ())}]"


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> str:
    if wanted and wanted[0] is None and _fits(shape, wanted[1:]):
        return "the first dimension counts examples: pass a list of one, or array[None]"
    return ""
