"""The index of a SavedModel's variables: which tensor lies where in which file.

A table in LevelDB's format, block entries sharing key prefixes. Sources: tensorflow/core/lib/io/table_format.txt,
tensorflow/core/util/tensor_bundle/tensor_bundle.h, tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy.errors import IncompleteVersion
from deploy.savedmodel import snappy
from deploy.wire.contracts import shape_from_proto
from deploy.wire.dtypes import dtype_from_number
from deploy.wire.model_pb2 import BundleEntryProto, BundleHeaderProto
from deploy.wire.spans import read_varint

_FOOTER, _TRAILER, _SNAPPY = 48, 5, 1
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_MASK_DELTA = 0xA282EAD8


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
    """A parsed index. variables: by the checkpoint's name for them, TensorFlow's own bookkeeping included."""

    shards: int
    variables: dict[str, Variable]

    def needed(self, prefix: str = "variables") -> dict[str, int]:
        """The data files that have to be there, with their sizes in bytes."""
        sizes = [0] * self.shards
        for variable in self.variables.values():
            sizes[variable.shard] = max(sizes[variable.shard], variable.offset + variable.size)
        return {f"{prefix}.data-{shard:05d}-of-{self.shards:05d}": size for shard, size in enumerate(sizes)}

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
        return _bundle(path.read_bytes())
    except (ValueError, IndexError, DecodeError) as error:
        raise IncompleteVersion(f"{path} is damaged or truncated: {error or 'it ends too early'}",
                                hint="copy or export the version again") from error


def _bundle(data: bytes) -> Bundle:
    if len(data) < _FOOTER or not data.endswith(_MAGIC):
        raise ValueError(f"no table of variables in these {len(data)} bytes")
    _, _, at = _handle(data, len(data) - _FOOTER)  # the metaindex, which TensorFlow leaves empty
    offset, size, _ = _handle(data, at)
    header, variables = BundleHeaderProto(num_shards=1), {}
    for _, place in _entries(_block(data, offset, size)):
        for key, value in _entries(_block(data, *_handle(place, 0)[:2])):
            if key:
                variables[key.decode()] = _variable(BundleEntryProto.FromString(value))
            else:
                header = BundleHeaderProto.FromString(value)
    if any(not 0 <= variable.shard < header.num_shards for variable in variables.values()):
        raise ValueError(f"it has entries outside its {header.num_shards} data files")
    return Bundle(header.num_shards, variables)


def _variable(entry: BundleEntryProto) -> Variable:
    return Variable(dtype_from_number(entry.dtype), shape_from_proto(entry.shape) or (), entry.shard_id, entry.offset,
                    entry.size)


def _block(data: bytes, offset: int, size: int) -> bytes:
    import google_crc32c

    end = offset + size
    if end + _TRAILER > len(data):
        raise ValueError("a block lies outside of the file")
    crc = google_crc32c.value(data[offset:end + 1])
    if ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF != int.from_bytes(data[end + 1:end + _TRAILER], "little"):
        raise ValueError("a block's checksum differs")
    if data[end] == _SNAPPY:  # TensorFlow 1 wrote it so
        return snappy.decompress(data[offset:end])
    if data[end]:
        raise ValueError(f"a block is compressed in an unknown way ({data[end]})")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    at, end, key = 0, len(block) - 4 * (restarts + 1), b""
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        key = key[:shared] + block[at:at + fresh]
        at += fresh + length
        yield key, block[at - length:at]


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """A block's offset and size, and where the next thing begins."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return offset, size, at
