"""How the real server spells numbers in JSON.

Values of tensors: six digits if they are exact, else all that are needed (9 for float32, 17 for float64), `.0` for
whole numbers that aren't in scientific notation. Values of a request that is quoted in an error: nearly the shortest
form, as RapidJSON 1.1 writes doubles: by Grisu2 (F. Loitsch, Printing Floating-Point Numbers Quickly and Accurately
with Integers, 2010), whose digits are always enough, nearly always the fewest, but not always the nearest. Python's
repr is always shortest and nearest, so it can't be used for them.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_ZERO, _NEAR_MOST = ord("0"), 1.7976931348623157e307
_MARK = 1e300  # stands for values that are spelled one by one
_MARKED = orjson.dumps(_MARK)
_FEW = 24  # below so many values, one by one is faster
# By kind of value: needs six digits, needs all; whole (`.0` is added); not finite (`%.0s` swallows the value).
_FORMATS = {4: ["%.6g", "%.9g", "%.6g.0", "%.9g.0", "%.0sNaN", "%.0sInfinity", "%.0s-Infinity"],
            8: ["%.6g", "%.17g", "%.6g.0", "%.17g.0", "%.0sNaN", "%.0sInfinity", "%.0s-Infinity"]}
_TENS = np.array([float(10**n) for n in range(14)])
_HIDDEN = 2**52
_ROUNDED = 9  # RapidJSON's table of powers ends here; with more digits behind the point it doesn't round to the nearest


def decimals(values: NDArray[Any]) -> list[str]:
    """The spellings of float32 or float64 values."""
    flat = values.ravel()
    if flat.size < _FEW or _tiny(flat):
        return [decimal(v, flat.dtype.itemsize) for v in flat.tolist()]
    if (texts := compact(flat)) is not None:
        return texts[1:-1].decode("ascii").split(",")
    formats = np.array(_FORMATS[flat.dtype.itemsize], dtype=object)
    pattern = "\n".join(formats[_kinds(flat)].tolist())
    return (pattern % tuple(flat.tolist())).split("\n")


def compact(values: NDArray[Any]) -> bytes | None:
    """Many float32 values as one JSON array without blanks, in a third of the time; None for others.

    Most have to be zero or between 1e-4 and 1e6: rounded to six or nine digits as doubles, their shortest spelling is
    it. The products are exact: 24 bits times up to 5**12 (28 bits) fit into the 53 of a double; so are the quotients'
    digits, since a double has 15.
    """
    if values.dtype != np.float32 or values.size < _FEW:
        return None
    wide = values.ravel().astype(np.float64)
    size = np.abs(wide)
    size[size == 0] = 1
    others = np.flatnonzero(~((size >= 1e-4) & (size < 1e6)))  # NaN, too
    if len(others) > values.size // 4:
        return None
    size[others] = wide[others] = 1
    places = 8 - np.floor(np.log10(size)).astype(np.intp)
    few, all_ = _TENS[places - 3], _TENS[places]
    six = np.rint(wide * few) / few
    shortest = np.where(six.astype(np.float32) == wide, six, np.rint(wide * all_) / all_)
    shortest[others] = _MARK
    text = orjson.dumps(shortest.reshape(values.shape), option=orjson.OPT_SERIALIZE_NUMPY)
    if len(others):
        spelled = [decimal(value, 4).encode() for value in values.ravel()[others].tolist()]
        text = b"".join(chain.from_iterable(zip(text.split(_MARKED), [*spelled, b""], strict=True)))
    return bytes(text)


def decimal(value: float, width: int = 8) -> str:
    """One value's spelling; width: bytes of its type, 4 or 8."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    parsed = float(text)
    if (float(np.float32(parsed)) if width == 4 else parsed) != value:
        text = f"{value:.{9 if width == 4 else 17}g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _tiny(flat: NDArray[Any]) -> bool:
    """Whether there are numbers that lose digits when they are scaled."""
    return flat.itemsize == 8 and bool(np.any((np.abs(flat) < 1e-290) & (flat != 0)))


def _kinds(flat: NDArray[Any]) -> NDArray[Any]:
    """Index of each value's format."""
    with np.errstate(all="ignore"):
        wide = flat.astype(np.float64, copy=False)
        size = np.abs(wide)
        places = 5 - np.floor(np.log10(np.where(size > 0, size, 1)))
        scale = 10.0 ** np.abs(places)
        up = places >= 0
        rounded = np.rint(np.where(up, wide * scale, wide / scale))
        short = np.where(up, rounded / scale, rounded * scale).astype(flat.dtype)
        long = short != flat
        whole = (np.rint(wide) == wide) & (size < np.where(long, 10.0 ** (9 if flat.itemsize == 4 else 17), 1e6))
    kinds = long.astype(np.intp) + 2 * whole
    kinds[np.isnan(flat)] = 4
    kinds[np.isposinf(flat)] = 5
    kinds[np.isneginf(flat)] = 6
    return np.asarray(kinds)


def rapidjson_number(whole: bytes, fraction: bytes, exponent: bytes, *, negative: bool) -> float | None:
    """A number as RapidJSON reads it: few digits are exact, many or large exponents are rounded more than once.

    whole, fraction: digits. exponent: perhaps with a sign. Returns None if it is too big for a double.
    Source: RapidJSON 1.1.0, reader.h (ParseNumber) and internal/strtod.h (StrtodNormalPrecision).
    """
    most = 2**63 if negative else 2**64 - 1
    fits = next(n for n in range(min(len(whole), 20), 0, -1) if int(whole[:n]) <= most)
    significand, seen = int(whole[:fits]), fits - 1
    at = 0
    if fits == len(whole):
        while at < len(fraction) and significand < 2**53:
            significand = significand * 10 + fraction[at] - _ZERO
            at += 1
            seen += significand != 0
    value = float(significand)
    for digit in whole[fits:]:
        if value >= _NEAR_MOST:
            return None
        value = value * 10 + digit - _ZERO
    while at < len(fraction) and seen < 17:
        value = value * 10 + fraction[at] - _ZERO
        at += 1
        seen += value > 0
    power = max(int(exponent[:9] or 0), -9999)
    if len(exponent.lstrip(b"+")) > 1 and power > 308 + at:
        return None
    value = _scaled(value, power - at)
    return None if math.isinf(value) else -value if negative else value


def _scaled(value: float, power: int) -> float:
    if power >= 0:
        return value * float(f"1e{power}")
    if power >= -308:
        return value / float(f"1e{-power}")
    return value / 1e308 / float(f"1e{-308 - power}") if power >= -616 else 0.0


def quoted(value: float) -> str:
    """A finite double as RapidJSON's writer spells it."""
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    text, exponent = digits(abs(value))
    return ("-" if value < 0 else "") + _placed(text, len(text) + exponent)


def _placed(text: str, point: int) -> str:
    """point: how many of the digits stand before the decimal point."""
    if len(text) <= point <= 21:
        return f"{text}{'0' * (point - len(text))}.0"
    if 0 < point <= 21:
        return f"{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{text}"
    tail = f".{text[1:]}" if len(text) > 1 else ""
    return f"{text[0]}{tail}e{point - 1}"


def digits(value: float) -> tuple[str, int]:
    """Digits and decimal exponent of a positive finite number: value = int(digits) * 10**exponent."""
    fraction, exponent = _split(value)
    shift = 64 - (2 * fraction + 1).bit_length()
    above, scale = (2 * fraction + 1) << shift, exponent - 1 - shift
    if fraction == _HIDDEN:
        below = (4 * fraction - 1) << (exponent - 2 - scale)
    else:
        below = (2 * fraction - 1) << (exponent - 1 - scale)
    power, power_exponent, decimal = _cached_power(scale)
    middle = _times(fraction << (64 - fraction.bit_length()), power)
    high = _times(above, power) - 1
    low = _times(below, power) + 1
    return _generate(high, high - low, high - middle, -(scale + power_exponent + 64), decimal)


def _split(value: float) -> tuple[int, int]:
    """Whole significand and binary exponent, as the number is stored."""
    exponent = max(math.frexp(value)[1] - 53, -1074)
    return int(math.ldexp(value, -exponent)) if exponent > -1074 else int(value / 5e-324), exponent


def _times(a: int, b: int) -> int:
    product = a * b
    return (product >> 64) + (product >> 63 & 1)


@cache
def _cached_power(scale: int) -> tuple[int, int, int]:
    """A power of ten (64-bit significand, binary exponent) that brings a number of this scale into range, and what it
    means for the decimal exponent. Every eighth power is used."""
    wanted = math.ceil((-61 - scale) * 0.30102999566398114 + 347)
    decimal = -348 + ((wanted >> 3) + 1) * 8
    numerator, denominator = (10**decimal, 1) if decimal >= 0 else (1, 10**-decimal)
    exponent = numerator.bit_length() - denominator.bit_length() - 64
    while True:
        if exponent >= 0:
            significand = (2 * numerator // (denominator << exponent) + 1) // 2
        else:
            significand = (2 * (numerator << -exponent) // denominator + 1) // 2
        if significand < 2**63:
            exponent -= 1
        elif significand >= 2**64:
            exponent += 1
        else:
            return significand, exponent, -decimal


def _generate(high: int, delta: int, distance: int, bits: int, decimal: int) -> tuple[str, int]:
    """Digits of `high` until what is left is within delta, then down towards the number itself."""
    whole, rest = high >> bits, high & (1 << bits) - 1
    number, kappa = 0, len(str(whole))
    while kappa > 0:
        kappa -= 1
        digit, whole = divmod(whole, 10**kappa)
        number = number * 10 + digit
        left = (whole << bits) + rest
        if left <= delta:
            return _rounded(number, delta, left, 10**kappa << bits, distance), decimal + kappa
    unit = 1
    while True:
        rest, delta, unit = rest * 10, delta * 10, unit * 10
        number = number * 10 + (rest >> bits)
        rest &= (1 << bits) - 1
        kappa -= 1
        if rest < delta:
            near = distance * unit if -kappa < _ROUNDED else 0
            return _rounded(number, delta, rest, 1 << bits, near), decimal + kappa


def _rounded(number: int, delta: int, rest: int, step: int, distance: int) -> str:
    while rest < distance and delta - rest >= step and (
            rest + step < distance or distance - rest > rest + step - distance):
        number, rest = number - 1, rest + step
    return str(number)
