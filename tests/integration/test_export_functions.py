"""tf.functions whose arguments are dicts, lists and tuples of tensors, as signatures of flat inputs."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tensorflow")

from deploy.export import export_model, signatures  # noqa: E402
from deploy.export.options import Exportable  # noqa: E402

S = tf.TensorSpec([None], tf.float32)
X = tf.TensorSpec([None], tf.float32, name="x")
IDS, MASK = tf.TensorSpec([None], tf.float32, name="ids"), tf.TensorSpec([None], tf.float32, name="mask")
Pair = namedtuple("Pair", "ids mask")


def difference(pair: Any) -> Any:
    return pair[0] - pair[1]


@pytest.mark.parametrize(("signature", "function", "names"), [
    ([{"mask": MASK, "ids": IDS}], lambda i: i["ids"] - i["mask"], "ids mask"),
    ([{"mask": S, "ids": S}], lambda i: i["ids"] - i["mask"], "ids mask"),
    ([{"a": X, "b": X}], lambda i: i["a"] - i["b"], "a b"),
    ([[IDS, MASK]], difference, "ids mask"),
    ([(S, S)], difference, "pair_0 pair_1"),
    ([Pair(S, S)], lambda i: i.ids - i.mask, "ids mask"),
    ([{"left": {"v": S}, "right": {"v": S}}], lambda i: i["left"]["v"] - i["right"]["v"], "i_left_v i_right_v"),
    ([{"deep": {"ids": S, "more": [S]}}], lambda i: i["deep"]["ids"] - i["deep"]["more"][0], "ids more_0"),
    ([{"ids": S}, S], lambda i, mask: i["ids"] - mask, "ids mask"),
    ([X, X], lambda p, q: p - q, "p q"),
])
def test_structures_of_tensors(signature: list[Any], function: Callable[..., Any], names: str) -> None:
    traced = tf.function(function, input_signature=signature)
    for given in (traced, traced.get_concrete_function()):
        found, = signatures.find(Exportable(given))
        assert [spec.dtype for spec in found.inputs] == ["float32", "float32"]
        if given is traced:
            assert [spec.name for spec in found.inputs] == names.split()
        first, second = (spec.name for spec in found.inputs)
        assert found.call({second: tf.constant([2.0]), first: tf.constant([5.0])}).numpy() == [3.0]


def test_inputs_of_a_dict_get_other_names(tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda i: {"n": i["ids"] - i["mask"]}, [{"ids": S, "mask": S}])
    exported = export_model(module, tmp_path, "m", inputs=["mask: float32[?]", "ids: float32[?]"])
    assert [spec.name for spec in exported.contract["serving_default"].inputs] == ["ids", "mask"]
    assert exported.parity.exact
