"""Models of Keras 2 of every kind, by name: what teams still have. Each builder returns a live model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as k

L = k.layers
ROWS = np.ones((2, 3), np.float32)


@k.utils.register_keras_serializable("tests")
class Scaled(L.Layer):
    """A custom layer with a weight and an argument of its own."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(name="w", shape=(shape[-1],), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.w * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def custom_loss(y_true: Any, y_pred: Any) -> Any:
    return tf.reduce_mean(tf.square(y_true - y_pred))


class Rate(k.metrics.Metric):
    def __init__(self, name: str = "rate", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.total.assign_add(tf.reduce_mean(y_pred))

    def result(self) -> Any:
        return self.total


class Plain(k.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class Trains(Plain):
    """Answers differently while training, and takes a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = L.Dropout(0.9)

    def call(self, x: Any, training: bool = False, mask: Any = None) -> Any:
        return self.drop(self.dense(x), training=training)


class TakesDict(k.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, inputs: Any) -> Any:
        return {"sum": self.dense(inputs["a"]) + self.dense(inputs["b"]), "a": inputs["a"]}


class TakesList(k.Model):
    def call(self, inputs: Any) -> Any:
        left, right = inputs
        return left + right, left - right


class TakesTwo(k.Model):
    def call(self, a: Any, b: Any = None, training: bool = False) -> Any:
        return tf.add_n([*tf.nest.flatten(a), *tf.nest.flatten(b)])


def _fit(model: Any, x: Any, loss: Any = "mse", metrics: Any = None) -> Any:
    model.compile("sgd", loss, metrics=metrics)
    model.fit(x, np.zeros((2, 1), np.float32), verbose=0)
    return model


def _called(model: Any, *args: Any, **kwargs: Any) -> Any:
    model(*args, **kwargs)
    return model


def _shared() -> Any:
    one, two, dense = k.Input((3,), name="left"), k.Input((3,), name="right"), L.Dense(2, name="tower")
    return k.Model([one, two], L.Concatenate(name="both")([dense(one), dense(two)]))


def _functional(**inputs: Any) -> Any:
    i = k.Input((3,), **inputs)
    return k.Model(i, L.Dense(1)(i))


def _two_outputs() -> Any:
    i = k.Input((3,), name="rows")
    return k.Model(i, [L.Dense(1, name="score")(i), L.Dense(2, name="classes")(i)])


def _dict_outputs() -> Any:
    i = k.Input((3,), name="rows")
    return k.Model({"rows": i}, {"probability": L.Dense(1)(i), "hidden": L.Dense(2)(i)})


def _nested() -> Any:
    inner = k.Sequential([L.Dense(4, input_shape=(3,)), Scaled()], name="inner")
    i = k.Input((3,), name="rows")
    return k.Model(i, L.Dense(1, name="head")(inner(i)))


def _text() -> Any:
    i = k.Input((), dtype=tf.string, name="word")
    found = L.StringLookup(vocabulary=["a", "b"])(i)
    return k.Model(i, L.Embedding(3, 2)(found))


MODELS: dict[str, Callable[[], Any]] = {
    "sequential with an Input": lambda: k.Sequential([L.Input((3,), name="rows"), L.Dense(1, name="score")]),
    "sequential with input_shape": lambda: k.Sequential([L.Dense(2, input_shape=(3,)), L.Dense(1)]),
    "sequential with input_dim": lambda: k.Sequential([L.Dense(2, input_dim=3, name="first")]),
    "sequential that was fitted": lambda: _fit(k.Sequential([L.Dense(2), L.Dense(1)]), ROWS),
    "sequential that was built": lambda: _built(k.Sequential([L.Dense(2)]), (None, 3)),
    "sequential with a fixed batch": lambda: k.Sequential([L.Dense(1, batch_input_shape=(4, 3))]),
    "custom layer": lambda: k.Sequential([L.Input((3,)), Scaled(3.0)]),
    "custom loss": lambda: _fit(k.Sequential([L.Dense(1, input_shape=(3,))]), ROWS, custom_loss),
    "custom metric": lambda: _fit(k.Sequential([L.Dense(1, input_shape=(3,))]), ROWS, "mse", [Rate()]),
    "functional": _functional,
    "functional with a name": lambda: _functional(name="pixels"),
    "functional in float64": lambda: _functional(dtype="float64"),
    "two inputs": _shared,
    "two outputs": _two_outputs,
    "dict inputs and outputs": _dict_outputs,
    "a model in a model": _nested,
    "text": _text,
    "convolution": lambda: k.Sequential([L.Conv2D(2, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.Flatten()]),
    "recurrent": lambda: k.Sequential([L.Input((None, 2)), L.LSTM(3), L.Dense(1)]),
    "bidirectional with masking": lambda: k.Sequential([L.Masking(input_shape=(4, 2)), L.Bidirectional(L.GRU(2))]),
    "lambda": lambda: k.Sequential([L.Input((3,)), L.Lambda(lambda x: x * 2)]),
    "subclassed, called": lambda: _called(Plain(), ROWS),
    "subclassed, fitted": lambda: _fit(Plain(), ROWS),
    "subclassed with training": lambda: _called(Trains(), ROWS),
    "subclassed with a dict": lambda: _called(TakesDict(), {"a": ROWS, "b": ROWS}),
    "subclassed with a list": lambda: _called(TakesList(), [ROWS, ROWS]),
    "subclassed with two arguments": lambda: _called(TakesTwo(), ROWS, ROWS),
    "subclassed with training by its place": lambda: _called(TakesTwo(), ROWS, ROWS, False),
    "subclassed with a keyword": lambda: _called(TakesTwo(), ROWS, b=ROWS),
    "subclassed with a list and more": lambda: _called(TakesTwo(), [ROWS, ROWS], b={"r": ROWS, "s": ROWS}),
    "float16 policy": lambda: k.Sequential([L.Input((3,)), L.Dense(1, dtype="mixed_float16")]),
}


def _built(model: Any, shape: tuple[int | None, ...]) -> Any:
    model.build(shape)
    return model
