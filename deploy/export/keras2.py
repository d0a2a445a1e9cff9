"""Models of Keras 2 (the package tf_keras): what their signature takes, read from what they hold or recorded.

Names are those that Keras 2's own `model.save(directory)` gives: clients of such models know them.
"""

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
    free = type(model).__name__ == "Sequential" and not getattr(model, "_has_explicit_input_shape", True)
    names = [tensor.name for tensor in tensors]
    input_specs = tuple(_input(name, tensor, free=free) for name, tensor in zip(names, tensors, strict=True))
    classes = {layer.name: type(layer).__name__ for layer in model.layers}
    notes = (*_made_up("input", [(name, "InputLayer") for name in names], [layer.name for layer in model.layers]),
             *_made_up("output", [(name, classes.get(name, "")) for name in model.output_names]))

    def bind(named: Mapping[str, Any]) -> Arguments:
        return (tf.nest.pack_sequence_as(struct, [named[name] for name in names]),), {}

    return Invocation(input_specs, bind, tuple(model.output_names), notes)


def recorded(model: Any) -> Invocation | None:
    """A subclassed model that was called: Keras 2 remembers all tensors that it was given, with shapes and dtypes."""
    spec = model.save_spec() if model.built and hasattr(model, "save_spec") else None
    if not spec:
        return None
    positional, keywords = list(spec[0]), dict(spec[1])
    while positional and positional[-1] is None:  # `training` that was given by its place, and arguments left empty
        positional.pop()
    arguments = [*positional, *keywords.values()]
    if any(value is None or isinstance(value, bool | int | float | str) for value in arguments):
        keywords = {key: value for key, value in keywords.items() if hasattr(value, "shape")}
        arguments = [*positional, *keywords.values()]
    names = [*_parameters(model, len(positional)), *keywords]
    arguments = _consistent(arguments, [*(f"args_{index}" for index in range(len(positional))), *keywords])
    input_specs, pack = specs.flat(arguments, names, "serving_default")
    notes = _made_up("input", [(spec.name, "InputLayer") for spec in input_specs])
    order = [spec.name for spec in input_specs]

    def bind(named: Mapping[str, Any]) -> Arguments:
        given = pack({name: named[name] for name in order})
        return tuple(given[:len(positional)]), dict(zip(keywords, given[len(positional):], strict=True))

    return Invocation(input_specs, bind, notes=notes)


def _consistent(arguments: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """The arguments' specs, named as Keras 2 saves them: only the first argument's have names of their own, and if
    there are more, it names all of them by their argument, numbered where an argument has several.
    """
    import tensorflow as tf

    if all(spec.name for spec in tf.nest.flatten(list(arguments))):
        return list(arguments)
    named = []
    for argument, name in zip(arguments, names, strict=True):
        leaves = [tf.TensorSpec(spec.shape, spec.dtype, name if index == 0 else f"{name}_{index}")
                  if type(spec).__name__ == "TensorSpec" else spec
                  for index, spec in enumerate(tf.nest.flatten(argument))]
        named.append(tf.nest.pack_sequence_as(argument, leaves))
    return named


def flat_outputs(model: Any, result: Any) -> dict[str, Any]:
    """What a call returned, flat and by the names that Keras 2 gives its outputs when it saves the model."""
    import tensorflow as tf

    tensors = tf.nest.flatten(result)
    names = getattr(model, "output_names", None) or [
        "output_1" if not path else "_".join(map(str, path)) if not path[0].isdecimal() else
        f"output_{'_'.join(str(int(part) + 1) if part.isdecimal() else part for part in path)}"
        for path in specs.paths(result)]
    return dict(zip(names, tensors, strict=True))


def _made_up(kind: str, names: Sequence[tuple[str, str]], layers: Sequence[str] = ()) -> tuple[str, ...]:
    """A sentence for each name that nobody chose."""
    return tuple(f"{kind} {name!r}: Keras made that name up by what was built before, and clients see it; name the "
                 "layer, or pin another one" for name, class_name in names
                 if specs.automatic(name, class_name) or
                 (name.endswith("_input") and name.removesuffix("_input") in layers))


def _input(name: str, tensor: Any, *, free: bool) -> TensorSpec:
    spec = getattr(tensor, "type_spec", tensor)
    if way := specs.way_to_dense(spec):
        raise ExportError(specs.UNSENDABLE.format(tensor.name), hint=way, id="unsendable-dtype")
    described = specs.one(spec)
    return TensorSpec(name, described.dtype, specs.free_batch(described.shape) if free else described.shape)


def _parameters(model: Any, count: int) -> Sequence[str]:
    names = parameters(model).names
    return [*names[:count], *(f"input_{index}" for index in range(len(names), count))]
