"""Models that Keras saved (`.keras`, `.h5`), read as data: is there code in the file that loading it would run?"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import files
from deploy.checks import keras_members
from deploy.checks.rules import RULES, Finding, Where
from deploy.errors import BackendMissing, DeployError, ExportError
from deploy.files import escapes

SUFFIXES = (".keras", ".h5", ".hdf5")

_AGAIN = "save it again with model.save('name.keras')"
_MOST_CONFIG = 64 << 20  # bytes of a configuration; that of a large model has a few MB
_MOST_MEMBERS = 10_000
_RATIO, _SMALL = 200, 64 << 20  # a member that unpacks to more than this times its size, and more than that, is a bomb
_DAMAGED = (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError,
            MemoryError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error, struct.error)


def check(path: Path) -> Iterator[Finding]:
    """All findings about a Keras file. Raises ExportError if it is none, or damaged."""
    with _readable(path):
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
                yield from list(_members(archive))
        else:
            with files.open_regular(path) as file:
                problems = list(keras_members.problems(file))
            rule = "keras-pickle" if is_pickle(path) else "keras-code"
            yield from (RULES[rule].found(f"{path.name} {what}", Where(file=path.name)) for what in problems)
            if problems:
                return
    where = Where(file="config.json" if zipped else path.name)
    for node in nodes(config(path)):
        if is_code(node):
            yield RULES["keras-code"].found(f"{_named(node)} holds Python code", where)
        elif why := keras_members.objection(node):
            yield RULES["keras-code"].found(why, where)


def config(path: Path) -> dict[str, Any]:
    """The model's configuration as plain data, without that of its training. Raises ExportError."""
    with _readable(path):
        if zipfile.is_zipfile(path):
            with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
                if "config.json" not in archive.namelist():
                    raise ExportError(f"{path} is a zip file without config.json, which Keras writes into each .keras "
                                      "file", hint=_AGAIN, id="model-file-unreadable")
                return _untrained(json.loads(_text(archive, "config.json")))
        text = _hdf5_attribute(path, "model_config")
        if text is not None:
            return _untrained(json.loads(text))
    raise ExportError(f"{path} holds weights only, without a model",
                      hint="save the model where it is, model.save('name.keras'), or write a function that builds it "
                           "and loads them (model.load_weights), and export that: tfs export script.py:build",
                      id="model-file-unreadable")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file of somebody else's becomes one sentence."""
    try:
        yield
    except DeployError:
        raise
    except _DAMAGED as error:
        why = files.reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise ExportError(f"{path} is no model file that can be read: {why:.300}", hint=_AGAIN,
                          id="model-file-unreadable") from error


def keras_version(path: Path) -> str:
    """The version of Keras that saved the file, empty if it doesn't say."""
    try:
        if zipfile.is_zipfile(path):
            with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
                return str(json.loads(_text(archive, "metadata.json")).get("keras_version", ""))
        return _hdf5_attribute(path, "keras_version") or ""
    except _DAMAGED:
        return ""


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        data = member.read(_MOST_CONFIG + 1)
    if len(data) > _MOST_CONFIG:
        raise ValueError(f"its {name} has more than {_MOST_CONFIG:,} bytes")
    return data


def nodes(data: object) -> Iterator[dict[str, Any]]:
    """All objects inside of a configuration, in its order."""
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += reversed(value.values())
        elif isinstance(value, list):
            pending += reversed(value)


def is_code(node: Mapping[str, Any]) -> bool:
    """A function that was stored as marshalled bytecode, by Keras 3 (`__lambda__`) or 2 (`function_type`)."""
    return node.get("class_name") == "__lambda__" or node.get("function_type") == "lambda" or \
        (node.get("class_name") == "Lambda" and isinstance(_inner(node).get("function"), list))


def _inner(node: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = node.get("config")
    return inner if isinstance(inner, Mapping) else {}


def is_pickle(path: Path) -> bool:
    """Whether a file begins as pickles do. Raises OSError for what is no regular file."""
    with files.open_regular(path) as file:
        return keras_members.is_pickle(file.read(1 << 16))


def _members(archive: zipfile.ZipFile) -> Iterator[Finding]:
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise ValueError(f"it has {len(members):,} members")
    for member in members:
        name, where = member.filename, Where(file=member.filename)
        if escapes(name):
            yield RULES["archive-path"].found(f"a member is called {name!r:.200}", where)
        if member.file_size > max(_SMALL, _RATIO * member.compress_size):
            yield RULES["archive-path"].found(
                f"{name} unpacks from {member.compress_size:,} bytes to {member.file_size:,}", where)
            continue
        if name.endswith("/"):
            continue
        with archive.open(member) as file:
            for what in keras_members.problems(file):
                rule = "keras-pickle" if "pickle" in what else "keras-code"
                yield RULES[rule].found(f"{name} {what}", where)


def _named(node: Mapping[str, Any]) -> str:
    name = _inner(node).get("name")
    return f"the layer {name!r}" if isinstance(name, str) else "a layer's function"


def _hdf5_attribute(path: Path, name: str) -> str | None:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendMissing(f"{path} can't be read without h5py",
                             hint="pip install 'tfs-deploy[tensorflow]'", id="extra-missing") from error
    with files.open_regular(path) as opened, h5py.File(opened, "r") as file:
        text = file.attrs.get(name)
    return None if text is None else str(text)


def _untrained(config: object) -> dict[str, Any]:
    """Losses and metrics aren't loaded, so they may be anything."""
    if not isinstance(config, dict):
        raise TypeError(f"its configuration is {type(config).__name__}, not an object")
    return {key: value for key, value in config.items() if key not in ("compile_config", "training_config")}
