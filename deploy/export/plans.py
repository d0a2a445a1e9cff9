"""What can be asked for: signatures, and an object together with how it is exported. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from deploy.types import PREDICT_METHOD, TensorSpec

Array = NDArray[Any]
Batch = Mapping[str, Array]
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
class Servable:
    """An object and how to export it: what a builder returns when the object alone doesn't say everything.

    The fields mean what the arguments of `export` of the same names mean; those win.
    """

    model: object
    inputs: object = None
    signatures: Mapping[str, object] | None = None
    examples: object = None
    output_names: OutputNames | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A signature, ready to be traced and called.

    call: tensors by input name -> whatever the object returns.
    outputs: names for a result that isn't a dict, in its order; empty: `outputs`, or `output_0`, `output_1`, ...
    rename: the caller's names; see Predict.outputs.
    holders: objects that own the variables, tables and assets that the call uses.
    encode: examples in the caller's form -> the signature's inputs; None if they are no such form.
    notes: what the caller should know about names and dtypes that were derived.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    call: Callable[[Mapping[str, Any]], Any]
    outputs: tuple[str, ...] = ()
    rename: OutputNames | None = None
    method_name: str = PREDICT_METHOD
    holders: tuple[object, ...] = ()
    encode: Callable[[Mapping[str, Any]], dict[str, Array] | None] | None = None
    notes: tuple[str, ...] = ()

    @property
    def identifiers(self) -> dict[str, str]:
        """Input name -> the parameter name that TensorFlow sees. They differ where a name is no identifier."""
        return identifiers([spec.name for spec in self.inputs])


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """Each name as a Python identifier, all different."""
    import keyword

    made: dict[str, str] = {}
    for name in names:
        base = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) or "_"
        if base[0].isdigit() or base[0] == "_" or keyword.iskeyword(base):
            base = f"arg_{base.lstrip('_')}"
        candidate, number = base, 1
        while candidate in made.values():
            candidate, number = f"{base}_{number}", number + 1
        made[name] = candidate
    return made

