"""Example inputs in the forms that people have them in, in files, too -> requests. Arrays only: no TensorFlow.

Files: .npz archives, and JSON as TensorFlow Serving's REST API takes it.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.errors import BadRequest, ExportError
from deploy.export.options import Sample
from deploy.goldens import examples as generated
from deploy.goldens.recorded import LIMIT, Golden
from deploy.types import DEFAULT_SIGNATURE, PREDICT_METHOD, Contract, Signature, TensorSpec
from deploy.wire import tensors
from deploy.wire.dtypes import Array

BATCHES = (1, 2)
Encode = Callable[[Mapping[str, Any]], dict[str, Any] | None]

FORMS = "give a dict of arrays (batch first), a list of such dicts or of single rows, or an .npz or .json file of " \
    "them; for an only input an image, or a .txt file with a text on each line"
_DENSE = {"RaggedTensor": "value.to_tensor(), which is padded", "SparseTensor": "tf.sparse.to_dense(value)"}
_MOST = 1 << 30  # bytes of a JSON file
_BODY = frozenset({"instances", "inputs", "examples"})
_TEXT = "in an .npz strings as fixed-width text, not as objects; bytes, such as images, as JSON: {\"b64\": \"...\"}"


def cases(given: object, contract: Contract, features: Mapping[str, Sequence[TensorSpec]],
          encoders: Mapping[str, Encode | None], batches: Sequence[int] | None = None, *,
          free: int = 1, samples: Mapping[str, Mapping[str, Sample]] | None = None) -> list[Golden]:
    """The given examples as cases, and generated ones for signatures without.

    given: None; for the default signature: a dict input -> array, batch first; an array, if there is one input; a list
        of dicts, each a batch or a row; a tf.data.Dataset of any of these, perhaps with labels, which are left out;
        the path of an .npz file with these arrays, or of JSON; the body of a REST request (`instances` or `inputs`).
        For several signatures: a dict signature -> any of these (in an .npz: `signature/input`). In JSON bytes are
        {"b64": ...}. An empty list: no examples.
    features: see SavedModelInfo.features.
    encoders: signature -> what may turn examples in another form into its inputs. It is asked for {"": examples},
        too, if they don't say of which input they are.
    batches: sizes of generated batches: 1 and 2 by default. free: of their other unknown dimensions.
    samples: signature -> input -> what makes its values, where dtype and shape don't say what fits.
    Raises ExportError for what doesn't fit.
    """
    by_signature = _by_signature(loaded(given), contract)
    requests = []
    for name, signature in contract.items():
        if name not in by_signature:
            special = (samples or {}).get(name, {})
            requests += [Golden(name, {**generated.generate(signature, size, seed, features, free),
                                       **{key: make(size, seed) for key, make in special.items()}})
                         for seed, size in enumerate(_sizes(signature, batches))]
        else:
            batches_given = _batches(by_signature[name], signature, encoders.get(name))
            requests += [Golden(name, _checked(batch, signature)) for batch in batches_given]
    return requests


def seen(given: object) -> tuple[TensorSpec, ...] | None:
    """What inputs look like, told by a dict of example arrays with a batch dimension; None for other forms."""
    given = loaded(given)
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
    named = signature_of(given)
    if named and named not in contract:
        raise ExportError(f"the examples are for signature {named!r}, and there is {', '.join(contract)}",
                          hint="name one of these as their signature_name, or leave it out", id="examples-unfit")
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
        unpacked(given, [spec.name for spec in signature.inputs])
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
        batch = {signature.inputs[0].name: given}
        yield _encoded(batch, encode) if signature.method_name == PREDICT_METHOD else batch
    elif encode and (filled := encode({"": given})):
        yield filled
    else:
        raise ExportError(f"examples for signature {signature.name!r} are a {type(given).__name__}, and it takes "
                          f"{', '.join(spec.name for spec in signature.inputs)}", hint=FORMS, id="examples-unfit")


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
                                  f"takes {takes}", hint="let each element be a dict of arrays by input name",
                                  id="examples-unfit")
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
    specs_by_name = {spec.name: spec for spec in signature.inputs}
    if set(batch) != set(specs_by_name):
        seen, takes = ", ".join(map(str, batch)) or "nothing", ", ".join(map(str, signature.inputs))
        raise ExportError(f"examples for signature {signature.name!r} have {seen}, and it takes {takes}", hint=FORMS,
                          id="examples-unfit")
    for name, value in batch.items():
        if way := _DENSE.get(type(value).__name__):
            raise ExportError(f"examples for signature {signature.name!r}: input {name!r} is a {type(value).__name__}, "
                              "and a request holds dense tensors", hint=f"give {way}", id="examples-unfit")
    try:
        return {name: tensors.as_array(batch[name], spec) for name, spec in specs_by_name.items()}
    except BadRequest as error:
        raise ExportError(f"examples for signature {signature.name!r}: {error.message}",
                          hint=error.hint or FORMS, id="examples-unfit") from error


def loaded(given: object) -> object:
    """What stands in the file, if `given` is the path of one. Raises ExportError."""
    if not isinstance(given, str | Path):
        return given
    path = Path(given)
    try:
        content = _READERS.get(path.suffix.lower(), _archive)(path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else \
            error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ExportError(f"examples can't be read from {path}: {why}", hint=f"{FORMS}; {_TEXT}",
                          id="examples-unfit") from error
    if not isinstance(content, Mapping | list):
        raise ExportError(f"examples can't be read from {path}: expected an object or a list, got {content!r:.50}",
                          hint=f"{FORMS}; {_TEXT}", id="examples-unfit")
    return content


def _json(path: Path) -> object:
    """UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    return _bytes(json.loads(files.read_given(path, _MOST)))


def _image(path: Path) -> object:
    return [files.read_given(path, _MOST)]


def _texts(path: Path) -> object:
    """One on each line."""
    return files.read_given(path, _MOST).decode("utf-8-sig").splitlines()


_READERS: Mapping[str, Callable[[Path], object]] = {
    ".json": _json, ".txt": _texts, **dict.fromkeys((".jpg", ".jpeg", ".png", ".bmp"), _image)}


def signature_of(given: object) -> str:
    """The signature that a request's body names, empty if it names none or is none."""
    if isinstance(given, Mapping) and "signature_name" in given and _BODY & set(given):
        return str(given["signature_name"])
    return ""


def unpacked(given: object, inputs: Sequence[str]) -> object:
    """Examples out of the body of a request, as columns or rows. inputs: the signature's, which may have such names."""
    if not isinstance(given, Mapping):
        return given
    if set(given) == set(inputs) and not any(isinstance(value, Mapping) for value in given.values()):
        return given
    body_keys = _BODY & set(given)
    if len(body_keys) != 1 or not set(given) <= body_keys | {"signature_name", "context"}:
        return given
    return given[next(iter(body_keys))]


def _archive(path: Path) -> object:
    with files.open_regular(path) as opened:
        if not zipfile.is_zipfile(opened):
            raise ValueError("it is neither JSON, text or an image by its name, nor an .npz archive by its content")
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as file:
            arrays = dict(file.items())
    nested: dict[str, Any] = {}
    for key, array in arrays.items():
        signature, slash, name = key.rpartition("/")
        if slash:
            nested.setdefault(signature, {})[name] = array
        else:
            nested[key] = array
    return nested


def _bytes(value: Any) -> Any:
    """JSON with each {"b64": ...} as the bytes that it stands for. Raises ValueError."""
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode("".join(value["b64"].split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"{value['b64']!r:.40} is no base64: {error}") from None
    return {key: _bytes(item) for key, item in value.items()}
