"""JSON of the REST API: bodies -> arrays and examples, arrays -> bodies, numbers, errors."""

from __future__ import annotations

import json
import math
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.modelserver.execution import finish
from deploy.modelserver.rest import encode, parse
from deploy.modelserver.rest.decode import example, predict_body
from deploy.modelserver.rest.encode import nested, quoted_value
from deploy.modelserver.rest.numbers import decimal, decimals, quoted, rapidjson_number
from deploy.modelserver.rest.values import base64_bytes
from deploy.modelserver.status import StatusError
from deploy.wire.tensors import dtype_number


def decoded(body: str | bytes, **inputs: str) -> dict[str, tuple[str, list[object]]]:
    """Input -> (dtype, values), for a signature with these inputs."""
    numbers = {name: dtype_number(dtype) for name, dtype in inputs.items()}
    data = body if isinstance(body, bytes) else body.encode()
    arrays = finish(predict_body(data, lambda _: numbers)).arrays
    return {name: (str(array.dtype), array.tolist()) for name, array in arrays.items()}


def refusal(body: str | bytes, **inputs: str) -> str:
    with pytest.raises(StatusError) as caught:
        decoded(body, **inputs)
    return str(caught.value)


# -- requests


@pytest.mark.parametrize(("body", "dtype", "expected"), [
    ('{"instances": [1, 2.5]}', "float32", ("float32", [1.0, 2.5])),
    ('{"inputs": [1, 2.5]}', "float64", ("float64", [1.0, 2.5])),
    ('{"inputs": 7}', "float32", ("float32", 7.0)),
    ('{"inputs": []}', "float32", ("float32", [])),
    ('{"inputs": [[], []]}', "int32", ("int32", [[], []])),
    ('{"inputs": {"x": [[1, 2]]}}', "int64", ("int64", [[1, 2]])),
    ('{"instances": [{"x": 1}, {"x": 2}]}', "int32", ("int32", [1, 2])),
    ('{"inputs": [300, -129]}', "int8", ("int8", [44, 127])),
    ('{"inputs": [-1]}', "uint8", ("uint8", [255])),
    ('{"inputs": [9223372036854775807]}', "int64", ("int64", [2**63 - 1])),
    ('{"inputs": [18446744073709551615, 0]}', "uint64", ("uint64", [2**64 - 1, 0])),
    ('{"inputs": [true, false]}', "bool", ("bool", [True, False])),
    ('{"inputs": ["a", "b"]}', "string", ("object", [b"a", b"b"])),
    ('{"instances": [{"b64": "aGk="}, "x"]}', "string", ("object", [b"hi", b"x"])),
    ('{"inputs": {"b64": "aG k"}}', "string", ("object", b"hi")),
    ('{"inputs": [1e39]}', "float32", ("float32", [math.inf])),
    ('{"inputs": [Infinity, -Inf]}', "float32", ("float32", [math.inf, -math.inf])),
    ('{"inputs": [1]} tail', "float32", ("float32", [1.0])),
    ('\ufeff{"inputs": [1]}', "float32", ("float32", [1.0])),
    ('{"signature_name": "s", "inputs": [1], "other": null}', "float32", ("float32", [1.0])),
    ('{"inputs": [1], "inputs": [2]}', "float32", ("float32", [1.0])),
])
def test_bodies(body: str, dtype: str, expected: tuple[str, object]) -> None:
    assert decoded(body, x=dtype)["x"] == expected


@pytest.mark.parametrize(("body", "dtype", "message"), [
    ("", "float32", "JSON Parse error: The document is empty"),
    ("[1]", "float32", "JSON Value: [1] Is not object"),
    ("{}", "float32", "Missing 'inputs' or 'instances' key"),
    ('{"instances": []}', "float32", "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    ('{"inputs": [1.0]}', "int32", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
    ('{"inputs": [2147483648]}', "int16", "JSON Value: 2147483648 Type: Number is not of expected type: int16"),
    ('{"inputs": [true]}', "float32", "JSON Value: true Type: True is not of expected type: float"),
    ('{"inputs": [1, true]}', "int64", "JSON Value: true Type: True is not of expected type: int64"),
    ('{"inputs": ["1"]}', "float64", 'JSON Value: "1" Type: String is not of expected type: double'),
    ('{"inputs": [NaN]}', "int32", "JSON Value:  Type: Number is not of expected type: int32"),
    ('{"inputs": [[1, 2], [3]]}', "float32",
     "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ('{"inputs": [1, [2]]}', "float32", "Encountered list at unexpected level: 1 expected < 1"),
    ('{"inputs": [[1], 2]}', "float32",
     "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ('{"instances": [1, [2]]}', "float32", "Failed to process element: 1 of 'instances' list. Error: "
                                           "INVALID_ARGUMENT: Expecting shape [] but got: [1]"),
    ('{"instances": [{"x": 1}, 2]}', "float32", "Expecting object but got list at item 1 of input list"),
    ('{"instances": [1, {"x": 2}]}', "float32", "Expecting value/list but got object at item 1 of input list"),
    ('{"instances": [{"z": 1}]}', "float32", "Failed to process element: 0 key: z of 'instances' list. Error: "
                                             "INVALID_ARGUMENT: JSON object: does not have named input: z"),
    ('{"inputs": {"z": 1}}', "float32", "Missing named input: x in 'inputs' object."),
    ('{"inputs": {"b64": "-_"}}', "string", "Unable to base64 decode"),
])
def test_refused_bodies(body: str, dtype: str, message: str) -> None:
    assert refusal(body, x=dtype) == f"INVALID_ARGUMENT: {message}"


def test_dtypes_without_json_form() -> None:
    assert refusal('{"inputs": [1]}', x="uint16") == "UNIMPLEMENTED: Conversion of JSON Value: 1 to type: uint16"
    assert refusal('{"instances": [1]}', x="float16").startswith(
        "INVALID_ARGUMENT: Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON")


def test_two_inputs() -> None:
    assert decoded('{"instances": [{"a": [1, 2], "b": "x"}]}', a="float32", b="string") == {
        "a": ("float32", [[1.0, 2.0]]), "b": ("object", [b"x"])}
    assert "instances is a plain list" in refusal('{"instances": [1]}', a="float32", b="string")
    assert "inputs is a plain value/list" in refusal('{"inputs": 1}', a="float32", b="string")
    assert refusal('{"instances": [{"a": 1}]}', a="float32", b="string").endswith(
        'JSON object: {\n    "a": 1\n} keys must be equal to: a,b')


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=1))
def test_numbers_arrive(rows: list[list[float]]) -> None:
    listed = "[" + ",".join("[" + ",".join(map(repr, row)) + "]" for row in rows) + "]"
    for key in ("inputs", "instances"):
        assert decoded(f'{{"{key}": {listed}}}', x="float32")["x"][1] == rows


# -- the parser


@pytest.mark.parametrize(("body", "error"), [
    (b"{", "Missing a name for object member. at offset: 1"),
    (b'{"a"}', "Missing a colon after a name of object member. at offset: 4"),
    (b'{"a":1', "Missing a comma or } after an object member. at offset: 6"),
    (b'{"a":[1 2]}', "Missing a comma or ] after an array element. at offset: 8"),
    (b'{"a":nope}', "Invalid value. at offset: 6"),
    (b'{"a":+1}', "Invalid value. at offset: 5"),
    (b'{"a":"b', "Missing a closing quotation mark in string. at offset: 7"),
    (b'{"a":"\\q"}', "Invalid escape character in string. at offset: 6"),
    (b'{"a":"\\ud83d"}', "The surrogate pair in string is invalid. at offset: 6"),
    (b'{"a":"\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
    (b'{"a":1.}', "Miss fraction part in number. at offset: 7"),
    (b'{"a":1e}', "Miss exponent in number. at offset: 7"),
    (b'{"a":1e999}', "Number too big to be stored in double. at offset: 5"),
    (b"  ", "The document is empty. at offset: 2"),
])
def test_parse_errors(body: bytes, error: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse.read(body)
    assert caught.value.message == f"JSON Parse error: {error}"


def test_bytes_that_arent_utf8_come_through() -> None:
    assert decoded(b'{"inputs": ["\xff\xfe"]}', x="string")["x"][1] == [b"\xff\xfe"]
    assert encode.columns({"y": np.array([b"\xff"], object)}) == b'{\n    "outputs": [\n        "\xff"\n    ]\n}'


def test_both_parsers_agree() -> None:
    body = b'{"a": [1, -2, 3.5, 1e3, "x\\u00e9\\n", true, false, null, {"b": {}}, []], "c": -0.0}'
    assert parse._Parser(body).document() == parse.read(body)


# -- replies


ONE = np.array([1.5, 2.0], np.float32)


@pytest.mark.parametrize(("outputs", "rows", "columns"), [
    ({"y": ONE}, '"predictions": [1.5, 2.0\n    ]', '"outputs": [\n        1.5,\n        2.0\n    ]'),
    ({"y": ONE[:0]}, '"predictions": []', '"outputs": []'),
    ({"y": np.array([[1, 2]], np.int32)}, '"predictions": [[1, 2]\n    ]',
     '"outputs": [\n        [\n            1,\n            2\n        ]\n    ]'),
    ({"a": ONE[:1], "b": np.array([True])},
     '"predictions": [\n        {\n            "a": 1.5,\n            "b": true\n        }\n    ]',
     '"outputs": {\n        "a": [\n            1.5\n        ],\n        "b": [\n            true\n        ]\n    }'),
    ({"s_bytes": np.array([b"hi"], object)}, '"predictions": [{\n            "b64": "aGk="\n        }\n    ]',
     '"outputs": [\n        {\n            "b64": "aGk="\n        }\n    ]'),
    ({"s": np.array([b'"\n\x01'], object)}, '"predictions": ["\\"\\n\\u0001"\n    ]',
     '"outputs": [\n        "\\"\\n\\u0001"\n    ]'),
])
def test_reply_layout(outputs: dict[str, np.ndarray], rows: str, columns: str) -> None:
    assert encode.rows(outputs).decode() == f"{{\n    {rows}\n}}"
    assert encode.columns(outputs).decode() == f"{{\n    {columns}\n}}"


@pytest.mark.parametrize(("outputs", "message"), [
    ({"y": np.float32(1).reshape(())}, "Tensor name: y has no shape information "),
    ({"a": ONE, "b": ONE[:1]}, "Tensor name: b has inconsistent batch size: 1 expecting: 2"),
    ({"y": ONE.astype(np.float16)}, "Failed to write JSON value for tensor type: half"),
    ({}, "Cannot convert empty tensor map to JSON"),
])
def test_what_has_no_row_form(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        encode.rows(outputs)
    assert caught.value.message == message


def test_classes_and_values() -> None:
    assert encode.classifications([[(b"a", 0.5), (b"", -0.0)]]).decode() == (
        '{\n    "results": [[["a", 0.5], ["", -0.0]]\n    ]\n}')
    assert encode.regressions([1.5, math.inf]).decode() == '{\n    "results": [1.5, Infinity]\n}'


# -- numbers


@pytest.mark.parametrize(("value", "single", "double"), [
    (0.1, "0.1", "0.1"), (1.0, "1.0", "1.0"), (-0.0, "-0.0", "-0.0"), (1e6, "1e+06", "1e+06"),
    (123456789.0, "123456792.0", "123456789.0"), (1234567.0, "1234567.0", "1234567.0"), (1e-7, "1e-07", "1e-07"),
    (1 / 3, "0.333333343", "0.33333333333333331"), (1e20, "1e+20", "1e+20"), (math.nan, "NaN", "NaN"),
    (math.inf, "Infinity", "Infinity"), (-math.inf, "-Infinity", "-Infinity"),
])
def test_spelling(value: float, single: str, double: str) -> None:
    for count in (1, 100):  # one by one, and all at once
        assert decimals(np.full(count, value, np.float32)) == [single] * count
        assert decimals(np.full(count, value, np.float64)) == [double] * count


@given(st.lists(st.floats(), max_size=8), st.binary(min_size=256, max_size=256))
def test_many_at_once_are_spelled_as_one_by_one(chosen: list[float], noise: bytes) -> None:
    values = [*chosen, *np.frombuffer(noise, np.float64).tolist()]
    for dtype in (np.float32, np.float64):
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.array(values).astype(dtype)
        assert decimals(array) == [decimal(v, array.itemsize) for v in array.tolist()]


@pytest.mark.parametrize("shape", [(50,), (32, 10), (4, 5, 6), (30, 1), (25, 1, 1), (1, 100)])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e5, 1e-6])
def test_rows_written_in_one_go_look_like_others(shape: tuple[int, ...], scale: float) -> None:
    array = (np.random.default_rng(1).random(shape) * scale).astype(np.float32)
    array.flat[3:9] = [np.nan, 0, -1e-9, np.inf, 3, -0.0]
    values = nested([decimal(v, 4) for v in array.ravel().tolist()], shape[1:])
    assert encode.rows({"y": array}).decode() == f'{{\n    "predictions": [{", ".join(values)}\n    ]\n}}'


@pytest.mark.parametrize(("value", "text"), [
    (1.0, "1.0"), (1.5, "1.5"), (1e3, "1000.0"), (0.001, "0.001"), (1e-7, "1e-7"), (1e20, "100000000000000000000.0"),
    (1e21, "1e21"), (-2.5e-10, "-2.5e-10"), (5e-324, "5e-324"), (0.0, "0.0"), (-0.0, "-0.0"),
    (123456.789, "123456.789"),
])
def test_quoted_numbers(value: float, text: str) -> None:
    assert quoted(value) == text


@given(st.integers(0, 2**64 - 1))
def test_quoted_numbers_read_back(bits: int) -> None:
    value = struct.unpack("d", struct.pack("Q", bits))[0]
    if math.isfinite(value):
        assert float(quoted(value)) == value


def test_quoted_values() -> None:
    assert quoted_value({"a": [1, {"b": "\u00e9"}], "c": {}}) == (
        '{\n    "a": [1, {\n            "b": "\u00e9"\n        }],\n    "c": {}\n}')
    assert quoted_value({"a": float("nan"), "b": 1}) == '{\n    "a": '


# -- examples


def test_examples() -> None:
    made = example({"f": 1.5, "i": [1, True], "s": ["a", {"b64": "aGk="}], "none": []})
    feature = made.features.feature
    assert list(feature["f"].float_list.value) == [1.5]
    assert list(feature["i"].int64_list.value) == [1, 1]
    assert list(feature["s"].bytes_list.value) == [b"a", b"hi"]
    assert feature["none"].WhichOneof("kind") is None


@pytest.mark.parametrize(("value", "message"), [
    (7, "Example must be JSON object but got JSON Number"),
    ({"a": None}, "Feature: a has element with unexpected JSON type: Null"),
    ({"a": [[1]]}, "Feature: a has element with unexpected JSON type: Array"),
    ({"a": [1, "x"]}, "Unexpected element type in feature: a expecting type: int64"),
    ({"a": 2**63}, "Feature: a has uint64 element. Only int64 is supported."),
])
def test_refused_examples(value: object, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        example(value)
    assert caught.value.message == message


# -- anything at all


JSON = st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["x", "b64", "instances", "inputs", "z"]), inner, max_size=3), max_leaves=12)


@given(st.sampled_from(["instances", "inputs"]), JSON, st.sampled_from(["float32", "int8", "uint64", "bool", "string"]))
def test_any_value_is_taken_or_refused(key: str, value: object, dtype: str) -> None:
    try:
        decoded(json.dumps({key: value}), x=dtype)
    except StatusError as error:
        assert error.code in (3, 12)


@given(st.binary(max_size=60), st.integers(0, 40))
def test_any_bytes_are_taken_or_refused(noise: bytes, at: int) -> None:
    body = b'{"inputs": {"x": [[1.5, "a\\u00e9"], [-2e3, null]]}}'
    for damaged in (noise, body[:at] + noise + body[at:]):
        with suppress(StatusError):
            decoded(damaged, x="string")


@given(JSON)
def test_the_slow_parser_reads_what_the_fast_one_reads(value: object) -> None:
    body = json.dumps(value, allow_nan=True).encode()
    assert repr(parse._Parser(body).document()) == repr(json.loads(body, parse_float=read_float))


def read_float(text: str) -> float:
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    value = rapidjson_number(whole.encode(), fraction.encode(), exponent.encode(), negative=text[0] == "-")
    assert value is not None
    return value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_exactly_as_rapidjson_does(value: float) -> None:
    """Few digits are exact, which is nearly all there is; RapidJSON promises three units in the last place."""
    assert abs(read_float(repr(value)) - value) <= 3 * math.ulp(value)
    short = float(f"{value:.14e}".partition("e")[0])
    assert read_float(repr(short)) == short


@pytest.mark.parametrize(("text", "expected"), [
    ("1e22", 1e22), ("1e-5", 1e-5), ("1E+05", 1e5), ("0.1e309", 1e308), ("0.001e310", 1e307), ("5e-324", 5e-324),
    ("1e-400", 0.0), ("1e-99999999999", 0.0), ("1.7976931348623157e308", 1.7976931348623157e308),
    ("1e-23", 1.0000000000000001e-23), ("123456789012345678901234567890", 1.2345678901234566e29),
    ("-9223372036854775809", -9223372036854775808.0), ("-0.0", -0.0),
    ("1e309", None), ("0e400", None), ("100e307", None), ("9" * 310, None), ("1e999999999999", None),
])
def test_how_numbers_are_rounded(text: str, expected: float | None) -> None:
    try:
        assert repr(parse._Parser(text.encode()).document()) == repr(expected)
    except StatusError as error:
        text = "JSON Parse error: Number too big to be stored in double. at offset: 0"
        assert (expected, error.message) == (None, text)


def test_rows_without_elements_are_still_rows() -> None:
    assert json.loads(encode.rows({"x": np.zeros((2, 0), np.int32)})) == {"predictions": [[], []]}
    assert json.loads(encode.rows({"x": np.zeros((2, 2, 0)), "y": np.zeros((2, 0, 2))})) == {
        "predictions": [{"x": [[], []], "y": []}] * 2}


@pytest.mark.parametrize(("text", "expected"), [
    ("", b""), ("aGVsbG8=", b"hello"), ("aGVsbG8", b"hello"), ("aGVsbG8.", b"hello"), ("aGVsbA==", b"hell"),
    ("aGVs bA\n= =", b"hell"), ("aGVsbA.=", b"hell"), ("aGVsbA=", None), ("aGVs====", None), ("====", None),
    ("aGVsbG8==", None), ("aGV=sbG8", None), ("a", None), ("-_-_", None), ("\u00e9", None),
])
def test_base64(text: str, expected: bytes | None) -> None:
    try:
        assert base64_bytes({"b64": text}) == expected
    except StatusError as error:
        assert (expected, error.message) == (None, "Unable to base64 decode")
