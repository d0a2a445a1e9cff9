"""Tensors of JSON, value by value: which fits which dtype and shape, and the error texts for those that don't."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from deploy.modelserver.rest import parse
from deploy.modelserver.rest.arrays import flushed
from deploy.modelserver.rest.encode import quoted_value
from deploy.modelserver.status import Code, StatusError, invalid
from deploy.wire.dtypes import CPP_NAMES, Array
from deploy.wire.tensors import numpy_dtype, shaped

_BASE64 = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")  # what abseil takes: a full stop pads as well as an equals sign
_INT32 = (-(2**31), 2**31 - 1)
LIMITS = {"int8": _INT32, "int16": _INT32, "uint8": _INT32, "int32": _INT32, "int64": (-(2**63), 2**63 - 1),
          "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}  # the small ones wrap instead
_LOOK = 1024  # values between two looks at whether somebody still waits


def converter(dtype: str) -> Callable[[Any], Any]:
    """A function from a JSON value to an element of this dtype; it raises StatusError."""
    if dtype in LIMITS:
        low, high = LIMITS[dtype]

        def whole(value: Any) -> int:
            if type(value) is not int or not low <= value <= high:
                raise type_error(value, dtype)
            return value

        return whole
    return {"float32": _decimal(dtype), "float64": _decimal(dtype), "string": _string, "bool": _bool}.get(
        dtype, _unsupported(dtype))


def _decimal(dtype: str) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise type_error(value, dtype)
        return float(value)

    return convert


def _string(value: Any) -> bytes:
    if not isinstance(value, str):
        raise type_error(value, "string")
    return value.encode("utf-8", "surrogateescape")


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise type_error(value, "bool")
    return value


def _unsupported(dtype: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        raise StatusError(Code.UNIMPLEMENTED,
                          f"Conversion of JSON Value: {quoted_value(value)} to type: {CPP_NAMES.get(dtype, dtype)}")

    return refuse


def json_type(value: object) -> str:
    """RapidJSON's name of a value's type."""
    if isinstance(value, bool):
        return "True" if value else "False"
    return {type(None): "Null", dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def type_error(value: object, dtype: str) -> StatusError:
    return invalid(f"JSON Value: {quoted_value(value)} Type: {json_type(value)} is not of expected type: "
                   f"{CPP_NAMES.get(dtype, dtype)}")


def is_base64_object(value: object) -> bool:
    """Whether a value is exactly {"b64": "..."}."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def base64_bytes(value: dict[str, Any]) -> bytes:
    """The bytes of {"b64": "..."}. Raises StatusError."""
    if not is_base64_object(value):
        raise invalid(f"JSON Value: {quoted_value(value)} not formatted correctly for base64 data")
    match = _BASE64.fullmatch(value["b64"].encode("utf-8", "surrogateescape").translate(None, b" \t\n\v\f\r"))
    if match is None or len(match[1]) % 4 == 1 or len(match[2]) not in (0, -len(match[1]) % 4):
        raise invalid("Unable to base64 decode")
    return base64.b64decode(match[1] + b"=" * (-len(match[1]) % 4))


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
        return flushed(np.array(self._values, dtype=wide or target).astype(target, copy=False))


def shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
