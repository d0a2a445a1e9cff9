"""Rules about a version's files: whole, inside of the version, not too big; its warm-up requests; its TFLite model.

Source for TFLite: tensorflow_serving/servables/tensorflow/tflite_session.cc (BuiltinOpResolver, AddParseExampleOp).
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from deploy.checks import signatures, targets
from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.checks.targets import Target
from deploy.errors import BadReply, IncompleteVersion
from deploy.files import escapes, walk
from deploy.goldens import warmup
from deploy.goldens.recorded import FILE
from deploy.savedmodel import tflite
from deploy.savedmodel.outline import Outline
from deploy.savedmodel.reader import asset_files, flaws
from deploy.savedmodel.scanning import LIMIT
from deploy.types import Contract

_NEAR = LIMIT // 2
_LOOKED_AT, _BEGINNING = 1000, 256  # assets, and bytes of each
_REGISTERED = frozenset({"ParseExample", "ParseExampleV2"})


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
    rule = RULES["asset-path"]
    for name in sorted({asset.filename for asset in asset_files(outline.graph)}):
        if escapes(name):
            yield rule.found(f"the asset {name!r} leads out of assets/", Where(file="saved_model.pb"))
    root = os.path.realpath(directory)
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
        info = tflite.read(path)
    except IncompleteVersion as error:
        yield RULES["complete"].found(error.message, where)
        return
    yield from signatures.default(info.contract, path.name)
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
