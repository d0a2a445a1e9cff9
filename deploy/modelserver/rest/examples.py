"""A classify or regress body -> tf.Examples, and the results -> a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploy.modelserver.core import Core
from deploy.modelserver.examples import Examples
from deploy.modelserver.inline import LONG, Steps
from deploy.modelserver.rest import encode, parse
from deploy.modelserver.rest.decode import format_error, signature_name
from deploy.modelserver.rest.values import base64_bytes, is_base64_object, json_type
from deploy.modelserver.status import invalid
from deploy.net.http1.messages import Request
from deploy.wire import example_pb2
from deploy.wire import serving_pb2 as pb

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_MOST = 2**63 - 1
_LEAST_NORMAL = 2.0**-126  # of float32


def classify(core: Core, examples: Examples) -> Callable[[pb.ModelSpec, Request], Steps[bytes]]:
    """What answers POST ...:classify."""

    def call(spec: pb.ModelSpec, sent: Request) -> Steps[bytes]:
        yield LONG
        request = pb.ClassificationRequest(model_spec=spec)
        fill(request.input, request.model_spec, sent)
        with core.servable(spec) as servable:
            result = examples.classify(servable, request).result
        return encode.classifications([[(c.label.encode("utf-8", "surrogateescape"), c.score) for c in row.classes]
                                       for row in result.classifications])

    return call


def regress(core: Core, examples: Examples) -> Callable[[pb.ModelSpec, Request], Steps[bytes]]:
    """What answers POST ...:regress."""

    def call(spec: pb.ModelSpec, sent: Request) -> Steps[bytes]:
        yield LONG
        request = pb.RegressionRequest(model_spec=spec)
        fill(request.input, request.model_spec, sent)
        with core.servable(spec) as servable:
            result = examples.regress(servable, request).result
        return encode.regressions([r.value for r in result.regressions])

    return call


def fill(given: pb.Input, spec: pb.ModelSpec, sent: Request) -> None:
    """Examples, context and signature of a body into a request. Raises StatusError."""
    document = parse.read(sent.body, sent.go_on)
    spec.signature_name = _valid(signature_name(document))
    target: Any = given.example_list
    if "context" in document:
        target = given.example_list_with_context
        target.context.CopyFrom(example(document["context"]))
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    target.examples.extend([example(value) for value in examples])


def example(value: Any) -> example_pb2.Example:
    """A JSON object as an example. Raises StatusError."""
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    made = example_pb2.Example()
    made.features.SetInParent()
    for name, content in value.items():
        feature = made.features.feature[_valid(name)]
        for item in content if isinstance(content, list) else [content]:
            _add(item, name, feature)
    return made


def _valid(text: str) -> str:
    """The text as a protobuf string takes it: bytes that aren't UTF-8 are replaced."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _add(value: Any, name: str, feature: example_pb2.Feature) -> None:
    """One JSON value: its type decides the feature's kind, which all values have to share."""
    if value is None or isinstance(value, list) or (isinstance(value, dict) and not is_base64_object(value)):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    kind = ("int64_list" if isinstance(value, (bool, int)) else "float_list" if isinstance(value, float)
            else "bytes_list")
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    if isinstance(value, dict):
        value = base64_bytes(value)
    elif isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, bool):
        value = int(value)
    elif isinstance(value, float) and abs(value) < _LEAST_NORMAL:
        value *= 0.0  # as `fast.flushed` does
    elif isinstance(value, int) and value > _MOST:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    getattr(feature, kind).value.append(value)
