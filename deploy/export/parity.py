"""Does what was saved answer as the live object did? Example calls, answered by both, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deploy import goldens
from deploy.errors import DeployError, ExportError, ParityError
from deploy.export import examples, saving
from deploy.export.options import Recording, SignatureFunction
from deploy.export.processes import Answers, Replay
from deploy.goldens import Golden
from deploy.goldens.compare import differences
from deploy.goldens.tolerances import DEFAULT, Tolerance, Tolerances
from deploy.savedmodel import SavedModelInfo
from deploy.types import Contract
from deploy.wire.dtypes import Array

BY_DTYPE = {"float16": Tolerance(1e-3, 1e-2), "bfloat16": Tolerance(1e-2, 2e-2)}
"""What rounding may do where ops are fused or reordered between the live object and a server."""

_RANDOM_OPS = frozenset({
    "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal",
    "RandomShuffle", "RandomGamma", "RandomPoisson", "RandomPoissonV2", "Multinomial", "RandomCrop",
    "StatefulUniform", "StatefulUniformInt", "StatefulUniformFullInt", "StatefulStandardNormal",
    "StatefulStandardNormalV2", "StatefulTruncatedNormal", "StatefulRandomBinomial", "RngSkip", "RngReadAndSkip"})
_FREE = (1, 16, 64, 256)
"""Sizes of the unknown dimensions of generated examples, but the first, as tried in turn."""
_GROWN = "the generated examples have {} for each unknown dimension but the first: the model fails on smaller ones; " \
    "real ones are better: --examples or examples="


@dataclass(frozen=True, slots=True)
class Parity:
    """What was proven. cases: calls that were compared; worst: the largest absolute difference among their numbers.

    exact: every answer was the same bit for bit.
    unrepeatable: signatures whose answers change from call to call; nothing is proven of these.
    """

    cases: int
    exact: bool
    worst: float
    tolerances: Tolerances
    unrepeatable: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.cases:
            return "not checked"
        default = self.tolerances["default"]
        limit = f"absolute {default.absolute:g}, relative {default.relative:g}"
        what = "bit for bit" if self.exact else f"within tolerance ({limit}; worst {self.worst:.2g})"
        return f"{self.cases} call{'s' * (self.cases != 1)} answered {what}"

    def to_json(self) -> dict[str, object]:
        return {"cases": self.cases, "exact": self.exact, "worst": self.worst,
                "tolerances": describe(self.tolerances), "unrepeatable": list(self.unrepeatable)}


def tolerances(given: object, contract: Contract) -> dict[str, Tolerance]:
    """The limits by `default` and `signature/output`.

    given: None; a Tolerance; a number (absolute and relative); {`absolute`, `relative`}; or a mapping `default`,
        signature or `signature/output` -> one of these. Without it, outputs in half precision get wider ones.
    Raises ExportError.
    """
    if given is None:
        outputs = [(signature.name, output) for signature in contract.values() for output in signature.outputs]
        halves = {f"{name}/{o.name}": BY_DTYPE[o.dtype] for name, o in outputs if o.dtype in BY_DTYPE}
        return {"default": DEFAULT, **halves}
    if not isinstance(given, Mapping) or set(given) <= {"absolute", "relative"}:
        return {"default": _tolerance(given)}
    limits = {str(name): _tolerance(value) for name, value in given.items()}
    known = {"default", *contract, *(f"{s.name}/{o.name}" for s in contract.values() for o in s.outputs)}
    unknown = sorted(set(limits) - known)
    if unknown:
        raise ExportError(f"tolerance for {unknown[0]!r}, which is no signature or signature/output of the model",
                          hint=f"possible: {', '.join(sorted(known))}", id="bad-tolerance")
    return {"default": DEFAULT, **limits}


def changing(cases: Sequence[Golden], first: Answers, last: Answers, limits: Tolerances) -> tuple[str, ...]:
    """The signatures whose answers differ between two rounds of the same calls, sorted."""
    return tuple(sorted({case.signature for case, one, other in zip(cases, first, last, strict=True)
                         if differences(case.signature, one, other, limits)}))


def compare(cases: Sequence[Golden], answers: Answers, limits: Tolerances, unrepeatable: tuple[str, ...]) -> Parity:
    """The cases' outputs against the saved model's. Raises ParityError with a table of differences."""
    wrong, exact, worst, count = [], True, 0.0, 0
    for number, (case, answer) in enumerate(zip(cases, answers, strict=True)):
        if case.signature in unrepeatable:
            continue
        count += 1
        deviations = differences(case.signature, case.outputs, answer, limits)
        wrong += [f"{case.signature}, example {number}: {text}" for text in deviations]
        if not deviations:
            exact = exact and all(case.outputs[name].tobytes() == answer[name].tobytes() for name in answer
                                  if answer[name].dtype != object)
            worst = max([worst, *(_apart(case.outputs[name], answer[name]) for name in answer)])
    if wrong:
        raise ParityError(f"the saved model answers differently than the live object: {wrong[0]}",
                          hint="nothing was published; see the differences, or state a tolerance if they are rounding",
                          details={"differences": wrong})
    return Parity(count, exact, worst, dict(limits), unrepeatable)


def _apart(expected: Array, actual: Array) -> float:
    """The largest absolute difference of two equal shapes of numbers; infinities and NaN that match count as 0."""
    if expected.dtype.kind not in "fcV" or not expected.size:
        return 0.0
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        apart = np.abs(expected.astype(wide) - actual.astype(wide))
    return float(np.nan_to_num(apart, nan=0.0, posinf=0.0).max())


def _tolerance(given: object) -> Tolerance:
    if isinstance(given, Tolerance):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool) and given >= 0:
        return Tolerance(float(given), float(given))
    if isinstance(given, Mapping) and set(given) <= {"absolute", "relative"}:
        return Tolerance(float(given.get("absolute", 0.0)), float(given.get("relative", 0.0)))
    raise ExportError(f"{given!r} is no tolerance", hint="give a number, or {'absolute': 1e-5, 'relative': 1e-4}",
                      id="bad-tolerance")


def describe(limits: Tolerances) -> dict[str, dict[str, float]]:
    """For the manifest."""
    return {name: {"absolute": limit.absolute, "relative": limit.relative} for name, limit in limits.items()}


@dataclass(frozen=True, slots=True)
class Proof:
    """cases: with answers, to be kept as goldens. notes: what isn't proven, and why."""

    cases: list[Golden]
    parity: Parity
    notes: tuple[str, ...] = ()


def prove(directory: Path, info: SavedModelInfo, live: Mapping[str, SignatureFunction], replay: Replay,
          recording: Recording) -> Proof:
    """Ask the SavedModel in `directory` and compare.

    live: the signatures whose own answers are expected; none for an existing SavedModel, which has to repeat its
    recorded answers, if it has some, or else itself.
    Raises ExportError, ParityError.
    """
    limits = tolerances(recording.tolerance, info.contract)
    cases = [] if live or recording.examples is not None else goldens.read(directory)
    notes: tuple[str, ...] = ()
    if not cases:
        cases, notes = _answered(info, live, recording)
    if not cases:
        replay.ask(directory, [], info.tags)
        return Proof([], Parity(0, False, 0.0, limits), ("no examples: nothing is proven but that it loads",))
    first, last = replay.ask(directory, cases, info.tags)
    cases = [case if case.outputs else replace(case, outputs=answer) for case, answer in zip(cases, last, strict=True)]
    unrepeatable = changing(cases, first, last, limits)
    parity = compare(cases, first, limits, unrepeatable)
    return Proof([case for case in cases if case.signature not in unrepeatable], parity,
                 (*notes, *(_changing_note(name, info) for name in unrepeatable)))


def _answered(info: SavedModelInfo, live: Mapping[str, SignatureFunction],
              recording: Recording) -> tuple[list[Golden], tuple[str, ...]]:
    """Cases with the live object's answers, and a note. Raises ExportError.

    What is generated grows until the model takes it: a convolution can't do with one pixel.
    """
    given, batches = recording.examples, recording.batch_sizes
    shapes = [spec.shape for signature in info.contract.values() for spec in signature.inputs]
    sizes = _FREE if live and given is None and any(None in (shape or ())[1:] for shape in shapes) else _FREE[:1]
    encoders, failed = {name: e.encode for name, e in live.items()}, None
    samples = {name: e.samples for name, e in live.items()}
    for size in sizes:
        try:
            cases = examples.cases(given, info.contract, info.features, encoders, batches, free=size, samples=samples)
            answered = _answer(cases, live)
        except DeployError as error:
            failed = failed or error
        else:
            return answered, () if failed is None else (_GROWN.format(size),)
    assert failed is not None
    raise failed


def _answer(cases: list[Golden], live: Mapping[str, SignatureFunction]) -> list[Golden]:
    if not live:
        return cases
    return [replace(case, outputs=saving.answer(live[case.signature], case.inputs)) for case in cases]


def _changing_note(signature: str, info: SavedModelInfo) -> str:
    random = ", ".join(sorted(info.ops & _RANDOM_OPS))
    why = f" ({random})" if random else ""
    return (f"signature {signature!r} answers differently from call to call{why}: no golden answers are kept for it; "
            "make it repeatable, for example with stateless random ops and a seed")
