"""All kinds of files that a model comes in. The only place that lists them."""

from __future__ import annotations

from pathlib import Path

from deploy.export.sources import foreign, frozen_graphs, keras_files, saved_models, tflite_files
from deploy.export.sources.source import ModelSource

SOURCES = (saved_models.SOURCE, keras_files.SOURCE, tflite_files.SOURCE, frozen_graphs.SOURCE)
NAMES = ", ".join(source.name for source in SOURCES)


def find(path: Path) -> ModelSource | None:
    """The kind of a path that is there; None for what looks like no model at all.

    Raises ExportError for what other tools write, with the way from there to one of our kinds.
    """
    foreign.check(path)
    return next((source for source in SOURCES if source.recognises(path)), None)
