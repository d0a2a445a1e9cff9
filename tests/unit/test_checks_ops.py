"""What each op can touch, and what a server's device can run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy import checks
from deploy.checks import Severity, policy, targets
from deploy.checks.oplists import make_oplist
from deploy.errors import CheckFailed
from deploy.wire.model_pb2 import KernelDef, NodeDef, OpDef
from deploy.wire.tensor_pb2 import DataType
from tests.support import checks as make
from tests.support import savedmodel as support
from tests.support.checks import check, fine, found, refused

ERROR = Severity.ERROR


# The table of what ops can touch

def test_every_op_is_in_the_table_and_was_looked_at() -> None:
    table = policy.table()
    listed = {op for version in targets.versions() for op in targets.op_list(version).ops}
    assert (listed | targets.text_ops() | policy.FORESTS) - table.keys() == set()
    assert [op for op, effect in table.items() if effect.does == policy.UNKNOWN] == []
    assert [op for op, effect in table.items() if effect.does not in policy.HARMLESS and policy.rule(op) is None] == []


def test_no_stateful_op_counts_as_mere_computing() -> None:
    stateful = {op for version in targets.versions() for op in targets.op_list(version).stateful}
    assert [op for op in sorted(stateful) if policy.effect(op).does == "computes"] == []


def test_what_isnt_in_the_table_is_refused() -> None:
    assert policy.effect("OpOfTheNextRelease").does == policy.UNKNOWN
    assert policy.rule("OpOfTheNextRelease") is not None


# Kernels

def test_ops_without_a_kernel(tmp_path: Path) -> None:
    server = checks.of_version("2.20")
    none = server.oplist.ops.keys() - server.oplist.kernels["CPU"].keys()
    assert len(none) > 300 and {"RFFTND", "SegmentSumV2", "BoostedTreesBucketize"} <= none
    for op in ("RFFTND", "SegmentSumV2", "BoostedTreesBucketize"):
        refused(tmp_path, make.serves(op), "no-kernel", op)
    gpu = checks.of_image("tensorflow/serving:2.20.0-gpu")
    assert check(tmp_path, make.serves("RFFTND"), gpu).findings == ()
    assert found(check(tmp_path, make.serves("SegmentSumV2"), gpu)) == {"no-kernel": ERROR}


def test_ops_without_a_kernel_where_nobody_comes_or_where_they_are_compiled(tmp_path: Path) -> None:
    meta = make.serves("Relu")
    make.function(meta, "never", "SegmentSumV2")
    fine(tmp_path, meta)
    compiled = make.serves("SegmentSumV2")
    compiled.graph_def.library.function[0].node_def[0].attr["_XlaMustCompile"].b = True
    assert {finding.rule for finding in make.check(tmp_path, compiled).findings} <= {"xla-compilation"}
    whole = make.serves("SegmentSumV2")
    whole.graph_def.library.function[0].attr["_XlaMustCompile"].b = True
    assert {finding.rule for finding in make.check(tmp_path, whole).findings} == {"xla-compilation"}


@pytest.mark.parametrize(("op", "attribute", "dtype", "ok"), [
    ("MatMul", "T", 1, True), ("MatMul", "T", 10, False), ("Relu", "T", 7, False), ("Const", "dtype", 7, True),
    ("HashTableV2", "key_dtype", 1, False), ("AddV2", "T", 7, False), ("Add", "T", 7, True),
    ("Identity", "T", 20, True)])
def test_types_without_a_kernel(tmp_path: Path, op: str, attribute: str, dtype: int, ok: bool) -> None:
    meta = make.serves(op)
    meta.graph_def.library.function[1].node_def[0].attr[attribute].type = dtype
    assert found(check(tmp_path, meta)) == ({} if ok else {"no-kernel": ERROR})


def test_a_type_in_a_damaged_or_generic_node(tmp_path: Path) -> None:
    meta = make.serves("MatMul")
    node: NodeDef = meta.graph_def.library.function[1].node_def[0]
    node.attr["T"].placeholder = "T"
    fine(tmp_path, meta)
    node.attr["T"].s = b"\x12\x02\x30\x0a"
    fine(tmp_path, meta)


# How the lists are made

def test_what_a_new_op_should_be_looked_at_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "FILE", tmp_path / "effects.txt")
    policy.FILE.write_text("Abs computes\n")
    op = OpDef(name="NewReader", is_stateful=True, input_arg=[OpDef.ArgDef(name="filename", type=7)],
               attr=[OpDef.AttrDef(name="f", type="list(func)")])
    assert policy.add([op, OpDef(name="Abs"), OpDef(name="_MklAbs"), OpDef(name="Added")]) == 2
    assert policy.FILE.read_text().splitlines() == [
        "Abs computes", "Added unknown  # computes?",
        "NewReader unknown  # stateful; strings ['filename']; files? ['filename']; functions ['f']"]


def test_kernels_by_device_and_type() -> None:
    """A type counts if any kernel takes it; an attribute that one kernel leaves open is open."""
    def kernel(op: str, device: str, label: str = "", **types: list[int]) -> KernelDef:
        made = KernelDef(op=op, device_type=device, label=label)
        for name, numbers in types.items():
            made.constraint.add(name=name).allowed_values.list.type.extend(numbers)
        return made

    kernels = [kernel("A", "CPU", T=[1], U=[3]), kernel("A", "CPU", T=[2]), kernel("A", "GPU"), kernel("B", "DEFAULT"),
               kernel("C", "CPU", "special"), kernel("D", "TPU"), kernel("_MklA", "CPU")]
    listed = list(make_oplist._kernels(kernels, {"A", "B", "C", "D", "_MklA"}))
    assert listed == ["A CPU T=float32,float64", "A GPU", "B CPU", "B GPU"]


def test_servers_of_different_versions_are_all_looked_at(tmp_path: Path) -> None:
    """DecodeWebP came with 2.20 or 2.21: what an older server doesn't know refuses the model, and says which one."""
    old, new = checks.of_version("2.19"), checks.of_version("2.21")
    meta = make.model(output="y")
    make.node(meta, "y", "Identity", "serving_default_x").attr["T"].type = DataType.DT_FLOAT
    make.node(meta, "image", "DecodeWebP", "serving_default_x")
    path = support.save(tmp_path / "model", meta)
    assert "unknown-op" not in found(checks.check(path, new))
    report = checks.check(path, new, further=[old, new])
    assert report.target == f"{new} and {old}" and not report.ok
    (unknown,) = [finding for finding in report.findings if finding.rule == "unknown-op"]
    assert "DecodeWebP isn't in TensorFlow Serving 2.19" in unknown.message
    with pytest.raises(CheckFailed, match="DecodeWebP"):
        checks.gate(new, further=[old])(path)


def test_a_newer_list_leaves_the_others_what_they_say(tmp_path: Path) -> None:
    """Lists of older releases are differences from the newest, which is packed."""
    shutil.copytree(targets.LISTS, tmp_path, dirs_exist_ok=True)
    before = {name: [sorted(section) for section in targets.read(tmp_path / f"{name}.txt")]
              for name in targets.versions()}
    newest = targets.versions()[-1]
    text = "\n\n".join("\n".join(section) for section in targets.read(tmp_path / f"{newest}.txt")) + "\n"
    assert text.startswith("tensorflow ")
    (tmp_path / "9.10.txt").write_text(text.replace("\nAbs T\n", "\nAbs T fast\nAbsolutely T\n"))
    make_oplist.shorten(tmp_path)
    assert (tmp_path / f"{newest}.txt").read_text() == "like 9.10\n\n\n-Abs T fast\n-Absolutely T\n+Abs T\n\n\n"
    assert {path.name for path in tmp_path.glob("*.gz")} == {"9.10.txt.gz"}
    assert "Absolutely T" in targets.read(tmp_path / "9.10.txt")[1]
    assert {name: [sorted(section) for section in targets.read(tmp_path / f"{name}.txt")] for name in before} == before
