"""Which files a graph touches: assets of the version, or others; those that it restores from, and those it writes.

A name that comes from assets alone is fine. Every other one is told of: a constant, what a request says, what the graph
computes (from an asset's path, too), and what can't be followed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from deploy.checks import policy
from deploy.checks.graph import Graph, Place, finding_at, unreached
from deploy.checks.origins import Names, Origin, Source
from deploy.checks.rules import RULES, Finding, Severity
from deploy.savedmodel import flow
from deploy.wire.model_pb2 import NodeDef

_CACHES = "writes-files"
_PRINTS = "prints"
_DESCRIPTORS = "descriptor_source"


class FileAccess(NamedTuple):
    """A rule, what is seen, how bad it is, and the name of the file, if there is one."""

    rule: str
    seen: str
    severity: Severity
    file: str = ""


def check(graph: Graph) -> Iterator[Finding]:
    """Files that are touched, and aren't the version's own."""
    places_by: dict[FileAccess, list[Place]] = defaultdict(list)
    nodes = list(graph.nodes(frozenset(policy.names_of())))
    names = Names(graph, {scope for scope, _ in nodes}) if any(_inputs(node) for _, node in nodes) else None
    for scope, node in nodes:
        place = graph.place(node.op, scope, node.name)
        for access in (*_attributes(node, place), *(_named(names, scope, node, place) if names else ())):
            places_by[access].append(place)
    for access, places in places_by.items():
        yield from finding_at(access.rule, access.seen, places, access.severity, access.file)


def _inputs(node: NodeDef) -> list[int]:
    return [name for name in policy.effect(node.op).names if isinstance(name, int)]


def _attributes(node: NodeDef, place: Place) -> Iterator[FileAccess]:
    """Files that an attribute names."""
    effect = policy.effect(node.op)
    severity = _severity(place)
    for name in effect.names:
        if isinstance(name, int) or name not in node.attr or severity is None:
            continue
        value = node.attr[name].s.decode(errors="replace")
        if node.attr[name].placeholder:
            yield FileAccess("file-read", f"which file {node.op} uses can't be known: its attribute {name} is filled "
                             "in by the caller", severity)
        elif effect.does == _PRINTS:
            if value.startswith("file:"):
                yield FileAccess("file-write", f"{node.op} prints to {value!r}", severity)
        elif value and not (name == _DESCRIPTORS and value.startswith(("local://", "bytes://"))):
            yield FileAccess("file-read", f"{node.op} reads {value!r}, which its attribute {name} names", severity)


def _named(names: Names, scope: str, node: NodeDef, place: Place) -> Iterator[FileAccess]:
    """Files that inputs name."""
    does = policy.effect(node.op).does
    for position in _inputs(node):
        sources = names.sources(scope, node, position, computed=node.op in policy.FORESTS)
        sources = {source for source in sources if source != Source(Origin.LITERAL)} or (
            set() if sources else {Source(Origin.UNKNOWN, "it comes from nowhere")})
        judge: Callable[[NodeDef, Place, set[Source]], Iterator[FileAccess]] = \
            _restored if does == policy.RESTORES else _cached if does == _CACHES else _read
        yield from judge(node, place, sources)


def _read(node: NodeDef, place: Place, sources: set[Source]) -> Iterator[FileAccess]:
    severity = _severity(place)
    outside = sources - {Source(Origin.ASSET)}
    if severity is None or not outside:
        return
    origin, what = _worst(outside)
    if node.op in policy.FORESTS and origin is Origin.LITERAL and Source(Origin.ASSET) in sources:
        yield FileAccess("file-read", f"{node.op} reads a directory whose name the graph makes from an asset's",
                   Severity.WARNING)
    elif origin is Origin.CALLER:
        if severity is not Severity.ERROR and node.op not in flow.TABLE_FILES:
            yield FileAccess("file-read", f"{node.op} reads the file that its caller names", severity)
        elif place.reached.request or place.reached.load:
            yield FileAccess("file-read", f"which file {node.op} reads can't be known: nothing says it", severity)
    elif origin is Origin.LITERAL:
        yield FileAccess("asset-path", f"{node.op} reads {what!r}, which is no asset of the version", severity, what)
    else:
        yield FileAccess("file-read", _seen(node.op, "reads", origin, what), severity)


def _restored(node: NodeDef, place: Place, sources: set[Source]) -> Iterator[FileAccess]:
    """Restoring reads the version's own variables, at load; only then the server says where they are."""
    reached = place.reached
    if reached.request or reached.instead:
        yield FileAccess("file-read", f"{node.op} reads files", Severity.ERROR)
    elif reached.load:
        outside = sources - ({Source(Origin.CHECKPOINT)} if not reached.initialize else set()) - {Source(Origin.ASSET)}
        if outside:
            origin, what = _worst(outside)
            yield FileAccess("file-read", f"{_seen(node.op, 'restores', origin, what)}: not the version's variables",
                       Severity.ERROR)


def _cached(node: NodeDef, place: Place, sources: set[Source]) -> Iterator[FileAccess]:
    severity = _severity(place)
    if sources and severity is not None and sources != {Source(Origin.CALLER)}:
        yield FileAccess("file-write", _seen(node.op, "writes", *_worst(sources)), severity)


def _worst(sources: Iterable[Source]) -> tuple[Origin, str]:
    order = list(Origin)
    worst = min(sources, key=lambda source: (order.index(source.origin), source.what))
    return worst.origin, worst.what


def _seen(op: str, does: str, origin: Origin, what: str) -> str:
    if origin is Origin.REQUEST:
        return f"{op} {does} the file that a request names"
    if origin is Origin.LITERAL:
        return f"{op} {does} {what!r}"
    if origin is Origin.COMPUTED:
        return f"{op} {does} a file whose name the graph computes ({what})"
    if origin in (Origin.ASSET, Origin.CHECKPOINT):
        return f"{op} {does} {origin.value}"
    return f"which file {op} {does} can't be known: {what or 'nothing says it'}"


def _severity(place: Place) -> Severity | None:
    reached = place.reached
    if reached.request or reached.load or reached.instead:
        return Severity.ERROR
    return None if reached.save else unreached(RULES["file-read"].name, place)
