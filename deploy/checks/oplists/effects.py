"""What each op of TensorFlow can touch: effects.txt, read op by op by a human.

One line for each op: its name, the word for what it does (deploy/checks/policy.py has them all) and, where that is done
to a file, what names the file: the position of an input, or an attribute. An op that isn't there, or is `unknown`,
is refused. Read from tensorflow/core/ops/*.cc and the kernels of TensorFlow 2.19 to 2.21.
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

FILE = Path(__file__).with_suffix(".txt")
UNKNOWN = "unknown"
_FILE_LIKE = re.compile("file|path|dir|pattern|vocab|address|prefix|url|target|descriptor|location|stream|region")


@dataclass(frozen=True, slots=True)
class Effect:
    """What an op does. names: what names the file that it is done to: positions of inputs, attributes."""

    does: str
    names: tuple[int | str, ...] = ()


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
