"""TF Serving's REST API: predict in rows or columns, classify, regress, status, metadata; and the HTTP below it.

Pooled connections, a deadline on everything, whole bodies in and out.
Source: tensorflow_serving/g3doc/api_rest.md, tensorflow_serving/model_servers/http_rest_api_handler.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy.client import decoding, encoding, failures, snippets
from deploy.client.base import NO_MODEL, Base, Given, as_ref, pem
from deploy.client.encoding import Form
from deploy.client.failures import CallSite
from deploy.client.interfaces import Features, Inputs, Metadata, Prediction
from deploy.client.preparing import explain, prepare, to_body
from deploy.errors import BadRequest, ClientError, Rejected
from deploy.lazy import LOADING
from deploy.types import DEFAULT_SIGNATURE, ModelRef, Signature, Tls, VersionStatus
from deploy.version import __version__
from deploy.waiting import Deadline
from deploy.wire.dtypes import Array

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

POOL = 64
"""Connections that are kept open. More threads than this are fine, they only connect anew."""

_CHUNK = 1 << 18
_LOOPBACK = ("127.", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whatever its status."""

    status: int
    body: bytes


class Transport:
    """Sends requests to one base URL. Thread-safe.

    Of the environment only the proxies are heeded, and not for this machine's own addresses. requests finds out how to
    connect (TLS, proxies), once; what it does for each request would take half of a small call's time.
    """

    def __init__(self, url: str, headers: Mapping[str, str], tls: Tls | None) -> None:
        with LOADING:
            from requests.adapters import HTTPAdapter
            from requests.utils import get_environ_proxies

        self.url = url.rstrip("/")
        loopback = (urlsplit(url).hostname or "").startswith(_LOOPBACK)
        self.proxies = {} if loopback else dict(get_environ_proxies(url))
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=POOL)
        self._headers = {"Accept-Encoding": "identity", "Connection": "keep-alive",
                         "User-Agent": f"tfs-deploy/{__version__}", **headers}
        self._tls = tls
        self._connections: tuple[HTTPConnectionPool, str] | None = None
        if tls is not None:
            for part in ("ca", "certificate", "key"):
                pem(tls, part)

    def send(self, method: str, path: str, body: bytes | None, call: CallSite, deadline: Deadline) -> Reply:
        """One request. Raises Unreachable, TimedOut, BadReply, BadRequest; an error status is an answer."""
        timeout = None if deadline.seconds is None else max(deadline.left, 0.001)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        try:
            connections, base = self._connected()
            response = connections.urlopen(method, base + path, body, headers, retries=False, redirect=False,
                                           assert_same_host=False, timeout=timeout, preload_content=False,
                                           decode_content=False)
            try:
                return Reply(response.status, _read(response, call, deadline))
            finally:
                response.close()  # the connection only if the body wasn't read to its end
        except ClientError:
            raise
        except Exception as error:
            raise failures.from_http(error, call) from error

    def close(self) -> None:
        self._adapter.close()

    def _connected(self) -> tuple[HTTPConnectionPool, str]:
        """The connections, and what is asked for before a path."""
        if self._connections is None:
            import requests
            from urllib3.connectionpool import HTTPConnectionPool

            request = requests.Request("GET", self.url).prepare()
            assert request.url is not None
            tls = self._tls or Tls()
            verify = True if tls.ca is None else tls.ca
            pair = tls.certificate if tls.key is None or tls.certificate is None else (tls.certificate, tls.key)
            pool = self._adapter.get_connection_with_tls_context(request, verify, proxies=self.proxies, cert=pair)
            self._adapter.cert_verify(pool, request.url, verify, pair)  # type: ignore[no-untyped-call]
            assert isinstance(pool, HTTPConnectionPool)
            self._connections = pool, self._adapter.request_url(request, self.proxies).rstrip("/")
        return self._connections


def _read(raw: Any, call: CallSite, deadline: Deadline) -> bytes:
    """The whole body. A socket's timeout starts anew with each packet; the deadline doesn't."""
    chunks = []
    while chunk := raw.read1(_CHUNK):
        chunks.append(chunk)
        if deadline.over:
            raise call.timed_out()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class RestClient(Base):
    """Predictor and Control over REST. Thread-safe; close it, or use it in a `with`.

    Replies carry no names, dtypes or version, so the signature is asked for first (and kept), or given.
    url: scheme, host and port, perhaps a path that TF Serving's `/v1` stands behind.
    attempts: how often a call that changes nothing is tried while there is no connection.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, tls: Tls | None = None, metadata: Given = (),
                 attempts: int = 2) -> None:
        super().__init__(url.rstrip("/"), timeout, metadata, attempts)
        self._transport = Transport(url, self._headers, tls)

    def predict(self, ref: ModelRef | str, inputs: Inputs, *, signature: str | Signature = DEFAULT_SIGNATURE,
                outputs: Sequence[str] = (), timeout: float | None = None, form: Form = "column") -> Prediction:
        """As Predictor says. form: `row` needs a batch dimension that all inputs share, and so do its outputs.

        Raises BadRequest for dtypes that JSON can't express (float16, bfloat16, uint16, complex): use gRPC for them.
        """
        call, deadline = self._begin("predict", ref, timeout)
        ref = call.ref

        def attempt(known: Signature) -> Prediction:
            body = self._body(ref, inputs, known, outputs, form)
            reply = self._ask(f"{ref.rest_path}:predict", body, call, deadline, known)
            arrays = self._located(lambda: decoding.outputs(reply.body, known, form), call)
            return Prediction({name: arrays[name] for name in outputs or arrays}, None, known.name)

        if isinstance(signature, Signature):
            return attempt(signature)
        return self._contracts.using(ref, signature, deadline, attempt)

    def predict_body(self, ref: ModelRef | str, inputs: Inputs, *, signature: Signature, form: Form = "column"
                     ) -> bytes:
        """The body that `predict` would send, to show or to keep. Raises BadRequest."""
        return self._body(as_ref(ref), inputs, signature, (), form)

    def classify(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                 signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> list[list[tuple[str, float]]]:
        """As Predictor says."""
        call, deadline = self._begin("classify", ref, timeout)
        results = self._results(to_body(examples, context, signature), "classify", call, deadline)
        return self._located(lambda: decoding.classes(results), call)

    def regress(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> Array:
        """As Predictor says."""
        call, deadline = self._begin("regress", ref, timeout)
        results = self._results(to_body(examples, context, signature), "regress", call, deadline)
        return self._located(lambda: decoding.array(results, decoding.REGRESSIONS), call)

    def status(self, ref: ModelRef | str, *, timeout: float | None = None) -> list[VersionStatus]:
        """As Control says."""
        call, deadline = self._begin("status", ref, timeout)
        reply = self._ask(call.ref.rest_path, None, call, deadline)
        return self._located(lambda: decoding.statuses(decoding.loads(reply.body)), call)

    def request(self, method: str, path: str, body: bytes | None = None, *, timeout: float | None = None) -> Reply:
        """Any request below the base URL, with its answer as it is, whatever the status. Not tried again."""
        call, deadline = self._begin(f"{method} {path}", NO_MODEL, timeout)
        return self._transport.send(method, path, body, call, deadline)

    def curl(self, path: str, body: bytes | None = None) -> str:
        """The same request as a line for a shell. Values of headers are left out."""
        return snippets.curl_line(self.endpoint + path, body, self._headers)

    def close(self) -> None:
        """Close the connections. Done twice is no error."""
        super().close()
        self._transport.close()

    def _metadata(self, ref: ModelRef, deadline: Deadline) -> Metadata:
        call = self._call("metadata", ref, deadline)
        reply = self._ask(f"{ref.rest_path}/metadata", None, call, deadline)
        return self._located(lambda: decoding.metadata(reply.body), call)

    def _body(self, ref: ModelRef, inputs: Inputs, signature: Signature, outputs: Sequence[str], form: Form) -> bytes:
        refusal, hint = encoding.no_json(signature), "use gRPC for this signature"
        if not refusal:
            arrays = prepare(inputs, signature, outputs)
            refusal, hint = encoding.no_shape(arrays), "use gRPC for an empty batch"
        if not refusal and form == "row":
            refusal, hint = encoding.no_rows(signature, arrays), "use the column form, or gRPC"
        if refusal:
            raise BadRequest(f"{ref}: {refusal}", endpoint=self.endpoint, ref=ref, hint=hint)
        return encoding.request_body(signature.name, arrays, form)

    def _results(self, body: bytes, verb: str, call: CallSite, deadline: Deadline) -> Any:
        reply = self._ask(f"{call.ref.rest_path}:{verb}", body, call, deadline)
        return self._located(lambda: decoding.member(decoding.loads(reply.body), "results"), call)

    def _ask(self, path: str, body: bytes | None, call: CallSite, deadline: Deadline, signature: Signature | None = None
             ) -> Reply:
        """The answer with status 200. Tried again while there is no connection: these calls change nothing."""

        def attempt() -> Reply:
            reply = self._transport.send("GET" if body is None else "POST", path, body, call, deadline)
            if reply.status == 200:
                return reply
            error = failures.from_status(reply.status, decoding.error_text(reply.body), call)
            raise explain(error, signature) if isinstance(error, Rejected) else error

        return failures.retrying(attempt, deadline, self._attempts)
