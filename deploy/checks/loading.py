"""Rules about what the server has to know to load a graph: its ops, their attributes, its version."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.checks import targets
from deploy.checks.findings import Finding, Severity, Where
from deploy.checks.graph import Graph
from deploy.checks.reach import Reached
from deploy.checks.rules import RULES
from deploy.savedmodel.flow import MAIN


def check(graph: Graph) -> Iterator[Finding]:
    """All findings about loading."""
    yield from listed(graph.target)
    unknown = list(_unknown_ops(graph))
    yield from unknown
    yield from _versions(graph, bool(unknown))


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
    asked, server = graph.outline.graph.graph_def.versions, graph.target.oplist
    where = Where(file="saved_model.pb")
    said = f"graph version {server.graph} (TensorFlow {server.tensorflow})"
    if asked.min_consumer > server.graph:
        yield RULES["graph-version"].found(
            f"it needs graph version {asked.min_consumer}, and the server has {said}", where)
    if server.graph in asked.bad_consumers:
        yield RULES["graph-version"].found(f"it names {said}, the server's, as one that mustn't load it", where)
    if asked.producer < server.min_producer:
        yield RULES["graph-version"].found(f"its graph version {asked.producer} is older than the server reads", where)
    if asked.producer <= server.graph:
        return
    attributes = list(_unknown_attributes(graph))
    yield from attributes
    by = graph.outline.graph.meta_info_def.tensorflow_version
    listed_too = asked.producer <= targets.op_list(targets.versions()[-1]).graph
    all_known = "; all its ops and attributes are known there" if listed_too and not (unknown or attributes) else ""
    yield RULES["producer-newer"].found(
        f"TensorFlow {by} wrote graph version {asked.producer}, and the server has {said}{all_known}", where,
        severity=Severity.NOTE if listed_too else Severity.WARNING)


def _unknown_attributes(graph: Graph) -> Iterator[Finding]:
    known = graph.target.oplist.ops
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for scope, node in graph.nodes(graph.grown):
        for name in node.attr.keys() - known[node.op]:
            if not name.startswith("_"):  # those are notes for the runtime
                seen.setdefault((node.op, name), (scope, node.name))
    for (op, name), (scope, node_name) in sorted(seen.items()):
        place = graph.place(op, scope, node_name)
        severity = Severity.ERROR if scope == MAIN or _runs(place.reached) else Severity.WARNING
        yield RULES["unknown-attribute"].found(f"{op} has the attribute {name!r}, which {graph.target} doesn't know",
                                               place.where, severity=severity)
