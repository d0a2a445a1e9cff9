"""Real models pass; models that TensorFlow itself makes badly don't."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import checks
from deploy.checks import Severity
from deploy.errors import CheckFailed
from deploy.repository import Repository

pytestmark = pytest.mark.tensorflow

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

X = tf.TensorSpec([None], tf.float32, name="x")
SERVERS = [checks.of_version("2.20"), checks.of_version("2.21")]
LOUD = (Severity.ERROR, Severity.WARNING)


def loud(path: Path, server: checks.Target = SERVERS[0]) -> set[tuple[str, Severity]]:
    return {(f.rule, f.severity) for f in checks.check(path, server).findings if f.severity in LOUD}


def saved(tmp_path: Path, function: Callable[..., Any], *specs: Any, module: Any = None, **kept: Any) -> Path:
    """A SavedModel whose serving_default is `function`."""
    module = module or tf.Module()
    for name, value in kept.items():
        setattr(module, name, value)
    module.serve = tf.function(function, input_signature=specs or (X,))
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.serve)
    return tmp_path / "model"


def residual() -> Any:
    """A small ResNet: convolutions, batch normalization, shortcuts, pooling."""
    inputs = x = keras.Input((32, 32, 3), name="image")
    for filters in (8, 16):
        short = keras.layers.Conv2D(filters, 1, strides=2)(x)
        for strides in (2, 1):
            x = keras.layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.Add()([x, short])
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(keras.layers.GlobalAveragePooling2D()(x)))


def mobile() -> Any:
    """A small MobileNet: depthwise convolutions, rescaling, dropout."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 16):
        x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
        x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 1)(x)))
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Dropout(0.2)(keras.layers.Flatten()(x))))


def recurrent() -> Any:
    return keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(50, 8, mask_zero=True),
                             keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True)),
                             keras.layers.GRU(4), keras.layers.Dense(1, "sigmoid")])


def attention() -> Any:
    inputs = keras.Input((6, 8))
    x = keras.layers.LayerNormalization()(keras.layers.MultiHeadAttention(2, 4)(inputs, inputs) + inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling1D()(x)))


def text() -> Any:
    """Words in, a score out: a vocabulary of the layer's own."""
    words = keras.layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    words.adapt(["the quick brown fox", "jumps over the lazy dog"])
    return keras.Sequential([keras.Input((1,), dtype="string"), words, keras.layers.Embedding(20, 4),
                             keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)])


def categories() -> Any:
    """A table of features: lookup, hashing, normalization, discretization."""
    color = keras.Input((1,), dtype="string", name="color")
    size = keras.Input((1,), name="size")
    lookup = keras.layers.StringLookup(vocabulary=["red", "green"], output_mode="one_hot")(color)
    hashed = keras.layers.CategoryEncoding(num_tokens=8, output_mode="one_hot")(keras.layers.Hashing(8)(color))
    binned = keras.layers.CategoryEncoding(num_tokens=4)(keras.layers.Discretization([0.0, 1.0, 2.0])(size))
    scaled = keras.layers.Normalization(mean=1.0, variance=2.0)(size)
    features = keras.layers.Concatenate()([lookup, hashed, binned, scaled])
    return keras.Model([color, size], keras.layers.Dense(1)(features))


@pytest.mark.parametrize("build", [residual, mobile, recurrent, attention, text, categories])
def test_keras_models_pass(tmp_path: Path, build: Callable[[], Any]) -> None:
    model = build()
    if model.trainable_weights:
        model.compile("adam", "mse")
    model.export(str(tmp_path / "model"), verbose=False)
    for server in SERVERS:
        assert loud(tmp_path / "model", server) == set()
    model.save(tmp_path / "model.keras")
    assert loud(tmp_path / "model.keras") == set()


def test_augmentation_makes_keras_export_in_training_mode(tmp_path: Path) -> None:
    """Keras 3.15: the layer's default of training=True is taken by all layers after it."""
    augmented = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.RandomFlip(), keras.layers.BatchNormalization()])
    augmented.export(str(tmp_path / "model"), verbose=False)
    report = checks.check(tmp_path / "model")
    assert loud(tmp_path / "model") == {("changes-state", Severity.WARNING)}
    assert "batch_normalization" in report.findings[0].where.node


def test_the_models_of_the_tests(models: Path) -> None:
    """What they are for: signatures without a default, dtypes without JSON, a single number."""
    by_design = {"loops": {("batch-free", Severity.ERROR)}, "denormals": {("default-signature", Severity.ERROR)},
                 "dtypes": {("default-signature", Severity.ERROR), ("rest-reachable", Severity.WARNING)},
                 "shapes": {("default-signature", Severity.ERROR)}}
    for path in sorted(models.iterdir()):
        assert loud(path) == by_design.get(path.name, set()), path.name


def test_a_file_among_the_assets(tmp_path: Path) -> None:
    """Read when the model loads, and by each request; kept as an asset, both are fine."""
    (tmp_path / "words.txt").write_text("the\nquick\n")
    words = tf.saved_model.Asset(str(tmp_path / "words.txt"))
    path = saved(tmp_path, lambda x: {"text": tf.io.read_file(words), "y": x}, words=words)
    assert loud(path) == set()


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("the\nquick\n")
    path = saved(tmp_path, lambda x: {"text": tf.io.read_file(str(tmp_path / "words.txt")), "y": x})
    report = checks.check(path)
    assert loud(path) == {("asset-path", Severity.ERROR)}
    assert str(tmp_path / "words.txt") in report.findings[0].message


TEXT = tf.TensorSpec([None], tf.string, name="x")


def test_an_asset_read_in_a_loop(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("the\n")
    words = tf.saved_model.Asset(str(tmp_path / "words.txt"))
    path = saved(tmp_path, lambda x: {"y": tf.map_fn(lambda v: tf.strings.join([v, tf.io.read_file(words)]), x)}, TEXT,
                 words=words)
    assert loud(path) == set()


@pytest.mark.parametrize("name", ["beside", "up", "computed table", "cached", "cached where asked", "in a variable"])
def test_a_file_beside_the_assets(tmp_path: Path, name: str) -> None:
    (tmp_path / "words.txt").write_text("the\n")
    words, secret = tf.saved_model.Asset(str(tmp_path / "words.txt")), tf.Variable("/etc/passwd")
    join = tf.strings.join

    def table(x: Any) -> Any:
        handle = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
        tf.raw_ops.InitializeTableFromTextFileV2(table_handle=handle, filename=join([words, "/../../../etc/passwd"]),
                                                 key_index=-2, value_index=-1)
        return tf.raw_ops.LookupTableFindV2(table_handle=handle, keys=x, default_value=tf.constant(-1, tf.int64))

    def cached(x: Any, file: Any) -> Any:
        return tf.data.Dataset.from_tensor_slices(x).cache(file).reduce("", lambda a, b: join([a, b]))

    functions: dict[str, Callable[[Any], Any]] = {
        "beside": lambda x: tf.io.read_file(join([words, "/../other.txt"])),
        "up": lambda x: tf.io.read_file(tf.strings.regex_replace(words, "words.txt", "../secret")),
        "computed table": table, "cached": lambda x: cached(x, "/tmp/cache"), "cached where asked": lambda x:
        cached(x, x[0]), "in a variable": lambda x: tf.io.read_file(secret)}
    path = saved(tmp_path, lambda x: {"y": functions[name](x), "x": tf.identity(x)}, TEXT, words=words, secret=secret)
    rule = "file-write" if "cached" in name else "file-read"
    assert (rule, Severity.ERROR) in loud(path)


def test_compiled_functions_and_rare_types(tmp_path: Path) -> None:
    def compute(x: Any) -> Any:
        half = tf.matmul(tf.cast(x, tf.bfloat16), tf.ones([2, 2], tf.bfloat16))
        summed = tf.function(lambda v: tf.math.segment_sum(v, tf.zeros(tf.shape(v)[:1], tf.int32)), jit_compile=True)(x)
        return {"y": tf.cast(half, tf.float32), "f": tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64))), "s": summed}

    path = saved(tmp_path, compute, tf.TensorSpec([None, 2], tf.float32, name="x"))
    assert loud(path) == {("xla-compilation", Severity.WARNING)}


def test_a_graph_of_tensorflow_1(tmp_path: Path) -> None:
    """tf.Examples in, a vocabulary among the assets, and beside it what it was trained with."""
    v1 = tf.compat.v1
    (tmp_path / "words.txt").write_text("the\nquick\n")
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="examples")
        words = v1.io.parse_example(examples, {"word": v1.io.FixedLenFeature([], tf.string)})["word"]
        vocabulary = tf.constant(str(tmp_path / "words.txt"))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, vocabulary)
        index = tf.lookup.TextFileIndex
        table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
            vocabulary, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER), 0)
        scores = tf.nn.embedding_lookup(v1.get_variable("embedding", [3, 2]), table.lookup(words))
        v1.train.AdamOptimizer().minimize(tf.reduce_sum(scores))
        v1.summary.scalar("loss", tf.reduce_sum(scores))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(tmp_path / "model"))
        signature = v1.saved_model.signature_def_utils.classification_signature_def(examples, None, scores)
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=v1.tables_initializer(),
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS))
        builder.save()
    assert loud(tmp_path / "model") == set()


def nested(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Inside of a loop inside of a branch inside of a map."""
    def loop(v: Any) -> Any:
        return tf.while_loop(lambda v: v < 3, lambda v: (function(v),), [v])[0]

    return lambda x: {"y": tf.map_fn(lambda v: tf.cond(v > 0, lambda: loop(v), lambda: v), x)}


def write(v: Any) -> Any:
    tf.io.write_file("/tmp/out", tf.strings.as_string(v))
    return v + 1


def shout(v: Any) -> Any:
    tf.print(v)
    return v + 1


@pytest.mark.parametrize(("function", "rule", "severity"), [
    (lambda v: tf.numpy_function(lambda a: a + 1, [v], tf.float32), "python-function", Severity.ERROR),
    (lambda v: tf.py_function(lambda a: a + 1, [v], tf.float32), "python-function", Severity.ERROR),
    (lambda v: v + tf.strings.to_number(tf.io.read_file(tf.strings.as_string(v))), "file-read", Severity.ERROR),
    (write, "file-write", Severity.ERROR), (shout, "log-op", Severity.WARNING)])
def test_deep_inside(tmp_path: Path, function: Callable[[Any], Any], rule: str, severity: Severity) -> None:
    path = saved(tmp_path, nested(lambda v: tf.ensure_shape(function(v), [])))
    assert (rule, severity) in loud(path)


def test_a_request_that_trains(tmp_path: Path) -> None:
    module = tf.Module()
    module.w = tf.Variable(1.0)
    optimizer = tf.raw_ops.ResourceApplyGradientDescent

    def step(x: Any) -> Any:
        optimizer(var=module.w.handle, alpha=0.1, delta=tf.reduce_mean(x))
        return {"y": x * module.w}

    assert ("training-op", Severity.ERROR) in loud(saved(tmp_path, step, module=module))


def test_batch_statistics_of_training(tmp_path: Path) -> None:
    layer = keras.layers.BatchNormalization()
    layer.build((None, 4, 4, 3))
    function = lambda x: {"y": tf.compat.v1.nn.fused_batch_norm(x, [1.0] * 3, [0.0] * 3)[0]}  # noqa: E731
    path = saved(tmp_path, function, tf.TensorSpec([None, 4, 4, 3], name="x"))
    assert loud(path) == {("training-op", Severity.WARNING)}


def test_keras_saved_by_tensorflow(tmp_path: Path) -> None:
    """Its variables aren't restored: the model loads and fails every request."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    tf.saved_model.save(model, str(tmp_path / "model"))
    assert ("unrestored", Severity.ERROR) in loud(tmp_path / "model")


def test_a_fixed_batch(tmp_path: Path) -> None:
    assert loud(saved(tmp_path, lambda x: {"y": x}, tf.TensorSpec([1, 3], name="x"))) == {
        ("batch-free", Severity.ERROR)}


def test_a_lambda_layer(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        assert loud(tmp_path / name) == {("keras-code", Severity.ERROR)}


@pytest.mark.parametrize("select", [False, True])
def test_tflite(tmp_path: Path, select: bool) -> None:
    function = tf.function(lambda x: {"y": tf.raw_ops.Erf(x=x) if select else tf.nn.relu(x)}, input_signature=[X])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    if select:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    assert loud(tmp_path / "model.tflite") == ({("tflite-op", Severity.ERROR)} if select else set())


def test_export_refuses_before_anything_is_visible(tmp_path: Path) -> None:
    from deploy.export import export_model

    def speaks(x: Any) -> Any:
        return {"y": x + write(tf.reduce_sum(x))}

    with pytest.raises(CheckFailed, match="file-write: WriteFile writes files, when serving_default is asked for"):
        export_model(tf.function(speaks, input_signature=[X]), tmp_path / "models", "m")
    assert Repository(tmp_path / "models").models() == []
    gate = checks.gate(allow={"file-write": "a scratch file of ours"})
    allowed = export_model(tf.function(speaks, input_signature=[tf.TensorSpec([None], name="x")]),
                           tmp_path / "models", "m",
                           gate=gate, examples=[])
    assert any("a scratch file of ours" in note for note in allowed.notes)


def test_the_kernels_of_the_installed_release() -> None:
    """Of the processor; those of GPUs are in another wheel."""
    from deploy.checks import targets
    from deploy.checks.oplists import make_oplist
    from deploy.engine.library import find, library

    version, found = targets.installed(), find()
    if version not in targets.versions() or found is None:
        pytest.skip(f"there is no op list of TensorFlow {version} yet")
    lines = (line.split() for line in make_oplist._kernels(
        make_oplist._registered(library(), found.parent), set(targets.op_list(version).ops)))
    there = {op: {limit for limit in limits if "=" in limit} for op, device, *limits in lines if device == "CPU"}
    listed = targets.op_list(version).kernels["CPU"]
    assert there.keys() >= listed.keys()  # importing TensorFlow, as this process did, registers more
    for op, limits in listed.items():
        assert {f"{name}={','.join(sorted(types))}" for name, types in limits.items()} == there[op], op


def test_the_op_list_of_the_installed_release() -> None:
    from deploy import engine
    from deploy.checks import targets

    version = targets.installed()
    if version not in targets.versions():
        pytest.skip(f"there is no op list of TensorFlow {version} yet")
    ops, kernels = targets.op_list(version).ops.keys(), targets.op_list(version).kernels
    listed = ops - (kernels["GPU"].keys() - kernels["CPU"].keys())  # some are in wheels for GPUs only
    assert listed <= set(engine.ops())  # importing TensorFlow, as this process did, registers more
    assert len(listed) > 1600
