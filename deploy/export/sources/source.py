"""One kind of file or directory that a model comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

CustomObjects = Mapping[str, object]


def stem(path: Path) -> str:
    """A file's name without its suffix."""
    return path.resolve().stem


@dataclass(frozen=True, slots=True)
class ModelSource:
    """name: for people, with its article. recognises: whether a path that is there is one; looks, and loads nothing.

    load: the model, an Exportable, or the Path of a SavedModel directory that is published as it is. Gets the custom
    objects that the caller named. Raises ExportError. model_name: the default name for a path.
    as_it_is: published as it stands, without TensorFlow's Python.
    """

    name: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path, CustomObjects], object]
    model_name: Callable[[Path], str] = stem
    as_it_is: bool = False
