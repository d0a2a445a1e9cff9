"""Where a file's name comes from: backwards from the input that names it, until nothing is left to follow.

A name passes unchanged through what copies it, through functions' arguments and results, branches and variables. What
computes it ends the way, and so does everything that isn't understood: then the name can't be known.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from deploy import wire
from deploy.checks.graph import Graph
from deploy.checks.variables import Assignments, Bodies, Unfollowed
from deploy.errors import BadReply
from deploy.savedmodel import flow
from deploy.savedmodel.flow import MAIN, input_of
from deploy.savedmodel.reader import asset_files
from deploy.wire.model_pb2 import NodeDef

_COPIES = frozenset({"CheckPinned", "EnsureShape", "ExpandDims", "GuaranteeConst", "Identity", "PlaceholderWithDefault",
                     "PreventGradient", "ReadVariableOp", "Reshape", "Snapshot", "Squeeze", "StopGradient", "Switch"})
"""Ops that give their first input."""

_COLLECT = frozenset({"ConcatV2", "Merge", "Pack"})
"""Ops whose outputs are their inputs together, or one of them; an axis is a number, which is no name."""

_REQUESTED = frozenset({"Placeholder", "PlaceholderV2"})
_MOST = 2_000  # tensors behind one name
_MOST_OF_ALL = 100_000  # tensors behind all names of a graph


class Origin(enum.Enum):
    """Where the name of a file comes from; the worst first."""

    REQUEST = "the request"
    LITERAL = "a constant"
    COMPUTED = "the graph"
    UNKNOWN = "elsewhere"
    CALLER = "a caller that isn't there"
    CHECKPOINT = "the checkpoint"
    ASSET = "an asset"


@dataclass(frozen=True, slots=True)
class Source:
    """An end of the way. what: the constant, for LITERAL; the op, for COMPUTED; why, for UNKNOWN."""

    origin: Origin
    what: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A tensor on the way. request: it is computed when a request runs; then nothing fills in an asset's path."""

    scope: str
    tensor: str
    request: bool


class Names:
    """Answers for one graph; reads the functions that it needs."""

    def __init__(self, graph: Graph, scopes: set[str]) -> None:
        meta = graph.outline.graph
        self._graph, self._assets = graph, {_node(asset.tensor_info.name): asset.filename
                                            for asset in asset_files(meta)}
        self._checkpoint = _node(meta.saver_def.filename_tensor_name)
        self._fed = graph.fed
        self._bodies = Bodies(graph, scopes)
        self._variables = Assignments(graph, self._bodies)
        self._left = _MOST_OF_ALL

    def sources(self, scope: str, node: NodeDef, position: int, *, computed: bool = False) -> set[Source]:
        """All ends of the way to an input of a node. computed: follow computations, too."""
        reached = self._graph.reachability.of(scope, node.name)
        request = reached.request or reached.instead
        pending, visited, ends = [Step(scope, input_of(node, position), request)], set[Step](), set[Source]()
        while pending:
            step = pending.pop()
            if step in visited:
                continue
            visited.add(step)
            self._left -= 1
            if len(visited) > _MOST or self._left < 0:
                return {*ends, Source(Origin.UNKNOWN, "too much lies behind it")}
            for end in self._followed(step, computed):
                if isinstance(end, Source):
                    ends.add(end)
                else:
                    pending.append(end)
        return ends

    def _followed(self, step: Step, computed: bool) -> Iterator[Source | Step]:
        try:
            node = self._bodies.node(step.scope, _node(step.tensor))
            if node is None:
                yield from self._passed(step)
            elif step.scope == MAIN and node.name in self._fed:
                yield Source(Origin.REQUEST)
            elif step.scope == MAIN and (node.name in self._assets or node.name == self._checkpoint):
                yield from self._filled_in(node, step, computed)
            else:
                yield from self._through(node, step, computed)
        except Unfollowed as reason:
            yield Source(Origin.UNKNOWN, str(reason))

    def _filled_in(self, node: NodeDef, step: Step, computed: bool) -> Iterator[Source | Step]:
        """An asset's path, or the checkpoint's, that the server fills in at load. In a request the node's own value
        counts, from where the server was started, be it `/`: at most a plain name passes; a mere placeholder fails.
        """
        own = Source(Origin.ASSET if node.name in self._assets else Origin.CHECKPOINT)
        if not step.request or node.op in _REQUESTED:
            yield own
        else:
            name = self._assets.get(node.name, "")
            same = None if "/" in name or name.startswith(".") else Source(Origin.LITERAL, name)
            yield from (own if end == same else end for end in self._through(node, step, computed))

    def _through(self, node: NodeDef, step: Step, computed: bool) -> Iterator[Source | Step]:
        data = [name for name in node.input if not name.startswith("^")]
        if node.op == "Const":
            yield from _literals(node)
        elif node.op in _REQUESTED:
            yield Source(Origin.REQUEST)
        elif node.op in _COPIES or node.op == "IdentityN":
            position = _index(step.tensor) if node.op == "IdentityN" else 0
            yield Step(step.scope, input_of(node, position), step.request)
        elif node.op in _COLLECT:
            yield from (Step(step.scope, name, step.request) for name in data if not self._is_number(step.scope, name))
        elif node.op == flow.VARIABLE:
            yield from (Step(scope, input_of(assign, 1), self._graph.reachability.of(scope, assign.name).request)
                        for scope, assign in self._variables.assigned(step.scope, node))
        elif (branches := self._bodies.called(node)) is not None:
            yield from (Step(name, result, step.request) for name in branches
                        for result in self._bodies.results(node, name, _index(step.tensor)))
            if self._bodies.is_loop(node):
                yield Step(step.scope, input_of(node, _index(step.tensor)), step.request)
        elif computed:
            yield from (Step(step.scope, name, step.request) for name in data if not self._is_number(step.scope, name))
        else:
            yield Source(Origin.COMPUTED, node.op)

    def _passed(self, step: Step) -> Iterator[Source | Step]:
        """What the callers of a function pass as an argument."""
        argument = self._bodies.argument(step.scope, _node(step.tensor))
        callers = self._bodies.callers(step.scope)
        if not callers:
            yield Source(Origin.CALLER)
        for scope, call, shift in callers:
            request = self._graph.reachability.of(scope, call.name).request
            yield Step(scope, input_of(call, argument + shift), request)
            if self._bodies.is_loop(call):
                yield from (Step(name, self._bodies.result(name, argument), request)
                            for name in self._bodies.called(call) or ())

    def _is_number(self, scope: str, tensor: str) -> bool:
        node = self._bodies.node(scope, _node(tensor))
        return node is not None and node.op == "Const" and node.attr["value"].tensor.dtype not in (0, _STRING)


_STRING = 7  # DT_STRING


def _literals(node: NodeDef) -> Iterator[Source]:
    """The strings of a constant; empty ones name no file. One that was too big to be kept can't be known."""
    value = node.attr["value"].tensor
    if "value" not in node.attr or value.dtype != _STRING:
        yield Source(Origin.UNKNOWN, "a constant that is no text, or too much of it")
        return
    try:
        texts = wire.tensors.decode(value).ravel()[:_MOST].tolist() if value.tensor_content else list(value.string_val)
    except BadReply:
        yield Source(Origin.UNKNOWN, "a damaged constant")
        return
    yield from {Source(Origin.LITERAL, text.decode(errors="replace").strip()) for text in texts[:_MOST]}


def _index(tensor: str) -> int:
    last = tensor.rpartition(":")[2]
    return int(last) if ":" in tensor and last.isdecimal() else 0


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]
