"""Graphs that break one rule each, written without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy import checks
from deploy.checks import CheckReport, Severity, Target
from deploy.wire.model_pb2 import FunctionDef, MetaGraphDef, NodeDef
from deploy.wire.tensor_pb2 import DataType
from tests.support import savedmodel as support

SERVER = checks.of_version("2.20")


def model(*, output: str = "StatefulPartitionedCall") -> MetaGraphDef:
    """x float32[?] -> y, answered by the node `output`, which doesn't exist yet; written by the server's TensorFlow."""
    meta = support.graph("Placeholder")
    graph = meta.graph_def
    graph.versions.producer = 2288
    graph.node[0].name = "serving_default_x"
    signature = meta.signature_def["serving_default"]
    signature.inputs["x"].name = "serving_default_x:0"
    signature.outputs["y"].name = f"{output}:0"
    return meta


def node(meta: MetaGraphDef, name: str, op: str, *inputs: str) -> NodeDef:
    return meta.graph_def.node.add(name=name, op=op, input=inputs)


def function(meta: MetaGraphDef, name: str, *ops: str, arguments: tuple[str, ...] = ()) -> FunctionDef:
    made = meta.graph_def.library.function.add()
    made.signature.name = name
    for argument in arguments:
        made.signature.input_arg.add(name=argument)
    for op in ops:
        made.node_def.add(name=f"its_{op}", op=op)
    return made


def call(meta: MetaGraphDef, name: str, callee: str, *inputs: str) -> NodeDef:
    made = node(meta, name, "StatefulPartitionedCall", *inputs)
    made.attr["f"].func.name = callee
    return made


def serves(*ops: str) -> MetaGraphDef:
    """serving_default calls a function, which calls another one, which has these ops."""
    meta = model()
    call(meta, "StatefulPartitionedCall", "outer", "serving_default_x")
    outer = function(meta, "outer")
    outer.node_def.add(name="call", op="PartitionedCall").attr["f"].func.name = "inner"
    function(meta, "inner", *ops)
    return meta


def text(value: NodeDef, content: str) -> NodeDef:
    value.attr["value"].tensor.dtype = DataType.DT_STRING
    value.attr["value"].tensor.string_val.append(content.encode())
    return value


def check(tmp_path: Path, meta: MetaGraphDef, target: Target = SERVER,
          allow: Mapping[str, str] | None = None) -> CheckReport:
    return checks.check(support.save(tmp_path / "model", meta), target, allow)


def found(report: CheckReport) -> dict[str, Severity]:
    """rule -> its gravest finding."""
    return {finding.rule: finding.severity for finding in reversed(report.findings)}


def refused(tmp_path: Path, meta: MetaGraphDef, rule: str, said: str = "") -> CheckReport:
    """The report, which has an error of this rule that says this."""
    report = check(with_words(tmp_path), meta)
    errors = [f.message for f in report.findings if f.rule == rule and f.severity is Severity.ERROR]
    assert any(said in message for message in errors), report.findings
    return report


def fine(tmp_path: Path, meta: MetaGraphDef) -> None:
    assert check(with_words(tmp_path), meta).findings == ()


def with_words(tmp_path: Path) -> Path:
    """With the asset that `with_asset` names."""
    (tmp_path / "model" / "assets").mkdir(parents=True, exist_ok=True)
    (tmp_path / "model" / "assets" / "words.txt").write_text("the\n")
    return tmp_path


def with_asset(output: str = "out") -> MetaGraphDef:
    """A model with an asset `words.txt`, whose path the server fills in at `asset`."""
    meta = model(output=output)
    node(meta, "asset", "Placeholder")
    meta.asset_file_def.add(filename="words.txt").tensor_info.name = "asset:0"
    return meta


def at_load(meta: MetaGraphDef, *nodes: str) -> MetaGraphDef:
    """Initialized by these nodes."""
    node(meta, "init", "NoOp", *(f"^{name}" for name in nodes))
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"
    return meta
