"""Who answers to a name or a label, and errors that have to come."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from deploy.client import decoding
from deploy.errors import Rejected
from deploy.smoke import answers
from deploy.smoke.answers import Question
from deploy.smoke.asking import REST, RPC, CheckResult, CheckRun, passed_if
from deploy.types import ModelRef
from deploy.wire import methods
from deploy.wire import serving_pb2 as pb

NO_MODEL = "tfs-smoke-no-such-model"
NO_INPUT = "tfs_smoke_no_such_input"

_BODY = b'{"instances": [1]}'
_TORN = b'{"instances": ['
_NOT_FOUND, _MALFORMED = (404, "NOT_FOUND"), (400, "INVALID_ARGUMENT")


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
    if check_resolves(run, ref, version, "label") and question is not None and RPC in answers.ask(run, ref, question):
        run.check(ref, "label answers", RPC, partial(_by_version, run, ref, version, question),
                  expected=f"version {version} to answer")


def _by_version(run: CheckRun, ref: ModelRef, version: int, question: Question) -> CheckResult:
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
