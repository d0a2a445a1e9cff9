"""The checks of a release: smoke test, comparison, watching, confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from deploy import goldens, smoke
from deploy.client.monitoring import RequestCounts, request_counts
from deploy.errors import BadRequest, RolloutError
from deploy.goldens import Golden, examples
from deploy.render import write
from deploy.repository import VersionFacts, versions_of
from deploy.rollout import canary
from deploy.rollout.canary import CanaryReport
from deploy.rollout.opening import Opened
from deploy.rollout.trial import Checks, Trial
from deploy.smoke import Settings
from deploy.spec import ComparePart
from deploy.state import Release
from deploy.types import CLASSIFY_METHOD, REGRESS_METHOD, ModelRef, ServedModel, Specific
from deploy.waiting import Deadline

TIMES = ("soak", "hold")  # settings of the spec's rollout part that are kept with a release
_SAMPLE = 8  # requests of one look while watching
_BATCHES = (2, 2, 2, 2)  # of the generated requests for each signature


def checks(opened: Opened, release: Release) -> Checks:
    """All checks by name. Times are those that the release began with, whatever the spec says now."""
    made = _Made(opened, release)
    return {"gate": made.gate, "compare": made.compare, "soak": made.soak, "confirm": made.confirm, "hold": made.hold}


class _Made:
    def __init__(self, opened: Opened, release: Release) -> None:
        kept = {name: float(release.options[name]) for name in TIMES if name in release.options}
        self._o, self._release = opened, release.id
        self._part = msgspec.structs.replace(opened.spec.rollout, **kept)
        self._base = Path(opened.model.base_path)

    def gate(self, trial: Trial) -> str:
        """Everything that a smoke test asks, through the label."""
        labels = {trial.candidate.label: trial.version} if trial.candidate.label else {}
        wanted = ServedModel(trial.model, str(self._base), Specific((trial.version,)), labels)
        asked = self._o.spec.smoke
        settings = Settings(timeout=asked.timeout, absolute=asked.absolute, relative=asked.relative, repeats=0)
        report = smoke.smoke_test(self._o.client, [wanted], self._source(wanted), settings)
        report.raise_if_failed()
        return report.summary

    def compare(self, trial: Trial) -> str:
        """The same requests to both; the report stays in the state directory."""
        limits = self._part.comparison or ComparePart()
        if trial.current is None:
            return "there is no other version to compare with"
        requests = self._requests(trial)
        if not requests:
            return "there is nothing to ask: no recorded requests, and none can be generated"
        facts = self._facts(trial.version)
        report = canary.judge(self._o.client, trial.current, trial.candidate, requests, limits=limits,
                              tolerances=facts.tolerances if facts else {}, timeout=self._o.spec.smoke.timeout)
        where = self._keep(trial, report)
        report.raise_if_refused()
        return f"{report.summary} ({where})"

    def soak(self, trial: Trial) -> str:
        return self._watch(trial, self._part.soak)

    def hold(self, trial: Trial) -> str:
        return self._watch(trial, self._part.hold)

    def confirm(self, trial: Trial) -> str:
        """The label leads there over both protocols, and a request through it is answered by that version."""
        request = next(iter(self._requests(trial)), None)
        for protocol, one in (("gRPC", self._o.client.rpc), ("REST", self._o.client.rest)):
            if one is None:
                continue
            seen = one.resolve(trial.candidate).version
            if seen != trial.version:
                raise RolloutError(f"{trial.candidate} leads to version {seen} over {protocol}, not {trial.version}",
                                   hint="does another server listen on this port?")
            if request is None:
                continue
            try:
                answer = one.predict(trial.candidate, request.inputs, signature=request.signature)
            except BadRequest:  # no JSON form
                continue
            if answer.model_version is not None and answer.model_version.version != trial.version:
                raise RolloutError(f"{trial.candidate} is answered by {answer.model_version}, not {trial.version}")
        return f"{trial.candidate} is answered by version {trial.version} over both protocols"

    def _watch(self, trial: Trial, seconds: float) -> str:
        """Ask a few requests again and again; nothing may fail, not even for others."""
        o, deadline, looks = self._o, Deadline(seconds, self._o.site.clock), 0
        requests = self._requests(trial)[:_SAMPLE]
        limits = msgspec.structs.replace(self._part.comparison or ComparePart(), repeats=1, latency=1e9)
        before = self._counted(trial.model)
        while True:
            label = trial.candidate.label
            if label is not None and o.site.agree(label) != {trial.version}:
                raise RolloutError(f"{trial.candidate} doesn't lead to version {trial.version} any more",
                                   hint="somebody else changed the server's configuration, or it was started again")
            beside = trial.current or trial.candidate
            canary.judge(o.client, beside, trial.candidate, requests, limits=limits,
                         timeout=o.spec.smoke.timeout).raise_if_refused()
            looks += 1
            if deadline.over:
                break
            deadline.sleep(self._part.interval)
        return f"{looks} looks in {deadline.waited:.0f} s{self._others(trial.model, before)}"

    def _counted(self, model: str) -> RequestCounts | None:
        monitoring = self._o.spec.server.monitoring
        if monitoring is None or not monitoring.enable:
            return None
        return request_counts(self._o.client.rest, model, monitoring.path)

    def _others(self, model: str, before: RequestCounts | None) -> str:
        """What the server's own counters say of all requests meanwhile."""
        after = self._counted(model)
        if before is None or after is None:
            return ""
        meanwhile = after.since(before)
        if meanwhile.failed:
            raise RolloutError(f"{meanwhile.failed} of {meanwhile.all} requests to {model} failed meanwhile, the "
                               "server counts", details={"requests": dict(meanwhile.by_status)})
        return f", {meanwhile.all} requests counted by the server, none failed"

    def _requests(self, trial: Trial) -> Sequence[Golden]:
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
        return ref.version or self._o.site.labels([ref.label or ""]).get(ref.label or "")

    def _facts(self, version: int | None) -> VersionFacts | None:
        tflite = self._o.spec.server.prefers_tflite
        return versions_of(self._o.model).find_facts(version, tflite=tflite) if version else None

    def _source(self, wanted: ServedModel) -> smoke.Source:
        return smoke.from_models([wanted], tflite=self._o.spec.server.prefers_tflite)

    def _keep(self, trial: Trial, report: CanaryReport) -> Path:
        """Write the report as JSON and as a page."""
        directory, name = self._o.spec.state_dir / "reports", f"{self._release}-{trial.model}-{trial.version}"
        title = f"{trial.model}/{trial.version} beside {trial.current}"
        json = msgspec.json.format(msgspec.json.encode(report.to_json())).decode() + "\n"
        files = {f"{name}.json": json, f"{name}.html": canary.report_page(report, title)}
        return write(files, directory, error=RolloutError)[1]
