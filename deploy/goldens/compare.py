"""Are two answers the same? Numbers within a tolerance, everything else exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.wire.dtypes import dtype_name


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An actual number may differ from the expected one by `absolute + relative * |expected|`. Zeros: bit for bit."""

    absolute: float = 0.0
    relative: float = 0.0


DEFAULT = Tolerance(absolute=1e-5, relative=1e-4)
"""Where nothing is stated: the rounding of one build of TensorFlow against another's."""

Tolerances = Mapping[str, Tolerance]
"""`default`, a signature, or `signature/output` -> Tolerance; the narrowest key that applies wins."""


def narrowest(tolerances: Tolerances, signature: str, output: str, default: Tolerance = DEFAULT) -> Tolerance:
    """The tolerance of an output; `default` where nothing applies."""
    for key in (f"{signature}/{output}", signature, "default"):
        if key in tolerances:
            return tolerances[key]
    return default


def from_json(data: Mapping[str, Mapping[str, float]]) -> dict[str, Tolerance]:
    """A manifest's tolerances as values."""
    return {name: Tolerance(values.get("absolute", 0.0), values.get("relative", 0.0)) for name, values in data.items()}


def differences(expected: Mapping[str, NDArray[Any]], actual: Mapping[str, NDArray[Any]],
                tolerance: Tolerance) -> list[str]:
    """One sentence per output that differs: in name, dtype, shape, or values (with the worst of them).

    Floating and complex numbers are compared within the tolerance; NaN equals NaN, an infinity equals itself.
    Integers, strings and bools have to be equal.
    """
    found = [f"output {name!r} is missing" for name in expected if name not in actual]
    found += [f"output {name!r} is not expected" for name in actual if name not in expected]
    for name in expected:
        if name in actual:
            text = _difference(np.asarray(expected[name]), np.asarray(actual[name]), tolerance)
            found += [f"output {name!r}: {text}"] if text else []
    return found


def _difference(expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance) -> str:
    if _name(expected) != _name(actual) or expected.shape != actual.shape:
        return f"expected {_what(expected)}, got {_what(actual)}"
    if expected.dtype.kind in "OSUbiu":
        return _exact(expected, actual)
    return _close(_wide(expected), _wide(actual), tolerance, _what(expected))


def _exact(expected: NDArray[Any], actual: NDArray[Any]) -> str:
    wrong = np.asarray(expected != actual)
    if not wrong.any():
        return ""
    return f"{_count(wrong)}, {_what(expected)}; first {_at(int(np.argmax(wrong)), expected, actual)}"


def _close(expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance, what: str) -> str:
    if np.array_equal(expected, actual):
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(actual - expected)
        allowed = tolerance.absolute + tolerance.relative * np.abs(expected)
        # An infinite expectation would allow any distance, so infinities have to be equal, as below.
        fine = (apart <= allowed) & np.isfinite(expected) & np.isfinite(actual)
        wrong = ~(fine | (expected == actual) | (np.isnan(expected) & np.isnan(actual)))
        if not wrong.any():
            return ""
        excess = np.nan_to_num(apart - allowed, nan=np.inf)
    worst = int(np.argmax(np.where(wrong, excess, -np.inf)))
    return (f"{_count(wrong)}, {what}; worst {_at(worst, expected, actual)}, {_short(apart, worst)} apart, "
            f"{_short(allowed, worst)} allowed")


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    """Half floats and bfloat16 as float32 hold the same numbers, and numpy's functions take them."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _name(array: NDArray[Any]) -> str:
    return "string" if array.dtype.kind in "OSU" else dtype_name(array.dtype)


def _what(array: NDArray[Any]) -> str:
    return f"{_name(array)}{list(array.shape)}"


def _count(wrong: NDArray[Any]) -> str:
    return "its value differs" if wrong.size == 1 else f"{int(wrong.sum())} of {wrong.size} values differ"


def _at(flat: int, expected: NDArray[Any], actual: NDArray[Any]) -> str:
    where = [int(i) for i in np.unravel_index(flat, expected.shape)]
    place = f"at {where}: " if where else ""
    return f"{place}expected {expected.ravel()[flat]!s:.200}, got {actual.ravel()[flat]!s:.200}"


def _short(values: NDArray[Any], flat: int) -> str:
    return f"{np.ravel(values)[flat]:.3g}"
