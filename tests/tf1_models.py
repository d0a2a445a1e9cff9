"""Builds SavedModels, frozen graphs and modules as TensorFlow 1 wrote them: `python tests/tf1_models.py OUT`.

    ref_variables     x float32[?,2] -> y = x @ w + b; VariableV2 and Assign
    resource_variables  the same with resource variables
    partitioned       the same, w in two slices, which the checkpoint stores as slices of one tensor
    no_variables      x float32[?] -> y = 2 x; no checkpoint
    estimator         as an Estimator's export_saved_model: serving_default and classification (classify), regression,
                      predict (`examples`); feature columns, one of them with a vocabulary file
    receiver          predict with raw tensors: height float32[?,1], colour string[?,1]; the same columns
    meta_graphs       tags serve (y = 2 x), serve+gpu (y = 3 x), train (y = x and step)
    tagged_gpu        tags serve+gpu only
    main_op           saved_model_main_op fills a table from an asset
    legacy_init_op    the same as old versions wrote it
    loops             a while loop and a cond of control flow v1
    pixels            image uint8[?,4,4,3] -> mean float32[?]
    named             signatures `score` and `embed`, no default
    text_form         no_variables as saved_model.pbtxt
    frozen            graph.pb, graph.pbtxt (frozen, of ref_variables), unfrozen.pb; placeholders `x`, `keep_prob`
    hub1, hub1_tags   modules of TensorFlow Hub's first format
    hub2, hub2_many   SavedModels of TensorFlow 2 with __call__ and no signatures: one way to be called, and four
    hub_cache         hub2 and its descriptor in a directory called after a hash
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import tensorflow as tf
from google.protobuf.any_pb2 import Any as Packed
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

v1 = tf.compat.v1
W = np.array([[1.0, -2.0, 0.5], [3.0, 4.0, -1.0]], np.float32)
B = np.array([0.1, 0.2, 0.3], np.float32)
COLOURS = "red\ngreen\nblue\n"
HASH = "9616fd04ec2360621642ef9455b84f4b668e219e"


def predict(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    return v1.saved_model.predict_signature_def(dict(inputs), dict(outputs))


def write(directory: Path, session: Any, signatures: Mapping[str, Any], tags: Sequence[str] = ("serve",),
          **options: Any) -> None:
    builder = v1.saved_model.Builder(str(directory))
    builder.add_meta_graph_and_variables(session, list(tags), dict(signatures), strip_default_attrs=True, **options)
    builder.save()


def dense(resource: bool = False, partitions: int = 0) -> tuple[Any, Any]:
    partitioner = v1.fixed_size_partitioner(partitions) if partitions else None
    x = v1.placeholder(tf.float32, [None, 2], name="x")
    with v1.variable_scope("layer", partitioner=partitioner, use_resource=resource):
        w = v1.get_variable("w", [2, 3], initializer=_slice if partitions else v1.constant_initializer(W))
    b = v1.get_variable("b", initializer=tf.constant(B), use_resource=resource)
    return x, tf.add(tf.matmul(x, tf.convert_to_tensor(w)), b, name="y")


def _slice(shape: Any, dtype: Any, partition_info: Any) -> Any:
    first = partition_info.var_offset[0]
    return tf.constant(W[first:first + shape[0]], dtype)


def variables(out: Path) -> None:
    for name, options in (("ref_variables", {}), ("resource_variables", {"resource": True}),
                          ("partitioned", {"partitions": 2})):
        with tf.Graph().as_default(), v1.Session() as session:
            x, y = dense(**options)
            session.run(v1.global_variables_initializer())
            write(out / name, session, {"serving_default": predict({"x": x}, {"y": y})})


def no_variables(out: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        write(out / "no_variables", session, {"serving_default": predict({"x": x}, {"y": x * 2})})
    text = out / "text_form"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        builder = v1.saved_model.Builder(str(text))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": predict({"x": x}, {"y": x * 2})})
        builder.save(as_text=True)


def columns(vocabulary: Path) -> list[Any]:
    fc = tf.feature_column
    colour = fc.categorical_column_with_vocabulary_file("colour", str(vocabulary), num_oov_buckets=1)
    height = fc.numeric_column("height")
    return [height, fc.bucketized_column(height, [1.0, 2.0]), fc.indicator_column(colour),
            fc.embedding_column(colour, 2)]


def scores(features: Mapping[str, Any], vocabulary: Path) -> tuple[Any, Any]:
    net = v1.feature_column.input_layer(dict(features), columns(vocabulary))
    w = v1.get_variable("head", [net.shape[1], 3], initializer=v1.ones_initializer())
    logits = tf.matmul(net, w) * tf.constant([[1.0, -1.0, 0.5]])
    return logits, tf.nn.softmax(logits)


def estimator(out: Path) -> None:
    vocabulary = out / "colours.txt"
    vocabulary.write_text(COLOURS)
    build = v1.saved_model
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="input_example_tensor")
        spec = v1.feature_column.make_parse_example_spec(columns(vocabulary))
        logits, probabilities = scores(v1.parse_example(examples, spec), vocabulary)
        labels = tf.tile(tf.constant([["a", "b", "c"]]), [tf.shape(logits)[0], 1])
        classify = build.classification_signature_def(examples, labels, probabilities)
        best = tf.argmax(logits, 1)
        _ready(session)
        write(out / "estimator", session, {
            "serving_default": classify, "classification": classify,
            "regression": build.regression_signature_def(examples, logits[:, :1]),
            "predict": predict({"examples": examples}, {
                "logits": logits, "probabilities": probabilities, "class_ids": tf.expand_dims(best, 1),
                "classes": tf.expand_dims(tf.as_string(best), 1)})},
            main_op=v1.tables_initializer(), assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS))
    with tf.Graph().as_default(), v1.Session() as session:
        raw = {"height": v1.placeholder(tf.float32, [None, 1], name="height"),
               "colour": v1.placeholder(tf.string, [None, 1], name="colour")}
        _, probabilities = scores(raw, vocabulary)
        _ready(session)
        write(out / "receiver", session, {"serving_default": predict(raw, {"probabilities": probabilities})},
              main_op=v1.tables_initializer(), assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS))
    vocabulary.unlink()


def _ready(session: Any) -> None:
    v1.set_random_seed(3)
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])


def meta_graphs(out: Path) -> None:
    builder = v1.saved_model.Builder(str(out / "meta_graphs"))
    alone = v1.saved_model.Builder(str(out / "tagged_gpu"))
    for tags, factor in ((["serve"], 2.0), (["serve", "gpu"], 3.0), (["train"], 1.0)):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None], name="x")
            scale = v1.get_variable("scale", initializer=10.0)
            outputs = {"y": x * (factor + scale)} | ({"step": tf.constant([7])} if tags == ["train"] else {})
            session.run(v1.global_variables_initializer())
            signatures = {"serving_default": predict({"x": x}, outputs)}
            if tags == ["serve"]:
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
            if "gpu" in tags:
                alone.add_meta_graph_and_variables(session, tags, signatures)
    builder.save()
    alone.save()


def _table(file: Any, missing: int = -1) -> Any:
    index = tf.lookup.TextFileIndex
    return v1.lookup.StaticHashTable(v1.lookup.TextFileInitializer(
        file, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER), missing)


def tables(out: Path) -> None:
    file = out / "words.txt"
    file.write_text("the\nquick\nbrown\nfox\n")
    for name in ("main_op", "legacy_init_op"):
        with tf.Graph().as_default(), v1.Session() as session:
            asset = tf.constant(str(file), name="words_file")
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
            table = _table(asset)
            words = v1.placeholder(tf.string, [None], name="words")
            signatures = {"serving_default": predict({"words": words}, {"ids": table.lookup(words)})}
            session.run(v1.tables_initializer())
            option = {"main_op": v1.tables_initializer()} if name == "main_op" else \
                {"legacy_init_op": v1.tables_initializer(), "clear_devices": True}
            write(out / name, session, signatures, assets_collection=[asset], **option)
    file.unlink()


def loops(out: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        total = tf.while_loop(lambda i, s: i < 5, lambda i, s: (i + 1, s + x), (0, tf.zeros_like(x)))[1]
        big = v1.cond(tf.reduce_sum(x) > 10.0, lambda: x - 10.0, lambda: x + 10.0)
        write(out / "loops", session, {"serving_default": predict({"x": x}, {"total": total, "shifted": big})})


def pixels(out: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.uint8, [None, 4, 4, 3], name="image_tensor")
        mean = tf.reduce_mean(tf.cast(image, tf.float32) / 255.0, [1, 2, 3])
        write(out / "pixels", session, {"serving_default": predict({"image": image}, {"mean": mean})})


def named(out: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        write(out / "named", session, {"score": predict({"x": x}, {"score": tf.reduce_sum(x, 1)}),
                                       "embed": predict({"x": x}, {"vector": x * 2})})


def frozen(out: Path) -> None:
    directory = out / "frozen"
    directory.mkdir()
    with tf.Graph().as_default() as graph, v1.Session() as session:
        _, y = dense()
        keep = v1.placeholder_with_default(1.0, [], name="keep_prob")
        tf.nn.softmax(y * keep, name="tower/probs")
        tf.argmax(y, 1, name="tower/best")
        session.run(v1.global_variables_initializer())
        (directory / "unfrozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
        constant = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(),
                                                                ["tower/probs", "tower/best"])
    v1.train.write_graph(constant, str(directory), "graph.pb", as_text=False)
    v1.train.write_graph(constant, str(directory), "graph.pbtxt", as_text=True)


def hub1(out: Path) -> None:
    """As tensorflow_hub 0.12 did in saved_model_lib.export: no saver in the graphs, assets in a collection."""
    for name, all_tags in (("hub1", [[]]), ("hub1_tags", [[], ["train"]])):
        directory = out / name
        (directory / "assets").mkdir(parents=True)
        (directory / "variables").mkdir()
        (directory / "assets" / "words.txt").write_text("the\nquick\nbrown\nfox\n")
        (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
        proto = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        for tags in all_tags:
            with tf.Graph().as_default(), v1.Session() as session:
                _module(session, proto, directory, tags)
        (directory / "saved_model.pb").write_bytes(proto.SerializeToString())


def _module(session: Any, proto: Any, directory: Path, tags: Sequence[str]) -> None:
    file = tf.constant(str(directory / "assets" / "words.txt"), name="words_file")
    v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file)
    table = _table(file, 0)
    text = v1.placeholder(tf.string, [None], name="text")
    embedding = v1.get_variable("embedding", initializer=tf.reshape(tf.range(8.0), [4, 2]))
    rows = tf.gather(embedding, table.lookup(text))
    if "train" in tags:
        rows = tf.nn.dropout(rows, rate=0.5)
    twice = rows * 2
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])
    v1.train.Saver().save(session, str(directory / "variables" / "variables"), write_meta_graph=False,
                          write_state=False)
    meta = v1.train.export_meta_graph(strip_default_attrs=True, clear_devices=True)
    meta.meta_info_def.tags.extend(tags)
    meta.signature_def["default"].CopyFrom(predict({"text": text}, {"default": rows}))
    meta.signature_def["double"].CopyFrom(predict({"text": text}, {"default": twice}))
    del meta.collection_def["asset_filepaths"]
    packed = Packed()
    packed.Pack(meta_graph_pb2.AssetFileDef(filename="words.txt", tensor_info=v1.saved_model.build_tensor_info(file)))
    meta.collection_def["saved_model_assets"].any_list.value.append(packed)
    for node in meta.graph_def.node:
        if node.name == "words_file":
            node.attr["value"].tensor.string_val[0] = b"SAVEDMODEL-ASSET"
    proto.meta_graphs.append(meta)


def hub2(out: Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(W)

    one, many = Module(), Module()
    one.__call__ = tf.function(lambda x: x @ one.w, input_signature=[tf.TensorSpec([None, 2], tf.float32)])

    @tf.function
    def call(x: Any, training: bool = False) -> Any:
        return {"default": x @ many.w * (2.0 if training else 1.0)}

    many.__call__ = call
    for shape in ([None, 2], [None, None, 2]):
        for training in (False, True):
            call.get_concrete_function(tf.TensorSpec(shape, tf.float32), training=training)
    tf.saved_model.save(one, str(out / "hub2"))
    tf.saved_model.save(many, str(out / "hub2_many"))
    shutil.copytree(out / "hub2", out / "hub_cache" / HASH)
    (out / "hub_cache" / f"{HASH}.descriptor.txt").write_text(
        "Module: https://tfhub.dev/google/tiny-dense/1\nDownload Time: 2019-03-05 11:12:13\n")


def build(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    hub2(out)
    v1.disable_v2_behavior()
    for make in (variables, no_variables, estimator, meta_graphs, tables, loops, pixels, named, frozen, hub1):
        make(out)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
