"""What each op of TensorFlow can touch (oplists/effects.txt, read op by op by a human), and which rule looks at it.

One line for each op: its name, the word for what it does (`_RULES` has them all) and, where that is done to a file,
what names the file: the position of an input, or an attribute. Read from tensorflow/core/ops/*.cc and the kernels of
TensorFlow 2.19 to 2.21. An allow list: what isn't in the table, or isn't understood, is refused (`opaque`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.wire.model_pb2 import OpDef

FILE = Path(__file__).parent / "oplists" / "effects.txt"
UNKNOWN = "unknown"
_FILE_LIKE = re.compile("file|path|dir|pattern|vocab|address|prefix|url|target|descriptor|location|stream|region")

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
    UNKNOWN: ("opaque", "does what nobody has looked at yet"),
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


@dataclass(frozen=True, slots=True)
class Effect:
    """What an op does. names: what names the file that it is done to: positions of inputs, attributes."""

    does: str
    names: tuple[int | str, ...] = ()


_NOT_LISTED = Effect(UNKNOWN)


@functools.cache
def table() -> Mapping[str, Effect]:
    """The effect of each op."""
    lines = (line.partition("#")[0].split() for line in FILE.read_text().splitlines())
    return {op: Effect(does, tuple(int(name) if name.isdecimal() else name for name in names))
            for op, does, *names in filter(None, lines)}


def add(ops: Iterable[OpDef]) -> int:
    """Write down ops that aren't there yet, as unknown, with what should be looked at. Returns how many there were."""
    new = [f"{op.name} {UNKNOWN}  # {'; '.join(_hints(op)) or 'computes?'}" for op in ops
           if op.name not in table() and "Mkl" not in op.name]
    FILE.write_text("\n".join(sorted((*FILE.read_text().splitlines(), *new))) + "\n")
    return len(new)


def _hints(op: OpDef) -> list[str]:
    strings = [arg.name for arg in op.input_arg if arg.type == 7]  # DT_STRING
    names = [*(arg.name for arg in op.input_arg), *(attr.name for attr in op.attr)]
    named = [name for name in names if _FILE_LIKE.search(name.lower())]
    calls = [attr.name for attr in op.attr if "func" in attr.type]
    return [text for text, there in (("stateful", op.is_stateful), (f"strings {strings}", strings),
                                     (f"files? {named}", named), (f"functions {calls}", calls)) if there]


def effect(op: str) -> Effect:
    """What an op can touch; one that isn't in the table is unknown."""
    return table().get(op, _NOT_LISTED)


def rule(op: str) -> tuple[str, str] | None:
    """The rule that looks at an op, and what the op does; None if it is harmless."""
    return _RULES.get(effect(op).does)


@functools.cache
def interesting() -> Mapping[str, tuple[str, str]]:
    """op -> (rule, what it does), of all ops in the table that aren't harmless."""
    return {op: judged for op in table() if (judged := rule(op))}


@functools.cache
def names_of() -> Mapping[str, tuple[int | str, ...]]:
    """op -> what names the files that it touches: positions of inputs, and attributes."""
    return {op: effect_of.names for op, effect_of in table().items() if effect_of.names}


def needs_gpu(op: str) -> bool:
    """Whether it is of no use without a GPU, and fine with one."""
    return effect(op).does == "needs-cudnn"
