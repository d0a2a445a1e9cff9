"""Everything about one version: its state, its contract, its golden cases, and its answers to examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from deploy.client.examples import to_body
from deploy.client.interfaces import Feature, Features
from deploy.errors import BadRequest
from deploy.goldens import examples
from deploy.savedmodel import contract_differences
from deploy.smoke.answers import Case, Judge, ask_case, measure
from deploy.smoke.asking import BOTH, REST, RPC, Asking, Finding, Subject, verdict
from deploy.smoke.sources import Known
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, Contract, ModelRef, Signature, VersionState
from deploy.wire import serving_pb2 as pb

_VERBS = {CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}


@dataclass(frozen=True, slots=True)
class Proven:
    """What is left of a version for the checks that follow. case: the first of those that it has answered in the most
    ways, so that what is asked by a label can be asked over REST as well, if anything can."""

    served: bool
    contract: Contract
    case: Case | None


def check_version(asking: Asking, subject: Subject, known: Known, judge: Judge, repeats: int) -> Proven:
    """All checks of a version."""
    served = [_check_status(asking, subject, protocol) for protocol in (RPC, REST)]
    if not any(served):
        asking.leave_out(subject, "answers", BOTH, "the version isn't served")
        return Proven(False, Contract(()), None)
    contract = check_contract(asking, subject, known)
    cases = _cases(asking, subject, known, contract)
    answered, ways = None, 0
    for number, case in enumerate(cases):
        answers = ask_case(asking, subject, case, judge)
        if number == 0:
            measure(asking, subject, case, repeats)
        if len(answers) > ways:
            answered, ways = case, len(answers)
    for signature in contract.values():
        if signature.method_name in _VERBS:
            _check_examples(asking, subject, signature, known)
    return Proven(True, contract, answered)


def _check_status(asking: Asking, subject: Subject, protocol: str) -> bool:
    ref = ModelRef(subject.model, subject.version)

    def ask() -> Finding:
        statuses = asking.server.one(protocol).status(ref, timeout=asking.server.timeout)
        seen = "; ".join(f"{s.state.name}{f': {s.error}' if s.error else ''}" for s in statuses) or "no such version"
        return verdict(any(s.state is VersionState.AVAILABLE for s in statuses), "AVAILABLE", seen)

    return asking.check(subject, "status", protocol, ask, expected="AVAILABLE",
                        reproduce=partial(_get, asking, ref.rest_path))


def check_contract(asking: Asking, subject: Subject, known: Known) -> Contract:
    """The live signatures over both protocols are those that were published; without these, they are the same.

    Returns the live contract, which also has the graph's tensor names, else the published one.
    """
    ref = ModelRef(subject.model, subject.version)
    wanted, live = known.contract, dict[str, Contract]()
    expected = "the published signatures" if wanted else "signatures, the same over both protocols"

    def ask(protocol: str) -> Finding:
        live[protocol] = asking.server.one(protocol).metadata(ref, timeout=asking.server.timeout).contract
        differences = contract_differences(wanted or next(iter(live.values())), live[protocol])
        seen = "; ".join(differences) or f"{', '.join(live[protocol])}, as expected"
        return verdict(not differences and bool(live[protocol]), expected, seen)

    for protocol in (RPC, REST):
        asking.check(subject, "contract", protocol, partial(ask, protocol), expected=expected,
                     reproduce=partial(_get, asking, f"{ref.rest_path}/metadata"))
    return next(iter(live.values()), wanted or Contract(()))


def _get(asking: Asking, path: str) -> str:
    return asking.server.rest.curl(path) if asking.server.offers(REST) else ""


def _cases(asking: Asking, subject: Subject, known: Known, contract: Contract) -> list[Case]:
    """The golden cases; for signatures without one, a generated request."""
    cases: list[Case] = []
    for number, golden in enumerate(known.goldens, 1):
        name = f"golden {number} of {golden.signature}"
        if golden.signature in contract:
            cases.append(Case(name, contract[golden.signature], golden.inputs, golden.outputs))
        else:
            asking.check(subject, name, BOTH, partial(
                verdict, False, f"signature {golden.signature!r}", f"only {', '.join(contract) or 'no signatures'}"))
    proven = {case.signature.name for case in cases}
    for signature in contract.values():
        if signature.name not in proven and signature.method_name not in _VERBS:
            cases += _generated(asking, subject, signature, known)
    return cases


def _generated(asking: Asking, subject: Subject, signature: Signature, known: Known) -> list[Case]:
    name = f"generated request for {signature.name}"
    try:
        return [Case(name, signature, examples.generate(signature, features=known.features))]
    except BadRequest as error:  # a resource or variant, say
        asking.skip(subject, name, BOTH, error.message)
        return []


def _check_examples(asking: Asking, subject: Subject, signature: Signature, known: Known) -> None:
    """A classify or regress signature answers tf.Examples, the same over both protocols."""
    verb = _VERBS[signature.method_name]
    name = f"{verb} with {signature.name}"
    features = _features(signature, known)
    if features is None:
        asking.skip(subject, name, BOTH, "which features its examples need is unknown without the published version")
        return
    ref, server, answers = ModelRef(subject.model, subject.version), asking.server, dict[str, list[float]]()
    expected = f"a finite result for each of {len(features)} examples"

    def ask(protocol: str) -> Finding:
        one = server.one(protocol)
        if verb == "classify":
            results = one.classify(ref, features, signature=signature.name, timeout=server.timeout)
            count, answers[protocol] = len(results), [score for result in results for _, score in result]
        else:
            answers[protocol] = one.regress(ref, features, signature=signature.name, timeout=server.timeout).tolist()
            count = len(answers[protocol])
        first = next(iter(answers.values()))
        same = np.allclose(first, answers[protocol], 1e-4, 1e-5) if len(first) == len(answers[protocol]) else False
        return verdict(count == len(features) and bool(np.isfinite(answers[protocol]).all()) and same, expected,
                       f"{count} results{'' if same else ', which differ from those over gRPC'}")

    for protocol in (RPC, REST):
        asking.check(subject, name, protocol, partial(ask, protocol), expected=expected,
                     reproduce=partial(_examples_curl, asking, f"{ref.rest_path}:{verb}", features, signature.name))


def _features(signature: Signature, known: Known) -> list[Features] | None:
    """Examples with the features that the graph wants; None if that isn't known."""
    if not any(spec.tensor in known.features for spec in signature.inputs):
        return None
    inputs = examples.generate(signature, features=known.features)
    return [_named(data) for array in inputs.values() for data in array.ravel()]


def _named(data: bytes) -> Features:
    """A serialized tf.Example as features by name."""
    found: dict[str, Feature] = {}
    for name, feature in pb.Example.FromString(data).features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else []
    return found


def _examples_curl(asking: Asking, path: str, features: list[Features], signature: str) -> str:
    return asking.server.rest.curl(path, to_body(features, None, signature)) if asking.server.offers(REST) else ""
