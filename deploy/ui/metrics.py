"""The server's own counters as rates and latencies over time: two looks at its page make one sample."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy import client, serving
from deploy.client import monitoring
from deploy.client.monitoring import RequestCounts, Sample
from deploy.errors import DeployError
from deploy.spec import Spec

EVERY = 2.0  # seconds
MOST = 450  # samples: a quarter of an hour
_MOST_MODELS = 300  # with traffic, in one sample
_LATENCY = ":tensorflow:serving:request_latency_bucket"

Buckets = Mapping[float, float]
"""Upper bound in microseconds -> requests that took no longer."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One look. requests, latencies: by model, since the server began. at: monotonic seconds."""

    at: float
    requests: Mapping[str, RequestCounts]
    latencies: Mapping[str, Buckets]


def counters(samples: Iterable[Sample], at: float) -> Counters:
    """What the page says of requests."""
    requests: dict[str, dict[str, int]] = {}
    latencies: dict[str, dict[float, float]] = {}
    for sample in samples:
        model = sample.labels.get("model_name", "")
        if sample.name == monitoring.REQUESTS:
            counts = requests.setdefault(model, {})
            status = sample.labels.get("status", "")
            counts[status] = counts.get(status, 0) + int(sample.value)
        elif sample.name == _LATENCY:
            bound, buckets = float(sample.labels.get("le", "inf")), latencies.setdefault(model, {})
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return Counters(at, {m: RequestCounts(counts) for m, counts in requests.items()}, latencies)


def rates(before: Counters, after: Counters) -> dict[str, dict[str, float | None]]:
    """By model with traffic in between: answered and failed requests a second, median and 99th percentile in ms."""
    seconds, models = max(1e-3, after.at - before.at), dict[str, dict[str, float | None]]()
    for model, counts in after.requests.items():
        meanwhile = counts.since(before.requests.get(model, RequestCounts({})))
        if not meanwhile.all:
            continue
        earlier = before.latencies.get(model, {})
        grown = {bound: n - earlier.get(bound, 0.0) for bound, n in after.latencies.get(model, {}).items()}
        models[model] = {"rps": round(meanwhile.all / seconds, 2), "failed": round(meanwhile.failed / seconds, 2),
                         "p50": _milliseconds(quantile(grown, 0.5)), "p99": _milliseconds(quantile(grown, 0.99))}
    busiest = sorted(models, key=lambda m: -(models[m]["rps"] or 0))[:_MOST_MODELS]
    return {model: models[model] for model in busiest}


def quantile(buckets: Buckets, share: float) -> float | None:
    """Microseconds that a share of the requests stayed below, within a bucket by its middle; None without requests."""
    bounds: Sequence[float] = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return None
    low, below = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= share * total:
            inside = count - below
            return low if bound == float("inf") else low + (bound - low) * (share * total - below) / (inside or 1)
        low, below = bound, count
    return low


def _milliseconds(microseconds: float | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 3)


@dataclass(slots=True)
class MetricsHistory:
    """The last quarter of an hour of one server, as far as somebody watched."""

    samples: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST))
    reason: str = ""
    _last: Counters | None = None
    _asked: float = float("-inf")

    def due(self) -> bool:
        """Whether the last look is long enough ago."""
        return time.monotonic() - self._asked >= EVERY

    def sample(self, spec: Spec) -> dict[str, Any] | None:
        """Look again. None if there is nothing to see, and `reason` says why; the first look alone says nothing."""
        self._asked = time.monotonic()
        part = spec.server.monitoring
        try:
            server, self.reason = serving.find(spec), "the server isn't running"
        except DeployError as e:
            server, self.reason = None, e.message
        if server is None or not server.alive():
            self._last = None
            return None
        memory = server.memory()
        sample: dict[str, Any] = {"at": round(time.time(), 2), "models": {},
                                  "memory": memory.used if memory else None, "limit": memory.limit if memory else None}
        self.reason = "" if part and part.enable else "the server's metrics are off: server: {monitoring: {}}"
        if not self.reason and server.endpoint.rest_port:
            try:
                with client.connect(server.endpoint, timeout=2.0, attempts=1) as connected:
                    page = monitoring.read(connected.rest, part.path, 2.0) if part and connected.rest else None
            except DeployError as error:
                self.reason, self._last = error.message, None
                return None
            now = counters(page or (), time.monotonic())
            sample["models"] = rates(self._last, now) if self._last else {}
            self._last = now
        self.samples.append(sample)
        return sample

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"every": EVERY, "reason": self.reason, "samples": list(self.samples)}
