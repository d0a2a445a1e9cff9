"""Collects calls into batches, with the real server's parameters and rules.

Calls with the same feeds and fetches share a queue. A queue's open batch is closed when it is full, or when its first
call has waited for the timeout; closed batches are run by a fixed number of threads that all models share. Calls are
split only if the parameters say so. Rows that are added to reach an allowed size repeat the first one.
Source: tensorflow_serving/batching/batching_session.cc, tensorflow/core/kernels/batching_util.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploy.modelserver.config import read_text_proto
from deploy.modelserver.loader import Array, Loader, Model
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.options import CPUS
from deploy.modelserver.status import Code, NeverAnswered, StatusError, invalid
from deploy.wire import config_pb2, model_pb2

Key = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Limits:
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


def limits(parameters: config_pb2.BatchingParameters) -> Limits:
    """Limits of a BatchingParameters message. Raises StatusError."""

    def given(name: str, default: int) -> int:
        return int(getattr(parameters, name).value) if parameters.HasField(name) else default

    size = given("max_batch_size", 1000)
    run = given("max_execution_batch_size", size) if parameters.enable_large_batch_splitting.value else 0
    found = Limits(size, run, given("batch_timeout_micros", 0) / 1e6,
                   given("max_enqueued_batches", 10), tuple(parameters.allowed_batch_sizes),
                   parameters.pad_variable_length_inputs)
    if found.allowed and found.allowed[-1] != found.size:
        raise invalid("Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                      f"{found.allowed[-1]}; expected {found.size}")
    return found


@dataclass(slots=True, eq=False)
class Call:
    """One call that waits for its part of a batch's results."""

    feeds: Mapping[str, Array]
    rows: int
    done: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.perf_counter)
    results: list[Array] = field(default_factory=list)
    error: Exception | None = None

    def cut(self, first: int, most: int) -> list[Call]:
        """Parts of at most `most` rows, the first of at most `first` if that isn't 0."""
        ends = [*range(first if first > 0 else most, self.rows, most), self.rows]
        return [Call({name: array[start:end] for name, array in self.feeds.items()}, end - start)
                for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(slots=True, eq=False)
class Batch:
    """Calls that run together."""

    model: BatchedModel
    key: Key
    due: float
    calls: list[Call] = field(default_factory=list)
    rows: int = 0
    closed: bool = False


class Scheduler:
    """The threads that run batches, and the clock that closes them. One for all models."""

    def __init__(self, threads: int = 0, metrics: Metrics | None = None) -> None:
        self.changed = threading.Condition()
        self._ready: deque[Batch] = deque()
        self._open: list[Batch] = []
        self._closing = False
        self.metrics = metrics or Metrics()
        for number in range(threads or CPUS):
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
                raise StatusError(Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is "
                                  f"full; currently {waiting} batches enqueued and max_enqueued_batches is "
                                  f"{model.limits.enqueued}")
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

    def __init__(self, model: Model, limits: Limits, scheduler: Scheduler) -> None:
        self._model, self.limits, self._scheduler = model, limits, scheduler
        self.open: dict[Key, Batch] = {}
        self.enqueued: dict[Key, int] = {}
        self._batched = {(frozenset(i.name for i in s.inputs.values()), o.name)
                         for s in model.signatures.values() for o in s.outputs.values()}

    @property
    def signatures(self) -> Mapping[str, model_pb2.SignatureDef]:
        return self._model.signatures

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        if any((frozenset(feeds), fetch) not in self._batched for fetch in fetches):
            return self._model.run(feeds, fetches)  # several signatures at once, or none: not batched
        call = Call(feeds, self._rows(feeds))
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

    def is_short(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> bool:  # noqa: ARG002
        return False  # a call waits for others

    def _rows(self, feeds: Mapping[str, Array]) -> int:
        sizes = set()
        for array in feeds.values():
            if not array.ndim:
                raise invalid("Batching Run() input tensors must have at least one dimension")
            sizes.add(len(array))
        if len(sizes) > 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        return sizes.pop() if sizes else 0

    def run_batch(self, batch: Batch) -> None:
        """Run a batch's calls together, and hand out the results or the error."""
        try:
            size = next((a for a in self.limits.allowed if a >= batch.rows), batch.rows)
            feeds = {name: self._merged(name, batch, size - batch.rows) for name in batch.key[0]}
            self._split(batch, self._model.run(feeds, batch.key[1]), size)
        except Exception as error:
            for call in batch.calls:
                call.error = error
        for call in batch.calls:
            call.done.set()

    def _merged(self, name: str, batch: Batch, missing: int) -> Array:
        arrays = [call.feeds[name] for call in batch.calls]
        shapes = {a.shape[1:] for a in arrays}
        if len(shapes) > 1:
            if not self.limits.pad or len({len(s) for s in shapes}) > 1:
                raise invalid(f"Tensors with name '{name}' from different tasks have different shapes and padding is "
                              "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors with the "
                              "same namehave equal dimensions starting with the first dim.")
            arrays = [_padded(a, tuple(map(max, zip(*shapes, strict=True)))) for a in arrays]
        if missing:
            arrays.append(np.repeat(arrays[0][:1], missing, axis=0))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    @staticmethod
    def _split(batch: Batch, results: Sequence[Array], size: int) -> None:
        for name, array in zip(batch.key[1], results, strict=True):
            if not array.ndim:
                raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(array) != size:
                raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor's 0th dimension does not equal the "
                                  f"sum of the 0th dimension sizes of the input tensors ({name})")
        start = 0
        for call in batch.calls:
            call.results = [array[start:start + call.rows] for array in results]
            start += call.rows

    def close(self) -> None:
        self._model.close()


def _padded(array: Array, shape: tuple[int, ...]) -> Array:
    """Rows made as long as the longest: the first value of each row's tensor fills up."""
    filler = array.ravel()[0] if array.size else (b"" if array.dtype == object else 0)
    made = np.full((len(array), *shape), filler, dtype=array.dtype)
    made[tuple(slice(n) for n in array.shape)] = array
    return made


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
        return BatchedModel(self.inner.load(name, version, path), limits(parameters), self.scheduler)
