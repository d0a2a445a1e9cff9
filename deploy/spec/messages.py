"""What is wrong with a file, in YAML's words, with the path and what was expected there."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from deploy.errors import SpecError
from deploy.spec.format import SpecFile


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    """The struct in a field's type, which may be optional."""
    return next((t for t in (kind, *get_args(kind)) if isinstance(t, type) and issubclass(t, msgspec.Struct)), None)


@functools.cache  # types never change, and each of a thousand servers asks
def _fields(struct: type[msgspec.Struct] | None) -> dict[str, Any]:
    return {f.encode_name: f.type for f in msgspec.structs.fields(struct)} if struct else {}


def unknown_keys(data: object, kind: Any, path: str) -> Iterator[SpecError]:
    """Keys that the struct doesn't have, each with the nearest one that it has."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    kind = next((t for t in get_args(kind) if get_origin(t) is list), kind)  # a list that may be left out
    if get_origin(kind) is list:
        for i, item in enumerate(data if isinstance(data, list) else ()):
            yield from unknown_keys(item, get_args(kind)[0], f"{path}/{i}".lstrip("/"))
        return
    fields = _fields(_struct(kind))
    if not isinstance(data, Mapping) or not fields:
        return
    for key, value in data.items():
        here = f"{path}/{key}".lstrip("/")
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(fields)}"
            yield SpecError("unknown key", path=here, hint=hint, id="unknown-key")
        else:
            yield from unknown_keys(value, fields[key], here)


def unusable(data: object, path: str = "") -> Iterator[SpecError]:
    """Values that no file name, flag, address or waiting time can be."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from unusable(value, f"{path}/{key}".lstrip("/"))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from unusable(value, f"{path}/{i}")
    elif isinstance(data, float) and not math.isfinite(data):
        yield SpecError(f"expected a finite number, got {data}", path=path, hint=_meaning(path), id="wrong-value")
    elif isinstance(data, str) and (control := re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", data)):
        yield SpecError(f"the text has a control character, {control[0]!r}", path=path, hint="remove it",
                        id="wrong-value")


def readable(error: msgspec.ValidationError, data: object) -> SpecError:
    """msgspec's message, as in "Expected `int`, got `str` - at `$.models[0].versions`", with our path and words.

    data: what was read; the value at the path is told.
    """
    message, _, where = str(error).rpartition(" - at `$")
    path = where.rstrip("`").replace("[", ".").replace("]", "").strip(".").replace(".", "/")
    message = re.sub("`[^`]*`", lambda types: " or ".join(_WORDS.get(t, t) for t in types[0].strip("`").split(" | ")),
                     message)
    message, _, missing = (message or str(error)).replace("`", "").partition("Object missing required field ")
    if missing:
        return SpecError(f"{missing} is missing", path=path, hint=_meaning(f"{path}/{missing}"), id="missing-key")
    if message.startswith("Expected text, got ") and isinstance(value := _value(data, path), (int, float, date)):
        return SpecError(f"expected text, and YAML reads this as {str(value).lower()}", path=path,
                         hint="put it in quotes", id="wrong-value")
    if "regex" in message or ", got" not in message:
        message = f"{_value(data, path)!r} can't stand here" + ("" if "regex" in message else f": {message}")
    return SpecError(message, path=path, hint=_meaning(path), id="wrong-value")


_WORDS = {"array": "a list", "object": "a mapping", "str": "text", "null": "nothing", "date": "a date"}


def _value(data: object, path: str) -> object:
    """What stands at a path, or the innermost thing that can be found on the way."""
    for part in path.split("/"):
        if isinstance(data, Mapping) and part in data:
            data = data[part]
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
    return data


def _meaning(path: str) -> str:
    """What the field at a path is for, or which values it takes."""
    kind: Any = SpecFile
    for part in path.split("/"):
        kind = get_args(kind)[0] if part.isdigit() and get_args(kind) else _fields(_struct(kind)).get(part, kind)
    for candidate in (kind, *get_args(kind)):
        if get_origin(candidate) is Literal:
            return f"use one of {', '.join(map(str, get_args(candidate)))}"
        described = [m.description for m in getattr(candidate, "__metadata__", ()) if getattr(m, "description", None)]
        if described:
            return f"wanted here: {described[0]}"
    return ""
