"""Example inputs that fit a signature: always the same for the same arguments."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.errors import BadRequest
from deploy.goldens.recorded import Golden
from deploy.savedmodel.flow import IMAGE
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, Signature, TensorSpec
from deploy.wire import example_pb2
from deploy.wire.values import numpy_dtype

_MOST_VALUES, _MOST_DIMENSIONS = 1 << 26, 32
_WIDTH, _HEIGHT = 16, 12
_WORDS = (b"the", b"quick", b"brown", b"fox", b"jumps", b"over", b"a", b"lazy", b"dog")


def generate(signature: Signature, batch: int = 2, seed: int = 0,
             features: Mapping[str, Sequence[TensorSpec]] | None = None, free: int = 1) -> dict[str, NDArray[Any]]:
    """Inputs by name: floats in [0, 1), whole numbers from 0 to 9, short words; of the dtypes that the signature says.

    batch: size of an unknown first dimension, and of the vector for an input of unknown rank. free: of others.
    features: `SavedModelInfo.features`, so that inputs which the graph parses as tf.Example hold what it wants, and
        those that it decodes as images small PNG images.
    Without it, the input of a classify or regress signature gets examples without features.
    Raises BadRequest for an input of a dtype that can't be sent.
    """
    random = np.random.default_rng(seed)
    return {spec.name: _values(spec, _shape(spec, batch, free), random, _wanted(signature, spec, features or {}))
            for spec in signature.inputs}


def requests(signatures: Iterable[Signature], features: Mapping[str, Sequence[TensorSpec]] | None = None,
             batches: Sequence[int] = (1, 2)) -> Iterator[Golden]:
    """Requests that fit, for each signature one of each batch size, all with other values; none for a signature with
    an input that can't be sent, a resource for example.
    """
    for signature in signatures:
        for seed, batch in enumerate(batches):
            try:
                inputs = generate(signature, batch, seed, features)
            except BadRequest:
                break
            yield Golden(signature.name, inputs)


def _shape(spec: TensorSpec, batch: int, free: int) -> tuple[int, ...]:
    if spec.shape is None:
        return (batch,)
    return tuple((free if axis else batch) if size is None else size for axis, size in enumerate(spec.shape))


def _wanted(signature: Signature, spec: TensorSpec,
            features: Mapping[str, Sequence[TensorSpec]]) -> Sequence[TensorSpec] | None:
    """The features of the tf.Examples that this input takes; None if it takes something else."""
    if spec.dtype != "string":
        return None
    known = features.get(spec.tensor)
    if known is None and signature.method_name in (CLASSIFY_METHOD, REGRESS_METHOD):
        return ()
    return known


def _values(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator,
            wanted: Sequence[TensorSpec] | None) -> NDArray[Any]:
    dtype = numpy_dtype(spec.dtype)
    if len(shape) > _MOST_DIMENSIONS or math.prod(shape) > _MOST_VALUES:
        raise BadRequest(f"no example is made up for {spec.name!r}: its shape {list(shape[:8])} has too many values",
                         hint="give one: --examples")
    if spec.dtype == "string":
        return _filled(shape, _strings(math.prod(shape), random, wanted))
    if spec.dtype == "bool":
        return random.integers(2, size=shape).astype(dtype)
    if dtype.kind in "iu":
        return random.integers(10, size=shape).astype(dtype)
    if dtype.kind == "c":
        return (random.random(shape) + 1j * random.random(shape)).astype(dtype)
    # 1 excluded after rounding, too: the narrowest float, bfloat16, holds 8 bits of these exactly
    return np.asarray(random.integers(256, size=shape) / 256 if dtype.itemsize == 2 else random.random(shape, "f4"),
                      dtype=dtype)


def _filled(shape: tuple[int, ...], values: list[bytes]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _strings(count: int, random: np.random.Generator, wanted: Sequence[TensorSpec] | None) -> list[bytes]:
    if wanted == IMAGE:
        return [_image(random) for _ in range(count)]
    if wanted is not None:
        return [_example(wanted, random) for _ in range(count)]
    return [_WORDS[index] for index in random.integers(len(_WORDS), size=count)]


def images(batch: int, seed: int) -> NDArray[Any]:
    """Small PNG images."""
    random = np.random.default_rng(seed)
    return _filled((batch,), [_image(random) for _ in range(batch)])


def _image(random: np.random.Generator) -> bytes:
    """A gradient of 16 x 12 pixels in RGB, which decoders make gray or transparent where that is wanted."""
    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    pixels = np.stack([rows * down + columns * right for down, right in random.integers(2, 10, (3, 2))], -1)
    lines = np.pad(pixels.astype(np.uint8).reshape(_HEIGHT, -1), ((0, 0), (1, 0)))  # each begins with its filter: none
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks)


def _example(features: Sequence[TensorSpec], random: np.random.Generator) -> bytes:
    example = example_pb2.Example()
    for spec in features:
        values = _values(spec, tuple(size or 1 for size in spec.shape or (1,)), random, None).ravel().tolist()
        feature = example.features.feature[spec.name]
        field: Any = {"string": feature.bytes_list, "int64": feature.int64_list}.get(spec.dtype, feature.float_list)
        field.value.extend(values)
    return example.SerializeToString(deterministic=True)
