"""What runs without being asked for: hidden calls, circles, work at load, warm-up. None passes; what is usual does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import checks, goldens
from deploy.checks import Severity
from deploy.wire import records
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_pb2 import MetaGraphDef
from tests.support import checks as make
from tests.support import savedmodel as support
from tests.support.checks import SERVER, at_load, check, fine, found, refused

ERROR, WARNING = Severity.ERROR, Severity.WARNING


# Calls that don't look like calls

def as_an_attribute_of_a_function(meta: MetaGraphDef) -> None:
    meta.graph_def.library.function[0].node_def[0].attr["f"].func.attr["g"].func.name = "evil"


def in_a_list_of_a_functions_attribute(meta: MetaGraphDef) -> None:
    called = meta.graph_def.library.function[0].node_def[0].attr["f"].func
    called.attr["g"].list.func.add(name="Neg").attr["h"].func.name = "evil"


def by_the_function_itself(meta: MetaGraphDef) -> None:
    meta.graph_def.library.function[1].attr["_f"].func.name = "evil"


def by_an_argument(meta: MetaGraphDef) -> None:
    meta.graph_def.library.function[1].arg_attr[0].attr["_f"].list.func.add(name="evil")


def by_a_gradient(meta: MetaGraphDef) -> None:
    meta.graph_def.library.gradient.add(function_name="inner", gradient_func="evil")


def by_a_placeholder_op(meta: MetaGraphDef) -> None:
    """A function named as an op, whose caller says what its placeholder stands for."""
    function = meta.graph_def.library.function[1]
    function.node_def.add(name="call", op="generic").attr["f"].func.name = "evil"
    generic = make.function(meta, "generic")
    generic.node_def.add(name="run", op="PartitionedCall").attr["f"].placeholder = "f"


def by_a_huge_attribute(meta: MetaGraphDef) -> None:
    node = meta.graph_def.library.function[1].node_def.add(name="big", op="PartitionedCall")
    node.attr["f"].func.name = "evil"
    node.attr["f"].func.attr["note"].s = bytes(1 << 17)
    node.attr["_filling"].s = bytes(3 << 20)


def in_a_huge_list(meta: MetaGraphDef) -> None:
    node = meta.graph_def.library.function[1].node_def.add(name="big", op="Case")
    for _ in range(30_000):
        node.attr["branches"].list.func.add(name="harmless")
    node.attr["branches"].list.func.add(name="evil")
    node.attr["_filling"].s = bytes(3 << 20)
    make.function(meta, "harmless", "NoOp")


def by_an_op_that_isnt_known(meta: MetaGraphDef) -> None:
    meta.graph_def.library.function[1].node_def.add(name="own", op="Own").attr["f"].func.attr["f"].func.name = "evil"


def in_place_of_another(meta: MetaGraphDef) -> None:
    """The runtime takes one of the functions that implement the same."""
    for name in (1, 2):
        meta.graph_def.library.function[name].attr["api_implements"].s = b"lstm"


CALLS = [as_an_attribute_of_a_function, in_a_list_of_a_functions_attribute, by_the_function_itself, by_an_argument,
         by_a_gradient, by_a_placeholder_op, by_a_huge_attribute, in_a_huge_list, by_an_op_that_isnt_known,
         in_place_of_another]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("op", ["WriteFile", "SaveV2"])
def test_hidden_calls(tmp_path: Path, call: Callable[[MetaGraphDef], None], op: str) -> None:
    """SaveV2 is harmless where nobody comes: so here somebody comes."""
    meta = make.serves("Relu")
    make.function(meta, "evil", op)
    call(meta)
    report = refused(tmp_path, meta, "file-write")
    said = next(f.message for f in report.findings if f.rule == "file-write")
    assert "is asked for" in said or "instead of another" in said


def test_the_gradient_of_a_function_named_late(tmp_path: Path) -> None:
    """Fields of a message may come in any order, and more than once."""
    meta = make.serves("Relu")
    make.function(meta, "evil", "SaveV2")
    by_a_gradient(meta)
    library = meta.graph_def.library
    gradient = type(library)(gradient=library.gradient).SerializeToString()
    functions = type(library)(function=library.function).SerializeToString()
    library.Clear()
    library.MergeFromString(gradient + functions)
    refused(tmp_path, meta, "file-write")


def test_what_nothing_calls_in_the_main_graph(tmp_path: Path) -> None:
    """An input pipeline that a graph of TensorFlow 1 was trained with: TensorFlow prunes it."""
    meta = make.serves("Relu")
    make.text(make.node(meta, "path", "Const"), "/data/train.tfrecord")
    make.node(meta, "records", "TFRecordDataset", "path")
    make.node(meta, "map", "MapDataset", "records").attr["f"].func.name = "decode"
    make.function(meta, "decode", "ReadFile", arguments=("path",)).node_def[0].input.append("path")
    make.node(meta, "summary", "WriteScalarSummary")
    assert set(found(check(tmp_path, meta)).values()) == {WARNING}


@pytest.mark.parametrize(("method", "named"), [("", True), ("tensorflow/serving/predict", False), ("", False)])
@pytest.mark.parametrize("name", ["__saved_model_train_op", "__saved_model_init_op"])
def test_internal_signatures_that_can_be_asked_for(tmp_path: Path, name: str, method: str, named: bool) -> None:
    """Predict wants a method, Classify an input."""
    meta = make.serves("Relu")
    make.node(meta, "save", "SaveV2")
    signature = meta.signature_def[name]
    signature.method_name, signature.outputs["scores"].name = method, "save:0"
    if named:
        signature.inputs["inputs"].name = "serving_default_x:0"
    if method or named:
        refused(tmp_path, meta, "file-write", f"when {name} is asked for")
    elif name == "__saved_model_train_op":
        fine(tmp_path, meta)


# Circles, depth, and what takes for ever

def chain(meta: MetaGraphDef, length: int, calls: int = 1) -> None:
    make.call(meta, "StatefulPartitionedCall", "f0", "serving_default_x")
    for number in range(length):
        function = make.function(meta, f"f{number}", "NoOp")
        for call in range(calls if number < length - 1 else 0):
            function.node_def.add(name=f"call{call}", op="PartitionedCall").attr["f"].func.name = f"f{number + 1}"


@pytest.mark.parametrize(("length", "calls", "ok"), [(200, 1, True), (201, 1, False), (5_000, 1, False), (12, 2, True),
                                                     (30, 2, False)])
def test_functions_that_call_functions(tmp_path: Path, length: int, calls: int, ok: bool) -> None:
    meta = make.model()
    chain(meta, length, calls)
    assert found(check(tmp_path, meta)) == ({} if ok else {"ends-server": ERROR})


@pytest.mark.parametrize("way", ["itself", "other", "gradient", "unreached", "op"])
def test_circles(tmp_path: Path, way: str) -> None:
    meta = make.serves("Relu")
    inner = meta.graph_def.library.function[1]
    if way == "gradient":
        meta.graph_def.library.gradient.add(function_name="inner", gradient_func="outer")
    elif way == "op":
        inner.node_def.add(name="again", op="outer")
    elif way == "unreached":
        make.function(meta, "never").node_def.add(name="again", op="If").attr["then_branch"].func.name = "never"
    else:
        inner.node_def.add(name="again", op="While").attr["body"].func.name = "inner" if way == "itself" else "outer"
    refused(tmp_path, meta, "ends-server", "in a circle")


@pytest.mark.parametrize("op", ["While", "StatelessWhile", "For", "NextIteration", "ReduceDataset",
                                "InitializeTableFromDataset", "IteratorGetNext", "DatasetToSingleElement"])
def test_work_without_end_at_load(tmp_path: Path, op: str) -> None:
    """A request that loops is usual; a load is not."""
    fine(tmp_path, make.serves(op))
    meta = make.serves("Relu")
    make.node(meta, "work", op)
    refused(tmp_path, at_load(meta, "work"), "load-ends")


@pytest.mark.parametrize("op", ["QueueDequeueV2", "QueueEnqueueV2", "BarrierTakeMany", "MutexLock", "Unstage",
                                "SleepDataset", "AccumulatorTakeGradient"])
def test_waiting_at_load(tmp_path: Path, op: str) -> None:
    meta = make.serves("Relu")
    make.node(meta, "work", op)
    fine(tmp_path, meta)
    refused(tmp_path, at_load(meta, "work"), "host-only-op", "when the server loads the model")


@pytest.mark.parametrize("load", [False, True])
def test_the_end_of_the_process(tmp_path: Path, load: bool) -> None:
    meta = make.serves("Relu") if load else make.serves("Abort")
    if load:
        make.node(at_load(meta, "end"), "end", "Abort")
    refused(tmp_path, meta, "ends-server", "Abort ends the process")


@pytest.mark.parametrize("op", ["DatasetFromGraph", "DeserializeIterator", "MlirPassthroughOp", "XlaCustomCallV2"])
def test_what_hides_a_graph(tmp_path: Path, op: str) -> None:
    refused(tmp_path, make.serves(op), "opaque")


# Restoring

def restoring(meta: MetaGraphDef, source: str) -> MetaGraphDef:
    make.text(make.node(meta, "prefix", "Const"), "model")
    make.node(meta, "restore", "RestoreV2", source)
    meta.saver_def.filename_tensor_name, meta.saver_def.restore_op_name = "prefix:0", "restore"
    return meta


def test_restoring_reads_the_versions_own_variables(tmp_path: Path) -> None:
    meta = restoring(make.serves("Relu"), "same")
    make.node(meta, "same", "Identity", "prefix")
    fine(tmp_path, meta)


def test_restoring_something_else(tmp_path: Path) -> None:
    meta = restoring(make.serves("Relu"), "other")
    other = make.text(make.node(meta, "other", "Const"), "/models/other/variables")
    refused(tmp_path, meta, "file-read", "'/models/other/variables': not the version's variables")
    other.op = "Placeholder"
    refused(tmp_path, meta, "file-read")
    other.op = "StringJoin"
    other.input.append("prefix")
    refused(tmp_path, meta, "file-read", "computes (StringJoin)")


def test_the_checkpoints_name_is_filled_in_when_it_is_restored_only(tmp_path: Path) -> None:
    """Initialization runs after that, with the constant as it is."""
    meta = restoring(make.serves("Relu"), "prefix")
    refused(tmp_path, at_load(meta, "restore"), "file-read", "not the version's variables")


# Warm-up requests

def session_run() -> bytes:
    log = pb.PredictionLog()
    log.session_run_log.request.target.append("anything")
    return log.SerializeToString()


def test_warm_up_that_runs_a_session(tmp_path: Path) -> None:
    directory = support.save(tmp_path / "model", make.serves("Relu"))
    (directory / "assets.extra").mkdir()
    records.write(directory / goldens.FILE, [session_run()])
    report = checks.check(directory, SERVER)
    assert found(report) == {"warm-up": ERROR}
    assert "record 0: it is a session_run_log" in report.findings[0].message
