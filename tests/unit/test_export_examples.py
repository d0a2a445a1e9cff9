"""Examples in all the forms that people have them in; the command line's ways to say tolerances and batch sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import goldens
from deploy.cli.exports import _batches, _tolerances
from deploy.errors import ExportError, SpecError
from deploy.export import export_model, signatures
from deploy.export.examples import cases
from deploy.goldens.recorded import Golden
from deploy.types import Contract, Signature, TensorSpec
from deploy.wire import example_pb2

X, IDS = TensorSpec("x", "float32", (None, 2)), TensorSpec("ids", "int64", (None,))
Y = TensorSpec("y", "float32", (None,))


def contract(*inputs: TensorSpec) -> Contract:
    return Contract((Signature("serving_default", inputs, (Y,)),))


class Dataset:
    """What a tf.data.Dataset has."""

    def __init__(self, *elements: object) -> None:
        self.elements = elements

    def as_numpy_iterator(self) -> Iterator[Any]:
        return iter(self.elements)


ROW, BATCH = np.float32([1, 2]), np.float32([[1, 2], [3, 4]])


@pytest.mark.parametrize(("elements", "shapes"), [
    ((ROW, ROW, ROW), [(3, 2)]),
    ((BATCH, BATCH[:1]), [(2, 2), (1, 2)]),
    (((ROW, 1), (ROW, 0)), [(2, 2)]),
    (((BATCH, [1, 0]),), [(2, 2)]),
    (({"x": BATCH}, {"x": BATCH}), [(2, 2), (2, 2)]),
    ((({"x": ROW}, 1), ({"x": ROW}, 1)), [(2, 2)]),
])
def test_datasets(elements: tuple[object, ...], shapes: list[tuple[int, ...]]) -> None:
    made = cases(Dataset(*elements), contract(X), {}, {})
    assert [case.inputs["x"].shape for case in made] == shapes


def test_an_endless_dataset_is_taken_up_to_what_a_server_takes() -> None:
    import itertools

    class Endless(Dataset):
        def as_numpy_iterator(self) -> Iterator[Any]:
            return itertools.repeat(ROW)

    assert [case.inputs["x"].shape for case in cases(Endless(), contract(X), {}, {})] == [(1000, 2)]


def test_a_dataset_without_names_for_several_inputs() -> None:
    with pytest.raises(ExportError, match="a dataset without names, and it takes ids, x"):
        cases(Dataset(ROW), contract(X, IDS), {}, {})


def test_what_json_and_the_file_keep_exactly(tmp_path: Path) -> None:
    """64-bit integers beyond what floats hold, NaN, bytes, scalars, unknown dimensions."""
    specs = (IDS, TensorSpec("t", "string", (None,)), TensorSpec("s", "float64", ()),
             TensorSpec("any", "float32", None), TensorSpec("d", "float32", (None, None)))
    path = tmp_path / "examples.json"
    path.write_text(json.dumps({"ids": [2**53 + 1, -2**63], "t": ["a", "ü"], "s": float("nan"), "any": [[[1.5]]],
                                "d": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}))
    case = cases(path, contract(*specs), {}, {})[0]
    goldens.write(tmp_path, [Golden(case.signature, case.inputs, {"y": np.float32([0])})], "m")
    seen = goldens.read(tmp_path)[0].inputs
    assert seen["ids"].tolist() == [2**53 + 1, -2**63]
    assert seen["t"].tolist() == [b"a", "ü".encode()]
    assert seen["s"].shape == ()
    assert np.isnan(seen["s"])
    assert (seen["any"].shape, seen["d"].shape) == ((1, 1, 1), (2, 3))


def test_generated_sizes() -> None:
    assert [len(case.inputs["x"]) for case in cases(None, contract(X), {}, {}, (1, 2, 8, 2))] == [1, 2, 8]
    assert [len(case.inputs["x"]) for case in cases(None, contract(X), {}, {})] == [1, 2]
    fixed = TensorSpec("x", "float32", (4, 2))
    assert [len(case.inputs["x"]) for case in cases(None, contract(fixed), {}, {}, (1, 2, 8))] == [4]


def test_tolerances_on_the_command_line() -> None:
    assert _tolerances(()) is None
    assert _tolerances(("1e-4", "a=0.5", "a/b=1e-3,1e-2")) == {
        "default": {"absolute": 1e-4, "relative": 1e-4}, "a": {"absolute": 0.5, "relative": 0.5},
        "a/b": {"absolute": 1e-3, "relative": 1e-2}}
    for wrong in ("", "x", "a=", "-1", "nan", "inf", "1,2,3", "a=1,x"):
        with pytest.raises(SpecError, match="is not valid"):
            _tolerances((wrong,))


def test_batch_sizes_of_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text("name: s\nserver: {batching: {max_batch_size: 8, allowed_batch_sizes: [2, 4, 8]}}\n"
                    f"models: [{{name: m, base_path: {tmp_path}, versions: [1]}}]\n")
    assert _batches(None, path) == (1, 2, 4, 8)
    assert _batches("3", path) == (3, 2, 4, 8)
    assert _batches("3", None) == (3,)
    assert _batches(None, None) is None
    for wrong in ("0", "a", "1,", "-1", "1.5"):
        with pytest.raises(SpecError, match="batch sizes"):
            _batches(wrong, None)


B64 = {"b64": "/9g="}
IMAGE, LABEL = TensorSpec("image", "string", (None,)), TensorSpec("label", "int64", (None,))
UNNAMED = TensorSpec("inputs", "float32", (None, 2))


@pytest.mark.parametrize(("inputs", "body", "seen"), [
    ((IMAGE,), {"image": [B64, B64]}, [[b"\xff\xd8", b"\xff\xd8"]]),
    ((IMAGE,), [{"image": B64}, {"image": B64}], [[b"\xff\xd8", b"\xff\xd8"]]),
    ((IMAGE,), [B64], [[b"\xff\xd8"]]),
    ((IMAGE,), {"instances": [{"image": B64}]}, [[b"\xff\xd8"]]),
    ((IMAGE,), {"instances": [B64, B64]}, [[b"\xff\xd8", b"\xff\xd8"]]),
    ((IMAGE,), {"inputs": [B64]}, [[b"\xff\xd8"]]),
    ((IMAGE,), {"inputs": {"image": [B64]}}, [[b"\xff\xd8"]]),
    ((IMAGE,), {"signature_name": "serving_default", "instances": [{"image": B64}]}, [[b"\xff\xd8"]]),
    ((IMAGE,), {"serving_default": {"instances": [B64]}}, [[b"\xff\xd8"]]),
    ((IMAGE, LABEL), {"instances": [{"image": B64, "label": 3}]}, [[b"\xff\xd8"], [3]]),
    ((IMAGE, LABEL), {"inputs": {"image": [B64], "label": [3]}}, [[b"\xff\xd8"], [3]]),
    ((UNNAMED,), {"inputs": [[1, 2]]}, [[[1, 2]]]),
    ((UNNAMED,), {"inputs": {"inputs": [[1, 2]]}}, [[[1, 2]]]),
    ((UNNAMED,), {"instances": [[1, 2], [3, 4]]}, [[[1, 2], [3, 4]]]),
    ((TensorSpec("instances", "float32", (None,)),), {"instances": [1, 2]}, [[1, 2]]),
])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_as_the_rest_api_takes_it(tmp_path: Path, inputs: tuple[TensorSpec, ...], body: object, seen: list[object],
                                       encoding: str) -> None:
    path = tmp_path / "request.JSON"
    path.write_bytes(json.dumps(body, indent=1).replace("\n", "\r\n").encode(encoding))
    made, = cases(path, contract(*inputs), {}, {})
    assert [made.inputs[spec.name].tolist() for spec in inputs] == seen


@pytest.mark.parametrize(("text", "said"), [
    ("3", "expected an object or a list, got 3"), ("[" * 100_000, "nested too deeply"), ("{", "can't be read"),
    ('{"image": [{"b64": "???"}]}', "no base64"),
    ('{"signature_name": "other", "instances": [1]}', "for signature 'other', and there is serving_default"),
    ('{"instances": [{"imag": "x"}]}', "have imag, and it takes image"),
])
def test_json_that_does_not_fit(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ExportError) as caught:
        cases(path, contract(IMAGE), {}, {})
    assert said in str(caught.value)


def test_files_are_read_before_the_model_is_built(tmp_path: Path) -> None:
    builder = tmp_path / "m.py"
    builder.write_text("def build():\n    raise SystemExit('built')\n")
    with pytest.raises(ExportError, match=r"examples can't be read from .*missing.npz: No such file"):
        export_model(f"{builder}:build", tmp_path / "models", "m", examples=tmp_path / "missing.npz")


@pytest.mark.parametrize("given", [
    {"examples": [{"x": [1, 2], "n": 3}, {"x": [4, 5], "n": [6]}]}, {"examples": [{"x": [1, 2], "n": 3}]},
    {"serving_default": {"examples": [{"x": [1, 2], "n": [3]}]}}, [{"x": [1, 2], "n": 3}],
    {"x": [[1, 2]], "n": [3]}, [{"x": [[1, 2]], "n": [3]}]])
def test_features_of_examples(given: object) -> None:
    features = (TensorSpec("x", "float32", (None, 2)), TensorSpec("n", "int64", (None,)))
    found, = cases(given, contract(TensorSpec("inputs", "string", (None,))), {},
                   {"serving_default": lambda batch: {"inputs": signatures.serialized(batch, features)}})
    first = example_pb2.Example.FromString(found.inputs["inputs"][0]).features.feature
    assert list(first["x"].float_list.value) == [1, 2]
    assert list(first["n"].int64_list.value) == [3]
