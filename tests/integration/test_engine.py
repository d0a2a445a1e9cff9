"""The engine on real models: values, dtypes, errors, threads, memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from deploy import engine
from deploy.engine.latency import shapes_of
from deploy.engine.library import library
from deploy.errors import BadRequest
from deploy.waiting import Deadline, poll
from deploy.wire.model_pb2 import SavedModel

pytestmark = pytest.mark.tensorflow

WORDS = [b"", b"a", b"x" * 22, b"y" * 23, b"z" * 100_000, "äöü".encode(), b"\0nul\0"]
VALUES = {
    "float16": np.array([0, -1.5, np.inf], np.float16),
    "bfloat16": np.array([0, -1.5, 3e38], ml_dtypes.bfloat16),
    "float32": np.array([0, -1.5, 1e-40], np.float32),
    "float64": np.array([0, -1.5, 1e308], np.float64),
    **{name: np.array([np.iinfo(name).min, 1, np.iinfo(name).max], name)
       for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    "bool": np.array([True, False, True]),
    "complex64": np.array([0, 1 - 2j], np.complex64),
    "complex128": np.array([0, 1 - 2j], np.complex128),
    "string": np.array(WORDS, object),
}


@pytest.fixture(scope="module")
def dtypes(models: Path):
    with engine.load(models / "dtypes") as session:
        yield session


def identity(session: engine.Session, dtype: str, x: np.ndarray) -> np.ndarray:
    return session.call(session.contract[dtype], {"x": x})["y"]


def test_answers(models: Path) -> None:
    with engine.load(str(models / "half_plus_two")) as session:
        signature = session.contract["serving_default"]
        result = session.call(signature, {"x": np.array([1, 2], np.float32)})
        assert list(result) == ["y"]
        assert result["y"].tolist() == [2.5, 3.0]
        tensors = [signature.outputs[0].tensor] * 2
        one, two = session.run({signature.inputs[0].tensor: np.float32([4])}, tensors)
        assert one.tolist() == two.tolist() == [4.0]


def test_several_inputs_and_outputs(models: Path) -> None:
    with engine.load(models / "two_signatures", intra_op=1, inter_op=1) as session:
        result = session.call(session.contract["scale"], {"factor": np.float32(2), "x": np.ones((2, 3), np.float32)})
    assert result["scaled"].tolist() == [[2.0] * 3] * 2
    assert result["total"].tolist() == [3.0, 3.0]


def test_assets_are_loaded(models: Path) -> None:
    with engine.load(models / "vocabulary") as session:
        words = np.array([b"fox", b"the", b"wolf"], object)
        assert session.call(session.contract["serving_default"], {"words": words})["ids"].tolist() == [3, 0, -1]


@pytest.mark.parametrize("dtype", VALUES)
def test_every_dtype_goes_in_and_comes_out(dtypes: engine.Session, dtype: str) -> None:
    x = VALUES[dtype]
    y = identity(dtypes, dtype, x)
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()
    assert y.flags.writeable
    assert identity(dtypes, dtype, x[:0]).shape == (0,)


def test_strings_may_be_given_as_str_and_fixed_width(dtypes: engine.Session) -> None:
    assert identity(dtypes, "string", np.array(["ä", "b"])).tolist() == ["ä".encode(), b"b"]
    assert identity(dtypes, "string", np.array([b"ab", b"c"])).tolist() == [b"ab", b"c"]
    assert identity(dtypes, "string", np.array(["ä", b"b"], object)).tolist() == ["ä".encode(), b"b"]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 1, 40)])
def test_strings_of_any_shape(dtypes: engine.Session, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    x = np.array([bytes(range(n)) for n in range(size)] + [None], object)[:-1].reshape(shape)
    y = identity(dtypes, "string", x.T).T
    assert y.shape == shape
    assert y.tolist() == x.tolist()


def test_dtypes_that_numpy_has_and_tensorflow_lacks(dtypes: engine.Session) -> None:
    for kind in (np.longdouble, ml_dtypes.float8_e5m2, np.dtype([("a", "i4")]), "timedelta64[s]"):
        with pytest.raises(engine.EngineError, match="no dtype for numpy's") as caught:
            identity(dtypes, "float32", np.zeros(2, kind))
        assert caught.value.code == 3


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 1_000_000])
def test_any_memory_layout_goes_in(dtypes: engine.Session, size: int) -> None:
    raw = np.arange(2 * size + 32, dtype=np.float32)
    for start in range(17):  # one of them is aligned to 64 bytes, so handed over without a copy
        x = raw[start:start + size]
        y = identity(dtypes, "float32", x)
        assert np.array_equal(x, y)
        assert not np.shares_memory(x, y)
        if size > 16_384 and start > 2:
            break
    assert np.array_equal(identity(dtypes, "float32", raw[:2 * size:2]), raw[:2 * size:2])
    swapped = raw[:size].astype(">f4")
    assert np.array_equal(identity(dtypes, "float32", swapped), raw[:size])
    assert not library()._kept


def test_an_aligned_input_is_not_handed_out_again(dtypes: engine.Session) -> None:
    raw = np.empty(200_000, np.float32)
    start = -raw.ctypes.data % 64 // 4
    x = raw[start:start + 100_000]
    x[:] = 1
    y = identity(dtypes, "float32", x)
    x[:] = 2
    assert (y == 1).all()


def test_a_variable_is_not_handed_out(models: Path) -> None:
    graph = SavedModel.FromString((models / "half_plus_two/saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    read = next(f"{node.name}:0" for node in graph.node if node.op == "ReadVariableOp")
    with engine.load(models / "half_plus_two") as session:
        value, = session.run({}, [read])
        value[...] = 9
        assert session.run({}, [read])[0] == 2


def test_a_large_result_outlives_the_session_and_is_freed(models: Path) -> None:
    with engine.load(models / "dtypes") as session:
        y = identity(session, "float64", np.arange(100_000, dtype=np.float64))
    tail = y[-3:]
    del y
    assert tail.tolist() == [99_997, 99_998, 99_999]


def test_scalars_and_unknown_ranks(models: Path) -> None:
    with engine.load(models / "shapes") as session:
        total = session.call(session.contract["scalar_out"], {"x": np.float32([1, 2, 3])})["total"]
        assert total.shape == ()
        assert total == 6
        for shape in ((), (2,), (1, 2, 3, 1)):
            assert session.call(session.contract["unknown_rank"], {"x": np.ones(shape, np.float32)})["y"].shape == shape


def test_wrong_inputs_are_named(models: Path) -> None:
    with engine.load(models / "half_plus_two") as session:
        signature = session.contract["serving_default"]
        for inputs in ({}, {"z": np.float32([1])}, {"x": np.float32([1]), "z": np.float32([1])}):
            with pytest.raises(BadRequest, match=r"takes the inputs \['x'\]"):
                session.call(signature, inputs)
        with pytest.raises(engine.EngineError, match=r"Expects arg.0. to be float but double is provided") as caught:
            session.call(signature, {"x": np.array([1.0])})
        assert caught.value.code == 3
        with pytest.raises(engine.EngineError, match="no dtype for numpy's datetime64"):
            session.call(signature, {"x": np.array(["2026-01-01"], "datetime64[D]")})
        with pytest.raises(engine.EngineError, match="takes bytes or str"):
            session.call(signature, {"x": np.array([1, None], object)})


def test_unknown_tensors_are_named(dtypes: engine.Session) -> None:
    known = dtypes.contract["float32"].inputs[0].tensor
    for name, code in (("nope:0", 3), ("nope", 3), (known.replace(":0", ":9"), 3), (known.replace(":0", ":x"), 3)):
        with pytest.raises(engine.EngineError) as caught:
            dtypes.run({}, [name])
        assert caught.value.code == code
        assert name.partition(":")[0] in str(caught.value)


def test_the_graphs_own_errors_come_through(models: Path) -> None:
    with engine.load(models / "fails") as session:
        signature = session.contract["serving_default"]
        assert session.call(signature, {"x": np.float32([4])})["y"] == 2
        with pytest.raises(engine.EngineError, match="negative input") as caught:
            session.call(signature, {"x": np.float32([-4])})
        assert caught.value.code == 3
        assert session.call(signature, {"x": np.float32([9])})["y"] == 3


def test_a_resource_cannot_leave_the_graph(models: Path) -> None:
    with engine.load(models / "half_plus_two") as session:
        assert not session.metagraph.graph_def.node  # TensorFlow holds the graph; a copy would double it
        graph = SavedModel.FromString((models / "half_plus_two/saved_model.pb").read_bytes()).meta_graphs[0].graph_def
        handle = next(node.name for node in graph.node if node.op == "VarHandleOp")
        with pytest.raises(engine.EngineError, match="dtype resource can't leave") as caught:
            session.run({}, [f"{handle}:0"])
        assert caught.value.code == 12


STATEFUL = """
import sys, tensorflow as tf

class Model(tf.Module):
    def __init__(self):
        self.numbers = tf.Variable(tf.zeros([1]), shape=tf.TensorShape([None]))
        self.words = tf.Variable(tf.constant([""]), shape=tf.TensorShape([None]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.string)])
    def swap(self, x, words):
        old = {"x": tf.identity(self.numbers), "words": tf.identity(self.words)}
        with tf.control_dependencies(old.values()):
            self.numbers.assign(x)
            self.words.assign(words)
        return old

tf.saved_model.save(model := Model(), sys.argv[1], signatures=model.swap)
"""


def test_a_model_that_stores_its_inputs_keeps_them_alive(tmp_path: Path) -> None:
    """A variable may share the fed memory; nothing of it may be freed or reused before the variable changes."""
    subprocess.run([sys.executable, "-c", STATEFUL, str(tmp_path / "1")], check=True, capture_output=True)
    with engine.load(tmp_path / "1") as session:
        signature = session.contract["serving_default"]
        for number in range(4):
            raw = np.full(100_016, number, np.float32)
            start = -raw.ctypes.data % 64 // 4
            words = np.array([b"a rather long word, number %d of %d" % (i, number) for i in range(1000)], object)
            old = session.call(signature, {"x": raw[start:start + 100_000], "words": words})
            if number:
                assert set(old["x"]) == {number - 1}
                assert old["words"][-1] == b"a rather long word, number 999 of %d" % (number - 1)
            del raw, words, old
            assert len([np.full(100_016, 77, np.float32) for _ in range(10)]) == 10  # whoever reuses the memory
        assert len(library()._kept) == 2
    assert not library()._kept


def test_long_runs_spread_over_threads(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run decides about the next one; both ways give the same answer."""
    with engine.load(models / "half_plus_two") as session:
        x, results = {"x": np.float32([1, 2])}, []
        for millisecond in (1e9, 0.0, 0.0, 1e9):
            monkeypatch.setattr("deploy.engine.latency._MILLISECOND", millisecond)
            results.append(session.call(session.contract["serving_default"], x)["y"].tolist())
            plan, = session._plans.values()
            estimate, = plan.latencies._by_shapes.values()
            assert estimate.sub_millisecond is bool(millisecond)
    assert results == [[2.5, 3.0]] * 4


def foreseen_short(session: engine.Session, feeds: Mapping[str, np.ndarray], fetches: list[str]) -> bool:
    estimate = session.latency(list(feeds), fetches, shapes_of(feeds.values()))
    return estimate is not None and estimate.short


def test_short_runs_are_foreseen(models: Path) -> None:
    with engine.load(models / "mnist") as mnist, engine.load(models / "loops") as loops, \
            engine.load(models / "vocabulary") as vocabulary:

        def is_short(session: engine.Session, **inputs: np.ndarray) -> bool:
            signature = session.contract["serving_default"]
            feeds = {spec.tensor: inputs[spec.name] for spec in signature.inputs}
            fetches = [spec.tensor for spec in signature.outputs]
            assert not foreseen_short(session, feeds, fetches)
            for _ in range(20):
                session.run(feeds, fetches)
            return foreseen_short(session, feeds, fetches)

        assert is_short(mnist, pixels=np.ones((1, 784), np.float32))
        assert not is_short(mnist, pixels=np.ones((5000, 784), np.float32))
        assert not is_short(loops, times=np.int64(1))  # the next may be a billion
        assert not is_short(vocabulary, words=np.array([b"fox"], object))


def test_no_run_is_short_beside_a_long_one(models: Path) -> None:
    """It may have to wait for TensorFlow's threads."""
    with engine.load(models / "mnist") as mnist, engine.load(models / "loops") as loops, ThreadPoolExecutor(1) as pool:
        signature = mnist.contract["serving_default"]
        feeds = {signature.inputs[0].tensor: np.ones((1, 784), np.float32)}
        fetches = [signature.outputs[0].tensor]

        def is_short() -> bool:
            return foreseen_short(mnist, feeds, fetches)

        for _ in range(20):
            mnist.run(feeds, fetches)
        assert is_short()
        long = pool.submit(loops.call, loops.contract["serving_default"], {"times": np.int64(1_000_000)})
        assert poll(lambda: not is_short() or None, Deadline(10))
        long.result(60)
        assert is_short()


def broken(models: Path, tmp_path: Path, name: str = "mnist") -> Path:
    return Path(shutil.copytree(models / name, tmp_path / "model"))


def test_load_errors_carry_code_and_text(models: Path, tmp_path: Path) -> None:
    with pytest.raises(engine.EngineError, match="Could not find SavedModel") as caught:
        engine.load(tmp_path / "absent")
    assert caught.value.code == 5
    with pytest.raises(engine.EngineError, match=r"matching supplied tags: { gpu }"):
        engine.load(models / "mnist", tags=["gpu"])
    model = broken(models, tmp_path)
    data = model / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(engine.EngineError) as caught:
        engine.load(model)
    assert caught.value.code == 11
    (model / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(engine.EngineError, match="Can't parse"):
        engine.load(model)


def test_many_threads_share_a_session(dtypes: engine.Session) -> None:
    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for size in (1, 7, 20_000, 100_000):
            for _ in range(5):
                x = random.random(size)
                assert np.array_equal(identity(dtypes, "float64", x), x)
            words = np.array([str(v).encode() * 3 for v in random.random(50)], object)
            assert identity(dtypes, "string", words).tolist() == words.tolist()
        done.append(seed)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
    assert not library()._kept


def test_close_waits_for_runs_and_refuses_new_ones(models: Path) -> None:
    session = engine.load(models / "mnist")
    signature = session.contract["serving_default"]
    x = np.zeros((500, 784), np.float32)
    refusals: list[engine.EngineError] = []
    started = threading.Barrier(5)

    def work() -> None:
        started.wait()
        while True:
            try:
                assert session.call(signature, {"pixels": x})["probs"].shape == (500, 10)
            except engine.EngineError as error:
                refusals.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    session.close()
    for thread in threads:
        thread.join()
    session.close()
    assert [(e.code, e.status) for e in refusals] == [(1, "Session has been closed.")] * 4
    with pytest.raises(engine.EngineError, match="closed"):
        session.run({}, ["new:0"])


ALONE = """
import sys, numpy as np, psutil
from deploy import engine
engine.quiet()
me, sizes = psutil.Process(), []
for _ in range(30):
    with engine.load(sys.argv[1]) as session:
        session.call(session.contract["serving_default"], {"pixels": np.zeros((64, 784), np.float32)})
    sizes.append(me.memory_info().rss)
assert not {"tensorflow", "keras", "grpc"} & set(sys.modules), "imported"
print((sizes[-1] - sizes[2]) >> 10)
"""


def test_thirty_loads_leave_no_memory_behind_and_no_tensorflow_in_python(models: Path) -> None:
    run = subprocess.run([sys.executable, "-c", ALONE, str(models / "mnist")], check=True, capture_output=True,
                         text=True, cwd=Path(__file__).parents[2])
    assert int(run.stdout) < 8_000, "kB more after the 30th load than after the 3rd"
    assert run.stderr == ""


def test_beside_tensorflows_own_python(models: Path) -> None:
    script = """
import sys, numpy as np
from deploy import engine
def ours():
    with engine.load(sys.argv[1]) as s:
        return s.call(s.contract["serving_default"], {"x": np.float32([2])})["y"].tolist()
def theirs():
    import tensorflow as tf
    return tf.saved_model.load(sys.argv[1]).signatures["serving_default"](x=tf.constant([2.0]))["y"].numpy().tolist()
steps = {"ours": ours, "theirs": theirs}
for name in sys.argv[2].split(","):
    assert steps[name]() == [3.0]
"""
    for order in ("ours,theirs,ours", "theirs,ours,theirs"):
        subprocess.run([sys.executable, "-c", script, str(models / "half_plus_two"), order], check=True,
                       cwd=Path(__file__).parents[2])


def test_facts_about_the_library() -> None:
    assert engine.available() is None
    assert engine.version().startswith("2.")
    names = engine.ops()
    assert names == sorted(names)
    assert {"MatMul", "PyFunc", "Placeholder"} <= set(names)


# -- ops that this TensorFlow doesn't have

UNREGISTERED = "Op type not registered 'NoSuchOp' in binary running on "


def with_unknown_op(model: Path, made: Path, old: str, function: str = "") -> Path:
    """The model with the op `old` renamed in the functions whose name has `function`; "graph": in the main graph."""
    shutil.copytree(model, made)
    saved = SavedModel.FromString((made / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = list(graph.node) if function == "graph" else [
        node for f in graph.library.function if function in f.signature.name for node in f.node_def]
    found = [node for node in nodes if node.op == old]
    assert found
    for node in found:
        node.op = "NoSuchOp"
    (made / "saved_model.pb").write_bytes(saved.SerializeToString())
    return made


def test_an_unknown_op_in_a_function_fails_the_runs_that_reach_it(models: Path, tmp_path: Path) -> None:
    with engine.load(with_unknown_op(models / "half_plus_two", tmp_path / "m", "AddV2")) as session:
        for _ in range(2):
            with pytest.raises(engine.EngineError) as caught:
                session.call(session.contract["serving_default"], {"x": np.ones(1, np.float32)})
            assert caught.value.code == 5
            assert caught.value.status.startswith(UNREGISTERED)


def test_other_signatures_of_it_go_on(models: Path, tmp_path: Path) -> None:
    made = with_unknown_op(models / "two_signatures", tmp_path / "m", "Sum")
    x = np.ones((1, 3), np.float32)
    with engine.load(models / "two_signatures") as session:
        expected = session.call(session.contract["serving_default"], {"x": x})["y"]
    with engine.load(made) as session:
        assert session.call(session.contract["serving_default"], {"x": x})["y"].tolist() == expected.tolist()
        with pytest.raises(engine.EngineError, match=UNREGISTERED):
            session.call(session.contract["scale"], {"x": x, "factor": np.float32(2)})


def test_assets_and_tables_of_it_are_there(models: Path, tmp_path: Path) -> None:
    words = {"words": np.array([b"a", b"nowhere"], object)}
    with engine.load(models / "vocabulary") as session:
        expected = session.call(session.contract["serving_default"], words)["ids"].tolist()
    made = with_unknown_op(models / "vocabulary", tmp_path / "m", "MergeV2Checkpoints", "save")
    with engine.load(made) as session:
        assert session.call(session.contract["serving_default"], words)["ids"].tolist() == expected


@pytest.mark.parametrize(("old", "function"), [("RestoreV2", "restore"), ("StatefulPartitionedCall", "graph")])
def test_an_unknown_op_that_the_load_needs_refuses_it(models: Path, tmp_path: Path, old: str, function: str) -> None:
    made = with_unknown_op(models / "half_plus_two", tmp_path / "m", old, function)
    with pytest.raises(engine.EngineError, match=UNREGISTERED) as caught:
        engine.load(made)
    assert caught.value.code == 5


def test_a_run_is_stopped_when_its_time_is_over(models: Path) -> None:
    with engine.load(models / "loops") as session:
        signature = session.contract["serving_default"]
        for _ in range(2):
            with pytest.raises(engine.EngineError, match="Timed out waiting for notification") as caught:
                session.run({signature.inputs[0].tensor: np.int64(2**60)}, [signature.outputs[0].tensor], timeout=0.05)
            assert caught.value.code == 4
        assert session.run({signature.inputs[0].tensor: np.int64(3)}, [signature.outputs[0].tensor], timeout=60) == [3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_zero_in_whichever_thread_the_ops_run(models: Path, dtype: str) -> None:
    """TensorFlow's own threads flush them; the first runs of a graph, and short ones, stay in the calling thread."""
    tiny = np.array([np.finfo(dtype).tiny / 4, -np.finfo(dtype).tiny / 4, 1], dtype)
    with engine.load(models / "denormals") as session:
        signature = session.contract[dtype]
        for here in (True, False):
            if not here:
                session._tf.flushing.available, before = False, session._tf.flushing.available
            try:
                for _ in range(3):
                    (result,) = session.call(signature, {"x": tiny}).values()
                    assert result.tolist() == [0, 0, 2**20]
            finally:
                if not here:
                    session._tf.flushing.available = before
    assert (tiny[:2] * 1).all()  # this thread's own arithmetic is what it was


@pytest.mark.parametrize(("tensor", "shown"), [("gone:0", "gone:0"), ("gone", "gone:0"), ("", ":0")])
def test_a_tensor_that_isnt_there(models: Path, tensor: str, shown: str) -> None:
    with engine.load(models / "half_plus_two") as session, pytest.raises(engine.EngineError) as caught:
        session.run({}, [tensor])
    assert (caught.value.code, caught.value.status) == (
        3, f"Tensor {shown}, specified in either feed_devices or fetch_devices was not found in the Graph")
