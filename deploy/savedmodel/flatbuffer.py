"""A FlatBuffer read as data: tables point to fields by offsets, so that only what is asked for is read.

A file of somebody else's may lead to the same bytes again and again, so what is read has a limit. TFLite's format has
numbers for names: they are here, too. Sources: https://flatbuffers.dev/internals/; BuiltinOperator and TensorType in
tensorflow/compiler/mlir/lite/schema/schema.fbs (TensorFlow 2.21), which only ever appends to both, so an older file
means the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

OPERATORS = tuple("""
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX
    SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE
    BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL
    LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT
    RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT
    UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
    LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK
    ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4
    NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
    GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE
    STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
    STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
    STABLEHLO_CASE
""".split())  # noqa: SIM905

DTYPES = ("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
          "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4")

_LONGEST = 1_000_000  # entries of a vector; more is damage, not a model
_MOST_READ = 64 << 20  # bytes of names, shapes and tables: a table may be named a million times
_PER_TABLE = 32  # what a table counts for beside its bytes, for the time that it takes
_MOST_CONTENT = 64 << 20  # bytes of metadata


class Budget:
    """What may be read of a file in all, since its offsets may lead to the same bytes again and again."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_READ

    def spend(self, size: int) -> None:
        """Raises ValueError beyond the limit."""
        self._left -= size
        if self._left < 0:
            raise ValueError(f"its tables take more than {_MOST_READ:,} bytes")


class Table:
    """A table of a FlatBuffer. Fields are numbered as in the schema; an absent one has its default."""

    __slots__ = ("_at", "_budget", "_data", "_fields")

    def __init__(self, data: Any, at: int, budget: Budget) -> None:
        self._data, self._at, self._budget = data, at, budget
        vtable = at - struct.unpack_from("<i", data, at)[0]
        size = struct.unpack_from("<H", data, vtable)[0]
        if vtable < 0 or size < 4 or size % 2 or vtable + size > len(data):
            raise ValueError(f"no table at byte {at}")
        budget.spend(size + _PER_TABLE)
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", data, vtable + 4)

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A number; form: as struct has it."""
        place = self._place(field)
        return default if place is None else int(struct.unpack_from(form, self._data, place)[0])

    def text(self, field: int) -> str:
        """A text, empty if it is absent."""
        place = self._target(field)
        if place is None:
            return ""
        size = unsigned(self._data, place)
        if place + 4 + size > len(self._data):
            raise ValueError(f"a text of {size} bytes at byte {place} lies outside of the file")
        self._budget.spend(size)
        return bytes(self._data[place + 4:place + 4 + size]).decode(errors="replace")

    def numbers(self, field: int) -> tuple[int, ...] | None:
        """A vector of int32; None if it is absent."""
        place = self._target(field)
        if place is None:
            return None
        size = _length(self._data, place)
        self._budget.spend(4 * size)
        return struct.unpack_from(f"<{size}i", self._data, place + 4)

    def count(self, field: int) -> int:
        """The length of a vector."""
        place = self._target(field)
        return 0 if place is None else _length(self._data, place)

    def check_vector(self, field: int) -> None:
        """Raises ValueError unless a vector of bytes lies within the file."""
        place = self._target(field)
        if place is not None and place + 4 + unsigned(self._data, place) > len(self._data):
            raise ValueError(f"weights of {unsigned(self._data, place):,} bytes at byte {place:,} go past its end: "
                             "it is truncated")

    def content(self, field: int) -> bytes:
        """A vector of bytes."""
        place = self._target(field)
        if place is None:
            return b""
        size = unsigned(self._data, place)
        if size > _MOST_CONTENT:
            raise ValueError(f"metadata of {size:,} bytes")
        return bytes(self._data[place + 4:place + 4 + size])

    def tables(self, field: int) -> Iterator[Table]:
        """A vector of tables."""
        place = self._target(field)
        if place is not None:
            for item in range(place + 4, place + 4 + 4 * _length(self._data, place), 4):
                yield Table(self._data, item + unsigned(self._data, item), self._budget)

    def _place(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else None

    def _target(self, field: int) -> int | None:
        place = self._place(field)
        return None if place is None else place + unsigned(self._data, place)


def unsigned(data: Any, at: int) -> int:
    """A number of four bytes."""
    return int(struct.unpack_from("<I", data, at)[0])


def _length(data: Any, place: int) -> int:
    size = unsigned(data, place)
    if size > _LONGEST or place + 4 + size > len(data):
        raise ValueError(f"a vector of {size} entries at byte {place} lies outside of the file")
    return size
