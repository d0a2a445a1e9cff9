"""Which string tensors a graph parses as tf.Example, and the features it wants of them.

Such an input looks like any other string in the signature; only the graph tells. Sources: ParseExample,
ParseExampleV2 and ParseSingleExample in tensorflow/core/ops/parsing_ops.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from deploy.savedmodel.flow import MAIN, Flow, input_of, scopes
from deploy.types import TensorSpec

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import GraphDef, NodeDef

_PARSERS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})
_PASSING = "Identity"
_MOST_PARSERS = 64  # of different inputs; features are for example requests, and more wouldn't help there
_MOST_STEPS = 200_000  # from node to node, for all parsers together: chains in a hostile graph have no end
_MOST_KEYS = 10_000


def parsed_examples(graph: GraphDef) -> dict[str, tuple[TensorSpec, ...]]:
    """Dense features (sparse ones may be left out) by the name of the graph's tensor that holds the tf.Examples."""
    parsers = {(scope, input_of(node, 0)): node for scope, nodes in scopes(graph) for node in nodes
               if node.op in _PARSERS}
    if not parsers:
        return {}
    flow, steps = Flow.of(graph), iter(range(_MOST_STEPS))
    return {tensor: _features(flow, scope, node) for (scope, source), node in islice(parsers.items(), _MOST_PARSERS)
            for tensor in _serialized(flow, scope, source, steps)}


def _serialized(flow: Flow, scope: str, source: str, steps: Iterator[int]) -> Iterator[str]:
    """The main graph's tensors that `source`, what a parsing op gets, comes from."""
    for (place, tensor, node), _ in zip(flow.sources(scope, source, _passed), steps, strict=False):
        if place == MAIN and node.op != _PASSING:
            name, _, index = tensor.partition(":")
            yield f"{name}:{index or 0}"


def _passed(scope: str, node: NodeDef) -> list[str]:
    del scope
    return list(node.input[:1]) if node.op == _PASSING else []


def _features(flow: Flow, scope: str, node: NodeDef) -> tuple[TensorSpec, ...]:
    """The dense features of a parsing op; none if their names are computed by the graph."""
    from deploy.wire.contracts import shape_from_proto
    from deploy.wire.dtypes import dtype_from_number

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
    from deploy.wire import tensors

    if node is None or node.op != "Const":
        return []
    proto = node.attr["value"].tensor
    if tensors.claimed(proto) > _MOST_KEYS * tensors.STRING_SIZE:
        return []
    values = tensors.decode(proto).ravel().tolist()
    return [value for value in values if isinstance(value, bytes)]
