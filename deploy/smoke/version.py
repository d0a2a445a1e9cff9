"""Everything about one version; and about its model: labels, names, and errors that have to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from deploy.client import decoding
from deploy.client.interfaces import Feature, Features, Prediction
from deploy.client.preparing import to_body
from deploy.errors import BadRequest, Rejected
from deploy.goldens import Golden, examples
from deploy.repository import VersionFacts
from deploy.savedmodel import contract_differences
from deploy.smoke import answers
from deploy.smoke.answers import Question, ask, measure
from deploy.smoke.report import BOTH, REST, RPC, CheckResult, CheckRun, passed_if
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, Contract, ModelRef, Signature, VersionState, VersionStatus
from deploy.wire import methods
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Arrays

_VERBS = {CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}

NO_MODEL = "tfs-smoke-no-such-model"
NO_INPUT = "tfs_smoke_no_such_input"

_BODY = b'{"instances": [1]}'
_TORN = b'{"instances": ['
_NOT_FOUND, _MALFORMED = (404, "NOT_FOUND"), (400, "INVALID_ARGUMENT")


@dataclass(frozen=True, slots=True)
class CheckedVersion:
    """What is left of a version for the checks that follow. question: the first of those that it has answered in the
    most forms, so that what is asked by a label can be asked over REST as well, if anything can."""

    served: bool = False
    contract: Contract = field(default_factory=lambda: Contract(()))
    question: Question | None = None


def check_version(run: CheckRun, ref: ModelRef, facts: VersionFacts, repeats: int,
                  live: Sequence[VersionStatus] = ()) -> CheckedVersion:
    """All checks of a version. live: what the server has just said over gRPC of the model's versions, if it did."""
    of_it = [status for status in live if status.version == ref.version]
    served = [_check_status(run, ref, RPC, of_it), _check_status(run, ref, REST)]
    if not any(served):
        run.leave_out(ref, "answers", BOTH, "the version isn't served")
        return CheckedVersion()
    contract = check_contract(run, ref, facts)
    best, forms = None, 0
    for number, question in enumerate(_questions(run, ref, facts, contract)):
        answers = ask(run, ref, question)
        if number == 0:
            measure(run, ref, question, repeats)
        if len(answers) > forms:
            best, forms = question, len(answers)
    for signature in contract.values():
        if signature.method_name in _VERBS:
            _check_examples(run, ref, signature, facts)
    return CheckedVersion(True, contract, best)


def _check_status(run: CheckRun, ref: ModelRef, protocol: str, known: Sequence[VersionStatus] = ()) -> bool:
    def ask() -> CheckResult:
        statuses = known or run.server.one(protocol).status(ref, timeout=run.server.timeout)
        seen = "; ".join(f"{s.state.name}{f': {s.error}' if s.error else ''}" for s in statuses) or "no such version"
        return passed_if(any(s.state is VersionState.AVAILABLE for s in statuses), "AVAILABLE", seen)

    return run.check(ref, "status", protocol, ask, expected="AVAILABLE",
                     reproduce=partial(_get, run, ref.rest_path))


def check_contract(run: CheckRun, ref: ModelRef, facts: VersionFacts) -> Contract:
    """The live signatures over both protocols are those that were published; without these, they are the same.

    Returns the live contract, which also has the graph's tensor names, else the published one.
    """
    wanted, live = facts.contract, dict[str, Contract]()
    expected = "the published signatures" if wanted else "signatures, the same over both protocols"

    def ask(protocol: str) -> CheckResult:
        live[protocol] = run.server.one(protocol).metadata(ref, timeout=run.server.timeout).contract
        differences = contract_differences(wanted or next(iter(live.values())), live[protocol])
        seen = "; ".join(differences) or f"{', '.join(live[protocol])}, as expected"
        return passed_if(not differences and bool(live[protocol]), expected, seen)

    for protocol in (RPC, REST):
        run.check(ref, "contract", protocol, partial(ask, protocol), expected=expected,
                  reproduce=partial(_get, run, f"{ref.rest_path}/metadata"), needed=True)
    return next(iter(live.values()), wanted or Contract(()))


def _get(run: CheckRun, path: str) -> str:
    return run.server.rest.curl(path) if run.server.offers(REST) else ""


def _questions(run: CheckRun, ref: ModelRef, facts: VersionFacts, contract: Contract) -> list[Question]:
    """The golden requests; for signatures without one, a generated one."""
    questions: list[Question] = []
    for number, golden in enumerate(facts.goldens, 1):
        name = f"golden {number} of {golden.signature}"
        if golden.signature in contract:
            questions.append(Question(name, contract[golden.signature], golden))
        else:
            run.check(ref, name, BOTH, partial(
                passed_if, False, f"signature {golden.signature!r}", f"only {', '.join(contract) or 'no signatures'}"))
    recorded = {question.signature.name for question in questions}
    for signature in contract.values():
        if signature.name not in recorded and signature.method_name not in _VERBS:
            questions += _generated(run, ref, signature, facts)
    return questions


def _generated(run: CheckRun, ref: ModelRef, signature: Signature, facts: VersionFacts) -> list[Question]:
    name = f"generated request for {signature.name}"
    try:
        inputs = examples.generate(signature, features=facts.features)
    except BadRequest as error:  # a resource or variant, say
        run.skip(ref, name, BOTH, error.message)
        return []
    return [Question(name, signature, Golden(signature.name, inputs, tolerances=facts.tolerances))]


def _check_examples(run: CheckRun, ref: ModelRef, signature: Signature, facts: VersionFacts) -> None:
    """A classify or regress signature answers tf.Examples, the same over both protocols."""
    verb = _VERBS[signature.method_name]
    name = f"{verb} with {signature.name}"
    features = _features(signature, facts)
    if features is None:
        run.skip(ref, name, BOTH, "which features its examples need is unknown without the published version")
        return
    server, answers = run.server, dict[str, list[float]]()
    expected = f"a finite result for each of {len(features)} examples"

    def ask(protocol: str) -> CheckResult:
        one = server.one(protocol)
        if verb == "classify":
            results = one.classify(ref, features, signature=signature.name, timeout=server.timeout)
            count, answers[protocol] = len(results), [score for result in results for _, score in result]
        else:
            answers[protocol] = one.regress(ref, features, signature=signature.name, timeout=server.timeout).tolist()
            count = len(answers[protocol])
        first = next(iter(answers.values()))
        same = np.allclose(first, answers[protocol], 1e-4, 1e-5) if len(first) == len(answers[protocol]) else False
        return passed_if(count == len(features) and bool(np.isfinite(answers[protocol]).all()) and same, expected,
                       f"{count} results{'' if same else ', which differ from those over gRPC'}")

    needed = any(run.wants(ref, name, protocol) for protocol in (RPC, REST))  # one answer is compared with the other
    for protocol in (RPC, REST):
        run.check(ref, name, protocol, partial(ask, protocol), expected=expected, needed=needed,
                  reproduce=partial(_examples_curl, run, f"{ref.rest_path}:{verb}", features, signature.name))


def _features(signature: Signature, facts: VersionFacts) -> list[Features] | None:
    """Examples with the features that the graph wants; None if that isn't known."""
    if not any(spec.tensor in facts.features for spec in signature.inputs):
        return None
    inputs = examples.generate(signature, features=facts.features)
    return [_named(data) for array in inputs.values() for data in array.ravel()]


def _named(data: bytes) -> Features:
    """A serialized tf.Example as features by name."""
    by_name: dict[str, Feature] = {}
    for name, feature in pb.Example.FromString(data).features.feature.items():
        values = feature.WhichOneof("kind")
        by_name[name] = list(getattr(feature, values).value) if values else []
    return by_name


def _examples_curl(run: CheckRun, path: str, features: list[Features], signature: str) -> str:
    return run.server.rest.curl(path, to_body(features, None, signature)) if run.server.offers(REST) else ""


def check_resolves(run: CheckRun, ref: ModelRef, version: int, name: str) -> bool:
    """Over both protocols, `ref` resolves to `version`. True if it does over one that answers."""
    expected = f"version {version}"

    def ask(protocol: str) -> CheckResult:
        live = run.server.one(protocol).resolve(ref, timeout=run.server.timeout).version
        return passed_if(live == version, expected, f"version {live}")

    def curl() -> str:
        server = run.server
        return server.rest.curl(f"{ref.rest_path}/metadata") if server.offers(REST) else ""

    resolved = [run.check(ref, name, protocol, partial(ask, protocol), expected=expected, reproduce=curl)
                for protocol in (RPC, REST)]
    return any(resolved)


def check_label(run: CheckRun, ref: ModelRef, version: int, question: Question | None) -> None:
    """The label resolves to the version, and a request through it gets that version's answer."""
    asked = answers.ask(run, ref, question) if check_resolves(run, ref, version, "label") and question else {}
    if question is not None and RPC in asked:
        run.check(ref, "label answers", RPC, partial(_by_version, run, ref, version, question, asked[RPC]),
                  expected=f"version {version} to answer")


def _by_version(run: CheckRun, ref: ModelRef, version: int, question: Question, answer: Arrays) -> CheckResult:
    """answer: the one that there is already, if it was asked for."""
    if not isinstance(answer, Prediction):
        answer = run.server.rpc.predict(ref, question.inputs, signature=question.signature, timeout=run.server.timeout)
    live = answer.model_version.version if answer.model_version else None
    return passed_if(live == version, f"version {version} to answer", f"version {live}")


def check_errors(run: CheckRun, subject: ModelRef, known: Sequence[int], signature: str) -> None:
    """An unknown version and a malformed request are refused as they should."""
    absent = max(known, default=0) + 999_999
    _refused(run, subject, "unknown version", ModelRef(subject.name, absent), _NOT_FOUND)
    _refused(run, subject, "malformed request", subject, _MALFORMED, body=_TORN, signature=signature)


def check_unknown_model(run: CheckRun) -> None:
    """A model that nobody serves is not found."""
    _refused(run, ModelRef(NO_MODEL), "unknown model", ModelRef(NO_MODEL), _NOT_FOUND)


def _refused(run: CheckRun, subject: ModelRef, name: str, ref: ModelRef, wanted: tuple[int, str], *,
             body: bytes = _BODY, signature: str = "") -> None:
    server, path, (status, code) = run.server, f"{ref.rest_path}:predict", wanted
    run.check(subject, name, RPC, lambda: _over_rpc(run, ref, signature, code), expected=code,
              reproduce=lambda: server.rest.curl(path, body) if server.offers(REST) else "")
    run.check(subject, name, REST, lambda: _over_rest(run, path, body, status), expected=str(status),
              reproduce=lambda: server.rest.curl(path, body))


def _over_rpc(run: CheckRun, ref: ModelRef, signature: str, code: str) -> CheckResult:
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name=ref.name, signature_name=signature))
    if ref.version is not None:
        request.model_spec.version.value = ref.version
    request.inputs[NO_INPUT].dtype = pb.DT_FLOAT
    request.inputs[NO_INPUT].tensor_shape.SetInParent()
    request.inputs[NO_INPUT].float_val.append(0)
    try:
        run.server.rpc.request(methods.PREDICT, request, pb.PredictResponse, timeout=run.server.timeout)
    except Rejected as error:
        return passed_if(error.code == code, code, f"{error.code}: {error.details.get('server', '')}")
    return passed_if(False, code, "an answer")


def _over_rest(run: CheckRun, path: str, body: bytes, status: int) -> CheckResult:
    reply = run.server.rest.request("POST", path, body, timeout=run.server.timeout)
    text = "an answer" if reply.status == 200 else decoding.error_text(reply.body)
    return passed_if(reply.status == status, str(status), f"{reply.status}: {text}")
