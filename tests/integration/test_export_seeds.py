"""The usual ways of saving a model that tutorials show, each beside what it becomes here.

What Keras 3 still writes as a SavedModel is accepted as a directory; what it refuses (`model.save('directory')`) has an
equivalent: `export(model, 'models', 'name')`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import deploy  # noqa: E402
from deploy import goldens  # noqa: E402
from deploy.export import Exported, export_model  # noqa: E402

SEEDS = Path(__file__).parent.parent / "recorded" / "seeds"
SAVES_ITSELF = "leave that line out, `tfs export` takes the model itself"
NO_NUMPY = "NameError: name 'np' is not defined ({}.py, line {}); add `import numpy as np`"
AS_THEY_STAND = {  # the texts that the project came from, as they stand: what Keras 3 and Keras 2 make of them
    "saved_by_tensorflow": ("", ""),
    "custom_layer_and_signature": ("line 20); leave that line out: `tfs export` saves the model itself",) * 2,
    "to_tflite": ("line 6); leave the lines that convert it out: `tfs export --tflite` does that",) * 2,
    "basic": (f"line 21); Keras 3 writes no SavedModel with model.save(directory): {SAVES_ITSELF}", ""),
    "custom_layer": (NO_NUMPY.format("custom_layer", 33),) * 2,
    "custom_loss": (NO_NUMPY.format("custom_loss", 17),) * 2,
}


@pytest.mark.parametrize("legacy", [0, 1])
@pytest.mark.parametrize("seed", AS_THEY_STAND)
def test_a_script_as_it_stands(seed: str, legacy: int, tmp_path: Path) -> None:
    shutil.copy(SEEDS / f"{seed}.py", tmp_path)
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": str(legacy), "PYTHONPATH": str(SEEDS.parents[2])}
    exported = subprocess.run([sys.executable, "-m", "deploy", "export", f"{seed}.py:model", "--name", "m"],
                              capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    refusal = AS_THEY_STAND[seed][legacy]
    if not refusal:
        assert exported.returncode == 0, exported.stderr
        assert len(goldens.read(tmp_path / "models/m/1")) == 2
        return
    *_, sentence = exported.stderr.strip().splitlines()
    assert exported.returncode == 3 and sentence.startswith(f"tfs: running {seed}.py failed: ")
    assert refusal in sentence and "Traceback" not in exported.stderr
    assert not (tmp_path / "models/m/1").exists()


@pytest.fixture(autouse=True)
def repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def proven(exported: Exported, model: Any) -> None:
    for golden in goldens.read(exported.path):
        (given,) = golden.inputs.values()
        (answer,) = golden.outputs.values()
        np.testing.assert_allclose(answer, model(given, training=False), rtol=1e-4, atol=1e-5)
    assert exported.goldens == exported.parity.cases >= 2
    assert {path.name for path in exported.path.iterdir()} >= {"saved_model.pb", "variables"}


def ten_classes() -> Any:
    model = tf.keras.models.Sequential([tf.keras.layers.Dense(128, activation="relu", input_shape=(10,)),
                                        tf.keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def test_saved_by_tensorflow_itself() -> None:
    """tf.saved_model.save(model, './my_model'), then `tfs export ./my_model`."""
    model = ten_classes()
    tf.saved_model.save(model, "./my_model")
    exported = export_model("./my_model", "models")
    assert str(exported.model_version) == "my_model/1"
    proven(exported, model)
    reloaded = tf.saved_model.load(str(exported.path))
    assert "serving_default" in reloaded.signatures


def test_the_same_model_exported_as_an_object() -> None:
    model = ten_classes()
    exported = deploy.export_model(model, "models", "my_model")
    proven(exported, model)
    assert [spec.name for spec in exported.contract["serving_default"].inputs] == ["inputs"]
    reloaded = tf.saved_model.load(str(exported.path))
    saved = {variable.name.partition(":")[0]: variable for variable in reloaded.variables}
    for own in model.weights:
        np.testing.assert_array_equal(saved.pop(own.path), own)
    assert not saved


class MyCustomLayer(tf.keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs * 2


def with_custom_layer() -> tuple[Any, Any]:
    model = tf.keras.models.Sequential([MyCustomLayer(), tf.keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

    @tf.function(input_signature=[tf.TensorSpec(shape=[None, 10], dtype=tf.float32)])
    def serving_fn(x: Any) -> Any:
        return model(x)

    return model, serving_fn


def test_a_serving_function_for_a_custom_layer_is_taken_over() -> None:
    """signatures={'serving_default': serving_fn} means the same here, for a model that was never built as well."""
    model, serving_fn = with_custom_layer()
    exported = export_model(model, "models", "custom", signatures={"serving_default": serving_fn})
    proven(exported, model)
    assert [str(spec) for spec in exported.contract["serving_default"].inputs] == ["x: float32[?, 10]"]
    alone = export_model(serving_fn, "models", "custom")
    assert alone.contract == exported.contract


def test_a_serving_function_saved_by_tensorflow() -> None:
    model, serving_fn = with_custom_layer()
    model(np.zeros((1, 10), np.float32))  # else TensorFlow refuses variables made while tracing
    tf.saved_model.save(model, "export_path", signatures={"serving_default": serving_fn})
    proven(export_model("export_path", "models", "custom"), model)


def test_tflite_conversion_of_a_published_version() -> None:
    exported = export_model(ten_classes(), "models", "my_model", examples={"inputs": np.ones((2, 10), np.float32)})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(exported.path))
    tflite_model = converter.convert()
    Path("model.tflite").write_bytes(tflite_model)
    interpreter = tf.lite.Interpreter(model_path="model.tflite")
    golden = goldens.read(exported.path)[0]
    answers = interpreter.get_signature_runner("serving_default")(inputs=golden.inputs["inputs"])
    np.testing.assert_allclose(answers["outputs"], golden.outputs["outputs"], rtol=1e-4, atol=1e-5)


def test_a_basic_sequential_model_after_fit() -> None:
    """model.save('my_basic_model') is an error in Keras 3; this is what to write."""
    model = tf.keras.models.Sequential([tf.keras.layers.Dense(128, activation="relu", input_shape=(784,)),
                                        tf.keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.random.rand(100, 784), np.random.randint(0, 9, 100), epochs=2, verbose=0)
    with pytest.raises(ValueError, match="Invalid filepath extension"):
        model.save("my_basic_model")
    proven(deploy.export_model(model, "models", "my_basic_model"), model)
    model.save("my_basic_model.keras")
    again = export_model("my_basic_model.keras", "models")
    assert str(again.model_version) == "my_basic_model/2"
    proven(again, model)


class CustomDense(tf.keras.layers.Layer):
    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)

    def call(self, inputs: Any) -> Any:
        return tf.matmul(inputs, self.w) + self.b

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def test_a_custom_layer_in_a_functional_model() -> None:
    inputs = tf.keras.Input(shape=(10,))
    outputs = tf.keras.layers.Dense(1, activation="sigmoid")(CustomDense(64)(inputs))
    model = tf.keras.Model(inputs=inputs, outputs=outputs)
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(np.random.rand(100, 10), np.random.randint(0, 1, 100), epochs=2, verbose=0)
    proven(export_model(model, "models", "my_custom_model"), model)
    model.save("my_custom_model.keras")
    proven(export_model("my_custom_model.keras", "models", custom_objects={"CustomDense": CustomDense}), model)


def custom_loss(y_true: Any, y_pred: Any) -> Any:
    return tf.reduce_mean(tf.square(y_true - y_pred))


def test_a_custom_loss() -> None:
    model = tf.keras.models.Sequential([tf.keras.layers.Dense(1, input_shape=(1,))])
    model.compile(optimizer="adam", loss=custom_loss)
    model.fit(np.random.rand(100, 1), np.random.rand(100, 1), epochs=2, verbose=0)
    proven(export_model(model, "models", "my_model_with_custom_loss"), model)
    model.save("my_model_with_custom_loss.h5")  # its name isn't needed to load the file: nothing is trained
    proven(export_model("my_model_with_custom_loss.h5", "models"), model)
