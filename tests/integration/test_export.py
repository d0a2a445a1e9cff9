"""What can be exported: every kind of object, read back as data and asked in a fresh process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from deploy import (  # noqa: E402
    checks,
    engine,
    goldens,
    savedmodel,
)
from deploy.errors import ExportError  # noqa: E402
from deploy.export import (  # noqa: E402
    Classify,
    Exportable,
    Exported,
    Predict,
    Recording,
    Regress,
    export_model,
    load_target,
    parity,
    saving,
)
from deploy.goldens.compare import differences  # noqa: E402
from deploy.goldens.tolerances import Tolerance  # noqa: E402
from deploy.repository import Repository  # noqa: E402
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD  # noqa: E402
from deploy.wire import example_pb2  # noqa: E402

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


class Scale(keras.layers.Layer):
    def __init__(self, factor: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class Two(keras.Model):
    """Subclassed, with a dropout that has to be off, and two arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.dropout = keras.layers.Dense(2), keras.layers.Dropout(0.9)

    def call(self, left: Any, right: Any, training: bool = False) -> Any:
        return {"sum": self.dropout(self.dense(left + right), training=training)}


class One(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, rows: Any) -> Any:
        return self.dense(rows)


def names(exported: Exported, signature: str = "serving_default") -> tuple[list[str], list[str]]:
    found = exported.contract[signature]
    return [str(spec) for spec in found.inputs], [str(spec) for spec in found.outputs]


def replayed(exported: Exported) -> None:
    """The goldens inside the version are what it answers when loaded here."""
    recorded = goldens.read(exported.path)
    assert len(recorded) == exported.goldens > 0
    with engine.load(exported.path) as session:
        for golden in recorded:
            seen = session.call(session.contract[golden.signature], golden.inputs)
            assert differences(golden.signature, golden.outputs, seen, {"default": Tolerance(1e-5, 1e-4)}) == []


def test_sequential_with_named_layers(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,), name="pixels"), keras.layers.Dense(3, name="probs")])
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.zeros((2, 4)), np.zeros((2, 3)), verbose=0)
    steps: list[str] = []
    exported = export_model(model, tmp_path / "models", "digits", progress=steps.append)
    assert names(exported) == (["pixels: float32[?, 4]"], ["probs: float32[?, 3]"])
    assert (exported.model_version.version, exported.goldens, exported.parity.cases) == (1, 2, 2)
    assert exported.path == tmp_path / "models" / "digits" / "1"
    assert not exported.notes
    assert steps == ["loading the model", "tracing serving_default", "saving", "checking what was saved",
                     "asking the saved model in a fresh process", "publishing"]
    replayed(exported)
    stored = [name for name, _ in tf.train.list_variables(str(exported.path / "variables" / "variables"))]
    assert len([name for name in stored if name.startswith("variables/")]) == len(stored) - 1 == 2, "no optimizer slots"
    manifest = Repository(tmp_path / "models").verify(exported.model_version)
    assert manifest.goldens == 2
    assert manifest.producer["tensorflow"] == tf.__version__
    assert manifest.producer["keras"] == keras.__version__
    assert manifest.contract == exported.contract
    assert manifest.tolerances["default"]["absolute"] > 0


def test_copies_tell_their_bytes(tmp_path: Path) -> None:
    """Of a SavedModel that was there already twice: while it is copied, and while it is hashed and made durable."""
    module = tf.Module()
    module.table = tf.Variable(tf.ones([3_000_000]))
    tf.saved_model.save(module, str(tmp_path / "saved"), tf.function(
        lambda row: {"value": tf.gather(module.table, row)}, [tf.TensorSpec([None], tf.int32, name="row")]))
    steps: list[str] = []
    copies: dict[str, list[tuple[int, int]]] = {}
    exported = export_model(tmp_path / "saved", tmp_path / "models", "m", progress=steps.append,
                            copied=lambda *each: copies.setdefault(steps[-1], []).append(each))
    assert steps == [f"loading {tmp_path / 'saved'}", "checking it", "copying it",
                     "asking the saved model in a fresh process", "publishing"]
    assert list(copies) == ["copying it", "publishing"]
    for copied in copies.values():
        done, totals = [done for done, _ in copied], {total for _, total in copied}
        assert done == sorted(done) and totals == {done[-1]} and done[-1] > 12_000_000 > done[0]
    for path in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        assert (exported.path / path).read_bytes() == (tmp_path / "saved" / path).read_bytes()


def test_the_next_version_and_a_given_one(tmp_path: Path) -> None:
    double = tf.function(lambda x: {"y": x * 2}, [tf.TensorSpec([None], tf.float32, name="x")])
    assert export_model(double, tmp_path, "double").model_version.version == 1
    assert export_model(double, tmp_path, "double", 7).model_version.version == 7
    assert export_model(double, Repository(tmp_path), "double").model_version.version == 8


def test_names_do_not_depend_on_what_was_built_before(tmp_path: Path) -> None:
    def model() -> Any:
        a, b = keras.Input((3,)), keras.Input((3,), name="b")
        both = keras.layers.Concatenate()([a, b])
        return keras.Model([a, b], [keras.layers.Dense(1)(both), keras.layers.Dense(2, name="scores")(both)])

    first, second = export_model(model(), tmp_path, "m"), export_model(model(), tmp_path, "m")
    assert first.contract == second.contract
    assert names(first) == (["b: float32[?, 3]", "input_0: float32[?, 3]"],
                            ["output_0: float32[?, 1]", "scores: float32[?, 2]"])
    assert len(first.notes) == 2
    assert "name the layer" in first.notes[0]


def test_keras_dicts_keep_their_keys(tmp_path: Path) -> None:
    x, y = keras.Input((2,), name="x"), keras.Input((2,), name="y")
    model = keras.Model({"y": y, "x": x}, {"sum": x + y, "first": x * 1})
    exported = export_model(model, tmp_path, "m", examples={"x": np.ones((1, 2), "f4"), "y": np.full((1, 2), 5, "f4")})
    assert names(exported) == (["x: float32[?, 2]", "y: float32[?, 2]"], ["first: float32[?, 2]", "sum: float32[?, 2]"])
    golden = goldens.read(exported.path)[0]
    assert golden.outputs["sum"].tolist() == [[6, 6]]
    assert golden.outputs["first"].tolist() == [[1, 1]]


def test_names_and_dtypes_are_pinned_by_the_caller(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    exported = export_model(model, tmp_path, "m", inputs="image/pixels: uint8[?, 4]",
                            output_names=["class/probs: float64"])
    assert names(exported) == (["image/pixels: uint8[?, 4]"], ["class/probs: float64[?, 3]"])
    assert not any("input" in note for note in exported.notes)
    replayed(exported)
    renamed = export_model(model, tmp_path, "m", output_names={"outputs": "logits"})
    assert names(renamed)[1] == ["logits: float32[?, 3]"]


def test_subclassed_models(tmp_path: Path) -> None:
    model = Two()
    left = np.ones((2, 3), np.float32)
    model(left, left)
    exported = export_model(model, tmp_path, "two", examples={"left": left, "right": left})
    assert names(exported) == (["left: float32[?, 3]", "right: float32[?, 3]"], ["sum: float32[?, 2]"])
    replayed(exported)
    one = One()
    one.compile("adam", "mse")
    one.fit(left, left[:, :2], verbose=0)
    assert names(export_model(one, tmp_path, "one")) == (["rows: float32[?, 3]"], ["outputs: float32[?, 2]"])


@pytest.mark.parametrize("described", [(None, 3), "float32[?, 3]", {"rows": (None, 3)}, "rows: float32[?, 3]"])
def test_an_unbuilt_model_is_built_by_its_input_spec(tmp_path: Path, described: object) -> None:
    exported = export_model(One(), tmp_path, "one", inputs=described)
    assert names(exported) == (["rows: float32[?, 3]"], ["outputs: float32[?, 2]"])
    assert "not trained" in exported.notes[-1]
    sequential = keras.Sequential([Scale(), keras.layers.Dense(2, name="probs")])
    assert names(export_model(sequential, tmp_path, "s", inputs=described))[1] == ["probs: float32[?, 2]"]


def test_an_unbuilt_model_with_two_arguments(tmp_path: Path) -> None:
    exported = export_model(Two(), tmp_path, "two", inputs={"right": (None, 3), "left": (None, 3)})
    assert names(exported)[0] == ["left: float32[?, 3]", "right: float32[?, 3]"]


def test_integer_and_text_inputs_of_keras(tmp_path: Path) -> None:
    words = keras.Input((1,), dtype="string", name="words")
    ids = keras.layers.StringLookup(vocabulary=["the", "quick"], name="ids")(words)
    exported = export_model(keras.Model(words, ids), tmp_path, "lookup")
    assert names(exported) == (["words: string[?, 1]"], ["ids: int64[?, 1]"])
    assert exported.parity.exact
    tokens = keras.layers.TextVectorization(name="tokens")
    tokens.adapt(["the quick brown fox"])
    text = keras.Input((), dtype="string", name="text")
    vectorized = export_model(keras.Model(text, tokens(text)), tmp_path, "tokens")
    replayed(vectorized)
    ids = keras.Input((2,), dtype="int32", name="ids")
    embedded = keras.Model(ids, keras.layers.Embedding(10, 4, name="vectors")(ids))
    assert names(export_model(embedded, tmp_path, "e")) == (["ids: int32[?, 2]"], ["vectors: float32[?, 2, 4]"])


def test_half_precision_has_its_own_tolerance(tmp_path: Path) -> None:
    rows = keras.Input((8,), name="rows")
    model = keras.Model(rows, keras.layers.Dense(4, dtype="mixed_float16", name="halves")(rows))
    exported = export_model(model, tmp_path, "half")
    assert names(exported)[1] == ["halves: float16[?, 4]"]
    tolerances = Repository(tmp_path).manifest(exported.model_version).tolerances
    assert tolerances["serving_default/halves"]["relative"] > tolerances["default"]["relative"]


def test_keras_files(tmp_path: Path) -> None:
    rows = keras.Input((4,), name="rows")
    model = keras.Model(rows, keras.layers.Dense(2, name="probs")(Scale(5.0, name="scaled")(rows)))
    model.compile("adam", loss=lambda a, b: keras.ops.mean(a - b))
    for suffix in ("keras", "h5"):
        path = tmp_path / f"wine.{suffix}"
        model.save(path)
        exported = export_model(path, tmp_path / "models", custom_objects={"Scale": Scale})
        assert exported.model_version.name == "wine"
        assert names(exported) == (["rows: float32[?, 4]"], ["probs: float32[?, 2]"])
        golden = goldens.read(exported.path)[0]
        np.testing.assert_allclose(golden.outputs["probs"], model(golden.inputs["rows"]), rtol=1e-4, atol=1e-5)


def test_custom_objects_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_layers_of_export.py").write_text(
        "import keras\nclass Half(keras.layers.Layer):\n    def call(self, inputs):\n        return inputs / 2\n")
    monkeypatch.chdir(tmp_path)
    layer = load_target("my_layers_of_export.py:Half")
    keras.Sequential([keras.Input((2,)), layer]).save("halves.keras")
    exported = export_model("halves.keras", "models", custom_objects=["my_layers_of_export:Half"])
    assert exported.model_version.name == "halves"


def test_a_module_with_several_signatures(tmp_path: Path) -> None:
    exported = export_model(load_target(f"{EXAMPLES / 'temperature.py'}:build"), tmp_path, "temperature")
    assert sorted(exported.contract) == ["serving_default", "summary"]
    assert names(exported, "summary") == (["limit: float32[]", "series: float32[?, ?]"],
                                          ["above: int32[?]", "mean: float32[?]"])
    assert {golden.signature for golden in goldens.read(exported.path)} == {"serving_default", "summary"}


def test_an_only_function_or_call_is_the_default(tmp_path: Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x: Any) -> Any:
            return x + self.offset

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def other(self, x: Any) -> Any:
            return x, x * self.offset

    exported = export_model(Module(), tmp_path, "m")
    assert names(exported) == (["x: float32[?]"], ["outputs: float32[?]"])
    assert names(exported, "other")[1] == ["output_0: float32[?]", "output_1: float32[?]"]


def test_functions_bring_what_they_use(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, 2.0]), 0.0)

    def serve(rows: Any, kind: Any) -> Any:
        if tf.reduce_sum(rows) > 1e9:  # autograph
            rows = rows * 0.0
        return {"scores": model(rows) * table.lookup(kind)[:, None]}

    exported = export_model(serve, tmp_path, "f", inputs=["float32[?, 3]", "string[?]"])
    assert names(exported) == (["kind: string[?]", "rows: float32[?, 3]"], ["scores: float32[?, 2]"])
    replayed(exported)
    concrete = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([None], tf.int32, name="x"))
    assert names(export_model(concrete, tmp_path, "c")) == (["x: int32[?]"], ["outputs: int32[?]"])


def test_variables_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    one, two = tf.Variable([1.0, 1.0], name="w"), tf.Variable([5.0, 5.0], name="w")
    serve = tf.function(lambda x: {"one": x * one, "two": x * two}, [tf.TensorSpec([None, 2], tf.float32, name="x")])
    golden = goldens.read(export_model(serve, tmp_path, "m", examples={"x": [[1, 1]]}).path)[0]
    assert (golden.outputs["one"].tolist(), golden.outputs["two"].tolist()) == ([[1, 1]], [[5, 5]])


def test_an_input_that_is_not_used_stays(tmp_path: Path) -> None:
    exported = export_model(lambda x, mode: {"y": x}, tmp_path, "m", inputs=["float32[?]", "string[]"])
    assert names(exported)[0] == ["mode: string[]", "x: float32[?]"]


def test_every_dtype(tmp_path: Path) -> None:
    kinds = ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
             "uint32", "uint64", "bool", "complex64", "complex128", "string"]
    signatures = {kind: Predict(tf.identity, f"x: {kind}[?]", ["y"]) for kind in kinds}
    gate = checks.gate(allow={"default-signature": "each dtype has its own"})
    exported = export_model(tf.Module(), tmp_path, "dtypes", signatures=signatures, gate=gate)
    assert {s.name: s.outputs[0].dtype for s in exported.contract.values()} == {kind: kind for kind in kinds}
    assert exported.parity.exact
    assert any("no serving_default" in note and "each dtype has its own" in note for note in exported.notes)


def test_assets_travel_inside(tmp_path: Path) -> None:
    exported = export_model(load_target(f"{EXAMPLES / 'reviews.py'}:build"), tmp_path, "reviews")
    assert len(savedmodel.read(exported.path).assets) == 1
    golden = goldens.read(exported.path)[0]
    assert golden.outputs["ids"][:, 0].tolist() == [8, 7, 8]
    assert golden.outputs["score"][0] > golden.outputs["score"][1] > golden.outputs["score"][2] == 0


def test_classify_and_regress(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    tail = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    features = {"x": "float32[?, 4]"}
    exported = export_model(
        Exportable(model, signatures={"serving_default": model, "classify": Classify(model, features, ["a", "b", "c"]),
                                    "regress": Regress(tail, features), "unlabelled": Classify(model, features)}),
        tmp_path, "flowers", examples={"classify": {"x": np.eye(4, dtype="f4")}})
    contract = exported.contract
    assert contract["classify"].method_name == CLASSIFY_METHOD
    assert contract["regress"].method_name == REGRESS_METHOD
    assert names(exported, "classify") == (["inputs: string[?]"], ["classes: string[?, 3]", "scores: float32[?, 3]"])
    assert names(exported, "regress") == (["inputs: string[?]"], ["outputs: float32[?]"])
    by_signature = {golden.signature: golden for golden in goldens.read(exported.path)}
    assert by_signature["classify"].outputs["classes"].tolist() == [[b"a", b"b", b"c"]] * 4
    np.testing.assert_allclose(by_signature["classify"].outputs["scores"], model(np.eye(4)), rtol=1e-4)
    assert by_signature["unlabelled"].outputs["classes"][0].tolist() == [b"0", b"1", b"2"]
    serialized = by_signature["regress"].inputs["inputs"][0]
    assert len(example_pb2.Example.FromString(serialized).features.feature["x"].float_list.value) == 4
    assert set(tf.saved_model.load(str(exported.path)).signatures) == set(contract)


def test_an_existing_savedmodel_is_copied_as_it_is(tmp_path: Path, models: Path) -> None:
    exported = export_model(models / "mnist", tmp_path / "models", "mnist")
    assert exported.goldens == 2 * len(exported.contract)
    assert exported.parity.exact
    replayed(exported)
    for file in ("saved_model.pb", "variables/variables.index"):
        assert (exported.path / file).read_bytes() == (models / "mnist" / file).read_bytes()
    again = export_model(exported.path, tmp_path / "models")
    assert str(again.model_version) == "mnist/2"
    (one, *_), (other, *_) = goldens.read(again.path), goldens.read(exported.path)
    assert one.inputs["pixels"].tobytes() == other.inputs["pixels"].tobytes()
    tf1 = export_model(models / "classes", tmp_path / "models")
    assert tf1.contract["serving_default"].method_name == CLASSIFY_METHOD


def test_a_loaded_savedmodel_is_an_object_like_others(tmp_path: Path, models: Path) -> None:
    exported = export_model(tf.saved_model.load(str(models / "two_signatures")), tmp_path, "loaded")
    assert set(exported.contract) == {"serving_default", "scale"}


def test_examples_in_many_forms(tmp_path: Path) -> None:
    double = tf.function(lambda x: {"y": x * 2}, [tf.TensorSpec([None, 2], tf.float32, name="x")])
    np.savez(tmp_path / "given.npz", x=np.ones((3, 2), "f4"))
    (tmp_path / "given.json").write_text('[{"x": [1, 2]}, {"x": [3, 4]}]')
    forms = [({"x": [[1, 2]]}, [1]), ([[1, 2], [3, 4]], [2]), (np.ones((3, 2)), [3]),
             ([{"x": [1, 2]}, {"x": [3, 4]}], [2]),
             ([{"x": [[1, 2]]}, {"x": [[3, 4], [5, 6]]}], [1, 2]), (tmp_path / "given.npz", [3]),
             (tmp_path / "given.json", [2]),
             ({"serving_default": {"x": [[1, 2]]}}, [1]), (None, [1, 2])]
    for given, lengths in forms:
        exported = export_model(double, tmp_path / "models", "double", examples=given)
        assert [len(golden.inputs["x"]) for golden in goldens.read(exported.path)] == lengths
    none = export_model(double, tmp_path / "models", "double", examples=[])
    assert (none.goldens, str(none.parity)) == (0, "not checked")
    assert "nothing is proven" in none.notes[0]


def test_random_answers_are_told_and_not_recorded(tmp_path: Path) -> None:
    spec = [tf.TensorSpec([None], tf.float32, name="x")]
    noisy = tf.function(lambda x: {"y": x + tf.random.normal(tf.shape(x))}, spec)
    steady = tf.function(lambda x: {"y": x + tf.random.stateless_normal(tf.shape(x), [1, 2])}, spec)
    exported = export_model(tf.Module(), tmp_path, "noise", signatures={"serving_default": noisy, "steady": steady})
    assert exported.parity.unrepeatable == ("serving_default",)
    assert any("RandomStandardNormal" in note and "stateless" in note for note in exported.notes)
    assert {golden.signature for golden in goldens.read(exported.path)} == {"steady"}


def test_a_stated_tolerance_is_recorded(tmp_path: Path) -> None:
    double = tf.function(lambda x: {"y": x * 2}, [tf.TensorSpec([None], tf.float32, name="x")])
    exported = export_model(double, tmp_path, "double",
                            tolerance={"default": 0, "serving_default/y": Tolerance(0.5, 0.25)})
    assert exported.parity.exact
    assert Repository(tmp_path).manifest(exported.model_version).tolerances == {
        "default": {"absolute": 0.0, "relative": 0.0}, "serving_default/y": {"absolute": 0.5, "relative": 0.25}}


def test_arguments_win_over_the_builders(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1, name="y")])
    servable = Exportable(model, output_names=["first"], examples={"x": [[1, 2]]})
    assert names(export_model(servable, tmp_path, "m"))[1] == ["first: float32[?, 1]"]
    assert names(export_model(servable, tmp_path, "m", output_names=["second"]))[1] == ["second: float32[?, 1]"]


@pytest.mark.parametrize("example", ["digits", "wine", "ruler", "sensor", "reviews", "temperature"])
def test_the_documented_examples(tmp_path: Path, example: str) -> None:
    source = (EXAMPLES / f"{example}.py").read_text()
    assert f"tfs export docs/examples/{example}.py:build --name {example}\n" in source
    exported = export_model(f"{EXAMPLES / example}.py:build", tmp_path, example)
    replayed(exported)
    assert exported.parity.cases == exported.goldens


def test_nothing_is_said_beside_custom_objects_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their module imports TensorFlow first."""
    (tmp_path / "loud_layers.py").write_text(
        "import keras\nclass Same(keras.layers.Layer):\n    def call(self, inputs):\n        return inputs\n")
    monkeypatch.chdir(tmp_path)
    keras.Sequential([keras.Input((2,)), load_target("loud_layers.py:Same")]).save("same.keras")
    code = ("from deploy.export import export_model; "
            "export_model('same.keras', 'models', custom_objects=['loud_layers:Same'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert (done.stdout, done.stderr) == ("", "")


def test_nothing_is_said_on_stdout_or_stderr(tmp_path: Path) -> None:
    target = f"{EXAMPLES / 'temperature.py'}:build"
    code = ("import sys; from deploy.export import export_model; assert 'tensorflow' not in sys.modules;"
            f"e = export_model({target!r}, {str(tmp_path)!r}, 'quiet'); print(e.model_version)")
    env = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env,
                          cwd=Path(__file__).parents[2], check=True)
    assert done.stdout == "quiet/1\n"
    assert done.stderr == ""


def test_the_published_version_has_no_traces_of_this_machine(tmp_path: Path) -> None:
    exported = export_model(load_target(f"{EXAMPLES / 'reviews.py'}:build"), tmp_path, "reviews")
    data = (exported.path / "saved_model.pb").read_bytes()
    assert not re.search(re.escape(str(EXAMPLES)).encode(), data)


def test_the_graph_is_read_once(models: Path, tmp_path: Path) -> None:
    """The gate's look at it says what the SavedModel holds, too; publishing digests it, and a copy is a copy."""
    code = """
import os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(args) if event == "open" and isinstance(args[0], (str, bytes)) and
                 os.fsdecode(args[0]).endswith("saved_model.pb") else None)
import deploy, keras
if sys.argv[1] == "live":
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1)])
else:
    model = sys.argv[1]
deploy.export_model(model, "models", "m")
print(len(opened))
"""
    for model, opens in (("live", 2), (str(models / "classes"), 4)):
        done = subprocess.run([sys.executable, "-c", code, model], cwd=tmp_path, check=True, capture_output=True,
                              text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert int(done.stdout) == opens


def test_what_changes_after_the_gate_is_not_published(models: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    source = shutil.copytree(models / "mnist", tmp_path / "mnist")
    real_copy, real_prove = saving.copy, parity.prove

    def copy(origin: Path, target: Path, *progress: Any) -> None:
        real_copy(origin, target, *progress)
        (origin / "variables" / "extra").write_bytes(b"1")

    def prove(directory: Path, *rest: Any) -> Any:
        (directory / "saved_model.pb").touch()
        return real_prove(directory, *rest)

    with monkeypatch.context() as patch, pytest.raises(ExportError, match="was changed while it was exported"):
        patch.setattr(saving, "copy", copy)
        export_model(source, tmp_path / "models", "m")
    with monkeypatch.context() as patch, pytest.raises(ExportError, match="changed after it was checked"):
        patch.setattr(parity, "prove", prove)
        export_model(source, tmp_path / "models", "m")
    assert Repository(tmp_path / "models").models() == []


def test_small_values_say_the_same_as_keywords(tmp_path: Path) -> None:
    double = tf.function(lambda x: {"y": x * 2}, [tf.TensorSpec([None], tf.float32, name="x")])
    recording = Recording(examples={"x": np.ones(3, "f4")}, tolerance=0.5)
    exported = export_model(Exportable(double, output_names=["z"]), tmp_path, "m", recording=recording)
    again = export_model(double, tmp_path, "m", output_names=["z"], examples={"x": np.ones(3, "f4")}, tolerance=0.5)
    assert (exported.goldens, exported.contract, exported.parity) == (again.goldens, again.contract, again.parity)
    assert exported.parity.tolerances["default"].absolute == 0.5
