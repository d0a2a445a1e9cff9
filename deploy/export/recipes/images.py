"""image_bytes: encoded images in, decoded, resized and normalised in the graph, so that no client has to do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy import files
from deploy.export import quiet
from deploy.export.options import SignatureFunction
from deploy.export.recipes.decoding import Decoding, ImageForm, Normalisation
from deploy.export.recipes.recipe import Recipe, chosen_input, recipe, refused, with_input
from deploy.goldens import examples
from deploy.types import DEFAULT_SIGNATURE, TensorSpec

NAME = "image-bytes"
Numbers = Sequence[float]

SCALES: Mapping[str, tuple[float, float, Numbers, Numbers]] = {
    "0..255": (1.0, 0.0, (), ()), "0..1": (1 / 255, 0.0, (), ()), "-1..1": (1 / 127.5, -1.0, (), ()),
    "imagenet": (1 / 255, 0.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": (1.0, 0.0, (103.939, 116.779, 123.68), ())}
"""Name -> factor, offset, then mean and standard deviation of each channel. Keras's preprocess_input calls -1..1 `tf`,
imagenet `torch`; caffe has its channels as BGR."""

METHODS = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic")
FITS = ("stretch", "crop", "pad")
_CHANNELS = (1, 3, 4)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_MOST = 1 << 28  # bytes of an example's file
_PAIR = 2


def image_bytes(scale: str = "", *, input: str = "", name: str = "image_bytes", size: str | Sequence[int] = "",
                mean: Numbers = (), std: Numbers = (), channel_order: str = "", resize: str = "bilinear",
                antialias: bool = False, fit: str = "stretch", signature: str = DEFAULT_SIGNATURE) -> Recipe:
    """Takes JPEG, PNG or BMP bytes (`name`: string [?]) instead of pixels.

    scale: how the model was trained: `0..255`, `0..1`, `-1..1`, `imagenet` or `caffe` (see SCALES). For a model of
        whole numbers 0..255; for others it has to be said.
    input: which input gets the pixels, if there are several. name: the new input's.
    size: height x width (`224x224`, (224, 224)), where the model's input doesn't say it.
    mean, std: one number for each channel, in the model's channel order: (scaled pixel - mean) / std.
    channel_order: `rgb` or `bgr`; bgr for caffe, else rgb.
    resize: a tf.image.ResizeMethod; antialias: for making images smaller.
    fit: `stretch` to the size, `crop` the middle to its proportions first, or `pad` with black.
    Raises ExportError.
    """
    _check_choice("scale", scale, ("", *SCALES))
    _check_choice("resize", resize, METHODS)
    _check_choice("fit", fit, FITS)
    _check_choice("channel_order", channel_order, ("", "rgb", "bgr"))
    if not isinstance(name, str) or not name:
        raise refused(NAME, f"name is {name!r}", "give the new input a name")
    edges = _edges(size)
    for what, numbers in (("mean", mean), ("std", std)):
        if not all(isinstance(n, int | float) and (what == "mean" or n > 0) for n in numbers):
            raise refused(NAME, f"{what} is {list(numbers)}", "give a number for each channel; std's above 0")

    def wrap(base: SignatureFunction, _: Path) -> SignatureFunction:
        spec = chosen_input(NAME, base, input)
        form = _form(spec, edges)
        normal = _normal(spec, form, scale, (mean, std), channel_order)
        decode = Decoding(form, normal, resize, antialias, fit)
        batch = spec.shape[0] if spec.shape else None
        result = with_input(NAME, base, spec, TensorSpec(name, "string", (batch,)), decode)
        return replace(result, encode=lambda given: _encoded(given, name),
                       samples={**result.samples, name: examples.images},
                       no_tflite="it decodes images, which no TFLite operator does")

    return recipe(NAME, signature, wrap, scale=scale, input=input, name=None if name == "image_bytes" else name,
                  size="x".join(map(str, edges)), mean=tuple(mean), std=tuple(std), channel_order=channel_order,
                  resize=resize, antialias=antialias, fit=fit)


def _check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise refused(NAME, f"{what} is {value!r}", f"possible: {', '.join(filter(None, choices))}")


def _edges(size: str | Sequence[int]) -> tuple[int, ...]:
    """Height and width; nothing if they aren't given."""
    parts = size.lower().split("x") if isinstance(size, str) else list(map(str, size))
    if not size:
        return ()
    if len(parts) != _PAIR or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise refused(NAME, f"size is {size!r}", "write height x width: 224x224")
    return tuple(int(part) for part in parts)


def _form(spec: TensorSpec, edges: tuple[int, ...]) -> ImageForm:
    """What the input says, and `edges` where it doesn't."""
    inner = None if spec.shape is None else spec.shape[1:]
    if spec.dtype in ("string", "bool") or spec.dtype.startswith("complex"):
        raise refused(NAME, f"the input {spec} takes no pixels", "name another one with input=...")
    if not inner:
        raise refused(NAME, f"the input {spec} has no known shape of images behind the batch dimension",
                      "give the model's input a shape [batch, height, width, channels]")
    own, channels, layout = _layout(spec, inner, edges)
    height, width = (edge or own_edge for edge, own_edge in zip(edges or (0, 0), own, strict=True))
    if edges and any(mine not in (None, edge) for mine, edge in zip(own, edges, strict=True)):
        raise refused(NAME, f"size is {edges[0]}x{edges[1]}, and the input is {spec}", "leave size out")
    if not height or not width:
        raise refused(NAME, f"the input {spec} doesn't say its height and width", "say size=224x224")
    return ImageForm(height, width, channels, layout)


def _layout(spec: TensorSpec, inner: Sequence[int | None],
            edges: tuple[int, ...]) -> tuple[Sequence[int | None], int, str]:
    """Height and width as the input says them, channels, layout."""
    if len(inner) == 3 and inner[2] in _CHANNELS:
        return inner[:2], inner[2] or 0, "last"
    if len(inner) == 3 and inner[0] in _CHANNELS:
        return inner[1:], inner[0] or 0, "first"
    if len(inner) == _PAIR:
        return inner, 1, "none"
    if len(inner) == 1 and inner[0] and not edges:
        raise refused(NAME, f"the input {spec} has its pixels in one row, so their height and width are unknown",
                      "say size=28x28")
    if len(inner) == 1 and inner[0]:
        channels, rest = divmod(inner[0], edges[0] * edges[1])
        if not rest and channels in _CHANNELS:
            return edges, channels, "flat"
        raise refused(NAME, f"the input {spec} doesn't hold {edges[0]}x{edges[1]} pixels of 1, 3 or 4 channels",
                      "say another size")
    raise refused(NAME, f"the input {spec} is no image: it has no 1, 3 or 4 channels",
                  "images are [batch, height, width, channels], [batch, channels, height, width] or "
                  "[batch, height, width]")


def _normal(spec: TensorSpec, form: ImageForm, scale: str, own: tuple[Numbers, Numbers], order: str) -> Normalisation:
    whole = spec.dtype.startswith(("int", "uint"))
    if not scale and not whole and not any(own):
        raise refused(NAME, f"how the pixels of {spec} are scaled isn't said",
                      f"say what it was trained with: scale={', '.join(SCALES)}, or mean and std")
    factor, offset, *named = SCALES[scale or "0..255"]
    if whole and (scale not in ("", "0..255") or any(own)):
        raise refused(NAME, f"the input {spec} holds whole numbers, which aren't scaled", "leave them out")
    mean, std = (mine or theirs for mine, theirs in zip(own, named, strict=True))
    for what, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (0, form.channels):
            raise refused(NAME, f"{what} has {len(numbers)} numbers, and {spec} {form.channels} channels",
                          "give one for each channel")
    bgr = order == "bgr" or (scale == "caffe" and not order)
    if bgr and form.channels != 3:
        raise refused(NAME, f"channel_order is bgr, and {spec} has {form.channels} channels", "leave it out")
    return Normalisation(factor, offset, mean, std, bgr, spec.dtype)


def _encoded(given: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Examples with paths of image files, or with arrays of pixels, as bytes; None if there is nothing to do."""
    if name not in given:
        return None
    value = given[name]
    if isinstance(value, str | Path | bytes) or (isinstance(value, np.ndarray) and value.ndim == 3):
        value = [value]
    images = np.empty(len(value), object)
    images[:] = [_image(each) for each in value]
    return {**given, name: images}


def _image(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3:
        return bytes(quiet.tensorflow().io.encode_png(value).numpy())
    hint = f"give bytes, paths of image files ({', '.join(_SUFFIXES)}), or uint8 arrays [height, width, channels]"
    if not isinstance(value, str | Path):
        raise refused(NAME, f"an example is {value!r:.60}, a {type(value).__name__}", hint)
    try:
        return files.read_given(value, _MOST)
    except OSError as error:
        raise refused(NAME, f"the example {value} can't be read: {files.reason(error)}", hint) from error
