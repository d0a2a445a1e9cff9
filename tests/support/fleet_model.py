"""Servers that change at once and can't fail: a release of them costs what coordination costs, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.backends import Progress
from deploy.fleet.driver import FleetDriver, FleetOutcome
from deploy.fleet.policy import MemberState, ReleaseStage, size, waves_of
from deploy.fleet.server import FleetServer
from deploy.spec import Spec, parse
from deploy.state import FleetRelease, Ledger, fleet_releases


class ModelledServer(FleetServer):
    """calls: how often it was asked or told something."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, "m")
        self.calls, self._at = 0, ReleaseStage.BEHIND

    def state(self, release: FleetRelease, staged: bool) -> MemberState:
        self.calls += 1
        return MemberState(max(self._at, ReleaseStage.STAGED if staged else ReleaseStage.BEHIND))

    def stage(self, version: int, progress: Progress) -> None:
        self.calls += 1

    def change(self, version: int, note: str, wave: int, progress: Progress) -> None:
        self.calls, self._at = self.calls + 1, ReleaseStage.TRIAL

    def bake(self, progress: Progress) -> None:
        self.calls, self._at = self.calls + 1, ReleaseStage.VERIFIED

    def finish(self, progress: Progress) -> None:
        self.calls, self._at = self.calls + 1, ReleaseStage.DONE


@dataclass(frozen=True)
class ModelledRelease:
    """calls: of all servers. ledger: bytes."""

    outcome: FleetOutcome
    calls: int
    ledger: int


def fleet_of(count: int) -> Spec:
    """A spec of so many servers, whose ports are any free ones."""
    names = ", ".join(f"{{name: s{number}}}" for number in range(count))
    return parse(f"{{models: [{{name: m, versions: 1}}], server: {{grpc_port: 0, rest_port: 0}}, servers: [{names}]}}",
                 Path("/nowhere/serving.yaml"))


def release(spec: Spec, directory: Path, share: int | str) -> ModelledRelease:
    """A release on all of them, `share` of them at a time. directory: of its ledger."""
    ledger = Ledger(directory)
    names = [member.short_name for member in spec.servers]
    begun = ledger.append("fleet_begin", release="f1", model="m", kind="rollout", version=2, before={}, home={}, by={},
                          waves=[list(wave) for wave in waves_of(names, [1, "25%", "100%"])], note="", pauses=[],
                          options={})
    servers = [ModelledServer(member) for member in spec.servers]
    outcome = FleetDriver(servers, ledger, fleet_releases([begun])[0], most_unavailable=size(share, len(names)),
                          patience=1, progress=lambda _: None).run()
    return ModelledRelease(outcome, sum(server.calls for server in servers), ledger.path.stat().st_size)
