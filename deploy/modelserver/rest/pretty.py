"""How JSON is laid out, as RapidJSON's PrettyWriter does: four blanks per level, arrays on one line where asked for.

Texts here stand for bytes (Latin-1): strings are passed through as they are, whether valid UTF-8 or not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from deploy.modelserver.rest.numbers import quoted

_SPECIAL = re.compile(r'[\x00-\x1f"\\]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


MOST_QUOTED = 1 << 16  # characters of a request's value in an error text


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
