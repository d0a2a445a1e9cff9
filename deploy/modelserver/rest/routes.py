"""URLs and methods of the REST API. Answers requests; what goes wrong becomes the real server's error replies.

Status and metadata are laid out as protobuf's C++ library lays out JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from deploy.modelserver import predict as predicting
from deploy.modelserver.core import SIGNATURE_DEF, Core, LazyServable, model_status, signature_map
from deploy.modelserver.examples import Examples
from deploy.modelserver.execution import LONG, Steps, finish
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.rest import decode, encode
from deploy.modelserver.status import HTTP_STATUS, StatusError, invalid
from deploy.net.http1.heads import Uri, remembered, unescaped
from deploy.net.http1.messages import TEXT, UNTYPED, Request, Response, endless, html_error
from deploy.types import DEFAULT_SIGNATURE
from deploy.wire import serving_pb2 as pb

_VERSION = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_CALL = re.compile(rf"(?i:/v1/models/)([^/:]+)(?i:{_VERSION}):((?i:classify|regress|predict))", re.DOTALL)
_INFO = re.compile(rf"(?i:/v1/models)(?:/([^/:]+))?(?i:{_VERSION})(?:/(?i:(metadata)))?", re.DOTALL)
_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"}
_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "POST, GET"),
         ("Access-Control-Allow-Headers", "Content-Type"))
_ORIGIN = re.compile(rb"https?://")
_MOST = 2**63 - 1
Call = Callable[[pb.ModelSpec, Request], Steps[bytes]]


class _NoText(Exception):
    """A version number beyond 64 bits: the reply has no body."""


@dataclass(frozen=True, slots=True)
class Api:
    """Everything that is answered on the REST port.

    calls: verb (`classify`, ...) -> what answers it. pages: other paths, each with a text to show.
    """

    core: Core
    metrics: Metrics
    calls: Mapping[str, Call]
    pages: Mapping[str, Callable[[], bytes]]
    cors: bool = False

    def answer(self, request: Request) -> Response:
        """The response, by the calling thread."""
        return finish(self.steps(request))

    def steps(self, request: Request) -> Steps[Response]:
        """The response in steps: what may take long comes after one that says so."""
        if request.method not in _METHODS:
            return html_error(501)
        uri = _uri(request.target)
        if uri is None or endless(request):
            return html_error(400)
        page = self.pages.get(uri.path)
        if page is not None:
            yield LONG
            if not uri.more:
                return Response(200, page(), TEXT)
            return Response(400, f"Unexpected path: {uri.whole}. Should be {uri.path}".encode(), TEXT)
        if not _API.fullmatch(uri.whole) and uri.whole.lower() != "/v1/models":
            return html_error(404)
        return (yield from self._api(request, uri.whole))

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request whose target or method is wrong whatever its body is; None for all others."""
        uri = _uri(request.target)
        if request.method == "POST" and uri is not None and (uri.path in self.pages or self._is_call(uri.whole)):
            return None
        if request.method in ("GET", "HEAD"):
            return None  # nobody looks at the body, and the answer may take its time
        return self.answer(request)

    def _is_call(self, target: str) -> bool:
        try:
            called = _called(target)
        except _NoText:
            return False
        return called is not None and called[1] in self.calls

    def _api(self, request: Request, target: str) -> Steps[Response]:
        headers = _CORS if self.cors else ()
        if request.method == "OPTIONS":  # a browser's question before the request proper
            has_origin = _ORIGIN.search(request.headers.get(b"origin", b"")) is not None
            return Response(200 if has_origin else 400, b"", UNTYPED, headers=headers)
        try:
            return Response(200, (yield from self._dispatch(request, target)), headers=headers)
        except _NoText:
            return Response(400, b"", headers=headers)
        except StatusError as error:
            return Response(HTTP_STATUS[error.code], encode.error(error.message), headers=headers)

    def _dispatch(self, request: Request, target: str) -> Steps[bytes]:
        if request.method == "POST" and (called := _called(target)):
            spec, verb = called
            if verb in self.calls:  # lower case only, although the pattern takes both
                with self.metrics.request(spec.name, verb, "REST"):
                    return (yield from self.calls[verb](spec, request))
        elif request.method == "GET" and (match := _INFO.fullmatch(target)):
            name, version, label, below = match.groups()
            wants_metadata = below == "metadata"  # lower case only; otherwise it is the status that is shown
            if wants_metadata:  # there may be many signatures
                yield LONG
            if not name:
                raise invalid("Missing model name in request.")
            spec = _spec(name, version, label)
            with self.metrics.request(spec.name, "GetModelMetadata" if wants_metadata else "GetModelStatus", "REST"):
                return metadata_json(self.core, spec) if wants_metadata else status_json(self.core, spec)
        raise invalid(f"Malformed request: {request.method} {target}")

_uri = remembered(Uri.of)


@remembered
def _called(target: str) -> tuple[pb.ModelSpec, str] | None:
    """Which model is to be called, and how. Raises _NoText."""
    match = _CALL.fullmatch(target)
    if match is None:
        return None
    name, version, label, verb = match.groups()
    return _spec(name, version, label), verb


def _spec(name: str, version: str | None, label: str | None) -> pb.ModelSpec:
    spec = pb.ModelSpec(name=unescaped(name))
    if version:
        number = int(version.lstrip("0")[:20] or "0")  # more digits are too many anyway
        if number > _MOST:
            raise _NoText
        spec.version.value = number
    elif label:
        spec.version_label = unescaped(label)
    return spec


def predict(core: Core, *, method_check: bool = False) -> Call:
    """What answers POST ...:predict."""

    def call(spec: pb.ModelSpec, request: Request) -> Steps[bytes]:
        with LazyServable(core, spec) as servable:

            def inputs_of(name: str) -> decode.Inputs:
                wanted = name or DEFAULT_SIGNATURE
                try:
                    return servable().signatures[wanted].dtypes
                except KeyError:
                    raise invalid(f'Serving signature name: "{wanted}" not found in signature def') from None

            decoded = yield from decode.predict_body(request.body, inputs_of, request.go_on)
            request.go_on()
            signature = servable().signatures[decoded.signature or DEFAULT_SIGNATURE]
            if method_check:
                predicting.check_method(signature.definition)
            yield predicting.next_run(servable(), signature, decoded.arrays)
            outputs = predicting.run(servable(), signature, decoded.arrays, signature.outputs)
            return encode.rows(outputs) if decoded.row else encode.columns(outputs)

    return call


def classify(core: Core, examples: Examples) -> Call:
    """What answers POST ...:classify."""

    def call(spec: pb.ModelSpec, sent: Request) -> Steps[bytes]:
        yield LONG
        request = pb.ClassificationRequest(model_spec=spec)
        decode.fill(request.input, request.model_spec, sent)
        with core.servable(spec) as servable:
            result = examples.classify(servable, request).result
        return encode.classifications([[(c.label.encode("utf-8", "surrogateescape"), c.score) for c in row.classes]
                                       for row in result.classifications])

    return call


def regress(core: Core, examples: Examples) -> Call:
    """What answers POST ...:regress."""

    def call(spec: pb.ModelSpec, sent: Request) -> Steps[bytes]:
        yield LONG
        request = pb.RegressionRequest(model_spec=spec)
        decode.fill(request.input, request.model_spec, sent)
        with core.servable(spec) as servable:
            result = examples.regress(servable, request).result
        return encode.regressions([r.value for r in result.regressions])

    return call


def status_json(core: Core, spec: pb.ModelSpec) -> bytes:
    """GET /v1/models/...  Raises StatusError."""
    return _json(model_status(core, pb.GetModelStatusRequest(model_spec=spec))).encode()


def metadata_json(core: Core, spec: pb.ModelSpec) -> bytes:
    """GET /v1/models/.../metadata  Raises StatusError."""
    answered, signatures = signature_map(
        core, pb.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF]))
    return (f'{{\n"model_spec":{_json(answered)},\n"metadata": {{"signature_def": {_json(signatures)}}}\n}}\n').encode()


def _json(message: Message) -> str:
    data: Any = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return _text(data, 1) + "\n"


def _text(value: Any, depth: int) -> str:
    if isinstance(value, float):  # whole ones without a point
        return next(t for digits in (6, 9, 15, 17) if float(t := f"{value:.{digits}g}") == value)
    if not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        items, ends = [f"{json.dumps(k, ensure_ascii=False)}: {_text(v, depth + 1)}" for k, v in value.items()], "{}"
    else:
        items, ends = [_text(v, depth + 1) for v in value], "[]"
    blanks = "\n" + " " * depth
    return f"{ends[0]}{blanks}{f',{blanks}'.join(items)}{blanks[:-1]}{ends[1]}" if items else ends
