"""What runs when: which nodes and functions a request reaches, which the load, which nothing.

Backwards from the tensors that a signature gives, through inputs and control edges, into the functions that nodes
name. A function counts as a whole: what has side effects in it runs whenever it is called.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from deploy.savedmodel.flow import MAIN, Outline
from deploy.wire.contracts import INTERNAL_SIGNATURES
from deploy.wire.model_pb2 import MetaGraphDef, SignatureDef, TensorInfo

_INIT = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_NAMED = 4
"""Signatures that are told of each place; with thousands of signatures the work stays that of four."""

Root = tuple[str, str]  # what kind it is, a signature's name
_SIGNATURE, _RESTORE, _INITIALIZE, _SAVE = _KINDS = ("signature", "restore", "initialize", "save")
Next = Callable[[str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Reached:
    """What starts it.

    signatures: their names, sorted, at most four. restore, initialize: the server, at load, with the checkpoint's name
    or without. save: the saver, which nobody calls. instead: the runtime may run it in place of a function that is
    reached. idle: it stands in the main graph, or is called from there, where nothing comes.
    """

    signatures: tuple[str, ...] = ()
    restore: bool = False
    initialize: bool = False
    save: bool = False
    instead: bool = False
    idle: bool = False

    @property
    def request(self) -> bool:
        return bool(self.signatures)

    @property
    def load(self) -> bool:
        return self.restore or self.initialize


class Reachability:
    """Answers for one graph. inputs: of the main graph's nodes (GraphFile.main_inputs). callees: of `callees`."""

    def __init__(self, outline: Outline, inputs: Mapping[str, list[str]], callees: Mapping[str, set[str]]) -> None:
        self._outline, self._inputs, self._callees = outline, inputs, callees
        self._calls: dict[str, list[str]] = defaultdict(list)
        for node, function in outline.scopes[MAIN].calls:
            self._calls[node].append(function)
        self._legacy = {op for op in outline.scopes[MAIN].ops if op in outline.scopes}
        self._roots = _roots(outline.graph)
        self._nodes: dict[str, list[Root]] = {}
        self._functions: dict[str, list[Root]] = {}
        for root, nodes in sorted(self._roots.items(), key=lambda item: item[0][0] == _SIGNATURE):
            self._from(root, nodes, self._nodes, self._functions)

    def of(self, scope: str, node: str) -> Reached:
        """Who reaches a node of the main graph, or a function (then the node doesn't matter)."""
        by = self._nodes.get(node, ()) if scope == MAIN else self._functions.get(scope, ())
        kinds = {kind for kind, _ in by}
        return Reached(tuple(sorted(name for kind, name in by if kind == _SIGNATURE)), _RESTORE in kinds,
                       _INITIALIZE in kinds, _SAVE in kinds, not by and scope in self._instead,
                       not by and (scope == MAIN or scope in self._from_main))

    def scopes_of(self, signature: str) -> set[str]:
        """The functions that a signature reaches, and MAIN; none if there is no such signature."""
        functions: dict[str, list[Root]] = {}
        root = (_SIGNATURE, signature)
        if root not in self._roots:
            return set()
        self._from(root, self._roots[root], {}, functions)
        return {MAIN, *functions}

    def _from(self, root: Root, starts: Iterable[str], nodes: dict[str, list[Root]],
              functions: dict[str, list[Root]]) -> None:
        called = set(self._legacy)
        for name in _marked(root, starts, nodes, lambda node: map(_node, self._inputs.get(node, ()))):
            called.update(self._calls.get(name, ()))
        for _ in _marked(root, called, functions, lambda function: self._callees.get(function, ())):
            pass

    @functools.cached_property
    def _from_main(self) -> set[str]:
        """All functions that the main graph calls, reached or not."""
        return self._closure({function for functions in self._calls.values() for function in functions}, {})

    @functools.cached_property
    def _instead(self) -> set[str]:
        """Functions that may run in place of one that is reached: of those with the same name, the runtime chooses."""
        same: dict[str, set[str]] = defaultdict(set)
        for name, scope in self._outline.scopes.items():
            if scope.implements:
                same[scope.implements].add(name)
        others = {name: same[scope.implements] for name, scope in self._outline.scopes.items() if scope.implements}
        return self._closure(set(self._functions), others) - self._functions.keys() if others else set()

    @functools.cached_property
    def compiled(self) -> set[str]:
        """Functions that run as a part of one that XLA compiles."""
        return self._closure(self._outline.compiled, {})

    def _closure(self, functions: Iterable[str], others: Mapping[str, set[str]]) -> set[str]:
        return set(_marked((_SIGNATURE, ""), functions, {},
                           lambda name: (*self._callees.get(name, ()), *others.get(name, ()))))


def _marked(root: Root, starts: Iterable[str], marks: dict[str, list[Root]], more: Next) -> Iterator[str]:
    """All that `starts` lead to and `root` hasn't marked yet. Behind what enough roots have marked, all is marked."""
    pending = [name for name in starts if name]
    while pending:
        name = pending.pop()
        by = marks.setdefault(name, [])
        if len(by) < _NAMED + len(_KINDS) and root not in by:
            by.append(root)
            yield name
            pending += more(name)


def callees(outline: Outline) -> dict[str, set[str]]:
    """The functions that each scope names, also as an op, as TensorFlow 1 did, and the gradients of functions."""
    there = frozenset(outline.scopes) - {MAIN}
    called = {name: {function for _, function in scope.calls if function in there} | there.intersection(scope.ops)
             for name, scope in outline.scopes.items()}
    for function, gradient in outline.gradients:
        if function in called and gradient in there:
            called[function].add(gradient)
    return called


def _roots(graph: MetaGraphDef) -> dict[Root, list[str]]:
    roots = {(_SIGNATURE, name): [_node(info.name) for info in dense(signature.outputs.values())]
             for name, signature in asked(graph)}
    load = [info.name for info in graph.signature_def[_INIT].outputs.values()] if _INIT in graph.signature_def else []
    for name in _INIT_COLLECTIONS:
        load += graph.collection_def[name].node_list.value if name in graph.collection_def else []
    roots[(_RESTORE, "")] = [_node(graph.saver_def.restore_op_name)]
    roots[(_INITIALIZE, "")] = [_node(name) for name in load]
    roots[(_SAVE, "")] = [_node(graph.saver_def.save_tensor_name)]
    return roots


def asked(graph: MetaGraphDef) -> list[tuple[str, SignatureDef]]:
    """The signatures that a request can name. TensorFlow's own ones can't be asked for as long as they are as usual:
    Predict wants a method, and Classify, which doesn't, wants an input."""
    return [(name, signature) for name, signature in sorted(graph.signature_def.items())
            if name not in INTERNAL_SIGNATURES or signature.method_name or signature.inputs]


def dense(infos: Iterable[TensorInfo]) -> Iterator[TensorInfo]:
    """The tensors of signatures' values; sparse and composite ones have several."""
    for info in infos:
        if info.HasField("coo_sparse"):
            parts = info.coo_sparse
            for name in (parts.values_tensor_name, parts.indices_tensor_name, parts.dense_shape_tensor_name):
                yield type(info)(name=name)
        elif info.HasField("composite_tensor"):
            yield from dense(info.composite_tensor.components)
        else:
            yield info


def _node(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]
