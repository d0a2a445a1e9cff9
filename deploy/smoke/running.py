"""`run`: ask a server everything that can be asked about what it should serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy import client
from deploy.client import Client, monitoring
from deploy.errors import ClientError, RepositoryError
from deploy.repository import Repository, versions_of
from deploy.smoke.addressing import check_errors, check_label, check_resolves, check_unknown_model
from deploy.smoke.answers import Judge
from deploy.smoke.asking import BOTH, REST, RPC, Asking, Server, Subject, verdict
from deploy.smoke.report import Report
from deploy.smoke.sources import Known, Source, from_repository, nothing
from deploy.smoke.version import Proven, check_version
from deploy.smoke.warming import with_warmup
from deploy.types import Contract, Endpoint, ModelRef, ModelVersion, ServedModel, Specific
from deploy.wire.model_config import select

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to ask.

    timeout: seconds for one request.
    absolute, relative: tolerances instead of the published ones.
    repeats: requests per version and protocol that the latency is the median of; 0: none.
    workers: models that are asked at the same time.
    metrics: path of the server's metrics, where they are on.
    """

    timeout: float = 30.0
    absolute: float | None = None
    relative: float | None = None
    repeats: int = 5
    workers: int = 2
    metrics: str = monitoring.PATH


def smoke_test(target: str | Endpoint | Client, wanted: Sequence[ServedModel | str],
               source: Source | Repository | None = None, settings: Settings | None = None,
               progress: Progress | None = None) -> Report:
    """Ask for every model, version and label that is wanted, in every way; compare with what was published.

    target: an endpoint (one protocol is enough: the other's checks are skipped), an address, or a connected client.
    wanted: what should be served. A name alone stands for all versions of it that the server says are available.
    source: what is known of a version: a repository, or any function; without it, requests are generated from the live
        signatures and answers only have to be finite and the same over both protocols.
    progress: takes a sentence for each version.

    Never raises for what the server does: everything stands in the report. Raises SpecError for a bad target, and
    RepositoryError if the source can't be read.
    """
    began = time.perf_counter()
    settings = settings or Settings()
    known = from_repository(source) if isinstance(source, Repository) else source or nothing
    connected = target if isinstance(target, Client) else client.connect(target, timeout=settings.timeout)
    try:
        server = Server(connected, settings.timeout)
        tell = _Turns(progress)
        models = [_Model(Asking(server), model, known, settings, tell) for model in wanted]
        with ThreadPoolExecutor(max(1, min(settings.workers, len(models)))) as pool:
            try:
                list(pool.map(_Model.check, models))
            except BaseException:
                server.gone.update({RPC: "interrupted", REST: "interrupted"})  # the other thread asks nothing more
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        last = Asking(server)
        check_unknown_model(last)
        latencies = with_warmup([m for model in models for m in model.asking.latencies], server,
                                {m.name: Path(m.base_path).name for m in wanted if isinstance(m, ServedModel)},
                                settings.metrics)
    finally:
        if connected is not target:
            connected.close()
    asked = [model.asking for model in models] + [last]
    gone = "; ".join(f"{protocol}: {why}" for protocol, why in server.gone.items())
    return Report(connected.endpoint, tuple(c for a in asked for c in a.checks),
                  latencies, time.perf_counter() - began, gone)


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

    def __init__(self, asking: Asking, wanted: ServedModel | str, source: Source, settings: Settings, tell: Progress
                 ) -> None:
        self.asking, self._source, self._settings, self._tell = asking, source, settings, tell
        self._silence = ""
        self.name = wanted if isinstance(wanted, str) else wanted.name
        self._wanted = None if isinstance(wanted, str) else wanted

    def check(self) -> None:
        live = self._live()
        versions = self._versions(live)
        proven = {version: self._version(version) for version in versions}
        self._names(proven, live)
        served = [v for v, p in proven.items() if p.served]
        if served:
            contract = proven[served[-1]].contract
            check_errors(self.asking, Subject(self.name, served[-1]), [*versions, *live], next(iter(contract), ""))

    def _version(self, version: int) -> Proven:
        self._tell(f"asking {self.name}/{version}")
        known, judge = self._known(version)
        return check_version(self.asking, Subject(self.name, version), known, judge, self._settings.repeats)

    def _known(self, version: int) -> tuple[Known, Judge]:
        known = self._source(ModelVersion(self.name, version)) or Known()
        return known, Judge(known, self._settings.absolute, self._settings.relative)

    def _names(self, proven: dict[int, Proven], live: dict[int, bool]) -> None:
        """The name alone leads to the highest version that is served, a label to its own."""
        available = [version for version, serving in live.items() if serving]
        if available:
            check_resolves(self.asking, Subject(self.name), max(available), "name alone")
        labels = self._wanted.labels if self._wanted else {}
        for label, version in labels.items():
            found = proven.get(version, Proven(False, Contract(()), None))
            check_label(self.asking, Subject(self.name, label=label), version, found.case, self._known(version)[1])

    def _live(self) -> dict[int, bool]:
        """The versions that the server knows, and whether it serves them, as the first protocol that answers says."""
        for protocol in (RPC, REST):
            if self.asking.server.offers(protocol):
                try:
                    statuses = self.asking.server.one(protocol).status(ModelRef(self.name),
                                                                       timeout=self._settings.timeout)
                    return {status.version: status.serving for status in statuses}
                except ClientError as error:  # of a version, the status checks tell it
                    self._silence = error.message
        return {}

    def _versions(self, live: dict[int, bool]) -> list[int]:
        """What should be served: as the policy says of what is on disk; else, what is available."""
        wanted = self._wanted
        if wanted is not None and isinstance(wanted.versions, Specific):
            return list(wanted.versions.versions)
        numbers = _on_disk(wanted) if wanted is not None else []
        numbers = numbers or sorted(version for version, serving in live.items() if serving)
        if not numbers:
            self.asking.check(Subject(self.name), "status", BOTH, lambda: verdict(
                False, "an available version", self._silence or f"versions {', '.join(map(str, live)) or 'none'}"))
        return numbers


def _on_disk(model: ServedModel) -> list[int]:
    """The versions below a base path that its policy chooses; none if it isn't on this machine."""
    try:
        return select(model.versions, versions_of(model).numbers())
    except RepositoryError:
        return []

