"""Collects calls into batches, with the real server's parameters and rules.

Calls with the same feeds and fetches share a queue. A queue's open batch is closed when it is full, or when its first
call has waited for the timeout; closed batches are run by a fixed number of threads that all models share. Calls are
split only if the parameters say so.
Source: tensorflow_serving/batching/batching_session.cc, tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deploy.engine.latency import Shapes
from deploy.modelserver import execution
from deploy.modelserver.config import read_text_proto
from deploy.modelserver.loader import Loader, Model
from deploy.modelserver.merging import check_results, merged, rows_of
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.status import Code, NeverAnswered, StatusError, invalid
from deploy.wire import config_pb2, model_pb2
from deploy.wire.dtypes import Array

Key = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class BatchingLimits:
    """How one model's batches are made.

    size: most rows of a call. run: most rows of a batch; calls are cut up to fit, unless it is 0: then it is `size`,
    and nothing is cut. timeout: seconds. allowed: sizes, empty for any.
    """

    size: int = 1000
    run: int = 0
    timeout: float = 0.0
    enqueued: int = 10
    allowed: tuple[int, ...] = ()
    pad: bool = False


def limits(parameters: config_pb2.BatchingParameters) -> BatchingLimits:
    """BatchingLimits of a BatchingParameters message. Raises StatusError."""

    def given(name: str, default: int) -> int:
        return int(getattr(parameters, name).value) if parameters.HasField(name) else default

    size = given("max_batch_size", 1000)
    run = given("max_execution_batch_size", size) if parameters.enable_large_batch_splitting.value else 0
    batching = BatchingLimits(size, run, given("batch_timeout_micros", 0) / 1e6, given("max_enqueued_batches", 10),
                           tuple(parameters.allowed_batch_sizes), parameters.pad_variable_length_inputs)
    if batching.allowed and batching.allowed[-1] != batching.size:
        raise invalid("Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                      f"{batching.allowed[-1]}; expected {batching.size}")
    if not size:
        raise invalid("input_batch_size_limit must be positive; was 0")
    if batching.timeout < 0:
        raise invalid(f"batch_timeout_micros must be non-negative; was {parameters.batch_timeout_micros.value}")
    if not batching.enqueued:
        if run:
            raise invalid("max_enqueued_batches must be positive; was 0")
        return replace(batching, enqueued=1)  # as it used to be
    if run > size:
        raise invalid("When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal "
                      f"to max_execution_batch_size.1{size}{run}")  # the real text runs on like this
    return batching


def _full(limits: BatchingLimits, rows: int, waiting: int, last: int) -> StatusError:
    """For a call that finds no room. waiting: batches; last: rows of the last one."""
    if limits.run:
        waiting = max(waiting, 1)  # an empty one counts
        room = (limits.enqueued - waiting) * limits.run + limits.run - last
        why = (f"task size is {rows} but scheduling capacity is only {room} (num_enqueued_batches={waiting}, "
               f"max_enqueued_batches={limits.enqueued}, open_batch_size={last}, "
               f"max_execution_batch_size={limits.run})")
    else:
        why = f"currently {waiting} batches enqueued and max_enqueued_batches is {limits.enqueued}"
    return StatusError(Code.UNAVAILABLE, f"The batch scheduling queue to which this task was submitted is full; {why}")


@dataclass(slots=True, eq=False)
class Call:
    """One call that waits for its part of a batch's results."""

    feeds: Mapping[str, Array]
    rows: int
    done: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.perf_counter)
    until: float | None = field(default_factory=execution.current_deadline)
    results: list[Array] = field(default_factory=list)
    error: Exception | None = None

    def cut(self, first: int, most: int) -> list[Call]:
        """Parts of at most `most` rows, the first of at most `first` if that isn't 0."""
        ends = [*range(first if first > 0 else most, self.rows, most), self.rows]
        return [Call({name: array[start:end] for name, array in self.feeds.items()}, end - start, until=self.until)
                for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(slots=True, eq=False)
class Batch:
    """Calls that run together."""

    model: BatchedModel
    key: Key
    due: float
    calls: list[Call] = field(default_factory=list)
    rows: int = 0

    def until(self) -> float | None:
        """When the last call's deadline is. Raises StatusError if it is over."""
        ends = [call.until for call in self.calls if call.until is not None]
        if len(ends) < len(self.calls):
            return None
        if max(ends) <= time.monotonic():
            raise StatusError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        return max(ends)


class Scheduler:
    """The threads that run batches, and the clock that closes them. One for all models."""

    def __init__(self, threads: int, metrics: Metrics | None = None) -> None:
        self.changed = threading.Condition()
        self._ready: deque[Batch] = deque()
        self._open: list[Batch] = []
        self._closing = False
        self.metrics = metrics or Metrics()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def add(self, model: BatchedModel, key: Key, call: Call) -> list[Call]:
        """Put a call into its queue's open batch; returns its parts. Raises StatusError if the queue is full."""
        most = model.limits.run or model.limits.size
        with self.changed:
            batch = model.open.get(key)
            free = most - batch.rows if batch else 0
            waiting = model.enqueued.get(key, 0)
            if not model.limits.run:
                parts, needed = [call], int(call.rows > free)
            else:
                parts, needed = call.cut(free, most), -((free - call.rows) // most)
            if needed > 0 and waiting + needed > model.limits.enqueued:
                raise _full(model.limits, call.rows, waiting, batch.rows if batch else most if waiting else 0)
            for part in parts:
                self._add(model, key, part, most)
            self.changed.notify_all()
        return parts

    def _add(self, model: BatchedModel, key: Key, call: Call, most: int) -> None:
        batch = model.open.get(key)
        if batch and batch.rows + call.rows > most:
            self._close(batch)
            batch = None
        if batch is None:
            batch = model.open[key] = Batch(model, key, time.monotonic() + model.limits.timeout)
            model.enqueued[key] = model.enqueued.get(key, 0) + 1
            self._open.append(batch)
        batch.calls.append(call)
        batch.rows += call.rows
        if batch.rows >= most:
            self._close(batch)

    def _close(self, batch: Batch) -> None:
        del batch.model.open[batch.key]
        self._open.remove(batch)
        self._ready.append(batch)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            now = time.perf_counter()
            for call in batch.calls:
                self.metrics.observe("serving:batching_session:queuing_latency", (now - call.started) * 1e6)
            self.metrics.count("serving:batching_session:wrapped_run_count")
            batch.model.run_batch(batch)

    def close(self) -> None:
        """End the threads when all batches are done."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()

    def _next(self) -> Batch | None:
        with self.changed:
            while True:
                now = time.monotonic()
                for batch in [b for b in self._open if b.due <= now]:
                    self._close(batch)
                if self._ready:
                    batch = self._ready.popleft()
                    batch.model.enqueued[batch.key] -= 1
                    if not batch.model.enqueued[batch.key]:  # clients choose outputs, so keys must not pile up
                        del batch.model.enqueued[batch.key]
                    return batch
                first = min((b.due for b in self._open), default=None)
                if first is None and self._closing:
                    return None
                self.changed.wait(None if first is None else max(0.0, first - now))


class BatchedModel:
    """A model whose calls are run in batches."""

    def __init__(self, model: Model, limits: BatchingLimits, scheduler: Scheduler) -> None:
        self._model, self.limits, self._scheduler = model, limits, scheduler
        self.open: dict[Key, Batch] = {}
        self.enqueued: dict[Key, int] = {}

    @property
    def signatures(self) -> Mapping[str, model_pb2.SignatureDef]:
        return self._model.signatures

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        call = Call(feeds, rows_of(feeds))
        if not call.rows:
            raise NeverAnswered
        if call.rows > self.limits.size:
            raise invalid(f"Task size {call.rows} is larger than maximum input batch size {self.limits.size}")
        parts = self._scheduler.add(self, (tuple(sorted(feeds)), tuple(sorted(fetches))), call)
        for part in parts:
            part.done.wait()
        for part in parts:
            if part.error is not None:
                raise part.error
        results = parts[0].results
        if len(parts) > 1:
            results = [np.concatenate(arrays) for arrays in zip(*(part.results for part in parts), strict=True)]
        by_name = dict(zip(sorted(fetches), results, strict=True))
        return [by_name[fetch] for fetch in fetches]

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> None:  # noqa: ARG002
        return None  # a call waits for others

    def run_batch(self, batch: Batch) -> None:
        """Run a batch's calls together, and hand out the results or the error."""
        try:
            size = next((a for a in self.limits.allowed if a >= batch.rows), batch.rows)
            feeds = merged([call.feeds for call in batch.calls], size - batch.rows, pad=self.limits.pad)
            with execution.deadline(batch.until()):
                results = self._model.run(feeds, batch.key[1])
            check_results(results, size)
            start = 0
            for call in batch.calls:
                call.results = [array[start:start + call.rows] for array in results]
                start += call.rows
        except Exception as error:
            for call in batch.calls:
                call.error = error
        for call in batch.calls:
            call.done.set()

    def close(self) -> None:
        self._model.close()


@dataclass(frozen=True, slots=True)
class BatchingLoader:
    """A loader whose versions run calls in batches.

    parameters: for all models. per_model: instead, read each version's own file; a version without one isn't batched.
    """

    inner: Loader
    scheduler: Scheduler
    parameters: config_pb2.BatchingParameters
    per_model: bool = False

    def load(self, name: str, version: int, path: str) -> Model:
        parameters = self.parameters
        if self.per_model:
            file = Path(path) / "batching_params.pbtxt"
            if not file.is_file():
                return self.inner.load(name, version, path)
            parameters = read_text_proto(str(file), config_pb2.BatchingParameters)
        batching = limits(parameters)
        return BatchedModel(self.inner.load(name, version, path), batching, self.scheduler)
