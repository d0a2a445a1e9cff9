"""Models of Keras 2, the package tf_keras: exported live and from files, or refused with what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow")
k = pytest.importorskip("tf_keras")

from deploy import savedmodel  # noqa: E402
from deploy.errors import ExportError  # noqa: E402
from deploy.export import export_model, load_target, saving, signatures  # noqa: E402
from deploy.export.options import Exportable  # noqa: E402
from deploy.goldens import examples  # noqa: E402
from deploy.types import Signature  # noqa: E402
from tests.keras2_models import MODELS, Scaled  # noqa: E402

ONES = np.ones((1, 3), np.float32)


class Weighted(k.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = k.layers.Dense(2, kernel_initializer="ones")

    def call(self, tokens: Any, weight: Any = None, training: bool = False) -> Any:
        found = self.dense(tokens)
        return found if weight is None else found * weight


def sequential() -> Any:
    return k.Sequential([k.layers.Input((3,), name="rows"), k.layers.Dense(1, name="score")])


def fitted() -> Any:
    model = k.Sequential([k.layers.Dense(4), k.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((6, 3)), np.zeros((6, 1)), batch_size=6, verbose=0)
    return model


def functional() -> Any:
    a, b = k.Input((3,), name="a"), k.Input((3,), name="b")
    return k.Model({"a": a, "b": b}, {"sum": k.layers.Add(name="sum")([a, b])})


def called(**tensors: Any) -> Any:
    model = Weighted()
    model(ONES, **tensors)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_names_dtypes_and_shapes_are_those_of_its_own_save(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    model.save(tmp_path / "own", save_format="tf")
    theirs = savedmodel.read(tmp_path / "own").contract["serving_default"]
    found, = signatures.find(Exportable(model))
    assert set(found.inputs) == set(theirs.inputs)
    inputs = examples.generate(Signature("any", found.inputs, ()), 4)
    results = saving.named(found.call({key: tf.constant(array) for key, array in inputs.items()}), found)
    assert {(key, tensor.dtype.name) for key, tensor in results.items()} == \
        {(spec.name, spec.dtype) for spec in theirs.outputs}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("lambda", "text") and "subclassed" not in n])
def test_a_file_is_as_the_model_in_it(name: str, suffix: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    model.save(path := tmp_path / f"m.{suffix}")
    live, = signatures.find(Exportable(model))
    loaded, = signatures.find(Exportable(load_target(path, {"Scaled": Scaled})))
    assert (loaded.inputs, loaded.outputs) == (live.inputs, live.outputs)


def test_an_optional_argument_of_call() -> None:
    found, = signatures.find(Exportable(called(weight=np.ones((1, 1), np.float32))))
    assert [str(spec) for spec in found.inputs] == ["args_0: float32[?, 3]", "weight: float32[?, 1]"]


def test_a_live_model_is_published(tmp_path: Path) -> None:
    exported = export_model(fitted(), tmp_path, "m")
    assert exported.parity.exact
    assert exported.goldens == 2


def test_an_optional_tensor_is_pinned_or_told() -> None:
    pinned = ["tokens: float32[?, 3]", "weight: float32[?, 1]"]
    assert any("'weight'" in note for note in signatures.find(Exportable(called()))[0].notes)
    for model in (called(), Weighted()):
        found, = signatures.find(Exportable(model, inputs=pinned))
        assert [str(spec) for spec in found.inputs] == pinned
    with pytest.raises(ExportError, match="isn't built"):
        signatures.find(Exportable(Weighted()))


def test_names_that_somebody_chose_need_no_note() -> None:
    one, two = k.Input((3,), name="ids"), k.Input((3,), name="mask")
    found, = signatures.find(Exportable(k.Model([one, two], k.layers.Add(name="sum")([one, two]))))
    assert not [note for note in found.notes if "made that name up" in note]
    found, = signatures.find(Exportable(k.Sequential([k.layers.Dense(1, input_shape=(3,))])))
    assert [note for note in found.notes if "input 'dense" in note]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    k.Model(i := k.Input((3,), name="rows"), k.layers.Dense(1, name="score")(i)).save(path)
    found, = signatures.find(Exportable(load_target(path)))
    assert [str(spec) for spec in found.inputs] == ["rows: float32[?, 3]"]


def test_a_file_of_keras_2_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.keras"
    functional().save(path)
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ExportError, match=r"was saved by Keras 2 \(2\.\d.*\), which isn't installed; pip install "
                                          r"'tfs-deploy\[keras2\]'") as caught:
        load_target(path)
    assert "custom" not in str(caught.value)


def test_both_of_keras_in_one_process(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    three = keras.Sequential([keras.Input((3,), name="rows"), keras.layers.Dense(1, name="score")])
    for number, model in enumerate((three, sequential(), three), 1):
        exported = export_model(model, tmp_path, "m")
        assert exported.model_version.version == number and exported.parity.exact


@pytest.mark.parametrize("mixed", ["sequential", "functional", "model"])
def test_layers_of_both_in_one_model(tmp_path: Path, mixed: str) -> None:
    (tmp_path / "mixed.py").write_text({
        "sequential": "model = keras.Sequential([tf_keras.layers.Dense(1)])",
        "functional": "model = tf_keras.layers.Dense(1)(keras.Input((3,)))",
        "model": "i = keras.Input((3,))\nmodel = tf_keras.Model(i, keras.layers.Dense(1)(i))"}[mixed].join(
            ("import keras, tf_keras\n", "\n")))
    with pytest.raises(ExportError, match="line [23].*layers of Keras 2 .tf_keras. and Keras 3 are mixed"):
        load_target(f"{tmp_path / 'mixed.py'}:model")
