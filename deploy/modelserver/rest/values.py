"""One JSON value as one element of a tensor: what fits which dtype, and the error text for what doesn't."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from deploy.modelserver.rest.pretty import quoted_value
from deploy.modelserver.status import Code, StatusError, invalid
from deploy.modelserver.tensors import NAMES

_BASE64 = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")  # what abseil takes: a full stop pads as well as an equals sign
_INT32 = (-(2**31), 2**31 - 1)
LIMITS = {"int8": _INT32, "int16": _INT32, "uint8": _INT32, "int32": _INT32, "int64": (-(2**63), 2**63 - 1),
          "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}  # the small ones wrap instead


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
                          f"Conversion of JSON Value: {quoted_value(value)} to type: {NAMES.get(dtype, dtype)}")

    return refuse


def json_type(value: object) -> str:
    """RapidJSON's name of a value's type."""
    if isinstance(value, bool):
        return "True" if value else "False"
    return {type(None): "Null", dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def type_error(value: object, dtype: str) -> StatusError:
    return invalid(f"JSON Value: {quoted_value(value)} Type: {json_type(value)} is not of expected type: "
                   f"{NAMES.get(dtype, dtype)}")


def is_base64_object(value: object) -> bool:
    """Whether a value is exactly {"b64": "..."}."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def base64_bytes(value: dict[str, Any]) -> bytes:
    """The bytes of {"b64": "..."}. Raises StatusError."""
    if not is_base64_object(value):
        raise invalid(f"JSON Value: {quoted_value(value)} not formatted correctly for base64 data")
    found = _BASE64.fullmatch(value["b64"].encode("utf-8", "surrogateescape").translate(None, b" \t\n\v\f\r"))
    if found is None or len(found[1]) % 4 == 1 or len(found[2]) not in (0, -len(found[1]) % 4):
        raise invalid("Unable to base64 decode")
    return base64.b64decode(found[1] + b"=" * (-len(found[1]) % 4))
