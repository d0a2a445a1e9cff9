"""Are two answers the same? Numbers within a tolerance, everything else exactly."""

from __future__ import annotations

import numpy as np

from deploy.goldens.tolerances import Tolerance, Tolerances, narrowest
from deploy.wire.dtypes import Array, Arrays
from deploy.wire.values import dtype_name


def differences(signature: str, expected: Arrays, actual: Arrays, tolerances: Tolerances) -> list[str]:
    """Two answers of `signature`, output by output: a sentence for each that differs, that is missing, or that nobody
    expects. Each output has its own tolerance, the narrowest of `tolerances`.
    """
    sentences = (difference(name, expected.get(name), actual.get(name), narrowest(tolerances, signature, name))
                 for name in dict.fromkeys((*expected, *actual)))
    return [sentence for sentence in sentences if sentence]


def difference(output: str, expected: Array | None, actual: Array | None, tolerance: Tolerance) -> str:
    """How two answers differ in one output: in dtype, shape, or values (with the worst of them). Empty if they don't.

    Floating and complex numbers are compared within the tolerance; NaN equals NaN, an infinity equals itself.
    Integers, strings and bools have to be equal. None: that answer lacks the output.
    """
    if expected is None or actual is None:
        return f"output {output!r} is {'not expected' if expected is None else 'missing'}"
    text = _difference(np.asarray(expected), np.asarray(actual), tolerance)
    return f"output {output!r}: {text}" if text else ""


def _difference(expected: Array, actual: Array, tolerance: Tolerance) -> str:
    if _name(expected) != _name(actual) or expected.shape != actual.shape:
        return f"expected {_what(expected)}, got {_what(actual)}"
    if expected.dtype.kind in "OSUbiu":
        return _exact(expected, actual)
    return _close(_wide(expected), _wide(actual), tolerance, _what(expected))


def _exact(expected: Array, actual: Array) -> str:
    wrong = np.asarray(expected != actual)
    if not wrong.any():
        return ""
    return f"{_count(wrong)}, {_what(expected)}; first {_at(int(np.argmax(wrong)), expected, actual)}"


def _close(expected: Array, actual: Array, tolerance: Tolerance, what: str) -> str:
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


def _wide(array: Array) -> Array:
    """Half floats and bfloat16 as float32 hold the same numbers, and numpy's functions take them."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _name(array: Array) -> str:
    return "string" if array.dtype.kind in "OSU" else dtype_name(array.dtype)


def _what(array: Array) -> str:
    return f"{_name(array)}{list(array.shape)}"


def _count(wrong: Array) -> str:
    return "its value differs" if wrong.size == 1 else f"{int(wrong.sum())} of {wrong.size} values differ"


def _at(flat: int, expected: Array, actual: Array) -> str:
    where = [int(i) for i in np.unravel_index(flat, expected.shape)]
    place = f"at {where}: " if where else ""
    return f"{place}expected {expected.ravel()[flat]!s:.200}, got {actual.ravel()[flat]!s:.200}"


def _short(values: Array, flat: int) -> str:
    return f"{np.ravel(values)[flat]:.3g}"
