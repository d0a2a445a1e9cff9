"""Which rule looks at which op, by what the op can touch (oplists/effects.txt: every op of TensorFlow is there).

An allow list: what isn't in the table, or isn't understood, is refused (`opaque`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from deploy.checks.oplists import effects

READS, RESTORES = "reads-files", "restores"
HARMLESS = frozenset({"computes", "state", "calls"})
"""Nothing outside of the process; functions that are called are looked at themselves."""

_RULES: Mapping[str, tuple[str, str]] = {  # effect: (rule, what the op does)
    "python": ("python-function", "calls a Python function"),
    "writes-files": ("file-write", "writes files"),
    "saves": ("file-write", "writes files"),
    "merges-files": ("file-write", "moves and deletes files"),
    "writes-summaries": ("file-write", "writes summaries to files"),
    READS: ("file-read", "reads files"),
    RESTORES: ("file-read", "reads files"),
    "lists-directories": ("file-read", "lists directories"),
    "calls-servers": ("network", "calls another server"),
    "starts-server": ("network", "starts a server"),
    "data-service": ("network", "talks to a tf.data service"),
    "exchanges-tensors": ("network", "exchanges tensors with another process"),
    "configures-file-systems": ("network", "configures remote file systems"),
    "calls-by-device": ("remote-call", "runs a function on a device named by a tensor"),
    "debugs": ("debug-op", "sends tensors to a debugger or a file"),
    "prints": ("log-op", "prints what it is given"),
    "ends-process": ("ends-server", "ends the process"),
    "opaque": ("opaque", "runs what is hidden in its inputs or attributes"),
    effects.UNKNOWN: ("opaque", "does what nobody has looked at yet"),
    "trains": ("training-op", "is a training step"),
    "optimizes": ("training-op", "is an optimizer's step"),
    "collects-gradients": ("training-op", "collects gradients"),
    "changes-variables": ("changes-state", "changes a variable"),
    "changes-tables": ("changes-state", "changes a table"),
    "waits": ("host-only-op", "waits for an input pipeline that nobody runs on a server"),
    "needs-tpu": ("host-only-op", "needs a TPU"),
    "needs-devices": ("host-only-op", "needs other devices that take part"),
    "needs-cudnn": ("host-only-op", "has a kernel for GPUs only"),
    "loops": ("load-ends", "loops"),
    "iterates": ("load-ends", "runs a dataset"),
}
_NOT_LISTED = effects.Effect(effects.UNKNOWN)

SAVER = frozenset({"MergeV2Checkpoints", "Restore", "RestoreSlice", "RestoreV2", "Save", "SaveSlices", "SaveV2"})
"""Ops of checkpoints: every SavedModel has them, for saving (never called) and for restoring (called at load)."""

ENCODERS = frozenset({"EncodeJpeg", "EncodeJpegVariableQuality", "EncodePng", "EncodeProto",
                      "EncodeWav", "SerializeIterator", "SerializeManySparse", "SerializeSparse",
                      "SerializeTensor"})
"""Their outputs are bytes, seldom text."""

BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
XLA_MODULE = "XlaCallModule"
FORESTS = frozenset({"SimpleMLLoadModelFromPath", "SimpleMLLoadModelFromPathWithHandle"})
"""They read a directory of assets, whose name the graph makes from one of them; they understand forests only."""

REMARKABLE = frozenset({"python-function", "file-write", "file-read", "network", "remote-call", "debug-op",
                        "ends-server", "opaque"})
"""Rules about what harms wherever it stands: it is told of even where nothing seems to reach it."""


def effect(op: str) -> effects.Effect:
    """What an op can touch; one that isn't in the table is unknown."""
    return effects.table().get(op, _NOT_LISTED)


def rule(op: str) -> tuple[str, str] | None:
    """The rule that looks at an op, and what the op does; None if it is harmless."""
    return _RULES.get(effect(op).does)


@functools.cache
def interesting() -> Mapping[str, tuple[str, str]]:
    """op -> (rule, what it does), of all ops in the table that aren't harmless."""
    return {op: judged for op in effects.table() if (judged := rule(op))}


@functools.cache
def names_of() -> Mapping[str, tuple[int | str, ...]]:
    """op -> what names the files that it touches: positions of inputs, and attributes."""
    return {op: effect_of.names for op, effect_of in effects.table().items() if effect_of.names}


def needs_gpu(op: str) -> bool:
    """Whether it is of no use without a GPU, and fine with one."""
    return effect(op).does == "needs-cudnn"
