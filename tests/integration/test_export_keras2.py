"""Models of Keras 2, the package tf_keras: exported live and from files, or refused with what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow")
k = pytest.importorskip("tf_keras")

from deploy.errors import ExportError  # noqa: E402
from deploy.export import export_model, load_target, signatures  # noqa: E402
from deploy.export.options import Exportable  # noqa: E402

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


@pytest.mark.parametrize(("build", "inputs", "outputs"), [
    (sequential, ["rows: float32[?, 3]"], ["score"]),
    (fitted, ["inputs: float32[?, 3]"], ["outputs"]),
    (functional, ["a: float32[?, 3]", "b: float32[?, 3]"], ["sum"]),
    (called, ["tokens: float32[?, 3]"], ["outputs"]),
    (lambda: called(weight=np.ones((1, 1), np.float32)), ["tokens: float32[?, 3]", "weight: float32[?, 1]"],
     ["outputs"]),
])
def test_live_models(build: Callable[[], Any], inputs: list[str], outputs: list[str]) -> None:
    from deploy.export import saving

    found, = signatures.find(Exportable(build()))
    assert [str(spec) for spec in found.inputs] == inputs
    made = found.call({spec.name: tf.ones([2, 1 if spec.name == "weight" else 3]) for spec in found.inputs})
    assert list(saving.named(made, found)) == outputs


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


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    k.Model(i := k.Input((3,), name="rows"), k.layers.Dense(1, name="score")(i)).save(path)
    found, = signatures.find(Exportable(load_target(path)))
    assert [str(spec) for spec in found.inputs] == ["rows: float32[?, 3]"]


def test_a_file_that_keras_3_can_not_load_without_tf_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.keras"
    functional().save(path)
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ExportError, match=r"was saved by Keras 2 \(2\.\d.*\), .*pip install tf_keras") as caught:
        load_target(path)
    assert "custom" not in str(caught.value)
