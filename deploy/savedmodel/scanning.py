"""A saved_model.pb of any size, opened once and read piece by piece: which ops, in which functions, who calls whom.

Memory stays at a few pieces of the file whatever its size: runs of nodes and functions are parsed together as outlines
(deploy/wire/outline.proto), big constants are stepped over without being read, and the object graph isn't touched.
Wire format: https://protobuf.dev/programming-guides/encoding. Messages: deploy/wire/model.proto.
"""

from __future__ import annotations

import functools
import mmap
import os
import re
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from google.protobuf.message import DecodeError

from deploy import files
from deploy.errors import IncompleteVersion
from deploy.savedmodel.flow import (
    COMPILED,
    IMPLEMENTS,
    MAIN,
    Body,
    Limits,
    Outline,
    Scope,
    body,
    functions_in,
    of_function,
    slim,
)
from deploy.wire.field_scan import Data, fields, runs, varint
from deploy.wire.model_pb2 import FunctionDef, FunctionDefLibrary, GraphDef, MetaGraphDef, NodeDef
from deploy.wire.outline_pb2 import FunctionOutline, FunctionsOutline, NodeOutline, NodesInputs, NodesOutline

LIMIT = (1 << 31) - 1
"""Bytes that a protobuf message can have."""

SERVE = frozenset({"serve"})

_IN_MEMORY = 32 << 20  # bytes of a file that is read; a longer one is mapped, and must not shrink meanwhile
_TYPED = 1_000  # nodes of an op whose types are looked at
_TYPES = re.compile(rb"\x12\x02\x30([\x00-\x7f])")  # a map entry's value: an AttrValue that is one type
_PAGES = 25  # bits of 32 MB
_UNNAMED = "(unnamed)"  # a function without a name, which nothing can call

Identity = tuple[int, ...]
_Span = tuple[int, int]


def identity(status: os.stat_result) -> Identity:
    """What changes when a file's bytes do: device, inode, size, and times of its content and its state."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class GraphFile:
    """One graph of a saved_model.pb: that with exactly these tags, else one with them among others, else the first.

    All that is asked is answered from the same bytes: the file is opened once, and stays so as long as this lives.
    identity: of the file that was opened.
    Everything raises IncompleteVersion if the file isn't there, can't be read, is truncated or no SavedModel.
    """

    def __init__(self, path: Path, tags: frozenset[str] = SERVE) -> None:
        self.path = path
        with self._readable(), files.open_regular(path, most=LIMIT) as file:
            self.identity = identity(os.fstat(file.fileno()))
            self._data: Data = file.read() if self.identity[2] < _IN_MEMORY else \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._meta, self._graphs = self._chosen(tags)

    def outline(self, keep: frozenset[str] = frozenset(), callers: frozenset[str] = frozenset(),
                known: frozenset[str] = frozenset(), *, limits: Limits = MappingProxyType({})) -> Outline:
        """What the graph is made of.

        keep: ops whose nodes are kept. callers: ops that name functions in their attributes. known: if given, all ops
        that may be none; any other one may name functions, too. limits: types to look for, in so many nodes of each op.
        """
        outline = Outline(MetaGraphDef.FromString(self._meta))
        with self._readable():
            scanner = _Scanner(self._data, outline, keep=keep, callers=callers, known=known, limits=limits)
            for start, stop in self._graphs:
                scanner.graph(start, stop)
        return outline

    def main_inputs(self) -> dict[str, list[str]]:
        """The inputs of every node of the main graph, by its name. Memory grows with the number of nodes."""
        with self._readable():
            return {node.name: list(node.input)
                    for piece in self._main() for node in NodesInputs.FromString(piece).node}

    def main_nodes(self, names: Container[str]) -> dict[str, NodeDef]:
        """Some nodes of the main graph, by name, without big constants."""
        with self._readable():
            return {node.name: NodeDef.FromString(node.SerializeToString())
                    for piece in self._main() for node in NodesOutline.FromString(piece).node if node.name in names}

    def bodies(self, scopes: Container[str]) -> dict[str, Body]:
        """Some scopes with all of their nodes, without big constants."""
        bodies: dict[str, Body] = {}
        with self._readable():
            if MAIN in scopes:
                bodies[MAIN] = Body({node.name: node for piece in self._main()
                                    for node in GraphDef.FromString(piece).node})
            for name, (start, stop) in self._functions.items():
                if name in scopes:
                    nodes = {node.name: node for piece in _pieces(self._data, start, stop, 3)
                             for node in FunctionDef.FromString(piece).node_def}
                    bodies[name] = body(FunctionDef.FromString(_head(self._data, start, stop, 1, 4)), nodes)
        return bodies

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """What is wrong with the bytes, or with the file, becomes IncompleteVersion."""
        try:
            yield
        except (DecodeError, UnicodeDecodeError, IndexError, ValueError) as error:
            why = str(error) or "it ends too early"
            raise IncompleteVersion(f"{self.path} is truncated or no SavedModel: {why}",
                                    hint="copy or export the version again") from error
        except OSError as error:
            raise IncompleteVersion(f"{self.path} can't be read: {files.reason(error)}") from error

    def _chosen(self, tags: frozenset[str]) -> tuple[bytes, list[_Span]]:
        """A meta graph without its GraphDef and object graph, and where the GraphDef lies."""
        graphs = [(set(MetaGraphDef.FromString(rest).meta_info_def.tags), rest, spans) for rest, spans in
                 self._meta_graphs()]
        if not graphs:
            raise DecodeError(f"{len(self._data)} bytes without a graph")
        exact = (each for each in graphs if each[0] == tags)
        return (next(exact, None) or next((each for each in graphs if each[0] >= tags), graphs[0]))[1:]

    def _meta_graphs(self) -> Iterator[tuple[bytes, list[_Span]]]:
        for number, _, start, stop in fields(self._data, 0, len(self._data)):
            if number == 2:
                inner = list(fields(self._data, start, stop))
                rest = b"".join(self._data[begin:end] for n, begin, _, end in inner if n not in (2, 7))
                yield rest, [(at, end) for n, _, at, end in inner if n == 2]

    def _main(self) -> Iterator[bytes]:
        """The main graph's nodes, as pieces of a GraphDef."""
        for start, stop in self._graphs:
            yield from _pieces(self._data, start, stop, 1)

    @functools.cached_property
    def _functions(self) -> dict[str, _Span]:
        """Where each function's FunctionDef lies."""
        libraries = [(at, end) for start, stop in self._graphs
                     for number, _, at, end in fields(self._data, start, stop, skip=1) if number == 2]
        return {FunctionOutline.FromString(_head(self._data, begin, finish, 1)).signature.name or _UNNAMED:
                (begin, finish) for at, end in libraries
                for number, _, begin, finish in fields(self._data, at, end) if number == 1}


class _Scanner:
    """One pass over the bytes of a graph, which fills an outline."""

    def __init__(self, data: Data, outline: Outline, *, keep: frozenset[str], callers: frozenset[str],
                 known: frozenset[str], limits: Limits) -> None:
        self._data, self._outline = data, outline
        self._keep, self._callers, self._known = keep, callers, known
        self._wanted, self._limits = keep | callers, limits
        self._usual = dict[str, set[bytes]]()  # op -> types that all of its attributes may be, once it is looked at
        self._typed = dict.fromkeys(limits, _TYPED)  # nodes that are still to be looked at

    def graph(self, start: int, stop: int) -> None:
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
        for number, begin, end, at in runs(self._data, start, stop, 1):
            if number == 2:
                self._outline.gradients += [(each.function_name, each.gradient_func) for each in
                                            FunctionDefLibrary.FromString(self._data[begin:end]).gradient]
            elif number == 1 and at is None:
                _let_go(self._data, begin, end)
                for function in FunctionsOutline.FromString(self._data[begin:end]).function:
                    self._function(function)
            elif number == 1 and at is not None:
                big = FunctionOutline.FromString(_head(self._data, at, end, 1, 5, 7))
                name, scope = self._function(big)
                for piece in _pieces(self._data, at, end, 3):
                    self._add(name, scope, FunctionOutline.FromString(piece).node_def)

    def _function(self, function: FunctionOutline) -> tuple[str, Scope]:
        name = function.signature.name or _UNNAMED
        if name in self._outline.scopes:
            raise DecodeError(f"two functions are called {name!r}")
        scope = self._outline.scopes[name] = Scope()
        attributes = of_function(function.attr, function.arg_attr)
        scope.calls += [("", called) for called in functions_in(attributes.values())]
        if IMPLEMENTS in attributes:
            scope.implements = attributes[IMPLEMENTS].s.decode(errors="replace")
        if COMPILED in attributes and attributes[COMPILED].b:
            self._outline.compiled.add(name)
        self._add(name, scope, function.node_def)
        return name, scope

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
        usual = self._usual.get(op)
        if usual is None:
            allowed = frozenset.intersection(*self._limits[op].values())
            usual = self._usual[op] = {bytes((number,)) for number in allowed}
        for node in nodes:
            if not usual.issuperset(_TYPES.findall(node.SerializeToString())):
                self._mistyped(scope, node)

    def _mistyped(self, scope: str, outline: NodeOutline) -> None:
        node = NodeDef.FromString(outline.SerializeToString())
        for name, allowed in self._limits[node.op].items():
            number = node.attr[name].type if name in node.attr else 0  # 0: filled in by the op's default, or a caller
            if number and number not in allowed:
                self._outline.mistyped.setdefault((node.op, name, number), []).append((scope, node.name))

    def _look(self, name: str, scope: Scope, outline: NodeOutline) -> None:
        node = NodeDef.FromString(outline.SerializeToString())
        if node.op in self._callers or (self._known and node.op not in self._known):
            called = list(functions_in(node.attr.values()))
            scope.calls += [(node.name, function) for function in called]
            if COMPILED in node.attr and node.attr[COMPILED].b:
                self._outline.compiled.update(called)
        if node.op in self._keep:
            self._outline.kept.append((name, node))


def _head(data: Data, at: int, end: int, *numbers: int) -> bytes:
    """Some fields of a FunctionDef, as they are."""
    return b"".join(data[b:e] for n, b, _, e in fields(data, at, end, skip=3) if n in numbers)


def _let_go(data: Data, begin: int, end: int) -> None:
    """Every now and then, give back the pages before `begin`: a file of any size takes the same memory."""
    if isinstance(data, mmap.mmap) and begin >> _PAGES != end >> _PAGES and hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED, 0, begin & -mmap.PAGESIZE)


def _pieces(data: Data, start: int, stop: int, number: int) -> Iterator[bytes]:
    """All fields `number` of a message, nodes, as pieces of that message."""
    for field, begin, end, at in runs(data, start, stop, number):
        if field == number:
            yield _piece(data, begin, end, at, number)


def _piece(data: Data, begin: int, end: int, at: int | None, number: int) -> bytes:
    """A run of nodes as it is; a big node without its big attributes."""
    _let_go(data, begin, end)
    if at is None:
        return data[begin:end]
    node = slim(data, at, end)
    return bytes((number << 3 | 2,)) + varint(len(node)) + node
