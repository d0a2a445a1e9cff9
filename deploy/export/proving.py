"""Example calls of a saved model, answered by the live object and by a fresh process, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import goldens
from deploy.errors import DeployError
from deploy.export import examples, parity
from deploy.export.plans import Case, Endpoint
from deploy.savedmodel import SavedModelInfo

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
class Proof:
    """cases: with answers, to be kept as goldens. notes: what isn't proven, and why."""

    cases: list[Case]
    parity: parity.Parity
    notes: tuple[str, ...] = ()


def prove(directory: Path, info: SavedModelInfo, live: Mapping[str, Endpoint], replay: parity.Replay, *,
          given: object, tolerance: object, batches: Sequence[int] | None = None) -> Proof:
    """Ask the SavedModel in `directory` and compare.

    given, batches: examples, see examples.cases. live: the endpoints whose own answers are expected; none for an
    existing SavedModel, which has to repeat its recorded answers, if it has some, or else itself.
    Raises ExportError, ParityError.
    """
    limits = parity.tolerances(tolerance, info.contract)
    recorded = [] if live or given is not None else goldens.read(directory)
    cases = [Case(g.signature, dict(g.inputs), dict(g.outputs)) for g in recorded]
    notes: tuple[str, ...] = ()
    if not cases:
        cases, notes = _answered(info, live, given, batches)
    if not cases:
        replay.ask(directory, [])
        return Proof([], parity.Parity(0, False, 0.0, limits), ("no examples: nothing is proven but that it loads",))
    first, last = replay.ask(directory, cases)
    for case, outputs in zip(cases, last, strict=True):
        if not case.outputs:
            case.outputs.update(outputs)
    changing = parity.changing(cases, first, last, limits)
    found = parity.compare(cases, first, limits, changing)
    return Proof([case for case in cases if case.signature not in changing], found,
                 (*notes, *(_changing_note(name, info) for name in changing)))


def _answered(info: SavedModelInfo, live: Mapping[str, Endpoint], given: object,
              batches: Sequence[int] | None) -> tuple[list[Case], tuple[str, ...]]:
    """Cases with the live object's answers, and a note. Raises ExportError.

    What is generated grows until the model takes it: a convolution can't do with one pixel.
    """
    shapes = [spec.shape for signature in info.contract.values() for spec in signature.inputs]
    sizes = _FREE if live and given is None and any(None in (shape or ())[1:] for shape in shapes) else _FREE[:1]
    encoders, failed = {name: e.encode for name, e in live.items()}, None
    for size in sizes:
        try:
            cases = examples.cases(given, info.contract, info.features, encoders, batches, free=size)
            _answer(cases, live)
        except DeployError as error:
            failed = failed or error
        else:
            return cases, () if failed is None else (_GROWN.format(size),)
    assert failed is not None
    raise failed


def _answer(cases: list[Case], live: Mapping[str, Endpoint]) -> None:
    if live:
        from deploy.export import tracing

        for case in cases:
            case.outputs.update(tracing.answer(live[case.signature], case.inputs))


def _changing_note(signature: str, info: SavedModelInfo) -> str:
    random = ", ".join(sorted(info.ops & _RANDOM_OPS))
    why = f" ({random})" if random else ""
    return (f"signature {signature!r} answers differently from call to call{why}: no golden answers are kept for it; "
            "make it repeatable, for example with stateless random ops and a seed")
