"""Whatever the caller gave -> signatures with their functions: the one place that knows all kinds of objects.

Classify and Regress are signatures whose one input is serialized tf.Examples. What the server wants of them:
tensorflow_serving/servables/tensorflow/classifier.cc and regressor.cc: an input `inputs`, outputs `classes` (string)
and `scores` (float), or `outputs` (float), and the method's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deploy.errors import ExportError
from deploy.export import examples, functions, jax_models, keras2, keras_models, quiet, saving
from deploy.export.options import Classify, Exportable, OutputNames, Predict, Regress, SignatureFunction
from deploy.types import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD, TensorSpec
from deploy.wire import example_pb2
from deploy.wire.dtypes import Array

_WHAT = "give a Keras model, a tf.Module, a tf.function, or the path of a .keras file or SavedModel"

_ON_THE_WIRE = {"float": "float32", "bfloat": "float32", "int": "int64", "uint": "int64", "bool": "int64",
                "string": "string"}


def find(source: Exportable) -> list[SignatureFunction]:
    """The endpoints of an object: those asked for, or those that it offers itself. Raises ExportError."""
    model, chosen = source.model, source.signatures
    if chosen is not None:
        if not chosen:
            raise ExportError("no signature is given: signatures is empty", hint="leave it out, or name what to serve",
                              id="bad-signature")
        if source.inputs is not None or source.output_names is not None:
            raise ExportError("both signatures and inputs or output_names are given",
                              hint="say them in each signature: Predict(function, inputs=..., outputs=[...])",
                              id="input-spec")
        return [_chosen(name, value, model) for name, value in chosen.items()]
    if isinstance(model, SignatureFunction):
        return [model]
    if isinstance(model, Predict | Classify | Regress):
        return [_chosen(DEFAULT_SIGNATURE, model, None)]
    if (serving := keras2.serving(model)) is not None:
        return [functions.endpoint(serving, DEFAULT_SIGNATURE, source.inputs, source.output_names, model)]
    if keras_models.is_model(model):
        seen = examples.seen(source.examples)
        return [keras_models.endpoint(model, DEFAULT_SIGNATURE, source.inputs, source.output_names, seen)]
    return _offered(source)


def _chosen(name: object, value: object, owner: object) -> SignatureFunction:
    if not isinstance(name, str) or not name or name.startswith("__saved_model"):
        raise ExportError(f"{name!r} can't be a signature's name", hint=f"name it in letters, like {DEFAULT_SIGNATURE}",
                          id="bad-signature")
    if isinstance(value, Classify | Regress):
        base = _one(name, value.function, value.features or _examples(value), None)
        endpoint = classify(base, value.labels) if isinstance(value, Classify) else regress(base)
        return _owned(endpoint, owner)
    if isinstance(value, Predict):
        return _owned(_one(name, value.function, value.inputs, value.outputs), owner)
    if isinstance(value, Exportable):
        return _owned(_one(name, value.model, value.inputs, value.output_names), owner)
    return _owned(_one(name, value, None, None), owner)


def _examples(value: Classify | Regress) -> str | None:
    """Without features, a plain function takes the serialized examples; others say themselves what they take."""
    known = keras_models.is_model(value.function) or getattr(value.function, "input_signature", None) is not None
    return None if known else "string[?]"


def _one(name: str, function: object, inputs: object, outputs: OutputNames | None) -> SignatureFunction:
    if keras_models.is_model(function):
        return keras_models.endpoint(function, name, inputs, outputs)
    if jax_models.recognises(function):
        return jax_models.endpoint(function, name, inputs, outputs)
    return functions.endpoint(function, name, inputs, outputs)


def _owned(endpoint: SignatureFunction, owner: object) -> SignatureFunction:
    return endpoint if owner is None else replace(endpoint, holders=(*endpoint.holders, owner))


def _offered(source: Exportable) -> list[SignatureFunction]:
    if jax_models.recognises(source.model):
        return [jax_models.endpoint(source.model, DEFAULT_SIGNATURE, source.inputs, source.output_names)]
    tf = quiet.tensorflow()
    model = source.model
    kinds = tf.types.experimental
    if isinstance(model, kinds.GenericFunction | kinds.ConcreteFunction):
        return [functions.endpoint(model, DEFAULT_SIGNATURE, source.inputs, source.output_names)]
    if isinstance(model, tf.train.Checkpoint | tf.Module | tf.__internal__.tracking.Trackable):
        if source.inputs is not None and callable(model) and not isinstance(model.__call__, kinds.GenericFunction):
            plain = functions.endpoint(model.__call__, DEFAULT_SIGNATURE, source.inputs, source.output_names)
            return [_owned(plain, model)]
        return functions.endpoints(model, source.inputs, source.output_names)
    if callable(model) and not isinstance(model, type):
        return [functions.endpoint(model, DEFAULT_SIGNATURE, source.inputs, source.output_names)]
    what = "None" if model is None else f"the class {model.__name__}" if isinstance(model, type) else \
        f"a {type(model).__name__}"
    hint = _WHAT if not isinstance(model, Mapping) else f"{_WHAT}; a dict of functions goes to signatures="
    raise ExportError(f"{what} can't be exported", hint=hint, id="bad-signature")


def classify(base: SignatureFunction, labels: Sequence[str], *, serialized: bool | None = None) -> SignatureFunction:
    """`base`, which returns scores or a dict with `scores`, as a classify signature. serialized: see `from_examples`.
    """

    def shape(result: dict[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        if set(result) - {"classes", "scores"} and len(result) > 1:
            raise ExportError(f"classify signature {base.name!r} returns {', '.join(sorted(result))}",
                              hint="return the scores [batch, classes], or a dict with `scores` and perhaps `classes`",
                              id="bad-signature")
        if set(result) == {"classes"}:
            return result
        scores = tf.cast(result["scores"] if "scores" in result else next(iter(result.values())), tf.float32)
        if scores.shape.rank != 2:
            raise ExportError(f"classify signature {base.name!r} returns scores of shape {scores.shape}",
                              hint="return one row of scores for each example: [batch, classes]", id="bad-signature")
        names = _class_names(labels, scores.shape[1], base.name)
        classes = result.get("classes")
        if classes is None and names:
            classes = tf.tile(tf.constant([names]), [tf.shape(scores)[0], 1])
        return {"scores": scores} if classes is None else {"classes": classes, "scores": scores}

    return from_examples(base, CLASSIFY_METHOD, shape, takes_examples=serialized)


def regress(base: SignatureFunction, *, serialized: bool | None = None) -> SignatureFunction:
    """`base`, which returns one number for each example, as a regress signature. serialized: see `from_examples`."""

    def shape(result: dict[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        if len(result) != 1:
            raise ExportError(f"regress signature {base.name!r} returns {', '.join(sorted(result))}",
                              hint="return one tensor: a number for each example", id="bad-signature")
        values = tf.cast(next(iter(result.values())), tf.float32)
        if values.shape.rank not in (1, 2) or (values.shape.rank == 2 and values.shape[1] != 1):
            raise ExportError(f"regress signature {base.name!r} returns values of shape {values.shape}",
                              hint="return one number for each example: [batch] or [batch, 1]", id="bad-signature")
        return {"outputs": tf.reshape(values, [-1])}

    return from_examples(base, REGRESS_METHOD, shape, takes_examples=serialized)


def serialized(examples: Mapping[str, Any], features: Sequence[TensorSpec]) -> Array:
    """Features by name, batch first -> a vector of serialized tf.Examples."""
    columns = {spec.name: (_rows(examples[spec.name], spec.name), _wire_dtype(spec)) for spec in features}
    rows = len(next(iter(columns.values()))[0])
    if any(len(column) != rows for column, _ in columns.values()):
        sizes = ", ".join(f"{name} {len(column)}" for name, (column, _) in columns.items())
        raise ExportError(f"the features of the examples have different numbers of rows: {sizes}",
                          hint="give each feature a value, or a list of values, for each example", id="examples-unfit")
    array = np.empty(rows, object)
    for row in range(rows):
        example = example_pb2.Example()
        for name, (column, dtype) in columns.items():
            _fill(example.features.feature[name], np.ravel(column[row]).tolist(), dtype)
        array[row] = example.SerializeToString(deterministic=True)
    return array


def _rows(column: Any, name: str) -> Sequence[Any]:
    """One entry for each example: a value or a list of values, not all of one length."""
    if not isinstance(column, list | tuple) and np.ndim(column) == 0:
        raise ExportError(f"feature {name!r} of the examples is {column!r:.40}, without a batch dimension",
                          hint="give a list: one entry for each example", id="examples-unfit")
    return list(column)


def _fill(feature: example_pb2.Feature, values: Sequence[Any], dtype: str) -> None:
    if dtype == "string":
        feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)
    elif dtype == "int64":
        feature.int64_list.value.extend(values)
    else:
        feature.float_list.value.extend(values)


def from_examples(base: SignatureFunction, method: str, shape: Callable[[dict[str, Any]], dict[str, Any]], *,
                  input_name: str = "inputs", takes_examples: bool | None = None) -> SignatureFunction:
    """`base` with serialized tf.Examples as its one input, and `shape` over its outputs.

    takes_examples: whether base takes them itself; None: if it has a single input of strings.
    """
    features = base.inputs
    if takes_examples is None:
        takes_examples = len(features) == 1 and features[0].dtype == "string" and features[0].shape in ((None,), None)

    def call(tensors: Mapping[str, Any]) -> Any:
        given = tensors[input_name]
        inner = {features[0].name: given} if takes_examples else _parsed(given, features)
        return shape(saving.named(base.call(inner), base))

    def encode(examples: Mapping[str, Any]) -> dict[str, Array] | None:
        fits = not takes_examples and set(examples) == {spec.name for spec in features}
        return {input_name: serialized(examples, features)} if fits else None

    return replace(base, inputs=(TensorSpec(input_name, "string", (None,)),), call=call, outputs=(), rename=None,
                   method_name=method, encode=encode)


def _parsed(examples: Any, features: Sequence[TensorSpec]) -> dict[str, Any]:
    import tensorflow as tf

    wanted = {}
    for spec in features:
        if spec.shape is None or not spec.shape or None in spec.shape[1:]:
            raise ExportError(f"feature {spec} of a tf.Example needs a known shape behind the batch dimension",
                              hint='for example features={"x": "float32[?, 4]"}', id="bad-signature")
        wanted[spec.name] = tf.io.FixedLenFeature(list(spec.shape[1:]), _wire_dtype(spec))
    parsed = tf.io.parse_example(examples, wanted)
    return {spec.name: parsed[spec.name] if parsed[spec.name].dtype.name == spec.dtype
            else tf.cast(parsed[spec.name], spec.dtype) for spec in features}


def _wire_dtype(spec: TensorSpec) -> str:
    family = spec.dtype.rstrip("0123456789")
    if family not in _ON_THE_WIRE:
        raise ExportError(f"a tf.Example can't hold the feature {spec}", hint="it holds numbers and strings",
                          id="bad-signature")
    return _ON_THE_WIRE[family]


def _class_names(labels: Sequence[str], count: int | None, name: str) -> list[str]:
    if labels and count is not None and len(labels) != count:
        raise ExportError(f"classify signature {name!r} has {count} scores for each example and {len(labels)} labels",
                          hint="give one label for each score, in the same order", id="bad-signature")
    return list(labels) or [str(index) for index in range(count or 0)]
