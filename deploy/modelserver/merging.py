"""The tensors of a batch: those of its calls put together, and the results handed out again.

Checks, codes and texts are those of tensorflow_serving/batching/{batching_session,batching_util}.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deploy.modelserver.status import Code, StatusError, failed_precondition, invalid
from deploy.wire.dtypes import CPP_NAMES, Array
from deploy.wire.tensors import dtype_name

_MOST_PADDED = 6  # dimensions


def rows_of(feeds: Mapping[str, Array]) -> int:
    """How many rows a call has. Raises StatusError for tensors that can't be part of a batch."""
    if not feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    rows = -1
    for array in feeds.values():
        if not array.ndim:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if rows not in (-1, len(array)):
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(array)
    return rows


def merged(calls: Sequence[Mapping[str, Array]], missing: int, *, pad: bool) -> dict[str, Array]:
    """Each tensor of all calls as one. missing: rows to add, which repeat the first row of the last call.

    pad: make rows of different lengths equal. Raises StatusError.
    """
    parts = {name: _alike(name, [call[name] for call in calls], pad) for name in calls[0]}
    batch = {}
    for name, arrays in sorted(parts.items()):
        for array in arrays:
            if array.dtype != arrays[0].dtype:
                raise StatusError(Code.INTERNAL, "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate "
                                  f"tensors that have different data types. Got {_dtype(arrays[0])} and "
                                  f"{_dtype(array)}.")
        if missing:
            arrays.append(np.repeat(arrays[-1][:1], missing, axis=0))
        batch[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return batch


def _alike(name: str, arrays: list[Array], pad: bool) -> list[Array]:
    if pad:
        shapes = {array.shape[1:] for array in arrays}
        if len({len(shape) for shape in shapes}) == 1:
            longest = tuple(map(max, zip(*shapes, strict=True)))
            return [_padded(array, longest) for array in arrays]
    if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise failed_precondition(f"Tensors with name '{name}' from different tasks have different shapes and padding "
                                  "is turned off. Set pad_variable_length_inputs to true, or ensure that all tensors "
                                  "with the same name have equal dimensions starting with the first dim.")
    return arrays


def _padded(array: Array, shape: tuple[int, ...]) -> Array:
    """Rows made as long as the longest: the tensor's first value fills them up."""
    if array.ndim > _MOST_PADDED:
        raise invalid("Only tensors with rank from 1 to 6 can be padded.")
    if array.shape[1:] == shape:
        return array
    if not array.size:
        if len(array) and 0 not in shape:
            raise invalid("Got empty tensor in batch of non-empty tensors.")
        return np.empty((len(array), *shape), dtype=array.dtype)
    padded = np.full((len(array), *shape), array.ravel()[0], dtype=array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def check_results(arrays: Sequence[Array], rows: int) -> None:
    """Raises StatusError for results that can't be handed out to calls of so many rows together."""
    for array in arrays:
        if not array.ndim:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise failed_precondition("Batched output tensor's 0th dimension does not equal the sum of the 0th "
                                      "dimension sizes of the input tensors")


def _dtype(array: Array) -> str:
    name = dtype_name(array.dtype)
    return CPP_NAMES.get(name, name)
