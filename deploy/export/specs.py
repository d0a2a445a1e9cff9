"""What a caller writes to describe inputs -> TensorSpecs; structures of them; names that last. No TensorFlow needed.

Shapes include the batch dimension; None (in text: `?`) stands for an unknown one. TensorFlow's own specs are read by
their attributes. Names don't change between two runs of the same code: Keras numbers the layers and tensors that nobody
named (`dense_1`, `keras_tensor_12`) by what the process has built before, so such a name in a signature would break its
callers at the next training run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deploy.errors import ExportError
from deploy.types import TensorSpec
from deploy.wire import tensors

_TEXT = re.compile(r"\s*(?:(?P<name>[^:\[\]]+?)\s*:)?\s*(?P<dtype>\w+)\s*"
                   r"(?:\[(?P<shape>[^\]]*)\]|(?P<any>,\s*any shape))?\s*")
_FORMS = 'write it as "pixels: float32[?, 784]", as {"pixels": (None, 784)} or as a tf.TensorSpec; ' \
    "shapes include the batch dimension"

_DENSE = ("TensorSpec", "BoundedTensorSpec")
_PLAIN = "a signature is a tf.function of dense tensors, each with its own tf.TensorSpec"
_WAYS = {"ragged": "take values and row lengths, and make the ragged tensor in a "
                   "tf.function with tf.RaggedTensor.from_row_lengths, or from_tensor of a padded one",
         "sparse": "take indices, values and shape, and make the tf.SparseTensor in a "
                   "tf.function, or use tf.sparse.from_dense"}
UNSENDABLE = "input {!r} of the model is sparse or ragged, and a request holds dense tensors"
Pack = Callable[[Mapping[str, Any]], list[Any]]
_TENSOR = re.compile(r"keras_tensor(_\d+)?(CLONE)*")
_INPUT = re.compile(r"(input_layer|input|inputs_struct)(_\d+)?")


def parse(described: object) -> tuple[TensorSpec, ...]:
    """TensorSpecs of one description or of several. A name that isn't told is "".

    described: a TensorSpec of ours or TensorFlow's, a KerasTensor or keras.InputSpec; text (`float32[?, 784]`,
    `pixels: uint8[?, 28, 28]`); a shape (then float32); a mapping name -> any of these; a list of any of these.
    Raises ExportError.
    """
    if isinstance(described, Mapping):
        return tuple(_named(name, one(value)) for name, value in described.items())
    if isinstance(described, list | tuple) and not _is_shape(described):
        parsed = tuple(spec for value in described for spec in parse(value))
        return _distinct(parsed)
    return (one(described),)


def one(described: object) -> TensorSpec:
    """The TensorSpec of one description. Raises ExportError."""
    if isinstance(described, TensorSpec):
        return described
    if isinstance(described, str):
        return _from_text(described)
    if isinstance(described, list | tuple) and _is_shape(described):
        return TensorSpec("", "float32", tuple(described))
    if hasattr(described, "shape") and hasattr(described, "dtype"):
        return _from_attributes(described)
    raise ExportError(f"an input can't be described by {described!r} ({type(described).__name__})", hint=_FORMS,
                      id="input-spec")


def compatible(spec: tuple[int | None, ...] | None, other: tuple[int | None, ...] | None) -> bool:
    """Whether some shape fits both."""
    if spec is None or other is None:
        return True
    return len(spec) == len(other) and all(a == b or a is None or b is None for a, b in zip(spec, other, strict=True))


def free_batch(shape: Sequence[int | None] | None) -> tuple[int | None, ...] | None:
    """The same shape with an unknown first dimension."""
    return None if shape is None else (None, *shape[1:]) if len(shape) else ()


def _from_text(text: str) -> TensorSpec:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ExportError(f"can't read the input spec {text!r}", hint=_FORMS, id="input-spec")
    if match["any"]:
        shape: tuple[int | None, ...] | None = None
    else:
        sizes = [size.strip() for size in (match["shape"] or "").split(",") if size.strip()]
        if not all(size in {"?", "None", "-1"} or size.isdecimal() for size in sizes):
            raise ExportError(f"can't read the shape in the input spec {text!r}", hint=_FORMS, id="input-spec")
        shape = tuple(int(size) if size.isdecimal() else None for size in sizes)
    return TensorSpec((match["name"] or "").strip(), _dtype(match["dtype"], text), shape)


def _from_attributes(described: Any) -> TensorSpec:
    """A tf.TensorSpec, KerasTensor, InputSpec or array."""
    if way := way_to_dense(described):
        raise ExportError(f"an input is described by {described!r:.200}, which is no dense tensor, and a request holds "
                          "dense ones", hint=way, id="input-spec")
    shape = described.shape
    rank = getattr(shape, "rank", 0)
    dims = None if shape is None or rank is None else tuple(None if d is None else int(d) for d in shape)
    dtype = getattr(described.dtype, "name", described.dtype) or "float32"
    name = getattr(described, "name", None) or ""
    return TensorSpec(str(name).split(":")[0], _dtype(str(dtype), repr(described)), dims)


def _dtype(name: str, where: str) -> str:
    if name in tensors.SENDABLE:
        return name
    raise ExportError(f"{name!r} in the input spec {where!r} is no dtype that can be served",
                      hint=f"possible: {', '.join(tensors.SENDABLE)}", id="input-spec")


def _is_shape(value: Sequence[object]) -> bool:
    return all(d is None or (isinstance(d, int) and not isinstance(d, bool)) for d in value)


def _named(name: object, spec: TensorSpec) -> TensorSpec:
    if not isinstance(name, str) or not name:
        raise ExportError(f"an input's name has to be text, got {name!r}", hint=_FORMS, id="input-spec")
    return TensorSpec(name, spec.dtype, spec.shape)


def _distinct(parsed: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    names = [spec.name for spec in parsed if spec.name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(f"two inputs are called {twice[0]!r}", hint="give every input its own name", id="input-spec")
    return parsed


def flat(arguments: Sequence[object], names: Sequence[str], signature: str) -> tuple[tuple[TensorSpec, ...], Pack]:
    """The tensors of all arguments, and what makes arguments of tensors by name.

    arguments: for each argument a TensorSpec or a structure of them. names: the parameters'. A tensor is called as its
    spec is, else by its key or its parameter. Raises ExportError for what is no dense tensor.
    """
    leaves = [(path, spec) for argument, name in zip(arguments, names, strict=False)
              for path, spec in _leaves(argument, (name,))]
    for path, spec in leaves:
        _check(spec, path, signature)
    own_names = [str(spec.name or "").partition(":")[0] for _, spec in leaves]
    keys = [_key(path) for path, _ in leaves]
    called = [own if own and own_names.count(own) == 1 else key if keys.count(key) == 1 and key not in own_names else
              "_".join(path) for (path, _), own, key in zip(leaves, own_names, keys, strict=True)]
    input_specs = tuple(TensorSpec(name, each.dtype, each.shape) for name, (_, spec) in zip(called, leaves, strict=True)
                  for each in [one(spec)])

    def pack(tensors: Mapping[str, Any]) -> list[Any]:
        import tensorflow as tf

        return list(tf.nest.pack_sequence_as(list(arguments), list(tensors.values())))

    return input_specs, pack


def paths(structure: Any) -> list[tuple[str, ...]]:
    """Keys and indices that lead to each of the tensors in a structure, in tf.nest's order."""
    return [path for path, _ in _leaves(structure, ())]


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
    class_name = type(spec).__name__
    if class_name in _DENSE:
        return
    place = path[0] + "".join(f"[{key}]" if key.isdecimal() else f"[{key!r}]" for key in path[1:])
    raise ExportError(f"argument {place} of signature {signature!r} is {spec!r:.200}, which is no dense tensor, "
                      "and a request holds dense ones",
                      hint=way_to_dense(spec) or _PLAIN, id="input-spec")


def way_to_dense(described: object) -> str:
    """What to do about a ragged or sparse spec, or such an input of Keras; empty if it is neither."""
    name = type(described).__name__
    return next((way for kind, way in _WAYS.items()
                 if name.lower().startswith(f"{kind}tensor") or getattr(described, kind, False) is True), "")


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
