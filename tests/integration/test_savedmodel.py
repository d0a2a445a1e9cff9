"""SavedModels that TensorFlow wrote, read without it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from deploy import engine, savedmodel
from deploy.errors import IncompleteVersion
from deploy.goldens import examples
from deploy.savedmodel import bundle
from deploy.types import TensorSpec

pytestmark = pytest.mark.tensorflow

NAMES = ["half_plus_two", "mnist", "two_signatures", "vocabulary", "dtypes", "shapes", "classes"]


@pytest.mark.parametrize("name", NAMES)
def test_examples_run_on_every_signature(models: Path, name: str) -> None:
    info = savedmodel.read(models / name)
    assert info.tags == ("serve",)
    assert info.producer.tensorflow == engine.version()
    assert info.ops <= set(engine.ops())
    with engine.load(models / name) as session:
        assert not savedmodel.contract_differences(info.contract, session.contract)
        for signature in info.contract.values():
            outputs = session.call(signature, examples.generate(signature, features=info.features))
            assert sorted(outputs) == [spec.name for spec in signature.outputs]


def test_parsed_features(models: Path) -> None:
    info = savedmodel.read(models / "classes")
    assert info.features == {"inputs:0": (TensorSpec("x", "float32", (1,)),)}
    with engine.load(models / "classes") as session:
        signature = session.contract["regress"]
        given = session.call(signature, examples.generate(signature, features=info.features))["outputs"]
        assert (given > 0).all()  # the default is 0, so the feature arrived


def test_the_index_of_variables(models: Path) -> None:
    found = bundle.read(models / "mnist/variables/variables.index")
    shapes = {variable.shape for variable in found.variables.values() if variable.dtype == "float32"}
    assert shapes == {(784, 32), (32,), (32, 10), (10,)}
    sizes = {path.name: path.stat().st_size for path in (models / "mnist/variables").glob("*.data-*")}
    assert found.needed() == sizes


def test_the_smallest_truncation_is_found(models: Path, tmp_path: Path) -> None:
    version = Path(shutil.copytree(models / "mnist", tmp_path / "1"))
    data = version / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(IncompleteVersion, match="its index needs"):
        savedmodel.check_complete(version)
    shutil.rmtree(version / "variables")
    with pytest.raises(IncompleteVersion, match="lacks variables"):
        savedmodel.check_complete(version)


def test_assets(models: Path, tmp_path: Path) -> None:
    version = Path(shutil.copytree(models / "vocabulary", tmp_path / "1"))
    assert savedmodel.read(version).assets == ("words.txt",)
    (version / "assets/words.txt").unlink()
    with pytest.raises(IncompleteVersion, match=r"words\.txt"):
        savedmodel.read(version)


def test_features_through_the_functions_of_tf2(tmp_path: Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            features = {"age": tf.io.FixedLenFeature([], tf.int64), "size": tf.io.FixedLenFeature([2], tf.float32),
                        "tags": tf.io.VarLenFeature(tf.string)}
            parsed = tf.io.parse_example(examples, features)
            return {"y": parsed["size"] * tf.cast(parsed["age"], tf.float32)[:, None]}

    tf.saved_model.save(Model(), str(tmp_path / "1"))
    info = savedmodel.read(tmp_path / "1")
    signature = info.contract["serving_default"]
    assert info.features == {signature.inputs[0].tensor: (TensorSpec("age", "int64", ()),
                                                          TensorSpec("size", "float32", (2,)))}
    with engine.load(tmp_path / "1") as session:
        outputs = session.call(signature, examples.generate(signature, batch=3, features=info.features))
        assert outputs["y"].shape == (3, 2)
        assert np.isfinite(outputs["y"]).all()
