"""Models that a registry names: `mlflow:models:/digits@champion`. Downloaded, looked through, and exported like a file.

Nothing of what is downloaded is unpickled or run here: of an MLflow model only the TensorFlow model inside is taken.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy import extras
from deploy.errors import ExportError, RepositoryError
from deploy.savedmodel.reader import GRAPH

_REFERENCE = re.compile(r"mlflow:(models|runs):/.*", re.DOTALL)
_MODEL = re.compile(r"models:/([^/@]+)(?:/([^/@]+)|@([^/@]+))")
_RUN = re.compile(r"runs:/[^/]+/.+")
_SUFFIXES = (".keras", ".h5", ".hdf5", ".tflite")
_MOST = 1 << 20  # bytes of an MLmodel file


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered model on this machine, for as long as it is open.

    path: what `export_model` takes. name: the model's in the registry. producer: where it came from, for the manifest.
    """

    path: Path
    name: str
    producer: Mapping[str, str]


def is_reference(text: object) -> bool:
    """Whether a text names a model of a registry."""
    return isinstance(text, str) and bool(_REFERENCE.fullmatch(text))


def name_in(reference: str) -> str:
    """The model's name in a reference; of a run's model the last part of its path."""
    match = _MODEL.fullmatch(reference.removeprefix("mlflow:"))
    return match[1] if match else reference.rstrip("/").rpartition("/")[2]


@contextmanager
def opened(reference: str) -> Iterator[RegisteredModel]:
    """Download a model. Raises ExportError if it is none that can be served, RepositoryError if it can't be had."""
    uri = reference.removeprefix("mlflow:")
    if not (_MODEL.fullmatch(uri) or _RUN.fullmatch(uri)):
        raise ExportError(f"{reference!r} names no registered model",
                          hint="write mlflow:models:/NAME@ALIAS, mlflow:models:/NAME/VERSION or mlflow:runs:/RUN/PATH")
    extras.require("mlflow", f"publishing from {reference}")
    with tempfile.TemporaryDirectory(prefix="tfs-mlflow-", ignore_cleanup_errors=True) as place:
        path, producer = _download(uri, Path(place))
        yield RegisteredModel(_model_in(path, reference), name_in(reference), producer)


def _download(uri: str, place: Path) -> tuple[Path, dict[str, str]]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: PLC0415 -- an extra, and seconds to import

    server = mlflow.get_tracking_uri()
    try:
        client = mlflow.MlflowClient()
        producer = {"mlflow": uri, **_version(client, uri)}
        if "mlflow_version" in producer:  # an alias may move while its artifacts are downloaded
            uri = f"models:/{name_in(uri)}/{producer['mlflow_version']}"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(place))), producer
    except Exception as error:  # MLflow's own, its database's, its HTTP client's
        raise RepositoryError(f"{uri} can't be had from MLflow at {_shown(server)}: {_line(error)}",
                              hint="check the name, the alias and MLFLOW_TRACKING_URI, and that its artifacts can be "
                                   "reached from here") from error


def _version(client: Any, uri: str) -> dict[str, str]:
    match = _MODEL.fullmatch(uri)
    if match is None:
        return {"mlflow_run": uri.removeprefix("runs:/").partition("/")[0]}
    name, number, alias = match.groups()
    found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    run = {"mlflow_run": str(found.run_id)} if found.run_id else {}
    return {"mlflow_version": str(found.version), **run}


def _model_in(path: Path, reference: str) -> Path:
    """The TensorFlow model among what was downloaded."""
    there = sorted([*(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file()),
                    *(file.parent for file in path.rglob(GRAPH))])
    outer = [one for one in there if not any(other in one.parents for other in there)]
    if len(outer) == 1:
        return outer[0]
    if outer:
        names = ", ".join(str(one.relative_to(path)) for one in outer)
        raise ExportError(f"{reference} holds {len(outer)} models: {names}",
                          hint="download it with MLflow, and export the one that is meant")
    flavors = ", ".join(_flavors(path / "MLmodel")) or "none"
    raise ExportError(f"{reference} holds no TensorFlow model: its flavors are {flavors}",
                      hint="TensorFlow Serving serves SavedModels: log the model with mlflow.tensorflow")


def _flavors(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            data = yaml.safe_load(file.read(_MOST))
        return sorted(map(str, data["flavors"]))
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return []


def _shown(text: str) -> str:
    """A text whose addresses have no user and password."""
    return re.sub(r"(?<=://)[^/\s]*@", "***@", text)


def _line(error: Exception) -> str:
    return re.sub(r"\s+", " ", _shown(str(error))).strip()[:300]
