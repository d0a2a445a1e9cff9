"""numpy -> JSON as TF Serving reads it: rows (`instances`) or columns (`inputs`); and what can't be said in it.

Numbers go through orjson's numpy support, never through Python objects. NaN and infinities are bare tokens, which
JSON doesn't have but the server takes. Source: tensorflow_serving/util/json_tensor.h and .cc.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any, Literal

import numpy as np
import orjson

from deploy.errors import BadRequest
from deploy.types import Signature
from deploy.wire.dtypes import BYTES_SUFFIX, SENDABLE, WITHOUT_JSON, Array
from deploy.wire.values import dtype_name

Form = Literal["row", "column"]

CHUNK = 1 << 20
"""Bytes of an array that are written at a time."""

Piece = bytes | memoryview

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def batch_of(arrays: Iterable[Array]) -> int | None:
    """The first dimension that all arrays share; None if there is no such."""
    sizes = {array.shape[0] if np.ndim(array) else None for array in arrays}
    return sizes.pop() if len(sizes) == 1 else None


def no_json(signature: Signature) -> str:
    """Why the signature can't be asked over REST; empty if it can."""
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.dtype in WITHOUT_JSON or spec.dtype not in SENDABLE:
                return f"{kind} {spec.name!r} is {spec.dtype}, which has no JSON form"
    return "" if signature.inputs else f"signature {signature.name!r} has no inputs, which REST can't express"


def no_json_values(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> str:
    """`no_json` of a request and its answer, where only these are known, not their signature."""
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for name, array in arrays.items():
            dtype = "string" if array.dtype.kind in "OSU" else dtype_name(array.dtype)
            if dtype in WITHOUT_JSON:
                return f"{kind} {name!r} is {dtype}, which has no JSON form"
    return "" if inputs else "it has no inputs, which REST can't express"


def no_shape(inputs: Mapping[str, Array]) -> str:
    """Why nested lists don't tell the shape of an input; empty if they do. Within an empty list there are no others."""
    for name, array in inputs.items():
        if 0 in array.shape[:-1]:
            return f"input {name!r} is empty, and JSON can't express its shape {list(array.shape)}"
    return ""


def no_rows(signature: Signature, inputs: Mapping[str, Array]) -> str:
    """Why the request has no row form; empty if it has one."""
    batch = batch_of(inputs.values())
    if batch is None:
        shapes = ", ".join(f"{name!r} {list(array.shape)}" for name, array in inputs.items())
        return f"the row form needs one batch dimension that all inputs share, here: {shapes}"
    if batch == 0:
        return "the row form can't express a batch of no rows"
    scalar = [spec.name for spec in signature.outputs if spec.shape == ()]
    return f"output {scalar[0]!r} is a scalar, which only the column form can express" if scalar else ""


def no_row_answer(outputs: Mapping[str, Array], rows: int) -> str:
    """Why such outputs have no row form for a batch of `rows`; empty if they have one."""
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != rows:
            return (f"output {name!r} has shape {list(array.shape)} for {rows} rows, which only the column form can "
                    "express")
    return ""


def request_body(signature: str, inputs: Mapping[str, Array], form: Form) -> bytes:
    """The body of a predict request. Inputs are checked before: row form needs a batch dimension that all share."""
    pieces: list[Piece] = [b'{"signature_name":', orjson.dumps(signature)]
    if form == "column":
        pieces.append(b',"inputs":{')
        for number, (name, array) in enumerate(inputs.items()):
            pieces += [b"," if number else b"", orjson.dumps(name), b":", *_pieces(array, name)]
        pieces.append(b"}}")
    else:
        pieces += [b',"instances":', *_rows(inputs), b"}"]
    return b"".join(pieces)


def array_json(array: Array, name: str = "") -> Any:
    """An array as something that orjson writes as nested lists (a scalar: as a value)."""
    if array.dtype.kind == "O":
        return _strings(array, name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return orjson.Fragment(_with_tokens(array))
    if array.ndim == 0 or not array.size:
        return array.tolist()
    return _plain(array)


def _rows(inputs: Mapping[str, Array]) -> list[Piece]:
    """One input: its rows as they are. Several: an object per row."""
    if len(inputs) == 1:
        [(name, array)] = inputs.items()
        return _pieces(array, name)
    columns = {name: _split(array, name) for name, array in inputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [orjson.dumps(rows, option=_NUMPY)]


def _pieces(array: Array, name: str) -> list[Piece]:
    """The JSON of a big array, a megabyte at a time: buffers of that size are used again, larger ones are fresh pages
    each time, which costs as much as writing the numbers."""
    if array.dtype.kind == "O" or array.nbytes <= CHUNK or not array.ndim:
        return [orjson.dumps(array_json(array, name), option=_NUMPY)]
    step = CHUNK * len(array) // array.nbytes
    parts: list[list[Piece]] = ([_pieces(row, name) for row in array] if not step else
                                [[_inside(array[at:at + step], name)] for at in range(0, len(array), step)])
    pieces: list[Piece] = [b"["]
    for number, part in enumerate(parts):
        pieces += [b"," if number else b"", *part]
    return [*pieces, b"]"]


def _inside(array: Array, name: str) -> memoryview:
    return memoryview(orjson.dumps(array_json(array, name), option=_NUMPY))[1:-1]


def _split(array: Array, name: str) -> list[Any]:
    """A column as one JSON value per row."""
    if array.dtype.kind == "O":
        strings = _strings(array, name)
        assert isinstance(strings, list)
        return strings
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [orjson.Fragment(_with_tokens(row)) for row in array]
    return array.tolist() if array.ndim == 1 or not array.size else list(_plain(array))


def _plain(array: Array) -> Array:
    """As orjson takes it: contiguous, in the machine's byte order."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _with_tokens(array: Array | np.generic) -> bytes:
    """orjson writes null for what isn't finite; each null is replaced by its token, in order."""
    values = np.asarray(array)
    flat = values.ravel()
    wrong = flat[~np.isfinite(flat)]
    text = orjson.dumps(_plain(values) if values.ndim else flat.tolist()[0], option=_NUMPY)
    if np.isnan(wrong).all():
        return text.replace(b"null", b"NaN")
    tokens = np.where(np.isnan(wrong), b"NaN", np.where(wrong > 0, b"Infinity", b"-Infinity")).tolist()
    return b"".join(chain.from_iterable(zip_longest(text.split(b"null"), tokens, fillvalue=b"")))


def _strings(array: Array, name: str) -> Any:
    """Text as JSON strings. If the name says bytes, or one value isn't UTF-8, all values as {"b64": ...}."""
    flat: list[bytes] = array.ravel().tolist()
    as_json = np.empty(array.size, dtype=object)
    try:
        as_json[:] = list(map(_b64, flat)) if name.endswith(BYTES_SUFFIX) else list(map(bytes.decode, flat))
    except UnicodeDecodeError:
        as_json[:] = list(map(_b64, flat))
    except TypeError as error:
        raise BadRequest(f"input {name!r}: expected text or bytes, got {error}", id="wrong-dtype") from error
    return as_json.reshape(array.shape).tolist()


def _b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}


def feature_json(name: str, value: Any) -> Any:
    """One feature of an example: a value or a list of values."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [feature_json(name, v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return orjson.Fragment(_with_tokens(np.asarray(value)))
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return array_json(np.array(value, dtype=object), name)
    if isinstance(value, (bool, int, float)):
        return value
    raise BadRequest(f"feature {name!r}: expected text, bytes, integers or floats, got {type(value).__name__}",
                     id="wrong-dtype")
