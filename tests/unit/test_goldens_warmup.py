"""A file of warm-up requests, held against the signatures without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy import goldens
from deploy.errors import RepositoryError
from deploy.goldens import warmup
from deploy.goldens.recorded import ENGINE, Golden
from deploy.types import CLASSIFY_METHOD, Contract, Signature, TensorSpec
from deploy.wire import records, tensors
from deploy.wire import serving_pb2 as pb

X, Y = TensorSpec("x", "float32", (None, 2)), TensorSpec("y", "float32", (None,))
EXAMPLES = Signature("classes", (TensorSpec("inputs", "string", (None,)),), (Y,), CLASSIFY_METHOD)
CONTRACT = Contract((Signature("serving_default", (X,), (Y,)), EXAMPLES))


def log(array: object = None, signature: str = "", name: str = "x", answer: object = (1.0,)) -> pb.PredictionLog:
    made = pb.PredictionLog()
    made.predict_log.request.model_spec.signature_name = signature
    given = np.zeros((1, 2), np.float32) if array is None else np.asarray(array)
    made.predict_log.request.inputs[name].CopyFrom(tensors.encode(given))
    if answer is not None:
        made.predict_log.response.outputs["y"].CopyFrom(tensors.encode(np.float32(answer)))
    return made


def checked(directory: Path, *logs: pb.PredictionLog | bytes) -> warmup.Checked:
    (directory / "assets.extra").mkdir(exist_ok=True)
    records.write(directory / goldens.FILE, [m if isinstance(m, bytes) else m.SerializeToString() for m in logs])
    found = warmup.check(directory, CONTRACT)
    assert found is not None
    return found


def test_nothing_recorded(tmp_path: Path) -> None:
    assert warmup.check(tmp_path, CONTRACT) is None


def test_what_fits(tmp_path: Path) -> None:
    examples = pb.PredictionLog()
    examples.classify_log.request.model_spec.signature_name = "classes"
    examples.classify_log.request.input.example_list.examples.add()
    found = checked(tmp_path, log(), log(), examples)
    assert (found.ok, found.records, found.goldens, found.problems) == (True, 3, 2, ())
    assert found.kinds == {"predict_log": 2, "classify_log": 1}
    found.raise_if_refused()


def other(kind: str) -> pb.PredictionLog:
    made = pb.PredictionLog()
    getattr(made, kind).SetInParent()
    return made


@pytest.mark.parametrize(("wrong", "said"), [
    (lambda: b"\xff\xff", "are no PredictionLog"),
    (lambda: log(signature="nope"), "no signature 'nope' (there is classes, serving_default)"),
    (lambda: log(name="z"), "input 'x' of serving_default is missing"),
    (lambda: log(np.zeros((1, 2))), "input 'x' is float64, and the signature says float32"),
    (lambda: other("predict_streamed_log"), "is a predict_streamed_log, which servers don't replay"),
    (lambda: other("regress_log"), "a regress_log for serving_default, whose method is tensorflow/serving/predict"),
])
def test_what_a_server_refuses(tmp_path: Path, wrong: object, said: str) -> None:
    found = checked(tmp_path, log(), wrong())  # type: ignore[operator]
    assert not found.ok
    assert found.problems[0].record == 1
    assert said in found.problems[0].what
    with pytest.raises(RepositoryError, match="record 1"):
        found.raise_if_refused()


@pytest.mark.parametrize(("odd", "said"), [
    (lambda: log(answer=None), "no answer, so it warms up and proves nothing"),
    (lambda: log(np.zeros((1, 3), np.float32)), "has the shape [1, 3], and the signature says x: float32[?, 2]"),
    (lambda: log(answer=[[1.0]]), "output 'y' has the shape [1, 1]"),
    (pb.PredictionLog, "holds no request"),
])
def test_what_only_looks_odd(tmp_path: Path, odd: object, said: str) -> None:
    found = checked(tmp_path, odd())  # type: ignore[operator]
    assert found.ok
    assert said in found.problems[0].what


def test_more_than_a_server_takes(tmp_path: Path) -> None:
    data = log().SerializeToString()
    assert checked(tmp_path, *[data] * 1000).ok
    found = checked(tmp_path, *[data] * 1001)
    assert [str(problem) for problem in found.problems] == ["1001 records, and a server refuses more than 1000"]


def test_damaged_files(tmp_path: Path) -> None:
    checked(tmp_path, log(), log())
    path = tmp_path / goldens.FILE
    whole = path.read_bytes()
    for damaged, said in ((whole[:-3], "truncated"), (whole[:20] + b"\0" + whole[21:], "checksum differs"),
                          (b"no TFRecord at all", "checksum differs")):
        path.write_bytes(damaged)
        found = warmup.check(tmp_path, CONTRACT)
        assert found is not None
        assert not found.ok
        assert said in found.problems[-1].what


def test_whose_answer_it_is_stays_in_the_record(tmp_path: Path) -> None:
    golden = Golden("serving_default", {"x": np.zeros((1, 2), np.float32)}, {"y": np.float32([1])}, ENGINE)
    checked(tmp_path, goldens.encode(golden, "m"), log())
    assert [golden.origin for golden in goldens.read(tmp_path)] == [ENGINE, ""]
