"""What is done to a signature's inputs, and whole signatures: keys, rename_inputs, tf_example, classify, regress,
copy_signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy.errors import ExportError
from deploy.export import signatures, specs
from deploy.export.options import SignatureFunction
from deploy.export.recipes import lines
from deploy.export.recipes.outputs import Outputs, check_names, with_outputs
from deploy.export.recipes.recipe import Recipe, Tensors, recipe, refused, without
from deploy.goldens import examples
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature, TensorSpec
from deploy.wire.dtypes import Array

_NO_TFLITE = "it parses tf.Examples, which no TFLite operator does"


def keys(name: str = "key", dtype: str = "string", *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """An input more, [?] of any dtype, which comes back unchanged as an output of the same name (`id` or `id: int64`).

    Whoever sends many examples at once, or through a queue, finds each answer's question by it.
    Raises ExportError, also for a name that an input or output has already.
    """
    recipe_name = "keys"
    if not isinstance(name, str) or not name.partition(":")[0].strip():
        raise refused(recipe_name, f"the name is {name!r}", "give the key a name")
    name, colon, own_dtype = (part.strip() for part in name.partition(":"))
    dtype = own_dtype if colon else dtype
    spec = TensorSpec(name, specs.one(dtype).dtype, (None,))

    def change(results: Outputs, tensors: Tensors) -> Outputs:
        import tensorflow as tf

        if name in results:
            raise refused(recipe_name, f"there is an output {name!r} already", "give the key another name")
        return {**results, name: tf.identity(tensors[name])}

    def wrap(base: SignatureFunction, _: Path) -> SignatureFunction:
        if name in [each.name for each in base.inputs]:
            raise refused(recipe_name, f"signature {base.name!r} has an input {name!r} already",
                          "give the key another name")
        inner = replace(base, call=lambda tensors: base.call(without(tensors, name)))
        return with_outputs(recipe_name, inner, change, inputs=(*base.inputs, spec),
                            encode=lambda given: _beside(base, given, spec))

    return recipe(recipe_name, signature, wrap, name=name, dtype=dtype)


def _beside(base: SignatureFunction, given: Mapping[str, Any], key: TensorSpec) -> dict[str, Any] | None:
    """Examples for the inputs but the key, which is made up if they don't have it."""
    if "" in given and len(base.inputs) == 1:
        given = {base.inputs[0].name: given[""]}
    rest = without(given, key.name)
    columns = (base.encode(rest) if base.encode else None) or rest
    if not columns or "" in columns:
        return None
    rows = len(np.atleast_1d(next(iter(columns.values()))))
    made_up = examples.generate(Signature("", (key,), ()), rows)
    return {**columns, key.name: given.get(key.name, made_up[key.name])}


def rename_inputs(names: Mapping[str, str], *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Gives inputs other names: old name -> new name. Raises ExportError."""
    name = "rename-inputs"
    check_names(name, names)

    def wrap(base: SignatureFunction, _: Path) -> SignatureFunction:
        own = [spec.name for spec in base.inputs]
        if unknown := sorted(set(names) - set(own)):
            raise refused(name, f"signature {base.name!r} has no input {unknown[0]!r}", f"it takes {', '.join(own)}")
        if base.method_name != PREDICT_METHOD:
            raise refused(name, f"signature {base.name!r} is one of {base.method_name}, whose input is `inputs`",
                          "put this recipe in front of the one that made it so")
        forth = {old: names.get(old, old) for old in own}
        after = list(forth.values())
        if twice := sorted({each for each in after if after.count(each) > 1}):
            raise refused(name, f"two inputs would be called {twice[0]!r}", "give every input its own name")
        back = {new: old for old, new in forth.items()}

        def encode(given: Mapping[str, Any]) -> dict[str, Any] | None:
            encoded = base.encode({back.get(key, key): value for key, value in given.items()}) if base.encode else None
            return encoded and {forth.get(key, key): value for key, value in encoded.items()}

        return replace(base, inputs=tuple(replace(spec, name=forth[spec.name]) for spec in base.inputs), encode=encode,
                       call=lambda tensors: base.call({back[key]: tensor for key, tensor in tensors.items()}),
                       samples={forth[key]: sample for key, sample in base.samples.items()})

    return recipe(name, signature, wrap, inputs=dict(names))


def tf_example(name: str = "examples", *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Takes serialized tf.Examples (`name`: string [?]) with the inputs as their features, for Predict requests.

    Raises ExportError for an input whose shape behind the batch dimension isn't known, or of complex numbers.
    """

    def wrap(base: SignatureFunction, _: Path) -> SignatureFunction:
        _check_predict("tf-example", base)
        return _sampled(signatures.from_examples(base, PREDICT_METHOD, dict, input_name=name), base, name)

    return recipe("tf-example", signature, wrap, name=None if name == "examples" else name)


def classify(labels: object = None, *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """For Classify requests: tf.Examples with the inputs as features in, `classes` and `scores` out.

    labels: the classes' names, a list or a file with one on each line, in the order of the scores; by default
        "0", "1", ..., and behind top_k those that it found. Raises ExportError.
    """
    name = "classify"
    known = None if labels is None else lines.read(name, "label", labels, "scores")

    def wrap(base: SignatureFunction, _: Path) -> SignatureFunction:
        _check_predict(name, base)
        return _sampled(signatures.classify(base, known.values if known else (), serialized=False), base, "inputs")

    return recipe(name, signature, wrap, {"labels": known.digest} if known else None,
                  labels=known.name if known else None)


def regress(*, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """For Regress requests: tf.Examples with the inputs as features in, one number for each out. Raises ExportError."""

    def wrap(base: SignatureFunction, _: Path) -> SignatureFunction:
        _check_predict("regress", base)
        return _sampled(signatures.regress(base, serialized=False), base, "inputs")

    return recipe("regress", signature, wrap)


def _check_predict(name: str, base: SignatureFunction) -> None:
    if base.method_name != PREDICT_METHOD:
        raise refused(name, f"signature {base.name!r} is one of {base.method_name} already", "leave this recipe out")


def _sampled(result: SignatureFunction, base: SignatureFunction, name: str) -> SignatureFunction:
    """Generated tf.Examples hold what the inputs would be given: JPEG bytes, texts."""

    def sample(batch: int, seed: int) -> Array:
        columns = examples.generate(Signature(base.name, base.inputs, ()), batch, seed)
        columns |= {key: make(batch, seed) for key, make in base.samples.items()}
        return signatures.serialized(columns, base.inputs)

    def encode(given: Mapping[str, Any]) -> dict[str, Any] | None:
        columns = (base.encode(given) if base.encode else None) or given
        return result.encode(columns) if result.encode else None

    return replace(result, samples={name: sample}, encode=encode, no_tflite=base.no_tflite or _NO_TFLITE)


def copy_signature(name: str, *, signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Keeps the signature as it is at this point, also as `name`: raw tensors beside bytes, for example.

    Raises ExportError for a name that is taken.
    """
    if not isinstance(name, str) or not name or name.startswith("__saved_model"):
        raise ExportError(f"recipe copy-signature: {name!r} can't be a signature's name", hint="name it in letters",
                          id="bad-recipe")
    return recipe("copy-signature", signature, lambda base, _: (base, replace(base, name=name)), name=name)
