"""A model with its serving signature written by hand: sensors send raw integers, the model wants scaled floats.

The signature does the conversion, so that every client sends what its sensor reads, and names the answers. It is a
tf.function whose `input_signature` tells names, dtypes and shapes.

    tfs export docs/examples/sensor.py:build --name sensor
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from deploy.export import Exportable


class Double(keras.layers.Layer):
    """A layer of our own; it has no weights."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs * 2


def data(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Readings int32[count, 10] in 0..1023, and which channel was loudest, int64[count]."""
    readings = np.random.default_rng(seed).integers(0, 1024, (count, 10)).astype(np.int32)
    return readings, readings.argmax(1)


def build() -> Exportable:
    keras.utils.set_random_seed(4)
    model = keras.Sequential([Double(), keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    readings, loudest = data(1000)
    model.fit(readings / np.float32(1023), loudest, epochs=5, verbose=0)

    @tf.function(input_signature=[tf.TensorSpec([None, 10], tf.int32, name="readings")])
    def serve(readings: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(tf.cast(readings, tf.float32) / 1023, training=False)
        return {"channel": tf.argmax(probabilities, axis=1), "confidence": tf.reduce_max(probabilities, axis=1)}

    return Exportable(model, signatures={"serving_default": serve}, examples={"readings": readings[:3]})
