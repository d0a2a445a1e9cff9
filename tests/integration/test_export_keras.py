"""What the signature of a Keras model takes: batch sizes that Keras remembers, and optional arguments of call()."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from deploy.errors import CheckFailed  # noqa: E402
from deploy.export import export_model, load_target, signatures  # noqa: E402
from deploy.export.options import Exportable, SignatureFunction  # noqa: E402

ONES = np.ones((1, 3), np.float32)


def endpoint(model: Any, **arguments: Any) -> SignatureFunction:
    return signatures.find(Exportable(model, **arguments))[0]


def inputs(found: SignatureFunction) -> list[str]:
    return [str(spec) for spec in found.inputs]


def answer(found: SignatureFunction, **tensors: Any) -> list[float]:
    made = found.call({name: tf.constant(value) for name, value in tensors.items()})
    return [float(number) for number in np.ravel(made)]


def dense(*layers: Any) -> Any:
    return keras.Sequential([*layers, keras.layers.Dense(2)])


def fitted() -> Any:
    model = dense(keras.layers.Dense(4))
    model.compile("sgd", "mse")
    model.fit(np.zeros((6, 3)), np.zeros((6, 2)), batch_size=6, verbose=0)
    return model


def predicted() -> Any:
    model = dense()
    model.predict(np.zeros((5, 3)), verbose=0)
    return model


def called(model: Any) -> Any:
    model(ONES)
    return model


def built() -> Any:
    model = dense()
    model.build((7, 3))
    return model


def cut_off() -> Any:
    model = called(dense(keras.layers.Dense(3)))
    return keras.Model(model.inputs, model.layers[0].output)


def cut_out() -> Any:
    model = called(dense(keras.layers.Dense(3)))
    return keras.Model(model.layers[0].output, model.layers[1].output)


@pytest.mark.parametrize("build", [
    fitted, predicted, built, cut_off, cut_out, lambda: called(dense()), lambda: called(dense(dense())),
    lambda: keras.models.clone_model(called(dense()))])
def test_the_batch_that_keras_remembers_is_free(build: Callable[[], Any]) -> None:
    found = endpoint(build())
    assert inputs(found) == ["inputs: float32[?, 3]"]
    assert any("the first dimension of inputs is free" in note for note in found.notes)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_same_in_files(tmp_path: Path, suffix: str) -> None:
    fitted().save(tmp_path / f"m.{suffix}")
    assert inputs(endpoint(load_target(tmp_path / f"m.{suffix}"))) == ["inputs: float32[?, 3]"]


def test_exported_with_a_free_batch(tmp_path: Path) -> None:
    exported = export_model(fitted(), tmp_path, "m")
    assert [str(spec) for spec in exported.contract["serving_default"].inputs] == ["inputs: float32[?, 3]"]
    assert exported.parity.exact


@pytest.mark.parametrize("build", [
    lambda: dense(keras.Input((3,), batch_size=4)), lambda: dense(keras.Input(batch_shape=(4, 3))),
    lambda: dense(dense(keras.Input((3,), batch_size=4))), lambda: dense(keras.Input((3,), batch_size=4, name="x")),
    lambda: keras.Model(i := keras.Input((3,), batch_size=4), keras.layers.Dense(2)(i))])
def test_a_batch_size_that_the_author_gave_stays(build: Callable[[], Any]) -> None:
    assert inputs(endpoint(build()))[0].endswith("float32[4, 3]")
    assert inputs(endpoint(build(), inputs="float32[?, 3]"))[0].endswith("float32[?, 3]")


def test_the_batch_of_layers_with_state_stays() -> None:
    model = keras.Sequential([keras.layers.LSTM(2, stateful=True), keras.layers.Dense(1)])
    model(np.zeros((4, 5, 3), np.float32))
    assert inputs(endpoint(model)) == ["inputs: float32[4, 5, 3]"]


def test_a_batch_size_of_the_author_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="takes 4 rows at a time"):
        export_model(dense(keras.Input((3,), batch_size=4)), tmp_path, "m")


class Weighted(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2, kernel_initializer="ones")

    def call(self, tokens: Any, weight: Any = None, training: bool = False, mask: Any = None, deep: bool = True) -> Any:
        found = self.dense(tokens)
        return found if weight is None else found * weight


class ByName(Weighted):
    def call(self, *, tokens: Any, weight: Any = 1.0) -> Any:
        return self.dense(tokens) * weight


class AllOptional(Weighted):
    def call(self, tokens: Any = None, weight: Any = None) -> Any:
        return self.dense(tokens) if weight is None else self.dense(tokens) * weight


class Parts(Weighted):
    """A dict and an optional tensor."""

    def call(self, inputs: Any, weight: Any = None) -> Any:
        found = self.dense(inputs["tokens"] + inputs["more"])
        return found if weight is None else found * weight


class Rest(Weighted):
    def call(self, *tensors: Any) -> Any:
        return self.dense(tensors[0]) * tensors[1]


class Keywords(Weighted):
    def call(self, tokens: Any, **kwargs: Any) -> Any:
        return self.dense(tokens) * kwargs["weight"]

PINNED = ["tokens: float32[?, 3]", "weight: float32[?, 1]"]


@pytest.mark.parametrize("kind", [Weighted, ByName, AllOptional])
def test_an_optional_tensor_is_pinned_or_told(kind: type[Any]) -> None:
    model = kind()
    model(tokens=ONES, weight=np.zeros((1, 1), np.float32))
    found = endpoint(model)
    assert inputs(found) == PINNED[:1]
    assert answer(found, tokens=ONES) == [3, 3]
    told = [note for note in found.notes if "isn't in the signature" in note]
    assert len(told) == 1 and told[0].startswith("'weight', an optional argument of call()")
    for made in (model, kind()):
        found = endpoint(made, inputs=PINNED)
        assert inputs(found) == PINNED
        assert answer(found, tokens=ONES, weight=[[2.0]]) == [6, 6]
        assert not any("isn't in the signature" in note for note in found.notes)
    by_position = endpoint(model, inputs=list(reversed(PINNED)))
    assert answer(by_position, tokens=ONES, weight=[[2.0]]) == [6, 6]


@pytest.mark.parametrize("kind", [Rest, Keywords])
def test_all_tensors_are_pinned_where_call_takes_any(kind: type[Any]) -> None:
    model = kind()
    for _ in range(2):
        found = endpoint(model, inputs=PINNED)
        assert inputs(found) == PINNED
        assert answer(found, tokens=ONES, weight=[[2.0]]) == [6, 6]


def test_rest_arguments_as_they_were_called() -> None:
    model = Rest()
    model(ONES, np.ones((1, 1), np.float32))
    found = endpoint(model)
    assert inputs(found) == ["input_0: float32[?, 3]", "input_1: float32[?, 1]"]
    assert answer(found, input_0=ONES, input_1=[[2.0]]) == [6, 6]


def test_a_dict_and_an_optional_tensor() -> None:
    pinned = ["tokens: float32[?, 3]", "more: float32[?, 3]", "weight: float32[?, 1]"]
    model = Parts()
    model({"tokens": ONES, "more": ONES}, weight=np.ones((1, 1), np.float32))
    assert any("'weight'" in note for note in endpoint(model).notes)
    for made in (model, Parts()):
        found = endpoint(made, inputs=pinned)
        assert sorted(inputs(found)) == sorted(pinned)
        assert answer(found, tokens=ONES, more=ONES, weight=[[2.0]]) == [12, 12]


def test_masks_and_training_are_left_to_keras_unless_pinned() -> None:
    class Masked(Weighted):
        def call(self, tokens: Any, mask: Any = None, training: Any = None) -> Any:
            return self.dense(tokens) if mask is None else self.dense(tokens) * tf.cast(mask, tf.float32)

    model = called(Masked())
    assert not [note for note in endpoint(model).notes if "isn't in the signature" in note]
    found = endpoint(model, inputs=["tokens: float32[?, 3]", "mask: bool[?, 1]"])
    assert answer(found, tokens=ONES, mask=[[False]]) == [0, 0]


def test_examples_show_the_optional_tensor(tmp_path: Path) -> None:
    given = {"tokens": ONES, "weight": np.float32([[2]])}
    exported = export_model(Weighted(), tmp_path, "m", examples=given)
    assert [str(spec) for spec in exported.contract["serving_default"].inputs] == PINNED


def test_examples_grow_until_the_model_takes_them(tmp_path: Path) -> None:
    image = keras.Input((None, None, 3), name="image")
    pooled = keras.layers.MaxPooling2D(4)(keras.layers.Conv2D(2, 3)(image))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="mean")(keras.layers.Conv2D(2, 3)(pooled)))
    exported = export_model(model, tmp_path, "convolving", batch_sizes=[1])
    assert exported.goldens == 1 and exported.contract["serving_default"].inputs[0].shape == (None, None, None, 3)
    assert any("16 for each unknown dimension" in note for note in exported.notes)
