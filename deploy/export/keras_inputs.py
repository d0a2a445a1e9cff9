"""What a Keras model tells of its inputs: held by functional and sequential models, recorded by called ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.errors import ExportError
from deploy.export import specs
from deploy.export.keras_calls import (
    Arguments,
    Bind,
    Invocation,
    Parameters,
    each_argument,
    every_argument,
    one_argument,
    parameters,
    single,
)
from deploy.types import TensorSpec

DERIVED = ("input ", "inputs are taken as ", "the first dimension of ")
"""How notes begin that don't hold any more where the caller says what the inputs are."""

_FREED = "the first dimension of {} is free: its size, {}, is that of the first call, which Keras remembers"


def known(model: Any) -> Invocation | None:
    """A functional or sequential model: it holds its own inputs and outputs. None for others. Raises ExportError."""
    import keras

    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    whole = isinstance(graph, keras.Model) and getattr(graph, "inputs", None) and hasattr(graph, "output_names")
    if graph is None or not whole:
        return None
    tensors = list(graph.inputs)
    for tensor in tensors:
        if way := specs.way_to_dense(tensor):
            raise ExportError(specs.UNSENDABLE.format(tensor.name), hint=way, id="unsendable-dtype")
    own = [(t.name, t._keras_history.operation.__class__.__name__) for t in tensors]
    chosen = _keys(graph.input) or specs.stable("input", own)
    layers = [t._keras_history.operation for t in graph.outputs]
    results = list(zip(graph.output_names, [type(layer).__name__ for layer in layers], strict=True))
    outputs = specs.stable("output", results)
    notes = specs.replaced("input", own, chosen)
    if not isinstance(graph.output, Mapping):
        notes += specs.replaced("output", results, outputs)
    input_specs = []
    for name, tensor in zip(chosen, tensors, strict=True):
        shape = tuple(tensor.shape)
        if remembered(model, tensor):
            notes += (_FREED.format(name, shape[0]),)
            shape = (None, *shape[1:])
        input_specs.append(TensorSpec(name, str(tensor.dtype), shape))
    struct = graph.input

    def bind(named: Mapping[str, Any]) -> Arguments:
        return (keras.tree.pack_sequence_as(struct, [named[key] for key in chosen]),), {}

    return Invocation(tuple(input_specs), bind, outputs, notes)


def remembered(model: Any, tensor: Any) -> bool:
    """Whether an input's fixed batch size is only that of the call by which Keras built a Sequential.

    It is the author's choice where keras.Input was given one, and needed where layers keep state for each row. Files
    keep no difference between the two for a Sequential whose input nobody named; Keras's own export frees all.
    """
    import keras

    if not tensor.shape or tensor.shape[0] is None:
        return False
    layers = list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else []
    if any(getattr(layer, "stateful", False) is True for layer in layers):
        return False
    if isinstance(model, keras.Sequential):
        first = next(iter(model.layers), None)
        inner = getattr(first, "_functional", first) if isinstance(first, keras.Model) else None
        held = getattr(inner, "inputs", None)
        if held and held[0].shape and held[0].shape[0] is not None:
            return remembered(first, held[0])
    layer = tensor._keras_history.operation
    config: Mapping[str, Any] = getattr(getattr(layer, "_auto_config", None), "config", None) or {}
    if config.get("batch_size") is not None or config.get("dtype") is None:
        return False
    if layer.name.endswith("CLONE"):  # the input of a model cut out of another one
        return True
    live = config.get("sparse") is None  # else it comes from a configuration, as a file holds it
    first = model.layers[0].name if isinstance(model, keras.Sequential) and model.layers else ""
    made_up = specs.automatic(layer.name, type(layer).__name__) or layer.name == f"{first}_input"  # as in Keras 2
    return made_up and (live or isinstance(model, keras.Sequential))


def recorded(model: Any) -> Invocation | None:
    """A subclassed model that was called: Keras remembers shapes (only the first, without a `build` of its own)."""
    shapes = getattr(model, "_build_shapes_dict", None)
    takes = parameters(model)
    if not model.built or not shapes or len(shapes) < len(takes.needed):
        return None
    dtype = str(getattr(model, "input_dtype", None) or "float32")
    struct = next(iter(shapes.values())) if len(shapes) == 1 else None
    if len(shapes) == 1:
        leaves = _leaves(struct, takes.first)
    else:
        leaves = {key.removesuffix("_shape"): shape for key, shape in shapes.items() if shape is not None}
    if leaves is None or not all(_is_shape(shape) for shape in leaves.values()):
        return None
    input_specs = tuple(TensorSpec(key, dtype, specs.free_batch(shape)) for key, shape in leaves.items())
    note = f"inputs are taken as {dtype}: a subclassed model doesn't record dtypes; pin inputs to change it"
    return Invocation(input_specs, _bind(takes, list(leaves), struct), notes=(note,))


def _bind(takes: Parameters, names: list[str], struct: object) -> Bind:
    """struct: the only shape that was recorded; None if there are several, each with its argument's name."""
    if struct is None:
        return each_argument(names, takes)
    if _is_shape(struct):
        return single(names[0], takes)
    return every_argument(names) if takes.rest and not takes.names else \
        one_argument(names, as_dict=isinstance(struct, Mapping))


def _keys(struct: object) -> tuple[str, ...] | None:
    """A flat dict's keys, in the order in which Keras flattens it."""
    flat = isinstance(struct, Mapping) and not any(isinstance(v, Mapping | list | tuple) for v in struct.values())
    return tuple(sorted(struct)) if flat and isinstance(struct, Mapping) else None


def _leaves(shape: object, argument: str) -> dict[str, tuple[int | None, ...]] | None:
    """Input name -> shape for a recorded shape: one tensor, or a flat dict, list or tuple of them."""
    if _is_shape(shape):
        return {argument: tuple(shape)}  # type: ignore[arg-type]
    if isinstance(shape, Mapping) and all(_is_shape(leaf) for leaf in shape.values()):
        return {str(key): tuple(leaf) for key, leaf in shape.items()}
    if isinstance(shape, list | tuple) and all(_is_shape(leaf) for leaf in shape):
        return {f"input_{index}": tuple(leaf) for index, leaf in enumerate(shape)}
    return None


def _is_shape(value: object) -> bool:
    return isinstance(value, list | tuple) and all(d is None or isinstance(d, int) for d in value)
