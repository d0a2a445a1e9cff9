"""Rules about a .tflite file: TensorFlow Serving runs it with few operators.

Source: tensorflow_serving/servables/tensorflow/tflite_session.cc (BuiltinOpResolver, AddParseExampleOp).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploy.checks import contract, targets
from deploy.checks.findings import Finding, Severity, Where
from deploy.checks.rules import RULES
from deploy.checks.targets import Target
from deploy.errors import BadReply, IncompleteVersion
from deploy.goldens import warmup
from deploy.savedmodel import tflite

_REGISTERED = frozenset({"ParseExample", "ParseExampleV2"})


def beside(directory: Path, target: Target) -> Iterator[Finding]:
    """Findings about the model.tflite in a version directory, and the warm-up requests that it has to answer there."""
    path = directory / tflite.FILE
    yield from check(path, target)
    try:
        found = warmup.for_tflite(directory)
    except (IncompleteVersion, BadReply):  # told above
        return
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        severity = Severity.ERROR if target.prefers_tflite else Severity.WARNING
        yield RULES["tflite-warmup"].found(f"{found[0]}{more}", Where(file=path.name), severity=severity)


def check(path: Path, target: Target) -> Iterator[Finding]:
    """All findings about a .tflite file."""
    where = Where(file=path.name)
    try:
        info = tflite.read(path)
    except IncompleteVersion as error:
        yield RULES["complete"].found(error.message, where)
        return
    yield from contract.default(info.contract, path.name)
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
