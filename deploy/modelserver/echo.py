"""A loader without TensorFlow: versions answer with what they are sent, or with what a function makes of it.

For tests of everything around a model. On disk, a version needs a `saved_model.pb`; an empty one is enough and stands
for one signature with an input `x` and an output `y`, float32 of any shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from deploy.engine.latency import LatencyEstimate, Shapes
from deploy.modelserver.loader import Model, check_directory
from deploy.modelserver.status import Code, StatusError, invalid, not_found
from deploy.types import DEFAULT_SIGNATURE, Contract, Signature, TensorSpec
from deploy.wire import model_pb2
from deploy.wire.contracts import signature_to_proto
from deploy.wire.dtypes import Array
from deploy.wire.tensors import dims, dtype_from_number, numpy_dtype, shaped

_LONG = 1 << 12  # elements
_IMMEDIATE = LatencyEstimate()
_IMMEDIATE.observe(0, 0, 0, 0)
Outputs = Callable[[Mapping[str, Array]], Mapping[str, Array]]
ANY = Contract((Signature(
    DEFAULT_SIGNATURE, (TensorSpec("x", "float32", None),), (TensorSpec("y", "float32", None),)),))


class EchoModel:
    """A version that computes nothing by itself.

    signatures: by name. functions: signature -> what makes named outputs of named inputs; without one, an output is
    the input of the same name, or the first of the same dtype, or a zero.
    """

    def __init__(self, signatures: Mapping[str, model_pb2.SignatureDef],
                 functions: Mapping[str, Outputs] | None = None) -> None:
        self.signatures = dict(signatures)
        self._functions = dict(functions or {})

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        for name, signature in self.signatures.items():
            inputs = {info.name: alias for alias, info in signature.inputs.items()}
            outputs = {info.name: alias for alias, info in signature.outputs.items()}
            if inputs.keys() == feeds.keys() and outputs.keys() >= set(fetches):
                named = {alias: feeds[tensor] for tensor, alias in inputs.items()}
                arrays = self._functions.get(name, lambda values, s=signature: _echo(s, values))(named)
                return [_cast(arrays[outputs[f]], signature.outputs[outputs[f]]) for f in fetches]
        raise invalid(f"no signature has the inputs {sorted(feeds)} and the outputs {sorted(fetches)}")

    def latency(self, feeds: Sequence[str], fetches: Sequence[str],  # noqa: ARG002
                shapes: Shapes) -> LatencyEstimate | None:
        few = sum(math.prod(shape) for shape in shapes) * len(fetches) < _LONG
        return _IMMEDIATE if few and not self._functions else None

    def close(self) -> None:
        """Nothing to free."""


def _echo(signature: model_pb2.SignatureDef, values: Mapping[str, Array]) -> dict[str, Array]:
    def one(alias: str, info: model_pb2.TensorInfo) -> Array:
        if alias in values:
            return values[alias]
        same = [a for n, a in sorted(values.items()) if signature.inputs[n].dtype == info.dtype]
        return same[0] if same else np.zeros((), numpy_dtype(dtype_from_number(info.dtype)))

    return {alias: one(alias, info) for alias, info in signature.outputs.items()}


def _cast(value: Array, info: model_pb2.TensorInfo) -> Array:
    name = dtype_from_number(info.dtype)
    if name == "string":
        array = np.asanyarray(value, dtype=object)
        flat = [v.encode() if isinstance(v, str) else bytes(v) for v in array.ravel().tolist()]
        strings = np.empty(len(flat), dtype=object)
        strings[:] = flat
        return shaped(strings, dims(array))
    return np.asanyarray(value, dtype=numpy_dtype(name))


def signature_defs(contract: Contract) -> dict[str, model_pb2.SignatureDef]:
    """The contract as a SavedModel would have it: every tensor has a name in its graph."""

    def named(specs: tuple[TensorSpec, ...], prefix: str) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, tensor=spec.tensor or f"{prefix}_{spec.name}:0") for spec in specs)

    return {name: signature_to_proto(replace(signature, inputs=named(signature.inputs, f"{name}_in"),
                                             outputs=named(signature.outputs, f"{name}_out")))
            for name, signature in contract.items()}


class EchoLoader:
    """Reads a version's signatures from its saved_model.pb, and echoes."""

    def load(self, name: str, version: int, path: str) -> Model:  # noqa: ARG002
        check_directory(path)
        try:
            saved = model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
        except (DecodeError, OSError) as error:
            raise StatusError(Code.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto") from error
        for graph in saved.meta_graphs:
            if "serve" in graph.meta_info_def.tags:
                return EchoModel(dict(graph.signature_def))
        if saved.meta_graphs:
            raise not_found(f"Could not find meta graph def matching supplied tags: {{ serve }} in {path}")
        return EchoModel(signature_defs(ANY))
