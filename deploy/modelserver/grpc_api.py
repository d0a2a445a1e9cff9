"""What the gRPC API answers: functions of messages as functions of bytes, and the health service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from deploy.modelserver.inline import LONG, Steps
from deploy.modelserver.rpc.server import Handler
from deploy.modelserver.status import Code, StatusError
from deploy.net.http2.messages import Message as Buffer
from deploy.wire import health_pb2

Request = TypeVar("Request", bound=Message)

HEALTH_CHECK = "/grpc.health.v1.Health/Check"


def method(function: Callable[[Request], Message | bytes], request_type: type[Request]) -> Handler:
    """A handler of serialized messages, for threads only; the function's reply may be serialized already."""

    def handle(payload: Buffer) -> Steps[bytes]:
        yield LONG
        reply = function(_parsed(request_type, payload))
        return reply if isinstance(reply, bytes) else reply.SerializeToString()

    return handle


def stepwise(function: Callable[[Request], Steps[bytes]], request_type: type[Request]) -> Handler:
    """The same for a function that says itself what is for threads."""

    def handle(payload: Buffer) -> Steps[bytes]:
        return function(_parsed(request_type, payload))

    return handle


def _parsed(request_type: type[Request], payload: Buffer) -> Request:
    try:
        return request_type.FromString(payload)  # type: ignore[arg-type]  # any buffer will do
    except DecodeError as error:
        raise StatusError(Code.INTERNAL, "") from error


def health(payload: Buffer) -> Steps[bytes]:
    """grpc.health.v1.Health/Check; the names it knows are the real server's. Always short. The steps raise StatusError.
    """
    yield from ()
    name = _parsed(health_pb2.HealthCheckRequest, payload).service
    if name not in ("", "ModelService", "PredictionService"):
        raise StatusError(Code.NOT_FOUND, "service name unknown")
    return bytes(health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString())
