"""Signatures for Classify and Regress, and signatures behind the server's batching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy import checks, serving, spec
from deploy.checks import Severity, Target
from deploy.checks.targets import ServerBatching
from deploy.wire.model_pb2 import MetaGraphDef
from tests.support import checks as make
from tests.support import savedmodel as support
from tests.support.checks import SERVER, check, found

ERROR, WARNING = Severity.ERROR, Severity.WARNING
FLOAT, INT, STRING = 1, 3, 7
Shape = list[int] | None


def signature(inputs: dict[str, tuple[int, Shape]], outputs: dict[str, tuple[int, Shape]],
              method: str = "predict") -> MetaGraphDef:
    """serving_default, with tensors of a dtype and a shape; None: the rank isn't known."""
    meta = make.serves("Relu")
    made = meta.signature_def["serving_default"]
    made.Clear()
    made.method_name = f"tensorflow/serving/{method}"
    for place, tensors in ((made.inputs, inputs), (made.outputs, outputs)):
        for name, (dtype, shape) in tensors.items():
            info = place[name]
            info.dtype = dtype
            info.name = "serving_default_x:0" if place is made.inputs else "StatefulPartitionedCall:0"
            info.tensor_shape.unknown_rank = shape is None
            for size in shape or ():
                info.tensor_shape.dim.add(size=size)
    return meta


EXAMPLES = {"inputs": (STRING, [-1])}
SCORES, CLASSES = {"scores": (FLOAT, [-1, 3])}, {"classes": (STRING, [-1, 3])}


@pytest.mark.parametrize(("method", "inputs", "outputs"), [
    ("classify", EXAMPLES, SCORES), ("classify", EXAMPLES, CLASSES), ("classify", EXAMPLES, {**SCORES, **CLASSES}),
    ("classify", {"inputs": (STRING, None)}, {"scores": (FLOAT, None)}),
    ("regress", EXAMPLES, {"outputs": (FLOAT, [-1])}), ("regress", EXAMPLES, {"outputs": (FLOAT, [-1, 1])}),
    ("regress", EXAMPLES, {"outputs": (FLOAT, [-1, -1])}), ("regress", EXAMPLES, {"outputs": (FLOAT, None)})])
def test_signatures_that_can_be_answered(tmp_path: Path, method: str, inputs, outputs) -> None:
    assert check(tmp_path, signature(inputs, outputs, method)).findings == ()


@pytest.mark.parametrize(("method", "inputs", "outputs", "said"), [
    ("classify", {"x": (STRING, [-1])}, SCORES, "called 'inputs'; it has x"),
    ("classify", {**EXAMPLES, "x": (STRING, [-1])}, SCORES, "it has inputs, x"), ("classify", {}, SCORES, "has none"),
    ("classify", {"inputs": (FLOAT, [-1])}, SCORES, "a vector of strings"),
    ("classify", {"inputs": (STRING, [-1, 2])}, SCORES, "a vector of strings"),
    ("classify", EXAMPLES, {"y": (FLOAT, [-1, 3])}, "'classes', 'scores' or both; it has y"),
    ("classify", EXAMPLES, {**SCORES, **CLASSES, "y": (FLOAT, [-1])}, "'classes', 'scores' or both"),
    ("classify", EXAMPLES, {"scores": (FLOAT, [-1])}, "gives 'scores' as float32 [batch, classes]"),
    ("classify", EXAMPLES, {"scores": (2, [-1, 3])}, "gives 'scores' as float32"),
    ("classify", EXAMPLES, {"classes": (INT, [-1, 3])}, "gives 'classes' as string"),
    ("classify", EXAMPLES, {"classes": (STRING, [3])}, "gives 'classes' as string"),
    ("regress", EXAMPLES, {"y": (FLOAT, [-1])}, "called 'outputs'; it has y"), ("regress", EXAMPLES, {}, "has none"),
    ("regress", EXAMPLES, {"outputs": (FLOAT, [-1]), "y": (FLOAT, [-1])}, "one output"),
    ("regress", EXAMPLES, {"outputs": (FLOAT, [-1, 2])}, "[batch] or [batch, 1]"),
    ("regress", EXAMPLES, {"outputs": (FLOAT, [])}, "[batch] or [batch, 1]"),
    ("regress", EXAMPLES, {"outputs": (2, [-1])}, "gives 'outputs' as float32"),
    ("regress", {"inputs": (STRING, [])}, {"outputs": (FLOAT, [-1])}, "a vector of strings")])
def test_signatures_that_cant_be_answered(tmp_path: Path, method: str, inputs, outputs, said: str) -> None:
    report = check(tmp_path, signature(inputs, outputs, method))
    messages = [f.message for f in report.findings if f.rule == "method" and f.severity is ERROR]
    assert any(said in message for message in messages), report.findings


def test_other_signatures_can_still_be_asked_for_by_predict(tmp_path: Path) -> None:
    """TensorFlow Serving's own half_plus_two has one like that."""
    meta = make.serves("Relu")
    other = signature({"inputs": (FLOAT, [-1, 1])}, {"outputs": (FLOAT, [-1, 1])}, "regress")
    meta.signature_def["regress_x2_to_y3"].CopyFrom(other.signature_def["serving_default"])
    report = check(tmp_path, meta)
    assert found(report) == {"method": WARNING}
    assert "it is for regress, which takes a vector of strings" in report.findings[0].message


def test_methods_that_no_server_has(tmp_path: Path) -> None:
    meta = signature({"x": (FLOAT, [-1])}, {"y": (FLOAT, [-1])}, "rank")
    assert found(check(tmp_path, meta)) == {"method": ERROR}
    other = make.serves("Relu")
    other.signature_def["train"].CopyFrom(meta.signature_def["serving_default"])
    assert found(check(tmp_path, other)) == {"method": WARNING}


# ServerBatching

BATCHED = replace(SERVER, batching=ServerBatching())
X, Y = {"x": (FLOAT, [-1, 2])}, {"y": (FLOAT, [-1])}


@pytest.mark.parametrize(("inputs", "outputs", "expected"), [
    (X, Y, None), (X, {"y": (FLOAT, [])}, ERROR), (X, {**Y, "rows": (INT, [])}, ERROR), (X, {"y": (STRING, [])}, ERROR),
    ({**X, "factor": (FLOAT, [])}, Y, ERROR), ({**X, "name": (STRING, [])}, Y, ERROR), (X, {"y": (FLOAT, [3])}, ERROR),
    ({"x": (FLOAT, [1, 2])}, {"y": (FLOAT, [1])}, ERROR), ({**X, "z": (FLOAT, [4, 2])}, Y, ERROR), ({}, Y, ERROR),
    (X, {"y": (FLOAT, None)}, WARNING), ({"x": (FLOAT, None)}, Y, WARNING), ({"x": (FLOAT, [-1, -1])}, Y, WARNING)])
def test_what_can_be_batched(tmp_path: Path, inputs, outputs, expected: Severity | None) -> None:
    meta = signature(inputs, outputs)
    assert found(check(tmp_path, meta, BATCHED)).get("batching") is expected
    assert "batching" not in found(check(tmp_path, meta))


def test_batches_of_one_and_padding(tmp_path: Path) -> None:
    one = signature({"x": (FLOAT, [1, 2])}, {"y": (FLOAT, [1])})
    assert "batching" not in found(check(tmp_path, one, replace(SERVER, batching=ServerBatching(most=1))))
    lengths = signature({"x": (FLOAT, [-1, -1])}, Y)
    assert found(check(tmp_path, lengths, replace(SERVER, batching=ServerBatching(pads=True)))) == {}


def test_other_signatures_are_batched_too(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.signature_def["mean"].CopyFrom(signature(X, {"y": (FLOAT, [])}).signature_def["serving_default"])
    report = check(tmp_path, meta, BATCHED)
    assert [(f.rule, f.where.signature) for f in report.findings] == [("batching", "mean")]


def test_parameters_of_a_version(tmp_path: Path) -> None:
    meta = signature({"x": (FLOAT, [4, 2])}, {"y": (FLOAT, [4])})
    target = replace(SERVER, batching=ServerBatching(per_model=True))
    directory = support.save(tmp_path / "model", meta)
    parameters = directory / "batching_params.pbtxt"
    assert "batching" not in found(checks.check(directory, target))
    parameters.write_text("max_batch_size { value: 8 }")
    assert found(checks.check(directory, target))["batching"] is ERROR
    parameters.write_text("max_batch_size { value: 4 }")
    assert "batching" not in found(checks.check(directory, target))
    parameters.write_text("max_batch_size { valu: 4 }")
    report = checks.check(directory, target)
    assert any(f.rule == "batching" and "can't be read" in f.message for f in report.findings)
    with parameters.open("r+b") as file:
        file.truncate(50_000_000_000)
    assert found(checks.check(directory, target))["batching"] is ERROR


def test_a_specs_batching(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"

    def target(server: str) -> Target:
        path.write_text(f"repository: models\nmodels: [{{name: x, versions: 1}}]\nserver: {server}\n")
        return serving.target_of(spec.load_spec(path))

    assert target("{backend: embedded}").batching is None
    assert target("{batching: {}}").batching == ServerBatching()
    assert target("{batching: {max_batch_size: 4, pad_variable_length_inputs: true}}").batching == ServerBatching(
        False, 4, True)
    per_model = "{batching: {}, flags: {enable_per_model_batching_parameters: true}}"
    assert target(per_model).batching == ServerBatching(True)
    assert target("{flags: {enable_per_model_batching_parameters: true}}").batching is None
