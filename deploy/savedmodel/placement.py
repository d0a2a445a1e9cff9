"""What a directory is, for people who named one a level too high or too low. Advice only: no rule depends on it."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.tflite")
_MOST = 1000  # entries that are looked at in a directory
_DEEP = 5  # levels below a directory on which a model is looked for


def versions_in(directory: Path) -> list[str]:
    """The numbered directories that hold a model, the highest last; none for what can't be looked at."""
    numbered = (name for name in _names(directory) if name.isascii() and name.isdigit() and len(name) < 20)
    return sorted((name for name in numbered if is_version(directory / name)), key=int)


def models_in(directory: Path) -> list[str]:
    """The directories that hold versions."""
    return [name for name in _names(directory) if not name.startswith(".") and versions_in(directory / name)]


def is_version(directory: Path) -> bool:
    """Whether a model's own file lies in it."""
    try:
        return any((directory / name).exists() for name in _MODEL_FILES)
    except (OSError, ValueError):
        return False


def not_a_version(directory: Path) -> str:
    """What to name instead of a directory without a model; empty if nobody can tell."""
    if is_version(directory.parent):
        return f"{directory.parent} is the model's directory: name that one"
    if versions := versions_in(directory):
        return f"it is a model's directory with versions {_few(versions)}: name one, {directory / versions[-1]}"
    if models := models_in(directory):
        model = directory / models[0]
        return f"it is a repository of models ({_few(models)}): name a version, {model / versions_in(model)[-1]}"
    inside = _further_in(directory)
    if len(inside) > 1:
        return f"models are further in: name {_few([str(path) for path in inside])}"
    where = "one directory further in" if inside and inside[0].parent == directory else "further in"
    return f"the model is {where}: name {inside[0]}" if inside else ""


def inside_a_model(directory: Path) -> str:
    """What to name instead of a directory that belongs to one model or version; empty if it is none."""
    if is_version(directory):
        return f"it is a version itself; the repository is two directories up: {_up(directory, 2)}"
    if versions := versions_in(directory):
        return f"it is one model's directory, with versions {_few(versions)}; the repository is {_up(directory, 1)}"
    if is_version(directory.parent):
        return f"it lies inside the version {directory.parent}; the repository is {_up(directory, 3)}"
    return ""


def not_a_repository(directory: Path) -> str:
    """What to name instead of a directory that holds no model's directory; empty if nobody can tell."""
    if advice := inside_a_model(directory):
        return advice
    inside = [name for name in _names(directory) if models_in(directory / name)]
    return f"the repository is one directory further in: {directory / inside[0]}" if inside else ""


def not_a_base_path(directory: Path) -> str:
    """What to name instead of a directory that holds no version, or isn't there; empty if nobody can tell."""
    if is_version(directory):
        return f"it is a version itself; a base path holds versions: {_up(directory, 1)}"
    if models := models_in(directory):
        return f"it is a repository of models; a base path holds one model's versions: {directory / models[0]}"
    if not directory.exists() and (versions := versions_in(directory.parent)):
        return f"{directory.parent} is a model's directory itself, with versions {_few(versions)}"
    return ""


def _further_in(directory: Path) -> list[Path]:
    """The versions below it that are nearest to it."""
    level = [directory]
    for _ in range(_DEEP):
        below = ((above / name) for above in level for name in _names(above) if not name.startswith("."))
        level = list(islice(below, _MOST))
        if inside := [path for path in level if is_version(path)]:
            return inside
    return []


def _names(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in islice(entries, _MOST) if entry.is_dir())
    except (OSError, ValueError):
        return []


def _up(directory: Path, levels: int) -> Path:
    """The directory above, however this one was written."""
    return directory.parents[levels - 1] if len(directory.parts) > levels else directory.absolute().parents[levels - 1]


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
