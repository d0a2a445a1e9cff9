"""Predict's messages as bytes: the same as protobuf's, for small and big tensors."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from deploy.errors import BadReply
from deploy.wire import predict_codec
from deploy.wire import serving_pb2 as pb
from deploy.wire.tensors import decode, encode, numpy_dtype

SPEC = pb.ModelSpec(name="m", version={"value": 3}, signature_name="s")
BIG = predict_codec.SMALL // 4 + 1  # float32 values


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "big": np.arange(BIG, dtype=np.float32).reshape(1, -1),
        "strided": np.arange(4 * BIG, dtype=np.int64).reshape(2, -1)[:, ::2],
        "swapped": np.arange(BIG, dtype=">f8"),
        "bfloat16": np.ones(2 * BIG, numpy_dtype("bfloat16")),
        "small": np.array(True),
        "ünï": np.array([[b"text", b"\0" * predict_codec.SMALL]], object),
        "empty": np.empty((0, 3), np.float32),
    }


def same(ours: dict[str, np.ndarray[Any, Any]], expected: dict[str, np.ndarray[Any, Any]]) -> None:
    assert set(ours) == set(expected)
    for name, array in expected.items():
        assert ours[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("="), name
        assert ours[name].flags.aligned
        np.testing.assert_array_equal(ours[name], array)


@pytest.mark.parametrize("names", [["small", "empty"], ["big"], list(arrays())])
def test_protobuf_reads_what_we_write(names: list[str]) -> None:
    chosen = {name: arrays()[name] for name in names}
    request = pb.PredictRequest.FromString(predict_codec.write_predict_request(SPEC, chosen, ["y", "z"]))
    assert (request.model_spec, list(request.output_filter)) == (SPEC, ["y", "z"])
    assert dict(request.inputs) == {name: encode(array) for name, array in chosen.items()}
    response = pb.PredictResponse.FromString(predict_codec.write_predict_response(SPEC, chosen))
    assert response.model_spec == SPEC
    same({name: decode(tensor) for name, tensor in response.outputs.items()}, chosen)


@pytest.mark.parametrize("names", [["small", "empty"], ["big"], list(arrays())])
def test_we_read_what_protobuf_writes(names: list[str]) -> None:
    chosen = {name: arrays()[name] for name in names}
    tensors = {name: encode(array) for name, array in chosen.items()}
    request, inputs = predict_codec.read_predict_request(
        pb.PredictRequest(model_spec=SPEC, inputs=tensors, output_filter=["y"]).SerializeToString())
    assert request == pb.PredictRequest(model_spec=SPEC, output_filter=["y"])
    same(inputs, chosen)
    response, outputs = predict_codec.read_predict_response(
        pb.PredictResponse(model_spec=SPEC, outputs=tensors).SerializeToString())
    assert response == pb.PredictResponse(model_spec=SPEC)
    same(outputs, chosen)


def test_big_typed_fields_are_read_as_well() -> None:
    tensor = pb.TensorProto(dtype=pb.DT_FLOAT, float_val=np.arange(BIG, dtype=np.float32).tolist())
    tensor.tensor_shape.dim.add(size=BIG + 1)
    _, outputs = predict_codec.read_predict_response(pb.PredictResponse(outputs={"y": tensor}).SerializeToString())
    assert outputs["y"][-2:].tolist() == [BIG - 1, BIG - 1]


def test_unknown_fields_are_skipped() -> None:
    unknown = b"\xfd\x3e" + b"1234" + b"\xf9\x3e" + b"12345678" + b"\xf8\x3e\x96\x01" + b"\xfa\x3e\x03abc"
    response, outputs = predict_codec.read_predict_response(
        unknown + predict_codec.write_predict_response(SPEC, {"y": arrays()["big"]}) + unknown)
    assert response.model_spec == SPEC
    same(outputs, {"y": arrays()["big"]})


def test_damaged_bytes_are_refused() -> None:
    data = predict_codec.write_predict_response(SPEC, {"y": arrays()["big"]})
    for bad in (data[:-1], data[:predict_codec.SMALL], data + b"\x80", data + b"\x0b", b"\xff" * 12,
                b"\xff" * predict_codec.SMALL):
        with pytest.raises(BadReply, match=f"{len(bad)} bytes that are no PredictResponse"):
            predict_codec.read_predict_response(bad)


def test_content_that_does_not_fit_its_shape_is_refused() -> None:
    tensor = encode(arrays()["big"])
    tensor.tensor_shape.dim[1].size += 1
    with pytest.raises(BadReply, match=r"takes \d+ bytes, got \d+"):
        predict_codec.read_predict_response(pb.PredictResponse(outputs={"y": tensor}).SerializeToString())


def by_protobuf(data: bytes) -> dict[str, list[object]] | None:
    try:
        return {name: decode(t).tolist() for name, t in pb.PredictResponse.FromString(data).outputs.items()}
    except (DecodeError, UnicodeDecodeError, BadReply):
        return None


def by_us(data: bytes) -> dict[str, list[object]] | None:
    try:
        return {name: array.tolist() for name, array in predict_codec.read_predict_response(data)[1].items()}
    except BadReply:
        return None


def test_damage_means_the_same_to_us_and_to_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_codec, "SMALL", 0)
    good = predict_codec.write_predict_response(SPEC, {"y": np.arange(6).reshape(2, 3),
                                                       "s": np.array([b"a", b"bb"], object)})
    good += pb.PredictResponse(outputs={"z": pb.TensorProto(dtype=pb.DT_INT32, int_val=[7])}).SerializeToString()
    dice, readable = random.Random(7), 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(dice.choice((1, 1, 2))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        assert by_us(bytes(data)) == by_protobuf(bytes(data)), data.hex()
        readable += by_us(bytes(data)) is not None
    assert readable > 300


def test_unusual_but_valid_bytes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_codec, "SMALL", 0)
    tensor = encode(np.arange(2)).SerializeToString()
    value = b"\x12" + bytes((len(tensor),)) + tensor
    for entry in (value + b"\x0a\x01y", b"\x0a\x01x\x0a\x01y" + value, value):  # swapped, twice the key, no key
        data = b"\x0a" + bytes((len(entry),)) + entry
        assert by_us(data) == by_protobuf(data) == {"y" if b"y" in entry else "": [0, 1]}
    twice = predict_codec.write_predict_response(SPEC, {"y": np.arange(2)}) + predict_codec.write_predict_response(
        SPEC, {"y": np.arange(3)})
    assert by_us(twice) == by_protobuf(twice) == {"y": [0, 1, 2]}
