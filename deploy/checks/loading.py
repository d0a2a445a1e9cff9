"""Rules about what the server needs to load and run a graph: ops, attributes and kernels, calls that come to an end.

TensorFlow expands calls before it runs them, in circles for ever. Seen with TensorFlow 2.21: circles and chains of
5,000 functions end the process; a chain of 200 takes 2 s to expand, of 500 26 s, of 1,000 86 s. Chains of models are a
few functions long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from deploy.checks import policy, targets
from deploy.checks.graph import Graph, Place, finding_at
from deploy.checks.reachability import Reached
from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.savedmodel.flow import MAIN
from deploy.wire.dtypes import NAMES

_DEEPEST = 200
_MOST = 100_000  # calls, each counted as often as it is made

_REPLACED = frozenset({"AccumulateNV2"})
"""Ops without kernels that TensorFlow replaces before it runs a graph."""

_SAID_ALREADY = frozenset({"python-function", "host-only-op", "opaque"})
"""Rules that say already why a server can't run an op."""


def check(graph: Graph) -> Iterator[Finding]:
    """All findings about loading."""
    yield from listed(graph.target)
    unknown = list(_unknown_ops(graph))
    yield from unknown
    yield from _versions(graph, bool(unknown))
    yield from _kernels(graph)
    yield from _calls(graph)


def listed(target: targets.Target) -> Iterator[Finding]:
    """Whether there is an op list of the server's version."""
    if target.version not in targets.versions():
        yield RULES["server-version"].found(
            f"there is no op list of TensorFlow {target.version}, so {targets.nearest(target.version)}'s was used",
            fix=f"there are lists of {', '.join(targets.versions())}")


def _unknown_ops(graph: Graph) -> Iterator[Finding]:
    scopes = graph.outline.scopes
    known = graph.target.oplist.ops.keys() | graph.target.library_ops | (scopes.keys() - {MAIN})
    for op in sorted({op for scope in scopes.values() for op in scope.ops} - known):
        places = list(graph.places(op))
        in_main = any(place.scope == MAIN for place in places)
        place = max(places, key=lambda p: (p.scope == MAIN, _runs(p.reached)))
        severity = Severity.ERROR if in_main or _runs(place.reached) else Severity.WARNING
        aside = "" if severity is Severity.ERROR else ", in a function that no signature reaches"
        source, fix = _source(op)
        yield RULES["unknown-op"].found(f"{op} isn't in {graph.target}{aside}; {source}", place.where,
                                        severity=severity, fix=fix)


def _runs(reached: Reached) -> bool:
    return reached.request or reached.load


def _source(op: str) -> tuple[str, str]:
    """Where an op comes from, in words, and what to do."""
    with_it = [version for version in targets.versions() if op in targets.op_list(version).ops]
    if with_it:
        return f"TensorFlow has it from {with_it[0]} on" if with_it[0] != targets.versions()[0] else \
            f"TensorFlow had it up to {with_it[-1]}", "serve it with an image of that version, or export without it"
    library = targets.library_of(op)
    if library in targets.OFFICIAL:
        return f"it comes from {library}, which the official tensorflow/serving images have", \
            f"serve it with tensorflow/serving, or build {library} into your image"
    if library:
        return f"it comes from {library}", f"serve it with an image that {library} is built into, or export without it"
    return "it comes from a custom op library", ""


def _versions(graph: Graph, unknown: bool) -> Iterator[Finding]:
    versions, server = graph.outline.graph.graph_def.versions, graph.target.oplist
    where = Where(file="saved_model.pb")
    server_has = f"graph version {server.graph} (TensorFlow {server.tensorflow})"
    if versions.min_consumer > server.graph:
        yield RULES["graph-version"].found(
            f"it needs graph version {versions.min_consumer}, and the server has {server_has}", where)
    if server.graph in versions.bad_consumers:
        yield RULES["graph-version"].found(f"it names {server_has}, the server's, as one that mustn't load it",
                                           where)
    if versions.producer < server.min_producer:
        yield RULES["graph-version"].found(f"its graph version {versions.producer} is older than the server reads",
                                           where)
    if versions.producer <= server.graph:
        return
    attributes = list(_unknown_attributes(graph))
    yield from attributes
    by = graph.outline.graph.meta_info_def.tensorflow_version
    listed_too = versions.producer <= targets.op_list(targets.versions()[-1]).graph
    all_known = "; all its ops and attributes are known there" if listed_too and not (unknown or attributes) else ""
    yield RULES["producer-newer"].found(
        f"TensorFlow {by} wrote graph version {versions.producer}, and the server has {server_has}{all_known}", where,
        severity=Severity.NOTE if listed_too else Severity.WARNING)


def _unknown_attributes(graph: Graph) -> Iterator[Finding]:
    known = graph.target.oplist.ops
    first_nodes: dict[tuple[str, str], tuple[str, str]] = {}
    for scope, node in graph.nodes(graph.grown):
        for name in node.attr.keys() - known[node.op]:
            if not name.startswith("_"):  # those are notes for the runtime
                first_nodes.setdefault((node.op, name), (scope, node.name))
    for (op, name), (scope, node_name) in sorted(first_nodes.items()):
        place = graph.place(op, scope, node_name)
        severity = Severity.ERROR if scope == MAIN or _runs(place.reached) else Severity.WARNING
        yield RULES["unknown-attribute"].found(f"{op} has the attribute {name!r}, which {graph.target} doesn't know",
                                               place.where, severity=severity)


def _kernels(graph: Graph) -> Iterator[Finding]:
    """All findings about kernels, in what a request or the load reaches."""
    target = graph.target
    present = {op for scope in graph.outline.scopes.values() for op in scope.ops} & target.oplist.ops.keys()
    for op in sorted(present - graph.kernels.by_op.keys() - _REPLACED - graph.outline.scopes.keys()):
        if (policy.rule(op) or ("", ""))[0] not in _SAID_ALREADY:
            elsewhere = " but on GPUs" if op in target.oplist.kernels["GPU"] and not target.gpu else ""
            yield from _without_kernel(graph, f"{op} has no kernel{elsewhere} in {target.oplist.tensorflow}",
                                        graph.places(op))
    for (op, attribute, number), places in sorted(graph.outline.mistyped.items()):
        dtype = NAMES.get(number, f"type {number}")
        yield from _without_kernel(graph, f"{op} has no kernel for {attribute}={dtype} in {target.oplist.tensorflow}",
                                    (graph.place(op, scope, node) for scope, node in places))


def _without_kernel(graph: Graph, text: str, places: Iterable[Place]) -> Iterator[Finding]:
    """Compiled functions have kernels of their own, which aren't listed."""
    reached = [place for place in places if (place.reached.request or place.reached.load)
               and (place.scope == MAIN or place.scope not in graph.reachability.compiled)]
    if reached:
        yield from finding_at("no-kernel", text, reached, RULES["no-kernel"].severity)


def _calls(graph: Graph) -> Iterator[Finding]:
    """All findings about calls, of the functions that nothing calls, too: TensorFlow optimizes all of them."""
    rule = RULES["ends-server"]
    order, circle = _ordered(graph.callees)
    if circle:
        shown = " -> ".join((*circle[:3], *(("...",) if len(circle) > 3 else ()), circle[0]))
        yield rule.found(f"functions call each other in a circle: {shown}", Where(function=circle[0]))
        return
    deepest, most = _measured(graph, order)
    if deepest > _DEEPEST:
        yield rule.found(f"functions call each other {deepest:,} deep, and TensorFlow takes minutes or crashes beyond "
                         f"{_DEEPEST}", Where(file="saved_model.pb"))
    if most > _MOST:
        yield rule.found(f"functions call functions that call functions, {most:.3g} calls in all, and TensorFlow "
                         "expands each of them", Where(file="saved_model.pb"))


def _ordered(callees: Mapping[str, set[str]]) -> tuple[list[str], list[str]]:
    """All scopes, callees first, and nothing; or, where there is a circle, the functions of one."""
    order: list[str] = []
    done: set[str] = set()
    for start in callees:
        path, inside = [(start, iter(sorted(callees[start])))], {start}
        while path and start not in done:
            name, rest = path[-1]
            following = next((callee for callee in rest if callee not in done), None)
            if following is None:
                path.pop()
                inside.discard(name)
                done.add(name)
                order.append(name)
            elif following in inside:
                names = [each for each, _ in path]
                return [], names[names.index(following):]
            else:
                path.append((following, iter(sorted(callees[following]))))
                inside.add(following)
    return order, []


def _measured(graph: Graph, order: list[str]) -> tuple[int, int]:
    """The longest chain of calls, and the number of calls that the main graph or a function expands to."""
    depth, size = dict[str, int](), dict[str, int]()
    for name in order:
        scope = graph.outline.scopes[name]
        called = [function for _, function in scope.calls if function in size]
        depth[name] = (name != MAIN) + max((depth[function] for function in graph.callees[name]), default=0)
        size[name] = sum(1 + size[function] for function in called)
    return max(depth.values(), default=0), max(size.values(), default=0)
