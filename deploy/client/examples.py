"""Feature values -> tf.Example (gRPC) or JSON (REST), by the same rules.

Text and bytes become bytes, integers and bools int64, floats float. Source: tensorflow_serving/util/json_tensor.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from deploy.client.encoding import feature_json
from deploy.client.interfaces import Features
from deploy.errors import BadRequest
from deploy.wire import serving_pb2 as pb


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
            raise BadRequest(f"feature {name!r}: expected text, bytes, integers or floats, all of one kind")
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
        raise BadRequest(f"an example is a mapping of features by name, got {type(features).__name__}")
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
