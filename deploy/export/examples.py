"""Example inputs in the forms that people have them in -> cases. Arrays only: no TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.errors import BadRequest, ExportError
from deploy.export import example_files
from deploy.export.example_files import FORMS
from deploy.export.plans import Array, Case
from deploy.goldens import examples as generated
from deploy.goldens.recorded import LIMIT
from deploy.types import DEFAULT_SIGNATURE, Contract, Signature, TensorSpec
from deploy.wire import tensors

BATCHES = (1, 2)
Encode = Callable[[Mapping[str, Any]], dict[str, Array] | None]


def cases(given: object, contract: Contract, features: Mapping[str, Sequence[TensorSpec]],
          encoders: Mapping[str, Encode | None], batches: Sequence[int] | None = None, *,
          free: int = 1) -> list[Case]:
    """The given examples as cases, and generated ones for signatures without.

    given: None; for the default signature: a dict input -> array, batch first; an array, if there is one input; a list
        of dicts, each a batch or a row; a tf.data.Dataset of any of these, perhaps with labels, which are left out;
        the path of an .npz file with these arrays, or of JSON; the body of a REST request (`instances` or `inputs`).
        For several signatures: a dict signature -> any of these (in an .npz: `signature/input`). In JSON bytes are
        {"b64": ...}. An empty list: no examples.
    features: see SavedModelInfo.features.
    encoders: signature -> what may turn examples in another form into its inputs.
    batches: sizes of generated batches: 1 and 2 by default. free: of their other unknown dimensions.
    Raises ExportError for what doesn't fit.
    """
    by_signature = _by_signature(example_files.loaded(given), contract)
    made = []
    for name, signature in contract.items():
        if name not in by_signature:
            made += [Case(name, generated.generate(signature, size, seed, features, free))
                     for seed, size in enumerate(_sizes(signature, batches))]
        else:
            found = _batches(by_signature[name], signature, encoders.get(name))
            made += [Case(name, _checked(batch, signature)) for batch in found]
    return made


def seen(given: object) -> tuple[TensorSpec, ...] | None:
    """What inputs look like, told by a dict of example arrays with a batch dimension; None for other forms."""
    given = example_files.loaded(given)
    if not isinstance(given, Mapping) or not given:
        return None
    arrays = {str(name): np.asarray(value) for name, value in given.items() if isinstance(value, np.ndarray)}
    if len(arrays) != len(given) or not all(array.ndim for array in arrays.values()):
        return None
    return tuple(TensorSpec(name, "string" if array.dtype.kind in "OSU" else tensors.dtype_name(array.dtype),
                            (None, *array.shape[1:])) for name, array in arrays.items())


def _by_signature(given: object, contract: Contract) -> dict[str, object]:
    if given is None:
        return {}
    default = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in contract else next(iter(contract))
    named = example_files.signature_of(given)
    if named and named not in contract:
        raise ExportError(f"the examples are for signature {named!r}, and there is {', '.join(contract)}",
                          hint="name one of these as their signature_name, or leave it out")
    if named:
        return {named: given}
    if isinstance(given, Mapping) and given and set(given) <= set(contract):
        whole = [name for name, value in given.items() if not isinstance(value, np.ndarray) or
                 name not in {spec.name for spec in contract[name].inputs}]
        if whole:
            return dict(given)
    if not isinstance(given, Mapping) and isinstance(given, list | tuple) and not given:
        return {name: [] for name in contract}
    return {default: given}


def _batches(given: object, signature: Signature, encode: Encode | None) -> Iterator[Mapping[str, Any]]:
    whole = isinstance(given, Mapping) and "examples" in given  # the body of a classify or regress request
    given = _drawn(given, signature) if hasattr(given, "as_numpy_iterator") else \
        example_files.unpacked(given, [spec.name for spec in signature.inputs])
    if isinstance(given, Mapping):
        yield _encoded(given, encode)
    elif isinstance(given, list | tuple) and all(isinstance(item, Mapping) for item in given):
        if encode and _without_batch(given, whole):
            given = [{key: [item[key] for item in given] for key in given[0]}]
        encoded = [_encoded(item, encode) for item in given]
        if encoded and _are_rows(encoded, signature):
            yield {key: np.stack([np.asarray(item[key]) for item in encoded]) for key in encoded[0]}
        else:
            yield from encoded
    elif len(signature.inputs) == 1:
        yield {signature.inputs[0].name: given}
    else:
        raise ExportError(f"examples for signature {signature.name!r} are a {type(given).__name__}, and it takes "
                          f"{', '.join(spec.name for spec in signature.inputs)}", hint=FORMS)


def _sizes(signature: Signature, batches: Sequence[int] | None) -> Sequence[int]:
    """One is enough where no input has a free first dimension."""
    sizes = BATCHES if batches is None else tuple(dict.fromkeys(batches))
    free = any(spec.shape is None or spec.shape[:1] == (None,) for spec in signature.inputs)
    return sizes if free or batches is None else sizes[:1]


def _drawn(dataset: Any, signature: Signature) -> object:
    """A tf.data.Dataset's elements as arrays by input, each a row or a batch. Labels and weights are left out."""
    drawn: list[Mapping[str, Any]] = []
    for element in itertools.islice(dataset.as_numpy_iterator(), LIMIT):
        inputs = element[0] if isinstance(element, tuple) else element
        if not isinstance(inputs, Mapping):
            if len(signature.inputs) != 1:
                takes = ", ".join(spec.name for spec in signature.inputs)
                raise ExportError(f"examples for signature {signature.name!r} are a dataset without names, and it "
                                  f"takes {takes}", hint="let each element be a dict of arrays by input name")
            inputs = {signature.inputs[0].name: inputs}
        drawn.append(inputs)
    return drawn


def _without_batch(items: Sequence[Mapping[str, Any]], whole: bool) -> bool:
    """Whether dicts of a tf.Example's features are one example each: the API's own form, or single values."""
    same = bool(items) and all(set(item) == set(items[0]) for item in items)
    return same and (whole or any(np.ndim(value) == 0 for item in items for value in item.values()))


def _encoded(batch: Mapping[str, Any], encode: Encode | None) -> Mapping[str, Any]:
    return (encode(batch) if encode else None) or batch


def _are_rows(items: Sequence[Mapping[str, Any]], signature: Signature) -> bool:
    """Whether each dict is one row: all of its values lack the batch dimension."""
    ranks = {spec.name: None if spec.shape is None else len(spec.shape) for spec in signature.inputs}
    return all(set(item) == set(ranks) and all(rank and np.ndim(item[name]) == rank - 1 for name, rank in ranks.items())
               for item in items)


def _checked(batch: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    wanted = {spec.name: spec for spec in signature.inputs}
    if set(batch) != set(wanted):
        seen, takes = ", ".join(map(str, batch)) or "nothing", ", ".join(map(str, signature.inputs))
        raise ExportError(f"examples for signature {signature.name!r} have {seen}, and it takes {takes}", hint=FORMS)
    try:
        return {name: tensors.as_array(batch[name], spec) for name, spec in wanted.items()}
    except BadRequest as error:
        raise ExportError(f"examples for signature {signature.name!r}: {error.message}",
                          hint=error.hint or FORMS) from error
