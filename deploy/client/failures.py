"""Foreign errors -> ours. The only place that knows grpc.RpcError, and requests' and urllib3's exceptions.

    no connection, or it was lost                     Unreachable
    no answer in time                                 TimedOut
    the server's answer is an error                   Rejected, with gRPC's name of the code (and HTTP's number)
    the answer isn't what the protocol says           BadReply
    the request can't be sent as it is                BadRequest
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from deploy.errors import BadReply, BadRequest, ClientError, Rejected, TimedOut, Unreachable
from deploy.types import ModelRef
from deploy.waiting import Deadline

if TYPE_CHECKING:
    import grpc

T = TypeVar("T")
Classes = tuple[type[BaseException], ...]

RETRY_PAUSE = 0.15
"""Seconds before another attempt: longer than the first pause that a gRPC channel makes before it connects again."""

# grpc/src/cpp/server/server_cc.cc: said before the handler, when --grpc_max_threads are at work
_NO_THREAD = ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted")
_BUSY_SECONDS = 10.0  # for which a server without a free thread is asked again
_BUSY_PAUSES = (0.01, 0.32)  # seconds: the first pause at most, and any

# tensorflow_serving/model_servers/http_server.cc maps the other way; the names here are those that mean one thing.
_CODES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    405: "UNIMPLEMENTED", 409: "ABORTED", 411: "INVALID_ARGUMENT", 412: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
}

_TLS = ("check the certificate authority, the name that the certificate is for, the client's certificate if it wants "
        "one, and that the server speaks TLS")
# As gRPC's C core says that the two sides don't trust each other, or one of them speaks no TLS
_DISTRUSTED = re.compile(r"Hostname Verification Check failed|"
                         r"[Hh]andshake failed(?:.*_internal:([A-Z_]+(?:: [^:;]+)?))?")

# What gRPC's C core says of an answer that doesn't begin as HTTP/2 does; the number is the answer's fourth byte
_NO_GRPC = re.compile(r"Expected SETTINGS frame as the first frame, got frame type (\d+)")
_HTTP = "80"
_SPEAKS_HTTP = ("HTTP/1 answers there, as on TensorFlow Serving's REST port, and no gRPC",
                "give the gRPC port: 8500 where REST has 8501")
_CUT = re.compile(r"Socket closed|Connection reset by peer")  # what doesn't understand us, as a port with TLS, does so
_WHY_CUT = "is the server running, is this its gRPC port, and does it want TLS?"
_ADDRESS = re.compile(r"^failed to connect to all addresses; last error: [A-Z_]+: \S+?: ")  # said before already
_SPEAKS_OTHER = ("what answers there doesn't speak gRPC", "does a TensorFlow Serving server listen there?")
_PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")  # how OpenSSL calls an answer, or a question, without TLS

_HINTS: Mapping[str, str] = {
    "RESOURCE_EXHAUSTED": "the server has no room for more requests at once; send fewer, or raise its limits",
    "UNIMPLEMENTED": "does a TensorFlow Serving server listen there?",
    "UNAUTHENTICATED": "pass credentials as metadata",
}


@dataclass(frozen=True, slots=True)
class CallSite:
    """What was being done when something failed: `predict of mnist/3`, where, within how many seconds."""

    what: str
    endpoint: str
    ref: ModelRef
    seconds: float | None

    @property
    def about(self) -> ModelRef | None:
        """The ref, for errors; None for calls that aren't about a model."""
        return self.ref if self.ref.name else None

    def unreachable(self, why: str, hint: str = "") -> Unreachable:
        return Unreachable(f"{self.what}: no connection to {self.endpoint}: {why}", endpoint=self.endpoint,
                           ref=self.about, hint=hint or "is the server running, and is this its port?")

    def distrusted(self, why: str) -> Unreachable:
        """As `distrusts` finds it."""
        return self.unreachable(f"TLS: {why}", _TLS)

    def timed_out(self) -> TimedOut:
        waited = "in time" if self.seconds is None else f"within {self.seconds:g} s"
        return TimedOut(f"{self.what}: no answer from {self.endpoint} {waited}", endpoint=self.endpoint, ref=self.about,
                        hint="the server may still be at it; allow more time, or send less at once")

    def rejected(self, text: str, code: str, status: int | None = None) -> Rejected:
        number = code if status is None else f"{status} {code}"
        return Rejected(f"{self.what} was refused by {self.endpoint} ({number}): {text or 'without a reason'}",
                        code=code, status=status, endpoint=self.endpoint, ref=self.about, hint=_HINTS.get(code, ""),
                        details={"server": text})

    def bad_reply(self, why: str) -> BadReply:
        return BadReply(f"{self.what}: {self.endpoint} answered something else than expected: {why}",
                        endpoint=self.endpoint, ref=self.about, hint="does a TensorFlow Serving server listen there?",
                        id="not-tensorflow-serving")

    def bad_request(self, why: str) -> BadRequest:
        return BadRequest(f"{self.what} can't be sent to {self.endpoint}: {why}", endpoint=self.endpoint,
                          ref=self.about)


def rpc(attempt: Callable[[], T], call: CallSite) -> T:
    """What `attempt` returns; its grpc.RpcError as ours."""
    import grpc

    try:
        return attempt()
    except grpc.RpcError as error:
        raise from_rpc(error, call) from error
    except ValueError as error:  # grpc's for a channel that another thread has closed
        raise call.bad_request(str(error)) from error


def from_rpc(error: grpc.RpcError, call: CallSite) -> ClientError:
    """Ours for a failed RPC. Every status code has one."""
    import grpc

    code, text = _status(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return call.timed_out()
    if code is grpc.StatusCode.UNAVAILABLE:
        if distrusted := _DISTRUSTED.search(text):
            plain = (distrusted[1] or "").startswith(_PLAIN)
            return call.distrusted("it answers without" if plain else distrusted[1] or distrusted[0])
        if other := _NO_GRPC.search(text):
            return call.unreachable(*(_SPEAKS_HTTP if other[1] == _HTTP else _SPEAKS_OTHER))
        return call.unreachable(_ADDRESS.sub("", text) or "unavailable", _WHY_CUT if _CUT.search(text) else "")
    if code is grpc.StatusCode.OK:
        return call.bad_reply(f"an error with the code OK: {text}")
    return call.rejected(text, "UNKNOWN" if code is None else code.name)


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode | None, str]:
    """An RpcError that comes from a call has a code and details; others are only exceptions."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    return (code() if callable(code) else None), str((details() if callable(details) else None) or error or "")


def from_http(error: Exception, call: CallSite) -> ClientError:
    """Ours for an exception of requests, of urllib3 below it, or of the socket. Every class has one."""
    why = _innermost(error)
    if isinstance(why, _tables().no_http) and not isinstance(why, ConnectionError):
        return call.bad_reply("it doesn't speak HTTP")
    if _nested(error, _tables().timeouts) and not isinstance(error, _tables().connecting):
        return call.timed_out()
    for classes, outcome in _tables().outcomes:
        if isinstance(error, classes):
            return outcome(call, _sentence(why))
    return call.bad_reply(_sentence(why))


class _Tables:
    """The first entry that an exception is an instance of says what it becomes."""

    def __init__(self) -> None:
        from http import client as h

        from requests import exceptions as r
        from urllib3 import exceptions as u

        self.no_http: Classes = (h.BadStatusLine,)
        self.timeouts: Classes = (u.ReadTimeoutError, r.ReadTimeout, TimeoutError)
        self.connecting: Classes = (r.ConnectTimeout, u.ConnectTimeoutError)
        self.outcomes: tuple[tuple[Classes, Callable[[CallSite, str], ClientError]], ...] = (
            ((r.SSLError, u.SSLError), lambda call, why: call.unreachable(
                f"TLS: {why}", hint=_TLS)),
            ((r.ProxyError, u.ProxyError), lambda call, why: call.unreachable(
                f"proxy: {why}", hint="check the proxy in the environment")),
            ((u.NewConnectionError,), CallSite.unreachable),
            ((r.ConnectTimeout, u.ConnectTimeoutError), lambda call, _: call.unreachable("it can't be made in time")),
            ((r.Timeout, u.TimeoutError, TimeoutError), lambda call, _: call.timed_out()),
            ((r.URLRequired, r.MissingSchema, r.InvalidSchema, r.InvalidURL, r.InvalidHeader, r.UnrewindableBodyError,
              r.StreamConsumedError, u.LocationValueError, u.UnrewindableBodyError, u.BodyNotHttplibCompatible,
              u.ProxySchemeUnsupported), CallSite.bad_request),
            ((r.ConnectionError, r.ChunkedEncodingError, r.RetryError, u.ProtocolError, h.IncompleteRead, u.PoolError),
             CallSite.unreachable),
            ((r.RequestException, u.HTTPError), CallSite.bad_reply),
            ((OSError,), CallSite.unreachable),
        )


@cache
def _tables() -> _Tables:
    return _Tables()


def _nested(error: BaseException, kinds: Classes) -> bool:
    return isinstance(error, kinds) or any(isinstance(inner, BaseException) and _nested(inner, kinds)
                                           for inner in (*error.args, getattr(error, "reason", None)))


def _innermost(error: BaseException) -> BaseException:
    """requests wraps urllib3's errors, and those wrap the socket's: the last one says it best."""
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error.__cause__ if isinstance(error.__cause__, OSError) else error


def _sentence(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def from_status(status: int, text: str, call: CallSite) -> ClientError:
    """Ours for an HTTP status that isn't 200."""
    if status == 503:
        return call.unreachable(f"unavailable (503): {text}")
    if status == 504:
        return call.timed_out()
    if status < 400:
        return call.bad_reply(f"HTTP status {status}")
    return call.rejected(text, _CODES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL"), status)


def cut(error: Exception) -> bool:
    """Whether the server ended a connection without a word, as one does that wants TLS, or another client."""
    return isinstance(error, Unreachable) and error.hint == _WHY_CUT


def distrusts(error: Exception) -> bool:
    """Whether there is no connection since one side doesn't accept the other's TLS: waiting doesn't help."""
    return isinstance(error, Unreachable) and error.hint == _TLS


def answers_no(error: Exception) -> bool:
    """Whether the server says that there is no such thing: a label without a version, a model that isn't served."""
    return isinstance(error, Rejected) and error.code in ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


def busy(error: Exception) -> bool:
    """Whether a server with all of its threads at work has said so, at once; it has done nothing then."""
    return isinstance(error, Rejected) and error.code == "RESOURCE_EXHAUSTED"


def refused_unrun(error: Exception) -> bool:
    """Whether the server had no thread for the call, so that nothing of it has run."""
    return isinstance(error, Rejected) and (error.code, error.details.get("server")) == _NO_THREAD


def until_taken(attempt: Callable[[], T], deadline: Deadline) -> T:
    """Run `attempt`, again while the server has no thread for it: any call, also one that changes something.

    The pauses are random, so that callers that were refused together don't come back together.
    """
    pause, most = _BUSY_PAUSES
    patience = deadline.waited + _BUSY_SECONDS
    while True:
        try:
            return attempt()
        except Rejected as error:
            if not refused_unrun(error) or deadline.left <= pause or deadline.waited >= patience:
                raise
        deadline.sleep(random.uniform(pause / 2, pause))  # noqa: S311
        pause = min(most, pause * 2)


def retrying(attempt: Callable[[], T], deadline: Deadline, attempts: int) -> T:
    """Run `attempt`, again after a pause while there is no connection. Only for calls that change nothing."""
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except Unreachable:
            if number == attempts or deadline.left <= RETRY_PAUSE:
                raise
            deadline.sleep(RETRY_PAUSE)
    raise AssertionError("attempts is at least 1")
