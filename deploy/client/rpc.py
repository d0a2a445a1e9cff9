"""TF Serving's gRPC API: predict, classify, regress, status, metadata, reload.

Source: tensorflow_serving/apis/prediction_service.proto, model_service.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from deploy.client import decoding, failures
from deploy.client.base import NO_MODEL, Base, Given, pem, tls_refusal
from deploy.client.failures import CallSite
from deploy.client.interfaces import Features, Inputs, Metadata, Prediction
from deploy.client.preparing import explain, prepare, to_input
from deploy.errors import Rejected, Unreachable
from deploy.types import DEFAULT_SIGNATURE, ModelRef, ModelVersion, Signature, Tls, VersionStatus
from deploy.waiting import Deadline
from deploy.wire import methods, predict_codec
from deploy.wire import serving_pb2 as pb
from deploy.wire.contracts import METADATA_FIELD, contract_from_metadata
from deploy.wire.dtypes import Array

if TYPE_CHECKING:
    import grpc

M = TypeVar("M", bound=Message)

_LOOPBACK = ("127.", "localhost", "[::1]", "unix:")


class RpcClient(Base):
    """Predictor and Control over gRPC. Thread-safe; close it, or use it in a `with`.

    target: `host:port`, or any other target of gRPC's.
    attempts: how often a call that changes nothing is tried while there is no connection.
    check: ask the server for signatures (and keep them), so that requests are converted and checked before they are
        sent. Without it, arrays need the right dtypes by themselves.
    """

    def __init__(self, target: str, *, timeout: float = 10.0, tls: Tls | None = None, metadata: Given = (),
                 attempts: int = 2, check: bool = True) -> None:
        super().__init__(target, timeout, metadata, attempts)
        self._channel, self._check = _channel(target, tls), check
        self._target, self._tls = target, tls
        self._raw = cache(self._channel.unary_unary)

    def predict(self, ref: ModelRef | str, inputs: Inputs, *, signature: str | Signature = DEFAULT_SIGNATURE,
                outputs: Sequence[str] = (), timeout: float | None = None) -> Prediction:
        """As Predictor says."""
        call, deadline = self._begin("predict", ref, timeout)

        def attempt(known: Signature | None) -> Prediction:
            name = known.name if known else str(signature)
            body = self._located(lambda: predict_codec.write_predict_request(
                _spec(call.ref, name), prepare(inputs, known, outputs), outputs), call)
            reply = self._ask(methods.PREDICT, body, call, deadline, known)
            response, arrays = self._located(lambda: predict_codec.read_predict_response(reply), call)
            return Prediction(arrays, _answered(response.model_spec), name)

        if isinstance(signature, Signature):
            return attempt(signature)
        return self._contracts.using(call.ref, signature, deadline, attempt) if self._check else attempt(None)

    def classify(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                 signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> list[list[tuple[str, float]]]:
        """As Predictor says."""
        call, deadline = self._begin("classify", ref, timeout)
        request = pb.ClassificationRequest(model_spec=_spec(call.ref, signature), input=to_input(examples, context))
        reply = self._send(methods.CLASSIFY, request, pb.ClassificationResponse, call, deadline)
        return [[(c.label, c.score) for c in result.classes] for result in reply.result.classifications]

    def regress(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> Array:
        """As Predictor says."""
        call, deadline = self._begin("regress", ref, timeout)
        request = pb.RegressionRequest(model_spec=_spec(call.ref, signature), input=to_input(examples, context))
        reply = self._send(methods.REGRESS, request, pb.RegressionResponse, call, deadline)
        return np.array([result.value for result in reply.result.regressions], np.float32)

    def status(self, ref: ModelRef | str, *, timeout: float | None = None) -> list[VersionStatus]:
        """As Control says."""
        call, deadline = self._begin("status", ref, timeout)
        request = pb.GetModelStatusRequest(model_spec=_spec(call.ref))
        reply = self._send(methods.GET_MODEL_STATUS, request, pb.GetModelStatusResponse, call, deadline)
        return decoding.from_messages(reply.model_version_status)

    def reload(self, config: pb.ModelServerConfig, *, timeout: float | None = None) -> None:
        """Replace the server's whole configuration. Sent once: never tried again.

        It returns when models of a new name are available; other changes may still be under way, and a success says
        little: look at `status`. A base path that doesn't exist makes the server hang, hence the deadline.
        Raises Rejected for a configuration that the server refuses.
        """
        call, deadline = self._begin("reload", NO_MODEL, timeout)
        request = pb.ReloadConfigRequest(config=config).SerializeToString()
        data = self._once(methods.HANDLE_RELOAD_CONFIG_REQUEST, request, call, deadline)
        status = _parsed(data, pb.ReloadConfigResponse, call).status
        if status.error_code:
            raise call.rejected(status.error_message, pb.Code.Name(status.error_code))

    def close(self) -> None:
        """Close the channel; calls that are under way are cancelled. Done twice is no error."""
        super().close()
        self._channel.close()

    def request(self, method: str, message: Message, reply: type[M], *, timeout: float | None = None) -> M:
        """Any call with its answer as it is. Sent once: never checked, never tried again."""
        call, deadline = self._begin(method.rpartition("/")[2], NO_MODEL, timeout)
        return _parsed(self._once(method, message.SerializeToString(), call, deadline), reply, call)

    def _metadata(self, ref: ModelRef, deadline: Deadline) -> Metadata:
        call = self._call("metadata", ref, deadline)
        request = pb.GetModelMetadataRequest(model_spec=_spec(ref), metadata_field=[METADATA_FIELD])
        reply = self._send(methods.GET_MODEL_METADATA, request, pb.GetModelMetadataResponse, call, deadline)
        contract = self._located(lambda: contract_from_metadata(reply), call)
        return Metadata(reply.model_spec.version.value, contract)

    def _send(self, method: str, message: Message, reply: type[M], call: CallSite, deadline: Deadline) -> M:
        return _parsed(self._ask(method, message.SerializeToString(), call, deadline), reply, call)

    def _ask(self, method: str, body: bytes, call: CallSite, deadline: Deadline, signature: Signature | None = None
             ) -> bytes:
        """The reply's bytes. Tried again while there is no connection: none of these calls changes anything."""
        try:
            return failures.retrying(lambda: self._once(method, body, call, deadline), deadline, self._attempts)
        except Rejected as error:
            raise explain(error, signature) from error

    def _once(self, method: str, body: bytes, call: CallSite, deadline: Deadline) -> bytes:
        """Run once; a server that has no thread for it yet is asked again."""
        metadata = tuple(self._headers.items())

        def attempt() -> bytes:
            timeout = None if deadline.seconds is None else deadline.left
            try:
                return bytes(failures.rpc(lambda: self._raw(method)(body, timeout=timeout, metadata=metadata), call))
            except Unreachable as error:
                if failures.cut(error) and (why := tls_refusal(self._target, self._tls)):
                    raise call.distrusted(why) from error
                raise

        return failures.until_taken(attempt, deadline)


_CONNECT = 5000  # milliseconds for a connection to be made, whatever that option is called


def _channel(target: str, tls: Tls | None) -> grpc.Channel:
    """Its own connection, messages of any size, no hidden retries, and quick to notice a server that is back."""
    import grpc

    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", _CONNECT),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if target.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    if tls is None:
        return grpc.insecure_channel(target, options)
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    credentials = grpc.ssl_channel_credentials(pem(tls, "ca"), pem(tls, "key"), pem(tls, "certificate"))
    return grpc.secure_channel(target, credentials, options)


def _spec(ref: ModelRef, signature: str = "") -> pb.ModelSpec:
    spec = pb.ModelSpec(name=ref.name, signature_name=signature)
    if ref.version is not None:
        spec.version.value = ref.version
    elif ref.label is not None:
        spec.version_label = ref.label
    return spec


def _answered(spec: pb.ModelSpec) -> ModelVersion | None:
    """Which version a reply is from; a server may leave it out."""
    return ModelVersion(spec.name, spec.version.value) if spec.name and spec.version.value > 0 else None


def _parsed(data: bytes, message: type[M], call: CallSite) -> M:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise call.bad_reply(f"{len(data)} bytes that are no {message.DESCRIPTOR.name}") from error

