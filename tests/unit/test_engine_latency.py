"""Which runs are expected to be short."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.engine.latency import LatencyEstimate, LatencyEstimates, elements, is_static_cost, shapes_of

ROW, ROWS = [np.zeros((1, 784), np.float32)], [np.zeros((32, 784), np.float32)]


def learned(seconds: float, thread_seconds: float | None = None, elements_out: float = 10) -> LatencyEstimate:
    estimate = LatencyEstimate()
    estimate.observe(seconds, seconds if thread_seconds is None else thread_seconds, 784, elements_out)
    return estimate


def short(estimates: LatencyEstimates, arrays: list[np.ndarray]) -> bool:
    estimate = estimates.get(shapes_of(arrays))
    return estimate is not None and estimate.short


def test_before_the_first_run() -> None:
    assert LatencyEstimate().sub_millisecond
    assert not LatencyEstimate().short
    assert LatencyEstimate().wants_thread_time


@pytest.mark.parametrize(("estimate", "sub_millisecond", "short"), [
    (learned(5e-5), True, True),
    (learned(5e-4), True, False),
    (learned(5e-3), False, False),
    (learned(5e-3, thread_seconds=5e-5), False, False),  # it waited for other threads' work
    (learned(8e-4, thread_seconds=5e-5), True, True),
    (learned(5e-5, elements_out=5000), True, False),
])
def test_the_last_run_tells(estimate: LatencyEstimate, sub_millisecond: bool, short: bool) -> None:
    assert (estimate.sub_millisecond, estimate.short) == (sub_millisecond, short)


def test_a_first_run_that_made_kernels_and_one_that_waited_are_forgotten() -> None:
    estimate = learned(2e-2)
    estimate.observe(5e-5, 4e-5, 784, 10)
    assert estimate.short
    estimate.observe(5e-3, 4e-5, 784, 10)  # for Python's lock, since it worked no longer than before
    assert estimate.short
    estimate.observe(5e-3, 5e-3, 784, 10)
    assert estimate.short
    for _ in range(10):
        estimate.observe(5e-3, 5e-3, 784, 10)
    assert not estimate.short


def test_runs_that_are_not_timed_by_their_threads_clock_say_nothing_of_its_work() -> None:
    """They waited for Python's lock, that's all: as long as nobody measures the thread's work, it is believed."""
    estimate = learned(2.4e-4)
    for _ in range(1000):
        estimate.observe(5e-3, None, 784, 10)
    assert estimate.short
    estimate = learned(3e-4)
    estimate.observe(5e-5, None, 784, 10)
    assert not estimate.short


def test_the_threads_clock_is_read_until_runs_are_short_and_for_every_16th_then() -> None:
    estimate, timed = learned(5e-4), []
    for _ in range(40):
        timed.append(estimate.wants_thread_time)
        estimate.observe(5e-5, 5e-5 if timed[-1] else None, 784, 10)
    assert [number for number, read in enumerate(timed) if read] == [0, 16, 32]


def test_runs_that_grow_long_are_noticed() -> None:
    estimate = learned(5e-5)
    for _ in range(16 * 10):
        estimate.observe(5e-3, 5e-3 if estimate.wants_thread_time else None, 784, 10)
    assert not estimate.short


def test_every_shape_has_its_estimate() -> None:
    estimates = LatencyEstimates(static_cost=True)
    assert not short(estimates, ROW)
    estimates.of(ROW).observe(5e-5, 5e-5, 784, 10)
    assert short(estimates, ROW)
    assert not short(estimates, ROWS)
    estimates.of(ROWS).observe(5e-3, 5e-3, 32 * 784, 320)
    assert short(estimates, ROW)
    assert not short(estimates, ROWS)


def test_what_depends_on_values_or_is_long_to_read_is_never_short() -> None:
    text, many = [np.array([b"a"], object)], [np.zeros(100_000, np.float32)]
    for static_cost, fed in ((False, ROW), (True, text), (True, many)):
        estimates = LatencyEstimates(static_cost)
        estimates.of(fed).observe(5e-5, 5e-5, elements(fed), 10)
        assert not short(estimates, fed)


def test_shapes_dont_pile_up() -> None:
    estimates = LatencyEstimates(static_cost=True)
    for size in range(1000):
        estimates.of([np.zeros(size, np.float32)])
    assert len(estimates._by_shapes) <= 64


DENSE = ["BiasAdd", "Const", "MatMul", "MergeV2Checkpoints", "Placeholder", "ReadVariableOp", "Relu", "RestoreV2",
         "SaveV2", "Softmax", "StatefulPartitionedCall", "VarHandleOp", "BatchMatMulV2", "FusedBatchNormV3"]


@pytest.mark.parametrize("op", [
    "While", "StatelessWhile", "Enter", "For", "QueueDequeueV2", "EagerPyFunc", "BatchFunction", "IteratorGetNext",
    "Recv", "Unstage", "If", "StatelessIf", "Fill", "Range", "Tile", "BroadcastTo", "RandomUniform", "Where",
    "DecodeJpeg", "ReadFile", "MutexLock", "ParseExampleV2", "StringSplitV2", "TensorListReserve", "Assert",
    "UnheardOf"])
def test_graphs_whose_time_depends_on_values(op: str) -> None:
    assert is_static_cost(DENSE)
    assert not is_static_cost([*DENSE, op])


def test_of_an_unknown_graph_nothing_is_expected() -> None:
    assert not is_static_cost([])
