"""SavedModel directories: published as they are."""

from __future__ import annotations

from pathlib import Path

from deploy.export.sources.source import CustomObjects, ModelSource
from deploy.savedmodel.reader import GRAPH


def _recognises(path: Path) -> bool:
    return (path / GRAPH).is_file()


def _load(path: Path, custom_objects: CustomObjects) -> object:  # noqa: ARG001
    return path


def model_name(path: Path) -> str:
    """The directory's, or above a version number."""
    path = path.resolve()
    return path.parent.name if path.name.isdecimal() else path.name


SOURCE = ModelSource("a SavedModel directory", _recognises, _load, model_name, as_it_is=True)
