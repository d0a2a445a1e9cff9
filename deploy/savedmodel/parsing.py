"""Which string tensors a graph parses as tf.Example, and the features it wants of them.

Such an input looks like any other string in the signature; only the graph tells. Sources: ParseExample,
ParseExampleV2 and ParseSingleExample in tensorflow/core/ops/parsing_ops.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.savedmodel.flow import MAIN, Flow, input_of, scopes
from deploy.types import TensorSpec

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import GraphDef, NodeDef

_PARSERS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})
_PASSING = "Identity"


def parsed_examples(graph: GraphDef) -> dict[str, tuple[TensorSpec, ...]]:
    """Dense features (sparse ones may be left out) by the name of the graph's tensor that holds the tf.Examples."""
    parsers = [(scope, node) for scope, nodes in scopes(graph) for node in nodes if node.op in _PARSERS]
    if not parsers:
        return {}
    flow = Flow.of(graph)
    return {tensor: _features(flow, scope, node) for scope, node in parsers
            for tensor in _serialized(flow, scope, node)}


def _serialized(flow: Flow, scope: str, parser: NodeDef) -> Iterator[str]:
    """The main graph's tensors that a parsing op gets."""
    for place, tensor, node in flow.sources(scope, input_of(parser, 0), _passed):
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
        return list(node.attr["dense_keys"].list.s)
    if node.op == "ParseExampleV2":  # serialized, names, sparse_keys, dense_keys, ...: a vector
        return _constant(flow.node(scope, input_of(node, 3)))
    first = 2 + node.attr["Nsparse"].i  # serialized, names, then single keys
    keys = [_constant(flow.node(scope, name)) for name in node.input[first:first + node.attr["Ndense"].i]]
    return [key for found in keys for key in found]


def _constant(node: NodeDef | None) -> list[bytes]:
    from deploy.wire import tensors

    if node is None or node.op != "Const":
        return []
    values: list[bytes] = tensors.decode(node.attr["value"].tensor).ravel().tolist()
    return values
