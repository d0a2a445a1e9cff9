"""What runs when: which nodes and functions a request reaches, which the load, which nothing.

Backwards from the tensors that a signature gives, through inputs and control edges, into the functions that nodes
name. A function counts as a whole: what has side effects in it runs whenever it is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.savedmodel.flow import MAIN
from deploy.savedmodel.scanning import Outline, Scope
from deploy.wire.contracts import INTERNAL_SIGNATURES

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import TensorInfo

_INIT = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
LOAD, SAVE = "load", "save"


@dataclass(frozen=True, slots=True)
class Reached:
    """What starts it. signatures: their names, sorted. load: the server, at load. save: the saver, which nobody calls.
    """

    signatures: tuple[str, ...] = ()
    load: bool = False
    save: bool = False

    @property
    def request(self) -> bool:
        return bool(self.signatures)


class Reach:
    """Answers for one graph. inputs: of the main graph's nodes (scanning.main_inputs)."""

    def __init__(self, outline: Outline, inputs: Mapping[str, list[str]]) -> None:
        self._outline, self._inputs = outline, inputs
        self._callees = {name: _callees(scope, outline.scopes) for name, scope in outline.scopes.items()}
        self._main_calls: dict[str, list[str]] = {}
        for node, function in outline.scopes[MAIN].calls:
            self._main_calls.setdefault(node, []).append(function)
        self._legacy = {op for op in outline.scopes[MAIN].ops if op in outline.scopes}
        self.found = {root: self._from(nodes) for root, nodes in _roots(outline).items()}

    def of(self, scope: str, node: str) -> Reached:
        """Who reaches a node of the main graph, or a function (then the node doesn't matter)."""
        by = {root for root, (nodes, functions) in self.found.items()
              if (node in nodes if scope == MAIN else scope in functions)}
        return Reached(tuple(sorted(name for kind, name in by if kind == "signature")),
                       (LOAD, "") in by, (SAVE, "") in by)

    def scopes_of(self, signature: str) -> set[str]:
        """The functions that a signature reaches, and MAIN."""
        return {MAIN, *self.found[("signature", signature)][1]}

    def _from(self, nodes: Iterable[str]) -> tuple[set[str], set[str]]:
        seen: set[str] = set()
        pending = [node for node in nodes if node]
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending += [_node(tensor) for tensor in self._inputs.get(name, ())]
        calling = seen & self._main_calls.keys()
        functions = {function for node in calling for function in self._main_calls[node]}
        return seen, self._closure(functions | self._legacy)

    def _closure(self, functions: set[str]) -> set[str]:
        seen: set[str] = set()
        pending = list(functions)
        while pending:
            name = pending.pop()
            if name not in seen and name in self._callees:
                seen.add(name)
                pending += self._callees[name]
        return seen


def _roots(outline: Outline) -> dict[tuple[str, str], list[str]]:
    graph = outline.graph
    roots = {("signature", name): [_node(info.name) for info in _dense(signature.outputs.values())]
             for name, signature in graph.signature_def.items() if name not in INTERNAL_SIGNATURES}
    load = [graph.saver_def.restore_op_name]
    load += [info.name for info in graph.signature_def[_INIT].outputs.values()] if _INIT in graph.signature_def else []
    for name in _INIT_COLLECTIONS:
        load += graph.collection_def[name].node_list.value if name in graph.collection_def else []
    roots[(LOAD, "")] = [_node(name) for name in load]
    roots[(SAVE, "")] = [_node(graph.saver_def.save_tensor_name)]
    return roots


def _dense(infos: Iterable[TensorInfo]) -> Iterator[TensorInfo]:
    """The tensors of signatures' values; sparse and composite ones have several."""
    for info in infos:
        if info.HasField("coo_sparse"):
            parts = info.coo_sparse
            for name in (parts.values_tensor_name, parts.indices_tensor_name, parts.dense_shape_tensor_name):
                yield type(info)(name=name)
        elif info.HasField("composite_tensor"):
            yield from _dense(info.composite_tensor.components)
        else:
            yield info


def _callees(scope: Scope, scopes: Mapping[str, Scope]) -> set[str]:
    """The functions that a scope names, also as an op, as TensorFlow 1 did."""
    return {function for _, function in scope.calls} | (scope.ops.keys() & scopes.keys()) - {MAIN}


def _node(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]
