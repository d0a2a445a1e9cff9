"""Specs, names, examples, tolerances, and what the gate says of graphs, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy import checks, goldens
from deploy.errors import ExportError, ParityError, SpecError
from deploy.export import (
    Exportable,
    Recording,
    TFLite,
    examples,
    export_model,
    failures,
    judging,
    options,
    parity,
    signatures,
    specs,
)
from deploy.goldens import SERVER, Golden
from deploy.goldens.tolerances import Tolerance
from deploy.savedmodel import flow, read
from deploy.types import Contract, Signature, TensorSpec
from deploy.wire import tensors
from deploy.wire.example_pb2 import Example
from deploy.wire.model_pb2 import MetaGraphDef, NodeDef
from tests.support import savedmodel as support
from tests.support.repository import savedmodel

X = TensorSpec("x", "float32", (None, 2))
DOUBLE = Contract((Signature("serving_default", (X,), (TensorSpec("y", "float32", (None, 2)),)),))


def test_importing_the_room_is_light() -> None:
    heavy = ("tensorflow", "keras", "grpc", "docker")
    code = f"import sys, deploy.export; sys.exit(any(m in sys.modules for m in {heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


class Duck:
    """What tf.TensorSpec and KerasTensor have."""

    def __init__(self, shape: object, dtype: object, name: str | None) -> None:
        self.shape, self.dtype, self.name = shape, dtype, name


@pytest.mark.parametrize(("described", "expected"), [
    ("pixels: float32[?, 784]", [TensorSpec("pixels", "float32", (None, 784))]),
    ("float32[?,784]", [TensorSpec("", "float32", (None, 784))]),
    ("int64[]", [TensorSpec("", "int64", ())]),
    ("x: float32, any shape", [TensorSpec("x", "float32", None)]),
    ("image/pixels: uint8[None, -1, 3]", [TensorSpec("image/pixels", "uint8", (None, None, 3))]),
    (str(X), [X]),
    (X, [X]),
    ((None, 784), [TensorSpec("", "float32", (None, 784))]),
    ([None, 784], [TensorSpec("", "float32", (None, 784))]),
    ({"a": (None, 2), "b": "int32[?]"}, [TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int32", (None,))]),
    (["float32[?]", (None, 2)], [TensorSpec("", "float32", (None,)), TensorSpec("", "float32", (None, 2))]),
    (Duck((None, 3), "float16", "rows:0"), [TensorSpec("rows", "float16", (None, 3))]),
    (np.zeros((2, 3), np.int8), [TensorSpec("", "int8", (2, 3))]),
])
def test_input_specs(described: object, expected: list[TensorSpec]) -> None:
    assert specs.parse(described) == tuple(expected)


@pytest.mark.parametrize("described", [
    "", "float33[?]", "float32[a]", "x: y: float32[?]]", 7, None, {"": (None,)}, {1: (None,)}, "resource[]",
    ["x: float32[?]", "x: float32[?]"], [True]])
def test_input_specs_that_mean_nothing(described: object) -> None:
    with pytest.raises(ExportError) as caught:
        specs.parse(described)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "kind", "made_up"), [
    ("dense", "Dense", True), ("dense_12", "Dense", True), ("batch_normalization_1", "BatchNormalization", True),
    ("probs", "Dense", False), ("dense_head", "Dense", False), ("keras_tensor_3", "InputLayer", True),
    ("input_layer", "InputLayer", True), ("pixels", "InputLayer", False), ("conv2d_3", "Conv2D", True),
    ("lstm", "LSTM", True), ("my_custom_layer", "MyCustomLayer", True),
])
def test_made_up_names(name: str, kind: str, made_up: bool) -> None:
    assert specs.automatic(name, kind) is made_up


def test_stable_names() -> None:
    assert specs.stable("output", [("dense_3", "Dense")]) == ("outputs",)
    assert specs.stable("output", [("dense_3", "Dense"), ("probs", "Dense")]) == ("output_0", "probs")
    assert specs.stable("input", [("x", "InputLayer"), ("x", "InputLayer")]) == ("input_0", "input_1")
    assert specs.positional("output", 2) == ("output_0", "output_1")
    notes = specs.replaced("output", [("dense_3", "Dense"), ("probs", "Dense")], ("output_0", "probs"))
    assert len(notes) == 1
    assert "dense_3" in notes[0]


def test_identifiers() -> None:
    assert options.identifiers(["x", "image/a", "image.a", "1st", "class", "_x"]) == {
        "x": "x", "image/a": "image_a", "image.a": "image_a_1", "1st": "arg_1st", "class": "arg_class", "_x": "arg_x"}


def test_generated_examples() -> None:
    made = examples.cases(None, DOUBLE, {}, {})
    assert [case.inputs["x"].shape for case in made] == [(1, 2), (2, 2)]
    assert examples.cases([], DOUBLE, {}, {}) == []


def test_examples_tell_what_inputs_look_like(tmp_path: Path) -> None:
    given = {"ids": np.zeros((2, 3), np.int32), "text": np.array(["a", "b"])}
    expected = (TensorSpec("ids", "int32", (None, 3)), TensorSpec("text", "string", (None,)))
    assert examples.seen(given) == expected
    np.savez(tmp_path / "given.npz", **given)
    assert examples.seen(tmp_path / "given.npz") == expected
    assert examples.seen([given]) is None
    assert examples.seen({"x": np.float32(1)}) is None


def test_examples_by_signature_in_a_file(tmp_path: Path) -> None:
    both = Contract((*DOUBLE.signatures, Signature("other", (X,), ())))
    np.savez(tmp_path / "given.npz", **{"other/x": np.ones((3, 2), "f4")})
    made = examples.cases(tmp_path / "given.npz", both, {}, {})
    assert [(case.signature, len(case.inputs["x"])) for case in made] == [
        ("other", 3), ("serving_default", 1), ("serving_default", 2)]


def test_an_input_may_be_called_like_a_signature() -> None:
    spec = TensorSpec("serving_default", "float32", (None,))
    contract = Contract((Signature("serving_default", (spec,), ()),))
    (case,) = examples.cases({"serving_default": np.ones(3, "f4")}, contract, {}, {})
    assert case.inputs["serving_default"].shape == (3,)


def test_features_are_serialized() -> None:
    features = (X, TensorSpec("n", "int32", (None,)), TensorSpec("s", "string", (None, 1)))
    made = signatures.serialized({"x": [[1, 2], [3, 4]], "n": [5, 6], "s": [["a"], [b"b"]]}, features)
    second = Example.FromString(made[1]).features.feature
    assert list(second["x"].float_list.value) == [3, 4]
    assert list(second["n"].int64_list.value) == [6]
    assert list(second["s"].bytes_list.value) == [b"b"]


def test_tolerances() -> None:
    assert parity.tolerances(None, DOUBLE) == {"default": parity.DEFAULT}
    assert parity.tolerances(0.5, DOUBLE) == {"default": Tolerance(0.5, 0.5)}
    assert parity.tolerances({"relative": 0.5}, DOUBLE) == {"default": Tolerance(0.0, 0.5)}
    assert parity.tolerances({"serving_default/y": 0}, DOUBLE)["serving_default/y"] == Tolerance()
    for wrong in ("small", -1, {"scale": 1}, True):
        with pytest.raises(ExportError):
            parity.tolerances(wrong, DOUBLE)


def test_the_comparison_says_how_close_it_was() -> None:
    cases = [Golden("serving_default", {}, {"y": np.array([1.0, 2.0], "f4")})]
    limits = {"default": Tolerance(0.1, 0), "serving_default/z": Tolerance()}
    same = parity.compare(cases, [{"y": np.array([1.0, 2.0], "f4")}], limits, ())
    assert (same.exact, same.worst, str(same)) == (True, 0.0, "1 call answered bit for bit")
    close = parity.compare(cases, [{"y": np.array([1.0, 2.0625], "f4")}], limits, ())
    assert (close.exact, close.worst) == (False, 0.0625)
    assert "within tolerance" in str(close)
    with pytest.raises(ParityError) as caught:
        parity.compare(cases, [{"y": np.array([1.0, 3.0], "f4")}], limits, ())
    assert len(caught.value.details["differences"]) == 1  # type: ignore[arg-type]
    assert parity.compare(cases, [{"y": np.array([1.0, 3.0], "f4")}], limits, ("serving_default",)).cases == 0
    with pytest.raises(ParityError, match="missing"):
        parity.compare(cases, [{}], limits, ())


def test_whose_answer_a_golden_is_is_kept_when_a_saved_model_is_exported_again(tmp_path: Path) -> None:
    x = np.float32([1.0])
    recorded = Golden("serving_default", {"x": x}, {"y": x}, SERVER)
    directory = savedmodel(tmp_path / "model")
    goldens.write(directory, [recorded], "m")

    class Repeats:
        def ask(self, _: Path, cases: list[Golden], __: object) -> object:
            return ([case.outputs for case in cases],) * 2

    proof = parity.prove(directory, read(directory), {}, Repeats(), Recording())  # type: ignore[arg-type]
    assert [case.origin for case in proof.cases] == [SERVER]


def graph_with_function(op: str, *, outer: bool, path: str = "/data/words.txt") -> MetaGraphDef:
    """A file op inside a function inside a function; its path stands there, or comes from the main graph."""
    meta = support.graph()
    meta.graph_def.versions.producer = 1882
    output = meta.signature_def["serving_default"].outputs["y"]
    output.name = "call:0"
    meta.graph_def.node.extend([node("x", "Placeholder"), node("path", "Const", value=path),
                                node("id", "Identity", "path"),
                                node("call", "StatefulPartitionedCall", "id", function="outer")])
    middle, inner = meta.graph_def.library.function.add(), meta.graph_def.library.function.add()
    middle.signature.name, inner.signature.name = "outer", "inner"
    middle.signature.input_arg.add(name="a")
    inner.signature.input_arg.add(name="b")
    middle.node_def.append(node("nested", "StatefulPartitionedCall", "a", function="inner"))
    inner.node_def.extend([node("own", "Const", value="/own.txt"),
                           node("reader", op, "b" if outer else "own:output:0")])
    return meta


def node(name: str, op: str, *inputs: str, function: str = "", value: str | None = None) -> NodeDef:
    made = NodeDef(name=name, op=op, input=inputs)
    if function:
        made.attr["f"].func.name = function
    if value is not None:
        made.attr["dtype"].type = 7
        made.attr["value"].tensor.CopyFrom(tensors.encode(np.array(value.encode(), object)))
    return made


@pytest.mark.parametrize(("outer", "file"), [(True, "/data/words.txt"), (False, "/own.txt")])
def test_files_outside_are_found_through_functions(tmp_path: Path, outer: bool, file: str) -> None:
    """Whatever is allowed: the file isn't there on a server."""
    meta = graph_with_function("ReadFile", outer=outer)
    gate = checks.gate(allow=dict.fromkeys(("asset-path", "file-read"), "a test"))
    with pytest.raises(ExportError, match=rf"{file}.*tf\.saved_model\.Asset") as caught:
        judging.accepted(gate, support.save(tmp_path / "1", meta))
    assert caught.value.details["files"] == [file]


def test_an_asset_is_no_file_outside(tmp_path: Path) -> None:
    meta = graph_with_function("ReadFile", outer=True, path="words.txt")
    meta.asset_file_def.add(filename="words.txt").tensor_info.name = "path:0"
    directory = support.save(tmp_path / "1", meta)
    (directory / "assets").mkdir()
    (directory / "assets" / "words.txt").write_text("a")
    gate = checks.gate(allow=dict.fromkeys(("asset-path", "file-read"), "a test"))
    info, _ = judging.accepted(gate, directory)
    assert info.assets == ("words.txt",)


@pytest.mark.parametrize("op", sorted(flow.PYTHON))
def test_python_is_found_in_functions(tmp_path: Path, op: str) -> None:
    gate = checks.gate(allow={"python-function": "a test"})
    with pytest.raises(ExportError, match=f"calls Python code.*{op}.*function inner.*reader"):
        judging.accepted(gate, support.save(tmp_path / "1", graph_with_function(op, outer=True)))


def test_keywords_are_the_fields_of_small_values(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"tolerance is given beside recording; say Recording\(tolerance=\.\.\.\)"):
        export_model(object(), tmp_path, "m", recording=Recording(), tolerance=1)
    with pytest.raises(SpecError, match=r"say tflite=TFLite"):
        export_model(object(), tmp_path, "m", tflite=TFLite("int8"), tflite_limit=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'input'"):
        export_model(object(), tmp_path, "m", input=1)  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []


def test_what_the_caller_says_wins_over_what_a_builder_says() -> None:
    built = Exportable("model", inputs="a", examples="b", output_names=["c"])
    assert Exportable(None, inputs="d").filled(built) == Exportable("model", inputs="d", examples="b",
                                                                    output_names=["c"])


def test_a_target_that_names_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "circle.py").write_text(f"def build():\n    return '{tmp_path}/circle.py:build'\n")
    with pytest.raises(ExportError, match="names another target, again and again"):
        export_model(f"{tmp_path}/circle.py:build", tmp_path / "models", "m")


def test_keras_on_another_backend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModuleNotFoundError("No module named 'torch'", name="torch")
    assert failures.user_error("importing m", error).hint == "see the traceback with --verbose"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert "set KERAS_BACKEND=tensorflow" in failures.user_error("importing m", error).hint


@pytest.mark.parametrize(("error", "words"), [
    (ValueError("Invalid filepath extension for saving. Please add"), "leave that line out"),
    (ValueError("The `save_format` argument is deprecated in Keras 3."), "leave that line out"),
    (ValueError("File format not supported: filepath=d. Keras 3 only ... legacy SavedModel"), "give the directory"),
    (AttributeError("module 'tensorflow' has no attribute 'Session'"), "tf.compat.v1"),
    (AttributeError("module 'tensorflow._api.v2.saved_model' has no attribute 'simple_save'"), "TensorFlow 1"),
    (AttributeError("module 'keras._tf_keras.keras' has no attribute 'experimental'"), "tf_keras"),
    (ValueError("The filename must end in `.weights.h5`. Received: x"), ".weights.h5"),
])
def test_code_of_older_releases_is_told_what_to_do(error: Exception, words: str) -> None:
    assert words in str(failures.user_error("building it", error).hint)


@pytest.mark.parametrize(("text", "said"), [
    ("Graph execution error:\n\nDetected at node map/Op defined at (most recent call last):\n  File \"a.py\"\n\n"
     "Unknown image file format. One of JPEG required.\n\t [[{{node map/Op}}]] [Op:__inference_f_6]",
     "Unknown image file format. One of JPEG required"),
    ("Graph execution error:\n\nDetected at node a defined at (most recent call last):\n<stack traces unavailable>\n"
     "Unknown image file format.\n\t [[{{node a}}]] [Op:__inference_signature_wrapper_3]", "Unknown image file format"),
    ("Graph execution error:\n\nDetected at node a defined at (most recent call last):\n\n2 root error(s) found.\n"
     "  (0) INVALID_ARGUMENT:  bad size\n\t [[{{node a}}]]\n  (1) INVALID_ARGUMENT:  bad size",
     "bad size"),
    ("{{function_node __wrapped__Gather_device_/job:a/task:0}} indices[0] = 5 is not in [0, 2) [Op:Gather]",
     "indices[0] = 5 is not in [0, 2)"),
    ("Exception encountered when calling Embedding.call().\n\n\x1b[1m{{function_node __x}} out of range\x1b[0m\n\n"
     "Arguments received by Embedding.call():\n  - inputs=1", "Embedding.call(): out of range"),
    ("in user code:\n\n    File \"a.py\", line 2\n\n    ValueError: of my own", "of my own"),
    ("", ""), ("first\nsecond", "first"),
])
def test_the_reason_in_a_sentence(text: str, said: str) -> None:
    message = failures.user_error("calling it", ValueError(text)).message
    assert message == f"calling it failed: {f'ValueError: {said}' if said else ''}"
