"""Counters and histograms under TF Serving's names, and their Prometheus page."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from deploy.modelserver.execution import waited
from deploy.modelserver.status import Code, NeverAnswered, StatusError

Labels = tuple[tuple[str, str], ...]
_MOST_SERIES, _MOST_LENGTH = 4096, 1024  # requests bring names of models, so they must not fill the memory


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Upper bounds of a histogram's buckets."""
    return tuple(scale * growth**i for i in range(count))


_MICROSECONDS = exponential(10, 1.8, 33)
_EXAMPLES = exponential(1, 2, 20)
# Name below :tensorflow: -> counter, gauge, or the bounds of a histogram. All are shown, also without samples.
_KINDS: Mapping[str, str | tuple[float, ...]] = {
    "cc:saved_model:load_attempt_count": "counter",
    "cc:saved_model:load_latency": "counter",
    "serving:batching_session:queuing_latency": _MICROSECONDS,
    "serving:batching_session:wrapped_run_count": "counter",
    "serving:mlmd_map": "gauge",
    "serving:model_warmup_latency": _MICROSECONDS,
    "serving:model_warmup_records_read": "counter",
    "serving:request_count": "counter",
    "serving:request_example_count_total": "counter",
    "serving:request_example_counts": _EXAMPLES,
    "serving:request_latency": _MICROSECONDS,
    "serving:request_log_count": "counter",
    "serving:runtime_latency": _MICROSECONDS,
}


@dataclass(slots=True)
class _Histogram:
    bounds: Sequence[float]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> _Histogram:
        histogram = _Histogram(self.bounds, self.total)
        histogram.counts = list(self.counts)
        return histogram


class Metrics:
    """All metrics of one server. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        self._answered: dict[tuple[str, str, str], tuple[dict[Labels, float], Labels, _Histogram]] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(labels.items())
        with self._lock:
            values = self._counters.setdefault(name, {})
            if key in values or _fits(key, values):
                values[key] = values.get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        key, bounds = tuple(labels.items()), _KINDS[name]
        assert not isinstance(bounds, str)
        with self._lock:
            values = self._histograms.setdefault(name, {})
            histogram = values.get(key)
            if histogram is None:
                if not _fits(key, values):
                    return
                histogram = values[key] = _Histogram(bounds)
            histogram.add(value)

    def answered(self, model: str, api: str, entrypoint: str, microseconds: float) -> None:
        """Count a request that went well: what nearly all do, so its series are looked up once."""
        series = self._answered.get((model, api, entrypoint))
        if series is not None:
            counts, key, latencies = series
            with self._lock:
                counts[key] += 1
                latencies.add(microseconds)
            return
        labels = {"model_name": model, "API": api, "entrypoint": entrypoint}
        self.count("serving:request_count", model_name=model, status="OK")
        self.observe("serving:request_latency", microseconds, **labels)
        counted = self._counters["serving:request_count"]
        key, latency = (("model_name", model), ("status", "OK")), tuple(labels.items())
        observed = self._histograms.get("serving:request_latency", {})
        if key in counted and latency in observed:
            self._answered[model, api, entrypoint] = counted, key, observed[latency]

    def examples(self, model: str, number: int) -> None:
        """Count a MultiInference's examples; those of Classify and Regress aren't counted by the real server either."""
        self.count("serving:request_example_count_total", number, model=model)
        self.observe("serving:request_example_counts", number, model=model)

    def request(self, model: str, api: str, entrypoint: str) -> Counted:
        """Count one request to a model, made in a `with`: how it ended, and how long it took if that was well."""
        return Counted(self, model, api, entrypoint)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        with self._lock:  # which every request needs: held for the copies only
            counters = {name: list(values.items()) for name, values in self._counters.items()}
            histograms = {name: [(labels, histogram.copy()) for labels, histogram in values.items()]
                          for name, values in self._histograms.items()}
        lines: list[str] = []
        for name, kind in _KINDS.items():
            full = f":tensorflow:{name}"
            lines.append(f"# TYPE {full} {kind if isinstance(kind, str) else 'histogram'}")
            lines += [f"{full}{_braces(labels)} {_number(value)}" for labels, value in counters.get(name, ())]
            for labels, histogram in histograms.get(name, ()):
                lines += _histogram_lines(full, labels, histogram)
        return ("\n".join(lines) + "\n").encode()


class Counted:
    """A request that is being counted. Its latency is, as in the real server, without a wait for a thread."""

    __slots__ = ("_api", "_entrypoint", "_metrics", "_model", "_started")

    def __init__(self, metrics: Metrics, model: str, api: str, entrypoint: str) -> None:
        self._metrics, self._model, self._api, self._entrypoint = metrics, model, api, entrypoint

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, (NeverAnswered, GeneratorExit)):  # nobody gets an answer
            return
        if error is None:
            self._metrics.answered(self._model, self._api, self._entrypoint,
                                   (time.perf_counter() - self._started - waited()) * 1e6)
        else:
            code = error.code if isinstance(error, StatusError) else Code.INTERNAL
            self._metrics.count("serving:request_count", model_name=self._model, status=code.name)


def _fits(key: Labels, values: Mapping[Labels, object]) -> bool:
    return len(values) < _MOST_SERIES and sum(len(value) for _, value in key) <= _MOST_LENGTH


def _histogram_lines(name: str, labels: Labels, histogram: _Histogram) -> Iterator[str]:
    cumulative = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        cumulative += count
        yield f"{name}_bucket{_braces((*labels, ('le', '+Inf' if bound is None else f'{bound:g}')))} {cumulative}"
    yield f"{name}_sum{_braces(labels)} {histogram.total:g}"
    yield f"{name}_count{_braces(labels)} {cumulative}"


def _braces(labels: Labels) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
