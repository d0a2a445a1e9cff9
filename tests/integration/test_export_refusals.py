"""What can't be served is refused with a sentence that says what to do, and nothing is published."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from deploy.errors import DeployError, ExportError, ParityError, RepositoryError, SpecError, VersionExists  # noqa: E402
from deploy.export import (  # noqa: E402
    Classify,
    Exportable,
    Predict,
    Regress,
    export_model,
    graph_size,
    load_target,
    saving,
)
from deploy.repository import Repository  # noqa: E402

X = tf.TensorSpec([None], tf.float32, name="x")


def refused(tmp_path: Path, model: object, *words: str, kind: type[DeployError] = ExportError,
            **arguments: Any) -> DeployError:
    """`model` is refused by one sentence and a hint with these words, and the repository stays as it was."""
    root = tmp_path / "models"
    with pytest.raises(DeployError) as caught:
        export_model(model, root, "refused", **arguments)
    error = caught.value
    assert isinstance(error, kind)
    for word in words:
        assert word in str(error), str(error)
    assert error.hint
    assert not root.exists() or Repository(root).models() == []
    assert [path.name for path in root.glob("*") if path.name != ".tfs"] == []
    return error


def test_an_unbuilt_model_without_input_spec(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Dense(2)])
    refused(tmp_path, model, "isn't built", "inputs=", "--input")


def test_input_specs_that_do_not_fit(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,), name="rows"), keras.layers.Dense(2)])
    refused(tmp_path, model, "rows: float32[?, 4]", "float32[?, 5]", inputs="float32[?, 5]")
    refused(tmp_path, model, "1 inputs", "2 are given", inputs=["float32[?, 4]", "float32[?, 4]"])
    refused(tmp_path, model, "no dtype", inputs="flaot32[?, 4]")
    unbuilt = keras.Sequential([keras.layers.Conv2D(2, 3)])
    error = refused(tmp_path, unbuilt, "building the model", "float32[?, 4]", inputs="float32[?, 4]")
    assert "traceback" in error.details


@pytest.mark.parametrize(("kind", "way"), [("Ragged", "tf.RaggedTensor.from_row_lengths"),
                                           ("Sparse", "tf.sparse.from_dense")])
def test_ragged_and_sparse_inputs_are_never_taken_as_dense(tmp_path: Path, kind: str, way: str) -> None:
    """Wherever they are described, and in the words of their kind."""
    spec = getattr(tf, f"{kind}TensorSpec")([None, 4], tf.float32)
    flags = {kind.lower(): True}
    try:
        tensor = keras.Input((4,), name="x", **flags)
    except TypeError:  # Keras 3.9 has no ragged inputs
        pytest.skip(f"this Keras has no {kind.lower()} inputs")
    function = tf.function(lambda x: {"y": x})
    for inputs in (spec, {"x": spec}, [spec], tensor):
        refused(tmp_path, function, "no dense tensor", way, inputs=inputs)
    refused(tmp_path, tf.Module(), "no dense tensor", way,
            signatures={"serving_default": Predict(lambda x: {"y": x}, inputs={"x": spec})})
    refused(tmp_path, keras.Model(tensor, keras.layers.Dense(2)(tensor)), "input 'x' of the model is sparse or ragged",
            way)


def test_ragged_and_sparse_examples_say_how_they_become_dense(tmp_path: Path) -> None:
    function = tf.function(lambda x: {"y": x}, [tf.TensorSpec([None, None], tf.float32, name="x")])
    refused(tmp_path, function, "input 'x' is a RaggedTensor", "to_tensor()",
            examples={"x": tf.ragged.constant([[1.0, 2.0], [3.0]])})
    refused(tmp_path, function, "input 'x' is a SparseTensor", "tf.sparse.to_dense",
            examples={"x": tf.sparse.from_dense([[1.0, 0.0]])})


def test_signatures_that_are_no_functions_of_tensors(tmp_path: Path) -> None:
    module = tf.Module()
    refused(tmp_path, module, "no tf.function", "input_signature")
    refused(tmp_path, module, "not a function of tensors", "str", signatures={"serving_default": "predict"})
    refused(tmp_path, module, "doesn't say what it takes", "inputs=", signatures={"serving_default": lambda x: x})
    refused(tmp_path, module, "empty", signatures={})
    refused(tmp_path, module, "can't be a signature's name", signatures={"": tf.function(lambda x: x, [X])})
    ragged = tf.function(lambda x: x.to_tensor(), [tf.RaggedTensorSpec([None, None], tf.float32)])
    refused(tmp_path, ragged, "no dense tensor", "from_row_lengths")
    refused(tmp_path, tf.function(lambda x: x["a"], [{"a": tf.RaggedTensorSpec([None, None], tf.float32)}]),
            "argument x['a']", "no dense tensor", "from_row_lengths")
    refused(tmp_path, tf.function(tf.sparse.to_dense, [tf.SparseTensorSpec([None, 2], tf.float32)]), "SparseTensorSpec",
            "tf.sparse.from_dense")
    unspecified = tf.Module()
    unspecified.serve = tf.function(lambda x: x)
    refused(tmp_path, unspecified, "says what it takes", "serve")
    undecided = tf.Module()
    undecided.a, undecided.b = tf.function(lambda x: x, [X]), tf.function(lambda x: x, [X])
    refused(tmp_path, undecided, "none is the default", "serving_default")
    refused(tmp_path, keras.layers.Dense, "the class Dense")
    refused(tmp_path, None, "None can't be exported")
    refused(tmp_path, {"a": 1}, "signatures=")
    refused(tmp_path, 7, "a int can't be exported")


def python_function(x: Any) -> Any:
    return tf.py_function(lambda v: v * 2, [x], tf.float32)


def numpy_function(x: Any) -> Any:
    return tf.numpy_function(lambda v: v * np.float32(2), [x], tf.float32)


def nested_function(x: Any) -> Any:
    return tf.map_fn(python_function, x)


@pytest.mark.parametrize("function", [python_function, numpy_function, nested_function])
def test_python_in_the_graph(tmp_path: Path, function: Callable[[Any], Any]) -> None:
    def serve(x: Any) -> Any:
        return {"y": tf.ensure_shape(function(x), [None])}

    refused(tmp_path, tf.function(serve, [X]), "calls Python code", "TensorFlow ops")


def test_a_vocabulary_outside_the_model(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    spec = tf.TensorSpec([None], tf.string, name="words")

    def read(names: Any) -> Any:
        text = tf.strings.split(tf.io.read_file(str(words)), "\n")
        return {"known": tf.reduce_any(names[:, None] == text[None, :], axis=1)}

    error = refused(tmp_path, tf.function(read, [spec]), "words.txt", "tf.saved_model.Asset")
    assert error.details["files"] == [str(words)]

    def table(names: Any) -> Any:
        handle = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="of_export_tests")
        filled = tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=handle, filename=str(words), key_index=-2, value_index=-1)
        with tf.control_dependencies([filled]):
            none = tf.constant(-1, tf.int64)
            found = tf.raw_ops.LookupTableFindV2(table_handle=handle, keys=names, default_value=none)
        return {"ids": found}

    refused(tmp_path, tf.function(table, [spec]), "words.txt", "outside")

    module = tf.Module()
    module.path = tf.constant(str(words))
    module.serve = tf.function(lambda words: {"size": tf.strings.length(tf.io.read_file(module.path)) +
                                              tf.zeros_like(tf.strings.length(words))}, [spec])
    refused(tmp_path, module, "words.txt", "outside")

    kept = tf.Module()  # a plain path is fine where TensorFlow makes an asset of it
    kept.table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(str(words), tf.string, 0, tf.int64, -1), 1)
    kept.serve = tf.function(lambda words: {"ids": kept.table.lookup(words)}, [spec])
    exported = export_model(kept, tmp_path / "models", "kept")
    assert (exported.path / "assets" / "words.txt").read_text() == "a\nb\n"


@pytest.mark.parametrize(("result", "words"), [
    (lambda x: None, "None"), (lambda x: {"y": "text"}, "'text', a str"), (lambda x: {"y": {"z": x}}, "flatten"),
    (lambda x: {"y": [x, x]}, "flatten"), (lambda x: {"y": object()}, "a object"), (lambda x: {"y": 3}, "tf.constant"),
    (lambda x: {}, "returns nothing"), (lambda x: {1: x}, "key 1"),
    (lambda x: tf.RaggedTensor.from_tensor(x[None]), "to_tensor"), (tf.sparse.from_dense, "tf.sparse.to_dense"),
])
def test_outputs_that_are_no_tensors(tmp_path: Path, result: Callable[[Any], Any], words: str) -> None:
    refused(tmp_path, Predict(result, X), words)


def test_output_names_that_do_not_fit(tmp_path: Path) -> None:
    both = tf.function(lambda x: {"a": x, "b": x}, [X])
    refused(tmp_path, both, "2 outputs (a, b)", output_names=["c"])
    refused(tmp_path, both, "no output 'c'", output_names={"c": "d"})
    refused(tmp_path, both, "would be called 'b'", output_names={"a": "b"})


def test_the_users_own_exceptions(tmp_path: Path) -> None:
    def broken(x: Any) -> Any:
        raise ValueError("of my own")

    error = refused(tmp_path, broken, "tracing signature 'serving_default'", "ValueError", "of my own", inputs=[X])
    assert "broken" in str(error.details["traceback"])
    images = tf.function(lambda b: {"size": tf.map_fn(lambda one: tf.shape(tf.io.decode_jpeg(one)), b,
                                                      fn_output_signature=tf.int32)},
                         [tf.TensorSpec([None], tf.string, name="b")])
    refused(tmp_path, images, "InvalidArgumentError: Unknown image file format.", examples={"b": [b"no image"]})
    picky = tf.function(lambda x: {"y": tf.ensure_shape(x, [3])}, [X])
    refused(tmp_path, picky, "example inputs", "examples=")
    gathering = keras.Sequential([keras.Input((2,), dtype="int32", name="ids"), keras.layers.Embedding(2, 4)])
    refused(tmp_path, gathering, "Embedding.call(): indices[0,", "is not in [0, 2);", "examples=")
    assert export_model(gathering, tmp_path / "models", "ids", examples={"ids": [[0, 1]]}).goldens == 1


def test_variables_that_nobody_owns_are_brought_along(tmp_path: Path) -> None:
    hidden = [tf.Variable(2.0)]
    assert export_model(tf.function(lambda x: {"y": x * hidden[0]}, [X]), tmp_path, "hidden").parity.exact


def test_classify_and_regress_that_do_not_fit(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    features = {"x": "float32[?, 4]"}
    refused(tmp_path, Classify(model, features, ["a", "b"]), "3 scores", "2 labels")
    refused(tmp_path, Regress(model, features), "(None, 3)", "one number for each example")
    refused(tmp_path, Classify(lambda x: x, {"x": "float32[?, ?]"}), "known shape")
    refused(tmp_path, Classify(lambda x: x, {"x": "complex64[?, 2]"}), "can't hold")


def test_a_saved_model_that_answers_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = saving.answer
    monkeypatch.setattr(saving, "answer", lambda endpoint, inputs: {
        name: value + np.float32(0.5) for name, value in real(endpoint, inputs).items()})
    double = tf.function(lambda x: {"y": x * 2}, [X])
    error = refused(tmp_path, double, "answers differently", "'y'", kind=ParityError)
    differences = error.details["differences"]
    assert isinstance(differences, list) and len(differences) == 2
    assert export_model(double, tmp_path / "models", "lenient", tolerance=1.0).parity.worst == 0.5


def test_python_state_shows_as_a_difference(tmp_path: Path) -> None:
    calls: list[int] = []

    def counting(x: Any) -> Any:
        calls.append(1)
        return {"y": x + len(calls)}

    refused(tmp_path, counting, "answers differently", kind=ParityError, inputs=[X])


def test_examples_that_do_not_fit(tmp_path: Path) -> None:
    double = tf.function(lambda x: {"y": x * 2}, [X])
    refused(tmp_path, double, "have z", "x: float32[?]", examples={"z": [1]})
    refused(tmp_path, double, "serving_default", examples={"x": ["text"]})
    refused(tmp_path, double, "can't be read", examples=tmp_path / "missing.npz")
    refused(tmp_path, double, "no signature or signature/output", tolerance={"scale": 1})
    refused(tmp_path, double, "no tolerance", tolerance="small")


def test_names_and_versions(tmp_path: Path) -> None:
    double = tf.function(lambda x: {"y": x * 2}, [X])
    for name in ("a/b", "..", "a b", ""):
        with pytest.raises(SpecError):
            export_model(double, tmp_path, name)
    with pytest.raises(SpecError, match="no name"):
        export_model(double, tmp_path)
    with pytest.raises(SpecError):
        export_model(double, tmp_path, "double", 0)
    export_model(double, tmp_path, "double", 3)
    with pytest.raises(VersionExists):
        export_model(double, tmp_path, "double", 3)
    assert Repository(tmp_path).versions("double") == [3]
    with pytest.raises(RepositoryError):
        export_model(double, tmp_path / "no" / "such" / "parent", "double")


def test_keras_files_that_can_not_be_loaded(tmp_path: Path) -> None:
    class Secret(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs

    code = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    custom = keras.Sequential([keras.Input((2,)), Secret()])
    for suffix in ("keras", "h5"):
        code.save(tmp_path / f"code.{suffix}")
        refused(tmp_path, tmp_path / f"code.{suffix}", "Lambda", "layer class of your own")
        custom.save(tmp_path / f"custom.{suffix}")
        refused(tmp_path, tmp_path / f"custom.{suffix}", "--custom-object pkg.module:Secret")
        (tmp_path / f"broken.{suffix}").write_bytes(b"no model")
        refused(tmp_path, tmp_path / f"broken.{suffix}", "is no")
    custom.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "only.h5").write_bytes((tmp_path / "only.weights.h5").read_bytes())
    refused(tmp_path, tmp_path / "only.h5", "weights only, without a model", "loads them (model.load_weights)")
    refused(tmp_path, tmp_path / "only.weights.h5", "weights without a model")
    refused(tmp_path, tmp_path / "missing.keras", "no file")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("module", ["keras", "tf_keras"])
def test_a_file_that_needs_a_function(module: str, suffix: str, tmp_path: Path) -> None:
    """Not only classes: activations are functions, and files name them in four ways."""
    own = pytest.importorskip(module)
    path = tmp_path / f"m.{suffix}"
    model = own.Sequential([own.layers.Input((2,)), own.layers.Dense(1, activation=doubled, kernel_initializer="ones"),
                            own.layers.Dense(1, activation="relu", kernel_regularizer="l2")])
    model.save(path)
    error = refused(tmp_path, path, "needs doubled, which Keras doesn't know", "--custom-object pkg.module:doubled")
    assert "relu" not in str(error)
    if (module, suffix) == ("tf_keras", "h5"):  # its own load_model fails as well
        with pytest.raises(ExportError, match="'Dense': Unknown activation function: 'function'.*save it as .keras"):
            load_target(path, {"doubled": doubled})
        return
    np.testing.assert_array_equal(load_target(path, {"doubled": doubled}).layers[0](np.ones((1, 2))), [[4]])


def doubled(x: Any) -> Any:
    return x * 2


def test_a_file_without_its_weights(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(tmp_path / "half.keras", "w") as half:
        for name in ("config.json", "metadata.json"):
            half.writestr(name, whole.read(name))
    error = refused(tmp_path, tmp_path / "half.keras", "Expected a model.weights.h5", "save it again where it was made")
    assert "use that one" not in str(error)


def squared_by_numpy(x: Any) -> Any:
    return np.square(x)


def test_numpy_in_a_function(tmp_path: Path) -> None:
    refused(tmp_path, squared_by_numpy, "use TensorFlow's own functions", inputs=[X])


def test_saved_models_that_can_not_be_served(tmp_path: Path) -> None:
    class Unbuilt(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    tf.saved_model.save(Unbuilt(), str(tmp_path / "unbuilt"))
    refused(tmp_path, tmp_path / "unbuilt", "no signature", "signatures=")
    module = tf.Module()
    module.serve = tf.function(python_function, [X])
    tf.saved_model.save(module, str(tmp_path / "python"), signatures={"serving_default": module.serve})
    refused(tmp_path, tmp_path / "python", "calls Python code")
    refused(tmp_path, tmp_path / "python", "saved already", inputs=[X])
    (tmp_path / "empty").mkdir()
    refused(tmp_path, tmp_path / "empty", "without a saved_model.pb")
    with pytest.raises(ExportError, match="models are further in: name .*python"):
        load_target(tmp_path)
    cut = tmp_path / "python" / "saved_model.pb"
    cut.write_bytes(cut.read_bytes()[:100])
    refused(tmp_path, tmp_path / "python", "saved_model.pb", kind=RepositoryError)


def test_a_builder_that_fails(tmp_path: Path) -> None:
    file = tmp_path / "broken_builder.py"
    file.write_text("def build():\n    raise RuntimeError('no data')\n")
    error = refused(tmp_path, f"{file}:build", "RuntimeError", "no data")
    assert "raise RuntimeError('no data')" in str(error.details["traceback"])
    file.write_text("import keras\nmodel = keras.Sequential([keras.Input((2,))])\nmodel.save('directory')\n")
    refused(tmp_path, f"{file}:model", "leave that line out")
    file.write_text("def build():\n    pass\n")
    refused(tmp_path, f"{file}:build", "returned None", "return the Keras model")


def test_signatures_and_inputs_are_said_in_one_place(tmp_path: Path) -> None:
    serve = tf.function(lambda x: x, [X])
    both = Exportable(tf.Module(), signatures={"serving_default": serve})
    refused(tmp_path, both, "both signatures and inputs", inputs=[X])


def test_a_graph_that_protobuf_cant_hold(tmp_path: Path) -> None:
    """Told before anything is saved. The array of 2 GB has one number in memory."""
    big = np.broadcast_to(np.float32(1), (1 << 29,))
    spec = [tf.TensorSpec([None], tf.float32, name="x")]
    with pytest.raises(ExportError, match="larger than 2GB") as caught:
        export_model(tf.function(lambda x: x + tf.constant(big)[:1], spec), tmp_path, "m")
    assert "keep weights in variables" in str(caught.value.hint)
    captured = tf.constant(np.ones(1000, np.float32))
    inner = tf.function(lambda x: x + tf.constant(np.arange(500, dtype=np.float32))[:1] + captured[:1])
    function = tf.function(lambda x: inner(x) + 1, spec).get_concrete_function()
    graph_size.check([function])
    with pytest.raises(ExportError, match="would have 6,0.* bytes of constants, .* at most 6,000; .* has 4,000"):
        graph_size.check([function], 6000)
