"""One request in every way it can be asked: gRPC, REST columns, REST rows. All have to be right, and to agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.client import forms
from deploy.client.checking import batch_of
from deploy.client.forms import Form
from deploy.errors import BadRequest, DeployError
from deploy.goldens.compare import Tolerance, differences
from deploy.smoke.asking import BOTH, COLUMN, ROW, RPC, Asking, Finding, Subject, verdict
from deploy.smoke.report import Latency
from deploy.smoke.sources import Known
from deploy.types import ModelRef, Signature

Array = NDArray[Any]
Arrays = Mapping[str, Array]

_SHOWN = 3  # differences that a check tells; the first ones say it
_SMALL = 200  # values of an input that are shown in a line for a shell


@dataclass(frozen=True, slots=True)
class Case:
    """A request. outputs: the answer that was recorded; None for a generated request, whose answer has to be finite."""

    name: str
    signature: Signature
    inputs: Arrays
    outputs: Arrays | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares answers, output by output, as each may have its own tolerance."""

    known: Known
    absolute: float | None = None
    relative: float | None = None

    def differences(self, signature: str, expected: Arrays, actual: Arrays) -> list[str]:
        found: list[str] = []
        for name in [*expected, *(name for name in actual if name not in expected)]:
            found += differences(_only(expected, name), _only(actual, name), self.tolerance(signature, name))
        return found

    def tolerance(self, signature: str, output: str) -> Tolerance:
        base = self.known.tolerance(signature, output)
        return Tolerance(base.absolute if self.absolute is None else self.absolute,
                         base.relative if self.relative is None else self.relative)


def ask_case(asking: Asking, subject: Subject, case: Case, judge: Judge) -> dict[str, Arrays]:
    """All checks of one case; the answers by protocol."""
    answers: dict[str, Arrays] = {}
    ref = ModelRef(subject.model, subject.version, subject.label)
    for protocol in (RPC, COLUMN, ROW):
        reason = _no_way(protocol, case, answers)
        if reason:
            asking.skip(subject, case.name, protocol, reason)
            continue
        ask = _question(asking, protocol, ref, case)

        def judged(protocol: str = protocol, ask: Callable[[], Arrays] = ask) -> Finding:
            answers[protocol] = ask()
            return _judged(case, answers[protocol], judge)

        asking.check(subject, case.name, protocol, judged, expected=_expected(case, judge),
                     reproduce=partial(reproduce, asking, protocol, ref, case))
    _agreement(asking, subject, case, judge, answers)
    return answers


def measure(asking: Asking, subject: Subject, case: Case, repeats: int) -> None:
    """How long the first request takes on each protocol, and later ones."""
    ref = ModelRef(subject.model, subject.version)
    for protocol in (RPC, COLUMN):
        first = next((c for c in asking.checks if (c.model, c.version, c.name, c.protocol, c.ok) ==
                      (subject.model, subject.version, case.name, protocol, True)), None)
        if first is None or repeats < 1 or subject.version is None:
            continue
        ask, times = _question(asking, protocol, ref, case), []
        try:
            for _ in range(repeats):
                began = time.perf_counter()
                ask()
                times.append(time.perf_counter() - began)
        except DeployError:  # it has answered before; the checks that follow say if it doesn't any more
            continue
        asking.latencies.append(Latency(subject.model, subject.version, protocol.partition(" ")[0], first.seconds,
                                        statistics.median(times), repeats))


def reproduce(asking: Asking, protocol: str, ref: ModelRef, case: Case) -> str:
    """A line for a shell: curl for REST; for gRPC a few words of Python, or curl if the request is long."""
    server = asking.server
    if protocol == RPC:
        line = _python(server.rpc.endpoint, ref, case)
        if line or not server.offers(COLUMN) or forms.no_json(case.signature):
            return line
    form: Form = "row" if protocol == ROW else "column"
    try:
        body = server.rest.predict_body(ref, case.inputs, signature=case.signature, form=form)
    except BadRequest:
        return ""
    return server.rest.curl(f"{ref.rest_path}:predict", body)


def _python(endpoint: str, ref: ModelRef, case: Case) -> str:
    if sum(array.size for array in case.inputs.values()) > _SMALL:
        return ""
    import shlex

    inputs = {name: array.tolist() for name, array in case.inputs.items()}
    code = (f"import deploy; nan = float('nan'); inf = float('inf'); "
            f"print(dict(deploy.connect({endpoint!r}).predict({str(ref)!r}, {inputs!r}, "
            f"signature={case.signature.name!r})))")
    return f"python -c {shlex.quote(code)}"


def _no_way(protocol: str, case: Case, answers: Mapping[str, Arrays]) -> str:
    if protocol == RPC:
        return ""
    reason = forms.no_json(case.signature) or forms.no_shape(case.inputs)
    if reason or protocol == COLUMN:
        return reason
    reason = forms.no_rows(case.signature, case.inputs)
    seen = case.outputs or answers.get(RPC) or answers.get(COLUMN)
    return reason or (forms.no_row_answer(seen, batch_of(case.inputs.values()) or 0) if seen else "")


def _question(asking: Asking, protocol: str, ref: ModelRef, case: Case) -> Callable[[], Arrays]:
    server = asking.server
    if protocol == RPC:
        return lambda: server.rpc.predict(ref, case.inputs, signature=case.signature, timeout=server.timeout)
    form: Form = "row" if protocol == ROW else "column"
    return lambda: server.rest.predict(ref, case.inputs, signature=case.signature, timeout=server.timeout, form=form)


def _expected(case: Case, judge: Judge) -> str:
    outputs = case.outputs
    if outputs is None:
        return f"finite outputs {', '.join(map(str, case.signature.outputs))}"
    limits = {judge.tolerance(case.signature.name, name) for name in outputs}
    within = " or ".join(f"{t.absolute:g} + {t.relative:g} of the value" for t in limits)
    return f"the recorded {', '.join(f'{n} {list(a.shape)}' for n, a in outputs.items())}, within {within}"


def _judged(case: Case, answer: Arrays, judge: Judge) -> Finding:
    expected = _expected(case, judge)
    if case.outputs is not None:
        found = judge.differences(case.signature.name, case.outputs, answer)
    else:
        found = [f"output {spec.name!r} is missing" for spec in case.signature.outputs if spec.name not in answer]
        found += [f"output {name!r} holds NaN or infinity" for name, array in answer.items() if not _finite(array)]
    return verdict(not found, expected, _told(found) or "as expected")


def _agreement(asking: Asking, subject: Subject, case: Case, judge: Judge, answers: Mapping[str, Arrays]) -> None:
    name = f"agreement on {case.name}"
    if len(answers) < 2 and asking.server.gone:
        asking.leave_out(subject, name, BOTH, "not all answers came")
        return
    if len(answers) < 2:
        asking.skip(subject, name, BOTH, "there is at most one answer to compare")
        return

    def compared() -> Finding:
        first, *others = answers
        found = [f"{other} against {first}: {text}" for other in others
                 for text in judge.differences(case.signature.name, answers[first], answers[other])]
        return verdict(not found, f"{', '.join(answers)} to agree", _told(found) or "they agree")

    asking.check(subject, name, BOTH, compared,
                 reproduce=lambda: reproduce(asking, next(p for p in answers if p != RPC),
                                             ModelRef(subject.model, subject.version, subject.label), case))


def _told(found: list[str]) -> str:
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _finite(array: Array) -> bool:
    if array.dtype.kind == "V":  # bfloat16 is no float to numpy
        array = array.astype(np.float32)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _only(arrays: Arrays, name: str) -> dict[str, Array]:
    return {name: arrays[name]} if name in arrays else {}
