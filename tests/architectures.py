"""Models of real architectures with made-up weights: what teams serve. Another seed stands for another training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deploy import Exportable

L = keras.layers
ROWS = 300 * 1024
TEXTS = np.array([["a fine day at sea"], ["rain, rain and wind"]])


@dataclass(frozen=True)
class Architecture:
    """tflite: the mode in which it becomes a model.tflite, too. refusal: why it can't. Each costs half a minute, so not
    all are tried."""

    build: Callable[[], Any]
    tflite: str = ""
    refusal: str = ""


def mobilenet() -> Any:
    return keras.applications.MobileNetV3Small((96, 96, 3), weights=None, classes=10)


def efficientnet() -> Any:
    return keras.applications.EfficientNetB0(weights=None, input_shape=(64, 64, 3), classes=10)


def resnet() -> Any:
    return keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)


def lstm() -> Any:
    return keras.Sequential([keras.Input((12,), dtype="int32", name="tokens"), L.Embedding(100, 16), L.LSTM(16),
                             L.Dense(2, activation="softmax", name="scores")])


def transformer() -> Any:
    """Texts in; the vocabulary is inside."""
    vectorize = L.TextVectorization(max_tokens=64, output_sequence_length=8)
    vectorize.adapt(TEXTS[:, 0])
    text = keras.Input((1,), dtype="string", name="text")
    tokens = L.Embedding(64, 16)(vectorize(text))
    attended = L.LayerNormalization()(tokens + L.MultiHeadAttention(2, 8)(tokens, tokens))
    return keras.Model(text, L.Dense(3, activation="softmax", name="scores")(L.GlobalAveragePooling1D()(attended)))


def dictionary() -> Any:
    user, item = keras.Input((4,), name="user"), keras.Input((6,), name="item")
    both = L.Concatenate()([L.Dense(8)(user), L.Dense(8)(item)])
    return keras.Model({"user": user, "item": item}, {"score": L.Dense(1)(both), "embedding": L.Dense(5)(both)})


def lookup() -> Any:
    word = keras.Input((), dtype="string", name="word")
    number = L.StringLookup(vocabulary=["red", "green", "blue"])(word)
    return keras.Model(word, L.Embedding(4, 3, name="vector")(number))


class Subclassed(keras.Model):
    """Answers otherwise while training."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.drop, self.norm = L.Dense(8), L.Dropout(0.5), L.BatchNormalization()

    def call(self, x: Any, training: bool = False) -> Any:
        return self.norm(self.drop(self.dense(x), training=training), training=training)


def subclassed() -> Any:
    model = Subclassed()
    model(np.ones((2, 5), np.float32), training=True)
    return model


def large() -> Any:
    """A variable of 300 MB, of which an answer reads a few rows."""
    module = tf.Module()
    module.table = tf.Variable(tf.random.normal([ROWS, 256]))
    spec = tf.TensorSpec([None], tf.int32, name="row")
    return Exportable(module, signatures={"serving_default": tf.function(
        lambda row: {"vector": tf.gather(module.table, row)}, [spec])}, examples={"row": np.int32([0, 7, ROWS - 1])})


def ten_signatures() -> Any:
    module = tf.Module()
    module.factor = tf.Variable(tf.random.uniform([], 1, 2))
    spec = tf.TensorSpec([None, 2], tf.float32, name="x")

    def times(power: int) -> Any:
        return tf.function(lambda x: {"y": x * module.factor ** power}, [spec])

    others = {f"power_{n}": times(n) for n in range(2, 11)}
    return Exportable(module, signatures={"serving_default": times(1), **others})


_NO_OPERATORS = "TFLite has no operators for"
ARCHITECTURES = {
    "MobileNetV3Small": Architecture(mobilenet, "dynamic"),
    "EfficientNetB0": Architecture(efficientnet, "float16"),
    "ResNet50": Architecture(resnet),
    "lstm": Architecture(lstm),
    "transformer_with_text": Architecture(transformer, refusal=_NO_OPERATORS),
    "dict_inputs_and_outputs": Architecture(dictionary, "none"),
    "string_lookup": Architecture(lookup, refusal="the TFLite model .none. answers differently"),
    "subclassed_with_training": Architecture(subclassed, "none"),
    "a_variable_of_300_MB": Architecture(large),
    "ten_signatures": Architecture(ten_signatures),
}


def build(name: str, seed: int) -> Any:
    keras.utils.set_random_seed(seed)
    model = ARCHITECTURES[name].build()
    if "Net" in name:  # as they begin, they answer the same to everything
        random = np.random.default_rng(seed)
        for weight in model.weights:
            scale = 0.1 if len(weight.shape) == 1 else 0.0
            weight.assign(weight * random.normal(1, 0.2, weight.shape) + scale * random.random(weight.shape))
    return model
