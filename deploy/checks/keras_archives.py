"""Models that Keras saved (`.keras`, `.h5`), read as data: is there code in the file that loading it would run?"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.checks.findings import Finding, Where
from deploy.checks.rules import RULES
from deploy.errors import BackendMissing, ExportError
from deploy.files import escapes

SUFFIXES = (".keras", ".h5", ".hdf5")

_AGAIN = "save it again with model.save('name.keras')"
_PICKLE = 0x80  # a pickle begins with this, then its protocol
_PROTOCOLS = range(2, 6)
_HARMLESS = frozenset({"builtins", "__main__", "__builtin__"})
_DANGEROUS = frozenset({"eval", "exec", "compile", "open", "getattr", "setattr", "__import__", "input", "breakpoint"})


def check(path: Path) -> Iterator[Finding]:
    """All findings about a Keras file. Raises ExportError if it is none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from _members(archive)
    elif is_pickle(path):
        yield RULES["keras-pickle"].found(f"{path.name} is a pickle", Where(file=path.name))
        return
    where = Where(file="config.json" if zipfile.is_zipfile(path) else path.name)
    for node in nodes(config(path)):
        if is_code(node):
            yield RULES["keras-code"].found(f"{_named(node)} holds Python code", where)
        elif function := _foreign(node):
            yield RULES["keras-code"].found(f"the file names the function {function}", where)


def config(path: Path) -> dict[str, Any]:
    """The model's configuration as plain data, without that of its training. Raises ExportError."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _untrained(json.loads(archive.read("config.json")))
        text = _hdf5_attribute(path, "model_config")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} is no model file that can be read: {error}", hint=_AGAIN) from error
    if text is None:
        raise ExportError(f"{path} holds weights only, without a model",
                          hint="save the model, not its weights: model.save('name.keras')")
    return _untrained(json.loads(text))


def keras_version(path: Path) -> str:
    """The version of Keras that saved the file, empty if it doesn't say."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
        return _hdf5_attribute(path, "keras_version") or ""
    except (OSError, KeyError, ValueError, AttributeError, zipfile.BadZipFile):
        return ""


def nodes(data: object) -> Iterator[dict[str, Any]]:
    """All objects inside of a configuration."""
    if isinstance(data, dict):
        yield data
        for value in data.values():
            yield from nodes(value)
    elif isinstance(data, list):
        for value in data:
            yield from nodes(value)


def is_code(node: Mapping[str, Any]) -> bool:
    """A function that was stored as marshalled bytecode, by Keras 3 (`__lambda__`) or 2 (`function_type`)."""
    return node.get("class_name") == "__lambda__" or node.get("function_type") == "lambda" or \
        (node.get("class_name") == "Lambda" and isinstance(node.get("config", {}).get("function"), list))


def is_pickle(path: Path) -> bool:
    """Whether a file begins as pickles do."""
    with path.open("rb") as file:
        return _begins_pickle(file.read(2))


def _members(archive: zipfile.ZipFile) -> Iterator[Finding]:
    for member in archive.infolist():
        where = Where(file=member.filename)
        if escapes(member.filename):
            yield RULES["archive-path"].found(f"a member is called {member.filename!r}", where)
        with archive.open(member) as file:
            head = file.read(128)
        if _begins_pickle(head):
            yield RULES["keras-pickle"].found(f"{member.filename} is a pickle", where)
        elif head.startswith(b"\x93NUMPY") and b"'|O" in head:
            yield RULES["keras-pickle"].found(f"{member.filename} holds Python objects, as a pickle", where)


def _begins_pickle(head: bytes) -> bool:
    return len(head) > 1 and head[0] == _PICKLE and head[1] in _PROTOCOLS


def _foreign(node: Mapping[str, Any]) -> str:
    """A function or class of Python's own library, which no layer is; empty if there is none."""
    module, name = str(node.get("module") or ""), node.get("config") if node.get("class_name") == "function" else \
        node.get("class_name")
    root = module.partition(".")[0]
    if root in _HARMLESS:
        return f"{module}.{name}" if name in _DANGEROUS else ""
    return f"{module}.{name}" if root in sys.stdlib_module_names else ""


def _named(node: Mapping[str, Any]) -> str:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return f"the layer {name!r}" if isinstance(name, str) else "a layer's function"


def _hdf5_attribute(path: Path, name: str) -> str | None:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendMissing(f"{path} can't be read without h5py",
                             hint="pip install 'tfs-deploy[tensorflow]'") from error
    with h5py.File(path, "r") as file:
        text = file.attrs.get(name)
    return None if text is None else str(text)


def _untrained(config: dict[str, Any]) -> dict[str, Any]:
    """Losses and metrics aren't loaded, so they may be anything."""
    return {key: value for key, value in config.items() if key not in ("compile_config", "training_config")}
