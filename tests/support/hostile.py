"""Directories that somebody made to harm whoever reads them, each small on disk."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.goldens.recorded import FILE
from deploy.wire import records, tensors
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_pb2 import BundleEntryProto, BundleHeaderProto
from deploy.wire.tensor_pb2 import DataType
from tests.support import savedmodel as support

Maker = Callable[[Path], None]
MANIFEST = "assets.extra/tfs_manifest.json"


def whole(directory: Path) -> Path:
    """A harmless version to start from."""
    made = support.save(directory, support.graph("Placeholder", "Identity"))
    (made / "assets.extra").mkdir(exist_ok=True)
    (made / "variables").mkdir(exist_ok=True)
    return made


def _write(name: str, data: Callable[[], bytes]) -> Maker:
    def make(directory: Path) -> None:
        (directory / name).write_bytes(data())
    return make


def _index(data: Callable[[], bytes]) -> Maker:
    return _write("variables/variables.index", data)


def _sparse(name: str, size: int) -> Maker:
    def make(directory: Path) -> None:
        with (directory / name).open("wb") as file:
            file.truncate(size)
    return make


def _manifest(text: str) -> Maker:
    return _write(MANIFEST, text.encode)


def _records(log: Callable[[], bytes], times: int) -> Maker:
    def make(directory: Path) -> None:
        records.write(directory / FILE, [log()] * times)
    return make


def _pipe(name: str) -> Maker:
    return lambda d: os.mkfifo(d / name)


def _link(name: str, target: str) -> Maker:
    return lambda d: (d / name).symlink_to(target)


def _nested(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def _link_bomb(directory: Path) -> None:
    """2^30 ways through thirty directories."""
    for level in range(30):
        here = directory / "assets" / f"l{level}"
        here.mkdir(parents=True)
        for name in "ab":
            (here / name).symlink_to(f"../l{level + 1}")
    (directory / "assets" / "l30").mkdir()


def _copies(directory: Path) -> None:
    (directory / "assets").mkdir(exist_ok=True)
    (directory / "assets" / "big").write_bytes(bytes(1 << 20))
    for number in range(2000):
        (directory / "assets" / f"a{number}").symlink_to("big")


def _many_variables(count: int, **entry: Any) -> bytes:
    return support.index(1, {f"v{number:07}": BundleEntryProto(dtype=DataType.DT_FLOAT, **entry)
                             for number in range(count)})


def _shape(*sizes: int) -> bytes:
    entry = BundleEntryProto(dtype=DataType.DT_FLOAT, size=4)
    for size in sizes:
        entry.shape.dim.add(size=size)
    return support.index(1, {"v": entry})


def _one_block_again(times: int) -> bytes:
    """An index whose every entry names the same block."""
    written = support.block({b"": BundleHeaderProto(num_shards=1).SerializeToString(), b"v" * 3000: b"\x08\x01"})
    place = support.varint(0) + support.varint(len(written) - 5)
    meta, last = support.block({}), support.block({f"k{n:07}".encode(): place for n in range(times)})
    footer = b"".join(support.varint(n) for n in (len(written), len(meta) - 5, len(written) + len(meta), len(last) - 5))
    return written + meta + last + footer.ljust(40, b"\0") + support.MAGIC


def _filled(size: int) -> bytes:
    """A record of some bytes whose tensors take `size` numbers."""
    log = pb.PredictionLog()
    for tensor in (log.predict_log.request.inputs["x"], log.predict_log.response.outputs["y"]):
        tensor.CopyFrom(tensors.header("float32", (size,)))
        tensor.float_val.append(1)
    return log.SerializeToString()


def _shards(number: int) -> bytes:
    return support.index(number, {"v": BundleEntryProto(dtype=DataType.DT_FLOAT)})


def _circle(directory: Path) -> None:
    (directory / "a").symlink_to("b")
    (directory / "b").symlink_to("a")


def _socket(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(directory / "assets.extra", os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/s")
        os.close(here)


def _asset(name: str) -> Maker:
    def make(directory: Path) -> None:
        graph = support.graph("Placeholder")
        graph.asset_file_def.add(filename=name)
        (directory / "saved_model.pb").unlink()
        support.save(directory, graph)
    return make


def _signatures(directory: Path) -> None:
    graph = support.graph(*["Identity"] * 5000)
    for number in range(1, 5000):
        graph.graph_def.node[number].input.append(graph.graph_def.node[number - 1].name)
    for number in range(2000):
        graph.signature_def[f"s{number}"].CopyFrom(graph.signature_def["serving_default"])
        graph.signature_def[f"s{number}"].outputs["y"].name = "n4999:0"
    support.save(directory, graph)


def _parsers(directory: Path) -> None:
    graph = support.graph(*["Identity"] * 5000, *["ParseExampleV2"] * 2000)
    for number in range(1, 5000):
        graph.graph_def.node[number].input.append(graph.graph_def.node[number - 1].name)
    for number in range(5000, 7000):
        graph.graph_def.node[number].input.extend([f"n{number - 2001}", "a", "b", "c"])
    support.save(directory, graph)


_HUGE_MANIFEST = {"format": 1, "model": "m", "version": 1, "files": {}, "contract": {}, "created": "x",
                  "producer": {}, "goldens": {"count": 0}, "tolerances": {}, "algorithm": "blake3", "digest": "x"}

HOSTILE: dict[str, Maker] = {
    "a pipe as manifest": _pipe(MANIFEST),
    "a pipe as warm-up": _pipe(FILE),
    "a pipe as index": _pipe("variables/variables.index"),
    "a pipe beside": _pipe("assets.extra/pipe"),
    "a pipe as TFLite file": _pipe("model.tflite"),
    "a socket beside": _socket,
    "a device as manifest": _link(MANIFEST, "/dev/zero"),
    "a device as warm-up": _link(FILE, "/dev/zero"),
    "a link to itself": _link("assets.extra/loop", "loop"),
    "links to each other": _circle,
    "a link upwards": _link("assets.extra/up", ".."),
    "2^30 ways": _link_bomb,
    "two thousand links to one file": _copies,
    "400 directories in each other": _nested,
    "an index of 100 million shards": _index(lambda: _shards(100_000_000)),
    "an index of 2^31 shards": _index(lambda: _shards((1 << 31) - 1)),
    "an index of negative shards": _index(lambda: _shards(-1)),
    "an index of 99,999 shards": _index(lambda: _shards(99_999)),
    "a variable of 50,000 dimensions": _index(lambda: _shape(*[1 << 40] * 50_000)),
    "a variable of 2^126 numbers": _index(lambda: _shape(1 << 63 - 1, 1 << 62)),
    "a variable before its file": _index(lambda: _many_variables(1, offset=-5, size=4)),
    "a variable behind all files": _index(lambda: _many_variables(1, offset=(1 << 63) - 1, size=(1 << 63) - 1)),
    "one block 200,000 times": _index(lambda: _one_block_again(200_000)),
    "a sparse index": _sparse("variables/variables.index", 50 << 30),
    "a sparse graph": _sparse("saved_model.pb", 50 << 30),
    "a sparse graph of a message's size": _sparse("saved_model.pb", (1 << 31) - 1),
    "sparse weights": _sparse("variables/variables.data-00000-of-00001", 50 << 30),
    "a sparse manifest": _sparse(MANIFEST, 20 << 30),
    "a sparse warm-up": _sparse(FILE, 50 << 30),
    "a sparse TFLite file": _sparse("model.tflite", 50 << 30),
    "a manifest nested too deeply": _manifest("[" * 200_000),
    "a manifest of infinity": _manifest(json.dumps({**_HUGE_MANIFEST, "goldens": {"count": 1e999}})),
    "a manifest of half a character": _manifest(json.dumps({**_HUGE_MANIFEST, "files": {"\ud800": {
        "size": 1, "digest": "x"}}})),
    "a manifest of other types": _manifest(json.dumps({**_HUGE_MANIFEST, "producer": 5, "created": {}})),
    "a manifest with a number of 10,000 digits": _manifest('{"format": 1' + "0" * 10_000 + "}"),
    "a million empty records": _records(bytes, 300_000),
    "records that fill themselves": _records(lambda: _filled(1 << 25), 500),
    "records that fill terabytes": _records(lambda: _filled(1 << 42), 10),
    "an asset from elsewhere": _asset("../../../../../../etc/passwd"),
    "an asset that is a device": _asset("/dev/zero"),
    "an asset with a long name": _asset("a" * 5000),
    "an asset with a NUL": _asset("a\0b"),
    "thousands of signatures": _signatures,
    "thousands of parsers": _parsers,
}
