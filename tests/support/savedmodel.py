"""SavedModels written without TensorFlow: a graph's message, and an index of variables as TensorFlow writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import google_crc32c

from deploy.wire.model_pb2 import BundleEntryProto, BundleHeaderProto, MetaGraphDef, SavedModel
from deploy.wire.tensor_pb2 import DataType

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def block(entries: Mapping[bytes, bytes]) -> bytes:
    data, previous = b"", b""
    for key, value in sorted(entries.items()):
        shared = next((i for i, (a, b) in enumerate(zip(key, previous, strict=False)) if a != b),
                      min(len(key), len(previous)))
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    data += (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\0"
    crc = google_crc32c.value(data)
    return bytes(data + (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little"))


def table(*blocks: Mapping[bytes, bytes]) -> bytes:
    data, index = b"", {}
    for entries in blocks:
        written = block(entries)
        index[max(entries)] = varint(len(data)) + varint(len(written) - 5)
        data += written
    meta, last = block({}), block(index)
    footer = b"".join(varint(n) for n in (len(data), len(meta) - 5, len(data) + len(meta), len(last) - 5))
    return data + meta + last + footer.ljust(40, b"\0") + MAGIC


def index(shards: int, entries: Mapping[str, BundleEntryProto]) -> bytes:
    header = BundleHeaderProto(num_shards=shards).SerializeToString()
    return table({b"": header}, {name.encode(): entry.SerializeToString() for name, entry in entries.items()})


def graph(*ops: str, tags: tuple[str, ...] = ("serve",), restore: str = "") -> MetaGraphDef:
    """A meta graph of nodes with these ops; a signature x float32[?] -> y."""
    meta = MetaGraphDef()
    meta.meta_info_def.tags.extend(tags)
    meta.meta_info_def.tensorflow_version = "2.99.0"
    meta.graph_def.versions.producer = 2474
    meta.saver_def.restore_op_name = restore
    for number, op in enumerate(ops):
        meta.graph_def.node.add(name=f"n{number}", op=op)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for place, name in ((signature.inputs, "x"), (signature.outputs, "y")):
        place[name].name, place[name].dtype = f"{name}:0", DataType.DT_FLOAT
        place[name].tensor_shape.dim.add(size=-1)
    return meta


def save(directory: Path, *graphs: MetaGraphDef) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    model = SavedModel(saved_model_schema_version=1, meta_graphs=graphs)
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    return directory


def save_variables(directory: Path, shards: int = 1, size: int = 40) -> Path:
    """Variables of `size` bytes, one in each data file."""
    folder = directory / "variables"
    folder.mkdir()
    entries = {}
    for shard in range(shards):
        entry = entries[f"layer/{shard}"] = BundleEntryProto(dtype=DataType.DT_FLOAT, shard_id=shard, offset=8,
                                                             size=size - 8)
        entry.shape.dim.add(size=(size - 8) // 4)
        (folder / f"variables.data-{shard:05d}-of-{shards:05d}").write_bytes(bytes(size))
    (folder / "variables.index").write_bytes(index(shards, entries))
    return directory
