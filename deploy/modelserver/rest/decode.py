"""Bodies of requests: predict -> arrays, classify and regress -> tf.Examples, checked in the real server's order.

Numbers go through numpy at once; whatever that doesn't take as it is goes the slow way, value by value, which knows
all the rules and error texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.modelserver.execution import LONG, Steps
from deploy.modelserver.rest import parse
from deploy.modelserver.rest.arrays import LONG_BODY, numeric, read_bulk, rounded
from deploy.modelserver.rest.encode import quoted_value
from deploy.modelserver.rest.values import Filler, base64_bytes, is_base64_object, json_type, shape_text
from deploy.modelserver.status import StatusError, invalid
from deploy.net.http1.messages import Request
from deploy.wire import example_pb2
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Array
from deploy.wire.tensors import dtype_from_number

_SHORT = 1 << 12  # bytes
Inputs = Mapping[str, int]  # an input's name -> number of its dtype
_FEATURE_TYPES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_MOST_INT64 = 2**63 - 1
_LEAST_NORMAL = 2.0**-126  # of float32


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a predict body asks for. row: `instances`, so the reply has `predictions`."""

    signature: str
    arrays: dict[str, Array]
    row: bool


def predict_body(body: bytes, inputs_of: Callable[[str], Inputs], go_on: Callable[[], None] = parse.keep_on
                 ) -> Steps[Decoded]:
    """Read a predict request.

    inputs_of: a signature's inputs by its name ("" for the default); may raise StatusError. go_on: see `parse.read`.
    A long body that has to be read value by value is for a thread. The steps raise StatusError.
    """
    if len(body) >= LONG_BODY and (bulk := read_bulk(body)) is not None:
        inputs = inputs_of(bulk.signature)
        if len(inputs) == 1 and (array := rounded(bulk.numbers, dtype_from_number(*inputs.values()))) is not None:
            return Decoded(bulk.signature, dict.fromkeys(inputs, array), bulk.key == "instances")
    if len(body) > _SHORT:
        yield LONG
    document = parse.read(body, go_on)
    signature = signature_name(document)
    inputs = inputs_of(signature)
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    # A letter is found 20 times as fast as a word, and these two are rare in bodies.
    plain = not (b"r" in body and b"true" in body) and not (b"l" in body and b"false" in body)
    if "instances" in document:
        if "inputs" in document:
            raise format_error(document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
                                    "to exist ")
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return Decoded(signature, _rows(instances, inputs, plain, go_on), True)
    if "inputs" in document:
        return Decoded(signature, _columns(document["inputs"], inputs, plain, go_on), False)
    raise invalid("Missing 'inputs' or 'instances' key")


def signature_name(document: object) -> str:
    """The body's `signature_name`, "" if there is none. Raises StatusError, also for a body that is no object."""
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def format_error(document: object, text: str) -> StatusError:
    """The error that quotes the whole body."""
    return invalid(f"JSON Value: {quoted_value(document)} {text}")


# -- columns: {"inputs": ...}


def _columns(value: Any, inputs: Inputs, plain: bool, go_on: Callable[[], None]) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64_object(value):
        if len(inputs) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required "
                          "as per tensorinfo_map")
        return {name: _tensor(name, value, dtype, plain, go_on) for name, dtype in inputs.items()}
    arrays = {}
    for name, dtype in inputs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _tensor(name, value[name], dtype, plain, go_on)
    return arrays


def _tensor(alias: str, value: Any, dtype: int, plain: bool, go_on: Callable[[], None]) -> Array:
    name = dtype_from_number(dtype)
    array = numeric(value, name, plain)
    if array is None:
        filler = Filler(name, go_on)
        filler.add(value)
        array = filler.array(filler.shape, alias)
    return array


# -- rows: {"instances": [...]}


def _rows(instances: list[Any], inputs: Inputs, plain: bool, go_on: Callable[[], None]) -> dict[str, Array]:
    named = _is_named(instances[0])
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise invalid("instances is a plain list, but expecting list of objects as multiple input tensors required as "
                      "per tensorinfo_map")
    fast = _fast_rows(instances, inputs, plain, named)
    if fast is not None:
        return fast
    fillers = {name: Filler(dtype_from_number(dtype), go_on) for name, dtype in inputs.items()}
    first: dict[str, tuple[int, tuple[int, ...]]] = {}
    only = next(iter(inputs))
    for number, item in enumerate(instances):
        if named:
            _add_named(number, item, fillers, first)
        elif _is_named(item):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
        else:
            try:
                _add_value(only, item, fillers, first)
            except StatusError as error:
                raise invalid(f"Failed to process element: {number} of 'instances' list. Error: {error}") from error
    return {name: fillers[name].array((len(instances), *first[name][1]), name) for name in fillers if name in first}


def _add_named(number: int, item: Any, fillers: dict[str, Filler],
               first: dict[str, tuple[int, tuple[int, ...]]]) -> None:
    if not _is_named(item):
        raise invalid(f"Expecting object but got list at item {number} of input list")
    for name, value in item.items():
        try:
            _add_value(name, value, fillers, first)
        except StatusError as error:
            raise invalid(f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                          f"{error}") from error
    if item.keys() != fillers.keys():
        raise invalid(f"Failed to process element: {number} of 'instances' list. JSON object: {quoted_value(item)} "
                      f"keys must be equal to: {','.join(sorted(fillers))}")


def _add_value(name: str, value: Any, fillers: dict[str, Filler],
               first: dict[str, tuple[int, tuple[int, ...]]]) -> None:
    if name not in fillers:
        raise invalid(f"JSON object: does not have named input: {name}")
    filler = fillers[name]
    size = filler.add(value)
    expected, shape = first.setdefault(name, (size, filler.shape))
    if size != expected:
        raise invalid(f"Expecting tensor size: {expected} but got: {size}")
    if filler.shape != shape:
        raise invalid(f"Expecting shape {shape_text(shape)} but got: {shape_text(filler.shape)}")


def _fast_rows(instances: list[Any], inputs: Inputs, plain: bool, named: bool) -> dict[str, Array] | None:
    """All rows at once, or None if they need a closer look."""
    if not named:
        (name, dtype), = inputs.items()
        array = numeric(instances, dtype_from_number(dtype), plain)
        return None if array is None else {name: array}
    if not all(isinstance(item, dict) and item.keys() == inputs.keys() for item in instances):
        return None
    arrays: dict[str, Array] = {}
    for name, dtype in inputs.items():
        array = numeric([item[name] for item in instances], dtype_from_number(dtype), plain)
        if array is None:
            return None
        arrays[name] = array
    return arrays


def _is_named(item: object) -> bool:
    return isinstance(item, dict) and not is_base64_object(item)


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
    tf_example = example_pb2.Example()
    tf_example.features.SetInParent()
    for name, content in value.items():
        feature = tf_example.features.feature[_valid(name)]
        for item in content if isinstance(content, list) else [content]:
            _add_feature(item, name, feature)
    return tf_example


def _valid(text: str) -> str:
    """The text as a protobuf string takes it: bytes that aren't UTF-8 are replaced."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _add_feature(value: Any, name: str, feature: example_pb2.Feature) -> None:
    """One JSON value: its type decides the feature's kind, which all values have to share."""
    if value is None or isinstance(value, list) or (isinstance(value, dict) and not is_base64_object(value)):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    list_field = ("int64_list" if isinstance(value, (bool, int)) else "float_list" if isinstance(value, float)
                  else "bytes_list")
    present = feature.WhichOneof("kind")
    if present not in (None, list_field):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_FEATURE_TYPES[present]}")
    if isinstance(value, dict):
        value = base64_bytes(value)
    elif isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, bool):
        value = int(value)
    elif isinstance(value, float) and abs(value) < _LEAST_NORMAL:
        value *= 0.0  # as `arrays.flushed` does
    elif isinstance(value, int) and value > _MOST_INT64:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    getattr(feature, list_field).value.append(value)
