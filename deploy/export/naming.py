"""Names that don't change between two runs of the same code.

Keras numbers the layers and tensors that nobody named (`dense_1`, `keras_tensor_12`) by what the process has built
before, so such a name in a signature breaks its callers at the next training run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TENSOR = re.compile(r"keras_tensor(_\d+)?(CLONE)*")
_INPUT = re.compile(r"(input_layer|input|inputs_struct)(_\d+)?")


def snake(class_name: str) -> str:
    """Keras's way of making a layer name of a class name: `BatchNormalization` -> `batch_normalization`."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def automatic(name: str, class_name: str = "") -> bool:
    """Whether Keras made `name` up, for a layer of this class or for a tensor."""
    if _TENSOR.fullmatch(name) or _INPUT.fullmatch(name):
        return True
    return bool(class_name) and re.fullmatch(re.escape(snake(class_name)) + r"(_\d+)?", name) is not None


def stable(kind: str, names: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A stable name for each (name, class of its layer): the given ones where somebody chose them.

    kind: `input` or `output`. Made-up or repeated names become `inputs`/`outputs` when there is one tensor, and
    `input_0`, `input_1`, ... by position when there are several.
    """
    given = [name for name, _ in names]
    chosen = []
    for index, (name, class_name) in enumerate(names):
        usable = name and not automatic(name, class_name) and given.count(name) == 1
        chosen.append(name if usable else f"{kind}s" if len(names) == 1 else f"{kind}_{index}")
    return tuple(chosen)


def positional(kind: str, count: int) -> tuple[str, ...]:
    """`outputs` for one tensor, `output_0`, `output_1`, ... for several."""
    return stable(kind, [("", "")] * count)


def replaced(kind: str, names: Sequence[tuple[str, str]], chosen: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each name that isn't Keras's own any more."""
    return tuple(
        f"{kind} {new!r}: Keras's own name {old!r} depends on what was built before; name the layer to choose another"
        for (old, _), new in zip(names, chosen, strict=True) if old != new and old)
