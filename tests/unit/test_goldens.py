"""Examples, goldens, comparison of answers and of contracts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from deploy import goldens
from deploy.errors import BadRequest, RepositoryError
from deploy.goldens import examples
from deploy.goldens.compare import differences
from deploy.goldens.recorded import Golden
from deploy.goldens.tolerances import Tolerance
from deploy.regression import editing
from deploy.savedmodel import contract_differences
from deploy.types import CLASSIFY_METHOD, Contract, Signature, TensorSpec
from deploy.wire import example_pb2, records
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import SENDABLE
from deploy.wire.values import numpy_dtype

EXACT, LOOSE = {"default": Tolerance()}, {"default": Tolerance(absolute=1e-3, relative=1e-3)}


def signature(*inputs: TensorSpec, method: str = "tensorflow/serving/predict") -> Signature:
    return Signature("serving_default", inputs, (TensorSpec("y", "float32", (None,)),), method)


# examples


@pytest.mark.parametrize("dtype", SENDABLE)
def test_examples_have_the_signatures_dtype_and_shape(dtype: str) -> None:
    for shape, expected in ((None, (3,)), ((), ()), ((None,), (3,)), ((None, None, 4), (3, 1, 4)), ((2, 0), (2, 0))):
        x = examples.generate(signature(TensorSpec("x", dtype, shape)), batch=3)["x"]
        assert x.dtype == numpy_dtype(dtype)
        assert x.shape == expected
        if dtype == "string":
            assert all(isinstance(word, bytes) and word.isalpha() for word in x.ravel())
        elif dtype != "bool":
            assert ((np.abs(x) >= 0) & (x.real < 10)).all()


def test_examples_are_always_the_same() -> None:
    one = signature(TensorSpec("a", "float32", (None, 5)), TensorSpec("b", "string", (None,)))
    first, again, other = (examples.generate(one, seed=seed) for seed in (1, 1, 2))
    assert not differences("s", first, again, EXACT)
    assert differences("s", first, other, EXACT)
    assert ((first["a"] >= 0) & (first["a"] < 1)).all()


def test_examples_for_parsed_inputs() -> None:
    text = TensorSpec("inputs", "string", (None,), "inputs:0")
    empty = examples.generate(signature(text, method=CLASSIFY_METHOD))["inputs"]
    assert empty.tolist() == [b"", b""]
    wanted = {"inputs:0": (TensorSpec("age", "int64", (1,)), TensorSpec("size", "float32", (2, None)),
                           TensorSpec("word", "string", ()))}
    filled = examples.generate(signature(text), features=wanted)["inputs"]
    feature = example_pb2.Example.FromString(filled[0]).features.feature
    assert 0 <= feature["age"].int64_list.value[0] < 10
    assert len(feature["size"].float_list.value) == 2
    assert feature["word"].bytes_list.value[0].isalpha()
    assert filled[0] != filled[1]


def test_examples_of_impossible_dtypes_are_refused() -> None:
    with pytest.raises(BadRequest, match="resource"):
        examples.generate(signature(TensorSpec("x", "resource", ())))


# goldens


GOLDEN = Golden("scale", {"x": np.float32([[1, np.nan]]), "words": np.array([b"a", b"\xff"], object)},
                {"y": np.array([1.5], ml_dtypes.bfloat16), "n": np.int64(3)})


def test_goldens_come_back(tmp_path: Path) -> None:
    path = goldens.write(tmp_path, [GOLDEN, Golden("serving_default", {}, {"y": np.float32([1])})], "m")
    assert path == tmp_path / "assets.extra/tf_serving_warmup_requests"
    first, second = goldens.read(tmp_path)
    assert (first.signature, second.signature) == ("scale", "serving_default")
    assert not differences("s", GOLDEN.inputs, first.inputs, EXACT)
    assert not differences("s", GOLDEN.outputs, first.outputs, EXACT)
    log = pb.PredictionLog.FromString(next(records.read(path)))
    spec = log.predict_log.request.model_spec
    assert (spec.name, spec.signature_name, spec.WhichOneof("version_choice")) == ("m", "scale", None)


def test_goldens_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = goldens.write(tmp_path, [GOLDEN], "m").read_bytes()
    assert goldens.write(tmp_path, [GOLDEN], "m").read_bytes() == first


def test_a_version_without_goldens(tmp_path: Path) -> None:
    assert goldens.read(tmp_path) == []


def test_other_records_are_counted(tmp_path: Path) -> None:
    path = goldens.write(tmp_path, [GOLDEN], "m")
    unanswered, regression = pb.PredictionLog(), pb.PredictionLog()
    unanswered.predict_log.request.model_spec.name = "m"
    regression.regress_log.request.model_spec.name = "m"
    logs = [*records.read(path), unanswered.SerializeToString(), regression.SerializeToString()]
    records.write(path, logs)
    found = goldens.scan(tmp_path)
    assert (len(found.goldens), found.skipped) == (1, 2)


def test_damaged_records_are_named(tmp_path: Path) -> None:
    path = goldens.write(tmp_path, [GOLDEN], "m")
    records.write(path, [b"\xff\xff"])
    with pytest.raises(RepositoryError, match="record 0 is no PredictionLog"):
        goldens.read(tmp_path)
    path.write_bytes(b"garbage")
    with pytest.raises(RepositoryError, match="record 0"):
        goldens.read(tmp_path)


def test_more_goldens_than_the_server_takes(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="1001 golden cases"):
        goldens.write(tmp_path, [GOLDEN] * 1001, "m")


def test_an_answer_with_another_output_the_second_time_is_no_golden() -> None:
    answers = iter(({"y": np.float32([1])}, {"y": np.float32([1]), "z": np.float32([1])}))
    seen = editing.answered(lambda *_: next(answers), Golden("scale", {}), {})
    assert seen == "signature 'scale' answers differently from call to call: output 'z' is not expected"


# comparison


def differ(expected: object, actual: object, tolerances: Mapping[str, Tolerance] = EXACT) -> list[str]:
    return differences("s", {"y": np.asarray(expected)}, {"y": np.asarray(actual)}, tolerances)


@pytest.mark.parametrize("values", [
    np.float32([0, np.nan, np.inf, -np.inf]), np.array([1.5, np.nan], ml_dtypes.bfloat16), np.float16([1, np.inf]),
    np.complex64([1 + 2j, complex(np.nan, 1)]), np.array([b"a", b""], object), np.array([True]), np.uint64([2**64 - 1]),
    np.float64(3), np.empty((0, 3), np.float32)])
def test_equal_answers(values: np.ndarray) -> None:
    assert differ(values, values.copy()) == []


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64])
def test_within_and_beyond_the_tolerance(dtype: type) -> None:
    expected = np.array([[1, 2], [512, 0]], dtype)
    assert differ(expected, expected + np.array([[0, 0], [0.25, 0]], dtype), LOOSE) == []
    actual = expected + np.array([[0.125, 0], [4, 0]], dtype)
    message, = differ(expected, actual, LOOSE)
    assert "2 of 4 values differ" in message
    assert "worst at [1, 0]: expected (512+0j)" in message or "worst at [1, 0]: expected 512" in message


def test_infinities_and_nan_are_not_within_any_tolerance() -> None:
    endless = {"default": Tolerance(absolute=np.inf)}
    for expected, actual in ((np.inf, 1.0), (1.0, np.inf), (np.inf, -np.inf), (np.nan, 1.0), (1.0, np.nan)):
        message, = differ(np.float32([0, expected]), np.float32([0, actual]), endless)
        assert "at [1]: expected" in message


def test_everything_else_is_exact() -> None:
    loose = {"default": Tolerance(10, 10)}
    assert differ(np.int32([1, 2]), np.int32([1, 3]), loose) == [
        "output 'y': 1 of 2 values differ, int32[2]; first at [1]: expected 2, got 3"]
    assert "expected b'a', got b'b'" in differ(np.array([b"a"], object), np.array([b"b"], object), loose)[0]
    assert differ(np.array(True), np.array(False), loose)
    assert differ(np.float32([1]), np.nextafter(np.float32([1]), np.float32(2)))


def test_names_dtypes_and_shapes() -> None:
    one, two = np.float32([1]), np.float32([1, 2])
    assert differences("s", {"a": one, "b": one}, {"b": one, "c": one}, EXACT) == [
        "output 'a' is missing", "output 'c' is not expected"]
    assert differ(one, two) == ["output 'y': expected float32[1], got float32[2]"]
    assert differ(one, one.astype(np.float64)) == ["output 'y': expected float32[1], got float64[1]"]
    assert differ(np.float32(1), one) == ["output 'y': expected float32[], got float32[1]"]


# contracts


def test_contracts() -> None:
    x = TensorSpec("x", "float32", (None, 3), "a:0")
    one = Contract((signature(x),))
    assert contract_differences(one, Contract((signature(TensorSpec("x", "float32", (None, 3), "b:0")),))) == []
    other = Contract((signature(TensorSpec("x", "float64", (None, 3)), TensorSpec("z", "string", None),
                                method=CLASSIFY_METHOD), Signature("extra", (), ())))
    assert contract_differences(one, other) == [
        "signature 'extra' is not expected",
        "signature 'serving_default': method: expected tensorflow/serving/predict, got tensorflow/serving/classify",
        "signature 'serving_default': input 'z' is not expected",
        "signature 'serving_default': input: expected x: float32[?, 3], got x: float64[?, 3]",
    ]
    assert contract_differences(other, one)[0] == "signature 'extra' is missing"
