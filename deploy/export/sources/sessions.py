"""What only TensorFlow can make a SavedModel of: its text form, and a directory without the op that restores it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from deploy import files
from deploy.errors import ExportError
from deploy.export import quiet
from deploy.export.failures import user_error
from deploy.export.sources.saved_models import TEXT, Changes
from deploy.savedmodel.reader import ASSETS, GRAPH, asset_files
from deploy.savedmodel.scanning import LIMIT
from deploy.types import DEFAULT_SIGNATURE
from deploy.wire.model_pb2 import MetaGraphDef


def to_binary(directory: Path) -> None:
    """Write saved_model.pb in place of a saved_model.pbtxt. Raises ExportError."""
    quiet.tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    path = directory / TEXT
    try:
        saved = text_format.Parse(files.read_bytes(path, LIMIT), saved_model_pb2.SavedModel())
    except (text_format.ParseError, UnicodeDecodeError, OSError) as error:
        raise ExportError(f"{path} can't be read as a SavedModel in text form: {error}",
                          hint="save the model again") from error
    (directory / GRAPH).write_bytes(saved.SerializeToString(deterministic=True))
    path.unlink()


def save_with_restore(origin: Path, change: Changes, target: Path) -> None:
    """Write the chosen graph of `origin` with its variables, and with the op that restores them.

    TensorFlow Hub's first format restored variables from Python. No op of the graph is run. Raises ExportError.
    """
    tf = quiet.tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    v1 = tf.compat.v1
    saved = saved_model_pb2.SavedModel.FromString(files.read_bytes(origin / GRAPH, LIMIT))
    meta = saved.meta_graphs[change.index or 0]
    assets = _put_assets(meta, origin)
    signatures = dict(meta.signature_def)
    if change.default:
        signatures[DEFAULT_SIGNATURE] = signatures[change.default]
    try:
        with quiet.muted(), tf.Graph().as_default() as graph, v1.Session() as session:
            v1.train.import_meta_graph(meta, clear_devices=True)
            v1.train.Saver().restore(session, str(origin / "variables" / "variables"))
            builder = v1.saved_model.Builder(str(target))
            builder.add_meta_graph_and_variables(
                session, sorted(change.tags), signatures, main_op=v1.tables_initializer(),
                assets_collection=[graph.get_tensor_by_name(name) for name in assets])
            builder.save()
    except Exception as error:
        raise user_error(f"loading {origin}", error, "name a directory that TensorFlow can load") from error


def _put_assets(meta: Any, origin: Path) -> Mapping[str, Path]:
    """Write the assets' paths into the graph's constants; paths by tensor. Raises ExportError for one outside."""
    paths = {}
    for asset in asset_files(MetaGraphDef.FromString(meta.SerializeToString())):
        if files.escapes(asset.filename):
            raise ExportError(f"{origin}: its asset {asset.filename!r:.200} leads out of assets/",
                              hint="save the file as an asset of the model", id="asset-path")
        paths[asset.tensor_info.name] = origin.resolve() / "assets" / asset.filename
    meta.collection_def.pop(ASSETS, None)  # the builder writes them anew, and each is fed once
    nodes = {node.name: node for node in meta.graph_def.node}
    for tensor, path in paths.items():
        nodes[tensor.partition(":")[0]].attr["value"].tensor.string_val[:] = [str(path).encode()]
    return paths
