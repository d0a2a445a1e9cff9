"""May one version take the place of another? What they promise, what they are made of, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import BackendMissing, BadRequest, BreakingChange, NeedsCare
from deploy.goldens import examples
from deploy.goldens.drift import Drift, Pair, measure
from deploy.goldens.recorded import Golden
from deploy.regression.replaying import Ask, Known, answer, known, on_engine
from deploy.savedmodel import diff
from deploy.savedmodel.diff import Level, Reason, Subject, Verdict

if TYPE_CHECKING:
    from deploy.checks import Gate


class Unasked(Exception):
    """A side that isn't to be run; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. name: for people. known: what it has recorded, where that can be seen. open: to ask it."""

    name: str
    subject: Subject
    known: Known
    open: Callable[[], AbstractContextManager[Ask]]

    @classmethod
    def of(cls, directory: str | Path, name: str = "", *, gate: Gate | None = None, unasked: str = "") -> Side:
        """A version directory. gate: as of `on_engine`. unasked: why it mustn't be run, if so.

        Raises IncompleteVersion, RepositoryError.
        """
        def opened() -> AbstractContextManager[Ask]:
            if unasked:
                raise Unasked(unasked)
            return on_engine(directory, gate)

        return cls(name or str(directory), Subject.of(directory), known(directory), opened)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out. drift: None if nothing could be asked; `asked` says what was asked, or why nothing was."""

    before: str
    after: str
    verdict: Verdict
    drift: Drift | None
    asked: str

    @property
    def level(self) -> Level:
        """Answers outside of the tolerances need care, whatever the contract says."""
        if self.drift is not None and not self.drift.within:
            return max(self.verdict.level, Level.CARE)
        return self.verdict.level

    def raise_for(self, *, care: bool = True) -> None:
        """Raises BreakingChange or, if `care`, NeedsCare, with the first reason."""
        if self.level is Level.COMPATIBLE or (self.level is Level.CARE and not care):
            return
        if self.verdict.level is self.level:
            why = str(self.verdict.reasons[0])
        else:
            why = "answers differ by more than the tolerances allow"
        text = f"{self.after} {'breaks' if self.level is Level.BREAKING else 'differs from'} {self.before}: {why}"
        kind = BreakingChange if self.level is Level.BREAKING else NeedsCare
        raise kind(text, hint="keep the contract, or serve it under another model name" if kind is BreakingChange else
                   "look at each reason before it takes over")

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"before": self.before, "after": self.after, "verdict": str(self.level),
                "reasons": [reason.to_json() for reason in self.verdict.reasons],
                "drift": self.drift.to_json() if self.drift else None, "asked": self.asked}


def compare(before: Side, after: Side, *, answers: bool = True) -> Comparison:
    """Contract, graph, files; and with `answers` the goldens of `before` on `after`.

    Where only `after` has goldens, `before` is asked for its answers to them; without any, both are asked with
    generated requests. Tolerances are those of `before`, else of `after`.
    Raises what asking raises: Unreachable, EngineError for a version that doesn't load, CheckFailed for one that the
    gate refuses to run.
    """
    verdict = diff.compare(before.subject, after.subject)
    if not answers:
        return Comparison(before.name, after.name, verdict, None, "nothing was asked")
    try:
        drift, asked = _drift(before, after)
    except (BackendMissing, Unasked) as error:
        return Comparison(before.name, after.name, verdict, None, f"nothing was asked: {error}")
    swapped = tuple(Reason(Level.BREAKING, "output-order", signature, f"outputs {one!r} and {other!r} have changed "
                           "places: each answers with the other's values") for signature, one, other in
                    (drift.swapped if drift else ()))
    verdict = Verdict((*verdict.reasons, *swapped))
    return Comparison(before.name, after.name, verdict, drift, asked)


def _drift(before: Side, after: Side) -> tuple[Drift | None, str]:
    limits = before.known.tolerances or after.known.tolerances
    with ExitStack() as opened:
        if before.known.goldens:
            cases: Sequence[Golden] = before.known.goldens
            ask = opened.enter_context(after.open())
            pairs = _repeated(ask, cases)
            asked = f"{_cases(len(cases))} of {before.name} asked of {after.name}"
        elif after.known.goldens:
            cases = after.known.goldens
            pairs = _asked(opened.enter_context(before.open()), cases)
            asked = f"{_cases(len(cases))} of {after.name} asked of {before.name}"
        else:
            cases = _generated(before, after)
            pairs = _both(opened.enter_context(before.open()), opened.enter_context(after.open()), cases)
            asked = f"{len(cases)} generated requests asked of both, since neither has goldens"
        return (measure(pairs, limits), asked) if cases else (None, "nothing was asked: no signature fits both")


def _cases(count: int) -> str:
    return f"{count} golden case{'s' * (count != 1)}"


def _repeated(ask: Ask, cases: Sequence[Golden]) -> Iterator[Pair]:
    for case in cases:
        yield Pair(case.signature, case.outputs, answer(ask, case.signature, case.inputs))


def _asked(ask: Ask, cases: Sequence[Golden]) -> Iterator[Pair]:
    """What `before` answers to cases whose answers from `after` are known."""
    for case in cases:
        found = answer(ask, case.signature, case.inputs)
        if not isinstance(found, str):
            yield Pair(case.signature, found, case.outputs)


def _both(one: Ask, other: Ask, cases: Sequence[Golden]) -> Iterator[Pair]:
    for case in cases:
        found = answer(one, case.signature, case.inputs)
        if not isinstance(found, str):
            yield Pair(case.signature, found, answer(other, case.signature, case.inputs))


def _generated(before: Side, after: Side) -> list[Golden]:
    contract, features = before.subject.contract, before.subject.info.features if before.subject.info else {}
    made = []
    for name in contract.keys() & after.subject.contract.keys():
        if contract[name].inputs == after.subject.contract[name].inputs:
            try:
                made += [Golden(name, examples.generate(contract[name], batch, batch, features), {})
                         for batch in (1, 2)]
            except BadRequest:  # a dtype that can't be sent
                continue
    return made
