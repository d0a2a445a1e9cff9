"""Whatever the caller gave -> endpoints: the one place that knows all kinds of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deploy.errors import ExportError
from deploy.export import examples, functions, keras2, keras_models, methods, quiet
from deploy.export.plans import Classify, Endpoint, OutputNames, Predict, Regress, Servable
from deploy.types import DEFAULT_SIGNATURE

_WHAT = "give a Keras model, a tf.Module, a tf.function, or the path of a .keras file or SavedModel"


def find(servable: Servable) -> list[Endpoint]:
    """The endpoints of an object: those asked for, or those that it offers itself. Raises ExportError."""
    model, asked = servable.model, servable.signatures
    if asked is not None:
        if not asked:
            raise ExportError("no signature is given: signatures is empty", hint="leave it out, or name what to serve")
        if servable.inputs is not None or servable.output_names is not None:
            raise ExportError("both signatures and inputs or output_names are given",
                              hint="say them in each signature: Predict(function, inputs=..., outputs=[...])")
        return [_asked(name, value, model) for name, value in asked.items()]
    if isinstance(model, Predict | Classify | Regress):
        return [_asked(DEFAULT_SIGNATURE, model, None)]
    if (serving := keras2.serving(model)) is not None:
        return [functions.endpoint(serving, DEFAULT_SIGNATURE, servable.inputs, servable.output_names, model)]
    if keras_models.is_model(model):
        seen = examples.seen(servable.examples)
        return [keras_models.endpoint(model, DEFAULT_SIGNATURE, servable.inputs, servable.output_names, seen)]
    return _offered(servable)


def _asked(name: object, value: object, owner: object) -> Endpoint:
    if not isinstance(name, str) or not name or name.startswith("__saved_model"):
        raise ExportError(f"{name!r} can't be a signature's name", hint=f"name it in letters, like {DEFAULT_SIGNATURE}")
    if isinstance(value, Classify | Regress):
        base = _one(name, value.function, value.features or _examples(value), None)
        made = methods.classify(base, value.labels) if isinstance(value, Classify) else methods.regress(base)
        return _held(made, owner)
    if isinstance(value, Predict):
        return _held(_one(name, value.function, value.inputs, value.outputs), owner)
    return _held(_one(name, value, None, None), owner)


def _examples(value: Classify | Regress) -> str | None:
    """Without features, a plain function takes the serialized examples; others say themselves what they take."""
    known = keras_models.is_model(value.function) or getattr(value.function, "input_signature", None) is not None
    return None if known else "string[?]"


def _one(name: str, function: object, inputs: object, outputs: OutputNames | None) -> Endpoint:
    if keras_models.is_model(function):
        return keras_models.endpoint(function, name, inputs, outputs)
    return functions.endpoint(function, name, inputs, outputs)


def _held(endpoint: Endpoint, owner: object) -> Endpoint:
    return endpoint if owner is None else replace(endpoint, holders=(*endpoint.holders, owner))


def _offered(servable: Servable) -> list[Endpoint]:
    tf = quiet.tensorflow()
    model = servable.model
    kinds = tf.types.experimental
    if isinstance(model, kinds.GenericFunction | kinds.ConcreteFunction):
        return [functions.endpoint(model, DEFAULT_SIGNATURE, servable.inputs, servable.output_names)]
    if isinstance(model, tf.train.Checkpoint | tf.Module | tf.__internal__.tracking.Trackable):
        if servable.inputs is not None and callable(model) and not isinstance(model.__call__, kinds.GenericFunction):
            plain = functions.endpoint(model.__call__, DEFAULT_SIGNATURE, servable.inputs, servable.output_names)
            return [_held(plain, model)]
        return functions.endpoints(model, servable.inputs, servable.output_names)
    if callable(model) and not isinstance(model, type):
        return [functions.endpoint(model, DEFAULT_SIGNATURE, servable.inputs, servable.output_names)]
    what = "None" if model is None else f"the class {model.__name__}" if isinstance(model, type) else \
        f"a {type(model).__name__}"
    hint = _WHAT if not isinstance(model, Mapping) else f"{_WHAT}; a dict of functions goes to signatures="
    raise ExportError(f"{what} can't be exported", hint=hint)
