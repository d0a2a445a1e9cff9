"""A frozen graph, a GraphDef in a file, as a SavedModel: its constants hold the weights; the caller names the tensors.

Each input becomes a placeholder of its own dtype and shape, whatever node gave it before, and what no output needs is
left out. Source of the text form: tf.io.write_graph(..., as_text=True).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import ExportError
from deploy.export import quiet, specs
from deploy.export.options import FrozenGraph
from deploy.export.sources.source import CustomObjects, ModelSource
from deploy.savedmodel.flow import VARIABLES
from deploy.savedmodel.reader import GRAPH
from deploy.savedmodel.scanning import LIMIT
from deploy.types import DEFAULT_SIGNATURE, TensorSpec

_SUFFIXES = frozenset({".pb", ".pbtxt"})
_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})
_NO_OUTPUT = frozenset({"Assert", "Const", "NoOp", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_FILLED = frozenset({"HashTable", "HashTableV2", "IteratorV2", "MutableHashTable", "MutableHashTableV2",
                     "OneShotIterator"})
_SHOWN = 8
_FREEZE = "freeze it with tf.compat.v1.graph_util.convert_variables_to_constants(session, graph_def, outputs), or " \
    "write a SavedModel with tf.compat.v1.saved_model.Builder, and export that"


@dataclass(frozen=True, slots=True)
class _Ends:
    """Tensors (`op:0`) by the names that requests use."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def write(source: FrozenGraph, pinned: object, directory: Path, tags: Iterable[str]) -> None:
    """Write the SavedModel. pinned: dtypes and shapes of inputs, see specs.parse. Raises ExportError."""
    tf = quiet.tensorflow()
    graph_def = read(source.path)
    ends = _Ends(_named(graph_def, source.inputs, source), _named(graph_def, source.outputs, source))
    if not ends.inputs or not ends.outputs:
        missing = "outputs" if ends.inputs else "inputs"
        raise ExportError(f"{source.path} doesn't say which of its tensors are {missing}",
                          hint=f"name them with --inputs and --outputs; {candidates(graph_def)}", id="frozen-graph")
    graph = _imported(tf, graph_def, source)
    for tensor in (*ends.inputs.values(), *ends.outputs.values()):
        _tensor(graph, tensor, source)
    input_specs = _specs(graph, ends.inputs, () if pinned is None else specs.parse(pinned), source)
    _write(tf, _graph(tf, graph_def, ends, input_specs, source), ends, directory, tags)


def read(path: Path) -> Any:
    """The GraphDef (TensorFlow's class) in a file, in text or binary form. Raises ExportError."""
    from tensorflow.core.framework import graph_pb2

    if path.is_dir() or path.name == GRAPH:
        raise ExportError(f"{path} is a SavedModel, whose signatures say what its inputs and outputs are",
                          hint="leave --inputs and --outputs out", id="frozen-graph")
    graph = graph_pb2.GraphDef()
    hint = "name a GraphDef, as tf.io.write_graph writes it"
    try:
        data = files.read_bytes(path, LIMIT)
        if path.suffix == ".pbtxt":
            text_format.Parse(data, graph)
        else:
            graph.ParseFromString(data)
    except OSError as error:
        raise ExportError(f"{path} can't be read: {files.reason(error)}", hint="check the path",
                          id="frozen-graph") from error
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise ExportError(f"{path} is no graph: {why}", hint=hint, id="frozen-graph") from error
    if not graph.node:
        raise ExportError(f"{path} is no graph: it has no nodes", hint=hint, id="frozen-graph")
    return graph


def candidates(graph_def: Any) -> str:
    """What inputs and outputs may be: the placeholders, and the nodes whose results no other node takes."""
    used = {_node(name) for node in graph_def.node for name in node.input}
    ends = [node.name for node in graph_def.node if node.name not in used and node.op not in _NO_OUTPUT]
    placeholders = [node.name for node in graph_def.node if node.op in _PLACEHOLDERS]
    return f"placeholders: {_few(placeholders)}; nodes that no other takes: {_few(ends)}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") or "none"


def _node(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _named(graph_def: Any, given: Sequence[str], source: FrozenGraph) -> dict[str, str]:
    """Tensors (`op:0`) by the names that requests use: given as `name=op:0`, else the last part of the op's.

    Raises ExportError.
    """
    nodes = {node.name for node in graph_def.node}
    tensors = []
    for text in given:
        own, _, tensor = text.rpartition("=")
        op, _, index = tensor.strip().partition(":")
        if op not in nodes or not (index or "0").isdecimal():
            near = difflib.get_close_matches(op, nodes, 1)
            raise ExportError(f"{source.path} has no tensor {tensor!r}",
                              hint=(f"did you mean {near[0]!r}? " if near else "") + candidates(graph_def),
                              id="frozen-graph")
        tensors.append((own.strip(), op, int(index or 0)))
    short = [op.rpartition("/")[2] for _, op, _ in tensors]
    named = {own or _name(op, index, alone=short.count(op.rpartition("/")[2]) == 1): f"{op}:{index}"
             for own, op, index in tensors}
    if len(named) != len(given):
        raise ExportError(f"two tensors of {source.path} would be called alike: {', '.join(given)}",
                          hint="give each a name: --inputs left=a/x:0,right=b/x:0", id="frozen-graph")
    return named


def _name(op: str, index: int, *, alone: bool) -> str:
    return (op.rpartition("/")[2] if alone else op.replace("/", "_")) + (f"_{index}" if index else "")


def _specs(graph: Any, inputs: Mapping[str, str], pinned: Sequence[TensorSpec],
           source: FrozenGraph) -> dict[str, TensorSpec]:
    """dtype and shape of each input: the graph's, or those that the caller pins, which have to fit."""
    known = {name: _spec(name, _tensor(graph, tensor, source)) for name, tensor in inputs.items()}
    for spec in pinned:
        name = spec.name or (next(iter(known)) if len(known) == 1 else "")
        if name not in known:
            raise ExportError(f"the input spec {spec} names no input of {source.path}",
                              hint=f"its inputs are {', '.join(map(str, known.values()))}", id="frozen-graph")
        own = known[name]
        if own.dtype != spec.dtype or not _fits(own.shape, spec.shape):
            raise ExportError(f"input {name!r} of {source.path} is {own}, and the input spec says {spec}",
                              hint="pin what the graph leaves open, or leave the spec out", id="frozen-graph")
        known[name] = TensorSpec(name, spec.dtype, spec.shape)
    return known


def _fits(own: tuple[int | None, ...] | None, pinned: tuple[int | None, ...] | None) -> bool:
    """The first dimension of an old graph may be freed."""
    return specs.compatible(specs.free_batch(own), pinned)


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape = tensor.shape
    return TensorSpec(name, tensor.dtype.base_dtype.name, None if shape.rank is None else tuple(shape.as_list()))


def _tensor(graph: Any, name: str, source: FrozenGraph) -> Any:
    try:
        return graph.get_tensor_by_name(name)
    except (KeyError, ValueError) as error:
        raise ExportError(f"{source.path} has no tensor {name!r}: its node has fewer outputs",
                          hint="the first output of a node is :0", id="frozen-graph") from error


def _imported(tf: Any, graph_def: Any, source: FrozenGraph) -> Any:
    graph = tf.Graph()
    try:
        with quiet.muted(), graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except Exception as error:  # an op that isn't registered, shapes that don't fit
        raise ExportError(f"TensorFlow can't read the graph in {source.path}: {str(error).splitlines()[0]}",
                          hint="it may need an op of another package, or an input spec that fits",
                          id="frozen-graph") from error
    return graph


def _graph(tf: Any, graph_def: Any, ends: _Ends, input_specs: Mapping[str, TensorSpec], source: FrozenGraph) -> Any:
    """The graph with a placeholder for each input, and nothing that no output needs. Raises ExportError."""
    by_node = {_node(tensor): input_specs[name] for name, tensor in ends.inputs.items()}
    for tensor in ends.inputs.values():
        if not tensor.endswith(":0"):
            raise ExportError(f"{tensor} can't be an input: it is not the first output of its node",
                              hint="name the tensor that is made of it, or the one that it is made of",
                              id="frozen-graph")
    cut = type(graph_def)()
    cut.CopyFrom(graph_def)
    for node in cut.node:
        node.attr.pop("_output_shapes", None)
        if node.name in by_node:
            name, spec = node.name, by_node[node.name]
            node.Clear()
            node.name, node.op = name, "Placeholder"
            node.attr["dtype"].type = tf.as_dtype(spec.dtype).as_datatype_enum
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
    needed = [_node(tensor) for tensor in (*ends.outputs.values(), *ends.inputs.values())]
    with quiet.muted():
        cut = tf.compat.v1.graph_util.extract_sub_graph(cut, needed)
    _check(cut, set(by_node), source)
    return _imported(tf, cut, source)


def _check(cut: Any, fed: set[str], source: FrozenGraph) -> None:
    """Nothing is left that has no value: variables, tables, placeholders that no request fills. Raises ExportError."""
    def first(ops: frozenset[str], but: Callable[[str], bool] = lambda _: False) -> str:
        return next((node.name for node in cut.node if node.op in ops and not but(node.name)), "")

    if variable := first(VARIABLES):
        raise ExportError(f"{source.path} isn't frozen: the value of its variable {variable!r} stands in a checkpoint",
                          hint=_FREEZE, id="frozen-graph")
    if filled := first(_FILLED):
        raise ExportError(f"{source.path} needs {filled!r}, a table or an iterator, which a graph alone doesn't fill",
                          hint="write a SavedModel with tf.compat.v1.saved_model.Builder, and export that",
                          id="frozen-graph")
    if open_ := first(_PLACEHOLDERS, fed.__contains__):
        raise ExportError(f"the outputs need the placeholder {open_!r}, which is none of the inputs",
                          hint=f"add {open_} to --inputs", id="frozen-graph")


def _write(tf: Any, graph: Any, ends: _Ends, directory: Path, tags: Iterable[str]) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    v1 = tf.compat.v1
    with quiet.muted(), graph.as_default():
        meta = v1.train.export_meta_graph(graph=graph, strip_default_attrs=True, clear_devices=True)
        tensors = [{name: graph.get_tensor_by_name(tensor) for name, tensor in named.items()}
                   for named in (ends.inputs, ends.outputs)]
        meta.signature_def[DEFAULT_SIGNATURE].CopyFrom(v1.saved_model.predict_signature_def(*tensors))
    meta.meta_info_def.tags.extend(sorted(tags))
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    (directory / GRAPH).write_bytes(saved.SerializeToString(deterministic=True))


def _recognises(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _load(path: Path, custom_objects: CustomObjects) -> object:  # noqa: ARG001
    return FrozenGraph(path)


SOURCE = ModelSource("a frozen graph (.pb or .pbtxt)", _recognises, _load)
