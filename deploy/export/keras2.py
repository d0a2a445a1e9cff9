"""Models of Keras 2 (the package tf_keras): what their signature takes, read from what they hold or recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.errors import ExportError
from deploy.export import specs
from deploy.export.keras_calls import Arguments, Invocation, parameters
from deploy.types import TensorSpec

NOTE = "this is a model of Keras 2 (tf_keras), exported as it is"


def is_model(value: object) -> bool:
    """Whether `value` is a model or layer of Keras 2. Doesn't import it."""
    return any(base.__name__ == "Layer" and base.__module__.startswith(("tf_keras.", "keras.engine."))
               for base in type(value).__mro__)


def serving(model: object) -> Any:
    """The tf.function `serving` with its own input_signature, as Hugging Face's models have it; else None."""
    function = getattr(model, "serving", None) if is_model(model) else None
    return function if getattr(function, "input_signature", None) is not None else None


def known(model: Any) -> Invocation | None:
    """A functional or sequential model: it holds its own inputs and outputs. None for others. Raises ExportError."""
    import tensorflow as tf

    if not getattr(model, "_is_graph_network", False) or not model.inputs:
        return None
    held = getattr(model, "_nested_inputs", None)
    struct = model.input if held is None else held
    tensors = tf.nest.flatten(struct)
    own = list(zip((tensor.name for tensor in tensors), ("InputLayer" for _ in tensors), strict=True))
    free = type(model).__name__ == "Sequential" and not getattr(model, "_has_explicit_input_shape", True)
    chosen = _keys(struct) or specs.stable("input", [("" if free else name, kind) for name, kind in own])
    input_specs = tuple(_input(name, tensor, free=free) for name, tensor in zip(chosen, tensors, strict=True))
    classes = {layer.name: type(layer).__name__ for layer in model.layers}
    results = [(name, classes.get(name, "")) for name in model.output_names]
    outputs = specs.stable("output", results)
    notes = () if free else specs.replaced("input", own, chosen)
    if not isinstance(getattr(model, "_nested_outputs", None), Mapping):
        notes += specs.replaced("output", results, outputs)

    def bind(named: Mapping[str, Any]) -> Arguments:
        return (tf.nest.pack_sequence_as(struct, [named[key] for key in chosen]),), {}

    return Invocation(input_specs, bind, outputs, notes)


def recorded(model: Any) -> Invocation | None:
    """A subclassed model that was called: Keras 2 remembers all tensors that it was given, with shapes and dtypes."""
    spec = model.save_spec() if model.built and hasattr(model, "save_spec") else None
    if not spec:
        return None
    positional, keywords = list(spec[0]), dict(spec[1])
    arguments = [*positional, *keywords.values()]
    if any(value is None or isinstance(value, bool | int | float | str) for value in arguments):
        keywords = {key: value for key, value in keywords.items() if hasattr(value, "shape")}
        arguments = [*positional, *keywords.values()]
    names = [*_parameters(model, len(positional)), *keywords]
    input_specs, pack = specs.flat(arguments, names, "serving_default")
    if len(positional) == 1 and hasattr(positional[0], "shape"):  # its recorded name, input_1, is Keras's own
        input_specs = (TensorSpec(names[0], input_specs[0].dtype, input_specs[0].shape), *input_specs[1:])
    order = [spec.name for spec in input_specs]

    def bind(named: Mapping[str, Any]) -> Arguments:
        given = pack({name: named[name] for name in order})
        return tuple(given[:len(positional)]), dict(zip(keywords, given[len(positional):], strict=True))

    return Invocation(input_specs, bind)


def _input(name: str, tensor: Any, *, free: bool) -> TensorSpec:
    spec = getattr(tensor, "type_spec", tensor)
    if type(spec).__name__ in ("RaggedTensorSpec", "SparseTensorSpec"):
        raise ExportError(f"input {tensor.name!r} of the model is sparse or ragged, and a request holds dense tensors",
                          hint="wrap the model in a tf.function that makes the sparse tensor from dense inputs")
    described = specs.one(spec)
    return TensorSpec(name, described.dtype, specs.free_batch(described.shape) if free else described.shape)


def _parameters(model: Any, count: int) -> Sequence[str]:
    names = parameters(model).names
    return [*names[:count], *(f"input_{index}" for index in range(len(names), count))]


def _keys(struct: object) -> tuple[str, ...] | None:
    flat = isinstance(struct, Mapping) and not any(isinstance(v, Mapping | list | tuple) for v in struct.values())
    return tuple(sorted(struct)) if flat and isinstance(struct, Mapping) else None
