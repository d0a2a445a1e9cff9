"""The gRPC calls, handler for handler, on the echo model: any bytes get an answer or a status."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.modelserver.catalog import Id
from deploy.modelserver.core import Core, model_metadata, model_status
from deploy.modelserver.echo import ANY, EchoModel, signature_defs
from deploy.modelserver.examples import Examples
from deploy.modelserver.execution import LONG, InlinePolicy, finish
from deploy.modelserver.grpc_api import Calls, reload
from deploy.modelserver.lifecycle import Lifecycle, Retries
from deploy.modelserver.loader import Model
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.predict import predict
from deploy.modelserver.servable import Servable
from deploy.modelserver.source import Poller
from deploy.modelserver.status import StatusError
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, Contract, Signature, TensorSpec
from deploy.wire import config_pb2, tensors
from deploy.wire import serving_pb2 as pb

TEXTS = TensorSpec("inputs", "string", (None,))
CONTRACT = Contract((
    *ANY.signatures,
    Signature("classify", (TEXTS,), (TensorSpec("scores", "float32", (None, 2)),), CLASSIFY_METHOD),
    Signature("regress", (TEXTS,), (TensorSpec("outputs", "float32", (None,)),), REGRESS_METHOD),
    Signature("pair", (TensorSpec("a", "float32", None), TensorSpec("b", "float32", None)),
              (TensorSpec("a", "float32", None), TensorSpec("b", "float32", None))),
))
FUNCTIONS = {
    "classify": lambda inputs: {"scores": np.array([[len(t), 0] for t in inputs["inputs"].tolist()], np.float32)},
    "regress": lambda inputs: {"outputs": np.array([len(t) for t in inputs["inputs"].tolist()], np.float32)},
}


class _Loader:
    def load(self, name: str, version: int, path: str) -> Model:
        return EchoModel(signature_defs(CONTRACT), FUNCTIONS)


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    lifecycle = Lifecycle(_Loader(), retries=Retries(0))
    core = Core(lifecycle, Poller(lifecycle, 0, lambda models: {m.name: {1: "", 2: ""} for m in models}))
    config = config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(name="m", base_path="/m", model_platform="tensorflow")
    model.model_version_policy.all.SetInParent()
    core.reload(config)
    lifecycle.wait(lambda: len([s for s in lifecycle.states("m") if s.serving]) == 2)
    yield core
    core.close()


@pytest.fixture(scope="module")
def calls(core: Core) -> Calls:
    return Calls(core, Examples(), Metrics())


def request(signature: str = "", filters: tuple[str, ...] = (), **inputs: object) -> pb.PredictRequest:
    made = pb.PredictRequest(model_spec=pb.ModelSpec(name="m", signature_name=signature), output_filter=filters)
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(tensors.encode(np.asarray(value, np.float32)))
    return made


def answered(reply: bytes) -> pb.PredictResponse:
    return pb.PredictResponse.FromString(reply)


def refused(function: object, *arguments: object) -> str:
    with pytest.raises(StatusError) as caught:
        function(*arguments)  # type: ignore[operator]
    return str(caught.value)


def predicted(calls: Calls, asked: pb.PredictRequest) -> bytes:
    return finish(calls.predict(asked))


def test_predict(calls: Calls) -> None:
    reply = answered(finish(calls.predict(request("pair", a=[1], b=2))))
    assert {name: tensors.decode(t).tolist() for name, t in reply.outputs.items()} == {"a": [1.0], "b": 2.0}
    assert (reply.model_spec.name, reply.model_spec.version.value, reply.model_spec.signature_name) == ("m", 2, "pair")
    assert list(answered(finish(calls.predict(request("pair", ("b",), a=1, b=2)))).outputs) == ["b"]


@pytest.mark.parametrize(("asked", "text"), [
    (request("absent", x=1), 'FAILED_PRECONDITION: Serving signature key "absent" not found.'),
    (request("pair", a=1), "INVALID_ARGUMENT: input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent "
                           "extra: {}. Missing but required: {b}."),
    (request("pair", a=1, c=1), "INVALID_ARGUMENT: Signature input alias: b(feed name: pair_in_b:0) not found in "
                                "request and no default value provided. Inputs expected to be in the request {a,c}, or "
                                "default input alias set: "),
    (request("pair", ("a", "a"), a=1, b=1), "INVALID_ARGUMENT: duplicate output tensor alias: a"),
    (request("pair", ("c",), a=1, b=1), "INVALID_ARGUMENT: output tensor alias not found in signature: c Outputs "
                                        "expected to be in the set {a,b}."),
    (pb.PredictRequest(), "INVALID_ARGUMENT: Missing ModelSpec"),
    (pb.PredictRequest(model_spec=pb.ModelSpec()), "INVALID_ARGUMENT: ModelSpec has no name specified."),
    (pb.PredictRequest(model_spec=pb.ModelSpec(name="n")), "NOT_FOUND: Servable not found for request: Latest(n)"),
    (pb.PredictRequest(model_spec=pb.ModelSpec(name="n", version_label="l")),
     "INVALID_ARGUMENT: Unrecognized servable version label: l"),
])
def test_refused_predictions(calls: Calls, asked: pb.PredictRequest, text: str) -> None:
    assert refused(predicted, calls, asked) == text


@pytest.mark.parametrize("damage", [
    {"tensor_content": b"123"}, {"dtype": 0}, {"dtype": 99}, {"tensor_shape": {"dim": [{"size": 2**62}]}},
    {"tensor_shape": {"dim": [{"size": -1}]}}, {"tensor_shape": {"dim": [{"size": 1}] * 300}},
    {"tensor_shape": {"unknown_rank": True}},
])
def test_tensors_that_are_none(calls: Calls, damage: dict[str, object]) -> None:
    asked = request(x=[1, 2])
    field, = damage
    asked.inputs["x"].ClearField(field)
    asked.inputs["x"].MergeFrom(type(asked.inputs["x"])(**damage))
    assert refused(predicted, calls, asked) == "INVALID_ARGUMENT: tensor parsing error: x"


def test_examples(calls: Calls) -> None:
    spec = pb.ModelSpec(name="m", signature_name="classify")
    asked = pb.ClassificationRequest(model_spec=spec)
    assert refused(calls.classify, asked) == "INVALID_ARGUMENT: Input is empty."
    asked.input.example_list.examples.add()
    assert [c.score for c in calls.classify(asked).result.classifications[0].classes] == [0.0, 0.0]
    regress = pb.RegressionRequest(model_spec=spec, input=asked.input)
    assert refused(calls.regress, regress).startswith("INVALID_ARGUMENT: No regression outputs found in SignatureDef: ")
    regress.model_spec.signature_name = "regress"
    assert [r.value for r in calls.regress(regress).result.regressions] == [0.0]


def test_multi_inference(calls: Calls) -> None:
    asked = pb.MultiInferenceRequest()
    assert refused(calls.multi_inference, asked) == "INVALID_ARGUMENT: ModelSpec has no name specified."
    asked.input.example_list.examples.add()
    for method, signature in ((CLASSIFY_METHOD, "classify"), (REGRESS_METHOD, "regress")):
        asked.tasks.add(method_name=method, model_spec=pb.ModelSpec(name="m", signature_name=signature))
    assert refused(calls.multi_inference, asked) == ("INVALID_ARGUMENT: Input tensor must be the same for all "
                                                     "Signatures.")
    asked.tasks[1].model_spec.signature_name = "classify"
    assert refused(calls.multi_inference, asked) == "INVALID_ARGUMENT: Duplicate evaluation of signature: classify"
    del asked.tasks[1]
    assert [r.model_spec.signature_name for r in calls.multi_inference(asked).results] == ["classify"]
    page = calls.metrics.page().decode()
    assert ':tensorflow:serving:request_example_count_total{model="m"} 1\n' in page
    assert ':tensorflow:serving:request_example_counts_count{model="m"} 1\n' in page


def test_a_prediction_gives_its_version_back_and_is_counted_once_by_whoever_ends_it(core: Core) -> None:
    spec, counted = pb.ModelSpec(name="m"), 'request_count{model_name="m",status="'
    with core.servable(spec) as servable:
        for end in (finish, lambda steps: steps.close()):
            calls = Calls(core, Examples(), Metrics())
            steps = calls.predict(request(x=1))
            assert next(steps) is not LONG
            assert (servable.holders, counted in calls.metrics.page().decode()) == (2, False)
            end(steps)
            assert servable.holders == 1
            assert (f'{counted}OK"}} 1' in calls.metrics.page().decode()) is (end is finish)
        assert 'status="INTERNAL"' not in calls.metrics.page().decode()


def test_the_work_is_known_before_a_tensor_is_made(calls: Calls) -> None:
    """A message of a few bytes may claim a million elements."""
    asked = request(x=[1])
    asked.inputs["x"].tensor_shape.dim[0].size = 1 << 20
    steps = calls.predict(asked)
    run = next(steps)
    assert run is not LONG and run.shapes == ((1 << 20,),) and not InlinePolicy().may_run(run)
    steps.close()


def test_method_check() -> None:
    signatures = signature_defs(ANY)
    signatures["serving_default"].method_name = ""
    servable = Servable(Id("m", 1), EchoModel(signatures))
    assert answered(finish(predict(servable, request(x=1)))).outputs
    assert refused(lambda: finish(predict(servable, request(x=1), method_check=True))).startswith(
        "INTERNAL: Expected prediction signature method_name to be one of {tensorflow/serving/predict, ")


def test_status_and_metadata(core: Core) -> None:
    asked = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="m", version_label="any"))
    assert [s.version for s in model_status(core, asked).model_version_status] == [2, 1]
    asked.model_spec.version.value = 3
    assert refused(model_status, core, asked) == "NOT_FOUND: Could not find version 3 of model m"
    metadata = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="m"), metadata_field=["signature_def"])
    reply = model_metadata(core, metadata)
    assert reply.model_spec.version.value == 2
    assert set(pb.SignatureDefMap.FromString(reply.metadata["signature_def"].value).signature_def) == set(CONTRACT)


def test_reload_needs_a_list(core: Core) -> None:
    assert "Only ModelConfigList is currently supported" in refused(reload(core), pb.ReloadConfigRequest())


CALLS = st.sampled_from([("predict", pb.PredictRequest), ("classify", pb.ClassificationRequest),
                         ("regress", pb.RegressionRequest), ("multi_inference", pb.MultiInferenceRequest)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CALLS, st.data())
def test_damaged_messages(calls: Calls, call: tuple[str, type], data: st.DataObject) -> None:
    name, kind = call
    good = bytearray(request("pair", a=[1, 2], b=[3]).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = kind.FromString(bytes(good))
    except Exception:
        return
    try:
        predicted(calls, message) if name == "predict" else getattr(calls, name)(message)
    except StatusError as error:
        assert error.code.name in {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
