"""Concrete functions -> a SavedModel directory, with the names and methods that the caller wants."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.errors import RepositoryError
from deploy.export import quiet, tracing
from deploy.export.failures import user_error
from deploy.export.plans import Endpoint
from deploy.types import PREDICT_METHOD
from deploy.wire.model_pb2 import SavedModel, SignatureDef

_ATTACHED = "keep every variable, table and asset as an attribute of the model or module"


def save(endpoints: Sequence[Endpoint], functions: Sequence[Any], directory: Path) -> None:
    """Write the SavedModel. Raises ExportError, RepositoryError if the directory can't be written."""
    tf = quiet.tensorflow()
    root = tf.__internal__.tracking.AutoTrackable()
    variables, resources = tracing.owned(functions, endpoints)
    root.variables, root.resources = variables, resources
    signatures = {endpoint.name: function for endpoint, function in zip(endpoints, functions, strict=True)}
    try:
        with quiet.muted():
            tf.saved_model.save(root, str(directory), signatures=signatures)
    except (AssertionError, ValueError, TypeError) as error:
        raise user_error("saving the model", error, _ATTACHED) from error
    except (tf.errors.OpError, OSError) as error:
        why = str(getattr(error, "message", error)).rpartition("; ")[2]  # behind the op's and the file's name
        raise RepositoryError(f"the model can't be written to {directory}: {why}",
                              hint="make room, or name another repository") from error
    rewrite(directory, endpoints)


def rewrite(directory: Path, endpoints: Sequence[Endpoint]) -> None:
    """Set what TensorFlow 2's saving can't: method names, and input names that are no Python identifiers.

    fingerprint.pb is removed when something changes, since it is a digest of saved_model.pb.
    """
    wanted = {e.name: e for e in endpoints
              if e.method_name != PREDICT_METHOD or any(name != key for name, key in e.identifiers.items())}
    if not wanted:
        return
    path = directory / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for name, endpoint in wanted.items():
            _rewrite(graph.signature_def[name], endpoint)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)


def _rewrite(signature: SignatureDef, endpoint: Endpoint) -> None:
    signature.method_name = endpoint.method_name
    infos = {name: signature.inputs[identifier] for name, identifier in endpoint.identifiers.items()}
    renamed = _copies(infos)
    for key in list(signature.inputs):
        del signature.inputs[key]
    for name, info in renamed.items():
        signature.inputs[name].CopyFrom(info)


def _copies(infos: Mapping[str, Any]) -> dict[str, Any]:
    copies = {}
    for name, info in infos.items():
        copies[name] = type(info)()
        copies[name].CopyFrom(info)
    return copies


def copy(source: Path, target: Path) -> None:
    """A SavedModel that exists already, into the directory. Raises RepositoryError."""
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except OSError as error:
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error  # (from, to, why) for each file
        raise RepositoryError(f"{source} can't be copied to the repository: {why}",
                              hint="make room, or name another repository") from error
