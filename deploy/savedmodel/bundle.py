"""The index of a SavedModel's variables: which tensor lies where in which file.

A table in LevelDB's format, block entries sharing key prefixes; TensorFlow 1 compressed its blocks with Snappy, of
which only unpacking is needed. Sources: tensorflow/core/lib/io/table_format.txt,
tensorflow/core/util/tensor_bundle/tensor_bundle.h, tensorflow/core/protobuf/tensor_bundle.proto,
https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import DeployError, IncompleteVersion
from deploy.wire.contracts import shape_from_proto
from deploy.wire.dtypes import dtype_from_number
from deploy.wire.field_scan import read_varint
from deploy.wire.model_pb2 import BundleEntryProto, BundleHeaderProto
from deploy.wire.records import checksum

_FOOTER, _TRAILER, _SNAPPY = 48, 5, 1
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_MOST = 64 << 20  # bytes of an index; one of 100,000 variables has 10 MB
_MOST_UNPACKED = 64 << 20  # of all its compressed blocks
_MOST_VARIABLES = 1_000_000
_MOST_SHARDS = 100_000
_MOST_NAMES = 256 << 20  # characters of all names, which share their beginnings in the file
_MOST_DIMENSIONS = 254  # TensorShape::MaxDimensions
_MOST_BYTES = (1 << 63) - 1  # of a file

_LITERAL = 0
_SLICE = b"\0"  # begins the keys of slices: EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.cc


@dataclass(frozen=True, slots=True)
class Variable:
    """A stored tensor. offset and size are bytes in file number `shard`."""

    dtype: str
    shape: tuple[int | None, ...]
    shard: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A parsed index.

    variables: by the checkpoint's name for them, TensorFlow's own bookkeeping included; one that is stored in slices
    has no bytes of its own. slices: of partitioned variables.
    """

    shards: int
    variables: dict[str, Variable]
    slices: tuple[Variable, ...] = ()

    def needed(self, prefix: str = "variables") -> dict[str, int]:
        """The data files that have to be there, with their sizes in bytes."""
        sizes = [0] * self.shards
        for variable in (*self.variables.values(), *self.slices):
            sizes[variable.shard] = max(sizes[variable.shard], variable.offset + variable.size)
        return {f"{prefix}.data-{shard:05d}-of-{self.shards:05d}": size for shard, size in enumerate(sizes)}

    @property
    def size(self) -> int:
        """Bytes of all variables."""
        return sum(v.size for v in (*self.model_variables.values(), *self.slices) if v.dtype != "string")

    @property
    def parameters(self) -> int:
        """Numbers in all variables."""
        return sum(math.prod(size or 0 for size in v.shape) for v in self.model_variables.values())

    @property
    def model_variables(self) -> dict[str, Variable]:
        """Without TensorFlow's own bookkeeping, which is one string."""
        return {name: v for name, v in self.variables.items() if v.dtype != "string"}


def read(path: Path) -> Bundle:
    """Read a `variables.index`. Raises IncompleteVersion if it is truncated or damaged."""
    try:
        return _bundle(files.read_bytes(path, _MOST))
    except OSError as error:
        raise IncompleteVersion(f"{path} can't be read: {files.reason(error)}") from error
    except (ValueError, IndexError, DecodeError, DeployError) as error:
        raise IncompleteVersion(f"{path} is damaged or truncated: {error or 'it ends too early'}",
                                hint="copy or export the version again") from error


def _bundle(data: bytes) -> Bundle:
    if len(data) < _FOOTER or not data.endswith(_MAGIC):
        raise ValueError(f"no table of variables in these {len(data)} bytes")
    _, _, at = _handle(data, len(data) - _FOOTER)  # the metaindex, which TensorFlow leaves empty
    offset, size, _ = _handle(data, at)
    header, names = BundleHeaderProto(num_shards=1), 0
    variables, slices = dict[str, Variable](), list[Variable]()
    for key, value in _items(data, offset, size):
        if not key:
            header = BundleHeaderProto.FromString(value)
            continue
        variable = _variable(BundleEntryProto.FromString(value))
        if key.startswith(_SLICE):
            slices.append(variable)
        else:
            variables[key.decode()] = variable
        names += len(key)
        if len(variables) + len(slices) > _MOST_VARIABLES or names > _MOST_NAMES:
            raise ValueError(f"it has more than {_MOST_VARIABLES:,} variables, or names without end")
    if not 0 < header.num_shards <= _MOST_SHARDS:
        raise ValueError(f"it says that it has {header.num_shards:,} data files")
    if any(not 0 <= variable.shard < header.num_shards for variable in (*variables.values(), *slices)):
        raise ValueError(f"it has entries outside its {header.num_shards} data files")
    return Bundle(header.num_shards, variables, tuple(slices))


def _items(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of all blocks that the index block at `offset` names, in the order of the file: each block once."""
    left, end, last = _MOST_UNPACKED, 0, b""
    for number, (_, place) in enumerate(_entries(_block(data, offset, size, left))):
        start, length, _ = _handle(place, 0)
        if start < end or number > _MOST_VARIABLES:
            raise ValueError("its blocks overlap, or are too many")
        end = start + length
        block = _block(data, start, length, left)
        left -= len(block)
        for key, value in _entries(block):
            if key <= last and (key or number):
                raise ValueError("its entries aren't sorted")
            last = key
            yield key, value


def _variable(entry: BundleEntryProto) -> Variable:
    shape = shape_from_proto(entry.shape) or ()
    if len(shape) > _MOST_DIMENSIONS or math.prod(d or 0 for d in shape) > _MOST_BYTES:
        raise ValueError(f"a variable of {len(shape)} dimensions that no memory holds")
    if entry.offset < 0 or not 0 <= entry.size <= _MOST_BYTES - entry.offset:
        raise ValueError(f"a variable of {entry.size} bytes at byte {entry.offset} of its file")
    return Variable(dtype_from_number(entry.dtype), shape, entry.shard_id, entry.offset, entry.size)


def _block(data: bytes, offset: int, size: int, most: int) -> bytes:
    """A block's contents, of at most `most` bytes if it is compressed."""
    end = offset + size
    if end + _TRAILER > len(data):
        raise ValueError("a block lies outside of the file")
    if checksum(data[offset:end + 1]) != data[end + 1:end + _TRAILER]:
        raise ValueError("a block's checksum differs")
    if data[end] == _SNAPPY:  # TensorFlow 1 wrote it so
        return decompress(data[offset:end], most)
    if data[end]:
        raise ValueError(f"a block is compressed in an unknown way ({data[end]})")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    at, end, key, first = 0, len(block) - 4 * (restarts + 1), b"", True
    if end < 0:
        raise ValueError("a block is shorter than its own list of restarts")
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if at + fresh + length > end or shared > len(key):
            raise ValueError("an entry leads out of its block")
        last, key = key, key[:shared] + block[at:at + fresh]
        if key <= last and not first:
            raise ValueError("a block's entries aren't sorted")
        at, first = at + fresh + length, False
        yield key, block[at - length:at]


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """A block's offset and size, and where the next thing begins."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return offset, size, at


def decompress(block: bytes, most: int) -> bytes:
    """The block's contents, of at most `most` bytes. Raises ValueError or IndexError if it is damaged, or longer."""
    size, at = read_varint(block, 0)
    if size > most:
        raise ValueError(f"a compressed block of {size:,} bytes, and at most {most:,} make sense")
    out = bytearray()
    while at < len(block):
        length, offset, at = _element(block, at)
        if len(out) + length > size:
            raise ValueError(f"a compressed block has more than its {size} bytes")
        if offset:
            _copy(out, offset, length)
        else:
            out += block[at:at + length]
            at += length
    if len(out) != size:
        raise ValueError(f"a compressed block has {len(out)} bytes instead of {size}")
    return bytes(out)


def _element(block: bytes, at: int) -> tuple[int, int, int]:
    """How many bytes come next, how far back they stand (0: they follow), and where the next thing begins."""
    tag = block[at]
    element, at = tag & 3, at + 1
    if element == _LITERAL:
        length = (tag >> 2) + 1
        if length > 60:  # the length less one stands in the next 1 to 4 bytes
            extra = length - 60
            length, at = int.from_bytes(block[at:at + extra], "little") + 1, at + extra
        return length, 0, at
    if element == 1:
        length, offset, at = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[at], at + 1
    else:
        width = 2 if element == 2 else 4
        length, offset, at = (tag >> 2) + 1, int.from_bytes(block[at:at + width], "little"), at + width
    if not offset:
        raise ValueError("a compressed block refers to before its beginning")
    return length, offset, at


def _copy(out: bytearray, offset: int, length: int) -> None:
    """Repeat what stands `offset` bytes before the end; it may overlap with what it makes."""
    start = len(out) - offset
    if start < 0:
        raise ValueError("a compressed block refers to before its beginning")
    piece = out[start:start + length]
    out += (piece * (length // len(piece) + 1))[:length]
