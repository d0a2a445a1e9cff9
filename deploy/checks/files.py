"""Rules about files: the version's own (whole, inside of it, not too big; warm-up; TFLite), and those that ops touch.

A name that comes from assets alone is fine. Every other one is told of: a constant, what a request says, what the graph
computes (from an asset's path, too), and what can't be followed.

Source for TFLite: tensorflow_serving/servables/tensorflow/tflite_session.cc (BuiltinOpResolver, AddParseExampleOp).
"""

from __future__ import annotations

import codecs
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from deploy.checks import policy, signatures, targets
from deploy.checks.graph import Graph, Place, finding_at, unreached
from deploy.checks.origins import Names, Origin, Source
from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.checks.targets import Target
from deploy.errors import BadReply, IncompleteVersion
from deploy.files import escapes, walk
from deploy.goldens import warmup
from deploy.goldens.recorded import FILE
from deploy.savedmodel import flow, tflite
from deploy.savedmodel.flow import Outline
from deploy.savedmodel.reader import asset_files, flaws
from deploy.savedmodel.scanning import LIMIT
from deploy.types import Contract
from deploy.wire.model_pb2 import NodeDef

_NEAR = LIMIT // 2
_LOOKED_AT, _BEGINNING = 1000, 256  # assets, and bytes of each
_REGISTERED = frozenset({"ParseExample", "ParseExampleV2"})

_CACHES = "writes-files"
_PRINTS = "prints"
_DESCRIPTORS = "descriptor_source"


def size(path: Path) -> Iterator[Finding]:
    """saved_model.pb against protobuf's limit; looked at before it is read."""
    size_now, where = path.stat().st_size, Where(file=path.name)
    if size_now > LIMIT:
        yield RULES["graph-size"].found(f"it has {size_now:,} bytes, and protobuf reads at most {LIMIT:,}", where)
    elif size_now > _NEAR:
        yield RULES["graph-size"].found(f"it has {size_now:,} bytes of the {LIMIT:,} that protobuf reads", where,
                                        severity=Severity.WARNING)


def check(directory: Path, outline: Outline) -> Iterator[Finding]:
    """Variables and assets are there; no path leads out of the version; text is plain UTF-8."""
    for flaw in flaws(directory, outline):
        yield RULES["complete"].found(flaw.what, Where(file=flaw.file))
    yield from _inside(directory, outline)
    yield from _encodings(directory, outline)


def _inside(directory: Path, outline: Outline) -> Iterator[Finding]:
    """No path in the version leads out of it."""
    for name in sorted({asset.filename for asset in asset_files(outline.graph)}):
        if escapes(name):
            yield RULES["asset-path"].found(f"the asset {name!r} leads out of assets/", Where(file="saved_model.pb"))
    yield from links(directory)


def links(directory: Path) -> Iterator[Finding]:
    """Links that lead out of the version."""
    rule, root = RULES["asset-path"], os.path.realpath(directory)
    for name, entry in walk(directory):
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root):
            yield rule.found(f"{name} is a link to {Path(entry.path).readlink()}, outside of the version",
                             Where(file=name), fix="put the file itself there")


def _encodings(directory: Path, outline: Outline) -> Iterator[Finding]:
    """Assets that begin as text files of Windows do."""
    for name in islice(sorted({asset.filename for asset in asset_files(outline.graph)}), _LOOKED_AT):
        if not escapes(name) and (what := _encoding(_beginning(directory / "assets" / name))):
            yield RULES["asset-encoding"].found(f"assets/{name} {what}", Where(file=f"assets/{name}"))


def _beginning(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(_BEGINNING)
    except OSError:  # told by `complete`
        return b""


def _encoding(data: bytes) -> str:
    if data.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark, which becomes a part of its first line"
    for mark, zeros in ((codecs.BOM_UTF16_LE, data[3::2]), (codecs.BOM_UTF16_BE, data[2::2])):
        if data.startswith(mark) and zeros.count(0) * 2 > len(zeros):
            return "is UTF-16 text, of which no line is found"
    return ""


def warm_up(directory: Path, contract: Contract) -> Iterator[Finding]:
    """One finding: the first thing that a server refuses, or mustn't do."""
    checked = warmup.check(directory, contract)
    fatal = [problem for problem in checked.problems if problem.fatal] if checked else []
    if fatal:
        more = f"; and {len(fatal) - 1} more" if len(fatal) > 1 else ""
        yield RULES["warm-up"].found(f"{fatal[0]}{more}", Where(file=str(FILE)))


def tflite_beside(directory: Path, target: Target) -> Iterator[Finding]:
    """Findings about the model.tflite in a version directory, and the warm-up requests that it has to answer there."""
    path = directory / tflite.FILE
    yield from tflite_file(path, target)
    try:
        problems = warmup.for_tflite(directory)
    except (IncompleteVersion, BadReply):  # told above
        return
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        severity = Severity.ERROR if target.prefers_tflite else Severity.WARNING
        yield RULES["tflite-warmup"].found(f"{problems[0]}{more}", Where(file=path.name), severity=severity)


def tflite_file(path: Path, target: Target) -> Iterator[Finding]:
    """All findings about a .tflite file."""
    where = Where(file=path.name)
    try:
        info, served = tflite.read(path), tflite.served(path)
    except (IncompleteVersion, BadReply) as error:
        yield RULES["complete"].found(error.message, where)
        return
    yield from signatures.default(served, path.name)
    for signature in served.values():
        for spec in (*signature.inputs, *signature.outputs):
            if spec.dtype not in tflite.SENDABLE:
                yield RULES["sendable"].found(f"{spec} is of a type that TensorFlow Serving can't pass to or from a "
                                              "TFLite model", Where(signature.name, file=path.name),
                                              fix=f"convert it with one of {', '.join(tflite.SENDABLE)} there")
    for operator in info.operators:
        if operator.select_tf:
            yield RULES["tflite-op"].found(
                f"it has the Select-TF op {operator.select_tf}, and TensorFlow Serving runs TFLite without them", where,
                fix="convert without SELECT_TF_OPS, or serve the SavedModel itself")
        elif operator.custom and operator.name not in _REGISTERED:
            yield RULES["tflite-op"].found(
                f"it has the custom op {operator.name!r}, which TensorFlow Serving doesn't register", where)
        elif not operator.custom and operator.name not in target.oplist.tflite:
            first = next((v for v in targets.versions() if operator.name in targets.op_list(v).tflite), "a newer one")
            yield RULES["tflite-op"].found(
                f"the builtin operator {operator.name} isn't in TensorFlow {target.version}, but in {first}", where,
                fix="convert it with the server's TensorFlow, or serve it with a newer image")


class FileAccess(NamedTuple):
    """A rule, what is seen, how bad it is, and the name of the file, if there is one."""

    rule: str
    seen: str
    severity: Severity
    file: str = ""


def touched(graph: Graph) -> Iterator[Finding]:
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
