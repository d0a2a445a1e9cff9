"""What a version goes through before it becomes available: its files are looked at, its recorded requests replayed.

The real server adds up the sizes of all files before a load, to reserve memory for them. There is memory enough without
a limit, so what remains of it are the versions that fail for a path that can't be looked at: a plain file with a
version's name, a link to nowhere.
Source: tensorflow_serving/servables/tensorflow/util.cc, tensorflow_serving/core/basic_manager.cc.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from deploy.errors import DeployError
from deploy.modelserver.catalog import Id
from deploy.modelserver.examples import Examples
from deploy.modelserver.execution import finish
from deploy.modelserver.loader import Loader, Model
from deploy.modelserver.metrics import Metrics
from deploy.modelserver.predict import predict
from deploy.modelserver.servable import Servable
from deploy.modelserver.status import Code, StatusError, invalid
from deploy.wire import records
from deploy.wire import serving_pb2 as pb
from deploy.wire.tensors import decode

_MOST = 100_000  # files; beyond these nothing is looked at
log = logging.getLogger("modelserver")
FILE = "assets.extra/tf_serving_warmup_requests"
MOST = 1000
_FRAME = 16  # bytes of a TFRecord around its data


def reserve(id: Id, path: str) -> None:
    """Look at every file below `path`. Raises StatusError."""
    try:
        _look(path)
    except OSError as error:
        why = f"; {error.strerror}" if os.path.exists(path) else " not found"  # noqa: PTH110
        raise StatusError(Code.INTERNAL, f"Error while attempting to reserve resources to load servable {id}: "
                                         f"{error.filename}{why}") from error


def _look(path: str) -> None:
    count, directories = 0, deque([path])
    while directories and count < _MOST:
        directory = directories.popleft()
        for name in os.listdir(directory):  # noqa: PTH208 (no objects per name)
            count += 1
            child = f"{directory}/{name}"
            if os.path.isdir(child):  # noqa: PTH112
                directories.append(child)
            else:
                os.stat(child)  # noqa: PTH116


@dataclass(frozen=True, slots=True)
class WarmingLoader:
    """A loader whose versions have answered their recorded requests. iterations: how often each."""

    inner: Loader
    examples: Examples
    metrics: Metrics
    enabled: bool = True
    iterations: int = 1

    def load(self, name: str, version: int, path: str) -> Model:
        started = time.perf_counter()
        try:
            model = self.inner.load(name, version, path)
        except StatusError:
            self._count(path, "fail", started)
            raise
        self._count(path, "success", started)
        try:
            self._warm(Servable(Id(name, version), model), path)
        except BaseException:
            model.close()
            raise
        return model

    def _count(self, path: str, status: str, started: float) -> None:
        self.metrics.count("cc:saved_model:load_attempt_count", model_path=path, status=status)
        self.metrics.count("cc:saved_model:load_latency", int((time.perf_counter() - started) * 1e6), model_path=path)

    def _warm(self, servable: Servable, path: str) -> None:
        file = Path(path) / FILE
        if not self.enabled:
            return
        if not file.is_file():
            log.info("No warmup data file found at %s", file)
            return
        log.info("Starting to read warmup data for model at %s", file)
        started, number, status = time.perf_counter(), 0, Code.OK
        try:
            for number, record in enumerate(_read(file), 1):
                for _ in range(max(1, self.iterations)):
                    self._replay(servable, record)
                if number > MOST:
                    raise invalid(f"Number of warmup records exceeds the maximum ({MOST}) at {file}")
            log.info("Finished reading warmup data for model at %s. Number of warmup records read: %d. Elapsed time "
                     "(microseconds): %d.", file, number, (time.perf_counter() - started) * 1e6)
        except StatusError as error:
            status = error.code
            raise
        finally:
            self.metrics.count("serving:model_warmup_records_read", number, model_path=path, status=status.name)
            self.metrics.observe("serving:model_warmup_latency", (time.perf_counter() - started) * 1e6,
                                 model_path=path, status=status.name)

    def _replay(self, servable: Servable, record: pb.PredictionLog) -> None:
        replay: dict[str, Callable[[], object]] = {
            "predict_log": lambda: finish(predict(servable, record.predict_log.request)),
            "classify_log": lambda: self.examples.classify(servable, record.classify_log.request),
            "regress_log": lambda: self.examples.regress(servable, record.regress_log.request),
            "multi_inference_log": lambda: self.examples.multi_inference(servable, record.multi_inference_log.request),
            "session_run_log": lambda: _session_run(servable, record.session_run_log.request),
        }
        log_type = record.WhichOneof("log_type")
        if log_type in replay:
            replay[log_type]()
        elif log_type is not None:
            number = record.DESCRIPTOR.fields_by_name[log_type].number
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


def _session_run(servable: Servable, request: pb.SessionRunRequest) -> None:
    servable.model.run({named.name: decode(named.tensor) for named in request.feed}, list(request.fetch))


def _read(file: Path) -> Iterator[pb.PredictionLog]:
    """The file's records. Raises StatusError."""
    at = 0
    try:
        for data in records.read(file):
            try:
                yield pb.PredictionLog.FromString(data)
            except DecodeError as error:
                text = data.decode("utf-8", "replace")
                raise invalid(f"Failed to parse warmup record: {text} from {file}") from error
            at += len(data) + _FRAME
    except DeployError as error:
        raise StatusError(Code.DATA_LOSS, f"corrupted record at {at} (Is this even a TFRecord file?). Please verify "
                                          "your warmup data is in TFRecord format.") from error
