"""numpy <-> the JSON of TF Serving's REST API, without a server."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deploy.client import decoding, encoding, preparing
from deploy.client.preparing import prepare
from deploy.errors import BadReply, BadRequest
from deploy.types import Signature, TensorSpec


def body(signature: str = "serving_default", form: encoding.Form = "column", **inputs: Any) -> Any:
    arrays = {name: value if isinstance(value, np.ndarray) else np.asarray(value) for name, value in inputs.items()}
    return json.loads(encoding.request_body(signature, arrays, form))


def strings(*values: bytes) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def sign(*outputs: TensorSpec, inputs: tuple[TensorSpec, ...] = ()) -> Signature:
    return Signature("serving_default", inputs, outputs)


Y = TensorSpec("y", "float32", (None,))


# requests

def test_columns_and_rows() -> None:
    a, b = np.array([[1, 2], [3, 4]], "i4"), np.array([0.5, 1.5], "f4")
    assert body(a=a, b=b) == {"signature_name": "serving_default", "inputs": {"a": [[1, 2], [3, 4]], "b": [0.5, 1.5]}}
    assert body("s", "row", a=a, b=b) == {"signature_name": "s", "instances": [
        {"a": [1, 2], "b": 0.5}, {"a": [3, 4], "b": 1.5}]}
    assert body(form="row", a=a)["instances"] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("value", [np.float32(1.5), np.array(2), np.zeros((0, 3)), np.zeros((2, 0)), np.array(True)])
def test_scalars_and_empty_arrays(value: Any) -> None:
    assert body(x=np.asarray(value))["inputs"]["x"] == np.asarray(value).tolist()


def test_any_layout_and_byte_order() -> None:
    plain = np.arange(12, dtype="f8").reshape(3, 4)
    for array in (plain.T, plain[::-1, ::2], plain.astype(">f8"), np.asfortranarray(plain)):
        assert body(x=array)["inputs"]["x"] == array.tolist()


@pytest.mark.parametrize("shape", [(100,), (1, 60, 2), (7, 3, 5), (2, 1, 40), (40, 1), (0, 9), (3, 0, 2)])
def test_big_arrays_are_written_in_chunks(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK", 32)  # as if this were big
    forms_of: tuple[encoding.Form, ...] = ("column", "row")
    array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    for values in (array, np.where(array % 7 == 3, np.nan, array).astype("f4"), array.astype("u8")):
        for form in forms_of:
            sent = body(form=form, x=values)
            np.testing.assert_array_equal(np.array(sent["inputs"]["x"] if form == "column" else sent["instances"],
                                                   dtype=values.dtype).reshape(shape), values)
    assert body(x=array)["inputs"]["x"] == array.tolist()


def test_integers_of_64_bits_are_exact() -> None:
    big = np.array([2**53 + 1, -(2**63), 2**63 - 1])
    assert body(x=big)["inputs"]["x"] == big.tolist()
    assert body(x=np.array([2**64 - 1], "u8"))["inputs"]["x"] == [2**64 - 1]


@given(hnp.arrays(st.sampled_from([np.float32, np.float64]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
                  elements={"allow_nan": True, "allow_infinity": True}))
def test_floats_come_back_bit_for_bit_with_tokens_for_the_rest(array: np.ndarray[Any, Any]) -> None:
    spec = TensorSpec("x", array.dtype.name, (None,) * array.ndim)
    text = encoding.request_body("s", {"x": array}, "column")
    reply = json.dumps({"outputs": json.loads(text)["inputs"]["x"]}).encode()
    found = decoding.outputs(reply, sign(spec), "column")["x"]
    if array.size:
        np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_tokens_in_rows_of_several_inputs() -> None:
    rows = body(form="row", a=np.array([np.nan, 1, -np.inf]), b=np.array([[1, np.inf], [2, 3], [np.nan, np.nan]]))
    flat = [rows["instances"][i][n] for i in range(3) for n in "ab"]
    assert repr(flat) == "[nan, [1.0, inf], 1.0, [2.0, 3.0], -inf, [nan, nan]]"


@given(st.lists(st.one_of(st.binary(), st.text().map(lambda t: t.encode("utf-8", "replace"))), max_size=4))
def test_strings_come_back(values: list[bytes]) -> None:
    for name in ("text", "image_bytes"):
        sent = body(**{name: strings(*values)})["inputs"][name]
        for v in sent:
            assert isinstance(v, dict) or name == "text"
        reply = json.dumps({"outputs": sent}).encode()
        found = decoding.outputs(reply, sign(TensorSpec(name, "string", (None,))), "column")[name]
        assert found.tolist() == values


def test_which_strings_are_base64() -> None:
    assert body(t=strings(b"a", "ä".encode()))["inputs"]["t"] == ["a", "ä"]
    assert body(t=strings(b"a", b"\xff"))["inputs"]["t"] == [{"b64": "YQ=="}, {"b64": "/w=="}]
    assert body(t_bytes=strings(b"a"), form="row")["instances"] == [{"b64": "YQ=="}]
    assert body(t=np.array(b"a", object))["inputs"]["t"] == "a"


@pytest.mark.parametrize("dtype", sorted(encoding.WITHOUT_JSON))
def test_dtypes_without_json(dtype: str) -> None:
    spec = TensorSpec("x", dtype, (None,))
    assert encoding.no_json(sign(Y, inputs=(spec,))) == f"input 'x' is {dtype}, which has no JSON form"
    assert encoding.no_json(sign(spec, inputs=(Y,))) == f"output 'x' is {dtype}, which has no JSON form"


def test_a_signature_without_inputs_has_no_rest() -> None:
    assert "no inputs" in encoding.no_json(sign(Y))


@pytest.mark.parametrize(("shape", "refused"), [
    ((0,), False), ((), False), ((2, 0), False), ((3, 2, 0), False), ((1, 2), False),
    ((0, 3), True), ((0, 0), True), ((2, 0, 3), True), ((0, 28, 28, 1), True),
])
def test_shapes_that_get_lost_within_an_empty_list(shape: tuple[int, ...], refused: bool) -> None:
    found = encoding.no_shape({"a": np.zeros(2), "x": np.zeros(shape)})
    assert found == (f"input 'x' is empty, and JSON can't express its shape {list(shape)}" if refused else "")
    if not refused:
        written = orjson.dumps(encoding.array_json(np.zeros(shape)), option=orjson.OPT_SERIALIZE_NUMPY)
        assert np.shape(json.loads(written)) == shape


def test_what_rows_need() -> None:
    plain = sign(Y)
    assert not encoding.no_rows(plain, {"a": np.zeros((2, 3)), "b": np.zeros(2)})
    assert "one batch dimension" in encoding.no_rows(plain, {"a": np.zeros((2, 3)), "b": np.zeros(3)})
    assert "one batch dimension" in encoding.no_rows(plain, {"a": np.zeros(())})
    assert "no rows" in encoding.no_rows(plain, {"a": np.zeros(0)})
    assert "scalar" in encoding.no_rows(sign(TensorSpec("t", "float32", ())), {"a": np.zeros(2)})
    assert "3 rows" in encoding.no_row_answer({"y": np.zeros(2)}, 3)


# replies

def test_bare_and_named_outputs() -> None:
    two = sign(Y, TensorSpec("z", "int64", (None, 2)))
    assert decoding.outputs(b'{"predictions": [1.0, 2.5]}', sign(Y), "row")["y"].tolist() == [1, 2.5]
    row = decoding.outputs(b'{"predictions": [{"y": 1.0, "z": [9007199254740993, 2]}]}', two, "row")
    assert row["z"].tolist() == [[2**53 + 1, 2]] and row["z"].dtype == np.int64
    column = decoding.outputs(b'{"outputs": {"z": [[1, 2]], "y": [1e+06]}}', two, "column")
    assert column["y"].dtype == np.float32 and column["y"].tolist() == [1e6]


def test_tokens_and_bytes_that_no_strict_parser_takes() -> None:
    found = decoding.outputs(b'{"outputs": [NaN, -Infinity, Infinity, 1]}', sign(Y), "column")["y"].tolist()
    assert math.isnan(found[0]) and found[1:] == [-math.inf, math.inf, 1]
    raw = decoding.outputs(b'{"outputs": ["\xff\xfe", "ok"]}', sign(TensorSpec("t", "string", (None,))), "column")
    assert raw["t"].tolist() == [b"\xff\xfe", b"ok"]


def test_a_scalar_base64_output_is_no_object_of_outputs() -> None:
    spec = TensorSpec("t_bytes", "string", ())
    assert decoding.outputs(b'{"outputs": {"b64": "YQ=="}}', sign(spec), "column")["t_bytes"].item() == b"a"


def test_the_signature_knows_dimensions_behind_an_empty_one() -> None:
    spec = TensorSpec("y", "float32", (None, 10))
    assert decoding.outputs(b'{"outputs": []}', sign(spec), "column")["y"].shape == (0, 10)
    assert decoding.array([[], []], TensorSpec("y", "float32", (None, None))).shape == (2, 0)


@pytest.mark.parametrize(("reply", "spec", "why"), [
    (b"<html>", Y, "aren't"), (b'{"outputs": [[1], [2, 3]]}', Y, "ragged"), (b'{"outputs": [[1], 2]}', Y, "ragged"),
    (b'{"outputs": ["1"]}', Y, "type str"), (b'{"outputs": [null]}', Y, "NoneType"),
    (b'{"predictions": [1]}', Y, "outputs"),
    (b'{"outputs": [1.5]}', TensorSpec("y", "int32", (None,)), "type float"), (b"[1]", Y, "an object"),
    (b'{"outputs": [5000000000]}', TensorSpec("y", "int32", (None,)), "can't hold"),
    (b'{"outputs": [{"b64": "?"}]}', TensorSpec("y", "string", (None,)), "can't be read"),
    (b'{"outputs": [{"a": "?"}]}', TensorSpec("y", "string", (None,)), "an object with a"),
    (b"[" * 100_000, Y, "aren't"), (b"", Y, "aren't"),
])
def test_replies_that_are_not_as_the_signature_says(reply: bytes, spec: TensorSpec, why: str) -> None:
    with pytest.raises(BadReply, match=why):
        decoding.outputs(reply, sign(spec), "column")


@pytest.mark.parametrize("reply", [b'{"outputs": [1]}', b'{"outputs": {"y": [1]}}',
                                   b'{"outputs": {"y": [1], "q": [1]}}'])
def test_several_outputs_need_their_names(reply: bytes) -> None:
    with pytest.raises(BadReply, match="expected the outputs y, z"):
        decoding.outputs(reply, sign(Y, TensorSpec("z", "float32", (None,))), "column")
    with pytest.raises(BadReply, match="list of objects with y, z"):
        decoding.outputs(b'{"predictions": [1]}', sign(Y, TensorSpec("z", "float32", (None,))), "row")


# examples

def test_features_are_the_same_in_both_protocols() -> None:
    features: dict[str, Any] = {"t": "Bern", "b": b"\xff", "i": 3, "flag": True, "f": 3.0, "many": [1, 2],
                                "a": np.array([1.5]), "e": []}
    example = preparing.to_example(features)
    kinds = {name: feature.WhichOneof("kind") for name, feature in example.features.feature.items()}
    assert kinds == {"t": "bytes_list", "b": "bytes_list", "i": "int64_list", "flag": "int64_list", "f": "float_list",
                     "many": "int64_list", "a": "float_list", "e": None}
    sent = json.loads(preparing.to_body([features], {"c": float("nan")}, "s"))
    assert sent["examples"] == [{"t": "Bern", "b": {"b64": "/w=="}, "i": 3, "flag": True, "f": 3.0, "many": [1, 2],
                                 "a": [1.5], "e": []}]
    assert math.isnan(sent["context"]["c"])
    assert preparing.to_input([{}], {"c": 1}).WhichOneof("kind") == "example_list_with_context"


@pytest.mark.parametrize("features", [{"x": None}, {"x": [1, 1.5]}, {"x": {"y": 1}}, ["x"]])
def test_features_of_no_kind(features: Any) -> None:
    with pytest.raises(BadRequest):
        preparing.to_example(features)


# requests against a signature

def test_a_bare_value_is_the_only_input() -> None:
    known = sign(Y, inputs=(TensorSpec("x", "float32", (None,)),))
    assert prepare([1, 2], known)["x"].dtype == np.float32
    with pytest.raises(BadRequest, match="the inputs are: a, b"):
        prepare([1], sign(Y, inputs=(TensorSpec("a", "int32", ()), TensorSpec("b", "int32", ()))))
    with pytest.raises(BadRequest, match="no output 'yy'; did you mean 'y'"):
        prepare([1.0], known, ["yy"])
