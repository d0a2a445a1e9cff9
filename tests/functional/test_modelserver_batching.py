"""Batches: how calls are merged, cut up, padded and refused, on a model that tells the sizes of its batches."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deploy.engine.latency import Shapes
from deploy.modelserver import execution, merging
from deploy.modelserver.batching import Batch, BatchedModel, BatchingLimits, Call, Scheduler, limits
from deploy.modelserver.echo import ANY, signature_defs
from deploy.modelserver.status import Code, StatusError
from deploy.waiting import Deadline, poll
from deploy.wire import config_pb2
from deploy.wire.dtypes import Array
from deploy.wire.text import from_text

SIGNATURES = signature_defs(ANY)
X = SIGNATURES["serving_default"].inputs["x"].name
Y = SIGNATURES["serving_default"].outputs["y"].name


class Probe:
    """Doubles its input, remembers the sizes that it was called with, and waits before each run for `gate`."""

    signatures = SIGNATURES

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        self.sizes.append(len(feeds[X]))
        self.entered.set()
        assert self.gate.wait(30)
        return [feeds[X] * 2]

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> None:
        return None

    def close(self) -> None:
        """Nothing to free."""


def batched(text: str, threads: int = 1) -> tuple[Probe, BatchedModel]:
    probe = Probe()
    parameters = from_text(text, config_pb2.BatchingParameters, "text")
    return probe, BatchedModel(probe, limits(parameters), Scheduler(threads))


def ask(model: BatchedModel, rows: int) -> list[float]:
    return list(model.run({X: np.arange(rows, dtype=np.float32)}, [Y])[0].tolist())


SPLIT = "max_batch_size { value: 9 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }"


@pytest.mark.parametrize(("text", "rows", "sizes"), [
    ("max_batch_size { value: 4 }", 4, [4]),
    ("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4, 8]", 3, [4]),
    (SPLIT, 3, [3]),
    (SPLIT, 4, [4]),
    (SPLIT, 9, [4, 4, 1]),
    ("max_batch_size { value: 9 } enable_large_batch_splitting { value: true }", 9, [9]),
    ("max_batch_size { value: 9 } max_execution_batch_size { value: 4 }", 9, [9]),
    (SPLIT + " allowed_batch_sizes: [2, 9]", 5, [9, 2]),
])
def test_sizes_of_batches(text: str, rows: int, sizes: list[int]) -> None:
    probe, model = batched(text)
    assert ask(model, rows) == [2.0 * i for i in range(rows)]
    assert probe.sizes == sizes


@pytest.mark.parametrize("text", ["max_batch_size { value: 4 }", SPLIT.replace("9", "4")])
def test_too_many_rows(text: str) -> None:
    probe, model = batched(text)
    with pytest.raises(StatusError, match="Task size 5 is larger than maximum input batch size 4"):
        ask(model, 5)
    assert probe.sizes == []


@pytest.mark.parametrize(("rows", "first", "most", "parts"), [
    (3, 0, 4, [3]), (4, 0, 4, [4]), (9, 0, 4, [4, 4, 1]), (9, 2, 4, [2, 4, 3]), (2, 2, 4, [2]), (1, 3, 4, [1]),
    (8, 4, 4, [4, 4]),
])
def test_cuts(rows: int, first: int, most: int, parts: list[int]) -> None:
    call = Call({X: np.arange(rows)}, rows)
    cut = call.cut(first, most)
    assert [part.rows for part in cut] == parts
    assert np.concatenate([part.feeds[X] for part in cut]).tolist() == list(range(rows))


def test_a_call_fills_the_open_batch_before_it_makes_new_ones() -> None:
    probe, model = batched(SPLIT + " batch_timeout_micros { value: 60000000 }")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask, model, 3)
        assert poll(lambda: model.open or None, Deadline(30), first=0.001)
        second = threads.submit(ask, model, 5)  # 1 + 4: both batches are full, so nobody waits for the timeout
        assert (first.result(30), second.result(30)) == ([0.0, 2.0, 4.0], [0.0, 2.0, 4.0, 6.0, 8.0])
    assert probe.sizes == [4, 4]


@pytest.mark.parametrize(("text", "rows", "why"), [
    ("max_batch_size { value: 4 } max_enqueued_batches { value: 1 }", 4,
     "currently 1 batches enqueued and max_enqueued_batches is 1"),
    ("max_batch_size { value: 4 } max_enqueued_batches { value: 0 }", 4,  # 0 is taken for 1
     "currently 1 batches enqueued and max_enqueued_batches is 1"),
    (SPLIT + " max_enqueued_batches { value: 2 }", 9,
     "task size is 9 but scheduling capacity is only 8 (num_enqueued_batches=1, max_enqueued_batches=2, "
     "open_batch_size=0, max_execution_batch_size=4)"),
])
def test_a_full_queue(text: str, rows: int, why: str) -> None:
    probe, model = batched(text)
    probe.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(ask, model, 4)
        assert probe.entered.wait(30)
        if rows == 4:
            waiting = threads.submit(ask, model, 4)
            assert poll(lambda: model.enqueued or None, Deadline(30), first=0.001)
        with pytest.raises(StatusError) as caught:
            ask(model, rows)
        assert (caught.value.code, caught.value.message) == (
            Code.UNAVAILABLE, f"The batch scheduling queue to which this task was submitted is full; {why}")
        probe.gate.set()
        assert len(running.result(30)) == 4
        if rows == 4:
            assert len(waiting.result(30)) == 4


@pytest.mark.parametrize(("text", "message"), [
    ("max_batch_size { value: 4 } allowed_batch_sizes: [1, 2]",
     "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; expected 4"),
    ("max_batch_size { value: 0 }", "input_batch_size_limit must be positive; was 0"),
    ("batch_timeout_micros { value: -3 }", "batch_timeout_micros must be non-negative; was -3"),
    (SPLIT + " max_enqueued_batches { value: 0 }", "max_enqueued_batches must be positive; was 0"),
    (SPLIT.replace("9", "3"), "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than "
                              "or equal to max_execution_batch_size.134"),
])
def test_parameters_that_dont_go(text: str, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        batched(text)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def zeros(*shape: int, dtype: str = "float32") -> Array:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(("feeds", "message"), [
    ({}, "Batching Run() must have at least one input tensor"),
    ({"a": zeros()}, "Batching Run() input tensors must have at least one dimension"),
    ({"a": zeros(1), "b": zeros()}, "Batching Run() input tensors must have at least one dimension"),
    ({"a": zeros(1), "b": zeros(2), "c": zeros()}, "Batching Run() input tensors must have equal 0th-dimension size"),
    ({"a": zeros(0, 3), "b": zeros(2)}, "Batching Run() input tensors must have equal 0th-dimension size"),
])
def test_calls_that_cant_be_batched(feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(StatusError) as caught:
        merging.rows_of(feeds)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


DIFFERENT = ("Tensors with name 'x' from different tasks have different shapes and padding is turned off. Set "
             "pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal dimensions "
             "starting with the first dim.")


@pytest.mark.parametrize(("tensors", "pad", "code", "message"), [
    ([zeros(1, 2), zeros(1, 3)], False, Code.FAILED_PRECONDITION, DIFFERENT),
    ([zeros(1, 2), zeros(1)], False, Code.FAILED_PRECONDITION, DIFFERENT),
    ([zeros(2), zeros(2, 1, 1)], False, Code.FAILED_PRECONDITION, DIFFERENT),
    ([zeros(1), zeros(1, dtype="int32")], False, Code.INTERNAL,
     "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different data types. Got "
     "float and int32."),
    ([zeros(1, 0), zeros(1, 2)], True, Code.INVALID_ARGUMENT, "Got empty tensor in batch of non-empty tensors."),
    ([zeros(1, 1, 1, 1, 1, 1, 1)], True, Code.INVALID_ARGUMENT, "Only tensors with rank from 1 to 6 can be padded."),
])
def test_tensors_that_dont_go_together(tensors: list[Array], pad: bool, code: Code, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        merging.merged([{"x": tensor} for tensor in tensors], 0, pad=pad)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_shorter_rows_are_filled_up_and_the_last_call_makes_the_missing_ones() -> None:
    calls = [{"x": np.array([[1.0, 2.0, 3.0]])}, {"x": np.array([[7.0], [8.0]])}]
    assert merging.merged(calls, 2, pad=True)["x"].tolist() == [
        [1, 2, 3], [7, 7, 7], [8, 7, 7], [7, 7, 7], [7, 7, 7]]


@pytest.mark.parametrize(("made", "message"), [
    (zeros(), "Batched output tensor has 0 dimensions"),
    (zeros(2), "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
               "tensors"),
])
def test_results_that_cant_be_handed_out(made: Array, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        merging.check_results([zeros(3), made], 3)
    assert (caught.value.code, caught.value.message) == (Code.FAILED_PRECONDITION, message)




def test_defaults() -> None:
    assert limits(config_pb2.BatchingParameters()) == BatchingLimits(1000, 0, 0.0, 10, (), False)


def test_tensors_that_are_no_signature_are_batched_too() -> None:
    probe, model = batched("max_batch_size { value: 4 } allowed_batch_sizes: [4]")
    assert model.run({X: np.zeros(1, np.float32)}, ["inner:0"])[0].tolist() == [0.0]
    assert probe.sizes == [4]


def test_a_batch_may_take_as_long_as_its_most_patient_call() -> None:
    _, model = batched("max_batch_size { value: 4 }")
    calls = [Call({X: np.zeros(1)}, 1, until=until) for until in (5e9, 7e9)]
    batch = Batch(model, ((X,), (Y,)), 0.0, calls)
    assert batch.until() == 7e9
    calls.append(Call({X: np.zeros(1)}, 1))
    assert batch.until() is None


def test_calls_whose_time_ended_in_the_queue_are_not_run() -> None:
    probe, model = batched("max_batch_size { value: 4 }")
    with execution.deadline(1e-9), pytest.raises(StatusError) as caught:
        ask(model, 4)
    assert (caught.value.code, caught.value.message) == (
        Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
    assert probe.sizes == []
