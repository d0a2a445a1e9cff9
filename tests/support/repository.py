"""A SavedModel of a few hundred bytes, written without TensorFlow, for tests of the repository."""

from __future__ import annotations

from pathlib import Path

from deploy.wire import serving_pb2 as pb
from deploy.wire.tensor_pb2 import DataType


def savedmodel(directory: Path, *, weights: int = 0, variable: bool = False) -> Path:
    """y = x; `weights`: bytes of an asset; `variable`: the graph has variables, their files are missing."""
    model = pb.SavedModel(saved_model_schema_version=1)
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.meta_info_def.tensorflow_version = "2.21.0"
    graph.graph_def.versions.producer = 2000
    node = graph.graph_def.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = DataType.DT_FLOAT
    graph.graph_def.node.add(name="y", op="Identity", input=["x"]).attr["T"].type = DataType.DT_FLOAT
    if variable:
        graph.graph_def.node.add(name="v", op="VarHandleOp").attr["dtype"].type = DataType.DT_FLOAT
        graph.saver_def.restore_op_name = "restore"
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for side, name in ((signature.inputs["x"], "x:0"), (signature.outputs["y"], "y:0")):
        side.name, side.dtype = name, DataType.DT_FLOAT
        side.tensor_shape.dim.add(size=-1)
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(model.SerializeToString())
    (directory / "assets").mkdir()
    if weights:
        block = bytes(range(256)) * 4096
        with (directory / "assets" / "weights.bin").open("wb") as file:
            for start in range(0, weights, len(block)):
                file.write(block[:weights - start])
    return directory


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
