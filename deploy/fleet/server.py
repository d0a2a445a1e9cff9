"""One server of a release of many: each step of it is a release of that server alone, by the same policy as ever.

Its release pauses where all servers wait for each other: before it is watched, and before the version that is left is
unloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from deploy import rollout
from deploy.backends import Progress
from deploy.errors import ClientError, RolloutError, ServerError
from deploy.fleet.policy import MemberState, ReleaseStage
from deploy.rollout.context import known_good_of, rollout_context
from deploy.rollout.goals import current, model_of
from deploy.rollout.plan import backward_goal, strategy_of
from deploy.spec import Spec
from deploy.state import FleetRelease, Ledger, Release, releases, started_from
from deploy.types import Serving

_PATIENCE = 2.0  # seconds for a server that is only looked at
_UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class ServerView:
    """A server as it was seen. live: what it serves of the model, None if it can't be asked. own: its open release of
    the model. away: why it can't be asked."""

    live: Serving | None = None
    own: Release | None = None
    away: str = ""

    @property
    def before(self) -> Serving | None:
        """What the way back leads to; None if nobody knows."""
        return self.own.before if self.own is not None else self.live


class FleetServer:
    """One server of a release. spec: its own."""

    def __init__(self, spec: Spec, model: str, *, allow_breaking: str = "") -> None:
        self.spec, self.model, self.name, self._allow = spec, model, spec.short_name, allow_breaking

    # -- looking

    def view(self) -> ServerView:
        """Look once. Raises RolloutError if its ledger can't be read."""
        own = next((r for r in reversed(releases(Ledger(self.spec.state_dir).read(), self.model)) if r.open), None)
        try:
            with rollout_context(self._impatient, self.model) as context:
                return ServerView(context.live(), own)
        except (ClientError, ServerError) as e:
            return ServerView(None, own, e.message)

    @property
    def _impatient(self) -> Spec:
        part = self.spec.rollout
        return msgspec.structs.replace(self.spec, rollout=msgspec.structs.replace(
            part, patience=min(_PATIENCE, part.patience)))

    def state(self, release: FleetRelease, staged: bool) -> MemberState:
        """How far it is in a release. staged: whether this run has staged the version there."""
        view = self.view()
        return MemberState(self._stage(view, release, staged), self._home(view, release), view.away)

    def _home(self, view: ServerView, release: FleetRelease) -> bool:
        before = release.before.get(self.name)
        if release.kind == "rollback":
            home = release.home.get(self.name)
        elif before is None or self.name not in release.touched:
            return True
        else:
            home = current(before, self.spec.rollout.label)
        if home is None:
            return True
        serving = view.live or started_from(Ledger(self.spec.state_dir).read(), model_of(self.spec, self.model))
        there = serving is not None and current(serving, self.spec.rollout.label) == home
        extra = release.kind == "rollout" and view.live is not None and before is not None and (
            view.live.versions != before.versions)
        return there and view.own is None and not extra

    def _stage(self, view: ServerView, release: FleetRelease, staged: bool) -> ReleaseStage:
        start, own = ReleaseStage.STAGED if staged else ReleaseStage.BEHIND, view.own
        if view.live is None:
            return start
        there = current(view.live, self.spec.rollout.label) == release.version
        if own is None:
            return ReleaseStage.DONE if there else start
        if own.kind != "rollout" or own.version != release.version or not own.paused:
            return start
        if own.paused == _UNLOAD:
            return ReleaseStage.VERIFIED if there else start
        return ReleaseStage.TRIAL

    def goes_back_to(self, to: int | None) -> int:
        """The version that a rollback leads to; of a server that doesn't answer, by its ledger. Raises RolloutError if
        that isn't known."""
        live = self.view().live or known_good_of(self.spec, model_of(self.spec, self.model))
        return backward_goal(strategy_of(self.spec), self.model, to)(Ledger(self.spec.state_dir), live).version

    # -- doing; each raises DeployError, and then the server is as it was, or its own release is open

    def stage(self, version: int, progress: Progress) -> None:
        """Have the version there, verified, and look at everything that would forbid the release."""
        view = self.view()
        if view.own is not None:
            if view.own.kind == "rollout" and view.own.version == version:
                return  # begun by an earlier run, and gone on with later
            raise RolloutError(f"release {view.own.id} of {self.model} to version {view.own.version} is open there",
                               hint=f"finish it: tfs rollout {self.model} --server {self.name} --continue; or undo it: "
                                    f"tfs rollout {self.model} --server {self.name} --abort", id="release-open")
        rollout.plan_rollout(self.spec, self.model, version, allow_breaking=self._allow,
                             progress=progress).raise_if_forbidden()

    def change(self, version: int, note: str, progress: Progress) -> None:
        """Load and test it, up to where it would be watched."""
        steps = strategy_of(self.spec).steps
        watch = next(step for step in ("bake_before", "promote") if step in steps)
        rollout.roll_out(self.spec, self.model, version, pause_before=(watch, _UNLOAD), note=note,
                         allow_breaking=self._allow, despite_freeze=note, progress=progress)

    def go_on(self, progress: Progress) -> None:
        """From one pause to the next, or the end."""
        rollout.go_on(self.spec, self.model, progress=progress)

    def send_home(self, release: FleetRelease, progress: Progress) -> None:
        """Back to what it served before the release; of a rollback, to the version that was settled when it began."""
        spec, view = self._impatient, self.view()
        reason = release.undoing or release.note or "rolled back with the other servers"
        if view.own is not None:
            rollout.abort(spec, self.model, reason, progress=progress)
            view = self.view()
        home = release.home.get(self.name) if release.kind == "rollback" else current(
            release.before[self.name], spec.rollout.label)
        if home is None or (view.live is not None and current(view.live, spec.rollout.label) == home):
            return
        default = self._default_way_back()
        rollout.roll_back(spec, self.model, None if default == home else home, note=reason, progress=progress)

    def _default_way_back(self) -> int | None:
        try:
            return self.goes_back_to(None)
        except (RolloutError, ServerError, ClientError):
            return None

