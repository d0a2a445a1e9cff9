"""Names of files: exactly an asset of the version passes, and nothing that comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.checks import policy
from deploy.wire.model_pb2 import AssetFileDef, MetaGraphDef, TensorInfo
from tests.support import checks as make
from tests.support.checks import at_load, fine, refused, with_asset

Names = Callable[[MetaGraphDef], str]


def beside(meta: MetaGraphDef) -> str:
    make.text(make.node(meta, "more", "Const"), "/../../../etc/passwd")
    make.node(meta, "joined", "StringJoin", "asset", "more")
    return "joined"


def replaced(meta: MetaGraphDef) -> str:
    make.node(meta, "joined", "StaticRegexReplace", "asset")
    return "joined"


def picked(meta: MetaGraphDef) -> str:
    """An asset, or what the request says."""
    make.node(meta, "packed", "Pack", "asset", "serving_default_x")
    return "packed"


def behind_many(meta: MetaGraphDef) -> str:
    name = "serving_default_x"
    for number in range(300):
        name = make.node(meta, f"same{number}", "Identity", name).name
    return name


def behind_too_many(meta: MetaGraphDef) -> str:
    name = "asset"
    for number in range(3_000):
        name = make.node(meta, f"same{number}", "Identity", name).name
    return name


def fed_asset(meta: MetaGraphDef) -> str:
    """The request fills in the asset's own tensor."""
    meta.signature_def["serving_default"].inputs["path"].name = "asset:0"
    return "asset"


def fed_constant(meta: MetaGraphDef) -> str:
    make.text(make.node(meta, "path", "Const"), "")
    meta.signature_def["serving_default"].inputs["path"].name = "path:0"
    return "path"


def unfilled_asset(meta: MetaGraphDef) -> str:
    """Only at load the server fills in an asset's path; a request gets the constant's own value."""
    make.text(make.node(meta, "secret", "Const"), "/etc/passwd")
    meta.asset_file_def.add(filename="words.txt").tensor_info.name = "secret:0"
    return "secret"


def computed_asset(meta: MetaGraphDef) -> str:
    """Filled in at load, and computed from what a request says else."""
    make.node(meta, "both", "StringJoin", "serving_default_x")
    meta.asset_file_def.add(filename="words.txt").tensor_info.name = "both:0"
    return "both"


def fed_past_the_signatures(meta: MetaGraphDef) -> str:
    """TensorFlow's own signature, with what Classify needs."""
    signature = meta.signature_def["__saved_model_train_op"]
    signature.inputs["inputs"].name, signature.outputs["scores"].name = "asset:0", "out:0"
    return "asset"


def packed_constant(meta: MetaGraphDef) -> str:
    """A constant whose text stands in its bytes."""
    value = make.node(meta, "path", "Const").attr["value"].tensor
    value.dtype, value.tensor_content = 7, b"\x0b/etc/passwd"
    return "path"


def second_constant(meta: MetaGraphDef) -> str:
    value = make.text(make.node(meta, "path", "Const"), "")
    value.attr["value"].tensor.string_val.append(b"/etc/passwd")
    return "path"


def restored_variable(meta: MetaGraphDef) -> str:
    """An asset's path at first, then what stands in the checkpoint."""
    variable(meta, "asset")
    make.node(meta, "prefix", "Placeholder")
    meta.saver_def.filename_tensor_name, meta.saver_def.restore_op_name = "prefix:0", "restore"
    make.call(meta, "restore", "restoring", "prefix", "path")
    restoring = make.function(meta, "restoring", arguments=("prefix", "handle"))
    restoring.node_def.add(name="read", op="RestoreV2", input=["prefix"])
    restoring.node_def.add(name="assign", op="AssignVariableOp", input=["handle", "read:tensors:0"])
    return "value"


def variable_of_another_name(meta: MetaGraphDef) -> str:
    """Two nodes, one variable: the request assigns to it through the second."""
    variable(meta, "asset")
    other = make.node(meta, "other", "VarHandleOp")
    other.attr["shared_name"].s = b"path"
    make.node(meta, "assign_other", "AssignVariableOp", "other", "serving_default_x")
    return "value"


def variable_in_a_call(meta: MetaGraphDef) -> str:
    variable(meta, "asset")
    make.call(meta, "changes", "changing", "path", "serving_default_x")
    function = make.function(meta, "changing", arguments=("handle", "name"))
    function.node_def.add(name="same", op="Identity", input=["handle"])
    function.node_def.add(name="assign", op="AssignVariableOp", input=["same:output:0", "name"])
    return "value"


def variable_in_a_loop(meta: MetaGraphDef) -> str:
    variable(meta, "asset")
    make.node(meta, "loop", "While", "path").attr["body"].func.name = "body"
    make.function(meta, "body", arguments=("handle",))
    return "value"


def variable(meta: MetaGraphDef, value: str) -> None:
    make.node(meta, "path", "VarHandleOp").attr["shared_name"].s = b"path"
    make.node(meta, "assign", "AssignVariableOp", "path", value)
    make.node(meta, "value", "ReadVariableOp", "path")
    at_load(meta, "assign")


def through_a_result(meta: MetaGraphDef) -> str:
    make.call(meta, "named", "naming", "asset")
    function = make.function(meta, "naming", "RandomStandardNormal", arguments=("name",))
    function.signature.output_arg.add(name="result")
    function.ret["result"] = "its_RandomStandardNormal:output:0"
    return "named"


def through_a_branch(meta: MetaGraphDef) -> str:
    branching = make.node(meta, "named", "If", "serving_default_x", "asset")
    for name in ("then_branch", "else_branch"):
        branching.attr[name].func.name = name
        function = make.function(meta, name, arguments=("given",))
        function.signature.output_arg.add(name="result")
        function.ret["result"] = "given"
    function.ret["result"] = "path:output:0"
    make.text(function.node_def.add(name="path", op="Const"), "/etc/passwd")
    return "named"


def computed_in_a_loop(meta: MetaGraphDef) -> str:
    """An asset's path at first, and each time around another one."""
    looping = make.node(meta, "loop", "While", "asset")
    looping.attr["cond"].func.name = looping.attr["body"].func.name = "body"
    body = make.function(meta, "body", arguments=("name",))
    body.node_def.add(name="joined", op="StringJoin", input=["name"])
    body.signature.output_arg.add(name="name_")
    body.ret["name_"] = "joined:output:0"
    return "loop"


def with_a_list_of_arguments(meta: MetaGraphDef) -> str:
    """Positions of arguments mean nothing where one of them stands for several."""
    make.call(meta, "named", "naming", "serving_default_x", "asset", "serving_default_x")
    function = make.function(meta, "naming", arguments=("several", "name"))
    function.signature.input_arg[0].number_attr = "N"
    function.signature.output_arg.add(name="result")
    function.ret["result"] = "name"
    return "named"


def second_result_of_a_function_as_an_op(meta: MetaGraphDef) -> str:
    """In functions a tensor is counted within its output's name, and an op that is a function has several names."""
    make.call(meta, "named", "outer", "asset")
    outer = make.function(meta, "outer", "inner", arguments=("name",))
    outer.node_def[0].input.append("name")
    inner = make.function(meta, "inner", arguments=("name",))
    make.text(inner.node_def.add(name="path", op="Const"), "/etc/passwd")
    for function, results in ((inner, {"one": "name", "two": "path:output:0"}),
                              (outer, {"result": "its_inner:two:0"})):
        for name, tensor in results.items():
            function.signature.output_arg.add(name=name)
            function.ret[name] = tensor
    return "named"


def same_name_as_the_asset(meta: MetaGraphDef) -> str:
    """In a request it is read from where the server was started, be it `/`."""
    make.text(make.node(meta, "plain", "Const"), "etc/passwd")
    meta.asset_file_def.add(filename="etc/passwd").tensor_info.name = "plain:0"
    return "plain"


NAMES: dict[Names, tuple[str, str]] = {
    beside: ("file-read", "computes (StringJoin)"), replaced: ("file-read", "computes (StaticRegexReplace)"),
    picked: ("file-read", "a request names"), behind_many: ("file-read", "a request names"),
    behind_too_many: ("file-read", "can't be known"), fed_asset: ("file-read", "a request names"),
    fed_constant: ("file-read", "a request names"), unfilled_asset: ("asset-path", "'/etc/passwd'"),
    computed_asset: ("file-read", "computes (StringJoin)"), fed_past_the_signatures: ("file-read", "a request names"),
    packed_constant: ("asset-path", "'/etc/passwd'"), second_constant: ("asset-path", "'/etc/passwd'"),
    restored_variable: ("file-read", "computes (RestoreV2)"),
    variable_of_another_name: ("file-read", "a request names"), variable_in_a_call: ("file-read", "a request names"),
    variable_in_a_loop: ("file-read", "can't be known"), through_a_result: ("file-read", "computes"),
    computed_in_a_loop: ("file-read", "computes (StringJoin)"),
    through_a_branch: ("asset-path", "'/etc/passwd'"), with_a_list_of_arguments: ("file-read", "can't be known"),
    second_result_of_a_function_as_an_op: ("asset-path", "'/etc/passwd'"),
    same_name_as_the_asset: ("asset-path", "'etc/passwd'")}


@pytest.mark.parametrize("op", ["ReadFile", "TextLineDataset", "InitializeTableFromTextFileV2"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.__name__)
def test_names_that_arent_exactly_an_asset(tmp_path: Path, name: Names, op: str) -> None:
    meta = with_asset()
    source = name(meta)
    position = policy.names_of()[op][0]
    assert isinstance(position, int)
    make.node(meta, "out", op, *["serving_default_x"] * position, source)
    rule, said = NAMES[name]
    refused(tmp_path, meta, rule, said)


def test_two_functions_of_one_name(tmp_path: Path) -> None:
    """Which of them the runtime takes can't be known."""
    meta = with_asset()
    make.node(meta, "out", "Relu", "serving_default_x")
    make.function(meta, "naming", "Relu")
    fine(tmp_path, meta)
    meta.graph_def.library.function.add(signature={"name": "naming"})
    refused(tmp_path, meta, "complete", "two functions are called 'naming'")


def test_assets_of_tensorflow_1(tmp_path: Path) -> None:
    """They stand in a collection; a table is filled at load, from the path that is filled in then."""
    meta = make.serves("Relu")
    make.text(make.node(meta, "path", "Const"), "/home/me/words.txt")
    make.node(meta, "fill", "InitializeTableFromTextFileV2", "", "path")
    at_load(meta, "fill")
    refused(tmp_path, meta, "asset-path", "'/home/me/words.txt'")
    asset = meta.collection_def["saved_model_assets"].any_list.value.add()
    asset.Pack(AssetFileDef(filename="words.txt", tensor_info=TensorInfo(name="path:0")))
    fine(tmp_path, meta)
    asset.value = b"\xff"
    refused(tmp_path, meta, "complete", "saved_model_assets is damaged")


@pytest.mark.parametrize("through", ["loop", "asset", "variable", "results", "branches", "copies"])
def test_names_that_are_an_asset(tmp_path: Path, through: str) -> None:
    meta = with_asset()
    if through == "variable":
        variable(meta, "asset")
    elif through == "results":
        make.call(meta, "value", "naming", "asset")
        function = make.function(meta, "naming", arguments=("name",))
        function.signature.output_arg.add(name="result")
        function.ret["result"] = "name"
    elif through == "loop":
        make.node(meta, "value", "Identity", "loop:1")
        looping = make.node(meta, "loop", "While", "serving_default_x", "asset")
        for name in ("cond", "body"):
            looping.attr[name].func.name = name
            body = make.function(meta, name, "ReadFile", arguments=("i", "name"))
            body.node_def[0].input.append("name")
        for name in ("i", "name"):
            body.signature.output_arg.add(name=f"{name}_")
            body.ret[f"{name}_"] = name
    elif through == "branches":
        through_a_branch(meta)
        meta.graph_def.library.function[1].ret["result"] = "given"
        make.node(meta, "value", "Identity", "named")
    elif through == "copies":
        make.node(meta, "vector", "Pack", "asset")
        shape = make.node(meta, "shape", "Const")
        shape.attr["value"].tensor.dtype = 3
        make.node(meta, "joined", "ConcatV2", "vector", "vector", "shape")
        make.node(meta, "value", "Reshape", "joined", "shape")
    make.node(meta, "out", "ReadFile", "asset" if through == "asset" else "value")
    fine(tmp_path, meta)


def test_many_assets_in_variables(tmp_path: Path) -> None:
    """As TensorFlow 2 keeps each tf.saved_model.Asset: assigned at load, read by requests."""
    meta = with_asset()
    for number in range(100):
        make.node(meta, f"path{number}", "VarHandleOp").attr["dtype"].type = 7
        make.node(meta, f"assign{number}", "AssignVariableOp", f"path{number}", "asset")
        make.node(meta, f"value{number}", "ReadVariableOp", f"path{number}")
        make.node(meta, f"read{number}", "ReadFile", f"value{number}")
    make.node(meta, "out", "Pack", *(f"read{number}" for number in range(100)))
    fine(tmp_path, at_load(meta, *(f"assign{number}" for number in range(100))))
    meta.graph_def.node.add(name="late", op="AssignVariableOp", input=["path99", "serving_default_x"])
    refused(tmp_path, meta, "file-read", "a request names")


@pytest.mark.parametrize(("op", "attribute", "value", "rule"), [
    ("FixedUnigramCandidateSampler", "vocab_file", "/etc/passwd", "file-read"),
    ("Skipgram", "filename", "x", "file-read"),
    ("DecodeProtoV2", "descriptor_source", "/etc/passwd", "file-read"),
    ("EncodeProto", "descriptor_source", "/etc/passwd", "file-read"),
    ("ImmutableConst", "memory_region_name", "/etc/passwd", "file-read"),
    ("RecordInput", "file_pattern", "/etc/*", "file-read"),
    ("PrintV2", "output_stream", "file:///tmp/x", "file-write")])
@pytest.mark.parametrize("load", [False, True])
def test_files_that_an_attribute_names(tmp_path: Path, op: str, attribute: str, value: str, rule: str, load) -> None:
    meta = make.serves(*([] if load else [op]))
    if load:
        make.call(at_load(meta, "start"), "start", "starting")
        make.function(meta, "starting", op)
    node = meta.graph_def.library.function[-1].node_def[0]
    node.attr[attribute].s = value.encode()
    refused(tmp_path, meta, rule, repr(value))
    node.attr[attribute].placeholder = "given"
    refused(tmp_path, meta, "file-read", "can't be known")


@pytest.mark.parametrize(("op", "attribute", "value"), [
    ("FixedUnigramCandidateSampler", "vocab_file", ""), ("DecodeProtoV2", "descriptor_source", "local://"),
    ("DecodeProtoV2", "descriptor_source", "bytes://..."), ("DecodeProtoV2", "descriptor_source", "")])
def test_attributes_that_name_no_file(tmp_path: Path, op: str, attribute: str, value: str) -> None:
    meta = make.serves(op)
    meta.graph_def.library.function[1].node_def[0].attr[attribute].s = value.encode()
    fine(tmp_path, meta)


@pytest.mark.parametrize("op", ["CacheDataset", "CacheDatasetV2"])
def test_caches(tmp_path: Path, op: str) -> None:
    """In memory they are fine; in a file they write."""
    meta = make.model(output="out")
    path = make.text(make.node(meta, "path", "Const"), "")
    make.node(meta, "data", "RangeDataset")
    make.node(meta, "out", op, "data", "path")
    fine(tmp_path, meta)
    path.attr["value"].tensor.string_val[0] = b"/tmp/cache"
    refused(tmp_path, meta, "file-write", "'/tmp/cache'")
    meta.graph_def.node[-1].input[1] = "serving_default_x"
    refused(tmp_path, meta, "file-write", "a request names")


def test_a_damaged_reader(tmp_path: Path) -> None:
    meta = make.model(output="out")
    make.node(meta, "out", "ReadFile")
    refused(tmp_path, meta, "file-read", "can't be known")
    meta.graph_def.node[-1].input.append("gone")
    refused(tmp_path, meta, "file-read", "can't be known")
