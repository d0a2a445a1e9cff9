"""Reading version directories, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import savedmodel
from deploy.errors import IncompleteVersion
from deploy.savedmodel import bundle
from deploy.types import Signature, TensorSpec
from deploy.wire.model_pb2 import BundleEntryProto, FunctionDef
from tests.support import savedmodel as support


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return support.save_variables(support.save(tmp_path / "1", support.graph("VarHandleOp", restore="restore")))


def test_what_a_model_holds(tmp_path: Path) -> None:
    meta = support.graph("Placeholder", "StatefulPartitionedCall")
    function = meta.graph_def.library.function.add()
    function.node_def.add(name="inner", op="EagerPyFunc")
    meta.signature_def["__saved_model_init_op"].outputs["op"].name = "init"
    meta.asset_file_def.add(filename="words.txt")
    directory = support.save(tmp_path / "1", meta)
    (directory / "assets").mkdir()
    (directory / "assets/words.txt").write_bytes(b"the\n")
    info = savedmodel.read(str(directory))
    assert list(info.contract) == ["serving_default"]
    assert info.contract["serving_default"] == Signature(
        "serving_default", (TensorSpec("x", "float32", (None,)),), (TensorSpec("y", "float32", (None,)),))
    assert info.contract["serving_default"].inputs[0].tensor == "x:0"
    assert info.ops == {"Placeholder", "StatefulPartitionedCall", "EagerPyFunc"}
    assert info.tags == ("serve",)
    assert info.assets == ("words.txt",)
    assert info.producer == savedmodel.Producer("2.99.0", 2474)
    assert info.size == (directory / "saved_model.pb").stat().st_size + 4
    assert info.to_json()["producer"] == {"tensorflow": "2.99.0", "graph": 2474}


def test_the_meta_graph_for_serving_is_read(tmp_path: Path) -> None:
    graphs = [support.graph(tags=("train",)), support.graph("Relu", tags=("gpu", "serve"))]
    assert savedmodel.read(support.save(tmp_path / "1", *graphs)).tags == ("gpu", "serve")
    assert savedmodel.read(support.save(tmp_path / "2", graphs[0])).tags == ("train",)


@pytest.mark.parametrize("read", [savedmodel.read, savedmodel.check_complete])
def test_directories_that_are_none(tmp_path: Path, read) -> None:
    with pytest.raises(IncompleteVersion, match="absent doesn't exist"):
        read(tmp_path / "absent")
    with pytest.raises(IncompleteVersion, match="is empty"):
        read(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IncompleteVersion, match="file is not a directory"):
        read(tmp_path / "file")
    with pytest.raises(IncompleteVersion, match=r"holds no saved_model.pb"):
        read(tmp_path)


@pytest.mark.parametrize(("name", "advice"), [("model.tflite", "TFLite model"), ("saved_model.pbtxt", "text form"),
                                              ("saved_model.cpb", "chunked form")])
def test_other_forms_are_named(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(IncompleteVersion, match=advice) as caught:
        savedmodel.check_complete(tmp_path)
    assert name in caught.value.message


def test_a_truncated_graph_at_any_length(version: Path) -> None:
    path = version / "saved_model.pb"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IncompleteVersion, match=r"saved_model\.pb"):
            savedmodel.read(version)


def test_a_dtype_that_does_not_exist(tmp_path: Path) -> None:
    meta = support.graph()
    meta.signature_def["serving_default"].inputs["x"].dtype = 99
    with pytest.raises(IncompleteVersion, match=r"is damaged: .*99"):
        savedmodel.read(support.save(tmp_path / "1", meta))


def test_a_parsing_op_without_inputs(tmp_path: Path) -> None:
    assert savedmodel.read(support.save(tmp_path / "1", support.graph("ParseExampleV2", "ParseExample"))).features == {}


def test_variables_may_be_absent_only_without_variable_ops(version: Path, tmp_path: Path) -> None:
    for path in (version / "variables").iterdir():
        path.unlink()
    with pytest.raises(IncompleteVersion, match=r"lacks variables/variables\.index"):
        savedmodel.check_complete(version)
    (version / "variables").rmdir()
    with pytest.raises(IncompleteVersion, match=r"lacks variables/variables\.index"):
        savedmodel.read(version)
    savedmodel.check_complete(support.save(tmp_path / "2", support.graph("Relu", restore="restore")))
    savedmodel.check_complete(support.save(tmp_path / "3", support.graph("VarHandleOp")))  # the graph initialises it


def test_variables_inside_functions_count(tmp_path: Path) -> None:
    meta = support.graph("StatefulPartitionedCall", restore="restore")
    meta.graph_def.library.function.add().node_def.add(name="v", op="VarHandleOp")
    with pytest.raises(IncompleteVersion, match="though its graph has variables"):
        savedmodel.read(support.save(tmp_path / "1", meta))


def test_data_without_an_index(version: Path) -> None:
    support.save(version, support.graph("Relu"))
    (version / "variables/variables.index").unlink()
    with pytest.raises(IncompleteVersion, match=r"lacks variables/variables\.index"):
        savedmodel.read(version)


def test_missing_and_truncated_data_files(tmp_path: Path) -> None:
    version = support.save_variables(support.save(tmp_path / "1", support.graph()), shards=3)
    savedmodel.check_complete(version)
    second = version / "variables/variables.data-00001-of-00003"
    second.write_bytes(bytes(39))
    with pytest.raises(IncompleteVersion, match="data-00001-of-00003 has 39 bytes, but its index needs 40"):
        savedmodel.check_complete(version)
    second.unlink()
    with pytest.raises(IncompleteVersion, match="data-00001-of-00003 is missing"):
        savedmodel.check_complete(version)


def test_missing_assets_are_named(tmp_path: Path) -> None:
    meta = support.graph()
    meta.asset_file_def.add(filename="words.txt")
    version = support.save(tmp_path / "1", meta)
    with pytest.raises(IncompleteVersion, match=r"asset file assets/words\.txt"):
        savedmodel.check_complete(version)


def test_a_damaged_index_at_any_byte(version: Path) -> None:
    path = version / "variables/variables.index"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IncompleteVersion, match=r"variables\.index is damaged or truncated"):
            savedmodel.check_complete(version)
    for at in range(whole.index(b"layer"), whole.index(b"layer") + 20):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        with pytest.raises(IncompleteVersion, match="checksum"):
            savedmodel.check_complete(version)


def test_an_index_of_many_blocks(tmp_path: Path) -> None:
    def entry(number: int) -> BundleEntryProto:
        return BundleEntryProto(dtype=3, shard_id=number % 2, offset=4 * number, size=4)

    header = support.BundleHeaderProto(num_shards=2).SerializeToString()
    blocks = [{f"name/{n:04d}".encode(): entry(n).SerializeToString() for n in range(start, start + 100)}
              for start in range(0, 1000, 100)]
    (tmp_path / "index").write_bytes(support.table({b"": header, **blocks[0]}, *blocks[1:]))
    found = bundle.read(tmp_path / "index")
    assert list(found.variables) == [f"name/{n:04d}" for n in range(1000)]
    assert found.variables["name/0123"] == bundle.Variable("int32", (), 1, 492, 4)
    assert found.needed("v") == {"v.data-00000-of-00002": 3996, "v.data-00001-of-00002": 4000}


def test_a_variable_in_slices(tmp_path: Path) -> None:
    """Partitioned variables of TensorFlow 1: the keys of their slices are no text."""
    def slice_of(at: int, size: int) -> tuple[bytes, bytes]:
        entry = BundleEntryProto(dtype=1, shard_id=0, offset=at, size=size)
        entry.shape.dim.add(size=size // 4)
        return b"\0w\0\1\1\1" + bytes((0x80 + at, 0x80 + size // 4)), entry.SerializeToString()

    whole = BundleEntryProto(dtype=1)
    whole.shape.dim.add(size=3)
    header = support.BundleHeaderProto(num_shards=1).SerializeToString()
    (tmp_path / "index").write_bytes(support.table({b"": header, b"w": whole.SerializeToString(),
                                                    **dict([slice_of(0, 8), slice_of(8, 4)])}))
    stored = bundle.read(tmp_path / "index")
    assert (list(stored.variables), stored.parameters, stored.size) == (["w"], 3, 12)
    assert stored.needed("v") == {"v.data-00000-of-00001": 12}


def test_an_index_with_an_unknown_data_file(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(support.index(1, {"x": BundleEntryProto(dtype=1, shard_id=1)}))
    with pytest.raises(IncompleteVersion, match="entries outside its 1 data files"):
        bundle.read(tmp_path / "index")


def test_examples_are_found_through_functions(tmp_path: Path) -> None:
    """inputs -> call outer -> call inner -> Identity -> ParseExampleV2."""
    meta = support.graph()
    meta.graph_def.node.add(name="inputs", op="Placeholder")
    call = meta.graph_def.node.add(name="call", op="StatefulPartitionedCall", input=["other", "inputs"])
    call.attr["f"].func.name = "outer"
    outer, inner = (meta.graph_def.library.function.add() for _ in range(2))
    for function, name in ((outer, "outer"), (inner, "inner")):
        function.signature.name = name
    outer.signature.input_arg.add(name="unused")
    outer.signature.input_arg.add(name="text")
    outer.node_def.add(name="again", op="PartitionedCall", input=["text"]).attr["f"].func.name = "inner"
    inner.signature.input_arg.add(name="serialized")
    parse(inner)
    features = savedmodel.read(support.save(tmp_path / "1", meta)).features
    assert features == {"inputs:0": (TensorSpec("age", "int64", (1,)), TensorSpec("size", "float32", (2, None)))}


def parse(function: FunctionDef) -> None:
    function.node_def.add(name="same", op="Identity", input=["serialized"])
    keys = function.node_def.add(name="keys", op="Const").attr["value"].tensor
    keys.dtype = 7
    keys.tensor_shape.dim.add(size=2)
    keys.string_val.extend([b"age", b"size"])
    node = function.node_def.add(name="parse", op="ParseExampleV2", input=["same:output:0", "", "", "keys:output:0"])
    node.attr["Tdense"].list.type.extend([9, 1])
    shapes = node.attr["dense_shapes"].list.shape
    shapes.add().dim.add(size=1)
    shape = shapes.add()
    shape.dim.add(size=2)
    shape.dim.add(size=-1)


def test_sizes_that_dont_add_up(version: Path) -> None:
    """A server that loads it fails, so it isn't whole, whoever asks."""
    entry = BundleEntryProto(dtype=1, size=32)
    entry.shape.dim.add(size=9)
    (version / "variables/variables.index").write_bytes(support.index(1, {"kernel": entry}))
    with pytest.raises(IncompleteVersion, match=r"gives kernel 32 bytes, and float32\[9\] has 36"):
        savedmodel.check_complete(version)


def test_what_was_read_describes_the_file_until_that_changes(version: Path, tmp_path: Path) -> None:
    info = savedmodel.read(version)
    assert info.describes(version) and info == savedmodel.read(version)
    data = (version / "saved_model.pb").read_bytes()
    (version / "saved_model.pb").write_bytes(data)
    assert not info.describes(version)
    copy = tmp_path / "copy"
    copy.mkdir()
    assert not info.describes(copy)
    (copy / "saved_model.pb").write_bytes(data)
    assert not info.describes(copy) and info.moved(copy).describes(copy)
