"""A SavedModel -> a session of TensorFlow, with the graph that its operations are looked up in.

One with unknown ops in functions is loaded all the same, as TensorFlow itself does: it looks at a function's ops when a
run first needs it, so such a model loads, and the runs that get there fail. The C API refuses it, because it also makes
a graph of its own of the model. So the functions in question get an empty body here, and runs that would reach them are
refused with TensorFlow's words. The steps of the load are those of tensorflow/cc/saved_model/loader.cc.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.engine.library import EngineError, Library, Output, ops
from deploy.engine.tensors import to_tensor
from deploy.wire import model_pb2 as pb
from deploy.wire.field_scan import fields
from deploy.wire.session_pb2 import ConfigProto

_GRAPH_DEF, _OBJECT_GRAPH_DEF = 2, 7  # numbers of MetaGraphDef's fields
NOT_FOUND = 5  # TF_Code
_PHRASE = "Op type not registered '"
_INIT = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_SAVED = "saved_model.pb"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What has to be deleted in the end: TF_Graph and TF_Session.

    metagraph: the serialized MetaGraphDef without its graph. unregistered: which runs can't be, if some can't.
    """

    graph: int
    session: int
    metagraph: bytes
    unregistered: Unregistered | None = None


def load_model(tf: Library, directory: str | Path, tags: Sequence[str], intra_op: int, inter_op: int) -> Loaded:
    """Load the model. Raises EngineError."""
    options = _options(tf, intra_op, inter_op)
    try:
        try:
            return _load(tf, directory, tags, options)
        except EngineError as error:
            if not is_unregistered(error):
                raise
            return _load_in_part(tf, directory, tags, options, error)
    finally:
        tf.DeleteSessionOptions(options)


def _options(tf: Library, intra_op: int, inter_op: int) -> int:
    """TF_SessionOptions."""
    config = ConfigProto(intra_op_parallelism_threads=intra_op,
                         inter_op_parallelism_threads=inter_op).SerializeToString()
    status, options = tf.NewStatus(), tf.NewSessionOptions()
    try:
        tf.SetConfig(options, config, len(config), status)
        tf.check(status)
    except BaseException:
        tf.DeleteSessionOptions(options)
        raise
    finally:
        tf.DeleteStatus(status)
    return int(options)


def _load(tf: Library, directory: str | Path, tags: Sequence[str], options: int) -> Loaded:
    graph, status, metagraph = tf.NewGraph(), tf.NewStatus(), tf.NewBuffer()
    names = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
    try:
        session = tf.LoadSessionFromSavedModel(options, None, os.fsencode(directory), names, len(tags), graph,
                                               metagraph, status)
        tf.check(status)
    except BaseException:
        tf.DeleteBuffer(metagraph)
        tf.DeleteGraph(graph)
        raise
    finally:
        tf.DeleteStatus(status)
    return Loaded(int(graph), int(session), _without_graph(tf.take(metagraph)))


def _load_in_part(tf: Library, directory: str | Path, tags: Sequence[str], options: int, error: EngineError) -> Loaded:
    graph = int(tf.NewGraph())
    try:
        session, metagraph, missing = _load_stubbed(tf, graph, directory, tags, options=options, error=error)
    except BaseException:
        tf.DeleteGraph(graph)
        raise
    return Loaded(graph, session, _without_graph(metagraph), missing)


def _without_graph(data: bytes) -> bytes:
    """A serialized MetaGraphDef without graph_def and object_graph_def, which TensorFlow keeps in its own form."""
    return b"".join([data[start:end] for number, start, _, end in fields(data, 0, len(data), skip=_GRAPH_DEF)
                     if number != _OBJECT_GRAPH_DEF])


def is_unregistered(error: EngineError) -> bool:
    """Whether a load failed for an op that isn't known."""
    return error.code == NOT_FOUND and error.status.startswith(_PHRASE)


class Unregistered:
    """Which runs of a graph reach which unknown op."""

    def __init__(self, graph: pb.GraphDef, known: Iterable[str], text: str) -> None:
        functions = {f.signature.name: f for f in graph.library.function}
        self._known, self._text = {*known, *functions}, text
        self.direct = {name: op for name, f in functions.items() if (op := self._first_unknown(f.node_def))}
        self._calls = {name: list(_called(f.node_def, functions)) for name, f in functions.items()}
        self._inputs = {node.name: [_node(i) for i in node.input] for node in graph.node}
        self._functions = {node.name: list(_called([node], functions)) for node in graph.node}
        self.in_graph = self._first_unknown(graph.node)

    def _first_unknown(self, nodes: Iterable[pb.NodeDef]) -> str | None:
        return next((node.op for node in nodes if node.op not in self._known), None)

    def check(self, feeds: Iterable[str], targets: Iterable[str]) -> None:
        """Raises EngineError if a run with these feeds and fetched tensors or operations needs an unknown op."""
        visited, waiting = {_node(name) for name in feeds}, [_node(name) for name in targets]
        while waiting:
            node = waiting.pop()
            if node in visited:
                continue
            visited.add(node)
            if op := self._reached(self._functions.get(node, ())):
                start, _, rest = self._text.partition(_PHRASE)
                raise EngineError(NOT_FOUND, f"{start}{_PHRASE}{op}'{rest.partition(chr(39))[2]}")
            waiting += self._inputs.get(node, ())

    def _reached(self, functions: Iterable[str]) -> str | None:
        """The unknown op that these functions or what they call have."""
        visited: set[str] = set()
        waiting = list(functions)
        while waiting:
            name = waiting.pop()
            if name in visited:
                continue
            visited.add(name)
            if name in self.direct:
                return self.direct[name]
            waiting += self._calls[name]
        return None


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _called(nodes: Iterable[pb.NodeDef], functions: Mapping[str, object]) -> Iterator[str]:
    """Names of the functions that nodes call, as op or by an attribute."""
    for node in nodes:
        if node.op in functions:
            yield node.op
        for value in node.attr.values():
            for func in [value.func] if value.WhichOneof("value") == "func" else value.list.func:
                if func.name in functions:
                    yield func.name


def _load_stubbed(tf: Library, graph: int, directory: str | Path, tags: Sequence[str], *, options: int,
                  error: EngineError) -> tuple[int, bytes, Unregistered]:
    """Load a model that the C API has refused with `error`: the session, the MetaGraphDef, and which runs can't be.

    graph: a new TF_Graph. options: TF_SessionOptions. Raises EngineError, the same one if it is what TensorFlow says.
    """
    metagraph = _metagraph(directory, tags)
    if metagraph is None:
        raise error
    missing = Unregistered(metagraph.graph_def, ops(), error.status)
    if missing.in_graph or not missing.direct:
        raise error
    for function in metagraph.graph_def.library.function:
        if function.signature.name in missing.direct and not _emptied(function):
            raise error
    _import(tf, graph, metagraph.graph_def)
    status = tf.NewStatus()
    try:
        session = tf.NewSession(graph, options, status)
        tf.check(status)
    finally:
        tf.DeleteStatus(status)
    try:
        _initialize(tf, graph, session, Path(directory), metagraph=metagraph, missing=missing)
    except BaseException:
        status = tf.NewStatus()
        tf.DeleteSession(session, status)
        tf.DeleteStatus(status)
        raise
    return int(session), metagraph.SerializeToString(), missing


def _metagraph(directory: str | Path, tags: Sequence[str]) -> pb.MetaGraphDef | None:
    try:
        saved = pb.SavedModel.FromString((Path(directory) / _SAVED).read_bytes())
    except (OSError, ValueError):  # ValueError: protobuf's DecodeError
        return None
    return next((m for m in saved.meta_graphs if set(m.meta_info_def.tags) == set(tags)), None)


def _emptied(function: pb.FunctionDef) -> bool:
    """Give a function a body that makes its outputs of nothing; False if that can't be."""
    del function.node_def[:]
    for output in function.signature.output_arg:
        if output.number_attr or output.type_list_attr:
            return False
        stub = function.node_def.add(name=f"stub_{output.name}", op="Placeholder")
        if output.type_attr:
            stub.attr["dtype"].placeholder = output.type_attr
        else:
            stub.attr["dtype"].type = output.type
        function.ret[output.name] = f"{stub.name}:output:0"
    if function.control_ret:
        function.node_def.add(name="stub", op="NoOp")
        for name in function.control_ret:
            function.control_ret[name] = "stub"
    return True


def _import(tf: Library, graph: int, definition: pb.GraphDef) -> None:
    data = definition.SerializeToString()
    buffer, options, status = tf.NewBufferFromString(data, len(data)), tf.NewImportGraphDefOptions(), tf.NewStatus()
    try:
        tf.GraphImportGraphDef(graph, buffer, options, status)
        tf.check(status)
    finally:
        tf.DeleteBuffer(buffer)
        tf.DeleteImportGraphDefOptions(options)
        tf.DeleteStatus(status)


def _initialize(tf: Library, graph: int, session: int, directory: Path, *, metagraph: pb.MetaGraphDef,
                missing: Unregistered) -> None:
    """Restore the variables, then run the model's own initialization."""
    assets = {asset.tensor_info.name: str(directory / "assets" / asset.filename) for asset in metagraph.asset_file_def}
    variables = directory / "variables" / "variables"
    steps = []
    if variables.with_suffix(".index").exists():
        saver = metagraph.saver_def
        steps.append((saver.restore_op_name, {saver.filename_tensor_name: str(variables), **assets}))
    if _INIT in metagraph.signature_def:
        steps.append((metagraph.signature_def[_INIT].outputs[_INIT].name, assets))
    else:
        steps += [(metagraph.collection_def[key].node_list.value[0], assets) for key in _INIT_COLLECTIONS
                  if key in metagraph.collection_def][:1]
    for target, feeds in steps:
        missing.check(feeds, [target])
        _run(tf, graph, session, target, feeds)


def _run(tf: Library, graph: int, session: int, target: str, feeds: Mapping[str, str]) -> None:
    operations = [tf.GraphOperationByName(graph, _node(name).encode()) for name in (*feeds, target)]
    if not all(operations):
        raise EngineError(NOT_FOUND, f"the graph lacks an operation that its initialization {target!r} needs")
    inputs = (Output * len(feeds))(*[Output(operation, 0) for operation in operations[:-1]])
    values = (ctypes.c_void_p * len(feeds))()
    status = tf.NewStatus()
    try:
        for index, path in enumerate(feeds.values()):
            values[index] = to_tensor(tf, np.array(os.fsencode(path), dtype=object))
        targets = (ctypes.c_void_p * 1)(operations[-1])
        tf.SessionRun(session, None, inputs, values, len(feeds), None, None, 0, targets, 1, None, status)
        tf.check(status)
    finally:
        for value in values:
            if value:
                tf.DeleteTensor(value)
        tf.DeleteStatus(status)
