"""What can be asked for: a model with its signatures, what is recorded of it, a TFLite model beside. No TensorFlow."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from deploy.types import PREDICT_METHOD, TensorSpec
from deploy.wire.dtypes import Array

Batch = Mapping[str, Array]
Sample = Callable[[int, int], Array]
"""Batch size and seed -> example values of one input."""

OutputNames = Sequence[str] | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Predict:
    """A signature for Predict requests.

    function: a tf.function, a plain function of tensors, or a Keras model.
    inputs: what it takes, in any form that `specs.parse` reads; not needed for a tf.function with an input_signature.
    outputs: names for what it returns, in its order, or old name -> new name; `"probs: float32"` pins the dtype, too.
    """

    function: object
    inputs: object = None
    outputs: OutputNames | None = None


@dataclass(frozen=True, slots=True)
class Classify:
    """A signature for Classify requests: serialized tf.Examples in, `classes` and `scores` out.

    function: takes the features as tensors (batch first), returns scores [batch, classes], or a dict with
        `scores` and perhaps `classes`. Without `features` it takes the serialized examples itself.
    features: its inputs as tf.Example features: float32, int64 or string on the wire, cast to what is named here.
    labels: the classes' names, in the order of the scores; by default "0", "1", ...
    """

    function: object
    features: object = None
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Regress:
    """A signature for Regress requests: serialized tf.Examples in, `outputs` (one float32 for each) out.

    function, features: as in Classify; returns values [batch] or [batch, 1], or a dict with `outputs`.
    """

    function: object
    features: object = None


@dataclass(frozen=True, slots=True)
class SavedModelDirectory:
    """A directory that tf.saved_model wrote, or a module of TensorFlow Hub.

    tags: of the graph to publish, where there are several; it is tagged as the server wants it then.
    default_signature: the signature that serving_default is to be a second name of.
    """

    path: Path
    tags: Sequence[str] | None = None
    default_signature: str = ""


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A GraphDef in a .pb or .pbtxt file whose variables are constants.

    inputs, outputs: the tensors that a request gives and gets: `x:0`, `x`, or `name=x:0` for another name than the
    op's own. Exportable's `inputs` pins their shapes.
    """

    path: Path
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Exportable:
    """A model and what its signatures look like: what a builder returns when the object alone doesn't say everything.

    model: a Keras model; a tf.Module or another trackable with tf.functions; a tf.function; a function of tensors;
        Predict, Classify or Regress; a SavedModelDirectory or FrozenGraph; or what `load_target` takes.
    inputs: what it takes, where the object doesn't say it or something is to be pinned: see specs.parse. Shapes include
        the batch dimension, which is free by default.
    signatures: name -> tf.function, function, Keras model, Predict, Classify or Regress.
    examples: as Recording.examples, which wins.
    output_names: see Predict.outputs.
    custom_objects: classes and functions that a Keras file names, or `pkg.module:Class` strings.
    recipes: what serving needs around the model: values of deploy.recipes, or their text, `image-bytes(scale=-1..1)`.
    """

    model: object
    inputs: object = None
    signatures: Mapping[str, object] | None = None
    examples: object = None
    output_names: OutputNames | None = None
    custom_objects: Mapping[str, object] | Sequence[str] | None = None
    recipes: Sequence[object] | None = None

    def filled(self, other: Exportable) -> Exportable:
        """This, and what only `other` says."""
        own = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}
        return replace(other, **{**own, "model": other.model})


@dataclass(frozen=True, slots=True)
class Recording:
    """What the version is asked before it is published, to be recorded in it with the answers.

    examples: inputs, see examples.cases; None: generated from the signatures; an empty list: none, and then
        nothing is proven.
    batch_sizes: of generated examples: those that a server's batching allows belong here.
    tolerance: how far answers may be apart: see parity.tolerances. Integers, strings and bools have to be equal.
    timeout: seconds for the fresh process to answer.
    """

    examples: object = None
    batch_sizes: Sequence[int] = (1, 2)
    tolerance: object = None
    timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class TFLite:
    """A TFLite model beside the SavedModel.

    mode: `none`, `dynamic`, `float16` or `int8`: see tflite.SHARES.
    limit: how far its answers may be off, as a share of the outputs' largest magnitude; None: the mode's.
    """

    mode: str = "none"
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class SignatureFunction:
    """A signature, ready to be traced and called.

    call: tensors by input name -> whatever the object returns.
    outputs: names for a result that isn't a dict, in its order; empty: `outputs`, or `output_0`, `output_1`, ...
    rename: the caller's names; see Predict.outputs.
    holders: objects that own the variables, tables and assets that the call uses.
    encode: examples in the caller's form -> the signature's inputs; None if they are no such form.
    notes: what the caller should know about names and dtypes that were derived.
    samples: what makes example values of an input that can't be made from its dtype and shape, JPEG bytes for example.
    no_tflite: why TFLite can't have this signature; empty: it may be tried.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    call: Callable[[Mapping[str, Any]], Any]
    outputs: tuple[str, ...] = ()
    rename: OutputNames | None = None
    method_name: str = PREDICT_METHOD
    holders: tuple[object, ...] = ()
    encode: Callable[[Mapping[str, Any]], dict[str, Any] | None] | None = None
    notes: tuple[str, ...] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict)
    no_tflite: str = ""

    @property
    def identifiers(self) -> dict[str, str]:
        """Input name -> the parameter name that TensorFlow sees. They differ where a name is no identifier."""
        return identifiers([spec.name for spec in self.inputs])


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """Each name as a Python identifier, all different."""
    by_name: dict[str, str] = {}
    for name in names:
        base = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) or "_"
        if base[0].isdigit() or base[0] == "_" or keyword.iskeyword(base):
            base = f"arg_{base.lstrip('_')}"
        candidate, number = base, 1
        while candidate in by_name.values():
            candidate, number = f"{base}_{number}", number + 1
        by_name[name] = candidate
    return by_name


Servable = Exportable
"""The name that Exportable had."""
