"""Rules about a version's files: whole, inside of the version, not too big; its warm-up requests; its TFLite model.

Source for TFLite: tensorflow_serving/servables/tensorflow/tflite_session.cc (BuiltinOpResolver, AddParseExampleOp).
"""

from __future__ import annotations

import codecs
import errno
import math
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.checks import signatures, targets
from deploy.checks.rules import RULES, Finding, Severity, Where
from deploy.checks.targets import Target
from deploy.errors import BadReply, IncompleteVersion
from deploy.files import escapes, walk
from deploy.goldens import warmup
from deploy.goldens.recorded import FILE
from deploy.savedmodel import ops, tflite
from deploy.savedmodel.reader import asset_files
from deploy.savedmodel.scanning import LIMIT, Outline
from deploy.types import Contract

if TYPE_CHECKING:
    from deploy.savedmodel.bundle import Bundle

_NEAR = LIMIT // 2
_LOOKED_AT, _BEGINNING = 1000, 256  # assets, and bytes of each
_SHOWN = 20  # files or variables of a damaged version; there may be millions
_REGISTERED = frozenset({"ParseExample", "ParseExampleV2"})


def size(path: Path) -> Iterator[Finding]:
    """saved_model.pb against protobuf's limit; looked at before it is read."""
    seen, where = path.stat().st_size, Where(file=path.name)
    if seen > LIMIT:
        yield RULES["graph-size"].found(f"it has {seen:,} bytes, and protobuf reads at most {LIMIT:,}", where)
    elif seen > _NEAR:
        yield RULES["graph-size"].found(f"it has {seen:,} bytes of the {LIMIT:,} that protobuf reads", where,
                                        severity=Severity.WARNING)


def complete(directory: Path, outline: Outline) -> Iterator[Finding]:
    """Variables and assets that the graph needs."""
    rule, index = RULES["complete"], directory / "variables" / "variables.index"
    if index.is_file():
        yield from _variables(index)
    elif _restores(outline) or any(index.parent.glob("variables.data-*")):
        yield rule.found("variables/variables.index is missing, though the graph has variables",
                         Where(file="variables/variables.index"))
    for name in sorted({asset.filename for asset in outline.graph.asset_file_def}):  # TensorFlow 1's may be of no use
        if not escapes(name) and not _there(directory / "assets" / name):
            yield rule.found(f"the asset file assets/{name} is missing", Where(file=f"assets/{name}"))


def inside(directory: Path, outline: Outline) -> Iterator[Finding]:
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


def encodings(directory: Path, outline: Outline) -> Iterator[Finding]:
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


def _there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _restores(outline: Outline) -> bool:
    variables = any(not ops.VARIABLES.isdisjoint(scope.ops) for scope in outline.scopes.values())
    return bool(outline.graph.saver_def.restore_op_name) and variables


def _variables(index: Path) -> Iterator[Finding]:
    from deploy.savedmodel import bundle

    rule = RULES["complete"]
    try:
        read = bundle.read(index)
    except IncompleteVersion as error:
        yield rule.found(error.message, Where(file="variables/variables.index"))
        return
    yield from islice(_missing(index, read), _SHOWN)
    yield from islice(_sums(read), _SHOWN)


def _missing(index: Path, read: Bundle) -> Iterator[Finding]:
    """Data files that aren't there, or not whole."""
    rule = RULES["complete"]
    for name, needed in read.needed().items():
        path, where = index.parent / name, Where(file=f"variables/{name}")
        if not path.is_file():
            yield rule.found(f"{name} is missing, and the index needs {needed:,} bytes of it", where)
        elif (seen := path.stat().st_size) < needed:
            yield rule.found(f"{name} has {seen:,} bytes, and the index needs {needed:,} of it", where)


def _sums(read: Bundle) -> Iterator[Finding]:
    """Each variable's bytes against its dtype and shape. Strings and slices of variables have no fixed size."""
    from deploy.wire.dtypes import numpy_dtype
    from deploy.wire.tensors import SENDABLE

    for name, variable in read.variables.items():
        if variable.dtype in SENDABLE and variable.dtype != "string" and variable.size and None not in variable.shape:
            elements = math.prod(d or 0 for d in variable.shape)
            needed = elements * numpy_dtype(variable.dtype).itemsize
            if needed != variable.size:
                yield RULES["complete"].found(
                    f"the index gives {name} {variable.size:,} bytes, and {variable.dtype}{list(variable.shape)} has "
                    f"{needed:,}", Where(file="variables/variables.index"))


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
        found = warmup.for_tflite(directory)
    except (IncompleteVersion, BadReply):  # told above
        return
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        severity = Severity.ERROR if target.prefers_tflite else Severity.WARNING
        yield RULES["tflite-warmup"].found(f"{found[0]}{more}", Where(file=path.name), severity=severity)


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
