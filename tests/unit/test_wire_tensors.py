"""numpy arrays <-> TensorProto."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deploy.errors import BadReply, BadRequest
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import NAMES, SENDABLE
from deploy.wire.tensors import decode, dims, dtype_from_number, dtype_name, dtype_number, encode, numpy_dtype

NUMERIC = [name for name in SENDABLE if name not in ("string", "bfloat16")]


def proto(dtype: str, *shape: int, **values: Any) -> pb.TensorProto:
    message = pb.TensorProto(dtype=dtype_number(dtype), **values)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


@pytest.mark.parametrize("dtype", SENDABLE)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3), (3, 0, 2)])
def test_what_is_encoded_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    array = np.array([b"%d\0" % i for i in range(size)], object) if dtype == "string" else np.arange(size)
    array = array.astype(numpy_dtype(dtype)).reshape(shape)
    back = decode(encode(array))
    assert (back.dtype, back.shape) == (array.dtype, shape)
    assert np.array_equal(back, array)


@given(st.sampled_from(NUMERIC).flatmap(lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, min_side=0))))
@settings(max_examples=60, deadline=None)
def test_any_array_comes_back_bit_for_bit(array: np.ndarray[Any, Any]) -> None:
    back = decode(pb.TensorProto.FromString(encode(array).SerializeToString()))
    assert back.tobytes() == array.tobytes()
    assert back.shape == array.shape


def test_values_are_written_as_raw_little_endian_bytes() -> None:
    message = encode(np.array([[1, 258]], dtype=">u2"))
    assert message.tensor_content == b"\x01\x00\x02\x01"
    assert (message.dtype, [d.size for d in message.tensor_shape.dim]) == (pb.DT_UINT16, [1, 2])


def test_strided_and_fortran_arrays_are_written_in_row_order() -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    for view in (array[:, ::2], array.T, np.asfortranarray(array)):
        assert np.array_equal(decode(encode(view)), view)


def test_a_scalar_has_a_known_shape_on_the_wire() -> None:
    message = encode(np.float32(1))
    assert message.HasField("tensor_shape")
    assert decode(message).shape == ()


def test_text_becomes_utf8_and_zero_bytes_stay() -> None:
    assert list(encode(["ü", "b"]).string_val) == ["ü".encode(), b"b"]
    assert list(encode([b"a\0", b"\0"]).string_val) == [b"a\0", b"\0"]
    assert list(encode(np.array(["x", "yz"])).string_val) == [b"x", b"yz"]
    assert list(encode(np.array([b"x", "y"], dtype=object)).string_val) == [b"x", b"y"]


def test_encode_casts_losslessly_when_a_dtype_is_given() -> None:
    assert decode(encode([1, 2], "float32")).dtype == np.float32
    with pytest.raises(BadRequest, match="expected int32, got float64"):
        encode([1.5], "int32")


def test_decoding_content_makes_no_writable_copy() -> None:
    array = decode(encode(np.arange(1000, dtype=np.float32)))
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize(("message", "expected"), [
    (proto("float32", 4, float_val=[1, 2]), [1, 2, 2, 2]),
    (proto("float32", 2, 2, float_val=[3]), [[3, 3], [3, 3]]),
    (proto("float64", 1, double_val=[1, 2, 3]), [1]),
    (proto("int64", 3), [0, 0, 0]),
    (proto("bool", 3, bool_val=[False, True]), [False, True, True]),
    (proto("complex64", 3, scomplex_val=[1, 2, 3, 4]), [1 + 2j, 3 + 4j, 3 + 4j]),
    (proto("complex128", 2, dcomplex_val=[1, 2, 3]), [1 + 2j, 1 + 2j]),
    (proto("float16", 2, half_val=[0x3C00]), [1, 1]),
    (proto("int8", 2, int_val=[-1]), [-1, -1]),
    (proto("uint8", 2, int_val=[255, 300]), [255, 44]),
    (proto("uint32", 1, uint32_val=[2**32 - 1]), [2**32 - 1]),
    (proto("uint64", 1, uint64_val=[2**64 - 1]), [2**64 - 1]),
    (proto("string", 3, string_val=[b"a", b"b"]), [b"a", b"b", b"b"]),
    (proto("string", 2), [b"", b""]),
    (proto("string", 2, tensor_content=b"\x01\x02abc"), [b"a", b"bc"]),
    (proto("string", 1, tensor_content=b"\x80\x01" + b"x" * 128), [b"x" * 128]),
    (proto("float32", 0, tensor_content=b"ignored"), []),
])
def test_typed_fields_follow_tensorflows_rules(message: pb.TensorProto, expected: object) -> None:
    array = decode(message)
    assert array.dtype == numpy_dtype(dtype_from_number(message.dtype))
    assert array.tolist() == expected


@pytest.mark.parametrize(("message", "sentence"), [
    (proto("float32", 2, tensor_content=b"1234567"), r"shape \[2\] takes 8 bytes, got 7"),
    (proto("float32", -1), r"shape \[-1\]; a value's dimensions have to be known"),
    (proto("bool", 2, tensor_content=b"\1\2"), r"dtype bool and shape \[2\] has bytes other than 0 and 1"),
    (proto("float32", *[1] * 255), r"no array can have the shape \[1, 1"),
    (proto("float32", 2**62, 4, 0), r"no array can have the shape"),
    (proto("resource", 1), "dtype resource, which has no array form"),
    (pb.TensorProto(), "dtype invalid, which has no array form"),
    (proto("string", 2, tensor_content=b"\x01\x05abc"), "2 strings packed into 5 bytes: the lengths don't add up"),
    (proto("string", 3, tensor_content=b"\xff\xff"), "3 strings packed into 2 bytes"),
    (proto("float32", 2**40, 2**20), "takes 4611686018427387904 bytes, but values of 0"),
    (proto("string", 2**62), "but values of 0"),
    (proto("float32", 2**62, 2**62, float_val=[1]), "but values of 4"),
    (proto("float32", 2**28, float_val=[1]), "takes 1073741824 bytes, but values of 4"),
    (proto("string", 2**28, string_val=[b"a"]), "takes 6442450944 bytes, but values of 24"),
    (proto("float32", 2**62, 2**62, 0), "no array can have the shape"),
    (proto("string", 2, tensor_content=b"\x80" * 12 + b"\x01\x01a"), "2 strings packed into 15 bytes"),
    (proto("string", 3, tensor_content=b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 2 + b"\x03a"), "3 strings packed"),
    (proto("string", 2**40, tensor_content=b"\x01a"), "strings packed into 2 bytes"),
])
def test_what_does_not_fit_together_is_refused(message: pb.TensorProto, sentence: str) -> None:
    with pytest.raises(BadReply, match=sentence):
        decode(message)


def test_a_dtype_that_tensorflow_does_not_know() -> None:
    with pytest.raises(BadReply, match="dtype number 99"):
        decode(pb.TensorProto.FromString(b"\x08\x63"))
    with pytest.raises(BadRequest, match="no dtype called 'float31'"):
        dtype_number("float31")
    with pytest.raises(BadRequest, match="dtype variant can't be sent"):
        numpy_dtype("variant")
    with pytest.raises(BadRequest, match=r"numpy type datetime64\[s\] can't be sent"):
        encode(np.array(0, "datetime64[s]"))


def test_names_numbers_and_numpy_types_agree() -> None:
    assert (dtype_number("float32"), dtype_number("half_ref".replace("half", "float16"))) == (1, 119)
    assert [dtype_number(name) for name in NAMES.values()] == list(NAMES)
    for name in SENDABLE:
        assert dtype_name(numpy_dtype(name)) == name
    assert dtype_name(np.dtype(">f8")) == "float64"


def test_more_than_a_message_can_have_is_refused() -> None:
    array = np.broadcast_to(np.float32(1), (2**29,))  # 2 GiB, of which only one value is in memory
    with pytest.raises(BadRequest, match="2147483648 bytes are more than a message can have"):
        encode(array)


@pytest.mark.parametrize("shape", [(1,) * 254, (1,) * 100 + (2,), (0, 2**62, 4)])
def test_shapes_that_numpy_lacks_are_folded(shape: tuple[int, ...]) -> None:
    array = decode(proto("float32", *shape, float_val=[1.5]))
    assert (dims(array), array.ravel().tolist()) == (shape, [1.5] * math.prod(shape))
    assert dims(array[:0]) == (0,)


def test_of_an_unknown_rank_the_dimensions_count() -> None:
    shape = pb.TensorShapeProto(unknown_rank=True)
    assert decode(pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=shape, float_val=[2])).tolist() == 2.0
    shape.dim.add(size=2)
    assert decode(pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=shape, float_val=[2])).tolist() == [2.0, 2.0]
