"""What a graph is made of, and where its tensors come from: backwards through nodes, and out of functions to what their
callers pass.

`scanning` finds the parts; what is kept of the attributes of nodes and functions is said here. With the names of
TensorFlow's ops that several rooms look for. Source: tensorflow/core/ops/*.cc of TensorFlow 2.21.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from deploy.types import TensorSpec
from deploy.wire.field_scan import Data, fields, varint
from deploy.wire.model_pb2 import AttrValue, FunctionDef, GraphDef, MetaGraphDef, NameAttrList, NodeDef

MAIN = ""
"""The scope of nodes that are in no function."""

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""They call the function that their attribute `f` names; their inputs are its arguments."""

LOOPS = frozenset({"While", "StatelessWhile"})
"""They call the functions that their attributes `cond` and `body` name; their inputs are the arguments of both."""

PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
"""They call back into the Python that saved the model."""

VARIABLE = "VarHandleOp"
VARIABLES = frozenset({VARIABLE, "AutoReloadVariable", "Variable", "VariableV2"})

IMAGE = (TensorSpec("image", "string", ()),)
"""What SavedModelInfo.features says of an input whose strings are decoded as images, and not parsed as tf.Example."""

TABLE_FILES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})

Inputs = Callable[[str, NodeDef], Iterable[str]]
"""Of a scope's node: the tensors to follow from there."""

COMPILED = "_XlaMustCompile"
IMPLEMENTS = "api_implements"

Limits = Mapping[str, Mapping[str, frozenset[int]]]
"""op -> attribute -> the types that it may have, by number."""

_TRIMMED = 1 << 16  # bytes of an attribute that may be a constant's value
_ATTR, _VALUE, _LIST, _FUNCTIONS = 5, 2, 1, 9  # numbers of fields: NodeDef's, a map entry's, AttrValue's, its list's
_DATA = frozenset({2, 8})  # AttrValue's bytes and tensors
_NOTES = (COMPILED.encode(), IMPLEMENTS.encode())


@dataclass(frozen=True, slots=True)
class Body:
    """A scope's nodes by name; a function's arguments in their order, and the tensors that it returns."""

    nodes: dict[str, NodeDef]
    arguments: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


def body(function: FunctionDef, nodes: dict[str, NodeDef]) -> Body:
    """A function's body. Arguments and results that stand for several tensors each have no positions: none are told."""
    signature = function.signature
    inputs, outputs = ([] if any(arg.number_attr or arg.type_list_attr for arg in args) else [arg.name for arg in args]
                       for args in (signature.input_arg, signature.output_arg))
    return Body(nodes, tuple(inputs), tuple(function.ret[name] for name in outputs))


def scopes(graph: GraphDef) -> Iterator[tuple[str, Iterable[NodeDef]]]:
    """The nodes of the main graph, then those of each function."""
    yield MAIN, graph.node
    for function in graph.library.function:
        yield function.signature.name, function.node_def


def input_of(node: NodeDef, position: int) -> str:
    """The name of an input; empty, which no node is called, where a damaged graph has none."""
    return node.input[position] if position < len(node.input) else ""


class Flow:
    """Answers for one graph. bodies: the scopes to look at by name; those that call them belong to it."""

    def __init__(self, bodies: Mapping[str, Body]) -> None:
        self._bodies = bodies

    def node(self, scope: str, tensor: str) -> NodeDef | None:
        """The node that gives `tensor`; None for a function's argument, and for what isn't there."""
        return self._bodies[scope].nodes.get(_node(tensor)) if scope in self._bodies else None

    def sources(self, scope: str, tensor: str, inputs: Inputs) -> Iterator[tuple[str, str, NodeDef]]:
        """(scope, tensor, node) of all that flows into `tensor`, the node that gives it first, each tensor once."""
        pending, visited = [(scope, tensor)], set()
        while pending:
            place = scope, tensor = pending.pop()
            if place in visited:
                continue
            visited.add(place)
            node = self.node(scope, tensor)
            if node is None:
                pending += self._passed(scope, _node(tensor))
            else:
                yield scope, tensor, node
                pending += [(scope, name) for name in inputs(scope, node)]

    def _passed(self, function: str, argument: str) -> Iterator[tuple[str, str]]:
        """What the callers of a function pass as an argument."""
        arguments = self._bodies[function].arguments if function in self._bodies else ()
        if argument in arguments:
            position = arguments.index(argument)
            yield from ((scope, input_of(call, position)) for scope, call in self._callers[function])

    @functools.cached_property
    def _callers(self) -> Mapping[str, list[tuple[str, NodeDef]]]:
        callers: dict[str, list[tuple[str, NodeDef]]] = defaultdict(list)
        for scope, members in self._bodies.items():
            for node in members.nodes.values():
                if node.op in CALLS or node.op in LOOPS:
                    callers[node.attr["f" if node.op in CALLS else "body"].func.name].append((scope, node))
        return callers


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


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

    @property
    def ops(self) -> frozenset[str]:
        """Names of all ops, those inside functions included."""
        return frozenset(op for scope in self.scopes.values() for op in scope.ops)


def functions_in(values: Iterable[AttrValue]) -> Iterator[str]:
    """The functions that attributes name, alone, in lists, and as attributes of functions."""
    for value in values:
        for called in (value.func, *value.list.func):
            yield from _named(called)


def _named(called: NameAttrList) -> Iterator[str]:
    if called.name:
        yield called.name
    yield from functions_in(called.attr.values())


def of_function(entries: Iterable[bytes], arguments: Iterable[bytes] = ()) -> dict[str, AttrValue]:
    """A function's attributes that may name functions or say how it is run, and those of its arguments.

    entries, arguments: the entries of the maps `attr` and `arg_attr`, serialized.
    """
    chosen = [entry for entry in entries if _may_name(entry) or any(note in entry for note in _NOTES)]
    named = [entry for entry in arguments if _may_name(entry)]
    if not chosen and not named:
        return {}
    function = FunctionDef.FromString(b"".join((*(_field(5, entry) for entry in chosen),
                                                *(_field(7, entry) for entry in named))))
    return {**dict(function.attr), **{f"{number}:{name}": value for number, each in function.arg_attr.items()
                                      for name, value in each.attr.items()}}


def _may_name(entry: bytes) -> bool:
    """Whether the tags of AttrValue.func or of its list's func are among the bytes."""
    return b"\x52" in entry or b"\x4a" in entry


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint(len(value)) + value


def slim(data: Data, at: int, end: int) -> bytes:
    """A NodeDef's bytes without the values of big constants; attributes that may name functions stay, whatever size."""
    return b"".join(data[b:e] for n, b, value, e in fields(data, at, end)
                    if n != _ATTR or e - b <= _TRIMMED or not _is_constant(data, value, e))


def _is_constant(data: Data, at: int, end: int) -> bool:
    """Whether all that a map entry's value has is bytes and tensors, or a list without functions."""
    for _, _, value, stop in (each for each in fields(data, at, end) if each[0] == _VALUE):
        for number, _, begin, finish in fields(data, value, stop):
            if number == _LIST:
                if any(inner[0] == _FUNCTIONS for inner in fields(data, begin, finish)):
                    return False
            elif number not in _DATA:
                return False
    return True
