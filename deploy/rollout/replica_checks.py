"""Is a new replica as good as those that it replaces? It serves the same versions, by another image or other flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec

from deploy import client, smoke
from deploy.backends import Progress, Replica, Server
from deploy.client import Client
from deploy.goldens import Golden, examples
from deploy.repository import versions_of
from deploy.rollout import canary
from deploy.serving import snapshot, startup
from deploy.serving.resolving import ResolvedModel
from deploy.smoke import Settings
from deploy.spec import ComparePart, Spec
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, ModelRef, ServedModel, Specific
from deploy.waiting import Deadline

_MOST = 20  # requests of one look while watching


class ReplicaChecks:
    """known_good: the spec with what is served; models: the same, with paths."""

    def __init__(self, spec: Spec, known_good: Spec, models: Sequence[ResolvedModel], progress: Progress) -> None:
        self._spec, self._served, self._models, self._progress = spec, known_good.models, models, progress

    def prove(self, one: Replica, beside: Replica | None, server: Server) -> None:
        """It serves exactly what is wanted, passes the smoke test, and answers as one of the old ones does. Raises
        NotReady, StartFailed, SmokeFailed, RolloutError or ClientError."""
        self._progress(f"{one.name}: is everything served?")
        with snapshot.connected(snapshot.connect, one.endpoint) as controls:
            startup.wait(server, controls, self._models, Deadline(self._spec.server.start_timeout), self._progress)
        self._progress(f"{one.name}: {self._tested(one)}")
        if beside is not None:
            self._progress(f"{one.name}: {self.compare(one, beside)}")

    def _tested(self, one: Replica) -> str:
        part = self._spec.smoke
        settings = Settings(timeout=part.timeout, absolute=part.absolute, relative=part.relative, repeats=0)
        with closing(self._client(one)) as connected:
            report = smoke.smoke_test(connected, self._served, smoke.source_of(self._spec, self._served), settings)
        report.raise_if_failed()
        return report.summary

    def compare(self, one: Replica, beside: Replica, *, quick: bool = False) -> str:
        """What the judge finds. quick: few requests, once each. Raises RolloutError or ClientError."""
        limits, said = self._spec.rollout.comparison or ComparePart(), list[str]()
        if quick:
            limits = msgspec.structs.replace(limits, repeats=1, latency=1e9)
        with closing(self._client(beside)) as before, closing(self._client(one)) as after:
            for ref, requests in self._requests():
                report = canary.judge(before, ref, ref, requests[:_MOST] if quick else requests, limits=limits,
                                      timeout=self._spec.smoke.timeout, beside=after)
                report.raise_if_refused()
                said.append(f"{ref} beside {beside.name}: {report.summary}")
        return "; ".join(said) or "there is nothing to ask, or nothing to compare with"

    def _requests(self) -> Iterator[tuple[ModelRef, Sequence[Golden]]]:
        """By version that is served: the goldens, else generated requests."""
        for served in self._served:
            for version in sorted(served.versions.versions if isinstance(served.versions, Specific) else ()):
                if requests := self._requests_of(served, version):
                    yield ModelRef(served.name, version), requests

    def _requests_of(self, served: ServedModel, version: int) -> Sequence[Golden]:
        facts = versions_of(served).find_facts(version, tflite=self._spec.server.prefers_tflite)
        if facts is None or facts.contract is None:
            return []
        signatures = [s for s in facts.contract.values() if s.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD)]
        return facts.goldens or list(examples.requests(signatures, facts.features, batches=(2,)))

    def _client(self, one: Replica) -> Client:
        return client.connect(one.endpoint, timeout=self._spec.smoke.timeout)
