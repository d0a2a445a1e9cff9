"""Arguments of a tf.function that are dicts, lists or tuples of tensors, as flat and named inputs of a signature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deploy.errors import ExportError
from deploy.export import specs
from deploy.types import TensorSpec

_DENSE = ("TensorSpec", "BoundedTensorSpec")
_PLAIN = "a signature is a tf.function of dense tensors, each with its own tf.TensorSpec"
_HINTS = {"RaggedTensorSpec": "a request holds dense tensors: take values and row lengths, and make the ragged tensor "
                              "in the function with tf.RaggedTensor.from_row_lengths, or from_tensor of a padded one",
          "SparseTensorSpec": "a request holds dense tensors: take indices, values and shape, and make the "
                              "tf.SparseTensor in the function, or use tf.sparse.from_dense"}

Pack = Callable[[Mapping[str, Any]], list[Any]]


def flat(arguments: Sequence[object], names: Sequence[str], signature: str) -> tuple[tuple[TensorSpec, ...], Pack]:
    """The tensors of all arguments, and what makes arguments of tensors by name.

    arguments: for each argument a TensorSpec or a structure of them. names: the parameters'. A tensor is called as its
    spec is, else by its key or its parameter. Raises ExportError for what is no dense tensor.
    """
    leaves = [(path, spec) for argument, name in zip(arguments, names, strict=False)
              for path, spec in _leaves(argument, (name,))]
    for path, spec in leaves:
        _check(spec, path, signature)
    given = [str(spec.name or "").partition(":")[0] for _, spec in leaves]
    keys = [_key(path) for path, _ in leaves]
    called = [own if own and given.count(own) == 1 else key if keys.count(key) == 1 and key not in given else
              "_".join(path) for (path, _), own, key in zip(leaves, given, keys, strict=True)]
    found = tuple(TensorSpec(name, one.dtype, one.shape) for name, (_, spec) in zip(called, leaves, strict=True)
                  for one in [specs.one(spec)])

    def pack(tensors: Mapping[str, Any]) -> list[Any]:
        import tensorflow as tf

        return list(tf.nest.pack_sequence_as(list(arguments), list(tensors.values())))

    return found, pack


def _leaves(structure: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """In tf.nest's order: dicts by their sorted keys."""
    if isinstance(structure, Mapping):
        for key in sorted(structure):
            yield from _leaves(structure[key], (*path, str(key)))
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        for key in structure._fields:
            yield from _leaves(getattr(structure, key), (*path, key))
    elif isinstance(structure, list | tuple):
        for index, item in enumerate(structure):
            yield from _leaves(item, (*path, str(index)))
    else:
        yield path, structure


def _key(path: tuple[str, ...]) -> str:
    """The last key; of a list's item, with the name of the list."""
    return "_".join(path[-2:]) if path[-1].isdecimal() and len(path) > 1 else path[-1]


def _check(spec: Any, path: tuple[str, ...], signature: str) -> None:
    kind = type(spec).__name__
    if kind in _DENSE:
        return
    place = path[0] + "".join(f"[{key}]" if key.isdecimal() else f"[{key!r}]" for key in path[1:])
    raise ExportError(f"argument {place} of signature {signature!r} is {spec!r:.200}, which is no dense tensor",
                      hint=_HINTS.get(kind, _PLAIN))
