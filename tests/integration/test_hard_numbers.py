"""docs/exporting.md, "Numbers that are hard": each row is exported, served, and asked over both protocols."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import checks, goldens, smoke
from deploy.client import connect
from deploy.errors import ExportError
from deploy.export import Predict, export_model
from deploy.repository import Repository
from deploy.types import Endpoint, ModelVersion
from tests.support.modelserver import Process, server

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow")
from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_call_module  # noqa: E402
from tensorflow.python.framework import dtypes  # noqa: E402

DOCS = (Path(__file__).parents[2] / "docs/exporting.md").read_text().partition("## Numbers that are hard")[2]
ROWS = dict(re.findall(r"^\| ([^|]+?) \| (?:[^|]+) \| ([^|]+?) \|$", DOCS.partition("\n## ")[0], re.MULTILINE)[1:])
NO_JSON, EXACT, COLUMNS = "no: no JSON form", "yes", "yes, in columns (`inputs`)"
STABLEHLO = """module @m {
  func.func public @main(%arg0: tensor<2x3xf32>) -> tensor<2x3xf32> {
    %weights = stablehlo.constant dense<[1, 2, -3]> : tensor<3xi4>
    %wide = stablehlo.convert %weights : (tensor<3xi4>) -> tensor<3xf32>
    %rows = stablehlo.broadcast_in_dim %wide, dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
    %product = stablehlo.multiply %arg0, %rows : tensor<2x3xf32>
    return %product : tensor<2x3xf32>
  }
}"""
VERSION = ModelVersion("hard", 1)
WEIGHTS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def same(x: Any) -> Any:
    return tf.identity(x)


def through(dtype: Any, *between: Any) -> Callable[[Any], Any]:
    def cast(x: Any) -> Any:
        for each in (*between, dtype, *between, tf.float32):
            x = tf.cast(x, each)
        return x

    return cast


def dense(dtype: Any) -> Callable[[Any], Any]:
    weights = tf.Variable(tf.cast(WEIGHTS, dtype))
    return lambda x: tf.cast(tf.matmul(tf.cast(x, dtype), weights), tf.float32)


def quantized(x: Any) -> Any:
    return tf.quantization.dequantize(tf.quantization.quantize(x, -1.0, 1.0, tf.quint8)[0], -1.0, 1.0)


def stablehlo(x: Any) -> Any:
    return xla_call_module(args=[x], version=5, module=STABLEHLO, Sout=[[2, 3]], Tout=[tf.float32], platforms=["CPU"],
                           dim_args_spec=[])[0]


@dataclass(frozen=True)
class Case:
    """A signature, one request, and its answer (None: whatever the live function says)."""

    row: str
    spec: str
    function: Callable[[Any], Any]
    given: Any
    answer: Any = None


CASES = {
    "bfloat16": Case("`bfloat16` in and out", "bfloat16[?]", same, [1.5, np.nan, 3e38]),
    "float16": Case("`float16` in and out", "float16[?]", same, np.array([1.5, 6e-8, np.inf], "f2")),
    "bfloat16_weights": Case("`bfloat16` or `float16` weights, `float32` in and out", "float32[?, 3]",
                             dense(tf.bfloat16), [[1.0, 0.0, 2.0]], [[11.0, 14.0]]),
    "float16_weights": Case("`bfloat16` or `float16` weights, `float32` in and out", "float32[?, 3]",
                            dense(tf.float16), [[1.0, 0.0, 2.0]], [[11.0, 14.0]]),
    "float8_inside": Case("`float8` inside of the graph", "float32[?]", through(dtypes.float8_e4m3fn), [0.8, 0.6]),
    "int8": Case("`int8`, `uint8` in and out", "int8[?]", same, [-128, 127]),
    "uint8": Case("`int8`, `uint8` in and out", "uint8[?]", same, [0, 255]),
    "fake_quantized": Case("fake quantization, `quint8` inside of the graph", "float32[?]",
                           tf.quantization.fake_quant_with_min_max_args, [0.3, 7.0]),
    "quint8_inside": Case("fake quantization, `quint8` inside of the graph", "float32[?]", quantized, [0.3, 7.0]),
    "int4_inside": Case("`int4` inside of the graph, behind `int8`", "float32[?]", through(dtypes.int4, tf.int8),
                        [1.0, -3.0], [1.0, -3.0]),
    "stablehlo_int4": Case("StableHLO (XlaCallModule) with `int4` weights", "float32[2, 3]", stablehlo,
                           np.ones((2, 3)), [[1.0, 2.0, -3.0]] * 2),
    "complex64": Case("`complex64`, `complex128`", "complex64[?]", same, np.array([1 + 2j, complex(np.nan, 1)], "c8")),
    "complex_out": Case("`complex64`, `complex128`", "float64[?]", lambda x: tf.complex(x, -x), [1.0, 2.0]),
    "bytes": Case("strings that aren't UTF-8", "string[?]", lambda x: tf.strings.join([x, tf.constant(b"\xff\0")]),
                  np.array([b"\xff\xfe\0", b""], object), np.array([b"\xff\xfe\0\xff\0", b"\xff\0"], object)),
    "scalar": Case("scalars", "float32[]", lambda x: x * 2, np.float32(3), 6.0),
    "unknown_rank": Case("unknown rank", "float32, any shape", lambda x: x * 2, np.ones((2, 3, 1)),
                         np.full((2, 3, 1), 2)),
    "unknown_rank_0": Case("scalars", "float32, any shape", lambda x: x * 2, np.float32(3), 6.0),
    "no_rows": Case("no rows: shape [0]", "float32[?]", same, np.zeros(0)),
    "no_texts": Case("no rows: shape [0]", "string[?]", same, np.zeros(0, object)),
    "no_wide_rows": Case("no rows of several numbers: shape [0, 3]", "float32[?, 3]", same, np.zeros((0, 3))),
    "infinite": Case("NaN and infinities", "float32[?]", same, [np.nan, np.inf, -np.inf, -0.0]),
    "infinite64": Case("NaN and infinities", "float64[?]", same, [np.nan, np.inf, -np.inf, -0.0]),
    "divided": Case("NaN and infinities", "float32[?]", lambda x: x / tf.zeros_like(x), [1.0, 0.0, -1.0],
                    [np.inf, np.nan, -np.inf]),
    "denormal": Case("denormals, passed through", "float32[?]", same, np.array([1e-40, 1.5e-45], "f4")),
    "denormal64": Case("denormals, passed through", "float64[?]", same, np.array([5e-324, 2e-308])),
    "denormal_result": Case("denormals, computed", "float32[?]", lambda x: x * 1e-40, [1.0], [0.0]),
    "int64": Case("64-bit integers at their limits", "int64[?]", same, [2**63 - 1, -2**63]),
    "uint64": Case("64-bit integers at their limits", "uint64[?]", same, np.array([2**64 - 1], "u8")),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """All cases as signatures of one model."""
    root = tmp_path_factory.mktemp("hard")
    signatures = {name: Predict(tf.function(case.function, autograph=False), f"x: {case.spec}", ["y"])
                  for name, case in CASES.items()}
    exported = export_model(tf.Module(), root, "hard", signatures=signatures,
                            examples={name: {"x": case.given} for name, case in CASES.items()},
                            gate=checks.gate(allow={"default-signature": "each is asked by its name"}))
    assert exported.goldens == exported.parity.cases == len(CASES)
    assert exported.parity.exact
    return Repository(root)


@pytest.fixture(scope="module")
def running(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with server(tmp_path_factory.mktemp("served"), "--model_name=hard", "--xla_cpu_compilation_enabled",
                f"--model_base_path={repository.path(VERSION).parent}") as process:
        yield process


@pytest.fixture(scope="module")
def report(repository: Repository, running: Process) -> smoke.SmokeReport:
    return smoke.smoke_test(Endpoint("127.0.0.1", running.port, running.rest_port), ["hard"], repository)


@pytest.mark.parametrize("name", CASES)
def test_its_answer_is_recorded_and_given_again(repository: Repository, running: Process, name: str) -> None:
    """gRPC gives the golden's very bits."""
    case = CASES[name]
    (golden,) = (each for each in goldens.read(repository.path(VERSION)) if each.signature == name)
    if case.answer is not None:
        np.testing.assert_array_equal(golden.outputs["y"], case.answer)
    with connect(f"127.0.0.1:{running.port}") as client:
        answer = client.predict("hard", golden.inputs, signature=name).outputs["y"]
    assert answer.dtype == golden.outputs["y"].dtype
    assert answer.shape == golden.outputs["y"].shape
    assert answer.tolist() == golden.outputs["y"].tolist() if answer.dtype == object else \
        answer.tobytes() == golden.outputs["y"].tobytes()


@pytest.mark.parametrize("name", CASES)
def test_rest_does_what_the_table_says(report: smoke.SmokeReport, name: str) -> None:
    asked = {check.protocol: check for check in report.checks if check.name.endswith(f" of {name}")}
    assert asked["gRPC"].ok
    said, column, row = ROWS[CASES[name].row], asked["REST column"], asked["REST row"]
    assert (column.ok, row.ok) == {EXACT: (True, True), COLUMNS: (True, None)}.get(said, (None, None)), said
    if said == NO_JSON:
        assert "has no JSON form" in column.seen
    if said.startswith("no: no shape"):
        assert "JSON can't express its shape [0, 3]" in column.seen


def test_every_row_is_tried() -> None:
    refused = {row for row, said in ROWS.items() if said == "refused"}
    assert refused == {case.row for case in REFUSED.values()}
    assert ROWS.keys() - refused == {case.row for case in CASES.values()}


REFUSED = {
    "quint8_out": Case("`quint8`, `qint8`, `qint32` in or out", "float32[?]",
                       lambda x: tf.quantization.quantize(x, -1.0, 1.0, tf.quint8)[0], None,
                       "is a quint8 tensor, which no request can hold"),
    "qint8_in": Case("`quint8`, `qint8`, `qint32` in or out", "qint8[?]", same, None, "is no dtype that can be served"),
    "int4_in": Case("`int4`, `uint4`, `float8` in or out", "int4[?]", same, None, "is no dtype that can be served"),
    "float8_out": Case("`int4`, `uint4`, `float8` in or out", "float32[?]",
                       lambda x: tf.cast(x, dtypes.float8_e4m3fn), None,
                       "is a float8_e4m3fn tensor, which no request can hold"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_request_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    case = REFUSED[name]
    with pytest.raises(ExportError, match=re.escape(str(case.answer))) as caught:
        export_model(tf.function(case.function, autograph=False), tmp_path, "m", inputs=f"x: {case.spec}")
    assert "tf.bitcast" in str(caught.value.hint) or "possible: " in str(caught.value.hint)
