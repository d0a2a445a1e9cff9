"""What both protocols offer, each call from request to reply message. Counted in the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploy.modelserver import tensors
from deploy.modelserver.core import Core
from deploy.modelserver.examples import Examples
from deploy.modelserver.inline import Steps
from deploy.modelserver.lifecycle import Servable
from deploy.modelserver.metrics import Counted, Metrics
from deploy.modelserver.predict import Encode, predict
from deploy.modelserver.status import invalid
from deploy.wire import serving_pb2 as pb

ModelRequest = pb.PredictRequest | pb.ClassificationRequest | pb.RegressionRequest


@dataclass(frozen=True, slots=True)
class Calls:
    """The data plane. All methods raise StatusError, or their steps do."""

    core: Core
    examples: Examples
    metrics: Metrics
    encode: Encode = tensors.typed

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
