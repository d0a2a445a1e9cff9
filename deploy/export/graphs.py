"""What a SavedModel holds that no server can answer: odd signatures, Python functions, files outside the version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import savedmodel
from deploy.checks import policy
from deploy.errors import ExportError
from deploy.savedmodel import SavedModelInfo, ops
from deploy.savedmodel.flow import MAIN, Flow, input_of, scopes
from deploy.savedmodel.reader import asset_files, meta_graph
from deploy.wire import tensors

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import MetaGraphDef, NodeDef

_FILENAMES = {op: names[0] for op, names in policy.names_of().items() if isinstance(names[0], int)}
_NO_SIGNATURE = "it was saved from a model that wasn't built, or from a module without signatures: export the object " \
    "itself with its inputs, or give tf.saved_model.save signatures={'serving_default': ...}"
_PASSING = frozenset({"Identity", "Reshape", "ExpandDims", "Squeeze"})


def examined(directory: Path) -> SavedModelInfo:
    """The SavedModel in `directory` as data. Raises ExportError for what no server could answer, IncompleteVersion."""
    info = savedmodel.read(directory)
    if not info.contract:
        raise ExportError(f"{directory} has no signature, so nothing in it can be asked for", hint=_NO_SIGNATURE)
    for signature in info.contract.values():
        for spec in (*signature.inputs, *signature.outputs):
            if spec.dtype not in tensors.SENDABLE or not spec.tensor:
                raise ExportError(f"signature {signature.name!r} has {spec}, which can't be sent in a request",
                                  hint="a signature takes and returns dense tensors of numbers or strings")
    check(meta_graph(directory))
    return info


def check(graph: MetaGraphDef) -> None:
    """Raise ExportError if the graph calls Python, or reads a file that isn't one of its assets."""
    python = sorted({f"{node.op} {node.name!r}{_inside(scope)}" for scope, nodes in scopes(graph.graph_def)
                     for node in nodes if node.op in ops.PYTHON})
    if python:
        raise ExportError(f"the graph calls Python code, which stays in this process: {python[0]}",
                          hint="replace tf.py_function, tf.numpy_function or a layer's run_eagerly by TensorFlow ops",
                          details={"nodes": python})
    outside = sorted(set(outside_files(graph)))
    if outside:
        raise ExportError(f"the model reads {outside[0]!r}, a file outside of it, which a server doesn't have",
                          hint="keep the path as tf.saved_model.Asset(path), an attribute of the model or module, "
                          "and use the asset where the path stood", details={"files": outside})


def outside_files(graph: MetaGraphDef) -> Iterator[str]:
    """Constant file names that an op reads and that aren't assets: they are looked up on the server's own disk."""
    assets = {asset.tensor_info.name.partition(":")[0] for asset in asset_files(graph)}
    savers = {graph.saver_def.restore_op_name, graph.saver_def.save_tensor_name.partition(":")[0]}
    flow = Flow.of(graph.graph_def)
    for scope, reader in _readers(graph):
        if scope == MAIN and reader.name in savers:
            continue
        for place, _, node in flow.sources(scope, input_of(reader, _FILENAMES[reader.op]), _passed):
            if node.op == "Const" and not (place == MAIN and node.name in assets):
                values = tensors.decode(node.attr["value"].tensor).ravel().tolist()
                names = (value.decode(errors="replace") for value in values)
                yield from (name for name in names if name and _is_path(name, reader.op))


def _readers(graph: MetaGraphDef) -> Iterator[tuple[str, NodeDef]]:
    return ((scope, node) for scope, nodes in scopes(graph.graph_def) for node in nodes if node.op in _FILENAMES)


def _passed(scope: str, node: NodeDef) -> list[str]:
    del scope
    return list(node.input[:1]) if node.op in _PASSING else []


def _is_path(name: str, op: str) -> bool:
    """A checkpoint's prefix is filled in at load time; only a whole path to it would be a file of its own."""
    return op != "RestoreV2" or Path(name).is_absolute()


def _inside(scope: str) -> str:
    return f" in the function {scope!r}" if scope else ""
