"""A request before it is sent: held against its signature; feature values as tf.Examples.

Wrong names, dtypes and shapes never leave the client.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import ArrayLike

from deploy.client.encoding import feature_json
from deploy.client.interfaces import Features, Inputs
from deploy.errors import BadRequest, Rejected
from deploy.types import Contract, ModelRef, Signature
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Array
from deploy.wire.tensors import as_array
from deploy.wire.values import checked_array

_ABOUT_THE_REQUEST = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


def choose(contract: Contract, name: str, ref: ModelRef) -> Signature:
    """The signature called `name`. Raises BadRequest listing those that `ref` has."""
    if name not in contract:
        raise BadRequest(f"{ref} has no signature {name!r}", ref=ref, hint=_known("signature", name, contract),
                         id="unknown-signature")
    return contract[name]


def prepare(inputs: Inputs, signature: Signature | None, outputs: Sequence[str] = ()) -> dict[str, Array]:
    """`inputs` as arrays that fit the signature. Without one: as numpy sees them.

    Raises BadRequest that says which input takes what, and what was given.
    """
    if signature is None:
        return {name: checked_array(value, f"input {name!r}") for name, value in _named(inputs, ()).items()}
    specs = {spec.name: spec for spec in signature.inputs}
    given = _named(inputs, tuple(specs))
    for name in given:
        if name not in specs:
            raise BadRequest(f"signature {signature.name!r} has no input {name!r}", hint=_known("input", name, specs),
                             id="unknown-input")
    missing = [str(spec) for name, spec in specs.items() if name not in given]
    if missing:
        raise BadRequest(f"signature {signature.name!r}: no value for input {', '.join(missing)}",
                         hint=f"given: {', '.join(sorted(given)) or 'nothing'}", id="missing-input")
    _check_outputs(outputs, signature)
    return {name: as_array(given[name], spec) for name, spec in specs.items()}


def explain(error: Rejected, signature: Signature | None) -> Rejected:
    """The same refusal, with what the signature takes as a hint if the request may be at fault."""
    if signature is None or error.hint or error.code not in _ABOUT_THE_REQUEST:
        return error
    return Rejected(error.message, code=error.code, status=error.status, endpoint=error.endpoint, ref=error.ref,
                    hint=takes(signature), details=error.details)


def takes(signature: Signature) -> str:
    """`signature 'serving_default' takes x: float32[?, 784]`."""
    return f"signature {signature.name!r} takes {', '.join(map(str, signature.inputs)) or 'no inputs'}"


def _named(inputs: Inputs, names: tuple[str, ...]) -> Mapping[str, ArrayLike]:
    if isinstance(inputs, Mapping):
        return inputs
    if len(names) == 1:
        return {names[0]: inputs}
    takes_all = ", ".join(names)
    raise BadRequest("a bare value was given, not values by input name",
                     hint=f"the inputs are: {takes_all}" if names else "pass {name: array}", id="missing-input")


def _check_outputs(outputs: Sequence[str], signature: Signature) -> None:
    known = {spec.name for spec in signature.outputs}
    for name in outputs:
        if name not in known:
            raise BadRequest(f"signature {signature.name!r} has no output {name!r}", hint=_known("output", name, known),
                             id="unknown-output")


def _known(kind: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"its {kind}s are: {', '.join(names)}" if names else f"it has no {kind}s"


def to_input(examples: Sequence[Features], context: Features | None) -> pb.Input:
    """What a gRPC classify or regress request holds. Raises BadRequest for values that no feature can have."""
    messages = [to_example(example) for example in examples]
    if context is None:
        return pb.Input(example_list=pb.ExampleList(examples=messages))
    return pb.Input(example_list_with_context=pb.ExampleListWithContext(examples=messages, context=to_example(context)))


def to_body(examples: Sequence[Features], context: Features | None, signature: str) -> bytes:
    """The body of a REST classify or regress request. Raises as `to_input` does."""
    body: dict[str, Any] = {"signature_name": signature, "examples": [_json(example) for example in examples]}
    if context is not None:
        body["context"] = _json(context)
    return orjson.dumps(body)


def to_example(features: Features) -> pb.Example:
    """A tf.Example of these features. An empty list is a feature without a kind, hence missing."""
    example = pb.Example()
    for name, value in _checked(features).items():
        values = _values(value)
        feature, kinds = example.features.feature[name], set(map(_kind, values))
        if len(kinds) > 1 or None in kinds:
            raise BadRequest(f"feature {name!r}: expected text, bytes, integers or floats, all of one kind",
                             id="wrong-features")
        if kinds == {"bytes"}:
            feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)
        elif kinds == {"int"}:
            feature.int64_list.value.extend(map(int, values))
        elif kinds:
            feature.float_list.value.extend(values)
    return example


def _json(features: Features) -> dict[str, Any]:
    return {name: feature_json(name, value) for name, value in _checked(features).items()}


def _checked(features: Features) -> Features:
    if not isinstance(features, Mapping):
        raise BadRequest(f"an example is a mapping of features by name, got {type(features).__name__}",
                         id="wrong-features")
    return features


def _values(value: Any) -> list[Any]:
    if isinstance(value, (np.ndarray, np.generic)):
        return list(np.ravel(value).tolist())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _kind(value: object) -> str | None:
    if isinstance(value, (str, bytes)):
        return "bytes"
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return "int"
    return "float" if isinstance(value, (float, np.floating)) else None
