"""One server of a release of many: each step of it is a release of that server alone, by the same policy as ever.

Its release pauses where all servers wait for each other: before it is watched, and before the version that is left is
unloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from deploy import rollout
from deploy.backends import Progress, preferred
from deploy.errors import ClientError, RolloutError, ServerError
from deploy.fleet.policy import MemberState, ReleaseStage
from deploy.repository import Repository, versions_of
from deploy.rollout.context import Once, ServerSession, known_good_of, rollout_context
from deploy.rollout.goals import current, model_of
from deploy.rollout.plan import backward_goal, strategy_of
from deploy.serving.snapshot import open_release
from deploy.spec import Spec
from deploy.state import FleetRelease, Release, releases, started_from
from deploy.state.lines import Line
from deploy.state.release import seconds_between, served_ever
from deploy.types import ModelVersion, Serving, Specific
from deploy.waiting import Deadline

_PATIENCE = 2.0  # seconds for a server that is only looked at
_MOMENT = 5.0  # seconds after its bake time for which a server needn't be looked at anew: the others end meanwhile
_UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class ServerView:
    """A server as it was seen. live: what it serves of the model, None if it can't be asked. own: its open release of
    the model. away: why it can't be asked. absent: it isn't there at all, so that waiting helps only if somebody
    starts it; one that is there may be loading."""

    live: Serving | None = None
    own: Release | None = None
    away: str = ""
    absent: bool = False

    @property
    def before(self) -> Serving | None:
        """What the way back leads to; None if nobody knows."""
        return self.own.before if self.own is not None else self.live


class FleetServer:
    """One server of a release. spec: its own."""

    def __init__(self, spec: Spec, model: str) -> None:
        self.spec, self.model, self.name, self._allow = spec, model, spec.short_name, ""
        self._session = ServerSession(spec, receipts=False)
        self._seen: ServerView | None = None
        self._counts = Deadline(None)  # what was seen, until this is over

    def adjust(self, allow_breaking: str, **rollout_part: Any) -> None:
        """What a release began with, whatever the spec says now. See rollout.adjusted."""
        spec = rollout.adjusted(self.spec, **rollout_part)
        if spec != self.spec:
            self.spec, self._seen = spec, None
        self._allow = allow_breaking

    def close(self) -> None:
        """Let go of its connections."""
        self._session.disconnect()

    @contextmanager
    def kept(self, once: Once, *, connected: bool) -> Iterator[None]:
        """One step of the release. once: of all servers. connected: whether connections are kept for the next one."""
        self._session.once = once
        try:
            yield
        finally:
            self._session.ledger.forget()
            self._session.once = Once()
            if not connected:
                self.close()

    # -- looking

    def look(self) -> ServerView:
        """As it is now. Raises RolloutError if its ledger can't be read."""
        own = self._own()
        try:
            with rollout_context(self._impatient, self.model, self._session) as context:
                view = ServerView(context.live(), own)
        except (ClientError, ServerError) as e:
            self._session.disconnect()
            view = ServerView(None, own, e.message, absent=isinstance(e, ServerError))
        self._see(view)
        return view

    def _see(self, view: ServerView, seconds: float | None = None) -> None:
        """It was seen like this, which counts for so long."""
        self._seen, self._counts = view, Deadline(seconds)

    def _own(self) -> Release | None:
        return open_release(self._session.ledger.read(), self.model)

    @property
    def _impatient(self) -> Spec:
        part = self.spec.rollout
        return msgspec.structs.replace(self.spec, rollout=msgspec.structs.replace(
            part, patience=min(_PATIENCE, part.patience)))

    def state(self, release: FleetRelease, staged: bool) -> MemberState:
        """How far it is in a release: as it was seen last, if that was at the end of what was done to it last (after
        watching, a moment ago), and nobody has asked since; else as it is now. staged: whether this run has staged the
        version there."""
        seen = None if self._counts.over else self._seen
        view, self._seen = seen or self.look(), None
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
        serving = view.live or self._start()
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
        view = self.look()
        live = view.live
        own = view.own if to is None and view.own is not None and view.own.kind == "rollout" else None
        if own is not None and (before := current(own.before, self.spec.rollout.label)) is not None:
            return before  # it missed the others' end: it is undone
        if live is None and (start := self._start()) is not None and not self._was_released():
            version = current(start, self.spec.rollout.label)
            if version is not None and to in (None, version):
                return version  # nothing is to go back from
        live = live or known_good_of(self.spec, model_of(self.spec, self.model))
        return backward_goal(strategy_of(self.spec), self.model, to)(self._session.ledger, live).version

    def _start(self) -> Serving | None:
        """What it starts with, if we start it and that is known."""
        model = model_of(self.spec, self.model)
        serving = started_from(self._session.ledger.read(), model)
        if serving is None and isinstance(model.versions, Specific) and preferred(self.spec).capabilities.starts:
            return Serving(frozenset(model.versions.versions), model.labels)
        return serving

    def last_release(self, version: int, *, since: str) -> tuple[Release, list[Line]] | None:
        """Its own last release of the model to a version, if it wasn't over by `since` (ISO 8601), and the lines of
        its ledger. Raises RolloutError."""
        lines = self._session.ledger.read()
        own = next((r for r in reversed(releases(lines, self.model)) if r.version == version), None)
        late = own is not None and (seconds_between(since, own.ended or own.began) or 0) >= 0
        return (own, lines) if own is not None and late else None

    def _was_released(self) -> bool:
        return bool(releases(self._session.ledger.read(), self.model))

    def refuse_open(self, own: Release | None, version: int) -> None:
        """Raises RolloutError if its open release isn't a rollout to this version."""
        if own is None or (own.kind, own.version) == ("rollout", version):
            return
        model = self.model
        raise RolloutError(f"release {own.id} of {model} to version {own.version} is open on {self.name}",
                           hint=f"bring it to that: tfs rollout {model} --to {own.version}; or undo it there: "
                                f"tfs rollout {model} --server {self.name} --abort", id="release-open")

    def refuse_missing(self, version: int, seen: set[tuple[str, str]]) -> None:
        """Raises VersionNotFound, RepositoryError if it isn't where this server's versions come from, and the server
        hasn't files of its own. seen: the places that have it, to be looked into once."""
        model, elsewhere = model_of(self.spec, self.model), self.spec.remote
        stored, place = versions_of(model), (model.base_path, elsewhere or "")
        if place in seen or (not preferred(self.spec).capabilities.starts and version in self._has_served()):
            return
        if not elsewhere or stored.repository.root != self.spec.repository:
            stored.repository.name(ModelVersion(stored.name, version))
        elif not stored.here or version not in stored.numbers():
            Repository(elsewhere).name(ModelVersion(stored.name, version))
        seen.add(place)

    def _has_served(self) -> frozenset[int]:
        """Now, or at any time that its ledger knows of."""
        live = self._seen.live if self._seen is not None else None
        return served_ever(self._session.ledger.read(), self.model).union(live.versions if live is not None else ())

    # -- doing; each raises DeployError, and then the server is as it was, or its own release is open

    def stage(self, version: int, progress: Progress) -> None:
        """Have the version there, verified, and look at everything that would forbid the release."""
        own, self._seen = self._own(), None
        self.refuse_open(own, version)
        if own is not None:
            return  # begun by an earlier run, and gone on with later
        plan = rollout.plan_rollout(self.spec, self.model, version, allow_breaking=self._allow, progress=progress,
                                    session=self._session)
        plan.raise_if_forbidden()
        self._see(ServerView(plan.goal.before))

    def change(self, version: int, note: str, wave: int, progress: Progress) -> None:
        """Load and test it, up to where it would be watched."""
        self._session.brief = wave > 1
        self._seen, steps = None, strategy_of(self.spec).steps
        watch = next(step for step in ("bake_before", "promote") if step in steps)
        released = rollout.roll_out(self.spec, self.model, version, pause_before=(watch, _UNLOAD), note=note,
                                    allow_breaking=self._allow, despite_freeze=note, progress=progress,
                                    session=self._session)
        if released.ended.outcome == "paused":
            self._see(ServerView(released.live, released.release))

    def bake(self, progress: Progress) -> None:
        """Watch it, move the label, watch it again."""
        self._seen = None
        released = rollout.go_on(self.spec, self.model, progress=progress, session=self._session)
        if released.ended.outcome == "paused":
            self._see(ServerView(released.live, released.release), _MOMENT)

    def finish(self, progress: Progress) -> None:
        """Unload what was left."""
        self._seen = None
        released = rollout.go_on(self.spec, self.model, progress=progress, session=self._session)
        if released.ended.outcome == "done":
            self._see(ServerView(released.live))

    def send_home(self, release: FleetRelease, progress: Progress) -> None:
        """Back to what it served before the release; of a rollback, to the version that was settled when it began."""
        spec, view = self._impatient, self.look()
        reason = release.undoing or release.note or "rolled back with the other servers"
        if view.own is not None:
            rollout.abort(spec, self.model, reason, progress=progress, session=self._session)
            view = self.look()
        home = release.home.get(self.name) if release.kind == "rollback" else current(
            release.before[self.name], spec.rollout.label)
        if home is None or (view.live is not None and current(view.live, spec.rollout.label) == home):
            return
        self._seen, default = None, self._default_way_back()
        rollout.roll_back(spec, self.model, None if default == home else home, note=reason, progress=progress,
                          session=self._session)

    def _default_way_back(self) -> int | None:
        try:
            return self.goes_back_to(None)
        except (RolloutError, ServerError, ClientError):
            return None

