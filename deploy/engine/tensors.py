"""numpy arrays to TF_Tensor and back.

A small array is copied. A large one is handed over where it lies if it is aligned as TensorFlow wants it (64 bytes),
and is kept alive until TensorFlow lets go of it, which a model with state may do long after the run.
A result that isn't small is a view of TensorFlow's memory, which is freed with the last array that looks at it.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np

from deploy.engine.library import EngineError, Library
from deploy.wire.dtypes import Array
from deploy.wire.tensors import dims, shaped

_SMALL = 1 << 17  # bytes; below this a copy is cheaper than a call back
_COPIED = 1 << 12  # bytes; below this a copy is cheaper than asking numpy where an array lies, or lending a result
_STRING = 7
_INVALID, _UNIMPLEMENTED = 3, 12  # TF_Code
_NUMBERS: dict[np.dtype[Any], int] = {np.dtype(kind): number for kind, number in (
    (np.float32, 1), (np.float64, 2), (np.int32, 3), (np.uint8, 4), (np.int16, 5), (np.int8, 6), (np.complex64, 8),
    (np.int64, 9), (np.bool_, 10), (ml_dtypes.bfloat16, 14), (np.uint16, 17), (np.complex128, 18), (np.float16, 19),
    (np.uint32, 22), (np.uint64, 23))}
_DTYPES = {number: dtype for dtype, number in _NUMBERS.items()}
_REFUSED = {20: "resource", 21: "variant"}
_DIMS = [ctypes.c_int64 * n for n in range(255)]  # TensorFlow's limit of rank is 254


def to_tensor(tf: Library, array: Array) -> int:
    """A new TF_Tensor with `array`'s values; the caller deletes it. Raises EngineError for a dtype TensorFlow lacks."""
    number = _NUMBERS.get(array.dtype)
    shape = dims(array)
    sizes = _DIMS[len(shape)](*shape)
    if number is None:
        if array.dtype.kind not in "OSU":
            return to_tensor(tf, _native(array))
        return _from_strings(tf, array, sizes)
    if array.nbytes > _SMALL:
        array = np.ascontiguousarray(array)
        return int(tf.NewTensor(number, sizes, len(sizes), _address(array), array.nbytes, tf.release, tf.keep(array)))
    tensor = tf.AllocateTensor(number, sizes, len(sizes), array.nbytes)
    if 0 < array.nbytes <= _COPIED:
        ctypes.memmove(tf.TensorData(tensor), array.tobytes(), array.nbytes)
    elif array.nbytes:
        array = np.ascontiguousarray(array)
        ctypes.memmove(tf.TensorData(tensor), _address(array), array.nbytes)
    return int(tensor)


def from_tensor(tf: Library, tensor: int) -> Array:
    """The values of a TF_Tensor, which belongs to the result from now on. Strings: dtype object, bytes."""
    number = tf.TensorType(tensor)
    shape = tuple([tf.Dim(tensor, axis) for axis in range(tf.NumDims(tensor))])
    dtype = _DTYPES.get(number)
    if dtype is None:
        try:
            return _to_strings(tf, tensor, number, shape)
        finally:
            tf.DeleteTensor(tensor)
    size = tf.TensorByteSize(tensor)
    if not size:
        tf.DeleteTensor(tensor)
        return shaped(np.empty(0, dtype), shape)
    if size <= _COPIED:
        content = bytearray(ctypes.string_at(tf.TensorData(tensor), size))
        tf.DeleteTensor(tensor)
        return shaped(np.frombuffer(content, dtype), shape)
    array = shaped(np.asarray(_Memory(tf, tensor, size)).view(dtype), shape)
    # Not the only owner: a constant, a variable, or a fed array that the graph hands through. Those stay untouched.
    return array if tf.TensorMaybeMove(tensor) else shaped(array.ravel().copy(), shape)


class _Memory:
    """A TF_Tensor's memory for numpy, which keeps this object as long as any array looks at it."""

    __slots__ = ("__array_interface__", "_delete", "_tensor")

    def __init__(self, tf: Library, tensor: int, size: int) -> None:
        self._delete, self._tensor = tf.DeleteTensor, tensor
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,),
                                    "data": (tf.TensorData(tensor), False)}

    def __del__(self) -> None:
        self._delete(self._tensor)


def _native(array: Array) -> Array:
    """`array` in this machine's byte order, since only that has a number in TensorFlow."""
    native = array.astype(array.dtype.newbyteorder("="))
    if native.dtype not in _NUMBERS:
        raise EngineError(_INVALID, f"TensorFlow has no dtype for numpy's {array.dtype}")
    return native


def _from_strings(tf: Library, array: Array, extents: Any) -> int:
    """TF_TString in its large form: size, capacity, pointer (tensorflow/core/platform/ctstring_internal.h).

    All pointers go into one block of ours. TensorFlow copies such a string whenever it stores one elsewhere, and never
    frees these: a tensor over foreign memory is read-only for it.
    """
    items = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    try:
        block = np.frombuffer(b"\0".join(items) + b"\0", np.uint8)
    except TypeError as error:
        raise EngineError(_INVALID, f"a string tensor takes bytes or str: {error}") from error
    sizes = np.fromiter(map(len, items), np.uint64, len(items))
    headers = np.empty((len(items), 3), np.uint64)
    headers[:, 0] = sizes << np.uint64(2) | np.uint64(1)
    headers[:, 1] = sizes
    ends = itertools.accumulate(map(len, items), lambda total, size: total + size + 1, initial=_address(block))
    headers[:, 2] = np.fromiter(ends, np.uint64, len(items) + 1)[:-1]
    return int(tf.NewTensor(_STRING, extents, len(extents), _address(headers), headers.nbytes, tf.release,
                            tf.keep(headers, block)))


def _to_strings(tf: Library, tensor: int, number: int, shape: tuple[int, ...]) -> Array:
    if number != _STRING:
        name = _REFUSED.get(number, f"number {number}")
        raise EngineError(_UNIMPLEMENTED, f"an output of dtype {name} can't leave the graph")
    result = np.empty(math.prod(shape), object)
    start = tf.TensorData(tensor)
    raw = ctypes.string_at(start, 24 * result.size)
    headers = np.frombuffer(raw, np.uint64).reshape(-1, 3)
    kinds = (headers[:, 0] & np.uint64(3)).astype(np.intp)  # 0 small, 1 large, 2 offset, 3 view
    rows = np.arange(result.size, dtype=np.uint64) * np.uint64(24) + np.uint64(start or 0)
    words = np.frombuffer(raw, np.uint32).reshape(-1, 6)
    pointers = np.choose(kinds, (rows + np.uint64(1), headers[:, 2], rows + words[:, 1], headers[:, 1]))
    sizes = np.choose(kinds, (headers[:, 0] & np.uint64(255), headers[:, 0], words[:, 0], headers[:, 0]))
    sizes = sizes.astype(np.uint64) >> np.uint64(2)
    result[:] = list(map(ctypes.string_at, pointers.tolist(), sizes.tolist()))
    return shaped(result, shape)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
