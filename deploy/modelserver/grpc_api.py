"""What the gRPC API answers: functions of messages as functions of bytes, and the health service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from deploy.modelserver.rpc.server import Handler
from deploy.modelserver.status import Code, Postponed, StatusError
from deploy.net.http2.messages import Message as Buffer
from deploy.wire import health_pb2

Request = TypeVar("Request", bound=Message)

HEALTH_CHECK = "/grpc.health.v1.Health/Check"


def method(function: Callable[[Request], Message | bytes], request_type: type[Request]) -> Handler:
    """A handler of serialized messages, for threads; the function's reply may be serialized already."""

    def handle(payload: Buffer, at_once: bool) -> bytes:
        if at_once:
            raise Postponed
        reply = function(_parsed(request_type, payload))
        return reply if isinstance(reply, bytes) else reply.SerializeToString()

    return handle


def prompt(function: Callable[[Request, bool], bytes], request_type: type[Request]) -> Handler:
    """The same for a function that knows whether it is to answer at once."""
    return lambda payload, at_once: function(_parsed(request_type, payload), at_once)


def _parsed(request_type: type[Request], payload: Buffer) -> Request:
    try:
        return request_type.FromString(payload)  # type: ignore[arg-type]  # any buffer will do
    except DecodeError as error:
        raise StatusError(Code.INTERNAL, "") from error


def health(payload: Buffer, at_once: bool) -> bytes:  # noqa: ARG001  # is always short
    """grpc.health.v1.Health/Check; the names it knows are the real server's. Raises StatusError."""
    name = _parsed(health_pb2.HealthCheckRequest, payload).service
    if name not in ("", "ModelService", "PredictionService"):
        raise StatusError(Code.NOT_FOUND, "service name unknown")
    return bytes(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString())
