"""How far the answers of one version are from those of another, in numbers. Arrays only; nothing is run here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from deploy.goldens.compare import difference
from deploy.goldens.tolerances import Tolerance, Tolerances, narrowest
from deploy.wire.dtypes import Array, Arrays


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
