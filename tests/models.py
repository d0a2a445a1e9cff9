"""Builds the SavedModels that the tests serve: `python tests/models.py OUT`.

Each is a version directory without a number; tests copy or link it to where they need it.

    half_plus_two    x float32[?] -> y = x / 2 + 2
    half_plus_three  x float32[?] -> y = x / 2 + 3 (the next version of the same contract)
    mnist            Keras 784-32-10: pixels float32[?,784] -> probs float32[?,10]
    two_signatures   serving_default: x float32[?,3] -> y; scale: x float32[?,3], factor float32[] -> scaled, total
    vocabulary       words string[?] -> ids int64[?]; with an asset file
    dtypes           one signature per dtype (`float16`, ..., `string`): x dtype[?] -> y, the same values
    shapes           unknown_rank: x any -> y; unknown_dims: x float32[?,?] -> y; scalar_out: x float32[?] -> total
    classes          classify: inputs string[?] (tf.Example with `x`) -> classes, scores; regress -> outputs
    loops            times int64[] -> count, after so many turns of a loop
    fails            x float32[?] -> y, but an assertion in the graph refuses negative numbers
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import tensorflow as tf

DTYPES = [tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64,
          tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.complex64, tf.complex128, tf.string]
FLOATS = tf.TensorSpec([None], tf.float32, name="x")


def save(out: Path, name: str, module: tf.Module, **functions: tf.types.experimental.GenericFunction) -> None:
    module.functions = functions
    tf.saved_model.save(module, str(out / name), signatures=functions)


def affine(out: Path, name: str, offset: float) -> None:
    module = tf.Module()
    module.offset = tf.Variable(offset)
    save(out, name, module, serving_default=tf.function(lambda x: {"y": x / 2 + module.offset}, [FLOATS]))


def mnist(out: Path) -> None:
    import keras

    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((784,), name="pixels"), keras.layers.Dense(32, activation="relu"),
                              keras.layers.Dense(10, activation="softmax", name="probs")])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda pixels: {"probs": model(pixels)},
                         [tf.TensorSpec([None, 784], tf.float32, name="pixels")])
    archive.write_out(str(out / "mnist"), verbose=False)


def two_signatures(out: Path) -> None:
    rows = tf.TensorSpec([None, 3], tf.float32, name="x")
    factor = tf.TensorSpec([], tf.float32, name="factor")
    save(out, "two_signatures", tf.Module(),
         serving_default=tf.function(lambda x: {"y": x + 1}, [rows]),
         scale=tf.function(lambda x, factor: {"scaled": x * factor, "total": tf.reduce_sum(x, 1)}, [rows, factor]))


def vocabulary(out: Path) -> None:
    words = out / "words.txt"
    words.write_text("the\nquick\nbrown\nfox\n")
    module = tf.Module()
    module.asset = tf.saved_model.Asset(str(words))
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(module.asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                                      tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER), -1)
    spec = tf.TensorSpec([None], tf.string, name="words")
    lookup = tf.function(lambda words: {"ids": module.table.lookup(words)}, [spec])
    save(out, "vocabulary", module, serving_default=lookup)
    words.unlink()


def dtypes(out: Path) -> None:
    save(out, "dtypes", tf.Module(), **{
        d.name: tf.function(lambda x: {"y": tf.identity(x)}, [tf.TensorSpec([None], d, name="x")]) for d in DTYPES})


def shapes(out: Path) -> None:
    save(out, "shapes", tf.Module(),
         unknown_rank=tf.function(lambda x: {"y": x * 2}, [tf.TensorSpec(None, tf.float32, name="x")]),
         unknown_dims=tf.function(lambda x: {"y": x * 2}, [tf.TensorSpec([None, None], tf.float32, name="x")]),
         scalar_out=tf.function(lambda x: {"total": tf.reduce_sum(x)}, [FLOATS]))


def classes(out: Path) -> None:
    """Built as TF1 does, since only there a signature's method can be classify or regress."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.string, [None], name="inputs")
        x = v1.parse_example(inputs, {"x": v1.FixedLenFeature([1], tf.float32, default_value=[0.0])})["x"]
        scores = tf.concat([x, 1 - x], 1)
        labels = tf.tile(tf.constant([["yes", "no"]]), [tf.shape(x)[0], 1])
        build = v1.saved_model.signature_def_utils
        signatures = {"serving_default": build.classification_signature_def(inputs, labels, scores),
                      "regress": build.regression_signature_def(inputs, tf.reshape(x * 2, [-1]))}
        builder = v1.saved_model.Builder(str(out / "classes"))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def fails(out: Path) -> None:
    def positive(x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, message="negative input")]):
            return {"y": tf.sqrt(x)}

    save(out, "fails", tf.Module(), serving_default=tf.function(positive, [FLOATS]))


def loops(out: Path) -> None:
    def count(times: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"count": tf.while_loop(lambda n: n < times, lambda n: [n + 1], [tf.constant(0, tf.int64)],
                                       parallel_iterations=1)[0]}

    save(out, "loops", tf.Module(), serving_default=tf.function(count, [tf.TensorSpec([], tf.int64, name="times")]))


def denormals(out: Path) -> None:
    signatures = {}
    for dtype in (tf.float32, tf.float64):
        spec = tf.TensorSpec([None], dtype, name="x")
        signatures[dtype.name] = tf.function(lambda x: {"y": x * 2**20}, [spec])
    save(out, "denormals", tf.Module(), **signatures)


def build(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    affine(out, "half_plus_two", 2.0)
    affine(out, "half_plus_three", 3.0)
    for make in (mnist, two_signatures, vocabulary, dtypes, shapes, classes, loops, fails, denormals):
        make(out)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
