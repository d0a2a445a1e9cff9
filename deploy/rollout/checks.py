"""The checks of a release: smoke test, comparison, watching, confirmation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from deploy import goldens, smoke
from deploy.client import Client, Prediction
from deploy.client.monitoring import RequestCounts, request_counts
from deploy.errors import BadRequest, RolloutError
from deploy.goldens import Golden, examples
from deploy.render import write
from deploy.repository import VersionFacts, versions_of
from deploy.rollout import canary
from deploy.rollout.actions import CanaryTrial, Checks
from deploy.rollout.canary import CanaryReport
from deploy.rollout.context import RolloutContext
from deploy.rollout.live_server import LiveServer
from deploy.smoke import Settings
from deploy.spec import ComparePart
from deploy.state import Release
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, ModelRef, ServedModel, Specific
from deploy.waiting import Deadline
from deploy.wire.dtypes import Arrays

BAKE_TIMES = {"bake_before": "soak", "bake_after": "hold"}
"""Seconds that are kept with a release -> what the spec's rollout part calls them."""

_SAMPLE = 8  # requests of one look while watching
_BATCHES = (2, 2, 2, 2)  # of the generated requests for each signature


def checks(context: RolloutContext, release: Release) -> Checks:
    """All checks by name. Times are those that the release began with, whatever the spec says now."""
    all_checks = _Checks(context, release)
    return {"gate": all_checks.gate, "compare": all_checks.compare, "bake_before": all_checks.bake_before,
            "confirm": all_checks.confirm, "bake_after": all_checks.bake_after}


def _each(sentences: Sequence[str]) -> str:
    """What was found of each replica, once."""
    several = f", on each of {len(sentences)} replicas" if len(sentences) > 1 else ""
    return f"{sentences[0]}{several}" if sentences else "no replica was there to be asked"


class _Resolving:
    """A client that notes what labels resolve to: answers over gRPC say which version they are from."""

    def __init__(self, client: canary.PredictClient, live_server: LiveServer) -> None:
        self._client, self._live_server = client, live_server

    def predict(self, ref: ModelRef, inputs: Arrays, /, *, signature: str, timeout: float | None = None) -> Prediction:
        answer = self._client.predict(ref, inputs, signature=signature, timeout=timeout)
        if ref.label is not None and answer.model_version is not None:
            self._live_server.answered(ref.label, answer.model_version.version)
        return answer


class _Checks:
    def __init__(self, context: RolloutContext, release: Release) -> None:
        kept = {spec_name: float(release.options[name]) for name, spec_name in BAKE_TIMES.items()
                if name in release.options}
        self._context, self._release = context, release.id
        self._part = msgspec.structs.replace(context.spec.rollout, **kept)

    def gate(self, trial: CanaryTrial) -> str:
        """Everything that a smoke test asks, through the label. That wrong requests are refused is seen on the servers
        that are released to first."""
        labels = {trial.candidate.label: trial.version} if trial.candidate.label else {}
        desired = ServedModel(trial.model, self._context.model.base_path, Specific((trial.version,)), labels)
        limits = self._context.spec.smoke
        settings = Settings(timeout=limits.timeout, absolute=limits.absolute, relative=limits.relative, repeats=0,
                            refusals=not self._context.brief)

        def ask(connected: Client) -> str:
            report = smoke.smoke_test(connected, [desired], lambda mv: self._facts(mv.version), settings)
            report.raise_if_failed()
            return report.summary

        return _each(self._context.each(ask))

    def compare(self, trial: CanaryTrial) -> str:
        """The same requests to both; the report stays in the state directory."""
        limits = self._part.comparison or ComparePart()
        if trial.current is None:
            return "there is no other version to compare with"
        requests = self._requests(trial)
        if not requests:
            return "there is nothing to ask: no recorded requests, and none can be generated"
        facts = self._facts(trial.version)
        current = trial.current
        (report,) = self._context.each(lambda connected: canary.judge(
            _Resolving(connected, self._context.live_server), current, trial.candidate, requests, limits=limits,
            timeout=self._context.spec.smoke.timeout, tolerances=facts.tolerances if facts else {},
            brief=self._context.brief), most=1)
        where = self._keep(trial, report)
        report.raise_if_refused()
        return f"{report.summary} ({where})"

    def bake_before(self, trial: CanaryTrial) -> str:
        return self._watch(trial, self._part.soak)

    def bake_after(self, trial: CanaryTrial) -> str:
        return self._watch(trial, self._part.hold)

    def confirm(self, trial: CanaryTrial) -> str:
        """The label resolves to it over both protocols, and a request through it is answered by that version."""
        request = next(iter(self._requests(trial)), None)
        return _each(self._context.each(lambda connected: self._confirmed(connected, trial, request)))

    def _confirmed(self, connected: Client, trial: CanaryTrial, request: Golden | None) -> str:
        for protocol, one in (("gRPC", connected.rpc), ("REST", connected.rest)):
            if one is None:
                continue
            answer = None
            if request is not None:
                with suppress(BadRequest):  # no JSON form
                    answer = _Resolving(one, self._context.live_server).predict(
                        trial.candidate, request.inputs, signature=request.signature)
            version = (answer and answer.model_version) or one.resolve(trial.candidate)  # over REST no answer tells
            if version.version != trial.version:
                raise RolloutError(f"{trial.candidate} resolves to version {version.version} over {protocol}, not "
                                   f"{trial.version}",
                                   hint="does another server listen on this port?", id="served-otherwise")
        return f"{trial.candidate} is answered by version {trial.version} over both protocols"

    def _watch(self, trial: CanaryTrial, seconds: float) -> str:
        """Ask a few requests again and again; nothing may fail, not even for others."""
        context, looks = self._context, 0
        deadline = Deadline(seconds, context.live_server.clock)
        requests = self._requests(trial)[:_SAMPLE]
        limits = msgspec.structs.replace(self._part.comparison or ComparePart(), repeats=1, latency=1e9)
        before = self._counted(trial.model)
        while True:
            label = trial.candidate.label
            if label is not None and context.live_server.resolved(label) != {trial.version}:
                raise RolloutError(f"{trial.candidate} doesn't resolve to version {trial.version} any more",
                                   hint="somebody else changed the server's configuration, or it was started again",
                                   id="served-otherwise")
            beside = trial.current or trial.candidate
            context.each(lambda connected, beside=beside: canary.judge(  # type: ignore[misc]
                connected, beside, trial.candidate, requests, limits=limits,
                timeout=context.spec.smoke.timeout).raise_if_refused())
            looks += 1
            if deadline.over:
                break
            deadline.sleep(self._part.interval)
        return f"{looks} looks in {deadline.waited:.0f} s{self._others(trial.model, before)}"

    def _counted(self, model: str) -> dict[Client, RequestCounts]:
        """By replica; none where the server doesn't tell."""
        monitoring = self._context.spec.server.monitoring
        if monitoring is None or not monitoring.enable:
            return {}
        counted = self._context.each(lambda one: (one, request_counts(one.rest, model, monitoring.path)))
        return {one: counts for one, counts in counted if counts is not None}

    def _others(self, model: str, before: Mapping[Client, RequestCounts]) -> str:
        """What the server's own counters say of all requests meanwhile."""
        after, total = self._counted(model), Counter[str]()
        if not before or not after:
            return ""
        for one, counts in after.items():
            total.update((counts.since(before[one]) if one in before else counts).by_status)
        meanwhile = RequestCounts(total)
        if meanwhile.failed:
            raise RolloutError(f"{meanwhile.failed} of {meanwhile.all} requests to {model} failed meanwhile, the "
                               "server counts", details={"requests": dict(meanwhile.by_status)}, id="requests-failed")
        return f", {meanwhile.all} requests counted by the server, none failed"

    def _requests(self, trial: CanaryTrial) -> Sequence[Golden]:
        """What the spec names; else the goldens of the version on trial, or of the one before; else generated ones."""
        limits = self._part.comparison
        if limits is not None and limits.requests:
            return goldens.requests(limits.requests, "correct rollout/compare/requests in the spec")
        facts, before = self._facts(trial.version), self._facts(self._version_of(trial.current))
        for known in (facts, before):
            if known is not None and known.goldens:
                return known.goldens
        if facts is None or facts.contract is None:
            return []
        signatures = [s for s in facts.contract.values() if s.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD)]
        return list(examples.requests(signatures, facts.features, batches=_BATCHES))

    def _version_of(self, ref: ModelRef | None) -> int | None:
        if ref is None:
            return None
        label, live = ref.label or "", self._context.live_server
        return ref.version or live.recent_labels([label]).get(label)

    def _facts(self, version: int | None) -> VersionFacts | None:
        if not version:
            return None
        tflite, model = self._context.spec.server.prefers_tflite, self._context.model
        return self._context.once(("facts", model.base_path, version, tflite),
                                  lambda: versions_of(model).find_facts(version, tflite=tflite))

    def _keep(self, trial: CanaryTrial, report: CanaryReport) -> Path:
        """Write the report as JSON and as a page."""
        directory, name = self._context.spec.state_dir / "reports", f"{self._release}-{trial.model}-{trial.version}"
        title = f"{trial.model}/{trial.version} beside {trial.current}"
        json = msgspec.json.format(msgspec.json.encode(report.to_json())).decode() + "\n"
        files = {f"{name}.json": json, f"{name}.html": canary.report_page(report, title)}
        return write(files, directory, error=RolloutError)[1]
