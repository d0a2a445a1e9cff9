"""Endpoints -> concrete functions, and the live object's own answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.errors import ExportError
from deploy.export import quiet, results
from deploy.export.failures import user_error
from deploy.export.plans import Array, Endpoint
from deploy.types import TensorSpec


def trace(endpoint: Endpoint) -> Any:
    """The endpoint as a ConcreteFunction: keyword inputs, a dict of outputs. Raises ExportError."""
    tf = quiet.tensorflow()
    back = {identifier: name for name, identifier in endpoint.identifiers.items()}

    def signature(**tensors: Any) -> dict[str, Any]:
        return results.named(endpoint.call({back[key]: tensor for key, tensor in tensors.items()}), endpoint)

    keys = endpoint.identifiers
    specs = {keys[spec.name]: tf.TensorSpec(spec.shape, spec.dtype, name=keys[spec.name]) for spec in endpoint.inputs}
    try:
        with quiet.muted():
            return tf.function(signature, autograph=False).get_concrete_function(**specs)
    except ExportError:
        raise
    except Exception as error:
        told = "; ".join(map(str, endpoint.inputs)) or "no inputs"
        raise user_error(f"tracing signature {endpoint.name!r} with {told}", error) from error


def answer(endpoint: Endpoint, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the live object returns. Raises ExportError with the object's own exception."""
    tf = quiet.tensorflow()
    dtypes = {spec.name: spec.dtype for spec in endpoint.inputs}
    try:
        with quiet.muted():
            tensors = {name: tf.constant(array, dtype=dtypes[name]) for name, array in inputs.items()}
            outputs = results.named(endpoint.call(tensors), endpoint)
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


def owned(functions: Sequence[Any], endpoints: Sequence[Endpoint]) -> tuple[list[Any], list[Any]]:
    """The variables that the functions use, and the tables and assets among what the endpoints hold.

    Only what is used is saved: no optimizer slots, no metrics, no training functions.
    """
    captured = {id(external) for function in functions for external, _ in function.graph.captures}
    variables = {id(v): v for function in functions for v in function.graph.variables}
    resources = {id(node): node for node in _resources(endpoints) if _handle(node) in captured}
    return sorted(variables.values(), key=lambda v: str(v.name)), list(resources.values())


def _resources(endpoints: Sequence[Endpoint]) -> Iterator[Any]:
    """Tables and assets below the objects that the endpoints hold."""
    tf = quiet.tensorflow()
    kinds = (tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
    seen: set[int] = set()
    for holder in [holder for endpoint in endpoints for holder in endpoint.holders]:
        if id(holder) not in seen and isinstance(holder, tf.__internal__.tracking.Trackable):
            seen.add(id(holder))
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
