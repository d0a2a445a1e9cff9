"""A predict body -> arrays, with the real server's checks in its order.

Numbers go through numpy at once; whatever that doesn't take as it is goes the slow way, value by value, which knows
all the rules and error texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.modelserver.inline import LONG, Steps
from deploy.modelserver.rest import bulk, fast, parse
from deploy.modelserver.rest.fast import numeric
from deploy.modelserver.rest.pretty import quoted_value
from deploy.modelserver.rest.values import base64_bytes, converter, is_base64_object, type_error
from deploy.modelserver.status import StatusError, invalid
from deploy.wire.dtypes import Array
from deploy.wire.tensors import dtype_from_number, numpy_dtype, shaped

_SHORT = 1 << 12  # bytes
_LOOK = 1024  # values between two looks at whether somebody still waits
Inputs = Mapping[str, int]  # an input's name -> number of its dtype


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
    if len(body) >= bulk.LONG and (found := bulk.read(body)) is not None:
        inputs = inputs_of(found.signature)
        if len(inputs) == 1 and (array := fast.rounded(found.numbers, dtype_from_number(*inputs.values()))) is not None:
            return Decoded(found.signature, dict.fromkeys(inputs, array), found.key == "instances")
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


class Filler:
    """Collects values one by one, checked against the shape that the first elements of all lists make."""

    def __init__(self, dtype: str, go_on: Callable[[], None] = parse.keep_on) -> None:
        self.dtype, self._go_on = dtype, go_on
        self.shape: tuple[int, ...] = ()
        self._values: list[Any] = []
        self._convert = converter(dtype)

    def add(self, value: Any) -> int:
        """Take a tensor's value; returns how many elements it has. Raises StatusError."""
        shape, first = [], value
        while isinstance(first, list):
            shape.append(len(first))
            if not first:
                break
            first = first[0]
        self.shape, before = tuple(shape), len(self._values)
        self._fill(value)
        return len(self._values) - before

    def _fill(self, value: Any) -> None:
        """Take all values in their order. Lists may be deep, so those that are begun lie on a stack."""
        rank, begun = len(self.shape), [iter([value])]
        while begun:
            level = len(begun) - 1
            for item in begun[-1]:
                if isinstance(item, list):
                    self._check(item, level)
                    begun.append(iter(item))
                    break
                if level != rank:
                    raise invalid(f"JSON Value: {quoted_value(item)} found at incorrect level: {level + 1} in the JSON "
                                  f"DOM. Expected at level: {rank}")
                self._values.append(self._object(item) if isinstance(item, dict) else self._convert(item))
                if not len(self._values) % _LOOK:
                    self._go_on()
            else:
                begun.pop()

    def _check(self, value: list[Any], level: int) -> None:
        rank = len(self.shape)
        if level >= rank:
            raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
        if len(value) != self.shape[level]:
            raise invalid(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
                          f"{self.shape[level]}")

    def _object(self, value: dict[str, Any]) -> bytes:
        if self.dtype != "string":
            raise type_error(value, self.dtype)
        return base64_bytes(value)

    def array(self, shape: tuple[int, ...], alias: str) -> Array:
        """All values that were taken, for the input `alias`. Raises StatusError."""
        if self.dtype == "string":
            array = np.empty(len(self._values), dtype=object)
            array[:] = self._values
        else:
            with np.errstate(over="ignore"):
                array = self._numbers()
        try:
            return shaped(array, shape)
        except ValueError:  # more dimensions than an array can have
            raise invalid(f"tensor parsing error: {alias}") from None

    def _numbers(self) -> Array:
        wide = {"int8": np.int32, "int16": np.int32, "uint8": np.int32, "float32": np.float64}.get(self.dtype)
        target = numpy_dtype(self.dtype)
        return fast.flushed(np.array(self._values, dtype=wide or target).astype(target, copy=False))


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
                _add(only, item, fillers, first)
            except StatusError as error:
                raise invalid(f"Failed to process element: {number} of 'instances' list. Error: {error}") from error
    return {name: fillers[name].array((len(instances), *first[name][1]), name) for name in fillers if name in first}


def _add_named(number: int, item: Any, fillers: dict[str, Filler],
               first: dict[str, tuple[int, tuple[int, ...]]]) -> None:
    if not _is_named(item):
        raise invalid(f"Expecting object but got list at item {number} of input list")
    for name, value in item.items():
        try:
            _add(name, value, fillers, first)
        except StatusError as error:
            raise invalid(f"Failed to process element: {number} key: {name} of 'instances' list. Error: "
                          f"{error}") from error
    if item.keys() != fillers.keys():
        raise invalid(f"Failed to process element: {number} of 'instances' list. JSON object: {quoted_value(item)} "
                      f"keys must be equal to: {','.join(sorted(fillers))}")


def _add(name: str, value: Any, fillers: dict[str, Filler], first: dict[str, tuple[int, tuple[int, ...]]]) -> None:
    if name not in fillers:
        raise invalid(f"JSON object: does not have named input: {name}")
    filler = fillers[name]
    size = filler.add(value)
    expected, shape = first.setdefault(name, (size, filler.shape))
    if size != expected:
        raise invalid(f"Expecting tensor size: {expected} but got: {size}")
    if filler.shape != shape:
        raise invalid(f"Expecting shape {_shape(shape)} but got: {_shape(filler.shape)}")


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


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
