"""text: sentences or words in, their numbers looked up in the graph, with the vocabulary inside of the version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy.export import keras_models
from deploy.export.options import SignatureFunction
from deploy.export.recipes import lines
from deploy.export.recipes.lines import Lines
from deploy.export.recipes.recipe import Recipe, chosen_input, recipe, refused, with_input
from deploy.types import DEFAULT_SIGNATURE, TensorSpec
from deploy.wire.dtypes import Array

NAME = "text"
STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation", "none")
SPLITS = ("whitespace", "character", "none")
_PUNCTUATION = r"""[!"#$%&()\*\+,-\./:;<=>?@\[\\\]^_`{|}~']"""  # as Keras's TextVectorization strips it
_KERAS_OWN = ("", "[UNK]")  # its entries for padding and unknown words
_SHOWN = 6  # words in an example
_LAYER_SAYS = "leave it out, or give the layer's vocabulary instead of the layer"


def text(vocabulary: object, *, input: str = "", name: str = "text", standardize: str = STANDARDIZE[0],
         split: str = SPLITS[0], signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Takes text (`name`: string [?]) instead of the numbers of its words.

    vocabulary: a file with one word on each line, or a list, numbered as Keras does it: from 2 on, with 0 for padding
        and 1 for unknown words (with split `none` from 1 on, with 0 for unknown ones); Keras's own first entries, ""
        and "[UNK]", may be there or not. Or the layer that was adapted: a keras TextVectorization or StringLookup.
    input: which input gets the numbers, if there are several; [batch, length] (longer texts are cut, shorter ones
        padded), or [batch] or [batch, 1] with split `none`. name: the new input's.
    standardize: `lower_and_strip_punctuation`, `lower`, `strip_punctuation` (all of ASCII, as TextVectorization does
        it) or `none`. split: at `whitespace`, after each `character`, or `none`: each text is one entry.
    Raises ExportError.
    """
    for what, value, choices in (("standardize", standardize, STANDARDIZE), ("split", split, SPLITS)):
        if value not in choices:
            raise refused(NAME, f"{what} is {value!r}", f"possible: {', '.join(choices)}")
    is_layer = keras_models.is_model(vocabulary)
    words = _of_layer(vocabulary) if is_layer else lines.read(NAME, "word", vocabulary, "vocabulary", _KERAS_OWN)
    if is_layer and (standardize, split) != (STANDARDIZE[0], SPLITS[0]):
        raise refused(NAME, "the layer says itself how text is standardized and split", _LAYER_SAYS)

    def wrap(base: SignatureFunction, scratch: Path) -> SignatureFunction:
        spec = chosen_input(NAME, base, input)
        _check_dtype(spec)
        if is_layer:
            make, holder = _by_layer(vocabulary, spec), vocabulary
        else:
            length = _length(spec, split)
            holder = lines.to_numbers(words, scratch)
            make = _Lookup(holder, spec, length, standardize, split)
        batch = spec.shape[0] if spec.shape else None
        result = with_input(NAME, base, spec, TensorSpec(name, "string", (batch,)), make)
        return replace(result, holders=(*base.holders, holder), encode=None,
                       samples={**result.samples, name: lambda size, seed: _samples(size, seed, words, split)},
                       no_tflite="it looks words up, which TFLite can't do in a table of text")

    shown = {} if is_layer else {"standardize": standardize, "split": split}
    return recipe(NAME, signature, wrap, {"vocabulary": words.digest}, vocabulary=words.name, input=input,
                  name=None if name == "text" else name, **shown)


def _of_layer(layer: Any) -> Lines:
    """Raises ExportError for a layer that has no vocabulary, or wasn't adapted."""
    class_name = type(layer).__name__
    if not hasattr(layer, "get_vocabulary"):
        raise refused(NAME, f"the {class_name} has no vocabulary",
                      "give a keras TextVectorization or StringLookup layer, or a vocabulary file")
    words = tuple(str(word) for word in layer.get_vocabulary() if word not in _KERAS_OWN)
    if not words:
        raise refused(NAME, f"the {class_name} {layer.name!r} has an empty vocabulary", "adapt() it to texts first")
    return Lines(class_name, words)


def _check_dtype(spec: TensorSpec) -> None:
    if not spec.dtype.startswith(("int", "uint", "float", "bfloat")):
        raise refused(NAME, f"the input {spec} takes no numbers of words", "name another one with input=...")


def _length(spec: TensorSpec, split: str) -> int | None:
    """How many numbers the model takes of each text; None: as many as the longest has. 0: one, without a dimension."""
    inner = None if spec.shape is None else spec.shape[1:]
    if split == "none" and inner in ((), (1,)):
        return len(inner)
    if split != "none" and inner is not None and len(inner) == 1:
        return inner[0]
    raise refused(NAME, f"the input {spec} doesn't fit split {split}",
                  "it has to be [batch] or [batch, 1]" if split == "none" else
                  "it has to be [batch, length]; for one word each, say split=none")


def _by_layer(layer: Any, spec: TensorSpec) -> Callable[[Any], Any]:
    def make(texts: Any) -> Any:
        import tensorflow as tf

        numbers = layer(texts)
        own = None if spec.shape is None else tf.TensorShape([None, *spec.shape[1:]])
        if own is not None and not own.is_compatible_with(numbers.shape):
            raise refused(NAME, f"the {type(layer).__name__} gives {numbers.shape}, and the input is {spec}",
                          f"give it output_sequence_length={own[-1]}" if own.rank == 2 else "use another layer")
        return tf.cast(numbers, spec.dtype)

    return make


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Texts [batch] -> numbers of words. Called while tracing, and eagerly for the expected answers."""

    table: Any
    spec: TensorSpec
    length: int | None
    standardize: str
    split: str

    def __call__(self, texts: Any) -> Any:
        import tensorflow as tf

        if self.standardize.startswith("lower"):
            texts = tf.strings.lower(texts)
        if self.standardize.endswith("strip_punctuation"):
            texts = tf.strings.regex_replace(texts, _PUNCTUATION, "")
        if self.split == "none":
            numbers = self._numbers(texts, 0)
            return tf.expand_dims(numbers, -1) if self.length else numbers
        words = tf.strings.split(texts) if self.split == "whitespace" else tf.strings.unicode_split(texts, "UTF-8")
        numbers = words.with_flat_values(self._numbers(words.flat_values, 1))
        return numbers.to_tensor(shape=(None, self.length))

    def _numbers(self, words: Any, unknown: int) -> Any:
        import tensorflow as tf

        rows = self.table.lookup(words)
        return tf.cast(tf.where(rows < 0, tf.cast(unknown, tf.int64), rows + unknown + 1), self.spec.dtype)


def _samples(batch: int, seed: int, words: Lines, split: str) -> Array:
    """Texts of its words, and now and then of one that it doesn't know."""
    random = np.random.default_rng(seed)
    pool = [*words.values[:1000], "something"]
    texts = np.empty(batch, object)
    for index in range(batch):
        picked = [pool[number] for number in random.integers(len(pool), size=1 if split == "none" else _SHOWN)]
        texts[index] = " ".join(picked).encode()
    return texts
