"""Which run of a server is seen, where nobody can look at its process: by its metrics, which only grow while it runs.

TensorFlow Serving doesn't say when it was started. It counts how often, and for how many microseconds in all, it has
loaded each version, and its requests: what shrinks, or took another time, was counted by another run.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec

from deploy import files, render
from deploy.client import monitoring
from deploy.client.monitoring import Sample
from deploy.client.rest import RestClient
from deploy.errors import ClientError, ServerError
from deploy.waiting import Deadline

FILE = "server-run.json"
_ATTEMPTS, _MICROSECONDS = (f":tensorflow:cc:saved_model:load_{what}" for what in ("attempt_count", "latency"))
_STARTED = "process_start_time_seconds"  # of servers and sidecars that have it
_NAMES = _ATTEMPTS, _MICROSECONDS, monitoring.REQUESTS, _STARTED
_SECONDS, _MOMENT = 2.0, 1.0  # for one page; for which it counts
_MOST_BYTES = 8 << 20


class RunCounters(msgspec.Struct, frozen=True):
    """loads: path of a version -> how often it was loaded, and the microseconds of all that. requests: by their labels.
    started: seconds since the epoch, 0 if the server doesn't tell."""

    loads: dict[str, tuple[float, float]] = {}
    requests: dict[str, float] = {}
    started: float = 0.0

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> RunCounters:
        """What a page says."""
        loads, requests, started = dict[str, tuple[float, float]](), dict[str, float](), 0.0
        for s in samples:
            attempts, time = loads.get(s.labels.get("model_path", ""), (0.0, 0.0))
            if s.name == _ATTEMPTS:
                loads[s.labels.get("model_path", "")] = attempts + s.value, time
            elif s.name == _MICROSECONDS:
                loads[s.labels.get("model_path", "")] = attempts, time + s.value
            elif s.name == monitoring.REQUESTS:
                requests[json.dumps(s.labels, sort_keys=True)] = s.value
            elif s.name == _STARTED:
                started = s.value
        return cls(loads, requests, started)


def same_run(before: RunCounters, now: RunCounters) -> bool:
    """Whether one run of a server can have counted this, and then that."""
    if before.started and now.started:
        return before.started == now.started
    for path, (attempts, time) in before.loads.items():
        attempts_now, time_now = now.loads.get(path, (0.0, 0.0))
        if attempts_now < attempts or time_now < time or (attempts_now == attempts and time_now != time > 0):
            return False
    return all(now.requests.get(labels, 0.0) >= count for labels, count in before.requests.items())


class _Run(msgspec.Struct, frozen=True):
    """What was seen last. name: of the run."""

    name: str
    counters: RunCounters


def _alike(one: _Run, other: _Run) -> bool:
    """Whether they differ in nothing but the number of requests: what the server has loaded tells its runs apart."""
    return one.name == other.name and msgspec.structs.replace(
        one.counters, requests={}) == msgspec.structs.replace(other.counters, requests={})


class ServerRuns:
    """Names the run of a server. directory: where what was seen is kept for the next command; what can't be read or
    written there is another run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last: _Run | None = None
        self._metrics = True  # whether the server has any
        self._page: tuple[Deadline, tuple[Sample, ...] | None] = Deadline(0.0), None

    def page(self, rest: RestClient) -> tuple[Sample, ...] | None:
        """What the server's metrics say of loads and requests; None if it has none, and then it isn't asked again:
        where nothing was counted before, whatever is counted later may be the same run's. `instance` takes it, if that
        is asked for at once. Raises ClientError."""
        samples = monitoring.read(rest, timeout=_SECONDS, names=_NAMES) if self._metrics else None
        self._metrics = samples is not None or (self._last or self._read()).counters != RunCounters()
        self._page = Deadline(_MOMENT), samples
        return samples

    def instance(self, rest: RestClient | None) -> str:
        """Another one after each start that shows. A server that doesn't answer, or has no metrics, is what it was.
        rest: None for one without it."""
        last = self._last or self._read()
        now = self._counters(rest)
        if now is not None:
            name = last.name if same_run(last.counters, now) else secrets.token_hex(8)
            run = _Run(name, now)
            if self._last is None or not _alike(run, last):
                self._write(run)
            last = run
        elif self._last is None:
            self._write(last)
        self._last = last
        return last.name

    def _counters(self, rest: RestClient | None) -> RunCounters | None:
        """None for what says nothing: a server that doesn't answer, or has no metrics."""
        if rest is None:
            return None
        (recent, samples), self._page = self._page, (Deadline(0.0), None)
        if recent.over:
            try:
                samples = self.page(rest)
            except ClientError:
                return None
            self._page = Deadline(0.0), None
        return None if samples is None else RunCounters.of(samples)

    def _read(self) -> _Run:
        try:
            return msgspec.json.decode(files.read_bytes(self._directory / FILE, _MOST_BYTES), type=_Run)
        except (OSError, msgspec.DecodeError):
            return _Run(secrets.token_hex(8), RunCounters())

    def _write(self, run: _Run) -> None:
        try:
            render.write({FILE: msgspec.json.encode(run).decode()}, self._directory)
        except ServerError:  # a full disk: the next command begins anew
            return
