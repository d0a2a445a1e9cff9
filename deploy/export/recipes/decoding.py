"""Encoded images -> what a model takes, as TensorFlow ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ImageForm:
    """How the model wants one image. layout: `last` or `first` for where channels are, `none` for [h, w], `flat`."""

    height: int
    width: int
    channels: int
    layout: str


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(pixel * factor + offset - mean) / std, in the model's dtype."""

    factor: float
    offset: float
    mean: Sequence[float]
    std: Sequence[float]
    bgr: bool
    dtype: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """Encoded images [batch] -> what the model takes. Called while tracing, and eagerly for the expected answers."""

    form: ImageForm
    normal: Normalisation
    method: str
    antialias: bool
    fit: str

    def __call__(self, contents: Any) -> Any:
        import tensorflow as tf

        form = self.form
        shape = tf.TensorSpec((form.height, form.width, form.channels), tf.float32)
        return self._normalised(tf.map_fn(self._one, contents, fn_output_signature=shape))

    def _one(self, content: Any) -> Any:
        """One image, resized, as float32 from 0 to 255."""
        import tensorflow as tf

        form = self.form
        is_gif = tf.equal(tf.strings.substr(content, 0, 4), b"GIF8")
        refuse = tf.debugging.Assert(tf.logical_not(is_gif), ["expected a JPEG, PNG or BMP image, got a GIF"])
        with tf.control_dependencies([] if refuse is None else [refuse]):
            pixels = tf.io.decode_image(content, form.channels, expand_animations=False)
        pixels = tf.ensure_shape(pixels, (None, None, form.channels))
        size = form.height, form.width
        if self.fit == "pad":
            resized = tf.image.resize_with_pad(pixels, *size, method=self.method, antialias=self.antialias)
        else:
            pixels = _cropped(pixels, *size) if self.fit == "crop" else pixels
            resized = tf.image.resize(pixels, size, method=self.method, antialias=self.antialias)
        return tf.cast(resized, tf.float32)

    def _normalised(self, images: Any) -> Any:
        import tensorflow as tf

        form, normal = self.form, self.normal
        if normal.bgr:
            images = tf.reverse(images, [-1])
        if normal.dtype.startswith(("int", "uint")):
            images = tf.saturate_cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), normal.dtype)
        else:
            images = images * normal.factor + normal.offset
            images = images - tf.constant(normal.mean, tf.float32) if normal.mean else images
            images = images / tf.constant(normal.std, tf.float32) if normal.std else images
            images = tf.cast(images, normal.dtype)
        if form.layout == "first":
            return tf.transpose(images, [0, 3, 1, 2])
        if form.layout == "none":
            return tf.squeeze(images, -1)
        count = form.height * form.width * form.channels
        return tf.reshape(images, [-1, count]) if form.layout == "flat" else images


def _cropped(pixels: Any, height: int, width: int) -> Any:
    """The largest part from the middle that has the proportions height : width."""
    import tensorflow as tf

    rows, columns = tf.shape(pixels)[0], tf.shape(pixels)[1]
    kept_rows = tf.clip_by_value(columns * height // width, 1, rows)
    kept_columns = tf.clip_by_value(rows * width // height, 1, columns)
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return tf.image.crop_to_bounding_box(pixels, top, left, kept_rows, kept_columns)
