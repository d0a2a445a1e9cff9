"""Makes, in the working directory, one model of each kind that docs/exporting.md's first table names.

    python -m tests.model_sources SOURCE ...

A SOURCE is the first file or directory that a row's command names. tests/integration/test_exporting_table.py runs this,
then each row's command. `MAKERS` is where a new row's source is added.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_TRAIN = """
import {keras} as keras

model = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(3, name="scores")])
model.compile("adam", "mse")
"""
_LAYERS = """
import keras

class Scale(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2
"""
_MODULE = """
import tensorflow as tf

class Ruler(tf.Module):
    def __init__(self):
        self.factor = tf.Variable(2.54)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="inches")])
    def centimetres(self, inches):
        return {"centimetres": inches * self.factor}

ruler = Ruler()
"""
_FUNCTION = """
import tensorflow as tf

def score(x):
    return {"score": tf.reduce_mean(x, 1)}
"""
_JAX = """
import deploy
import jax

def score(params, x):
    return {"score": jax.nn.sigmoid(x @ params["w"] + params["b"])}

def build():
    params = {"w": jax.random.normal(jax.random.key(1), (4,)), "b": jax.numpy.zeros(())}
    return deploy.from_jax(score, params, "x: float32[?, 4]")
"""
_FLAX = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(nnx.relu(self.hidden(x))))

net = Net(nnx.Rngs(0))
"""
_BUILDER = """
import tensorflow as tf
from deploy import Exportable

def build():
    module = tf.Module()
    module.factor = tf.Variable(2.0)
    spec = tf.TensorSpec([None], tf.float32, name="x")
    return Exportable(module, signatures={
        "serving_default": tf.function(lambda x: {"y": x * module.factor}, [spec]),
        "half": tf.function(lambda x: {"y": x / module.factor}, [spec])})
"""


def _saved_keras(path: str) -> None:
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(path)


def _saved_keras2(path: str) -> None:
    import tf_keras

    tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)]).save(path)


def _custom_keras() -> None:
    import keras

    Path("my_layers.py").write_text(_LAYERS)
    sys.path.insert(0, ".")
    from my_layers import Scale  # type: ignore[import-not-found]

    keras.Sequential([keras.Input((4,)), Scale()]).save("custom.keras")


def _photos() -> None:
    import keras

    layers = [keras.Input((24, 32, 3), name="pixels"), keras.layers.GlobalAveragePooling2D(),
              keras.layers.Dense(3, activation="softmax", name="scores")]
    keras.Sequential(layers).save("photos.keras")


def _words() -> None:
    import keras

    layers = [keras.Input((8,), dtype="int64", name="numbers"), keras.layers.Embedding(9, 2), keras.layers.Flatten(),
              keras.layers.Dense(2)]
    keras.Sequential(layers).save("words.keras")


def _prices() -> None:
    import keras

    keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(1, name="price")]).save("prices.keras")


def _cat() -> None:
    import numpy as np
    import tensorflow as tf

    Path("cat.jpg").write_bytes(tf.io.encode_jpeg(np.full((40, 60, 3), 200, np.uint8)).numpy())


def _saved_model() -> None:
    import tensorflow as tf

    module = tf.Module()
    module.factor = tf.Variable(2.0)
    serve = tf.function(lambda x: {"y": x * module.factor}, [tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, "build/saved_model", signatures={"serving_default": serve})


def _tf1() -> None:
    """In a process of its own: it turns TensorFlow 2's behaviour off."""
    subprocess.run([sys.executable, str(Path(__file__).with_name("tf1_models.py")), "tf1"], check=True)


def _orbax() -> None:
    import jax
    import tensorflow as tf
    from orbax import export

    module = export.JaxModule({"w": jax.numpy.ones((4, 2))}, lambda params, x: {"y": x @ params["w"]},
                              input_polymorphic_shape="b, ...")
    config = export.ServingConfig("serving_default", input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    export.ExportManager(module, [config]).save("orbax/saved")


def _tflite() -> None:
    import tensorflow as tf

    serve = tf.function(lambda x: {"y": tf.nn.relu(x)}, [tf.TensorSpec([None, 4], tf.float32, name="x")])
    module = tf.Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module)
    Path("detector.tflite").write_bytes(converter.convert())


MAKERS: dict[str, Callable[[], object]] = {
    "train.py": lambda: Path("train.py").write_text(_TRAIN.format(keras="keras")),
    "train2.py": lambda: Path("train2.py").write_text(_TRAIN.format(keras="tf_keras")),
    "model.keras": lambda: _saved_keras("model.keras"),
    "model.h5": lambda: _saved_keras("model.h5"),
    "old.keras": lambda: _saved_keras2("old.keras"),
    "old.h5": lambda: _saved_keras2("old.h5"),
    "custom.keras": _custom_keras,
    "build/saved_model": _saved_model,
    "tf1": _tf1,
    "module.py": lambda: Path("module.py").write_text(_MODULE),
    "function.py": lambda: Path("function.py").write_text(_FUNCTION),
    "jax_score.py": lambda: Path("jax_score.py").write_text(_JAX),
    "flax_net.py": lambda: Path("flax_net.py").write_text(_FLAX),
    "orbax/saved": _orbax,
    "detector.tflite": _tflite,
    "builder.py": lambda: Path("builder.py").write_text(_BUILDER),
    "photos.keras": _photos, "words.keras": _words, "prices.keras": _prices, "cat.jpg": _cat,
    "labels.txt": lambda: Path("labels.txt").write_text("cat\ndog\nowl\n"),
    "words.txt": lambda: Path("words.txt").write_text("the\nquick\nfox\n"),
    "lines.txt": lambda: Path("lines.txt").write_text("The quick, quick fox!\nthe end\n"),
}


if __name__ == "__main__":
    for source in sys.argv[1:]:
        MAKERS[source]()
