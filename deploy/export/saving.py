"""Signatures -> concrete functions -> a SavedModel with the names and methods that the caller wants; live answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.errors import ExportError, RepositoryError
from deploy.export import quiet, specs
from deploy.export.failures import user_error
from deploy.export.options import SignatureFunction
from deploy.savedmodel.reader import GRAPH
from deploy.savedmodel.scanning import Identity, identity
from deploy.types import PREDICT_METHOD, TensorSpec
from deploy.wire.dtypes import Array
from deploy.wire.model_pb2 import SavedModel, SignatureDef

_PIECE = 8 << 20  # bytes
_ATTACHED = "keep every variable, table and asset as an attribute of the model or module"


def trace(endpoint: SignatureFunction) -> Any:
    """The endpoint as a ConcreteFunction: keyword inputs, a dict of outputs. Raises ExportError."""
    tf = quiet.tensorflow()
    back = {identifier: name for name, identifier in endpoint.identifiers.items()}

    def signature(**tensors: Any) -> dict[str, Any]:
        return named(endpoint.call({back[key]: tensor for key, tensor in tensors.items()}), endpoint)

    keys = endpoint.identifiers
    specs = {keys[spec.name]: tf.TensorSpec(spec.shape, spec.dtype, name=keys[spec.name]) for spec in endpoint.inputs}
    try:
        with quiet.muted():
            return tf.function(signature, autograph=False).get_concrete_function(**specs)
    except ExportError:
        raise
    except Exception as error:
        described = "; ".join(map(str, endpoint.inputs)) or "no inputs"
        raise user_error(f"tracing signature {endpoint.name!r} with {described}", error) from error


def answer(endpoint: SignatureFunction, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the live object returns. Raises ExportError with the object's own exception."""
    tf = quiet.tensorflow()
    dtypes = {spec.name: spec.dtype for spec in endpoint.inputs}
    try:
        with quiet.muted():
            tensors = {name: tf.constant(array, dtype=dtypes[name]) for name, array in inputs.items()}
            outputs = named(endpoint.call(tensors), endpoint)
    except ExportError:
        raise
    except Exception as error:
        raise user_error(f"calling signature {endpoint.name!r} on its example inputs", error,
                         examples_hint(endpoint.inputs)) from error
    return {name: _array(tensor.numpy()) for name, tensor in outputs.items()}


def examples_hint(inputs: Sequence[TensorSpec]) -> str:
    """How to give inputs that a signature takes."""
    text = next((spec.name for spec in inputs if spec.dtype == "string"), None)
    as_bytes = f'; bytes, such as images, in a .json file: {{"{text}": [{{"b64": "..."}}]}}' if text else ""
    return f"give inputs that it takes with --examples FILE or examples=...{as_bytes}"


def owned(functions: Sequence[Any], endpoints: Sequence[SignatureFunction]) -> tuple[list[Any], list[Any]]:
    """The variables that the functions use, and the tables and assets among what the endpoints hold.

    Only what is used is saved: no optimizer slots, no metrics, no training functions.
    """
    captured = {id(external) for function in functions for external, _ in function.graph.captures}
    variables = {id(v): v for function in functions for v in function.graph.variables}
    resources = {id(node): node for node in _resources(endpoints) if _handle(node) in captured}
    return sorted(variables.values(), key=lambda v: str(v.name)), list(resources.values())


def _resources(endpoints: Sequence[SignatureFunction]) -> Iterator[Any]:
    """Tables and assets below the objects that the endpoints hold."""
    tf = quiet.tensorflow()
    kinds = (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
    visited: set[int] = set()
    for holder in [holder for endpoint in endpoints for holder in endpoint.holders]:
        if id(holder) not in visited and isinstance(holder, tf.__internal__.tracking.Trackable):
            visited.add(id(holder))
            yield from (node for node in tf.train.TrackableView(holder).descendants() if isinstance(node, kinds))


def _handle(node: Any) -> int | None:
    """The identity of the tensor that functions capture of a table or asset."""
    return next((id(value) for name in ("resource_handle", "asset_path")
                 if (value := getattr(node, name, None)) is not None), None)


def _array(value: Any) -> Array:
    """Scalars of strings come as bytes from TensorFlow."""
    if isinstance(value, bytes):
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


def named(result: object, endpoint: SignatureFunction) -> dict[str, Any]:
    """The result's tensors by output name, renamed and cast as the endpoint says. Raises ExportError."""
    by_name = _by_name(result, endpoint)
    if not by_name:
        raise ExportError(f"signature {endpoint.name!r} returns nothing", hint="return a tensor or a dict of tensors",
                          id="bad-signature")
    tensors = {name: _tensor(value, name, endpoint.name) for name, value in by_name.items()}
    return _renamed(tensors, endpoint)


def _by_name(result: object, endpoint: SignatureFunction) -> dict[str, object]:
    if isinstance(result, Mapping):
        bad_keys = [key for key in result if not isinstance(key, str) or not key]
        if bad_keys:
            raise ExportError(f"signature {endpoint.name!r} returns a dict with the key {bad_keys[0]!r}",
                              hint="output names have to be text", id="bad-signature")
        return dict(result)
    if isinstance(result, tuple) and hasattr(result, "_asdict"):
        return dict(result._asdict())
    values = list(result) if isinstance(result, list | tuple) else [result]
    names = endpoint.outputs if len(endpoint.outputs) == len(values) else specs.positional("output", len(values))
    return dict(zip(names, values, strict=True))


def _tensor(value: Any, name: str, signature: str) -> Any:
    import tensorflow as tf

    if isinstance(value, tf.Tensor):
        return value
    if isinstance(value, tf.Variable):
        return tf.convert_to_tensor(value)
    hint = "return tensors only: one, a list of them, or a flat dict"
    if isinstance(value, tf.RaggedTensor):
        hint = "a served output is a dense tensor: return value.to_tensor()"
    elif isinstance(value, tf.SparseTensor):
        hint = "a served output is a dense tensor: return tf.sparse.to_dense(value)"
    elif isinstance(value, Mapping | list | tuple):
        hint = "flatten it: a served model returns one dict of tensors, without another one inside"
    elif isinstance(value, bool | int | float | str | bytes):
        hint = f"return tf.constant({value!r}), or leave it out"
    shown = f"{value!r}, " if isinstance(value, str | bytes | int | float) else ""
    what = "None" if value is None else f"{shown}a {type(value).__name__}"
    raise ExportError(f"output {name!r} of signature {signature!r} isn't a tensor but {what}", hint=hint,
                      id="bad-signature")


def _renamed(tensors: Mapping[str, Any], endpoint: SignatureFunction) -> dict[str, Any]:
    rename = endpoint.rename
    if rename is None:
        return dict(tensors)
    if isinstance(rename, str):
        rename = [rename]
    old = list(tensors)
    if not isinstance(rename, Mapping):
        if len(rename) != len(old):
            raise ExportError(f"signature {endpoint.name!r} has {len(old)} outputs ({', '.join(old)}), "
                              f"and {len(rename)} output names are given", hint="give one name for each, in this order",
                              id="bad-signature")
        rename = dict(zip(old, rename, strict=True))
    unknown = sorted(set(rename) - set(old))
    if unknown:
        raise ExportError(f"signature {endpoint.name!r} has no output {unknown[0]!r} to rename",
                          hint=f"its outputs are {', '.join(old)}", id="bad-signature")
    return _distinct({name: _pinned(str(rename.get(name, name)), tensors[name]) for name in old}, endpoint.name)


def _pinned(wanted: str, tensor: Any) -> tuple[str, Any]:
    """`probs` renames; `probs: float32` casts, too."""
    if ":" not in wanted:
        return wanted, tensor
    import tensorflow as tf

    spec = specs.one(wanted)
    return spec.name, tf.cast(tensor, spec.dtype)


def _distinct(renamed: Mapping[str, tuple[str, Any]], signature: str) -> dict[str, Any]:
    names = [name for name, _ in renamed.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(f"two outputs of signature {signature!r} would be called {twice[0]!r}",
                          hint="give every output its own name", id="bad-signature")
    return dict(renamed.values())


def save(endpoints: Sequence[SignatureFunction], functions: Sequence[Any], directory: Path) -> None:
    """Write the SavedModel. Raises ExportError, RepositoryError if the directory can't be written."""
    tf = quiet.tensorflow()
    root = tf.__internal__.tracking.AutoTrackable()
    variables, resources = owned(functions, endpoints)
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
                              hint="make room, or name another repository", id="disk-full") from error
    rewrite(directory, endpoints)


def rewrite(directory: Path, endpoints: Sequence[SignatureFunction]) -> None:
    """Set what TensorFlow 2's saving can't: method names, and input names that are no Python identifiers.

    fingerprint.pb is removed when something changes, since it is a digest of saved_model.pb.
    """
    wanted = {e.name: e for e in endpoints
              if e.method_name != PREDICT_METHOD or any(name != key for name, key in e.identifiers.items())}
    if not wanted:
        return
    path = directory / GRAPH
    saved = SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for name, endpoint in wanted.items():
            _rewrite(graph.signature_def[name], endpoint)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)


def _rewrite(signature: SignatureDef, endpoint: SignatureFunction) -> None:
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


def state(directory: Path) -> dict[str, Identity]:
    """What changes when anything in a directory does. Raises RepositoryError if it can't be looked at."""
    try:
        return {name: identity(entry.stat()) for name, entry in files.walk(directory)}
    except OSError as error:
        raise RepositoryError(f"{error.filename or directory} can't be read: {files.reason(error)}",
                              hint="name a model that this user may read, with nothing in it but its files",
                              id="path-unusable") from error


def copy(source: Path, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """A SavedModel that exists already, into the directory. progress: gets bytes done, and bytes in all.

    Raises RepositoryError.
    """
    done, (total, _) = 0, files.total(source)

    def by_pieces(one: str, other: str) -> None:
        nonlocal done
        with files.open_regular(one) as reader, Path(other).open("wb") as writer:
            while piece := reader.read(_PIECE):
                done += writer.write(piece)
                assert progress is not None
                progress(done, total)
        shutil.copystat(one, other)

    try:
        shutil.copytree(source, target, dirs_exist_ok=True, copy_function=by_pieces if progress else shutil.copy2)
    except OSError as error:
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error  # (from, to, why) for each file
        raise RepositoryError(f"{source} can't be copied to the repository: {why}",
                              hint="make room, or name another repository", id="disk-full") from error
