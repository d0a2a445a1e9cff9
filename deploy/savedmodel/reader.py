"""Read a version directory: what does it promise, and is it whole? One that holds a model.tflite alone, too.

The real server takes a version without its variables for a good one, replaces the served one with it, and then fails
every request. So wholeness is checked here, before anything is published or served.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import BadReply, IncompleteVersion
from deploy.savedmodel import bundle, flow, parsing, placement, tflite
from deploy.savedmodel.flow import Outline
from deploy.savedmodel.scanning import GraphFile, Identity, identity
from deploy.types import Contract, TensorSpec
from deploy.wire.contracts import contract_from_map
from deploy.wire.dtypes import SIZES
from deploy.wire.model_pb2 import AssetFileDef, MetaGraphDef

GRAPH = "saved_model.pb"
"""Its file in a version directory."""

KEPT, CALLERS = parsing.PARSERS | parsing.DECODERS, flow.CALLS | flow.LOOPS
"""What an outline has to keep, and follow, for `described`."""

ASSETS = "saved_model_assets"
"""The collection that TensorFlow 1 lists assets in."""

_INDEX = "variables/variables.index"
_SHOWN = 20  # files or variables of a damaged version; there may be millions
_AGAIN = "copy or export the version again"
_OTHER_FORMS = {
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
    """A SavedModel as data; or a TFLite model that a version consists of.

    contract: its signatures, without TensorFlow's internal ones.
    ops: names of all ops, those inside functions included; TFLite's operators have names of their own.
    tags: of the meta graph that was read; none of a TFLite model.
    assets: file names below assets/.
    size: bytes of all files in the directory.
    features: what the graph wants of each string tensor that it parses as tf.Example, or flow.IMAGE;
        `examples.generate` takes it.
    source: the saved_model.pb or model.tflite that was read, see `describes`. format: `SavedModel` or `TFLite`.
    """

    contract: Contract
    ops: frozenset[str]
    tags: tuple[str, ...]
    assets: tuple[str, ...]
    producer: Producer
    size: int
    features: Mapping[str, tuple[TensorSpec, ...]] = field(default_factory=dict, compare=False)
    source: Identity | None = field(default=None, compare=False, repr=False)
    format: str = "SavedModel"

    def describes(self, directory: Path) -> bool:
        """Whether the model's file in `directory` is still the very one that was read, unchanged."""
        try:
            return self.source == identity((directory / model_file(directory)).stat())
        except OSError:
            return False

    def moved(self, directory: Path) -> SavedModelInfo:
        """The same of an exact copy in another directory."""
        return replace(self, source=identity((directory / model_file(directory)).stat()))

    def to_json(self) -> dict[str, object]:
        """Plain JSON data."""
        return {"contract": self.contract.to_json(), "ops": sorted(self.ops), "tags": list(self.tags),
                "assets": list(self.assets), "size": self.size,
                "producer": {"tensorflow": self.producer.tensorflow, "graph": self.producer.graph}}


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a directory is no whole SavedModel.

    file: relative to it. what: a sentence about that file. lacks: what can be said of the directory instead.
    """

    file: str
    what: str
    lacks: str = ""


def read(directory: str | Path) -> SavedModelInfo:
    """What the SavedModel in `directory` holds. With several meta graphs: the one tagged `serve`.

    A version that holds a model.tflite and no saved_model.pb is what a server sees in that file; see tflite.served.

    Raises IncompleteVersion if the directory isn't a whole SavedModel: missing or empty; saved_model.pb missing, empty
    or truncated; variables or assets that the graph needs missing or truncated. Or no whole TFLite model.
    """
    directory = Path(directory)
    if tflite_alone(directory):
        return _of_tflite(directory)
    graph, outline = _whole(directory)
    return described(directory, graph, outline)


def tflite_alone(directory: Path) -> bool:
    """Whether a version consists of a model.tflite: only a server that prefers TFLite loads it."""
    return model_file(directory) == tflite.FILE


def model_file(directory: Path) -> str:
    """The name of the file that makes a directory a version: saved_model.pb, or else model.tflite."""
    alone = not os.path.lexists(directory / GRAPH) and (directory / tflite.FILE).is_file()
    return tflite.FILE if alone else GRAPH


def check_complete(directory: str | Path) -> frozenset[str]:
    """Raise IncompleteVersion unless `directory` holds a whole SavedModel or TFLite model, as `read` does.

    Returns the names of its ops.
    """
    directory = Path(directory)
    if tflite_alone(directory):
        return frozenset(map(str, tflite.read(directory / tflite.FILE).operators))
    return _whole(directory)[1].ops


def described(directory: Path, graph: GraphFile, outline: Outline) -> SavedModelInfo:
    """`read` for a graph that was opened already. outline: with KEPT and CALLERS. Wholeness isn't looked at."""
    meta = outline.graph.meta_info_def
    with _readable(directory):
        size, _ = files.total(directory)
    try:
        contract = contract_from_map(outline.graph.signature_def)
        features = parsing.parsed_examples(graph, outline)
    except BadReply as error:  # a dtype that doesn't exist, a constant that doesn't add up
        raise IncompleteVersion(f"{graph.path} is damaged: {error.message}", hint=_AGAIN) from error
    return SavedModelInfo(contract, outline.ops, tuple(sorted(meta.tags)), _assets(outline.graph),
                          Producer(meta.tensorflow_version, outline.graph.graph_def.versions.producer), size, features,
                          graph.identity)


def flaws(directory: Path, outline: Outline) -> Iterator[Flaw]:
    """What the graph needs and the directory doesn't have: variables and assets. Raises OSError if nobody can look.

    Assets whose names lead out of the directory aren't looked for.
    """
    index = directory / _INDEX
    if index.is_file():
        yield from _variables(index)
    elif _restores(outline) or any(index.parent.glob("variables.data-*")):
        yield Flaw(_INDEX, f"{_INDEX} is missing, though its graph has variables",
                   f"lacks {_INDEX}, though its graph has variables")
    for name in _assets(outline.graph):  # those that TensorFlow 1 lists elsewhere may be of no use
        if not files.escapes(name) and not _is_file(directory / "assets" / name):
            yield Flaw(f"assets/{name}", f"the asset file assets/{name} is missing",
                       f"lacks its asset file assets/{name}")


def asset_files(graph: MetaGraphDef) -> list[AssetFileDef]:
    """A graph's assets: the file of each, and the tensor that its path is filled in at.

    TensorFlow 1 writes them into a collection, which the server takes where nothing else says them.
    Raises IncompleteVersion for a damaged collection.
    """
    if graph.asset_file_def or ASSETS not in graph.collection_def:
        return list(graph.asset_file_def)
    try:
        return [AssetFileDef.FromString(each.value) for each in graph.collection_def[ASSETS].any_list.value]
    except DecodeError as error:
        raise IncompleteVersion(f"the graph's collection {ASSETS} is damaged: {error}", hint=_AGAIN) from error


def _whole(directory: Path) -> tuple[GraphFile, Outline]:
    with _readable(directory):
        graph = GraphFile(_file(directory))
        outline = graph.outline(KEPT, CALLERS)
        for name in _assets(outline.graph):
            if files.escapes(name):
                raise IncompleteVersion(f"{directory}: its asset {name!r:.200} leads out of assets/",
                                        hint="save the file as an asset of the model", id="asset-path")
        for flaw in flaws(directory, outline):
            raise IncompleteVersion(f"{directory} {flaw.lacks}" if flaw.lacks else flaw.what, hint=_AGAIN)
    return graph, outline


def _of_tflite(directory: Path) -> SavedModelInfo:
    path = directory / tflite.FILE
    operators = frozenset(map(str, tflite.read(path).operators))
    with _readable(directory):
        size, source = files.total(directory)[0], identity(path.stat())
    try:
        contract = tflite.served(path)
    except BadReply as error:
        raise IncompleteVersion(f"{path} is damaged: {error.message}", hint=_AGAIN) from error
    return SavedModelInfo(contract, operators, (), (), Producer("", 0), size, source=source, format="TFLite")


def _file(directory: Path) -> Path:
    if not directory.is_dir():
        flaw = "is not a directory" if directory.exists() else "doesn't exist"
        raise IncompleteVersion(f"the SavedModel directory {directory} {flaw}", hint=f"name a directory with {GRAPH}")
    path = directory / GRAPH
    if path.is_file():
        return path
    for name, advice in _OTHER_FORMS.items():
        if (directory / name).is_file():
            raise IncompleteVersion(f"{directory} holds {name} and no {GRAPH}", hint=f"that is {advice}")
    flaw = f"holds no {GRAPH}" if any(directory.iterdir()) else "is empty"
    raise IncompleteVersion(f"the SavedModel directory {directory} {flaw}",
                            hint=placement.not_a_version(directory) or _AGAIN)


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


def _restores(outline: Outline) -> bool:
    """Whether loading restores variables; without a restore op the graph initialises them itself."""
    return bool(outline.graph.saver_def.restore_op_name) and not flow.VARIABLES.isdisjoint(outline.ops)


def _variables(index: Path) -> Iterator[Flaw]:
    try:
        stored = bundle.read(index)
    except IncompleteVersion as error:
        yield Flaw(_INDEX, error.message)
        return
    yield from islice(_data_files(index, stored), _SHOWN)
    yield from islice(_sizes(index, stored), _SHOWN)


def _data_files(index: Path, stored: bundle.Bundle) -> Iterator[Flaw]:
    """Data files that aren't there, or not whole."""
    for name, needed in stored.needed().items():
        path = index.parent / name
        if not path.is_file():
            yield Flaw(f"variables/{name}", f"{path} is missing, and its index needs {needed:,} bytes of it")
        elif (size := path.stat().st_size) < needed:
            yield Flaw(f"variables/{name}", f"{path} has {size:,} bytes, but its index needs {needed:,} of it")


def _sizes(index: Path, stored: bundle.Bundle) -> Iterator[Flaw]:
    """Each variable's bytes against its dtype and shape. Strings have no fixed size; those in slices have none."""
    for name, variable in (*stored.variables.items(), *(("a slice", each) for each in stored.slices)):
        if variable.dtype in SIZES and variable.size and None not in variable.shape:
            needed = math.prod(d or 0 for d in variable.shape) * SIZES[variable.dtype]
            if needed != variable.size:
                yield Flaw(_INDEX, f"{index} gives {name} {variable.size:,} bytes, and "
                           f"{variable.dtype}{list(variable.shape)} has {needed:,}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _assets(graph: MetaGraphDef) -> tuple[str, ...]:
    return tuple(sorted({asset.filename for asset in graph.asset_file_def}))
