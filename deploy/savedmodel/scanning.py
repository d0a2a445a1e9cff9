"""A saved_model.pb of any size, read once and piece by piece: which ops, in which functions, who calls whom.

Memory stays at a few pieces of the file whatever its size: runs of nodes and functions are parsed together as outlines
(deploy/wire/outline.proto), big constants are stepped over without being read, and the object graph isn't touched.
Wire format: https://protobuf.dev/programming-guides/encoding. Messages: deploy/wire/model.proto.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import IncompleteVersion
from deploy.savedmodel.attributes import COMPILED, IMPLEMENTS, functions_in, of_function, slim
from deploy.savedmodel.flow import MAIN, Body, body
from deploy.wire.spans import fields, runs
from deploy.wire.tensors import varint

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import MetaGraphDef, NodeDef
    from deploy.wire.outline_pb2 import FunctionOutline, NodeOutline

LIMIT = (1 << 31) - 1
"""Bytes that a protobuf message can have."""

_TYPED = 1_000  # nodes of an op whose types are looked at
_TYPES = re.compile(rb"\x12\x02\x30([\x00-\x7f])")  # a map entry's value: an AttrValue that is one type
_PAGES = 25  # bits of 32 MB
SERVE = frozenset({"serve"})


@dataclass(slots=True)
class Scope:
    """The main graph, or a function.

    ops: name of each op, and of the first node that is one. calls: (node, function that it names); the node is empty
    for a function that an attribute of the scope names. implements: what a function is one of several versions of, of
    which the runtime takes the one that it prefers.
    """

    ops: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    implements: str = ""


@dataclass(slots=True)
class Outline:
    """What a graph is made of.

    graph: the meta graph without nodes, functions and object graph.
    scopes: by the function's name; MAIN is the main graph.
    kept: (scope, node) of the ops that were asked for, without big constants.
    gradients: (function, the function that is its gradient). compiled: functions that are compiled before they run.
    mistyped: (op, attribute, number of its type) -> (scope, node), where the attribute's limits leave that type out.
    """

    graph: MetaGraphDef
    scopes: dict[str, Scope] = field(default_factory=lambda: {MAIN: Scope()})
    kept: list[tuple[str, NodeDef]] = field(default_factory=list)
    gradients: list[tuple[str, str]] = field(default_factory=list)
    compiled: set[str] = field(default_factory=set)
    mistyped: dict[tuple[str, str, int], list[tuple[str, str]]] = field(default_factory=dict)


Limits = Mapping[str, Mapping[str, frozenset[int]]]
"""op -> attribute -> the types that it may have, by number."""


def scan(path: Path, keep: frozenset[str] = frozenset(), callers: frozenset[str] = frozenset(),
         tags: frozenset[str] = SERVE, known: frozenset[str] = frozenset(), *,
         limits: Limits = MappingProxyType({})) -> Outline:
    """The outline of the graph with exactly these tags in a saved_model.pb, or else of its first one.

    keep: ops whose nodes are kept. callers: ops that name functions in their attributes. known: if given, all ops that
    may be none; any other one may name functions, too. limits: types to look for, in so many nodes of each op.
    Raises IncompleteVersion if the file isn't there, is truncated or no SavedModel.
    """
    with _opened(path) as data:
        return _Scanner(data, tags, keep, callers, known, limits=limits).outline()


def main_inputs(path: Path, tags: frozenset[str] = SERVE) -> dict[str, list[str]]:
    """The inputs of every node of the main graph, by its name. Memory grows with the number of nodes."""
    from deploy.wire.outline_pb2 import NodesInputs

    inputs: dict[str, list[str]] = {}
    with _opened(path) as data:
        for piece in _Scanner(data, tags).main_pieces():
            inputs.update((node.name, list(node.input)) for node in NodesInputs.FromString(piece).node)
    return inputs


def main_nodes(path: Path, names: Container[str], tags: frozenset[str] = SERVE) -> dict[str, NodeDef]:
    """Some nodes of the main graph, by name, without big constants."""
    from deploy.wire.model_pb2 import NodeDef
    from deploy.wire.outline_pb2 import NodesOutline

    with _opened(path) as data:
        return {node.name: NodeDef.FromString(node.SerializeToString())
                for piece in _Scanner(data, tags).main_pieces() for node in NodesOutline.FromString(piece).node
                if node.name in names}


def bodies(path: Path, scopes: Container[str], tags: frozenset[str] = SERVE) -> dict[str, Body]:
    """Some scopes with all of their nodes, without big constants."""
    from deploy.wire.model_pb2 import FunctionDef, GraphDef

    found: dict[str, Body] = {}
    with _opened(path) as data:
        scanner = _Scanner(data, tags)
        if MAIN in scopes:
            found[MAIN] = Body({node.name: node for piece in scanner.main_pieces()
                                for node in GraphDef.FromString(piece).node})
        for name, start, stop in scanner.functions():
            if name in scopes:
                head = b"".join(data[b:e] for n, b, _, e in fields(data, start, stop, skip=3) if n in (1, 4))
                nodes = {node.name: node for piece in _pieces(data, start, stop, 3)
                         for node in FunctionDef.FromString(piece).node_def}
                found[name] = body(FunctionDef.FromString(head), nodes)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes; what is wrong with them, or with the file, becomes IncompleteVersion."""
    try:
        with files.open_regular(path) as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
            yield data
    except (DecodeError, UnicodeDecodeError, IndexError, ValueError) as error:
        why = str(error) or "it ends too early"
        raise IncompleteVersion(f"{path} is truncated or no SavedModel: {why}",
                                hint="copy or export the version again") from error
    except OSError as error:
        raise IncompleteVersion(f"{path} can't be read: {error.strerror}") from error


_Found = tuple["MetaGraphDef", list[tuple[int, int, int]]]  # a meta graph, and where its GraphDefs lie


class _Scanner:
    """One pass over the bytes of a SavedModel."""

    def __init__(self, data: mmap.mmap, tags: frozenset[str], keep: frozenset[str] = frozenset(),
                 callers: frozenset[str] = frozenset(), known: frozenset[str] = frozenset(), *,
                 limits: Limits = MappingProxyType({})) -> None:
        self._data, self._tags, self._keep, self._callers, self._known = data, tags, keep, callers, known
        self._wanted, self._limits = keep | callers, limits
        self._usual = {op: {bytes((number,)) for number in frozenset.intersection(*each.values())}
                       for op, each in limits.items()}
        self._typed = dict.fromkeys(limits, _TYPED)  # nodes that are still to be looked at

    def outline(self) -> Outline:
        found = list(self._meta_graphs())
        if not found:
            raise DecodeError(f"{len(self._data)} bytes without a graph")
        graph, spans = self._chosen(found)
        self._outline = Outline(graph)
        for _, start, stop in spans:
            self._graph(start, stop)
        return self._outline

    def main_pieces(self) -> Iterator[bytes]:
        """The main graph's nodes, as pieces of a GraphDef."""
        for _, start, stop in self._graph_spans():
            yield from _pieces(self._data, start, stop, 1)

    def _graph_spans(self) -> list[tuple[int, int, int]]:
        """Where the chosen graph's GraphDef lies."""
        return self._chosen(list(self._meta_graphs()))[1]

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Each function of the library: its name, and where its FunctionDef lies."""
        for _, start, stop in self._graph_spans():
            for number, _, at, end in fields(self._data, start, stop, skip=1):
                if number == 2:
                    for kind, _, begin, finish in fields(self._data, at, end):
                        if kind == 1:
                            yield self._function_name(begin, finish), begin, finish

    def _function_name(self, at: int, end: int) -> str:
        from deploy.wire.outline_pb2 import FunctionOutline

        head = b"".join(self._data[b:e] for n, b, _, e in fields(self._data, at, end, skip=3) if n == 1)
        return FunctionOutline.FromString(head).signature.name

    def _meta_graphs(self) -> Iterator[_Found]:
        from deploy.wire.model_pb2 import MetaGraphDef

        for number, _, start, stop in fields(self._data, 0, len(self._data)):
            if number == 2:
                inner = list(fields(self._data, start, stop))
                rest = b"".join(self._data[begin:end] for n, begin, _, end in inner if n not in (2, 7))
                yield MetaGraphDef.FromString(rest), [(n, at, end) for n, _, at, end in inner if n == 2]

    def _chosen(self, found: list[_Found]) -> _Found:
        return next((each for each in found if self._tags == set(each[0].meta_info_def.tags)), found[0])

    def _graph(self, start: int, stop: int) -> None:
        from deploy.wire.outline_pb2 import NodesOutline

        main = self._outline.scopes[MAIN]
        for number, begin, end, at in runs(self._data, start, stop, 1):
            if number == 1:
                piece = _piece(self._data, begin, end, at, 1)
                self._add(MAIN, main, NodesOutline.FromString(piece).node)
            elif number == 2 and at is not None:
                self._library(at, end)
            elif number == 4:
                self._outline.graph.graph_def.MergeFromString(self._data[begin:end])

    def _library(self, start: int, stop: int) -> None:
        from deploy.wire.model_pb2 import FunctionDefLibrary
        from deploy.wire.outline_pb2 import FunctionOutline, FunctionsOutline

        for number, begin, end, at in runs(self._data, start, stop, 1):
            if number == 2:
                self._outline.gradients += [(each.function_name, each.gradient_func) for each in
                                            FunctionDefLibrary.FromString(self._data[begin:end]).gradient]
            elif number == 1 and at is None:
                _let_go(self._data, begin, end)
                for function in FunctionsOutline.FromString(self._data[begin:end]).function:
                    self._function(function)
            elif number == 1 and at is not None:
                head = b"".join(self._data[b:e] for n, b, _, e in fields(self._data, at, end, skip=3) if n in (1, 5, 7))
                big = FunctionOutline.FromString(head)
                self._function(big)
                for piece in _pieces(self._data, at, end, 3):
                    self._add(big.signature.name, self._scope(big.signature.name),
                              FunctionOutline.FromString(piece).node_def)

    def _function(self, function: FunctionOutline) -> None:
        name = function.signature.name
        if name in self._outline.scopes:
            raise DecodeError(f"two functions are called {name!r}")
        scope = self._scope(name)
        attributes = of_function(function.attr, function.arg_attr)
        scope.calls += [("", called) for called in functions_in(attributes.values())]
        if IMPLEMENTS in attributes:
            scope.implements = attributes[IMPLEMENTS].s.decode(errors="replace")
        if COMPILED in attributes and attributes[COMPILED].b:
            self._outline.compiled.add(name)
        self._add(name, scope, function.node_def)

    def _scope(self, name: str) -> Scope:
        return self._outline.scopes.setdefault(name, Scope())

    def _add(self, name: str, scope: Scope, nodes: Iterable[NodeOutline]) -> None:
        listed = list(nodes)
        ops = [node.op for node in listed]
        distinct = set(ops)
        for op in distinct.difference(scope.ops):
            scope.ops[op] = listed[ops.index(op)].name
        wanted = distinct & self._wanted | (distinct - self._known if self._known else set())
        if wanted:
            for op, node in zip(ops, listed, strict=True):
                if op in wanted:
                    self._look(name, scope, node)
        for op in distinct & self._typed.keys():
            self._check_types(name, [node for node in listed if node.op == op][:self._typed[op]])

    def _check_types(self, scope: str, nodes: list[NodeOutline]) -> None:
        """Nodes of one op: of their attributes that are types, those that are out of its limits."""
        op = nodes[0].op
        self._typed[op] -= len(nodes)
        if not self._typed[op]:
            del self._typed[op]
        usual = self._usual[op]
        for node in nodes:
            if not usual.issuperset(_TYPES.findall(node.SerializeToString())):
                self._mistyped(scope, node)

    def _mistyped(self, scope: str, outline: NodeOutline) -> None:
        from deploy.wire.model_pb2 import NodeDef

        node = NodeDef.FromString(outline.SerializeToString())
        for name, allowed in self._limits[node.op].items():
            number = node.attr[name].type if name in node.attr else 0  # 0: filled in by the op's default, or a caller
            if number and number not in allowed:
                self._outline.mistyped.setdefault((node.op, name, number), []).append((scope, node.name))

    def _look(self, name: str, scope: Scope, outline: NodeOutline) -> None:
        from deploy.wire.model_pb2 import NodeDef

        node = NodeDef.FromString(outline.SerializeToString())
        if node.op in self._callers or (self._known and node.op not in self._known):
            called = list(functions_in(node.attr.values()))
            scope.calls += [(node.name, function) for function in called]
            if COMPILED in node.attr and node.attr[COMPILED].b:
                self._outline.compiled.update(called)
        if node.op in self._keep:
            self._outline.kept.append((name, node))


def _let_go(data: mmap.mmap, begin: int, end: int) -> None:
    """Every now and then, give back the pages before `begin`: a file of any size takes the same memory."""
    if begin >> _PAGES != end >> _PAGES and hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED, 0, begin & -mmap.PAGESIZE)


def _pieces(data: mmap.mmap, start: int, stop: int, number: int) -> Iterator[bytes]:
    """All fields `number` of a message, nodes, as pieces of that message."""
    for found, begin, end, at in runs(data, start, stop, number):
        if found == number:
            yield _piece(data, begin, end, at, number)


def _piece(data: mmap.mmap, begin: int, end: int, at: int | None, number: int) -> bytes:
    """A run of nodes as it is; a big node without its big attributes."""
    _let_go(data, begin, end)
    if at is None:
        return data[begin:end]
    body = slim(data, at, end)
    return bytes((number << 3 | 2,)) + varint(len(body)) + body
