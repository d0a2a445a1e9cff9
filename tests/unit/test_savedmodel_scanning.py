"""Graphs read piece by piece say the same as graphs parsed whole; compressed indexes."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import pytest
from google.protobuf.message import DecodeError

from deploy.errors import IncompleteVersion
from deploy.savedmodel import bundle
from deploy.savedmodel.flow import MAIN, scopes
from deploy.savedmodel.scanning import GraphFile
from deploy.wire import field_scan
from deploy.wire.model_pb2 import BundleEntryProto, BundleHeaderProto, MetaGraphDef
from tests.support import savedmodel as support

BIG = field_scan.PIECE + 1000


def big_graph() -> MetaGraphDef:
    """Nodes and functions of all sizes: small ones in a row, big constants between, a function bigger than a piece."""
    meta = support.graph("Placeholder")
    graph = meta.graph_def
    graph.node.add(name="early", op="Const").attr["value"].tensor.tensor_content = bytes(BIG)
    for number in range(3):
        node = graph.node.add(name=f"call{number}", op="PartitionedCall", input=["n0:0", "^early"])
        node.attr["f"].func.name = f"small{number}"
    graph.node.add(name="late", op="Const").attr["value"].tensor.tensor_content = bytes(BIG)
    graph.node.add(name="read", op="ReadFile", input=["late"]).attr["T"].type = 7
    for number in range(3):
        function = graph.library.function.add()
        function.signature.name = f"small{number}"
        function.node_def.add(name="inner", op="Relu")
    function = graph.library.function.add()
    function.signature.name = "large"
    function.signature.input_arg.add(name="first")
    function.signature.input_arg.add(name="second")
    for number in range(30_000):
        function.node_def.add(name=f"layer/{number:06d}/with/a/name/as/long/as/they/are/in/models", op="MatMul",
                              input=["a", "b"])
    function.node_def.add(name="held", op="Const").attr["value"].tensor.tensor_content = bytes(BIG)
    case = function.node_def.add(name="case", op="Case")
    case.attr["branches"].list.func.add(name="small0")
    case.attr["branches"].list.func.add(name="small1")
    return meta


@pytest.fixture(scope="module")
def big() -> MetaGraphDef:
    return big_graph()


@pytest.fixture(scope="module")
def path(big: MetaGraphDef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return support.save(tmp_path_factory.mktemp("big"), big) / "saved_model.pb"

CALLERS = frozenset({"PartitionedCall", "Case"})


def test_a_scan_finds_what_a_parse_finds(path: Path, big: MetaGraphDef) -> None:
    graph = big.graph_def
    outline = GraphFile(path).outline(frozenset({"ReadFile", "Const"}), CALLERS)
    assert {name: set(scope.ops) for name, scope in outline.scopes.items()} == {
        MAIN: {node.op for node in graph.node},
        **{f.signature.name: {node.op for node in f.node_def} for f in graph.library.function}}
    assert outline.scopes[MAIN].calls == [(f"call{n}", f"small{n}") for n in range(3)]
    assert sorted(outline.scopes["large"].calls) == [("case", "small0"), ("case", "small1")]
    assert outline.scopes["large"].ops["MatMul"].startswith("layer/000000")


def test_a_scan_sees_every_node(path: Path, big: MetaGraphDef) -> None:
    graph = big.graph_def
    everything = frozenset(node.op for _, nodes in scopes(graph) for node in nodes)
    assert [(scope, node.name) for scope, node in GraphFile(path).outline(everything).kept] == [
        (scope, node.name) for scope, nodes in scopes(graph) for node in nodes]


def test_kept_nodes_are_whole_but_for_big_constants(path: Path) -> None:
    outline = GraphFile(path).outline(frozenset({"ReadFile", "Const"}), CALLERS)
    kept = {(scope, node.name): node for scope, node in outline.kept}
    assert set(kept) == {(MAIN, "early"), (MAIN, "late"), (MAIN, "read"), ("large", "held")}
    assert list(kept[MAIN, "read"].input) == ["late"]
    assert kept[MAIN, "read"].attr["T"].type == 7
    assert not kept["large", "held"].attr["value"].tensor.tensor_content


def test_what_isnt_the_graph_comes_whole(path: Path) -> None:
    graph = GraphFile(path).outline().graph
    assert graph.signature_def["serving_default"].inputs["x"].name == "x:0"
    assert graph.graph_def.versions.producer == 2474
    assert not graph.graph_def.node
    assert not graph.graph_def.library.function


def test_second_looks(path: Path, big: MetaGraphDef) -> None:
    graph = GraphFile(path)
    inputs = graph.main_inputs()
    assert inputs == {node.name: list(node.input) for node in big.graph_def.node}
    bodies = graph.bodies({MAIN, "small1"})
    assert set(bodies) == {MAIN, "small1"}
    assert bodies["small1"].nodes["inner"].op == "Relu"
    assert set(bodies[MAIN].nodes) == set(inputs)
    assert bodies[MAIN].nodes["call1"].attr["f"].func.name == "small1"
    assert graph.bodies({"large"})["large"].arguments == ("first", "second")
    assert "case" in graph.bodies({"large"})["large"].nodes


def test_all_looks_are_at_the_same_bytes(path: Path, tmp_path: Path) -> None:
    """A file that is replaced meanwhile was another one; and one of whatever size is opened once."""
    copy = tmp_path / "saved_model.pb"
    copy.write_bytes(path.read_bytes())
    graph = GraphFile(copy)
    support.save(tmp_path / "other", support.graph("Relu"))
    (tmp_path / "other" / "saved_model.pb").replace(copy)
    assert "call1" in graph.main_inputs()
    assert set(graph.bodies({"small1"})) == {"small1"}
    assert graph.main_nodes({"read"})["read"].op == "ReadFile"


def test_a_function_without_a_name_is_in_nobodys_way(tmp_path: Path) -> None:
    meta = support.graph("Relu")
    meta.graph_def.library.function.add().node_def.add(name="inner", op="Tanh")
    graph = GraphFile(support.save(tmp_path, meta) / "saved_model.pb")
    assert graph.outline().ops == {"Relu", "Tanh"}
    assert set(graph.outline().scopes[MAIN].ops) == {"Relu"}


def test_the_graph_with_these_tags_is_scanned(tmp_path: Path) -> None:
    graphs = [support.graph("A", tags=("serve", "gpu")), support.graph("B"), support.graph("C", tags=("train",))]
    path = support.save(tmp_path, *graphs) / "saved_model.pb"
    for tags, op in (({"serve"}, "B"), ({"train"}, "C"), ({"gpu", "serve"}, "A"), ({"gpu"}, "A"), ({"other"}, "A")):
        outline = GraphFile(path, frozenset(tags)).outline()
        assert set(outline.scopes[MAIN].ops) == {op}


@pytest.mark.parametrize("damage", [
    lambda data: data[:len(data) // 2], lambda data: data[:-3], lambda data: b"", lambda data: b"\0" * 100,
    lambda data: b"not a model, but text", lambda data: b"\x08\x01", lambda data: data[:40] + b"\xff" * 40 + data[80:]])
def test_damaged_files_are_named(tmp_path: Path, damage) -> None:
    path = support.save(tmp_path, support.graph("Placeholder", "Relu")) / "saved_model.pb"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IncompleteVersion, match=r"saved_model\.pb is truncated or no SavedModel: \w"):
        GraphFile(path).outline()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IncompleteVersion, match="can't be read: No such file"):
        GraphFile(tmp_path / "saved_model.pb")


def literal(data: bytes) -> bytes:
    """One snappy element that stands for itself."""
    length = len(data) - 1
    return (bytes([length << 2]) if length < 60 else bytes([61 << 2]) + length.to_bytes(2, "little")) + data


@pytest.mark.parametrize(("block", "expected"), [
    (b"\x00", b""),
    (b"\x05" + literal(b"hello"), b"hello"),
    (b"\xac\x02" + literal(bytes(range(250)) + bytes(50)), bytes(range(250)) + bytes(50)),
    (b"\x0a" + literal(b"ab") + bytes([4 << 2 | 1, 2]) , b"ab" * 5),  # 8 bytes from 2 back, overlapping
    (b"\x08" + literal(b"abcd") + bytes([3 << 2 | 2, 4, 0]), b"abcdabcd"),
    (b"\x08" + literal(b"abcd") + bytes([3 << 2 | 3, 4, 0, 0, 0]), b"abcdabcd"),
])
def test_snappy(block: bytes, expected: bytes) -> None:
    assert bundle.decompress(block, 1 << 20) == expected


@pytest.mark.parametrize("block", [b"\x05" + literal(b"hell"), b"\x08" + literal(b"ab") + bytes([4 << 2 | 1, 9]),
                                   b"\x04" + bytes([3 << 2 | 2, 0, 0])])
def test_damaged_snappy(block: bytes) -> None:
    with pytest.raises(ValueError, match="a compressed block"):
        bundle.decompress(block, 1 << 20)


def test_an_index_that_tensorflow_1_compressed(tmp_path: Path) -> None:
    entry = BundleEntryProto(dtype=1, size=8, shard_id=0)
    entry.shape.dim.add(size=2)
    plain = support.block({b"": BundleHeaderProto(num_shards=1).SerializeToString(), b"w": entry.SerializeToString()})
    body = plain[:-5]
    packed = support.varint(len(body)) + literal(body) + b"\x01"
    crc = google_crc32c.value(packed)
    packed += (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")
    meta, index = support.block({}), support.block({b"w": b"\x00" + support.varint(len(packed) - 5)})
    footer = b"".join(support.varint(n) for n in (
        len(packed), len(meta) - 5, len(packed) + len(meta), len(index) - 5))
    path = tmp_path / "variables.index"
    path.write_bytes(packed + meta + index + footer.ljust(40, b"\0") + support.MAGIC)
    assert bundle.read(path).variables["w"].size == 8


def test_no_field_has_the_number_0() -> None:
    with pytest.raises(DecodeError, match="no field at byte 0"):
        list(field_scan.fields(b"\x02\x01x", 0, 3))
