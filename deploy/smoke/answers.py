"""One request in every form it can be asked in: gRPC, REST columns, REST rows. All have to be right, and to agree."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from deploy.client import encoding
from deploy.client.encoding import Form, batch_of
from deploy.errors import BadRequest, DeployError
from deploy.goldens import Golden
from deploy.goldens.compare import differences
from deploy.goldens.timing import timed
from deploy.goldens.tolerances import narrowest
from deploy.smoke.report import BOTH, COLUMN, ROW, RPC, CheckResult, CheckRun, Latency, passed_if
from deploy.types import ModelRef, Signature
from deploy.wire.dtypes import Array, Arrays

_SHOWN = 3  # differences that a check tells; the first ones say it
_SMALL = 200  # values of an input that are shown in a line for a shell


@dataclass(frozen=True, slots=True)
class Question:
    """A golden by the name of its check. One without an answer was generated: what comes has to be finite."""

    name: str
    signature: Signature
    golden: Golden

    @property
    def inputs(self) -> Arrays:
        return self.golden.inputs


def ask(run: CheckRun, ref: ModelRef, question: Question) -> dict[str, Arrays]:
    """All checks of one request; the answers by protocol."""
    answers: dict[str, Arrays] = {}
    needed = run.wants(ref, agreement := f"agreement on {question.name}", BOTH)
    if not question.golden.outputs:  # whether its answer can be asked for in rows is only known by an answer
        needed |= run.wants(ref, question.name, ROW)
    for protocol in (RPC, COLUMN, ROW):
        reason = _no_form(protocol, question, answers)
        if reason:
            run.skip(ref, question.name, protocol, reason)
            continue
        call = _call(run, protocol, ref, question)

        def judged(protocol: str = protocol, call: Callable[[], Arrays] = call) -> CheckResult:
            answers[protocol] = call()
            return _judged(question, answers[protocol])

        run.check(ref, question.name, protocol, judged, expected=_expected(question),
                  reproduce=partial(reproduce, run, protocol, ref, question), needed=needed)
        if run.planning or not (needed or run.wants(ref, question.name, protocol)):
            answers[protocol] = {}  # taken for answered
    _agreement(run, ref, agreement, question, answers)
    return answers


def measure(run: CheckRun, ref: ModelRef, question: Question, repeats: int) -> None:
    """How long the first request takes on each protocol, and later ones."""
    for protocol in (RPC, COLUMN):
        first = next((c for c in run.checks if (c.model, c.version, c.name, c.protocol, c.ok) ==
                      (ref.name, ref.version, question.name, protocol, True)), None)
        if first is None or repeats < 1 or ref.version is None:
            continue
        try:
            later = timed(_call(run, protocol, ref, question), repeats)
        except DeployError:  # it has answered before; the checks that follow say if it doesn't any more
            continue
        run.latencies.append(Latency(ref.name, ref.version, protocol.partition(" ")[0], first.seconds, later.median,
                                     len(later)))


def reproduce(run: CheckRun, protocol: str, ref: ModelRef, question: Question) -> str:
    """A line for a shell: curl for REST; for gRPC a few words of Python, or curl if the request is long."""
    server = run.server
    if protocol == RPC:
        line = _python(server.rpc.endpoint, ref, question)
        if line or not server.offers(COLUMN) or encoding.no_json(question.signature):
            return line
    form: Form = "row" if protocol == ROW else "column"
    try:
        body = server.rest.predict_body(ref, question.inputs, signature=question.signature, form=form)
    except BadRequest:
        return ""
    return server.rest.curl(f"{ref.rest_path}:predict", body)


def _python(endpoint: str, ref: ModelRef, question: Question) -> str:
    if sum(array.size for array in question.inputs.values()) > _SMALL:
        return ""
    inputs = {name: array.tolist() for name, array in question.inputs.items()}
    code = (f"import deploy; nan = float('nan'); inf = float('inf'); "
            f"print(dict(deploy.connect({endpoint!r}).predict({str(ref)!r}, {inputs!r}, "
            f"signature={question.signature.name!r})))")
    return f"python -c {shlex.quote(code)}"


def _no_form(protocol: str, question: Question, answers: Mapping[str, Arrays]) -> str:
    if protocol == RPC:
        return ""
    reason = encoding.no_json(question.signature) or encoding.no_shape(question.inputs)
    if reason or protocol == COLUMN:
        return reason
    reason = encoding.no_rows(question.signature, question.inputs)
    outputs = question.golden.outputs or answers.get(RPC) or answers.get(COLUMN)
    return reason or (encoding.no_row_answer(outputs, batch_of(question.inputs.values()) or 0) if outputs else "")


def _call(run: CheckRun, protocol: str, ref: ModelRef, question: Question) -> Callable[[], Arrays]:
    server = run.server
    if protocol == RPC:
        return lambda: server.rpc.predict(ref, question.inputs, signature=question.signature, timeout=server.timeout)
    form: Form = "row" if protocol == ROW else "column"
    return lambda: server.rest.predict(ref, question.inputs, signature=question.signature, form=form,
                                       timeout=server.timeout)


def _expected(question: Question) -> str:
    outputs = question.golden.outputs
    if not outputs:
        return f"finite outputs {', '.join(map(str, question.signature.outputs))}"
    limits = {narrowest(question.golden.tolerances, question.signature.name, name) for name in outputs}
    within = " or ".join(f"{t.absolute:g} + {t.relative:g} of the value" for t in limits)
    return f"the recorded {', '.join(f'{n} {list(a.shape)}' for n, a in outputs.items())}, within {within}"


def _judged(question: Question, answer: Arrays) -> CheckResult:
    expected = _expected(question)
    if question.golden.outputs:
        wrong = question.golden.differences(answer)
    else:
        promised = {spec.name for spec in question.signature.outputs}
        wrong = [f"output {name!r} is missing" for name in sorted(promised - answer.keys())]
        wrong += [f"output {name!r} is not expected" for name in sorted(answer.keys() - promised)]
        wrong += [f"output {name!r} holds NaN or infinity" for name, array in answer.items() if not _finite(array)]
    return passed_if(not wrong, expected, _shown(wrong) or "as expected")


def _agreement(run: CheckRun, ref: ModelRef, name: str, question: Question, answers: Mapping[str, Arrays]) -> None:
    if len(answers) < 2 and run.server.gone:
        run.leave_out(ref, name, BOTH, "not all answers came")
        return
    if len(answers) < 2:
        run.skip(ref, name, BOTH, "there is at most one answer to compare")
        return

    def compared() -> CheckResult:
        first, *others = answers
        wrong = [f"{other} against {first}: {text}" for other in others
                 for text in differences(question.signature.name, answers[first], answers[other],
                                     question.golden.tolerances)]
        return passed_if(not wrong, f"{', '.join(answers)} to agree", _shown(wrong) or "they agree")

    run.check(ref, name, BOTH, compared,
              reproduce=lambda: reproduce(run, next(p for p in answers if p != RPC), ref, question))


def _shown(wrong: list[str]) -> str:
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return "; ".join(wrong[:_SHOWN]) + more


def _finite(array: Array) -> bool:
    if array.dtype.kind == "V":  # bfloat16 is no float to numpy
        array = array.astype(np.float32)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
