"""One loaded SavedModel."""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deploy import savedmodel
from deploy.engine.latency import LatencyEstimate, LatencyEstimates, Shapes, elements, is_static_cost
from deploy.engine.library import EngineError, Library, Output, library
from deploy.engine.loading import load_model
from deploy.engine.settings import flushes, give_back
from deploy.engine.tensors import from_tensor, to_tensor
from deploy.engine.tflite import TfliteVersion, called
from deploy.savedmodel.tflite import FILE
from deploy.types import Contract, Signature
from deploy.wire.contracts import contract_from_map
from deploy.wire.dtypes import Array
from deploy.wire.field_scan import varint
from deploy.wire.model_pb2 import MetaGraphDef

_CANCELLED, _INVALID = 1, 3  # TF_Code
_MOST_PLANS = 256
_SOON = 5.0  # seconds
_TIMEOUT = b"\x10"  # tag of RunOptions.timeout_in_ms
# RunOptions.inter_op_thread_pool = -1: run the ops in the calling thread (tensorflow/core/protobuf/config.proto).
_IN_THIS_THREAD = b"\x18" + b"\xff" * 9 + b"\x01"


def load_version(directory: str | Path, *, tags: Sequence[str] = ("serve",)) -> Session | TfliteVersion:
    """What a version directory holds: its SavedModel, or the TFLite model that it consists of, run by LiteRT.

    tags: of a SavedModel's graph. Raises EngineError, BackendMissing.
    """
    if savedmodel.tflite_alone(Path(directory)):
        return TfliteVersion(Path(directory) / FILE)
    return load(directory, tags=tags)


def load(directory: str | Path, *, tags: Sequence[str] = ("serve",), intra_op: int = 0, inter_op: int = 0) -> Session:
    """Load the SavedModel in `directory`, variables and assets included.

    tags: the meta graph's.
    intra_op, inter_op: sizes of TensorFlow's two thread pools, 0 for one thread per core. The process's pools are
    made once, so the first load decides. Runs of less than a millisecond don't use the second one.
    Raises EngineError with TensorFlow's code and text, BackendMissing if there is no library.
    """
    return Session(library(), directory, tags, intra_op, inter_op)


class _Plan:
    """Feeds and fetches looked up in the graph once."""

    __slots__ = ("feeds", "fetches", "inputs", "latencies", "outputs")

    def __init__(self, inputs: Sequence[Output], outputs: Sequence[Output], latencies: LatencyEstimates) -> None:
        self.inputs, self.outputs = (Output * len(inputs))(*inputs), (Output * len(outputs))(*outputs)
        self.feeds, self.fetches = ctypes.c_void_p * len(inputs), ctypes.c_void_p * len(outputs)
        self.latencies = latencies


class Session:
    """A SavedModel in memory. Threads may share it: runs go on side by side, and `close` waits for them.

    contract: the model's signatures.
    """

    def __init__(self, tf: Library, directory: str | Path, tags: Sequence[str], intra_op: int, inter_op: int) -> None:
        self._tf = tf
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], _Plan] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._running = 0
        self._closed = True
        self._here = tf.NewBufferFromString(_IN_THIS_THREAD, len(_IN_THIS_THREAD))
        try:
            tf.long_runs.add(self)
            self._loaded = load_model(tf, directory, tags, intra_op, inter_op)
        except BaseException:
            tf.DeleteBuffer(self._here)
            raise
        finally:
            tf.long_runs.discard(self)
        self._closed = False
        self._contract: Contract | None = None
        self._static_cost = is_static_cost(op.name for op in self.metagraph.meta_info_def.stripped_op_list.op)

    @property
    def metagraph(self) -> MetaGraphDef:
        """The MetaGraphDef that was loaded, without its graph and object graph; parsed anew at each call."""
        return MetaGraphDef.FromString(self._loaded.metagraph)

    @property
    def contract(self) -> Contract:
        """The model's signatures, with the names of their tensors."""
        if self._contract is None:
            self._contract = contract_from_map(self.metagraph.signature_def)
        return self._contract

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], *, timeout: float | None = None) -> list[Array]:
        """The values of `fetches`, given `feeds`; both by tensor name (`serving_default_x:0`).

        timeout: seconds after which a run is stopped, unless it is known to take less than a millisecond.

        A dtype that isn't the graph's is refused, not cast. Strings: dtype object, bytes. Don't change a fed array
        before the call returns; with a model that stores what it is fed, don't change it at all.
        Raises EngineError with TensorFlow's code and text.
        """
        tf, plan = self._tf, self._plan(tuple(feeds), tuple(fetches))
        values, results = plan.feeds(), plan.fetches()
        arrays = [np.asanyarray(array) for array in feeds.values()]
        latency = plan.latencies.of(arrays)
        self._enter()
        status, run = tf.NewStatus(), None if latency.cheap else object()
        if run is not None:
            tf.long_runs.add(run)
        try:
            for index, array in enumerate(arrays):
                values[index] = to_tensor(tf, array)
            seconds, thread_seconds = self._run_for(plan, latency, timeout, (values, results, status))
            tf.check(status)
            outputs = _collect(tf, results)
            latency.observe(seconds, thread_seconds, elements(arrays), elements(outputs))
            return outputs
        finally:
            if run is not None:
                tf.long_runs.discard(run)
            self._leave()
            for value in values:
                if value:
                    tf.DeleteTensor(value)
            tf.DeleteStatus(status)

    def latency(self, feeds: Sequence[str], fetches: Sequence[str], shapes: Shapes) -> LatencyEstimate | None:
        """What runs took that were fed these shapes; None if there was none.

        None, too, while long runs, of any session, keep TensorFlow's threads busy.
        """
        plan = self._plans.get((tuple(feeds), tuple(fetches)))
        return None if plan is None or self._tf.long_runs else plan.latencies.get(shapes)

    def call(self, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`signature`'s outputs by name for `inputs` by name.

        Raises BadRequest for a missing or unknown input, EngineError as `run` does.
        """
        return called(self, signature, inputs)

    def close(self) -> None:
        """Free the model. Later runs are refused, running ones are waited for. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._idle.wait_for(lambda: not self._running)
        status = self._tf.NewStatus()
        self._tf.CloseSession(self._loaded.session, status)
        self._tf.DeleteSession(self._loaded.session, status)
        self._tf.DeleteStatus(status)
        self._delete()
        give_back()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _run_for(self, plan: _Plan, latency: LatencyEstimate, timeout: float | None, arguments: tuple[Any, Any, int]
                 ) -> tuple[float, float | None]:
        """Run, in this thread or TensorFlow's; as `_run`.

        A run below a millisecond stays in this thread: changing threads costs 30 us, three times what a small model
        takes. But there it can't be stopped, and the thread has to take denormal numbers for zero, as TensorFlow's own
        do.
        """
        timed = latency.wants_thread_time
        watched = timeout is not None and not self._static_cost and (timeout < _SOON or not latency.known)
        if latency.sub_millisecond and not watched and self._tf.flushing.available:
            if flushes():
                return self._run(plan, self._here, *arguments, timed=timed)
            mode = self._tf.flushing.start()
            try:
                return self._run(plan, self._here, *arguments, timed=timed)
            finally:
                self._tf.flushing.stop(mode)
        if timeout is None:
            return self._run(plan, None, *arguments, timed=timed)
        data = _TIMEOUT + varint(max(1, math.ceil(timeout * 1000)))
        options = self._tf.NewBufferFromString(data, len(data))
        try:
            return self._run(plan, options, *arguments, timed=timed)
        finally:
            self._tf.DeleteBuffer(options)

    def _run(self, plan: _Plan, options: int | None, values: Any, results: Any, status: int, *, timed: bool
             ) -> tuple[float, float | None]:
        """Run; returns the seconds it took, and, if it is `timed`, those of this thread's work."""
        before, start = time.thread_time() if timed else 0.0, time.perf_counter()
        self._tf.SessionRun(self._loaded.session, options, plan.inputs, values, len(values),
                            plan.outputs, results, len(results), None, 0, None, status)
        took = time.perf_counter() - start
        return took, time.thread_time() - before if timed else None

    def _plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> _Plan:
        plan = self._plans.get((feeds, fetches))
        if plan is None:
            with self._lock:
                self._refuse_if_closed()
                if self._loaded.unregistered is not None:
                    self._loaded.unregistered.check(feeds, fetches)
                plan = _Plan([self._output(name) for name in feeds], [self._output(name) for name in fetches],
                             LatencyEstimates(self._static_cost))
                if len(self._plans) >= _MOST_PLANS:  # clients of a server choose outputs, so plans must not pile up
                    self._plans.clear()
                self._plans[feeds, fetches] = plan
        return plan

    def _output(self, tensor: str) -> Output:
        name, _, index = tensor.partition(":")
        operation = self._tf.GraphOperationByName(self._loaded.graph, name.encode())
        if not operation:
            raise EngineError(_INVALID, f"Tensor {name}:{index or 0}, specified in either feed_devices or "
                                        "fetch_devices was not found in the Graph")
        number = int(index or 0) if len(index) < 10 and (index or "0").isdecimal() else -1
        if not 0 <= number < self._tf.OperationNumOutputs(operation):
            raise EngineError(_INVALID, f"the graph has no tensor {tensor!r}")
        return Output(operation, number)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise EngineError(_CANCELLED, "Session has been closed.")

    def _enter(self) -> None:
        with self._lock:
            self._refuse_if_closed()
            self._running += 1

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._closed and not self._running:
                self._idle.notify_all()

    def _delete(self) -> None:
        self._tf.DeleteGraph(self._loaded.graph)
        self._tf.DeleteBuffer(self._here)


def _collect(tf: Library, results: Any) -> list[Array]:
    """All results as arrays; if one can't be, none is leaked."""
    waiting = list(results)
    try:
        return [from_tensor(tf, waiting.pop(0)) for _ in results]
    finally:
        for tensor in waiting:
            tf.DeleteTensor(tensor)
