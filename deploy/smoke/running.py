"""`smoke_test`: ask a server everything that can be asked about what it should serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from deploy import client
from deploy.client import Client, monitoring
from deploy.client.monitoring import Warmed
from deploy.errors import ClientError, RepositoryError
from deploy.goldens.tolerances import overridden
from deploy.repository import ModelVersions, Repository, VersionFacts, versions_of
from deploy.smoke.report import BOTH, REST, RPC, CheckId, CheckRun, Latency, SmokedServer, SmokeReport, passed_if
from deploy.smoke.version import (
    CheckedVersion,
    check_errors,
    check_label,
    check_resolves,
    check_unknown_model,
    check_version,
)
from deploy.spec import Spec
from deploy.types import Endpoint, ModelRef, ModelVersion, ServedModel, Specific, VersionStatus
from deploy.wire.model_config import select

Progress = Callable[[str], None]
Source = Callable[[ModelVersion], "VersionFacts | None"]
"""What is known of a version; None for one that nothing is known of."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to ask.

    timeout: seconds for one request.
    absolute, relative: tolerances instead of the published ones.
    repeats: requests per version and protocol that the latency is the median of; 0: none.
    workers: models that are asked at the same time.
    metrics: path of the server's metrics, where they are on.
    refusals: whether requests are sent that have to be refused, which says something of the server, and nothing of a
        version.
    """

    timeout: float = 30.0
    absolute: float | None = None
    relative: float | None = None
    repeats: int = 5
    workers: int = 2
    metrics: str = monitoring.PATH
    refusals: bool = True


def smoke_test(target: str | Endpoint | Client, wanted: Sequence[ServedModel | str],
               source: Source | Repository | None = None, settings: Settings | None = None,
               progress: Progress | None = None, *, only: Collection[CheckId] | None = None) -> SmokeReport:
    """Ask for every model, version and label that is wanted, over both protocols, in every form.

    The answers are compared with what was published.

    target: an endpoint (one protocol is enough: the other's checks are skipped), an address, or a connected client.
    wanted: what should be served. A name alone stands for all versions of it that the server says are available.
    source: what is known of a version: a repository, or any function; without it, requests are generated from the live
        signatures and answers only have to be finite and the same over both protocols.
    progress: takes a sentence for each version.
    only: the checks that are asked, of those that `planned_checks` names; all without it.

    Never raises for what the server does: everything stands in the report. Raises SpecError for a bad target, and
    RepositoryError if the source can't be read.
    """
    began = time.perf_counter()
    settings = settings or Settings()
    facts = _source(source)
    connected = target if isinstance(target, Client) else client.connect(target, timeout=settings.timeout)
    try:
        server = SmokedServer(connected, settings.timeout)
        tell = _Turns(progress)
        models = [_Model(CheckRun(server, only), model, facts, settings, tell) for model in wanted]
        _check_all(models, server, min(settings.workers, len(models)))
        last = CheckRun(server, only)
        if settings.refusals:
            check_unknown_model(last)
        latencies = with_warmup([m for model in models for m in model.run.latencies], server,
                                {m.name: versions_of(m).name for m in wanted if isinstance(m, ServedModel)},
                                settings.metrics)
    finally:
        if connected is not target:
            connected.close()
    asked = [model.run for model in models] + [last]
    gone = "; ".join(f"{protocol}: {why}" for protocol, why in server.gone.items())
    return SmokeReport(connected.endpoint, tuple(c for a in asked for c in a.checks),
                  latencies, time.perf_counter() - began, gone)


def _check_all(models: Sequence[_Model], server: SmokedServer, workers: int) -> None:
    if workers < 2:
        for model in models:
            model.check()
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(_Model.check, models))
        except BaseException:
            server.gone.update({RPC: "interrupted", REST: "interrupted"})  # the other thread asks nothing more
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def planned_checks(wanted: Sequence[ServedModel | str], source: Source | Repository | None = None
                   ) -> tuple[CheckId, ...]:
    """What `smoke_test` would ask a server that serves all of this, in its order. No server is needed.

    Of versions that nothing is known of (no source, or not in it), requests can't be named before their signatures have
    been asked for. Raises RepositoryError if the source can't be read.
    """
    planned = CheckRun(SmokedServer(Client(None, None), 0.0), planning=True)
    for model in wanted:
        _Model(planned, model, _source(source), Settings(repeats=0), _Turns(None)).check()
    check_unknown_model(planned)
    return tuple(check.id for check in planned.checks)


def _source(source: Source | Repository | None) -> Source:
    return from_repository(source) if isinstance(source, Repository) else source or (lambda _: None)


class _Turns:
    """Calls a progress function from one thread at a time."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._lock = progress, threading.Lock()

    def __call__(self, sentence: str) -> None:
        if self._progress is not None:
            with self._lock:
                self._progress(sentence)


class _Model:
    """All checks of one model, in one thread."""

    def __init__(self, run: CheckRun, wanted: ServedModel | str, source: Source, settings: Settings, tell: Progress
                 ) -> None:
        self.run, self._source, self._settings, self._tell = run, source, settings, tell
        self._silence, self._statuses = "", list[VersionStatus]()
        self.name = wanted if isinstance(wanted, str) else wanted.name
        self._wanted = None if isinstance(wanted, str) else wanted

    def check(self) -> None:
        live = self._live()
        versions = self._versions(live)
        checked = {version: self._version(version) for version in versions}
        self._names(checked, live)
        served = [v for v, p in checked.items() if p.served]
        if served and self._settings.refusals:
            contract = checked[served[-1]].contract
            check_errors(self.run, ModelRef(self.name, served[-1]), [*versions, *live], next(iter(contract), ""))

    def _version(self, version: int) -> CheckedVersion:
        self._tell(f"asking {self.name}/{version}")
        return check_version(self.run, ModelRef(self.name, version), self._facts(version), self._settings.repeats,
                             self._statuses)

    def _facts(self, version: int) -> VersionFacts:
        """With the tolerances that hold in this test, in each golden as well."""
        facts = self._source(ModelVersion(self.name, version)) or VersionFacts()
        limits = overridden(facts.tolerances, self._settings.absolute, self._settings.relative)
        return replace(facts, tolerances=limits,
                       goldens=tuple(replace(golden, tolerances=limits) for golden in facts.goldens))

    def _names(self, checked: dict[int, CheckedVersion], live: dict[int, bool]) -> None:
        """The name alone resolves to the highest version that is served, a label to its own."""
        available = [version for version, serving in live.items() if serving]
        if available:
            check_resolves(self.run, ModelRef(self.name), max(available), "name alone")
        labels = self._wanted.labels if self._wanted else {}
        for label, version in labels.items():
            question = checked.get(version, CheckedVersion()).question
            check_label(self.run, ModelRef(self.name, label=label), version, question)

    def _live(self) -> dict[int, bool]:
        """The versions that the server knows, and whether it serves them, as the first protocol that answers says."""
        if self.run.planning:
            return dict.fromkeys(self._numbers({}), True)
        for protocol in (RPC, REST):
            if self.run.server.offers(protocol):
                try:
                    statuses = self.run.server.one(protocol).status(ModelRef(self.name),
                                                                       timeout=self._settings.timeout)
                    self._statuses = statuses if protocol == RPC else []
                    return {status.version: status.serving for status in statuses}
                except ClientError as error:  # of a version, the status checks tell it
                    self._silence = error.message
        return {}

    def _versions(self, live: dict[int, bool]) -> list[int]:
        """What should be served: as the policy says of what is on disk; else, what is available."""
        numbers = self._numbers(live)
        if not numbers:
            self.run.check(ModelRef(self.name), "status", BOTH, lambda: passed_if(
                False, "an available version", self._silence or f"versions {', '.join(map(str, live)) or 'none'}"))
        return numbers

    def _numbers(self, live: dict[int, bool]) -> list[int]:
        wanted = self._wanted
        if wanted is not None and isinstance(wanted.versions, Specific):
            return list(wanted.versions.versions)
        numbers = _on_disk(wanted) if wanted is not None else []
        return numbers or sorted(version for version, serving in live.items() if serving)


def _on_disk(model: ServedModel) -> list[int]:
    """The versions below a base path that its policy chooses; none if it isn't on this machine."""
    try:
        return select(model.versions, versions_of(model).numbers())
    except RepositoryError:
        return []


def from_models(models: Iterable[ServedModel], *, tflite: bool = False) -> Source:
    """As `from_repository`, of served models: each has its own base path, and perhaps another name there."""
    kept = {model.name: versions_of(model) for model in models}
    return lambda mv: kept[mv.name].find_facts(mv.version, tflite=tflite) if mv.name in kept else None


def from_repository(repository: Repository, *, tflite: bool = False) -> Source:
    """Contract, goldens and tolerances as published. Versions of other tools: the contract of their saved_model.pb.

    tflite: the server prefers the model.tflite of a version that has one.
    """
    return lambda mv: ModelVersions(repository, mv.name).find_facts(mv.version, tflite=tflite)


def source_of(spec: Spec, models: Iterable[ServedModel] | None = None) -> Source:
    """What is known of the versions of a spec's models."""
    return from_models(spec.models if models is None else models, tflite=spec.server.prefers_tflite)


def settings_of(spec: Spec) -> Settings:
    """How a spec wants to be asked."""
    part, metrics = spec.smoke, spec.server.monitoring
    settings = Settings(timeout=part.timeout, absolute=part.absolute, relative=part.relative)
    return settings if metrics is None else replace(settings, metrics=metrics.path)


# What the server says of its own warm-up


def with_warmup(latencies: Iterable[Latency], server: SmokedServer, directories: Mapping[str, str],
                path: str) -> tuple[Latency, ...]:
    """The latencies, each with what the server counted while it warmed that version up.

    directories: model -> name of the directory that its versions are in. path: of the server's metrics.
    """
    measured = tuple(latencies)
    warmed = _warmed(server, path) if measured else None
    if warmed is None:
        return measured
    return tuple(_warmed_up(latency, warmed, directories.get(latency.model, latency.model)) for latency in measured)


def _warmed(server: SmokedServer, path: str) -> Sequence[Warmed] | None:
    """None if the server doesn't tell."""
    if not server.offers(REST) or REST in server.gone:
        return None
    try:
        samples = monitoring.read(server.rest, path, timeout=min(5.0, server.timeout))
    except ClientError:
        return None
    return None if samples is None else monitoring.warm_ups(samples)


def _warmed_up(latency: Latency, warmed: Sequence[Warmed], directory: str) -> Latency:
    """Counters go by the version's path on the server, of which its last two names are known here."""
    for one in warmed:
        place = PurePosixPath(one.path)
        if place.name == str(latency.version) and place.parent.name == directory and one.status == "OK":
            return replace(latency, warmed=one.records, warm_seconds=one.seconds)
    return replace(latency, warmed=0)
