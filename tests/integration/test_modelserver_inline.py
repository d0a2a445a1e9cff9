"""What the event loops run by themselves, with models: only what takes as long for all values of a shape."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import grpc
import numpy as np
import pytest

from deploy.modelserver.loader import EngineLoader, EngineModel
from deploy.modelserver.server import ModelServer
from deploy.wire import config_pb2, methods, tensors
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Array
from deploy.wire.flags import Options
from tests.support.modelserver import publish

LOOPS = {"grpc", "rest"}
Ask = Callable[[int], object]
pytestmark = pytest.mark.tensorflow


@pytest.fixture
def ran_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads in which models are run."""
    names: list[str] = []
    run = EngineModel.run

    def noted(model: EngineModel, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        names.append(threading.current_thread().name)
        return run(model, feeds, fetches)

    monkeypatch.setattr(EngineModel, "run", noted)
    return names


@contextmanager
def asking(model: Path, base: Path, key: str, dtype: str) -> Iterator[tuple[Ask, Ask]]:
    """Asks a server of this model for one number, over REST and over gRPC."""
    publish(model, base, 1)
    config = config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name="m", base_path=str(base), model_platform="tensorflow")
    server = ModelServer(Options(port=1, rest_api_port=1), EngineLoader(), free_ports=True)
    server.load(config)
    server.listen()
    assert server.grpc and server.rest
    http = HTTPConnection("127.0.0.1", server.rest.port, timeout=30)
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc.ports[0]}")
    predict = channel.unary_unary(methods.PREDICT, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString)

    def over_rest(number: int) -> object:
        http.request("POST", "/v1/models/m:predict", json.dumps({"inputs": number}))
        return json.loads(http.getresponse().read())["outputs"]

    def over_grpc(number: int) -> object:
        request = pb.PredictRequest(model_spec=pb.ModelSpec(name="m"))
        request.inputs[key].CopyFrom(tensors.encode(np.asarray(number, dtype)))
        (reply,) = predict(request).outputs.values()
        return tensors.decode(reply).tolist()

    try:
        with closing(http), closing(channel):
            yield over_rest, over_grpc
    finally:
        server.stop()


def test_a_loop_over_an_input_is_never_run_by_an_event_loop(
        models: Path, tmp_path: Path, ran_in: list[str]) -> None:
    """However short all runs before were: the next value of the same shape may take for ever."""
    with asking(models / "loops", tmp_path / "m", "times", "int64") as asks:
        for ask in asks:
            for _ in range(100):
                assert ask(1) == 1
    assert len(ran_in) == 200 and not LOOPS.intersection(ran_in)


def test_measured_times_alone_would_let_it(
        models: Path, tmp_path: Path, ran_in: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is a list of ops."""
    monkeypatch.setattr("deploy.engine.session.is_static_cost", lambda ops: True)
    with asking(models / "loops", tmp_path / "m", "times", "int64") as asks:
        for ask in asks:
            for _ in range(200):
                assert ask(1) == 1
    assert LOOPS.intersection(ran_in)


def test_what_is_short_for_all_values_is_run_by_them(models: Path, tmp_path: Path, ran_in: list[str]) -> None:
    with asking(models / "half_plus_two", tmp_path / "m", "x", "float32") as asks:
        for ask in asks:
            for _ in range(200):
                assert ask(2) == 3
    assert LOOPS.issubset(ran_in)
