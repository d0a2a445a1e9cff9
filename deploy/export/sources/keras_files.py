"""Models that Keras saved, .keras and .h5, by the Keras that each of them needs. Code inside a file is never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.checks import keras_archives
from deploy.errors import ExportError
from deploy.export import quiet
from deploy.export.failures import user_error
from deploy.export.sources.source import CustomObjects, ModelSource
from deploy.extras import install, missing

_ROOMS = ("layers", "activations", "initializers", "regularizers", "constraints")
_LAMBDA = "replace the Lambda layer by a layer class of your own, or export the model object from your code"
_FROM_CODE = "export the model object from the code that made it"
_DAMAGED = f"save it again where it was made, or {_FROM_CODE}"
_OLD = f"{install('keras2')}; or load it where it was made, save a SavedModel with model.save('directory'), and " \
    "export that"


def load_file(path: Path, custom_objects: CustomObjects) -> object:
    """The model in `path`, not compiled: losses, metrics and the optimizer aren't served.

    custom_objects: the classes and functions that the file names and Keras doesn't know.
    Raises ExportError, also for Lambda layers, whose code would have to be run from the file, and for pickles.
    """
    config = keras_archives.config(path)
    if any(keras_archives.is_code(node) for node in keras_archives.nodes(config)):
        raise ExportError(f"{path} has a Lambda layer, whose Python code stands in the file and isn't run from there",
                          hint=_LAMBDA, id="lambda-layer")
    for finding in keras_archives.check(path):
        raise ExportError(f"{path} isn't safe to load: {finding.message}", hint=finding.fix, id="model-file-unreadable")
    version = keras_archives.keras_version(path)
    old = version.startswith("2.")
    if old and missing("keras2"):
        raise ExportError(f"{path} was saved by Keras 2 ({version}), which isn't installed", hint=_OLD,
                          id="keras2-missing")
    keras = quiet.keras2() if old else quiet.keras()
    try:
        with quiet.muted():
            return keras.models.load_model(path, custom_objects=dict(custom_objects), compile=False, safe_mode=True)
    except Exception as error:
        unknown = sorted(_custom(config, keras) - set(custom_objects))
        if unknown:
            raise ExportError(
                f"{path} needs {', '.join(unknown)}, which Keras doesn't know: a class or function of its author",
                hint=f"give it: --custom-object pkg.module:{unknown[0]}, or custom_objects={{...}}",
                id="custom-object-missing") from error
        hint = _DAMAGED if version == keras.__version__ else \
            f"Keras {version or '(unknown)'} saved it, and this is {keras.__version__}: use that one, or {_FROM_CODE}"
        raise user_error(f"loading {path}", error, hint) from error


def _custom(config: Mapping[str, Any], keras: Any) -> set[str]:
    """Names of classes and functions in the file that Keras doesn't know. HDF5 names layers without their module."""
    names = set()
    for node in keras_archives.nodes(config):
        name, module, inner = node.get("class_name"), str(node.get("module") or ""), node.get("config")
        if name == "function" and isinstance(inner, str):
            names.add(inner.rpartition(">")[2])
        elif isinstance(name, str) and not module.startswith(("keras", "builtins")):
            names.add(name.rpartition(">")[2])
        names |= {value.rpartition(">")[2] for key, value in node.items()
                  if isinstance(value, str) and key.endswith("activation")}
    rooms = [keras, *(getattr(keras, room) for room in _ROOMS)]
    return {name for name in names if not any(hasattr(room, name) for room in rooms)}


def _recognises(path: Path) -> bool:
    return path.suffix.lower() in keras_archives.SUFFIXES and path.is_file()


SOURCE = ModelSource("a .keras or .h5 file", _recognises, load_file)
