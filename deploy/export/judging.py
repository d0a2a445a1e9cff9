"""What was saved, judged by the gate in front of the repository, in the words of somebody who exports a model."""

from __future__ import annotations

from pathlib import Path

from deploy.checks import CheckReport, Gate
from deploy.errors import ExportError
from deploy.savedmodel import SavedModelInfo

_NO_SIGNATURE = "it was saved from a model that wasn't built, or from a module without signatures: export the object " \
    "itself with its inputs, or give tf.saved_model.save signatures={'serving_default': ...}"
_PYTHON = "replace tf.py_function, tf.numpy_function or a layer's run_eagerly by TensorFlow ops"
_OUTSIDE = "keep the path as tf.saved_model.Asset(path), an attribute of the model or module, and use the asset " \
    "where the path stood"


def accepted(gate: Gate, directory: Path) -> tuple[SavedModelInfo, tuple[str, ...]]:
    """What the SavedModel holds, and what should be said of it. Raises as `accept` does."""
    return accept(gate, directory, gate.judge(directory))


def accept(gate: Gate, directory: Path, report: CheckReport) -> tuple[SavedModelInfo, tuple[str, ...]]:
    """`accepted` for a directory that the gate has judged.

    Raises ExportError for what no allowance makes servable: a graph that can't be asked for anything, calls Python, or
    reads a file that only this machine has. Otherwise as the gate does.
    """
    info = report.info
    if info is not None and not info.contract:
        raise ExportError(f"{directory} has no signature, so nothing in it can be asked for", hint=_NO_SIGNATURE,
                          id="no-signature")
    by_rule = {rule: [finding for finding in report.findings if finding.rule == rule]
               for rule in ("python-function", "asset-path", "sendable")}
    if python := by_rule["python-function"]:
        raise ExportError(f"the graph calls Python code, which stays in this process: {python[0].message} "
                          f"({python[0].where})", hint=_PYTHON, details={"nodes": [str(f.where) for f in python]},
                          id="python-in-graph")
    if outside := sorted({finding.subject for finding in by_rule["asset-path"] if finding.subject}):
        raise ExportError(f"the model reads {outside[0]!r}, a file outside of it, which a server doesn't have",
                          hint=_OUTSIDE, details={"files": outside}, id="file-outside")
    if by_rule["sendable"]:
        first = by_rule["sendable"][0]
        raise ExportError(f"{first.where}: {first.message}",
                          hint="a signature takes and returns dense tensors of numbers or strings: cast it; "
                               "tf.bitcast(y, tf.uint8) gives the bytes of a quantized one", id="unsendable-dtype")
    gate.raise_if_refused(directory, report)
    assert info is not None, "what can't be read is refused"
    return info, report.sentences()


def unrestored(report: CheckReport) -> str:
    """A variable that requests use and that loading doesn't fill; empty if there is none."""
    return next((finding.where.node for finding in report.findings if finding.rule == "unrestored"), "")
