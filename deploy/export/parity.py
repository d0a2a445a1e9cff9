"""Does what was saved answer as the live object did? Example calls, answered by both, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

import deploy
from deploy import goldens
from deploy.errors import DeployError, ExportError, ParityError
from deploy.export import examples
from deploy.export.plans import Endpoint
from deploy.goldens import Golden
from deploy.goldens.compare import DEFAULT, Array, Arrays, Tolerance, Tolerances, differences
from deploy.savedmodel import SavedModelInfo
from deploy.types import Contract

LOG_TAIL = 4000  # characters
BY_DTYPE = {"float16": Tolerance(1e-3, 1e-2), "bfloat16": Tolerance(1e-2, 2e-2)}
"""What rounding may do where ops are fused or reordered between the live object and a server."""

Answers = Sequence[Arrays]

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
                "tolerances": {k: {"absolute": t.absolute, "relative": t.relative} for k, t in self.tolerances.items()},
                "unrepeatable": list(self.unrepeatable)}


class Replay:
    """The fresh process. Start it early: it opens TensorFlow's library while the model is traced and saved.

    Use it in a `with`: leaving it ends the process.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.export.replay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment())

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, directory: Path, cases: Sequence[Golden]) -> tuple[Answers, Answers]:
        """The saved model's answers to all cases, and once more the same. At most one call.

        Raises ExportError if it can't be loaded, refuses a request, or ends the process.
        """
        from deploy.export import replay, scratch

        with scratch.directory() as place:
            requests, answers = place / "requests", place / "answers"
            replay.write_requests(requests, cases)
            said = self._said({"directory": str(directory), "requests": str(requests), "answers": str(answers)})
            if said.get("error"):
                raise _refused(str(said["error"]), said.get("request"), cases)
            found = replay.read_answers(answers)
        return found[:len(cases)], found[len(cases):]

    def _said(self, asked: Mapping[str, str]) -> dict[str, object]:
        try:
            out, err = self._process.communicate(json.dumps(asked) + "\n", self._timeout)
        except subprocess.TimeoutExpired:
            raise ExportError(f"the saved model didn't answer its examples within {self._timeout:g} s",
                              hint="give smaller examples") from None
        lines = out.strip().splitlines()
        if self._process.returncode or not lines:
            code = self._process.returncode
            raise ExportError(f"the process that loaded the saved model ended with exit code {code}",
                              hint="the model can't be served like this", details={"logs": err[-LOG_TAIL:]})
        said: dict[str, object] = json.loads(lines[-1])
        return said


def environment() -> dict[str, str]:
    """For a process of this room: it finds this very package, from whatever directory the user's code has gone to."""
    here = str(Path(deploy.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)}


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
    made = {str(name): _tolerance(value) for name, value in given.items()}
    known = {"default", *contract, *(f"{s.name}/{o.name}" for s in contract.values() for o in s.outputs)}
    unknown = sorted(set(made) - known)
    if unknown:
        raise ExportError(f"tolerance for {unknown[0]!r}, which is no signature or signature/output of the model",
                          hint=f"possible: {', '.join(sorted(known))}")
    return {"default": DEFAULT, **made}


def changing(cases: Sequence[Golden], first: Answers, last: Answers, limits: Tolerances) -> tuple[str, ...]:
    """The signatures whose answers differ between two rounds of the same calls, sorted."""
    return tuple(sorted({case.signature for case, one, other in zip(cases, first, last, strict=True)
                         if differences(case.signature, one, other, limits)}))


def compare(cases: Sequence[Golden], answers: Answers, limits: Tolerances, unrepeatable: tuple[str, ...]) -> Parity:
    """The cases' outputs against the saved model's. Raises ParityError with a table of differences."""
    wrong, exact, worst, count = [], True, 0.0, 0
    for number, (case, seen) in enumerate(zip(cases, answers, strict=True)):
        if case.signature in unrepeatable:
            continue
        count += 1
        found = differences(case.signature, case.outputs, seen, limits)
        wrong += [f"{case.signature}, example {number}: {text}" for text in found]
        if not found:
            exact = exact and all(case.outputs[name].tobytes() == seen[name].tobytes() for name in seen
                                  if seen[name].dtype != object)
            worst = max([worst, *(_apart(case.outputs[name], seen[name]) for name in seen)])
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
    raise ExportError(f"{given!r} is no tolerance", hint="give a number, or {'absolute': 1e-5, 'relative': 1e-4}")


def _refused(text: str, request: object, cases: Sequence[Golden]) -> ExportError:
    if "Op type not registered" in text:
        return ExportError(f"the saved model needs an op that TensorFlow doesn't have: {text}",
                           hint="it comes from a package like TensorFlow Text: keep it out of the served model")
    if request is None:
        return ExportError(f"the saved model doesn't load: {text}", hint="nothing was published")
    case = cases[int(str(request))]
    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in case.inputs.items())
    return ExportError(f"the saved model refuses an example for signature {case.signature!r} ({shapes}): {text}",
                       hint="give inputs that it takes with examples=...")


def describe(limits: Tolerances) -> dict[str, dict[str, float]]:
    """For the manifest."""
    return {name: {"absolute": limit.absolute, "relative": limit.relative} for name, limit in limits.items()}


@dataclass(frozen=True, slots=True)
class Proof:
    """cases: with answers, to be kept as goldens. notes: what isn't proven, and why."""

    cases: list[Golden]
    parity: Parity
    notes: tuple[str, ...] = ()


def prove(directory: Path, info: SavedModelInfo, live: Mapping[str, Endpoint], replay: Replay, *,
          given: object, tolerance: object, batches: Sequence[int] | None = None) -> Proof:
    """Ask the SavedModel in `directory` and compare.

    given, batches: examples, see examples.cases. live: the endpoints whose own answers are expected; none for an
    existing SavedModel, which has to repeat its recorded answers, if it has some, or else itself.
    Raises ExportError, ParityError.
    """
    limits = tolerances(tolerance, info.contract)
    cases = [] if live or given is not None else goldens.read(directory)
    notes: tuple[str, ...] = ()
    if not cases:
        cases, notes = _answered(info, live, given, batches)
    if not cases:
        replay.ask(directory, [])
        return Proof([], Parity(0, False, 0.0, limits), ("no examples: nothing is proven but that it loads",))
    first, last = replay.ask(directory, cases)
    cases = [case if case.outputs else replace(case, outputs=answer) for case, answer in zip(cases, last, strict=True)]
    unrepeatable = changing(cases, first, last, limits)
    found = compare(cases, first, limits, unrepeatable)
    return Proof([case for case in cases if case.signature not in unrepeatable], found,
                 (*notes, *(_changing_note(name, info) for name in unrepeatable)))


def _answered(info: SavedModelInfo, live: Mapping[str, Endpoint], given: object,
              batches: Sequence[int] | None) -> tuple[list[Golden], tuple[str, ...]]:
    """Cases with the live object's answers, and a note. Raises ExportError.

    What is generated grows until the model takes it: a convolution can't do with one pixel.
    """
    shapes = [spec.shape for signature in info.contract.values() for spec in signature.inputs]
    sizes = _FREE if live and given is None and any(None in (shape or ())[1:] for shape in shapes) else _FREE[:1]
    encoders, failed = {name: e.encode for name, e in live.items()}, None
    for size in sizes:
        try:
            cases = examples.cases(given, info.contract, info.features, encoders, batches, free=size)
            answered = _answer(cases, live)
        except DeployError as error:
            failed = failed or error
        else:
            return answered, () if failed is None else (_GROWN.format(size),)
    assert failed is not None
    raise failed


def _answer(cases: list[Golden], live: Mapping[str, Endpoint]) -> list[Golden]:
    if not live:
        return cases
    from deploy.export import saving

    return [replace(case, outputs=saving.answer(live[case.signature], case.inputs)) for case in cases]


def _changing_note(signature: str, info: SavedModelInfo) -> str:
    random = ", ".join(sorted(info.ops & _RANDOM_OPS))
    why = f" ({random})" if random else ""
    return (f"signature {signature!r} answers differently from call to call{why}: no golden answers are kept for it; "
            "make it repeatable, for example with stateless random ops and a seed")
