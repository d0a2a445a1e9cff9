"""Which runs are expected to be short."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.engine.pace import Pace, Paces, foreseeable

ROW, ROWS = [np.zeros((1, 784), np.float32)], [np.zeros((32, 784), np.float32)]


def learned(whole: float, own: float | None = None, made: float = 10) -> Pace:
    pace = Pace()
    pace.ran(whole, whole if own is None else own, made)
    return pace


def test_before_the_first_run() -> None:
    assert Pace().brief
    assert not Pace().short


@pytest.mark.parametrize(("pace", "brief", "short"), [
    (learned(5e-5), True, True),
    (learned(5e-4), True, False),
    (learned(5e-3), False, False),
    (learned(5e-3, own=5e-5), False, False),  # it waited for other threads' work
    (learned(8e-4, own=5e-5), True, True),
    (learned(5e-5, made=5000), True, False),
])
def test_the_last_run_tells(pace: Pace, brief: bool, short: bool) -> None:
    assert (pace.brief, pace.short) == (brief, short)


def test_a_first_run_that_made_kernels_and_one_that_waited_are_forgotten() -> None:
    pace = learned(2e-2)
    pace.ran(5e-5, 4e-5, 10)
    assert pace.short
    pace.ran(5e-3, 4e-5, 10)  # for Python's lock, since it worked no longer than before
    assert pace.short
    pace.ran(5e-3, 5e-3, 10)
    assert pace.short
    for _ in range(10):
        pace.ran(5e-3, 5e-3, 10)
    assert not pace.short


def test_every_shape_has_its_pace() -> None:
    paces = Paces(foreseeable=True)
    paces.of(ROW).ran(5e-5, 5e-5, 10)
    assert paces.is_short(ROW)
    assert not paces.is_short(ROWS)
    paces.of(ROWS).ran(5e-3, 5e-3, 320)
    assert paces.is_short(ROW)
    assert not paces.is_short(ROWS)


def test_what_cant_be_foreseen_or_is_long_to_read_is_never_short() -> None:
    text, many = [np.array([b"a"], object)], [np.zeros(100_000, np.float32)]
    for known, fed in ((False, ROW), (True, text), (True, many)):
        paces = Paces(known)
        paces.of(fed).ran(5e-5, 5e-5, 10)
        assert not paces.is_short(fed)


def test_shapes_dont_pile_up() -> None:
    paces = Paces(foreseeable=True)
    for size in range(1000):
        paces.of([np.zeros(size, np.float32)])
    assert len(paces._by_shapes) <= 64


DENSE = ["BiasAdd", "Const", "MatMul", "MergeV2Checkpoints", "Placeholder", "ReadVariableOp", "Relu", "RestoreV2",
         "SaveV2", "Softmax", "StatefulPartitionedCall", "VarHandleOp", "BatchMatMulV2", "FusedBatchNormV3"]


@pytest.mark.parametrize("op", [
    "While", "StatelessWhile", "Enter", "For", "QueueDequeueV2", "EagerPyFunc", "BatchFunction", "IteratorGetNext",
    "Recv", "Unstage", "If", "StatelessIf", "Fill", "Range", "Tile", "BroadcastTo", "RandomUniform", "Where",
    "DecodeJpeg", "ReadFile", "MutexLock", "ParseExampleV2", "StringSplitV2", "TensorListReserve", "Assert",
    "UnheardOf"])
def test_graphs_whose_time_depends_on_values(op: str) -> None:
    assert foreseeable(DENSE)
    assert not foreseeable([*DENSE, op])


def test_of_an_unknown_graph_nothing_is_expected() -> None:
    assert not foreseeable([])
