"""Which runs are expected to be short."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.engine.pace import Pace, open_ended, volume


def test_the_last_run_tells() -> None:
    pace = Pace()
    assert pace.brief
    assert not pace.expects_short(8)  # nothing ran yet
    pace.ran(5e-3, 8, 8)  # as first runs are
    assert not pace.brief
    assert not pace.expects_short(8)
    pace.ran(5e-5, 8, 8)
    assert pace.brief
    assert pace.expects_short(8)


def test_more_takes_longer() -> None:
    pace = Pace()
    pace.ran(1e-4, 100_000, 8)
    assert pace.expects_short(1)
    assert pace.expects_short(200_000)
    assert not pace.expects_short(300_000)


def test_long_inputs_and_outputs_arent_short() -> None:
    pace = Pace()
    pace.ran(1e-5, 8, 8)
    assert not pace.expects_short(1_000_000)
    assert not pace.expects_short(volume([np.array([b"a"], object)]))
    pace.ran(1e-5, 8, 1_000_000)
    assert not pace.expects_short(8)
    pace.ran(1e-5, 2000, 200_000)
    assert pace.expects_short(2000)
    assert not pace.expects_short(4000)


def test_once_bitten() -> None:
    pace = Pace()
    pace.ran(1e-4, 8, 8)
    pace.ran(1e-2, 8, 8)  # may happen: new kernels for a new size
    pace.ran(1e-4, 8, 8)
    assert pace.expects_short(8)
    pace.ran(1.0, 8, 8)
    pace.ran(1e-4, 8, 8)
    assert not pace.expects_short(8)
    assert pace.brief


def test_a_long_run_that_was_expected_is_no_surprise() -> None:
    pace = Pace()
    pace.ran(1e-4, 1024, 8)
    pace.ran(1.0, 100_000_000, 8)
    pace.ran(1e-4, 1024, 8)
    assert pace.expects_short(1024)


DENSE = ["BiasAdd", "Const", "MatMul", "MergeV2Checkpoints", "Placeholder", "ReadVariableOp", "Relu", "RestoreV2",
         "SaveV2", "Softmax", "StatefulPartitionedCall", "VarHandleOp", "BatchMatMulV2", "FusedBatchNormV3", "If"]


@pytest.mark.parametrize("op", ["While", "StatelessWhile", "Enter", "For", "QueueDequeueV2", "BarrierTakeMany",
                                "EagerPyFunc", "BatchFunction", "ReduceDataset", "IteratorGetNext", "_Recv", "Unstage",
                                "MapUnstage", "ReadFile", "MutexLock", "ResourceAccumulatorTakeGradient", "RemoteCall"])
def test_loops_and_waiting_have_no_end_in_sight(op: str) -> None:
    assert not open_ended(DENSE)
    assert open_ended([*DENSE, op])


def test_what_cant_be_foreseen_is_never_short() -> None:
    pace = Pace(foreseeable=False)
    pace.ran(1e-5, 8, 8)
    assert pace.brief
    assert not pace.expects_short(8)


def test_of_an_unknown_graph_nothing_is_expected() -> None:
    assert open_ended([])
