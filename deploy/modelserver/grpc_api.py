"""The gRPC API: each call, from the bytes of a request to those of its reply. Counted in the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from deploy.modelserver.core import Core, model_metadata, model_status
from deploy.modelserver.examples import Examples
from deploy.modelserver.execution import LONG, Steps
from deploy.modelserver.grpc_server import Handler
from deploy.modelserver.metrics import Counted, Metrics
from deploy.modelserver.predict import Encode, as_content, predict, typed
from deploy.modelserver.servable import Servable
from deploy.modelserver.status import Code, StatusError, invalid
from deploy.net.http2.messages import Message as Buffer
from deploy.wire import health_pb2, methods
from deploy.wire import serving_pb2 as pb
from deploy.wire.flags import Options

ModelRequest = pb.PredictRequest | pb.ClassificationRequest | pb.RegressionRequest
Request = TypeVar("Request", bound=Message)
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, slots=True)
class Calls:
    """The data plane. All methods raise StatusError, or their steps do."""

    core: Core
    examples: Examples
    metrics: Metrics
    encode: Encode = typed

    def predict(self, request: pb.PredictRequest) -> Steps[bytes]:
        with self._counted(request, "Predict"), self._servable(request) as servable:
            return (yield from predict(servable, request, self.encode, method_check=self.examples.method_check))

    def classify(self, request: pb.ClassificationRequest) -> pb.ClassificationResponse:
        with self._counted(request, "Classify"), self._servable(request) as servable:
            return self.examples.classify(servable, request)

    def regress(self, request: pb.RegressionRequest) -> pb.RegressionResponse:
        with self._counted(request, "Regress"), self._servable(request) as servable:
            return self.examples.regress(servable, request)

    def multi_inference(self, request: pb.MultiInferenceRequest) -> pb.MultiInferenceResponse:
        spec = request.tasks[0].model_spec if request.tasks else pb.ModelSpec()
        with self.core.servable(spec) as servable:  # not counted, as in the real server
            reply = self.examples.multi_inference(servable, request)
        given = request.input
        self.metrics.examples(spec.name, len(given.example_list.examples)
                              or len(given.example_list_with_context.examples))
        return reply

    def _counted(self, request: ModelRequest, api: str) -> Counted:
        return self.metrics.request(request.model_spec.name, api, "GRPC")

    def _servable(self, request: ModelRequest) -> Servable:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return self.core.servable(request.model_spec)


def reload(core: Core) -> Callable[[pb.ReloadConfigRequest], pb.ReloadConfigResponse]:
    """HandleReloadConfigRequest; the call it makes raises StatusError."""

    def call(request: pb.ReloadConfigRequest) -> pb.ReloadConfigResponse:
        if not request.config.HasField("model_config_list"):
            raise invalid("ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                          "currently supported")
        core.reload(request.config)
        reply = pb.ReloadConfigResponse()
        reply.status.SetInParent()
        for name in request.metric_names:
            reply.metric.add(name=name, int64_value_increase=0)
        return reply

    return call


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


def handlers(core: Core, metrics: Metrics, options: Options) -> dict[str, Handler]:
    """What answers each method, by its full path."""
    encode = as_content if options.enable_serialization_as_tensor_content else typed
    calls = Calls(core, Examples(options.enable_signature_method_name_check), metrics, encode)
    by_path = {
        methods.PREDICT: stepwise(calls.predict, pb.PredictRequest),
        methods.CLASSIFY: method(calls.classify, pb.ClassificationRequest),
        methods.REGRESS: method(calls.regress, pb.RegressionRequest),
        methods.MULTI_INFERENCE: method(calls.multi_inference, pb.MultiInferenceRequest),
        methods.GET_MODEL_METADATA: method(partial(model_metadata, core), pb.GetModelMetadataRequest),
        methods.GET_MODEL_STATUS: method(partial(model_status, core), pb.GetModelStatusRequest),
        methods.HANDLE_RELOAD_CONFIG_REQUEST: method(reload(core), pb.ReloadConfigRequest),
    }
    if options.enable_grpc_healthcheck_service:
        by_path[HEALTH_CHECK] = health
    return by_path
