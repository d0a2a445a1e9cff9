"""Read a version directory: what does it promise, and is it whole?

The real server takes a version without its variables for a good one, replaces the served one with it, and then fails
every request. So wholeness is checked here, before anything is published or served.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import files
from deploy.errors import BadReply, IncompleteVersion
from deploy.savedmodel import flow, ops, placement
from deploy.types import Contract, TensorSpec

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import AssetFileDef, GraphDef, MetaGraphDef

_ASSETS = "saved_model_assets"
LIMIT = (1 << 31) - 1
"""Bytes that a protobuf message can have."""

_AGAIN = "copy or export the version again"
_OTHER_FORMS = {
    "model.tflite": "a TFLite model alone: publish the SavedModel that it was made from; `tfs export --tflite` puts "
                    "one beside it",
    "saved_model.pbtxt": "the text form: load and save it again with TensorFlow",
    "saved_model.cpb": "the chunked form: save it again without experimental_image_format",
}


@dataclass(frozen=True, slots=True)
class Producer:
    """Who wrote the graph. graph: TensorFlow's graph version (TF_GRAPH_DEF_VERSION)."""

    tensorflow: str
    graph: int


@dataclass(frozen=True, slots=True)
class SavedModelInfo:
    """A SavedModel as data.

    contract: its signatures, without TensorFlow's internal ones.
    ops: names of all ops, those inside functions included.
    tags: of the meta graph that was read.
    assets: file names below assets/.
    size: bytes of all files in the directory.
    features: what the graph wants of each string tensor that it parses as tf.Example; `examples.generate` takes it.
    """

    contract: Contract
    ops: frozenset[str]
    tags: tuple[str, ...]
    assets: tuple[str, ...]
    producer: Producer
    size: int
    features: Mapping[str, tuple[TensorSpec, ...]] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"contract": self.contract.to_json(), "ops": sorted(self.ops), "tags": list(self.tags),
                "assets": list(self.assets), "size": self.size,
                "producer": {"tensorflow": self.producer.tensorflow, "graph": self.producer.graph}}


def read(directory: str | Path) -> SavedModelInfo:
    """What the SavedModel in `directory` holds. With several meta graphs: the one tagged `serve`.

    Raises IncompleteVersion if the directory isn't a whole SavedModel: missing or empty; saved_model.pb missing, empty
    or truncated; variables or assets that the graph needs missing or truncated.
    """
    from deploy.savedmodel.parsing import parsed_examples
    from deploy.wire.contracts import contract_from_map

    directory = Path(directory)
    graph = _open(directory)
    info = graph.meta_info_def
    with _readable(directory):
        size, _ = files.total(directory)
    try:
        contract, features = contract_from_map(graph.signature_def), parsed_examples(graph.graph_def)
    except BadReply as error:  # a dtype that doesn't exist, a constant that doesn't add up
        raise IncompleteVersion(f"{directory / 'saved_model.pb'} is damaged: {error.message}", hint=_AGAIN) from error
    return SavedModelInfo(
        contract=contract,
        ops=_ops(graph.graph_def),
        tags=tuple(sorted(info.tags)),
        assets=_assets(graph),
        producer=Producer(info.tensorflow_version, graph.graph_def.versions.producer),
        size=size,
        features=features)


def check_complete(directory: str | Path) -> None:
    """Raise IncompleteVersion unless `directory` holds a whole SavedModel, as `read` does."""
    _open(Path(directory))


def _open(directory: Path) -> MetaGraphDef:
    graph = meta_graph(directory)
    with _readable(directory):
        _check_variables(directory, graph)
        for name in _assets(graph):
            if files.escapes(name):
                raise IncompleteVersion(f"{directory}: its asset {name!r:.200} leads out of assets/",
                                        hint="save the file as an asset of the model")
            if not (directory / "assets" / name).is_file():
                raise IncompleteVersion(f"{directory} lacks its asset file assets/{name}", hint=_AGAIN)
    return graph


def meta_graph(directory: Path) -> MetaGraphDef:
    """The graph that `read` describes, the variables and assets beside it unseen. Raises IncompleteVersion."""
    from google.protobuf.message import DecodeError

    from deploy.wire.model_pb2 import SavedModel

    with _readable(directory):
        path = _file(directory)
        data = files.read_bytes(path, LIMIT)
    try:
        graphs = SavedModel.FromString(data).meta_graphs
    except DecodeError as error:
        raise IncompleteVersion(f"{path} is truncated or no SavedModel", hint=_AGAIN,
                                details={"parser": str(error)}) from error
    if not graphs:
        raise IncompleteVersion(f"{path} ({len(data)} bytes) holds no graph", hint=_AGAIN)
    return next((graph for graph in graphs if "serve" in graph.meta_info_def.tags), graphs[0])


def _file(directory: Path) -> Path:
    if not directory.is_dir():
        seen = "is not a directory" if directory.exists() else "doesn't exist"
        raise IncompleteVersion(f"the SavedModel directory {directory} {seen}")
    path = directory / "saved_model.pb"
    if path.is_file():
        return path
    for name, advice in _OTHER_FORMS.items():
        if (directory / name).is_file():
            raise IncompleteVersion(f"{directory} holds {name} and no saved_model.pb", hint=f"that is {advice}")
    seen = "holds no saved_model.pb" if any(directory.iterdir()) else "is empty"
    raise IncompleteVersion(f"the SavedModel directory {directory} {seen}",
                            hint=placement.not_a_version(directory) or _AGAIN)


def _check_variables(directory: Path, graph: MetaGraphDef) -> None:
    folder = directory / "variables"
    index = folder / "variables.index"
    if index.is_file():
        from deploy.savedmodel import bundle

        for name, size in bundle.read(index).needed().items():
            _check_size(folder / name, size)
        return
    restores = graph.saver_def.restore_op_name and not ops.VARIABLES.isdisjoint(_ops(graph.graph_def))
    if restores or any(folder.glob("variables.data-*")):
        raise IncompleteVersion(f"{directory} lacks variables/variables.index, though its graph has variables",
                                hint=_AGAIN)


@contextmanager
def _readable(directory: Path) -> Iterator[None]:
    """What the system refuses below `directory`, or what no model has there, becomes IncompleteVersion."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else str(directory)
        raise IncompleteVersion(f"{where} can't be read: {files.reason(error)}",
                                hint="a version holds saved_model.pb, variables/ and assets/, readable for all"
                                ) from error


def _check_size(path: Path, needed: int) -> None:
    present = path.is_file()
    if (path.stat().st_size if present else 0) < needed:
        what = f"has {path.stat().st_size} bytes" if present else "is missing"
        raise IncompleteVersion(f"{path} {what}, but its index needs {needed} bytes of it", hint=_AGAIN)


def _ops(graph: GraphDef) -> frozenset[str]:
    return frozenset(node.op for _, nodes in flow.scopes(graph) for node in nodes)


def _assets(graph: MetaGraphDef) -> tuple[str, ...]:
    return tuple(sorted({asset.filename for asset in graph.asset_file_def}))


def asset_files(graph: MetaGraphDef) -> list[AssetFileDef]:
    """A graph's assets: the file of each, and the tensor that its path is filled in at.

    TensorFlow 1 writes them into a collection, which the server takes where nothing else says them.
    Raises IncompleteVersion for a damaged collection.
    """
    from google.protobuf.message import DecodeError

    from deploy.wire.model_pb2 import AssetFileDef

    if graph.asset_file_def or _ASSETS not in graph.collection_def:
        return list(graph.asset_file_def)
    try:
        return [AssetFileDef.FromString(each.value) for each in graph.collection_def[_ASSETS].any_list.value]
    except DecodeError as error:
        raise IncompleteVersion(f"the graph's collection {_ASSETS} is damaged: {error}", hint=_AGAIN) from error
