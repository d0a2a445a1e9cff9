"""TFLite versions on the embedded server: which signatures they have, how they run, how they fail."""

from __future__ import annotations

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from deploy.modelserver.config import single_model
from deploy.modelserver.echo import EchoLoader
from deploy.modelserver.loader import Model, TfliteLoader
from deploy.modelserver.server import ModelServer
from deploy.modelserver.status import Code, StatusError
from deploy.wire.flags import Options
from tests.support.tflite import FLOAT64, half_plus_two, signature

HALF = signature({"x": "x:0"}, {"y": "y:0"})


def load(directory: Path, content: bytes, pools: int = 1) -> Model:
    (directory / "model.tflite").write_bytes(content)
    return TfliteLoader(EchoLoader(), pools).load("m", 1, str(directory))


def described(model: Model) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    return {key: ({a: i.name for a, i in s.inputs.items()}, {a: i.name for a, i in s.outputs.items()})
            for key, s in model.signatures.items()}


@pytest.mark.parametrize(("content", "expected"), [
    (half_plus_two(), {"serving_default": ({"x": "x"}, {"y": "y"})}),
    (half_plus_two(x="in:0", y="out:0"), {"serving_default": ({"in": "in:0"}, {"out": "out:0"})}),
    (half_plus_two({"serving_default": HALF}), {"serving_default": ({"x": "x"}, {"y": "y"})}),
    (half_plus_two({"a": HALF, "b": signature({"input": "x"}, {"output": "y"})}),
     {"a": ({"x": "x"}, {"y": "y"}), "b": ({"input": "x"}, {"output": "y"})}),
    (half_plus_two({}), {"serving_default": ({"x": "x"}, {"y": "y"})}),
])
def test_signatures(tmp_path: Path, content: bytes, expected: object) -> None:
    assert described(load(tmp_path, content)) == expected


def test_an_invented_signature_has_the_shape_that_the_tensor_starts_with(tmp_path: Path) -> None:
    info = load(tmp_path, half_plus_two()).signatures["serving_default"].inputs["x"]
    assert ([d.size for d in info.tensor_shape.dim], info.dtype) == ([1, 1], 1)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 2, 1), (1,), ()])
def test_inputs_of_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    model = load(tmp_path, half_plus_two())
    for scale in (1, 2):
        x = np.full(shape, 4 * scale, np.float32)
        (y,) = model.run({"x": x}, ["y"])
        assert y.ravel().tolist() == (x / 2 + 2).ravel().tolist()


def test_a_refused_run_leaves_the_next_one_unharmed(tmp_path: Path) -> None:
    model = load(tmp_path, half_plus_two())
    with pytest.raises(StatusError, match="TFLite tensor x is float32, got float64"):
        model.run({"x": np.zeros(1)}, ["y"])
    with pytest.raises(StatusError, match="Unknown tensor 'z'"):
        model.run({"x": np.zeros(1, np.float32)}, ["z"])
    assert model.run({"x": np.ones(1, np.float32)}, ["y"])[0].tolist() == [2.5]


def test_runs_side_by_side_get_their_own_answers(tmp_path: Path) -> None:
    model = load(tmp_path, half_plus_two(), pools=2)

    def ask(size: int) -> bool:
        return bool((model.run({"x": np.full((size, 1), size, np.float32)}, ["y"])[0] == size / 2 + 2).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, [1, 2, 3, 4] * 25))


@pytest.mark.parametrize(("content", "code", "text"), [
    (b"", Code.INTERNAL, "Cannot build Interpreter from buffer."),
    (b"no such thing" * 9, Code.INTERNAL, "Cannot build Interpreter from buffer."),
    (half_plus_two()[:300], Code.INTERNAL, "Cannot build Interpreter from buffer."),
    (half_plus_two(custom="FlexErfinv"), Code.INTERNAL, "Failed to allocate tensors"),
    (half_plus_two(kind=FLOAT64), Code.INTERNAL, "Cannot build Interpreter from buffer."),
    (half_plus_two({"serving_default": signature({"x": "z:0"}, {"y": "y:0"})}), Code.INTERNAL,
     "Unknown tensor 'z:0'.\n\tSignature input x references an unknown tensor"),
])
def test_what_cant_be_loaded(tmp_path: Path, content: bytes, code: Code, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        load(tmp_path, content)
    assert (caught.value.code, caught.value.message[:len(text)]) == (code, text)


def test_versions_without_a_tflite_file_are_for_the_other_loader(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    model = TfliteLoader(EchoLoader()).load("m", 1, str(tmp_path))
    assert described(model)["serving_default"][0].keys() == {"x"}


def test_without_litert_the_versions_error_says_what_to_install(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(StatusError, match=r"pip install 'tfs-deploy\[tflite\]'") as caught:
        load(tmp_path, half_plus_two())
    assert caught.value.code is Code.UNIMPLEMENTED


def test_over_rest(tmp_path: Path) -> None:
    version = tmp_path / "1"
    version.mkdir()
    (version / "model.tflite").write_bytes(half_plus_two({"serving_default": HALF}))
    server = ModelServer(Options(max_num_load_retries=0), TfliteLoader(EchoLoader()), free_ports=True)
    try:
        server.load(single_model("m", str(tmp_path)))
        server.listen()
        assert server.rest is not None
        request = urllib.request.Request(f"http://127.0.0.1:{server.rest.port}/v1/models/m:predict",
                                         b'{"instances": [[1.0], [2.0]]}')
        with urllib.request.urlopen(request) as reply:
            assert json.loads(reply.read()) == {"predictions": [[2.5], [3.0]]}
    finally:
        server.stop()
