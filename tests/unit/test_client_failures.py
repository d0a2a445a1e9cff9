"""Every exception of requests and urllib3, every gRPC status and every HTTP status becomes one of ours."""

from __future__ import annotations

import http.client
import inspect
import socket

import grpc
import pytest
import requests.exceptions
import urllib3.exceptions

from deploy.client import failures
from deploy.client.failures import CallSite
from deploy.errors import BadReply, BadRequest, ClientError, DeployError, Rejected, TimedOut, Unreachable
from deploy.types import ModelRef
from deploy.waiting import Deadline
from tests.support.serving import FakeClock

CALL = CallSite("predict of m/1", "http://h:1", ModelRef("m", 1), 3.0)

UNREACHABLE = {"ConnectionError", "ConnectTimeout", "ProxyError", "SSLError", "ChunkedEncodingError", "RetryError",
               "NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProtocolError", "IncompleteRead",
               "InvalidChunkLength", "MaxRetryError", "ClosedPoolError", "EmptyPoolError", "FullPoolError",
               "HostChangedError", "PoolError", "RequestError", "ResponseNotChunked"}
TIMED_OUT = {"Timeout", "ReadTimeout", "ReadTimeoutError", "TimeoutError"}
BAD_REQUEST = {"URLRequired", "MissingSchema", "InvalidSchema", "InvalidURL", "InvalidProxyURL",
               "UnrewindableBodyError", "StreamConsumedError", "LocationValueError", "LocationParseError",
               "URLSchemeUnknown", "ProxySchemeUnknown", "ProxySchemeUnsupported", "BodyNotHttplibCompatible"}


def foreign() -> list[type[Exception]]:
    found = [c for module in (requests.exceptions, urllib3.exceptions) for _, c in inspect.getmembers(module)
             if inspect.isclass(c) and issubclass(c, Exception) and not issubclass(c, Warning)
             and c.__module__ == module.__name__]
    return sorted(set(found), key=lambda c: (c.__module__, c.__name__))


def made(kind: type[Exception]) -> Exception:
    """An instance, whatever its constructor wants."""
    error = kind.__new__(kind, "why")
    error.args = ("why",)
    if isinstance(error, http.client.IncompleteRead):
        error.partial, error.expected = 0, 5  # type: ignore[assignment]
        error.__dict__.update(length=b"5", response=None)
    return error


def expected(kind: type[Exception]) -> type[ClientError]:
    name = kind.__name__
    if name == "InvalidHeader":
        return BadRequest if kind.__module__.startswith("requests") else BadReply
    for names, ours in ((UNREACHABLE, Unreachable), (TIMED_OUT, TimedOut), (BAD_REQUEST, BadRequest)):
        if name in names and (name != "ConnectionError" or kind is requests.exceptions.ConnectionError):
            return ours
    return BadReply if name != "ConnectionError" else Unreachable


@pytest.mark.parametrize("kind", foreign(), ids=lambda c: f"{c.__module__.partition('.')[0]}.{c.__name__}")
def test_every_exception_has_a_class_of_ours(kind: type[Exception]) -> None:
    error = failures.from_http(made(kind), CALL)
    assert type(error) is expected(kind)
    assert error.endpoint == "http://h:1" and error.ref == CALL.ref


def test_no_exception_was_forgotten() -> None:
    names = {c.__name__ for c in foreign()}
    assert names > UNREACHABLE | TIMED_OUT | BAD_REQUEST


@pytest.mark.parametrize(("error", "ours"), [
    (ConnectionRefusedError(111, "Connection refused"), Unreachable), (ConnectionResetError(), Unreachable),
    (BrokenPipeError(), Unreachable), (socket.gaierror(), Unreachable), (TimeoutError(), TimedOut),
    (requests.exceptions.ConnectionError(urllib3.exceptions.ReadTimeoutError(None, "/", "slow")), TimedOut),  # type: ignore[arg-type]
    (requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("aborted", TimeoutError("x"))), TimedOut),
    (requests.exceptions.ConnectTimeout(urllib3.exceptions.ConnectTimeoutError("slow")), Unreachable),
    (requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError(
        "aborted", http.client.RemoteDisconnected("gone"))), Unreachable),
    (requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError(
        "aborted", http.client.BadStatusLine("\0\0"))), BadReply),
])
def test_what_lies_inside_counts(error: Exception, ours: type[ClientError]) -> None:
    assert type(failures.from_http(error, CALL)) is ours


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "why"


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_every_status_code_has_a_class_of_ours(code: grpc.StatusCode) -> None:
    error = failures.from_rpc(Failed(code), CALL)
    special = {"DEADLINE_EXCEEDED": TimedOut, "UNAVAILABLE": Unreachable, "OK": BadReply}
    assert type(error) is special.get(code.name, Rejected)
    if isinstance(error, Rejected):
        assert error.code == code.name and "why" in error.message


def test_a_bare_rpc_error_and_a_closed_channel() -> None:
    error = failures.from_rpc(grpc.RpcError("odd"), CALL)
    assert isinstance(error, Rejected) and error.code == "UNKNOWN"

    def closed() -> None:
        raise ValueError("Cannot invoke RPC on closed channel!")

    with pytest.raises(BadRequest, match="closed channel"):
        failures.rpc(closed, CALL)


@pytest.mark.parametrize("status", [*range(100, 200, 50), 201, 301, *range(400, 432), 451, 499, *range(500, 512), 599])
def test_every_http_status_has_a_class_of_ours(status: int) -> None:
    error = failures.from_status(status, "why", CALL)
    special = {503: Unreachable, 504: TimedOut}
    assert type(error) is special.get(status, BadReply if status < 400 else Rejected)
    if isinstance(error, Rejected):
        assert error.status == status and error.code in {c.name for c in grpc.StatusCode}


def test_only_a_missing_connection_is_tried_again_and_not_for_ever() -> None:
    for error, times in ((CALL.unreachable("x"), 3), (CALL.timed_out(), 1), (CALL.rejected("x", "INTERNAL"), 1)):
        tried = []

        def attempt(error: DeployError = error, tried: list[int] = tried) -> None:
            tried.append(1)
            raise error

        with pytest.raises(type(error)):
            failures.retrying(attempt, Deadline(10, FakeClock()), 3)
        assert len(tried) == times
    tried = []

    def late() -> None:
        tried.append(1)
        raise CALL.unreachable("x")

    with pytest.raises(Unreachable):
        failures.retrying(late, Deadline(0.1, FakeClock()), 3)
    assert len(tried) == 1


BUSY = CALL.rejected("Server Threadpool Exhausted", "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(("error", "seconds", "tries"), [
    (BUSY, 60.0, (20, 200)), (BUSY, None, (20, 200)), (BUSY, 0.3, (2, 30)), (BUSY, 0.005, (1, 1)),
    (CALL.rejected("the batch is too large", "RESOURCE_EXHAUSTED"), 60.0, (1, 1)),
    (CALL.rejected("Server Threadpool Exhausted", "INTERNAL"), 60.0, (1, 1)),
    (CALL.unreachable("x"), 60.0, (1, 1)), (CALL.timed_out(), 60.0, (1, 1))])
def test_only_a_call_that_got_no_thread_is_asked_again_within_bounds(error: ClientError, seconds: float | None,
                                                                    tries: tuple[int, int]) -> None:
    clock, tried = FakeClock(), []

    def attempt() -> None:
        tried.append(clock.now)
        raise error

    with pytest.raises(type(error)) as seen:
        failures.until_taken(attempt, Deadline(seconds, clock))
    assert seen.value is error and tries[0] <= len(tried) <= tries[1]
    assert clock.now <= min(10.4, seconds or 11)


def test_the_first_call_that_gets_a_thread_is_the_answer() -> None:
    answers: list[Exception | int] = [BUSY, BUSY, 7]

    def attempt() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert failures.until_taken(attempt, Deadline(None, FakeClock())) == 7
