"""JSON as the real server writes it: the bytes of replies, and values quoted in errors.

Laid out as RapidJSON's PrettyWriter does: four blanks per level, arrays on one line where asked for. Texts here stand
for bytes (Latin-1): strings are passed through as they are, whether valid UTF-8 or not.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from deploy.modelserver.rest.numbers import compact, decimal, decimals, quoted
from deploy.modelserver.status import invalid
from deploy.wire.dtypes import BYTES_SUFFIX, CPP_NAMES, Array
from deploy.wire.tensors import Folded, dims, dtype_name

_SPECIAL = re.compile(r'[\x00-\x1f"\\]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
MOST_QUOTED = 1 << 16  # characters of a request's value in an error text
_WRITABLE = {"float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string"}
_LONGEST_ERROR = 4 * MOST_QUOTED


def raw(text: str) -> str:
    """A text's UTF-8 bytes as such a text."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def quote(text: str) -> str:
    """A JSON string."""
    if _SPECIAL.search(text):
        text = _SPECIAL.sub(lambda m: _ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04X}", text)
    return f'"{text}"'


def indent(depth: int) -> str:
    return "\n" + "    " * depth


def members(pairs: Iterable[tuple[str, str]], depth: int) -> str:
    """An object of texts; depth: that of the object."""
    inner = indent(depth + 1)
    listed = f",{inner}".join([f"{quote(key)}: {value}" for key, value in pairs])
    return f"{{{inner}{listed}{indent(depth)}}}" if listed else "{}"


def lines(texts: Sequence[str], depth: int) -> str:
    """An array with a line per element; depth: that of the array."""
    inner = indent(depth + 1)
    return f"[{inner}{f',{inner}'.join(texts)}{indent(depth)}]" if texts else "[]"


def one_line(texts: Sequence[str]) -> str:
    """An array on one line."""
    return f"[{', '.join(texts)}]"


def nested(texts: list[str], shape: Sequence[int], depth: int | None = None) -> list[str]:
    """Elements grouped into nested arrays: what has `shape` becomes one text; returns as many as there are.

    depth: that of the outer array, a line per element; None: all on one line.
    """
    for axis in reversed(range(len(shape))):
        size = shape[axis]
        if not size:
            texts = ["[]"] * math.prod(shape[:axis])
        elif depth is None:
            texts = [one_line(texts[i:i + size]) for i in range(0, len(texts), size)]
        else:
            texts = [lines(texts[i:i + size], depth + axis) for i in range(0, len(texts), size)]
    return texts


class _NotFinite(Exception):
    """RapidJSON stops writing at a number that isn't finite."""


def quoted_value(value: object) -> str:
    """A request's JSON value as error texts show it; the real server shows all of it, this one the beginning."""
    parts: list[str] = []
    size = 0
    with suppress(_NotFinite):
        for part in _parts(value):
            parts.append(part)
            size += len(part)
            if size > MOST_QUOTED:
                break
    text = "".join(parts).encode("latin-1").decode("utf-8", "surrogateescape")
    return text if size <= MOST_QUOTED else f"{text[:MOST_QUOTED]}..."


def _parts(value: object) -> Iterator[str]:
    """A value's text bit by bit. Values may be deep, so those that are begun lie on a stack."""
    begun: list[Iterator[tuple[str, object]]] = [iter([("", value)])]
    ends = [""]
    while begun:
        before, item = next(begun[-1], (None, None))
        if before is None:
            begun.pop()
            yield ends.pop()
            continue
        yield before
        if isinstance(item, (dict, list)) and item:
            begun.append(_members(item, len(begun)))
            ends.append(f"{indent(len(begun) - 2)}}}" if isinstance(item, dict) else "]")
        else:
            yield "{}" if item == {} else "[]" if item == [] else _scalar(item)


def _members(holder: dict[str, object] | list[object], depth: int) -> Iterator[tuple[str, object]]:
    """Each member, with what stands before it."""
    if isinstance(holder, dict):
        for number, (key, item) in enumerate(holder.items()):
            yield f"{',' if number else '{'}{indent(depth)}{quote(raw(key[:MOST_QUOTED]))}: ", item
    else:
        for number, item in enumerate(holder):
            yield ", " if number else "[", item


def _scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NotFinite
        return quoted(value)
    return quote(raw(value[:MOST_QUOTED + 1])) if isinstance(value, str) else str(value)


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
        raise invalid(f"Failed to write JSON value for tensor type: {CPP_NAMES.get(dtype, dtype)}")
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
