"""Results -> the bytes of a REST reply."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from deploy.modelserver.rest.numbers import compact, decimal, decimals
from deploy.modelserver.rest.pretty import MOST_QUOTED, indent, lines, members, nested, one_line, quote, raw
from deploy.modelserver.status import invalid
from deploy.modelserver.tensors import NAMES
from deploy.wire.dtypes import BYTES_SUFFIX, Array
from deploy.wire.tensors import Folded, dims, dtype_name

_WRITABLE = {"float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string"}


_LONGEST_ERROR = 4 * MOST_QUOTED


def error(text: str) -> bytes:
    """The body of every error that has one."""
    if len(text) > _LONGEST_ERROR:  # a client's own words make it so long
        text = f"{text[:_LONGEST_ERROR]}..."
    return _bytes(members([("error", quote(raw(text)))], 0))


def rows(outputs: Mapping[str, Array]) -> bytes:
    """{"predictions": [...]}: a value per row, an object if there are several outputs. Raises StatusError."""
    size = _rows_of(outputs)
    folded = any(isinstance(array, Folded) for array in outputs.values())
    if len(outputs) == 1 and not folded and (text := compact(*outputs.values())) is not None:
        inner = text[:-1].replace(b",", b", ").decode("ascii")
        return _bytes(members([("predictions", f"{inner}{indent(1)}]")], 0))
    depth = 3 if len(outputs) > 1 else 2
    columns = {name: nested(_texts(name, array, depth), dims(array)[1:]) * (1 if array.size else size)
               for name, array in outputs.items()}
    if len(outputs) == 1:
        (values,) = columns.values()
        listed = f"[{', '.join(values)}{indent(1)}]" if values else "[]"
    else:
        names = [raw(name) for name in columns]
        listed = lines([members(zip(names, row, strict=True), 2) for row in zip(*columns.values(), strict=True)], 1)
    return _bytes(members([("predictions", listed if size else "[]")], 0))


def columns(outputs: Mapping[str, Array]) -> bytes:
    """{"outputs": ...}: an array per output, or just the array of the only one. Raises StatusError."""
    depth = 2 if len(outputs) > 1 else 1
    texts = [(raw(name), nested(_texts(name, array, depth + len(dims(array))), dims(array), depth)[0])
             for name, array in outputs.items()]
    return _bytes(members([("outputs", members(texts, 1) if len(texts) > 1 else texts[0][1])], 0))


def classifications(results: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """{"results": [[[label, score], ...], ...]}. Raises StatusError."""
    if not results:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    texts = [one_line([one_line([quote(label.decode("latin-1")), decimal(score, 4)]) for label, score in classes])
             for classes in results]
    return _bytes(members([("results", f"[{', '.join(texts)}{indent(1)}]")], 0))


def regressions(results: Sequence[float]) -> bytes:
    """{"results": [value, ...]}. Raises StatusError."""
    if not results:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    return _bytes(members([("results", one_line(decimals(np.asarray(results, np.float32))))], 0))


def _rows_of(outputs: Mapping[str, Array]) -> int:
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    size = -1
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        rows = dims(array)[0]
        if size not in (-1, rows):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {rows} expecting: {size}")
        size = rows
    return size


def _texts(name: str, array: Array, depth: int) -> list[str]:
    """Every element's text; depth: that of the elements."""
    dtype = dtype_name(array.dtype)
    if dtype not in _WRITABLE and array.size:
        raise invalid(f"Failed to write JSON value for tensor type: {NAMES.get(dtype, dtype)}")
    if dtype in ("float32", "float64"):
        return decimals(array)
    if dtype == "bool":
        return ["true" if value else "false" for value in array.ravel().tolist()]
    if dtype == "string":
        strings = array.ravel().tolist()
        if name.endswith(BYTES_SUFFIX):
            return [members([("b64", quote(base64.b64encode(s).decode("ascii")))], depth) for s in strings]
        return [quote(s.decode("latin-1")) for s in strings]
    return list(map(str, array.ravel().tolist()))


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
