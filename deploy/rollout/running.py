"""roll_out, roll_back, go_on, abort, history: releases from the caller's side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from deploy.errors import LockHeld, RolloutError, SpecError
from deploy.locks import locked, whoami
from deploy.rollout import offline, preflight
from deploy.rollout.algebra import Goal
from deploy.rollout.checks import TIMES, checks
from deploy.rollout.driver import Driver, Ended
from deploy.rollout.goals import Way, backward, begin, current, forward, goal_of
from deploy.rollout.opening import Opened, model_of, opened, running
from deploy.rollout.plan import Plan, steps
from deploy.rollout.restoring import restore
from deploy.spec import Spec
from deploy.state import Ledger, Release, Serving, releases
from deploy.state.ledger import Line
from deploy.state.releases import Kind, after
from deploy.types import check_version

Progress = Callable[[str], None]


def _silent(_: object) -> None:
    """The progress of a caller who doesn't want any."""


@dataclass(frozen=True, slots=True)
class Released:
    """How a release ended: done, undone (only by `abort`), or paused before `step`; or None: nothing was to do."""

    release: Release | None
    ended: Ended
    plan: Plan | None = None

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.ended.outcome, "step": self.ended.step,
                "release": self.release.to_json() if self.release else None}

    def text(self) -> str:
        """For people."""
        if self.release is None:
            return "nothing to do: it is served like that already"
        model, r = self.release.model, self.release
        if self.ended.outcome == "paused":
            return (f"{model} waits before `{self.ended.step}` (release {r.id}); go on: tfs rollout {model} "
                    f"--continue; or back: tfs rollout {model} --abort")
        if self.ended.outcome == "undone":
            return f"{model} is served as before: {r.before} (release {r.id}: {self.ended.reason})"
        took = f" in {r.seconds:.1f} s" if r.seconds is not None else ""
        return f"{model} is served: {r.goal} (release {r.id}{took})"


def way_of(spec: Spec, pauses: Iterable[str] = ()) -> Way:
    """The way that the spec describes. Raises SpecError for a pause before a step that there isn't."""
    part = spec.rollout
    trial = ("gate", *(["compare"] if part.comparison else []), *(["soak"] if part.soak else []))
    way = Way(part.label, part.canary_label, trial, ("confirm", *(["hold"] if part.hold else [])), frozenset(pauses))
    for step in way.pauses - set(way.steps):
        raise SpecError(f"there is no step {step!r} to pause before", hint=f"steps: {', '.join(way.steps)}")
    return way


def roll_out(spec: Spec, model: str, to: int, *, pause_before: Sequence[str] = (), allow_breaking: str = "",
             note: str = "", plan_only: bool = False, progress: Progress | None = None,
             planned: Callable[[Plan], None] = _silent) -> Released | Plan:
    """Replace what is served of a model by version `to`, step by step, so that nobody notices; or change nothing.

    A release to the same version that a crash or a pause left open is gone on with. planned: gets the plan before
    anything is changed. plan_only: returns it instead. pause_before: steps that wait for `go_on` (see Way.steps).

    Raises LockHeld (5) if another release is open, SpecError, RepositoryError, ServerError or ClientError before
    anything is changed, RolloutError (8) if the version wasn't good enough: then everything is as it was.
    """
    check_version(to)
    way = way_of(spec, pause_before)

    def goal(_: Ledger, live: Serving) -> Goal:
        return forward(live, to, way)

    return _release(spec, model, "rollout", goal, allow_breaking=allow_breaking, note=note, plan_only=plan_only,
                    progress=progress or _silent, planned=planned)


def roll_back(spec: Spec, model: str, to: int | None = None, *, note: str = "", plan_only: bool = False,
              progress: Progress | None = None, planned: Callable[[Plan], None] = _silent) -> Released | Plan:
    """Go back to what was served before the version that is served now; or to version `to`.

    The label first, then the bad version goes. At once while the old version is still loaded. A rollout that is open is
    undone, a rollback gone on with. If the server is down, it starts with the earlier state. Raises as `roll_out`.
    """
    open_one = _open(Ledger(spec.state_dir))
    if open_one is not None and open_one.model == model and to is None and not plan_only:
        if open_one.kind == "rollback" and not open_one.undoing:  # undone, it would bring back what was left
            return _finish_rollback(spec, model, progress or _silent)
        return abort(spec, model, note or "rolled back", progress=progress)
    way = way_of(spec)

    def goal(ledger: Ledger, live: Serving) -> Goal:
        if to is not None:
            return backward(live, forward(live, check_version(to), way).to, way)
        before = _earlier(releases(ledger.read(), model), current(live, way.label), way.label)
        if before is None:
            raise RolloutError(f"no release is known that brought {model}/{current(live, way.label)}",
                               hint="name a version: --to N; see tfs history")
        return backward(live, before, way)

    if not running(spec) and not plan_only:
        with locked(spec.state_dir, f"rollback of {model}"):
            served = model_of(spec, model)
            done = offline.roll_back(spec, served, goal(Ledger(spec.state_dir), offline.proven_of(spec, served)), note)
            return Released(done, Ended("done"))
    return _release(spec, model, "rollback", goal, note=note, plan_only=plan_only, progress=progress or _silent,
                    planned=planned)


def go_on(spec: Spec, model: str, *, approve: bool = True, progress: Progress | None = None) -> Released:
    """Go on with a release that is open; one that waits only if that is approved. Raises RolloutError if none is."""
    return _resume(spec, model, "", progress or _silent, approve=approve)


def abort(spec: Spec, model: str, reason: str = "aborted", *, progress: Progress | None = None) -> Released:
    """Undo a release that is open; if the server is down, it starts with what was served before. Raises RolloutError
    if none is open."""
    if not running(spec):
        with locked(spec.state_dir, f"rollback of {model}"):
            undone = offline.undo(spec, model_of(spec, model), _required(Ledger(spec.state_dir), model), reason)
            return Released(undone, Ended("undone", undone.reason))
    return _resume(spec, model, reason, progress or _silent)


def _finish_rollback(spec: Spec, model: str, progress: Progress) -> Released:
    if not running(spec):
        with locked(spec.state_dir, f"rollback of {model}"):
            open_one = _required(Ledger(spec.state_dir), model)
            return Released(offline.finish(spec, model_of(spec, model), open_one), Ended("done"))
    return _resume(spec, model, "", progress)


def repair(spec: Spec, *, progress: Progress | None = None) -> None:
    """Bring the live server back to what is proven, whatever others have pushed; nothing is restarted.

    Raises LockHeld while a release is open, ServerError if the server doesn't run, RolloutError if it can't be done.
    """
    with locked(spec.state_dir, "repair"), opened(spec, spec.models[0].name) as o:
        unfinished = _open(o.ledger)
        if unfinished is not None:
            raise _held(unfinished)
        assert o.client.rpc is not None
        restore(o.client.rpc, o.site.file, o.site.deadline(spec.rollout.load_timeout),
                reload_timeout=spec.rollout.reload_timeout, progress=progress or _silent)


def history(spec: Spec, model: str | None = None) -> list[Release]:
    """All releases, oldest first. Raises RolloutError if the ledger can't be read."""
    if model is not None:
        model_of(spec, model)
    return releases(Ledger(spec.state_dir).read(), model)


def _release(spec: Spec, model: str, kind: Kind, goal_for: Callable[[Ledger, Serving], Goal], *, note: str,
             plan_only: bool, progress: Progress, planned: Callable[[Plan], None], allow_breaking: str = ""
             ) -> Released | Plan:
    with locked(spec.state_dir, f"{kind} of {model}"), opened(spec, model) as o:
        unfinished = _open(o.ledger)
        if unfinished is not None and not plan_only:
            goal = goal_of(unfinished)
            wanted = goal_for(o.ledger, goal.before)
            if (unfinished.model, unfinished.kind, goal.version) == (model, kind, wanted.version):
                return _go_on(o, unfinished, "", progress)
            raise _held(unfinished)
        live = o.live()
        goal = goal_for(o.ledger, live)
        if goal.to == live == o.named():
            return Released(None, Ended("done"))
        found = preflight.check(o, goal, allow_breaking=allow_breaking, progress=progress)
        plan = Plan(model, kind, goal, steps(model, goal, spec.rollout), found)
        if plan_only:
            return plan
        planned(plan)
        plan.raise_if_forbidden()
        release = begin(o.ledger, model, kind, goal, note=note or allow_breaking, spec=o.entry,
                        settings={name: getattr(spec.rollout, name) for name in TIMES})
        return _drive(o, release, goal, progress, plan)


def _resume(spec: Spec, model: str, undo: str, progress: Progress, *, approve: bool = False) -> Released:
    with locked(spec.state_dir, f"rollout of {model}"), opened(spec, model) as o:
        return _go_on(o, _required(o.ledger, model), undo, progress, approve=approve)


def _go_on(o: Opened, release: Release, undo: str, progress: Progress, *, approve: bool = False) -> Released:
    """Take an open release over, forward or back. approve: let it pass the step that it waits before."""
    lines = [{"event": "go", "by": whoami(), "steps": [release.paused] if release.paused and approve else []}]
    if undo and not release.undoing:
        lines.append({"event": "undo", "reason": undo})
    for line in lines:
        release = after(release, _written(o.ledger, release, line, back=bool(undo), progress=progress))
    times = ", ".join(f"{name} {release.options[name]:g} s" for name in TIMES if name in release.options)
    progress(f"going on with release {release.id}, begun {release.began}{f' with {times}' if times else ''}")
    return _drive(o, release, goal_of(release), progress, asked_to_undo=bool(undo))


def _written(ledger: Ledger, release: Release, line: Line, *, back: bool, progress: Progress) -> Line:
    """The line as the ledger has it. On the way back it may be lost: a full disk doesn't keep the label."""
    event, fields = line["event"], {k: v for k, v in line.items() if k != "event"}
    try:
        return ledger.append(event, release=release.id, **fields)
    except RolloutError as e:
        if not (back or release.undoing or release.kind == "rollback"):
            raise
        progress(e.message)
        return {"at": "", **line}


def _drive(o: Opened, release: Release, goal: Goal, progress: Progress, plan: Plan | None = None, *,
           asked_to_undo: bool = False) -> Released:
    driver = Driver(o.site, o.ledger, release, goal, checks(o, release), entry=o.entry, proven=o.proven,
                    progress=progress)
    ended = driver.run()
    told = next((r for r in releases(o.ledger.read()) if r.id == release.id), release)
    if ended.outcome == "undone" and not asked_to_undo:
        raise RolloutError(f"{release.model} is served as before, {release.before}: {ended.reason}", hint=ended.hint,
                           details={**ended.details, "release": release.id, "outcome": "undone"})
    return Released(told, ended, plan)


def _open(ledger: Ledger) -> Release | None:
    return next((r for r in reversed(releases(ledger.read())) if r.open), None)


def _required(ledger: Ledger, model: str) -> Release:
    release = _open(ledger)
    if release is None or release.model != model:
        raise RolloutError(f"no release of {model} is open", hint="see tfs history")
    return release


def _held(release: Release) -> LockHeld:
    by, what = str(release.by.get("by", "unknown")), f"{release.kind} of {release.model} to {release.version}"
    state = f"waits before `{release.paused}`" if release.paused else "was not finished"
    return LockHeld(f"release {release.id} ({what}), begun by {by} at {release.began}, {state}", by=by,
                    since=release.began, why=what,
                    hint=f"finish it: tfs rollout {release.model} --continue; or undo it: tfs rollout {release.model} "
                         "--abort")


def _earlier(known: Sequence[Release], now: int | None, label: str) -> Serving | None:
    """What was served before the release that brought the version which is served now.

    If that version is what the last release left, the way back was gone already, and couldn't be written down.
    """
    done = [r for r in reversed(known) if r.outcome == "done"]
    if done and done[0].kind == "rollout" and done[0].version != now and current(done[0].before, label) == now:
        return done[0].before
    return next((r.before for r in done if r.kind == "rollout" and r.version == now), None)


def adjusted(spec: Spec, **changes: Any) -> Spec:
    """The spec with some of its rollout part replaced, where a value is given."""
    given = {k: v for k, v in changes.items() if v is not None}
    return msgspec.structs.replace(spec, rollout=msgspec.structs.replace(spec.rollout, **given))

