"""Goldens asked again; and may one version take the place of another? What they promise, what they are made of, and
what they answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import checks, engine, goldens
from deploy.errors import (
    BackendMissing,
    BadReply,
    BadRequest,
    BreakingChange,
    CheckFailed,
    Rejected,
    ReviewRequired,
)
from deploy.goldens.compare import AnswerDrift, AnswerPair, measure
from deploy.goldens.recorded import Golden
from deploy.goldens.tolerances import Tolerances
from deploy.repository import Repository, VersionFacts, is_published, read_facts
from deploy.savedmodel.diff import Level, Reason, Subject, Verdict
from deploy.savedmodel.diff import compare as compare_contracts
from deploy.types import ModelRef, ModelVersion
from deploy.wire.dtypes import Arrays

if TYPE_CHECKING:
    from deploy.checks import Gate
    from deploy.client import Client

Ask = Callable[[str, Arrays], Arrays]
"""Signature and inputs -> outputs. Raises EngineError, Rejected, BadRequest or BadReply for what is refused."""


class Unasked(Exception):
    """A side that isn't to be run; the sentence says why."""


@dataclass(frozen=True, slots=True)
class ComparedVersion:
    """One of the two. name: for people. facts: what it has recorded, where that can be seen. open: to ask it."""

    name: str
    subject: Subject
    facts: VersionFacts
    open: Callable[[], AbstractContextManager[Ask]]

    @classmethod
    def of(cls, directory: str | Path, mv: ModelVersion | None = None, *, gate: Gate | None = None,
           answers: bool | None = True, outline_of: str = "") -> ComparedVersion:
        """A version directory. mv: which version of the repository it is, if it is one. gate: as of `on_engine`.

        outline_of: the repository, where the directory is `Repository.outline` of a version elsewhere: it isn't run.

        answers: whether it may be run; None: if this toolkit has published it and the gate lets it pass.
        Raises IncompleteVersion, RepositoryError.
        """
        directory, name = Path(directory), str(mv or directory)
        decide = gate or checks.gate()
        unasked = _reason(directory, mv, name, decide) if answers is None else ""
        if outline_of:
            unasked = f"the variables of {name} are in {outline_of}, so it is run with --answers (answers=True) only"

        def opened() -> AbstractContextManager[Ask]:
            if unasked:
                raise Unasked(unasked)
            return on_engine(directory, decide)

        facts = read_facts(directory)
        return cls(name, replace(Subject.of(directory), recipes=facts.recipes), facts, opened)


def _reason(directory: Path, mv: ModelVersion | None, name: str, gate: Gate) -> str:
    """Why nobody runs it who doesn't say so; empty if it may be run."""
    if not is_published(directory, mv):
        return f"{name} wasn't published by this toolkit, so it is run with --answers (answers=True) only"
    try:
        gate(directory)
    except CheckFailed as error:
        return error.message
    return ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out. drift: None if nothing could be asked; `asked` says what was asked, or why nothing was."""

    before: str
    after: str
    verdict: Verdict
    drift: AnswerDrift | None
    asked: str

    @property
    def level(self) -> Level:
        """Answers outside of the tolerances have to be reviewed, whatever the contract says."""
        if self.drift is not None and not self.drift.within:
            return max(self.verdict.level, Level.REVIEW)
        return self.verdict.level

    def raise_for(self, *, review: bool = True) -> None:
        """Raises BreakingChange or, if `review`, ReviewRequired, with the first reason."""
        if self.level is Level.COMPATIBLE or (self.level is Level.REVIEW and not review):
            return
        if self.verdict.level is self.level:
            why = str(self.verdict.reasons[0])
        else:
            why = "answers differ by more than the tolerances allow"
        text = f"{self.after} {'breaks' if self.level is Level.BREAKING else 'differs from'} {self.before}: {why}"
        error = BreakingChange if self.level is Level.BREAKING else ReviewRequired
        raise error(text, hint="keep the contract, or serve it under another model name" if error is BreakingChange else
                   "look at each reason before it takes over")

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"before": self.before, "after": self.after, "verdict": str(self.level),
                "reasons": [reason.to_json() for reason in self.verdict.reasons],
                "drift": self.drift.to_json() if self.drift else None, "asked": self.asked}


def diff(before: ModelVersion | str | Path, after: ModelVersion | str | Path, *,
         repository: Repository | str | Path = "models", answers: bool | None = None, gate: Gate | None = None
         ) -> Comparison:
    """May `after` take the place of `before`? What they promise, what they are made of, and what they answer.

    before, after: versions of the repository, or directories of SavedModels.
    answers: whether the models are run, each in a process that is confined as far as the system can do that, to ask
        the golden answers of one of the other; None: those that this toolkit has published in the repository.
    gate: what a model has to pass before it is run; by default `checks.gate()`, without allowances.

    What differs is in the value; its `raise_for` makes errors of that. Raises VersionNotFound, IncompleteVersion,
    RepositoryError for what can't be read; with answers=True also CheckFailed for a model that the gate refuses.
    """
    store = repository if isinstance(repository, Repository) else Repository(repository)
    sides = [_published(store, side, gate, answers) if isinstance(side, ModelVersion) else
             ComparedVersion.of(side, gate=gate, answers=answers) for side in (before, after)]
    return compare(*sides, answers=answers is not False)


def _published(store: Repository, mv: ModelVersion, gate: Gate | None, answers: bool | None) -> ComparedVersion:
    if store.local or answers:
        return ComparedVersion.of(store.path(mv), mv, gate=gate, answers=answers)
    return ComparedVersion.of(store.outline(mv), mv, gate=gate, answers=answers, outline_of=str(store.store))


def compare(before: ComparedVersion, after: ComparedVersion, *, answers: bool = True) -> Comparison:
    """Contract, graph, files; and with `answers` the goldens of `before` on `after`.

    Where only `after` has goldens, `before` is asked for its answers to them; without any, both are asked with
    generated requests. Tolerances are those of `before`, else of `after`.
    Raises what asking raises: Unreachable, EngineError for a version that doesn't load, CheckFailed for one that the
    gate refuses to run.
    """
    verdict = compare_contracts(before.subject, after.subject)
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


def _drift(before: ComparedVersion, after: ComparedVersion) -> tuple[AnswerDrift | None, str]:
    limits = before.facts.tolerances or after.facts.tolerances
    with ExitStack() as opened:
        if before.facts.goldens:
            cases: Sequence[Golden] = before.facts.goldens
            ask = opened.enter_context(after.open())
            pairs = _repeated(ask, cases)
            asked = f"{_cases(len(cases))} of {before.name} asked of {after.name}"
        elif after.facts.goldens:
            cases = after.facts.goldens
            pairs = _asked(opened.enter_context(before.open()), cases)
            asked = f"{_cases(len(cases))} of {after.name} asked of {before.name}"
        else:
            cases = _generated(before, after)
            pairs = _both(opened.enter_context(before.open()), opened.enter_context(after.open()), cases)
            asked = f"{len(cases)} generated requests asked of both, since neither has goldens"
        return (measure(pairs, limits), asked) if cases else (None, "nothing was asked: no signature fits both")


def _cases(count: int) -> str:
    return f"{count} golden case{'s' * (count != 1)}"


def _repeated(ask: Ask, cases: Sequence[Golden]) -> Iterator[AnswerPair]:
    for case in cases:
        yield AnswerPair(case.signature, case.outputs, answer(ask, case.signature, case.inputs))


def _asked(ask: Ask, cases: Sequence[Golden]) -> Iterator[AnswerPair]:
    """What `before` answers to cases whose answers from `after` are known."""
    for case in cases:
        reply = answer(ask, case.signature, case.inputs)
        if not isinstance(reply, str):
            yield AnswerPair(case.signature, reply, case.outputs)


def _both(one: Ask, other: Ask, cases: Sequence[Golden]) -> Iterator[AnswerPair]:
    for case in cases:
        reply = answer(one, case.signature, case.inputs)
        if not isinstance(reply, str):
            yield AnswerPair(case.signature, reply, answer(other, case.signature, case.inputs))


def _generated(before: ComparedVersion, after: ComparedVersion) -> list[Golden]:
    features = before.subject.info.features if before.subject.info else {}
    others = after.subject.contract
    return list(goldens.examples.requests((signature for name, signature in before.subject.contract.items()
                                   if name in others and others[name].inputs == signature.inputs), features))


def replay(cases: Sequence[Golden], ask: Ask, tolerances: Tolerances) -> AnswerDrift:
    """Ask every case, and measure how far the answers are from the recorded ones.

    A refusal is a finding. Raises what `ask` raises when nobody answers any more: Unreachable, TimedOut.
    """
    return measure(_repeated(ask, cases), tolerances)


def answer(ask: Ask, signature: str, inputs: Arrays) -> Arrays | str:
    """The answer, or why there is none."""
    try:
        return ask(signature, inputs)
    except (engine.EngineError, Rejected, BadRequest, BadReply) as error:
        return error.message


@contextmanager
def on_engine(directory: str | Path, gate: Gate | None = None) -> Iterator[Ask]:
    """The SavedModel in `directory`, run without a server: after the gate has let it pass, in a process of its own that
    has no network, no secrets and nothing to write to, as far as the platform can do that.

    gate: what decides; by default `checks.gate()`, as for publishing.
    Raises CheckFailed for a model that is refused, BackendMissing without TensorFlow's library, EngineError if the
    model doesn't load.
    """
    (gate or checks.gate())(Path(directory))
    with ExitStack() as stack:
        try:
            child = stack.enter_context(engine.confined(directory))
        except engine.EngineError as e:
            raise engine.EngineError(e.code, f"{directory} doesn't load: {e.message}") from e
        yield child.ask


def on_server(client: Client, ref: ModelRef) -> Ask:
    """A version (or a label, or whatever a name resolves to) on a server, over gRPC if the client has it, else REST."""

    def ask(signature: str, inputs: Arrays) -> Arrays:
        return client.predict(ref, inputs, signature=signature)

    return ask
