"""Where tensors come from: backwards through the nodes of a graph, and out of functions to what their callers pass.

With the names of TensorFlow's ops that several rooms look for. Source: tensorflow/core/ops/*.cc of TensorFlow 2.21.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from deploy.wire.model_pb2 import FunctionDef, GraphDef, NodeDef

MAIN = ""
"""The scope of nodes that are in no function."""

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""They call the function that their attribute `f` names; their inputs are its arguments."""

PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
"""They call back into the Python that saved the model."""

VARIABLE = "VarHandleOp"
VARIABLES = frozenset({VARIABLE, "AutoReloadVariable", "Variable", "VariableV2"})

TABLE_FILES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})

Inputs = Callable[[str, NodeDef], Iterable[str]]
"""Of a scope's node: the tensors to follow from there."""


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
                if node.op in CALLS:
                    callers[node.attr["f"].func.name].append((scope, node))
        return callers


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]
