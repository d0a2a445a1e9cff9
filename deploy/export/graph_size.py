"""How big a saved_model.pb would be: told before gigabytes are written that no server could parse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from deploy.errors import ExportError
from deploy.savedmodel.scanning import LIMIT

HINT = "keep weights in variables (tf.Variable, the layers of Keras), which are stored in files of their own, not in " \
    "constants"


def check(functions: Sequence[Any], limit: int = LIMIT) -> None:
    """Raise ExportError if the constants of the traced functions alone pass protobuf's limit, of `limit` bytes."""
    sizes = dict(_constants(functions))
    total = sum(sizes.values())
    if total > limit:
        raise ExportError(f"the graph would have {total:,} bytes of constants, and a SavedModel's graph has at most "
                          f"{limit:,}; the biggest one has {max(sizes.values()):,}", hint=HINT, id="graph-too-big")


def _constants(functions: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """A key for each constant, and its bytes: inside of functions, of functions that these call, and captured ones."""
    pending, visited = [function.graph for function in functions], set[int]()
    while pending:
        graph = pending.pop()
        if id(graph) in visited:
            continue
        visited.add(id(graph))
        pending += [called.graph for called in getattr(graph, "_functions", {}).values() if hasattr(called, "graph")]
        for operation in graph.get_operations():
            if operation.type == "Const":
                yield f"{id(graph)}/{operation.name}", _size(operation.outputs[0])
        for outer, _ in graph.captures:
            if hasattr(outer, "numpy") and outer.dtype.is_numpy_compatible:  # a tensor, which is saved as a constant
                yield f"{id(outer)}", _size(outer)


def _size(tensor: Any) -> int:
    return math.prod(tensor.shape.as_list()) * tensor.dtype.size if tensor.shape.is_fully_defined() else 0
