"""A functional model with a layer class of our own: is this wine a good one, judged by ten measurements?

The saved version holds the layer's computation, not its class, so the server needs no Python. Real rows are given as
examples: they, and the model's answers to them, become the version's golden cases.

    tfs export docs/examples/wine.py:build --name wine
"""

from __future__ import annotations

import keras
import numpy as np

from deploy.export import Exportable


class Standardize(keras.layers.Layer):
    """(x - mean) / deviation for each column, learned from data by `adapt`."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(shape=shape, initializer="ones", trainable=False, name="deviation")

    def adapt(self, rows: np.ndarray) -> None:
        self.mean.assign(rows.mean(0))
        self.deviation.assign(rows.std(0))

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return (inputs - self.mean) / self.deviation


def data(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Measurements float32[count, 10] of very different sizes, and 1 for a good wine, float32[count, 1]."""
    random = np.random.default_rng(seed)
    rows = random.normal(0, 1, (count, 10))
    good = rows @ np.linspace(-1, 1, 10) + 0.3 * rows[:, 0] * rows[:, 1] > 0
    return (rows * np.logspace(-2, 3, 10) + 7).astype(np.float32), good[:, None].astype(np.float32)


def build() -> Exportable:
    keras.utils.set_random_seed(2)
    rows, good = data(800)
    standardize = Standardize(name="standardize")
    measurements = keras.Input((10,), name="measurements")
    hidden = keras.layers.Dense(64, activation="relu")(standardize(measurements))
    quality = keras.layers.Dense(1, activation="sigmoid", name="quality")(hidden)
    model = keras.Model(measurements, quality)
    standardize.adapt(rows)
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    model.fit(rows, good, epochs=3, verbose=0)
    return Exportable(model, examples={"measurements": rows[:4]})
