"""Rules about what runs: an op needs a kernel on the server's devices, for the types that it is used with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deploy.checks import policy
from deploy.checks.findings import Finding
from deploy.checks.graph import Graph, Place, told
from deploy.checks.rules import RULES
from deploy.savedmodel.flow import MAIN
from deploy.wire.dtypes import NAMES

_REPLACED = frozenset({"AccumulateNV2"})
"""Ops without kernels that TensorFlow replaces before it runs a graph."""

_TOLD = frozenset({"python-function", "host-only-op", "opaque"})
"""Rules that say already why a server can't run an op."""


def check(graph: Graph) -> Iterator[Finding]:
    """All findings about kernels, in what a request or the load reaches."""
    target = graph.target
    present = {op for scope in graph.outline.scopes.values() for op in scope.ops} & target.oplist.ops.keys()
    for op in sorted(present - graph.kernels.by_op.keys() - _REPLACED - graph.outline.scopes.keys()):
        if (policy.rule(op) or ("", ""))[0] not in _TOLD:
            elsewhere = " but on GPUs" if op in target.oplist.kernels["GPU"] and not target.gpu else ""
            yield from _told(graph, f"{op} has no kernel{elsewhere} in {target.oplist.tensorflow}",
                             graph.places(op))
    for (op, attribute, number), places in sorted(graph.outline.mistyped.items()):
        dtype = NAMES.get(number, f"type {number}")
        yield from _told(graph, f"{op} has no kernel for {attribute}={dtype} in {target.oplist.tensorflow}",
                         (graph.place(op, scope, node) for scope, node in places))


def _told(graph: Graph, seen: str, places: Iterable[Place]) -> Iterator[Finding]:
    """Compiled functions have kernels of their own, which aren't listed."""
    reached = [place for place in places if (place.reached.request or place.reached.load)
               and (place.scope == MAIN or place.scope not in graph.reach.compiled)]
    if reached:
        yield from told("no-kernel", seen, reached, RULES["no-kernel"].severity)
