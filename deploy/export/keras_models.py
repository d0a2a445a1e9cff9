"""A Keras model -> a signature: what it takes, how it is called, what its results are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deploy.errors import ExportError
from deploy.export import keras2, keras_calls, keras_inputs, quiet, specs
from deploy.export.failures import user_error
from deploy.export.keras_calls import Invocation
from deploy.export.options import OutputNames, SignatureFunction
from deploy.goldens import examples
from deploy.types import Signature, TensorSpec

_UNTRAINED = "the model was built just now, from its input spec: its weights are initial ones, not trained"
_HOW = 'inputs={"pixels": (None, 784)} or --input "pixels: float32[?, 784]"'


def is_model(value: object) -> bool:
    """Whether `value` is a model or layer of Keras 3 or 2. Doesn't import Keras."""
    three = any(base.__name__ == "Layer" and base.__module__.startswith("keras.") for base in type(value).__mro__)
    return three or keras2.is_model(value)


def endpoint(model: Any, name: str, inputs: object, output_names: OutputNames | None,
             seen: tuple[TensorSpec, ...] | None = None) -> SignatureFunction:
    """The model's call with training=False as a signature called `name`.

    inputs: what the caller pins, in any form of `specs.parse`; None to take everything from the model.
    seen: what its examples look like, which counts where the model doesn't hold its own inputs.
    Raises ExportError if it is unbuilt and nothing says what it takes, or if `inputs` doesn't fit it.
    """
    source: Any = keras2 if keras2.is_model(model) else keras_inputs
    if source is keras_inputs:
        quiet.keras()
    training = {"training": False} if source is keras_inputs or keras_calls.trains(model) else {}
    pinned = None if inputs is None else specs.parse(inputs)
    described = pinned or seen
    built = _build(model, described) if described and not model.built else None
    invocation = source.known(model)
    if invocation is None:
        invocation, pinned = built or source.recorded(model) or _described(model, described), described
    invocation = keras_calls.extended(model, invocation, described or ())
    if pinned:
        invocation = _pin(invocation, pinned)
    notes = (*invocation.notes, *keras_calls.left_out(model, invocation.inputs), *([_UNTRAINED] if built else []),
             *([keras2.NOTE] if source is keras2 else []))

    def call(tensors: Mapping[str, Any]) -> Any:
        positional, named = invocation.bind(tensors)
        result = model(*positional, **named, **training)
        return keras2.flat_outputs(model, result) if source is keras2 else result

    return SignatureFunction(name, invocation.inputs, call, invocation.outputs, rename=output_names, holders=(model,),
                             notes=notes)


def _described(model: Any, described: tuple[TensorSpec, ...] | None) -> Invocation:
    """A model that knows nothing about its inputs: the caller says it all."""
    if described is None:
        class_name = type(model).__name__
        if not model.built:
            raise ExportError(f"the {class_name} model {model.name!r} isn't built, so its input shapes are unknown",
                              hint=f"fit it or call it on data first, or say what it takes: {_HOW}",
                              id="inputs-unknown")
        raise ExportError(f"the {class_name} model {model.name!r} doesn't tell its inputs",
                          hint=f"say what it takes: {_HOW}", id="inputs-unknown")
    input_specs = _complete(model, described)
    return Invocation(input_specs, keras_calls.ways(model, [spec.name for spec in input_specs])[0])


def _build(model: Any, described: tuple[TensorSpec, ...]) -> Invocation:
    """Create the weights by calling the model once, in the first way that it accepts."""
    import tensorflow as tf

    input_specs = _complete(model, described)
    arrays = examples.generate(Signature("build", input_specs, ()), 1)
    tensors = {name: tf.constant(array) for name, array in arrays.items()}
    failed: Exception | None = None
    for bind in keras_calls.ways(model, list(tensors)):
        try:
            with quiet.muted():
                positional, named = bind(tensors)
                model(*positional, **named)
                return Invocation(input_specs, bind)
        except Exception as error:
            failed = failed or error
    assert failed is not None
    described_inputs = "; ".join(map(str, input_specs))
    raise user_error(f"building the model by calling it with {described_inputs}", failed,
                     "give the input spec that it takes") from failed


def _complete(model: Any, described: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Names for those that have none: the call's argument for a single input, or positional ones."""
    if len(described) == 1 and not described[0].name:
        return (replace(described[0], name=keras_calls.parameters(model).first),)
    return tuple(spec if spec.name else replace(spec, name=f"input_{index}") for index, spec in enumerate(described))


def _pin(invocation: Invocation, pinned: tuple[TensorSpec, ...]) -> Invocation:
    """The caller's names, dtypes and shapes over the model's: by name if the names are the same, else by position."""
    if len(pinned) != len(invocation.inputs):
        takes = "; ".join(map(str, invocation.inputs))
        raise ExportError(f"the model has {len(invocation.inputs)} inputs ({takes}), and {len(pinned)} are given",
                          hint="describe each of them", id="input-spec")
    by_name = {spec.name: spec for spec in pinned}
    same = set(by_name) == {spec.name for spec in invocation.inputs}
    pairs = [(own, by_name[own.name] if same else other) for own, other in zip(invocation.inputs, pinned, strict=True)]
    for own, other in pairs:
        if not specs.compatible(own.shape, other.shape):
            raise ExportError(f"the model's input is {own}, and the input spec says {other}",
                              hint="shapes include the batch dimension: (None, 784)", id="input-spec")
    input_specs = tuple(replace(other, name=other.name or own.name) for own, other in pairs)
    back = {spec.name: own for (own, _), spec in zip(pairs, input_specs, strict=True)}

    def bind(tensors: Mapping[str, Any]) -> keras_calls.Arguments:
        import tensorflow as tf

        return invocation.bind({back[name].name: tensor if tensor.dtype.name == back[name].dtype or
                          "string" in (tensor.dtype.name, back[name].dtype) else tf.cast(tensor, back[name].dtype)
                          for name, tensor in tensors.items()})

    notes = tuple(note for note in invocation.notes if not note.startswith(keras_inputs.DERIVED))
    return Invocation(input_specs, bind, invocation.outputs, notes)
