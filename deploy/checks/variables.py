"""Functions' bodies, read when they are asked for, and what is assigned to a variable wherever its handle goes."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.checks import policy
from deploy.savedmodel import flow
from deploy.savedmodel.flow import MAIN, Body
from deploy.wire.model_pb2 import NodeDef

if TYPE_CHECKING:
    from deploy.checks.graph import Graph

_BRANCHES = {"If": ("then_branch", "else_branch"), "StatelessIf": ("then_branch", "else_branch"),
             "Case": ("branches",), "StatelessCase": ("branches",)}
_LOOPS = frozenset({"While", "StatelessWhile"})
_ASSIGN = "AssignVariableOp"  # its inputs: the variable, its value
_LOOKS = frozenset({"DestroyResourceOp", "DisableCopyOnRead", "ReadVariableOp", "VariableShape", "VarIsInitializedOp"})
_ANONYMOUS = b"cd2c89b7-88b7-44c8-ad83-06c2a9158347"  # ResourceHandle::ANONYMOUS_NAME: such variables have no name
_READS = 50  # times that a file is looked through for a function's body, or for nodes
_TEXTS = (0, 7)  # DT_INVALID, which nobody has said; DT_STRING
_BEHIND = 20_000  # nodes that are read at once


class Unfollowed(Exception):
    """A way ends where nothing can be known; the text says why."""


class Bodies:
    """Scopes by name. What wasn't asked for at first is read when it is needed."""

    def __init__(self, graph: Graph, scopes: set[str]) -> None:
        self._graph, self._reads = graph, _READS
        wanted = self._with_callers(scopes)
        self._known: dict[str, Body] = graph.file.bodies(wanted - {MAIN})
        self._known[MAIN] = Body({})
        self._main: dict[str, NodeDef] = {}
        self._users: dict[str, dict[str, list[tuple[str, int]]]] = {}
        calling = {node for node, function in graph.outline.scopes[MAIN].calls if function in wanted}
        self._read_main({*calling, *(node.name for scope, node in graph.outline.kept if scope == MAIN and node.op in
                                     policy.names_of())})

    def get(self, scope: str) -> Body | None:
        """The scope; None if there is none of that name. Raises Unfollowed if too many were read already."""
        if scope not in self._known and scope in self._graph.outline.scopes:
            self._reads -= 1
            if self._reads < 0:
                raise Unfollowed("it comes through too many functions")
            self._known.update(self._graph.file.bodies({scope}))
        return self._known.get(scope)

    def node(self, scope: str, name: str) -> NodeDef | None:
        """A node; None if there is none of that name. Raises Unfollowed if too much was read already."""
        if scope != MAIN:
            body = self.get(scope)
            return body.nodes.get(name) if body else None
        if name not in self._main and name in self._graph.main_inputs:
            self._read_main({name})
        return self._main.get(name)

    def users(self, scope: str, name: str) -> list[tuple[NodeDef, int]]:
        """The nodes that take what a node gives, each with the position. Raises Unfollowed."""
        if scope not in self._users:
            body = self.get(scope)
            inputs = self._graph.main_inputs if scope == MAIN else \
                {node.name: list(node.input) for node in body.nodes.values()} if body else {}
            users: dict[str, list[tuple[str, int]]] = defaultdict(list)
            for user, names in inputs.items():
                for position, tensor in enumerate(names):
                    users[tensor.partition(":")[0]].append((user, position))
            self._users[scope] = users
            if scope == MAIN:  # those of all variables that hold text, at once
                texts = [node.name for place, node in self._graph.nodes(frozenset({flow.VARIABLE}))
                         if place == MAIN and node.attr["dtype"].type in _TEXTS]
                self._read_main({user for text in texts for user, _ in users.get(text, ())})
        users_here = self._users[scope].get(name, [])
        missing = {user for user, _ in users_here} - self._main.keys() if scope == MAIN else set()
        if missing:
            self._read_main(missing)
        return [(node, position) for user, position in users_here if (node := self.node(scope, user)) is not None]

    def _read_main(self, names: set[str]) -> None:
        """Read nodes of the main graph, and what lies behind them: the whole graph may be big."""
        self._reads -= 1
        if self._reads < 0:
            raise Unfollowed("it comes through too many nodes")
        behind, pending = set[str](), list(names)
        while pending and len(behind) < _BEHIND:
            name = pending.pop()
            if name not in behind and name not in self._main:
                behind.add(name)
                pending += [_node(tensor) for tensor in self._graph.main_inputs.get(name, ())]
        self._main.update(self._graph.file.main_nodes(behind))

    def called(self, node: NodeDef) -> list[str] | None:
        """The functions whose results a node gives; None if it isn't known to give a function's results.

        A loop gives its body's, or its own inputs; both are also what its body and condition are given.
        """
        if node.op in flow.CALLS:
            return [node.attr["f"].func.name]
        if node.op in _LOOPS:
            return [node.attr["body"].func.name]
        if node.op in _BRANCHES:
            values = [node.attr[name] for name in _BRANCHES[node.op]]
            return [called.name for value in values for called in (*([value.func] if value.func.name else []),
                                                                   *value.list.func)]
        return [node.op] if node.op in self._graph.outline.scopes else None

    def result(self, function: str, position: int) -> str:
        """The tensor of a function that is its result. Raises Unfollowed."""
        body = self.get(function)
        if body is None or position >= len(body.results):
            raise Unfollowed(f"it is result {position} of {function or 'a function'}, which isn't there")
        return body.results[position]

    def results(self, node: NodeDef, function: str, position: int) -> list[str]:
        """The tensors of a function that an output of its caller may be. Raises Unfollowed.

        In functions outputs are counted within their names, so that of an op that is a function itself may be any.
        """
        body = self.get(function)
        if node.op == function and body is not None and len(body.results) > 1:
            return list(body.results)
        return [self.result(function, position)]

    def argument(self, function: str, name: str) -> int:
        """The position of a function's argument. Raises Unfollowed."""
        body = self.get(function)
        if body is None or name not in body.arguments:
            raise Unfollowed(f"{name!r} isn't there")
        return body.arguments.index(name)

    def callers(self, function: str) -> list[tuple[str, NodeDef, int]]:
        """(scope, node, how many of its inputs come before the first argument). Raises Unfollowed for others."""
        calls = []
        for scope, name in self._callers.get(function, ()):
            node = self.node(scope, name)
            functions = self.called(node) if node else None
            if node and node.op in _LOOPS:
                functions = [*(functions or ()), node.attr["cond"].func.name]
            if node is None or functions is None or function not in functions:
                raise Unfollowed(f"{function} is called by {node.op if node else 'an attribute'}")
            calls.append((scope, node, int(node.op in _BRANCHES)))
        return calls

    def _with_callers(self, scopes: set[str]) -> set[str]:
        """These functions, and all that call them, directly or not."""
        visited: set[str] = set()
        pending = list(scopes)
        while pending:
            scope = pending.pop()
            if scope not in visited:
                visited.add(scope)
                pending += [caller for caller, _ in self._callers.get(scope, ())]
        return visited

    @staticmethod
    def is_loop(node: NodeDef) -> bool:
        """Whether what a node gives, and what its functions are given, may be its inputs, too."""
        return node.op in _LOOPS

    @functools.cached_property
    def _callers(self) -> dict[str, set[tuple[str, str]]]:
        callers: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for scope, members in self._graph.outline.scopes.items():
            for node, function in members.calls:
                callers[function].add((scope, node))
            for op in members.ops.keys() & self._graph.outline.scopes.keys():
                callers[op].add((scope, members.ops[op]))
        return callers


class Assignments:
    """Which nodes assign to a variable."""

    def __init__(self, graph: Graph, bodies: Bodies) -> None:
        self._graph, self._bodies = graph, bodies

    def assigned(self, scope: str, variable: NodeDef) -> list[tuple[str, NodeDef]]:
        """(scope, node) of all that assigns to it, wherever its handle goes. Raises Unfollowed if that isn't known."""
        key = _key(variable)
        same = [(scope, variable)] if key is None else \
            [(place, node) for place, node in self._graph.nodes(frozenset({flow.VARIABLE})) if _key(node) == key]
        assignments: dict[tuple[str, str], NodeDef] = {}
        pending, visited = [(place, node.name) for place, node in same], set[tuple[str, str]]()
        while pending:
            place, name = handle = pending.pop()
            if handle not in visited:
                visited.add(handle)
                self._check_kept(place, name)
                for user, position in self._bodies.users(place, name):
                    if user.op == _ASSIGN and position == 0:
                        assignments[place, user.name] = user
                    elif user.op not in _LOOKS:
                        pending += self._passed_on(place, user, position)
        if not assignments:
            raise Unfollowed(f"nothing assigns to the variable {variable.name}")
        return [(place, node) for (place, _), node in assignments.items()]

    def _check_kept(self, function: str, handle: str) -> None:
        body = self._bodies.get(function)
        if body and any(_node(result) == handle for result in body.results):
            raise Unfollowed(f"{function} gives its variable away")

    def _passed_on(self, scope: str, node: NodeDef, position: int) -> Iterator[tuple[str, str]]:
        if node.op == "Identity":
            yield scope, node.name
        elif node.op in flow.CALLS:
            function = node.attr["f"].func.name
            body = self._bodies.get(function)
            if body is None or position >= len(body.arguments):
                raise Unfollowed(f"its variable goes to {function or 'a function'}, which isn't there")
            yield function, body.arguments[position]
        else:
            raise Unfollowed(f"its variable goes to {node.op}")


def _node(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _key(variable: NodeDef) -> tuple[bytes, bytes] | None:
    """What two nodes have in common if they are one variable; None for one that has no name."""
    name = variable.attr["shared_name"].s or variable.name.encode()
    return None if name == _ANONYMOUS else (variable.attr["container"].s, name)
