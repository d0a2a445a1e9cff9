"""Which files a graph reads: an asset of the version, a path on the machine that saved it, or what a request names.

Backwards from the input that names the file, through the arguments of functions, to constants and placeholders.
"""

from __future__ import annotations

import enum
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.checks.findings import Finding, Severity
from deploy.checks.graph import Graph, Place
from deploy.checks.rules import RULES
from deploy.savedmodel import ops, scanning
from deploy.savedmodel.flow import MAIN, Flow, input_of

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import NodeDef

_REQUESTED = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_ASSIGN = "AssignVariableOp"  # its inputs: the variable, its value
_FIRST = 200  # nodes that are looked at, at most


class Origin(enum.Enum):
    """Where the name of a file comes from."""

    ASSET = "an asset"
    LITERAL = "a constant"
    REQUEST = "the request"
    UNKNOWN = "elsewhere"


@dataclass(frozen=True, slots=True)
class Read:
    """A node that reads a file. path: the constant, for LITERAL."""

    place: Place
    origin: Origin
    path: str = ""


def check(graph: Graph) -> Iterator[Finding]:
    """Files that are read, and aren't the version's own."""
    for read in _reads(graph):
        severity = _severity(read)
        if read.origin is Origin.ASSET or severity is None:
            continue
        op, where = read.place.op, read.place.where
        if read.origin is Origin.LITERAL:
            yield RULES["asset-path"].found(f"{op} reads {read.path!r}, which is no asset of the version", where,
                                            severity=severity)
        elif read.origin is Origin.REQUEST:
            yield RULES["file-read"].found(f"{op} reads the file that a request names", where, severity=severity)
        elif op not in ops.TABLE_FILES:
            yield RULES["file-read"].found(f"{op} reads a file whose name the graph computes", where, severity=severity)


def _severity(read: Read) -> Severity | None:
    reached = read.place.reached
    if reached.request or reached.load:
        return Severity.ERROR
    return None if reached.save else Severity.WARNING


def _reads(graph: Graph) -> Iterator[Read]:
    readers = list(graph.nodes(frozenset(ops.FILENAMES)))
    if not readers:
        return
    sources = _Sources(graph, {scope for scope, _ in readers})
    for scope, node in readers:
        name = input_of(node, ops.FILENAMES[node.op])
        yield Read(graph.place(node.op, scope, node.name), *sources.origin(scope, name))


class _Sources:
    """Where files' names come from. Loads the functions that matter and those that call them."""

    def __init__(self, graph: Graph, scopes: set[str]) -> None:
        self._assets = {asset.tensor_info.name.partition(":")[0] for asset in graph.outline.graph.asset_file_def}
        self._bodies = scanning.bodies(graph.path, {MAIN, *_with_callers(graph, scopes)}, graph.target.tags)
        self._flow = Flow(self._bodies)

    def origin(self, scope: str, tensor: str) -> tuple[Origin, str]:
        """The origin of a name; the gravest one, if it is put together from several, unless an asset is among them."""
        found = dict(self._leaves(scope, tensor))
        for origin in (Origin.REQUEST, Origin.ASSET, Origin.LITERAL):
            if origin in found:
                return origin, found[origin]
        return Origin.UNKNOWN, ""

    def _leaves(self, scope: str, tensor: str) -> Iterator[tuple[Origin, str]]:
        for place, _, node in itertools.islice(self._flow.sources(scope, tensor, self._inputs), _FIRST):
            if place == MAIN and node.name in self._assets:
                yield Origin.ASSET, ""
            elif node.op == "Const":
                yield from ((Origin.LITERAL, value.decode(errors="replace"))
                            for value in node.attr["value"].tensor.string_val if value.strip())
            elif node.op in _REQUESTED:
                yield Origin.REQUEST, ""

    def _inputs(self, scope: str, node: NodeDef) -> list[str]:
        if node.op in _REQUESTED or (scope == MAIN and node.name in self._assets):
            return []
        if node.op == ops.VARIABLE:
            return [input_of(other, 1) for other in self._bodies[scope].nodes.values()
                    if other.op == _ASSIGN and input_of(other, 0).partition(":")[0] == node.name]
        return [name for name in node.input if not name.startswith("^")]


def _with_callers(graph: Graph, scopes: set[str]) -> set[str]:
    """These functions, and all that call them, directly or not."""
    callers: dict[str, list[str]] = defaultdict(list)
    for scope, found in graph.outline.scopes.items():
        for _, function in found.calls:
            callers[function].append(scope)
    seen: set[str] = set()
    pending = list(scopes)
    while pending:
        scope = pending.pop()
        if scope not in seen:
            seen.add(scope)
            pending += callers[scope]
    return seen
