"""Two answers compared: the same, within tolerances? How far apart, in numbers? Arrays only; nothing is run here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
    return _close(_as_float32(expected), _as_float32(actual), tolerance, _what(expected))


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


def _as_float32(array: Array) -> Array:
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


@dataclass(frozen=True, slots=True)
class OutputDrift:
    """One output of one signature, over all cases.

    cases: that were compared. values: numbers (or strings) in them.
    max, mean: absolute deviation of the numbers that are finite on both sides; for complex ones of their distance. Of
        bools, the share that differs is the mean. Strings have none.
    changed: values that are not equal (NaN equals NaN).
    flips, decisions: rows (last dimension) whose largest entry is at another place, of all rows; 0 of 0 where there
        are no rows: one number for each example, strings, complex numbers.
    nan_before, nan_after: share of NaN.
    outside: sentences about what is not within the tolerance, one for each case; `within` if there are none.
    """

    signature: str
    output: str
    cases: int
    values: int
    max: float
    mean: float
    changed: int
    flips: int
    decisions: int
    nan_before: float
    nan_after: float
    outside: tuple[str, ...] = ()

    @property
    def within(self) -> bool:
        return not self.outside

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"signature": self.signature, "output": self.output, "cases": self.cases, "values": self.values,
                "max": self.max, "mean": self.mean, "changed": self.changed, "flips": self.flips,
                "decisions": self.decisions, "nan_before": self.nan_before, "nan_after": self.nan_after,
                "within": self.within, "outside": list(self.outside)}


@dataclass(frozen=True, slots=True)
class AnswerDrift:
    """All outputs, and the requests that were answered before and are refused now (`refused`: sentences).

    swapped: signature and two outputs which, in every case, answer with each other's values.
    """

    outputs: tuple[OutputDrift, ...]
    refused: tuple[str, ...] = ()
    cases: int = 0
    swapped: tuple[tuple[str, str, str], ...] = ()

    @property
    def within(self) -> bool:
        """Every request is answered, within the tolerances."""
        return not self.refused and all(output.within for output in self.outputs)

    @property
    def flips(self) -> int:
        return sum(output.flips for output in self.outputs)

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"within": self.within, "cases": self.cases, "refused": list(self.refused),
                "swapped": [list(names) for names in self.swapped],
                "outputs": [output.to_json() for output in self.outputs]}


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A request's answers from both sides. after: a sentence where the request was refused."""

    signature: str
    before: Arrays
    after: Arrays | str


def measure(pairs: Iterable[AnswerPair], limits: Tolerances) -> AnswerDrift:
    """Compare answers, case by case, as they come.

    limits: `default`, a signature, or `signature/output` -> Tolerance; DEFAULT where none applies.
    """
    tallies: dict[tuple[str, str], _Tally] = {}
    refused, number = [], 0
    swaps: dict[str, set[tuple[str, str]]] = {}
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair.after, str):
            refused.append(f"case {number} of {pair.signature}: {pair.after}")
            continue
        for name in dict.fromkeys((*pair.before, *pair.after)):
            tally = tallies.setdefault((pair.signature, name), _Tally(narrowest(limits, pair.signature, name)))
            tally.add(number, name, pair.before, pair.after)
        swapped_here = set(_swaps(pair.signature, pair.before, pair.after, limits))
        swaps[pair.signature] = swaps.get(pair.signature, swapped_here) & swapped_here
    swapped = tuple((signature, *names) for signature, always in swaps.items() for names in sorted(always))
    return AnswerDrift(tuple(tally.result(*key) for key, tally in tallies.items()), tuple(refused), number, swapped)


def _swaps(signature: str, before: Arrays, after: Arrays, limits: Tolerances) -> Iterator[tuple[str, str]]:
    """Pairs of outputs that have changed places: each isn't what it was, and is what the other was."""

    def same(one: str, other: str) -> bool:
        return not difference(one, before[one], after[other], narrowest(limits, signature, one))

    moved = [name for name in before if name in after and not same(name, name)]
    for one, other in itertools.combinations(moved, 2):
        if same(one, other) and same(other, one):
            yield one, other


@dataclass(slots=True)
class _Tally:
    """What has been seen of one output so far."""

    limit: Tolerance
    cases: int = 0
    values: int = 0
    finite: int = 0
    max: float = 0.0
    total: float = 0.0
    changed: int = 0
    flips: int = 0
    decisions: int = 0
    nan: list[int] = field(default_factory=lambda: [0, 0])
    outside: list[str] = field(default_factory=list)

    def add(self, number: int, name: str, before: Arrays, after: Arrays) -> None:
        self.cases += 1
        one, other = before.get(name), after.get(name)
        sentence = difference(name, one, other, self.limit)
        self.outside += [f"case {number}: {sentence}"] if sentence else []
        if one is not None and other is not None and one.shape == other.shape:
            self._compare(np.asarray(one), np.asarray(other))

    def _compare(self, before: Array, after: Array) -> None:
        self.values += before.size
        self.changed += int(np.count_nonzero(before != after))
        if before.dtype.kind in "OSU" or after.dtype.kind in "OSU":
            return
        before, after = _wide(before), _wide(after)
        nan = np.isnan(before), np.isnan(after)
        self.nan[0] += int(np.count_nonzero(nan[0]))
        self.nan[1] += int(np.count_nonzero(nan[1]))
        self.changed -= int(np.count_nonzero(nan[0] & nan[1]))
        finite = np.isfinite(before) & np.isfinite(after)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(after - before)[finite]
        if apart.size:
            self.finite += apart.size
            self.total += float(apart.sum())
            self.max = max(self.max, float(apart.max()))
        self._decide(before, after)

    def _decide(self, before: Array, after: Array) -> None:
        if before.ndim > 1 and before.shape[-1] > 1 and before.size and before.dtype.kind == "f":
            self.flips += int(np.count_nonzero(before.argmax(-1) != after.argmax(-1)))
            self.decisions += before.size // before.shape[-1]

    def result(self, signature: str, output: str) -> OutputDrift:
        values = self.values or 1
        return OutputDrift(signature, output, self.cases, self.values, self.max, self.total / (self.finite or 1),
                           self.changed, self.flips, self.decisions, self.nan[0] / values, self.nan[1] / values,
                           tuple(self.outside))


def _wide(array: Array) -> Array:
    """Of a type in which a difference can be taken, for 64-bit integers as exactly as the machine can."""
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return array.astype(np.longdouble)
    return array.astype(np.float64)
