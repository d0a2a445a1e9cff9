"""Each rule has a graph that breaks it; what looks alike and is harmless passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy import checks
from deploy.checks import RULES, Severity, policy, targets
from deploy.checks.files import escapes
from deploy.savedmodel import flow
from tests.support import checks as make
from tests.support import savedmodel as support
from tests.support.checks import SERVER, check, found

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def test_a_model_that_is_fine(tmp_path: Path) -> None:
    report = check(tmp_path, make.serves("MatMul", "AddV2", "Relu"))
    assert report.findings == ()
    assert report.ok


# Signatures

def test_default_signature(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.signature_def["other"].CopyFrom(meta.signature_def["serving_default"])
    del meta.signature_def["serving_default"]
    report = check(tmp_path, meta)
    assert found(report) == {"default-signature": ERROR}
    assert "only other" in report.findings[0].message
    meta.signature_def.clear()
    assert "nothing in it can be asked for" in check(tmp_path, meta).findings[0].message


@pytest.mark.parametrize(("shape", "expected"), [
    ([-1], {}), ([-1, 3], {}), ([], {"batch-free": ERROR}), ([1], {"batch-free": ERROR}),
    ([8, -1], {"batch-free": ERROR}), (None, {}), ("unset", {})])
def test_batch_free(tmp_path: Path, shape, expected) -> None:
    meta = make.serves("Relu")
    info = meta.signature_def["serving_default"].inputs["x"]
    info.ClearField("tensor_shape")
    if shape is None:
        info.tensor_shape.unknown_rank = True
    elif shape != "unset":
        info.tensor_shape.SetInParent()
        for size in shape:
            info.tensor_shape.dim.add(size=size)
    assert found(check(tmp_path, meta)) == expected


def test_a_setting_beside_free_inputs_is_no_batch(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    inputs = meta.signature_def["serving_default"].inputs
    inputs["factor"].CopyFrom(inputs["x"])
    inputs["factor"].tensor_shape.ClearField("dim")
    assert check(tmp_path, meta).findings == ()
    inputs["factor"].tensor_shape.dim.add(size=2)
    assert found(check(tmp_path, meta)) == {"batch-free": WARNING}


def test_batch_of_another_signature_is_a_warning(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    other = meta.signature_def["one"]
    other.CopyFrom(meta.signature_def["serving_default"])
    other.inputs["x"].tensor_shape.dim[0].size = 1
    report = check(tmp_path, meta)
    assert [(f.severity, f.where.signature) for f in report.findings] == [(WARNING, "one")]


@pytest.mark.parametrize("dtype", [20, 21, 11])  # resource, variant, qint8
def test_sendable(tmp_path: Path, dtype: int) -> None:
    meta = make.serves("Relu")
    meta.signature_def["serving_default"].inputs["x"].dtype = dtype
    assert found(check(tmp_path, meta)) == {"sendable": ERROR}


def test_sparse_isnt_sendable_and_references_are(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.signature_def["serving_default"].outputs["y"].dtype = 101  # float32_ref, as TensorFlow 1 has
    assert check(tmp_path, meta).findings == ()
    meta.signature_def["serving_default"].outputs["y"].coo_sparse.values_tensor_name = "StatefulPartitionedCall:0"
    assert found(check(tmp_path, meta)) == {"sendable": ERROR}


def test_rest_reachable(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    signature = meta.signature_def["serving_default"]
    signature.inputs["x"].dtype = 19
    assert found(check(tmp_path, meta)) == {"rest-reachable": WARNING}
    signature.inputs["x"].dtype = 1
    signature.inputs["b64"].CopyFrom(signature.inputs["x"])
    assert "'b64'" in check(tmp_path, meta).findings[0].message
    signature.inputs.clear()
    assert found(check(tmp_path, meta)) == {"rest-reachable": NOTE}


def test_bytes_go_out_under_a_name_that_says_so(tmp_path: Path) -> None:
    meta = make.serves("EncodeJpeg")
    signature = meta.signature_def["serving_default"]
    signature.outputs["y"].dtype = 7
    report = check(tmp_path, meta)
    assert found(report) == {"rest-reachable": WARNING}
    assert "y_bytes" in report.findings[0].fix
    signature.outputs["y_bytes"].CopyFrom(signature.outputs["y"])
    del signature.outputs["y"]
    assert check(tmp_path, meta).findings == ()


def test_serve_tag(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.meta_info_def.tags.append("gpu")
    assert found(check(tmp_path, meta)) == {"serve-tag": ERROR}
    tagged = checks.Target("2.20", tags=frozenset({"gpu", "serve"}))
    assert check(tmp_path, meta, tagged).findings == ()


# Ops: in nested functions, reached by a request

BY_OP = {op: rule for op, (rule, _) in policy.interesting().items()
         if (op not in policy.names_of() or rule == "log-op") and rule != "load-ends" and op in SERVER.oplist.ops}


@pytest.mark.parametrize("rule", sorted(set(BY_OP.values())))
def test_ops_are_found_in_nested_functions(tmp_path: Path, rule: str) -> None:
    wanted = sorted(op for op in BY_OP if BY_OP[op] == rule)
    report = check(tmp_path, make.serves(*wanted))
    assert found(report).keys() - {"no-kernel"} == {rule}
    findings = [f for f in report.findings if f.rule == rule]
    assert [f.message.partition(" ")[0] for f in findings] == wanted
    for finding, op in zip(findings, wanted, strict=True):
        assert finding.severity is RULES[rule].severity
        where = finding.where
        assert (where.signature, where.function, where.node) == ("serving_default", "inner", f"its_{op}")


def test_the_tables_name_ops_that_exist() -> None:
    """Some were added or removed between the releases that there are lists of; none is spelled wrongly."""
    known = {op for version in targets.versions() for op in targets.op_list(version).ops}
    named = policy.BATCH_NORMS | policy.ENCODERS | policy.SAVER | {policy.XLA_MODULE} | flow.TABLE_FILES
    assert named - known == set()


@pytest.mark.parametrize("op", ["PyFunc", "ReadFile", "WriteFile", "RpcCall", "ResourceApplyAdam", "SaveV2"])
def test_ops_are_found_in_the_main_graph(tmp_path: Path, op: str) -> None:
    meta = make.model(output="end")
    make.node(meta, "bad", op, "serving_default_x")
    make.node(meta, "end", "Identity", "serving_default_x", "^bad")
    report = check(tmp_path, meta)
    assert [f.severity for f in report.findings] == [ERROR]
    assert report.findings[0].where.node == "bad"


@pytest.mark.parametrize(("op", "expected"), [
    ("PyFunc", {"python-function": WARNING}), ("WriteFile", {"file-write": ERROR}), ("RpcCall", {"network": ERROR}),
    ("WriteScalarSummary", {"file-write": WARNING}), ("While", {}), ("QueueDequeueV2", {}),
    ("ResourceApplyAdam", {}), ("AssignVariableOp", {}), ("CudnnRNNV3", {}), ("PrintV2", {}), ("SaveV2", {}),
    ("RestoreV2", {}), ("MergeV2Checkpoints", {})])
def test_what_nothing_calls(tmp_path: Path, op: str, expected) -> None:
    meta = make.serves("Relu")
    make.function(meta, "never", op)
    assert found(check(tmp_path, meta)) == expected


@pytest.mark.parametrize(("op", "expected"), [
    ("WriteFile", {"file-write": ERROR}), ("RpcCall", {"network": ERROR}), ("PyFunc", {"python-function": ERROR}),
    ("AssignVariableOp", {}), ("RestoreV2", {}), ("SaveV2", {"file-write": ERROR})])
def test_what_the_load_calls(tmp_path: Path, op: str, expected) -> None:
    """Restoring reads the checkpoint and assigns; it writes nothing and calls nobody."""
    meta = make.serves("Relu")
    make.call(meta, "restore", "restoring")
    restoring = make.function(meta, "restoring", op, arguments=("prefix",))
    restoring.node_def[0].input.append("prefix")
    meta.graph_def.node[-1].input.append("saver_filename")
    make.node(meta, "saver_filename", "Placeholder")
    meta.saver_def.restore_op_name, meta.saver_def.filename_tensor_name = "restore", "saver_filename:0"
    assert found(check(tmp_path, meta)) == expected


def test_what_the_saver_calls(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    make.call(meta, "save", "saving")
    make.function(meta, "saving", "SaveV2", "MergeV2Checkpoints", "ShardedFilename")
    meta.saver_def.save_tensor_name = "save:0"
    assert check(tmp_path, meta).findings == ()


@pytest.mark.parametrize("place", ["init_op", "main_op", "legacy"])
def test_what_initialization_calls(tmp_path: Path, place: str) -> None:
    meta = make.serves("Relu")
    make.call(meta, "initialize", "initializing")
    make.node(meta, "NoOp", "NoOp", "^initialize")
    make.function(meta, "initializing", "WriteFile")
    if place == "init_op":
        meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "NoOp"
    else:
        name = "saved_model_main_op" if place == "main_op" else "legacy_init_op"
        meta.collection_def[name].node_list.value.append("NoOp")
    report = check(tmp_path, meta)
    assert found(report) == {"file-write": ERROR}
    assert "when the server loads the model" in report.findings[0].message


def test_functions_named_as_ops_are_followed(tmp_path: Path) -> None:
    meta = make.model(output="answer")
    make.node(meta, "answer", "LegacyFunction", "serving_default_x")
    make.function(meta, "LegacyFunction", "WriteFile")
    assert found(check(tmp_path, meta)) == {"file-write": ERROR}


def test_functions_that_unknown_ops_call_are_followed(tmp_path: Path) -> None:
    meta = make.serves("TheirOwnLoop")
    meta.graph_def.library.function[1].node_def[0].attr["body"].func.name = "body"
    make.function(meta, "body", "WriteFile")
    report = check(tmp_path, meta, allow={"unknown-op": "our image has it"})
    assert found(report) == {"file-write": ERROR, "unknown-op": ERROR}
    assert not report.ok


def test_branches_and_datasets_are_followed(tmp_path: Path) -> None:
    meta = make.model()
    make.call(meta, "StatefulPartitionedCall", "outer", "serving_default_x")
    outer = make.function(meta, "outer")
    outer.node_def.add(name="case", op="Case").attr["branches"].list.func.add(name="branch")
    branch = make.function(meta, "branch")
    branch.node_def.add(name="loop", op="While").attr["body"].func.name = "body"
    body = make.function(meta, "body")
    body.node_def.add(name="map", op="MapDataset").attr["f"].func.name = "mapped"
    make.function(meta, "mapped", "EagerPyFunc")
    assert check(tmp_path, meta).findings[0].where.function == "mapped"


def test_seeds_and_counters_are_no_weights(tmp_path: Path) -> None:
    meta = make.serves("AssignVariableOp")
    assigned = meta.graph_def.library.function[1].node_def[0]
    assigned.attr["dtype"].type = 9  # int64
    assert found(check(tmp_path, meta)) == {"changes-state": NOTE}
    meta.graph_def.library.function[1].node_def.add(name="w", op="AssignVariableOp").attr["dtype"].type = 1
    assert found(check(tmp_path, meta)) == {"changes-state": WARNING}


@pytest.mark.parametrize(("training", "expected"), [(None, {"training-op": WARNING}), (True, {"training-op": WARNING}),
                                                    (False, {})])
def test_batch_normalization(tmp_path: Path, training, expected) -> None:
    meta = make.serves("FusedBatchNormV3")
    if training is not None:
        meta.graph_def.library.function[1].node_def[0].attr["is_training"].b = training
    assert found(check(tmp_path, meta)) == expected


def test_compiled_modules_say_where_they_run(tmp_path: Path) -> None:
    meta = make.serves("XlaCallModule")
    module = meta.graph_def.library.function[1].node_def[0]
    compiling = replace(make.SERVER, compiles=True)
    assert check(tmp_path, meta, compiling).findings == ()
    module.attr["platforms"].list.s.extend([b"CPU", b"TPU"])
    assert check(tmp_path, meta, compiling).findings == ()
    assert found(check(tmp_path, meta)) == {"xla-compilation": WARNING}
    del module.attr["platforms"].list.s[0]
    assert found(check(tmp_path, meta, compiling)) == {"host-only-op": ERROR}


def test_compiled_modules_have_a_version_and_checks(tmp_path: Path) -> None:
    meta, compiling = make.serves("XlaCallModule"), replace(make.SERVER, compiles=True)
    module = meta.graph_def.library.function[1].node_def[0]
    module.attr["version"].i = compiling.oplist.xla_module
    assert check(tmp_path, meta, compiling).findings == ()
    module.attr["disabled_checks"].list.s.append(b"platform")
    assert found(check(tmp_path, meta, compiling)) == {"xla-version": WARNING}
    module.attr["version"].i += 1
    assert found(check(tmp_path, meta, compiling)) == {"xla-version": ERROR}


def test_a_gpu_has_cudnn(tmp_path: Path) -> None:
    meta = make.serves("CudnnRNNV3")
    assert check(tmp_path, meta, checks.of_image("tensorflow/serving:2.20.0-gpu")).ok
    assert not check(tmp_path, meta, checks.of_image("tensorflow/serving:2.20.0")).ok


def test_variables_that_loading_doesnt_fill(tmp_path: Path) -> None:
    meta = make.model()
    make.call(meta, "StatefulPartitionedCall", "outer", "serving_default_x", "kernel_1", "made")
    make.function(meta, "outer", "ReadVariableOp")
    make.call(meta, "restore", "restoring", "kernel", "saver_filename")
    make.node(meta, "saver_filename", "Placeholder")
    meta.saver_def.filename_tensor_name = "saver_filename:0"
    restoring = make.function(meta, "restoring", "RestoreV2", "AssignVariableOp", arguments=("kernel", "prefix"))
    restoring.node_def[0].input.append("prefix")
    for name in ("kernel", "kernel_1", "made"):
        make.node(meta, name, "VarHandleOp")
    make.node(meta, "assign", "AssignVariableOp", "made")
    make.node(meta, "init", "NoOp", "^assign")
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"
    directory = support.save_variables(support.save(tmp_path / "model", meta))
    assert found(checks.check(directory, SERVER)) == {}  # the graph doesn't tell how it is loaded
    meta.saver_def.restore_op_name = "restore"
    support.save(directory, meta)
    report = checks.check(directory, SERVER)
    assert found(report) == {"unrestored": ERROR}
    assert "kernel_1" in report.findings[0].message
    assert report.findings[0].where.node == "kernel_1"
    next(n for n in meta.graph_def.node if n.name == "restore").input[:] = ["kernel_1", "saver_filename"]
    support.save(directory, meta)
    assert checks.check(directory, SERVER).findings == ()


# Files that graphs read

READERS = {op: names[0] for op, names in policy.names_of().items()
           if policy.effect(op).does in ("reads-files", "lists-directories") and isinstance(names[0], int)
           and op in SERVER.oplist.ops and len(names) == 1}


@pytest.mark.parametrize("op", sorted(READERS))
@pytest.mark.parametrize("origin", ["asset", "literal", "request", "computed"])
def test_where_a_files_name_comes_from(tmp_path: Path, op: str, origin: str) -> None:
    meta = make.model()
    source = {"asset": "asset_path", "literal": "literal", "request": "serving_default_x", "computed": "elsewhere"}
    make.text(make.node(meta, "asset_path", "Const"), "words.txt")
    make.text(make.node(meta, "literal", "Const"), "/home/me/words.txt")
    make.node(meta, "elsewhere", "RandomStandardNormal")
    meta.asset_file_def.add(filename="words.txt").tensor_info.name = "asset_path:0"
    make.call(meta, "StatefulPartitionedCall", "outer", "serving_default_x", source[origin])
    outer = make.function(meta, "outer", arguments=("x", "name"))
    called = outer.node_def.add(name="call", op="PartitionedCall", input=["name"])
    called.attr["f"].func.name = "inner"
    inner = make.function(meta, "inner", arguments=("file",))
    inner.node_def.add(name="same", op="Identity", input=["file"])
    inner.node_def.add(name="reads", op=op, input=["file"] * READERS[op] + ["same:output:0"])
    directory = support.save(tmp_path / "model", meta)
    (directory / "assets").mkdir()
    (directory / "assets" / "words.txt").write_text("the\n")
    report = checks.check(directory, SERVER)
    assert found(report) == {"asset": {}, "literal": {"asset-path": ERROR}, "request": {"file-read": ERROR},
                             "computed": {"file-read": ERROR}}[origin]
    if origin == "literal":
        assert "'/home/me/words.txt'" in report.findings[0].message


def test_a_files_name_in_a_variable(tmp_path: Path) -> None:
    """Assigned by a damaged node, and by a whole one."""
    meta = make.model(output="reads")
    make.node(meta, "path", "VarHandleOp")
    make.node(meta, "damaged", "AssignVariableOp")
    make.node(meta, "half", "AssignVariableOp", "path")
    make.node(meta, "value", "ReadVariableOp", "path")
    make.node(meta, "reads", "ReadFile", "value")
    assert found(check(tmp_path, meta)) == {"file-read": ERROR}
    make.text(make.node(meta, "literal", "Const"), "/home/me/words.txt")
    make.node(meta, "assign", "AssignVariableOp", "path", "literal")
    assert found(check(tmp_path, meta)) == {"asset-path": ERROR}


@pytest.mark.parametrize(("name", "out"), [
    ("words.txt", False), ("a/b.txt", False), ("..words", False), ("../words.txt", True), ("a/../../b", True),
    ("/etc/passwd", True), ("a\\..\\b", True), ("C:\\x", True), ("", True), ("a\0b", True)])
def test_escaping(name: str, out: bool) -> None:
    assert escapes(name) is out


def test_assets_that_escape(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.asset_file_def.add(filename="../../etc/passwd")
    assert found(check(tmp_path, meta)) == {"asset-path": ERROR}


def test_links_out_of_the_version(tmp_path: Path) -> None:
    directory = support.save(tmp_path / "model", make.serves("Relu"))
    (tmp_path / "elsewhere").write_text("x")
    (directory / "assets").mkdir()
    (directory / "assets" / "out").symlink_to("../../elsewhere")
    (directory / "assets" / "in").symlink_to("../saved_model.pb")
    report = checks.check(directory, SERVER)
    assert [(f.rule, f.where.file) for f in report.findings] == [("asset-path", "assets/out")]


# Loading

def test_an_op_of_nobody(tmp_path: Path) -> None:
    report = check(tmp_path, make.serves("MyOwnOp"))
    assert found(report) == {"unknown-op": ERROR}
    assert "custom op library" in report.findings[0].message
    meta = make.serves("Relu")
    make.function(meta, "never", "MyOwnOp")
    assert found(check(tmp_path, meta)) == {"unknown-op": WARNING}


def test_an_op_of_a_newer_release(tmp_path: Path) -> None:
    report = check(tmp_path, make.serves("DecodeJxl"))
    assert "has it from 2.21 on" in report.findings[0].message
    assert check(tmp_path, make.serves("DecodeJxl"), checks.of_version("2.21")).ok


@pytest.mark.parametrize(("op", "library"), [
    ("TFText>ByteSplitWithOffsets", "tensorflow_text"), ("SentencepieceTokenizeOp", "tensorflow_text"),
    ("SimpleMLInferenceOpWithHandle", "tensorflow_decision_forests")])
def test_ops_of_libraries_in_official_images(tmp_path: Path, op: str, library: str) -> None:
    assert check(tmp_path, make.serves(op), checks.of_image("tensorflow/serving:2.20.0")).ok
    bare = check(tmp_path, make.serves(op), checks.of_version("2.20", libraries=frozenset()))
    assert f"comes from {library}, which the official" in bare.findings[0].message


@pytest.mark.parametrize(("op", "library"), [("IO>KafkaDataset", "tensorflow_io"), ("Addons>Gelu", "tensorflow_addons"),
                                             ("TRTEngineOp", "TensorRT"), ("SimpleMLTrain", "decision_forests")])
def test_the_missing_library_is_named(tmp_path: Path, op: str, library: str) -> None:
    assert library in check(tmp_path, make.serves(op)).findings[0].message


def test_attributes_of_a_newer_release(tmp_path: Path) -> None:
    op = min(targets.grown("2.19"))
    attribute = min(targets.op_list(targets.versions()[-1]).ops[op] - targets.op_list("2.19").ops[op])
    meta = make.serves(op)
    node = meta.graph_def.library.function[1].node_def[0]
    node.attr[attribute].b = True
    node.attr["_note"].b = True
    report = check(tmp_path, meta, checks.of_version("2.19"))
    assert found(report)["unknown-attribute"] is ERROR
    assert [repr(attribute) in f.message for f in report.findings if f.rule == "unknown-attribute"] == [True]
    assert "unknown-attribute" not in found(check(tmp_path, meta, checks.of_version(targets.versions()[-1])))


def test_graph_versions(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    versions = meta.graph_def.versions
    versions.min_consumer = 5000
    assert found(check(tmp_path, meta)) == {"graph-version": ERROR}
    versions.min_consumer = 12
    versions.bad_consumers.append(SERVER.oplist.graph)
    assert found(check(tmp_path, meta)) == {"graph-version": ERROR}


def test_newer_producers(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    meta.graph_def.versions.producer = targets.op_list(targets.versions()[-1]).graph
    report = check(tmp_path, meta)
    assert found(report) == {"producer-newer": NOTE}
    assert "all its ops and attributes are known there" in report.findings[0].message
    meta.graph_def.versions.producer += 1
    assert found(check(tmp_path, meta)) == {"producer-newer": WARNING}


@pytest.mark.parametrize(("asked", "used"), [("2.30", targets.versions()[-1]), ("2.5", targets.versions()[0])])
def test_a_server_without_a_list(tmp_path: Path, asked: str, used: str) -> None:
    report = check(tmp_path, make.serves("Relu"), checks.of_version(asked))
    assert found(report)["server-version"] is WARNING
    assert f"so {used}'s was used" in next(f.message for f in report.findings if f.rule == "server-version")
