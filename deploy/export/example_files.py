"""Example inputs in files: .npz archives, and JSON as TensorFlow Serving's REST API takes it."""

from __future__ import annotations

import base64
import binascii
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.errors import ExportError

FORMS = "give a dict of arrays (batch first), a list of such dicts or of single rows, or an .npz or .json file of them"

_MOST = 1 << 30  # bytes of a JSON file
_BODY = frozenset({"instances", "inputs", "examples"})
_TEXT = "in an .npz strings as fixed-width text, not as objects; bytes, such as images, as JSON: {\"b64\": \"...\"}"


def loaded(given: object) -> object:
    """What stands in the file, if `given` is the path of one. Raises ExportError."""
    if not isinstance(given, str | Path):
        return given
    path = Path(given)
    try:
        found = _json(path) if path.suffix.lower() == ".json" else _archive(path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else \
            error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ExportError(f"examples can't be read from {path}: {why}", hint=f"{FORMS}; {_TEXT}") from error
    if not isinstance(found, Mapping | list):
        raise ExportError(f"examples can't be read from {path}: expected an object or a list, got {found!r:.50}",
                          hint=f"{FORMS}; {_TEXT}")
    return found


def signature_of(given: object) -> str:
    """The signature that a request's body names, empty if it names none or is none."""
    if isinstance(given, Mapping) and "signature_name" in given and _BODY & set(given):
        return str(given["signature_name"])
    return ""


def unpacked(given: object, inputs: Sequence[str]) -> object:
    """Examples out of the body of a request, as columns or rows. inputs: the signature's, which may have such names."""
    if not isinstance(given, Mapping):
        return given
    if set(given) == set(inputs) and not any(isinstance(value, Mapping) for value in given.values()):
        return given
    found = _BODY & set(given)
    if len(found) != 1 or not set(given) <= found | {"signature_name", "context"}:
        return given
    return given[next(iter(found))]


def _json(path: Path) -> object:
    """UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    return _bytes(json.loads(files.read_given(path, _MOST)))


def _archive(path: Path) -> object:
    with files.open_regular(path) as opened:
        if not zipfile.is_zipfile(opened):
            raise ValueError("it is neither JSON by its name nor an .npz archive by its content")
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as file:
            arrays = dict(file.items())
    nested: dict[str, Any] = {}
    for key, array in arrays.items():
        signature, slash, name = key.rpartition("/")
        if slash:
            nested.setdefault(signature, {})[name] = array
        else:
            nested[key] = array
    return nested


def _bytes(value: Any) -> Any:
    """JSON with each {"b64": ...} as the bytes that it stands for. Raises ValueError."""
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode("".join(value["b64"].split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"{value['b64']!r:.40} is no base64: {error}") from None
    return {key: _bytes(item) for key, item in value.items()}
