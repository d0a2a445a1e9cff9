"""Batches: how calls are merged, cut up, padded and refused, on a model that tells the sizes of its batches."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deploy.modelserver.batching import BatchedModel, Call, Limits, Scheduler, limits
from deploy.modelserver.echo import ANY, signature_defs
from deploy.modelserver.loader import Array
from deploy.modelserver.status import Code, StatusError
from deploy.waiting import Deadline, poll
from deploy.wire import config_pb2
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

    def is_short(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> bool:
        return True

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


@pytest.mark.parametrize(("text", "rows"), [
    ("max_batch_size { value: 4 } max_enqueued_batches { value: 1 }", 4),
    (SPLIT + " max_enqueued_batches { value: 2 }", 9),
])
def test_a_full_queue(text: str, rows: int) -> None:
    probe, model = batched(text)
    probe.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(ask, model, 4)
        assert probe.entered.wait(30)
        if rows == 4:
            waiting = threads.submit(ask, model, 4)
            assert poll(lambda: model.enqueued or None, Deadline(30), first=0.001)
        with pytest.raises(StatusError, match="max_enqueued_batches is") as caught:
            ask(model, rows)
        assert caught.value.code is Code.UNAVAILABLE
        probe.gate.set()
        assert len(running.result(30)) == 4
        if rows == 4:
            assert len(waiting.result(30)) == 4


def test_allowed_sizes_end_with_the_maximum() -> None:
    with pytest.raises(StatusError, match="last entry was 2; expected 4"):
        batched("max_batch_size { value: 4 } allowed_batch_sizes: [1, 2]")


def test_defaults() -> None:
    assert limits(config_pb2.BatchingParameters()) == Limits(1000, 0, 0.0, 10, (), False)
