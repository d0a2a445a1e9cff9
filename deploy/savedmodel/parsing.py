"""Which string tensors a graph parses as tf.Example, with the features it wants of them, or decodes as images.

Such an input looks like any other string in the signature; only the graph tells. Sources: ParseExample,
ParseExampleV2 and ParseSingleExample in tensorflow/core/ops/parsing_ops.cc, DecodeImage in image_ops.cc.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from deploy import wire
from deploy.savedmodel.flow import IMAGE, MAIN, Flow, Outline, input_of
from deploy.savedmodel.scanning import GraphFile
from deploy.types import TensorSpec
from deploy.wire.contracts import shape_from_proto
from deploy.wire.dtypes import dtype_from_number
from deploy.wire.model_pb2 import NodeDef

PARSERS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})
DECODERS = frozenset({"DecodeImage", "DecodeJpeg", "DecodePng"})  # each takes the others' formats as well

_PASSING = frozenset({"Identity"})
_PASSING_IMAGES = _PASSING | {"TensorListFromTensor", "TensorListGetItem", "Reshape", "ExpandDims", "Squeeze"}
"""Between a vector of images and each single one: what tf.map_fn makes, too."""
_MOST_PARSERS = 64  # of different inputs; features are for example requests, and more wouldn't help there
_MOST_STEPS = 200_000  # from node to node, for all parsers together: chains in a hostile graph have no end
_MOST_KEYS = 10_000


def parsed_examples(graph: GraphFile, outline: Outline) -> dict[str, tuple[TensorSpec, ...]]:
    """Dense features (sparse ones may be left out) by the name of the graph's tensor that holds the tf.Examples;
    IMAGE by that of one that holds encoded images.

    outline: of the graph, with the nodes of PARSERS and DECODERS kept, flow.CALLS and flow.LOOPS among the callers.
    """
    readers = {(scope, input_of(node, 0)): node for scope, node in outline.kept
               if node.op in PARSERS or node.op in DECODERS}
    if not readers:
        return {}
    flow = Flow(graph.bodies({MAIN, *_with_callers(outline, (scope for scope, _ in readers))}))
    steps = iter(range(_MOST_STEPS))
    features: dict[str, tuple[TensorSpec, ...]] = {}
    for (scope, source), node in islice(readers.items(), _MOST_PARSERS):
        passing = _PASSING if node.op in PARSERS else _PASSING_IMAGES
        for tensor in _serialized(flow, scope, source, passing, steps):
            features[tensor] = _features(flow, scope, node) if node.op in PARSERS else IMAGE
    return features


def _with_callers(outline: Outline, scopes: Iterable[str]) -> set[str]:
    """These functions, and all that call them, directly or not."""
    callers: dict[str, set[str]] = defaultdict(set)
    for name, scope in outline.scopes.items():
        for _, function in scope.calls:
            callers[function].add(name)
    visited, pending = set[str](), list(scopes)
    while pending:
        name = pending.pop()
        if name not in visited:
            visited.add(name)
            pending += callers[name]
    return visited


def _serialized(flow: Flow, scope: str, source: str, passing: frozenset[str], steps: Iterator[int]) -> Iterator[str]:
    """The main graph's tensors that `source`, what a parsing op gets, comes from. passing: ops on the way."""
    def passed(_: str, node: NodeDef) -> list[str]:
        return list(node.input[:1]) if node.op in passing else []

    for (place, tensor, node), _ in zip(flow.sources(scope, source, passed), steps, strict=False):
        if place == MAIN and node.op not in passing:
            name, _, index = tensor.partition(":")
            yield f"{name}:{index or 0}"


def _features(flow: Flow, scope: str, node: NodeDef) -> tuple[TensorSpec, ...]:
    """The dense features of a parsing op; none if their names are computed by the graph."""
    types, shapes = node.attr["Tdense"].list.type, node.attr["dense_shapes"].list.shape
    return tuple(TensorSpec(key.decode(errors="replace"), dtype_from_number(dtype), shape_from_proto(shape))
                 for key, dtype, shape in zip(_keys(flow, scope, node), types, shapes, strict=False))


def _keys(flow: Flow, scope: str, node: NodeDef) -> list[bytes]:
    if node.op == "ParseSingleExample":
        return list(node.attr["dense_keys"].list.s[:_MOST_KEYS])
    if node.op == "ParseExampleV2":  # serialized, names, sparse_keys, dense_keys, ...: a vector
        return _constant(flow.node(scope, input_of(node, 3)))
    first = 2 + max(0, node.attr["Nsparse"].i)  # serialized, names, then single keys
    last = first + min(max(0, node.attr["Ndense"].i), _MOST_KEYS)
    keys = [_constant(flow.node(scope, name)) for name in node.input[first:last]]
    return [key for found in keys for key in found]


def _constant(node: NodeDef | None) -> list[bytes]:
    if node is None or node.op != "Const":
        return []
    proto = node.attr["value"].tensor
    if wire.tensors.claimed(proto) > _MOST_KEYS * wire.tensors.STRING_SIZE:
        return []
    values = wire.tensors.decode(proto).ravel().tolist()
    return [value for value in values if isinstance(value, bytes)]
