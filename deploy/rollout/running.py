"""roll_out, roll_back, go_on, abort, history, repair: releases from the caller's side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from deploy.backends.base import Progress, silent
from deploy.errors import DeployError, LockHeld, RolloutError
from deploy.locks import whoami
from deploy.naming import check_version
from deploy.repository import Repository, versions_of
from deploy.rollout.actions import Goal, RolloutOutcome
from deploy.rollout.checks import BAKE_TIMES, checks
from deploy.rollout.context import (
    RolloutContext,
    ServerSession,
    finish_offline,
    known_good_of,
    roll_back_offline,
    rollout_context,
    running,
    undo_offline,
)
from deploy.rollout.driver import Driver
from deploy.rollout.freezing import refuse_frozen
from deploy.rollout.goals import begin, forward, goal_of, model_of
from deploy.rollout.merging import last_shown
from deploy.rollout.plan import (
    NOTHING_TO_DO,
    GoalFor,
    RolloutPlan,
    backward_goal,
    make_plan,
    nothing_to_do,
    strategy_of,
)
from deploy.rollout.watching import mend
from deploy.serving.snapshot import open_release, running_server
from deploy.signing import receipts
from deploy.spec import Spec
from deploy.state import Ledger, Release, changing, ledger_of, releases
from deploy.state.ledger import append_if_possible
from deploy.state.lines import Line
from deploy.state.release import Kind, after
from deploy.types import ModelVersion, ServedModel, Serving


@dataclass(frozen=True, slots=True)
class Released:
    """How a release ended: done, undone (only by `abort`), or paused before `step`; or None: nothing was to do.

    live: what was served of the model when it was looked at last. told: whether the server was; one that was down only
    starts with it.
    """

    release: Release | None
    ended: RolloutOutcome
    plan: RolloutPlan | None = None
    live: Serving | None = None
    told: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.ended.outcome, "step": self.ended.step,
                "release": self.release.to_json() if self.release else None}

    def text(self) -> str:
        """For people."""
        if self.release is None:
            return NOTHING_TO_DO
        model, r = self.release.model, self.release
        if self.ended.outcome == "paused":
            return (f"{model} waits before `{self.ended.step}` (release {r.id}); go on: tfs rollout {model} "
                    f"--continue; or back: tfs rollout {model} --abort")
        if not self.told:
            start = r.before if self.ended.outcome == "undone" else r.goal
            return f"{model} is to serve {start} (release {r.id}: {r.reason})"
        if self.ended.outcome == "undone":
            return f"{model} is served as before: {r.before} (release {r.id}: {self.ended.reason})"
        took = f" in {r.seconds:.1f} s" if r.seconds is not None else ""
        lost = f"; {r.lost_on_restart}" if r.lost_on_restart else ""
        return f"{model} is served: {r.goal} (release {r.id}{took}){lost}"


def roll_out(spec: Spec, model: str, to: int, *, pause_before: Sequence[str] = (), allow_breaking: str = "",
             despite_freeze: str = "", note: str = "", progress: Progress | None = None,
             planned: Callable[[RolloutPlan], None] | None = None, session: ServerSession | None = None) -> Released:
    """Replace what is served of a model by version `to`, step by step, so that nobody notices; or change nothing.

    A release to the same version that a crash or a pause left open is gone on with. A server that is still loading
    versions is waited for (rollout/load_timeout; then NotReady): what isn't loaded yet isn't taken for unwanted.
    planned: gets the plan before anything is changed. pause_before: steps that wait for `go_on` (see Strategy.steps).
    despite_freeze: why it can't wait for the end of a freeze window (rollout/freeze). session: see ServerSession.

    Raises LockHeld (5) if another release is open, SpecError, RepositoryError, ServerError or ClientError before
    anything is changed, RolloutError (8) if the version wasn't good enough: then everything is as it was.
    """
    check_version(to)
    refuse_frozen(spec.rollout, despite_freeze)
    strategy = strategy_of(spec, pause_before)

    def goal(_: Ledger, live: Serving) -> Goal:
        return forward(live, to, strategy)

    return _release(spec, model, "rollout", goal, settled_for=to, allow_breaking=allow_breaking,
                    note=note or despite_freeze, progress=progress or silent, planned=planned, session=session)


def roll_back(spec: Spec, model: str, to: int | None = None, *, note: str = "", progress: Progress | None = None,
              planned: Callable[[RolloutPlan], None] | None = None, session: ServerSession | None = None) -> Released:
    """Go back to what was served before the version that is served now; or to version `to`.

    The label first, then the bad version goes. At once while the old version is still loaded, whatever else the server
    is loading; `to` a version, it is waited for as in `roll_out`, since what else is served stays. A rollout that is
    open is undone, a rollback gone on with. If the server is down, it starts with the earlier state. Raises as
    `roll_out`.
    """
    open_one = _open(ledger_of(spec))
    if open_one is not None and open_one.model == model and to is None:
        if open_one.kind == "rollback" and not open_one.undoing:  # undone, it would bring back what was left
            return _finish_rollback(spec, model, progress or silent, session)
        return abort(spec, model, note or "rolled back", progress=progress, session=session)
    goal = backward_goal(strategy_of(spec), model, to)
    if not running(spec):
        with changing(spec, f"rollback of {model}", release=True):
            served = model_of(spec, model)
            aim = goal(ledger_of(spec), known_good_of(spec, served))
            return Released(roll_back_offline(spec, served, aim, note), RolloutOutcome("done"), told=False)
    return _release(spec, model, "rollback", goal, settled_for=to, note=note, progress=progress or silent,
                    planned=planned, session=session)


def go_on(spec: Spec, model: str, *, approve: bool = True, progress: Progress | None = None,
          session: ServerSession | None = None) -> Released:
    """Go on with a release that is open; one that waits only if that is approved. Raises RolloutError if none is."""
    return _resume(spec, model, "", progress or silent, session, approve=approve)


def abort(spec: Spec, model: str, reason: str = "aborted", *, progress: Progress | None = None,
          session: ServerSession | None = None) -> Released:
    """Undo a release that is open; if the server is down, it starts with what was served before. Raises RolloutError
    if none is open."""
    if not running(spec):
        with changing(spec, f"rollback of {model}", release=True):
            undone = undo_offline(spec, model_of(spec, model), _required(ledger_of(spec), model), reason)
            return Released(undone, RolloutOutcome("undone", undone.reason), told=False)
    return _resume(spec, model, reason, progress or silent, session)


def _finish_rollback(spec: Spec, model: str, progress: Progress, session: ServerSession | None) -> Released:
    if not running(spec):
        with changing(spec, f"rollback of {model}", release=True):
            open_one = _required(ledger_of(spec), model)
            finished = finish_offline(spec, model_of(spec, model), open_one)
            return Released(finished, RolloutOutcome("done"), told=False)
    return _resume(spec, model, "", progress, session)


def repair(spec: Spec, *, progress: Progress | None = None) -> None:
    """Bring the live server back to what is known to be good, whatever others have pushed; nothing is restarted.

    Raises LockHeld while a release is open, ServerError if the server doesn't run, RolloutError if it can't be done.
    """
    with changing(spec, "repair", release=True):
        ledger = ledger_of(spec)
        unfinished = _open(ledger)
        if unfinished is not None:
            raise _held(unfinished)
        mend(spec, running_server(spec), ledger, always=True, progress=progress or silent)


def _release(spec: Spec, model: str, kind: Kind, goal_for: GoalFor, *, settled_for: int | None, note: str,
             progress: Progress, planned: Callable[[RolloutPlan], None] | None, allow_breaking: str = "",
             session: ServerSession | None = None) -> Released:
    """settled_for: the version of a goal that is taken from what is live, which has to be known then; None for one from
    the ledger, which waits for nobody: traffic goes back at once."""
    with changing(spec, f"{kind} of {model}", release=True), rollout_context(spec, model, session) as context:
        unfinished = _open(context.ledger)
        if unfinished is not None:
            goal = goal_of(unfinished)
            desired = goal_for(context.ledger, goal.before)
            if (unfinished.model, unfinished.kind, goal.version) == (model, kind, desired.version):
                return _go_on(context, unfinished, "", progress)
            raise _held(unfinished)
        live = context.live() if settled_for is None else context.settled(settled_for, progress)
        goal = goal_for(context.ledger, live)
        context.live_server.began(live)
        if nothing_to_do(context, goal):
            return Released(None, RolloutOutcome("done"))
        plan = make_plan(context, kind, goal, allow_breaking, progress)
        if planned:
            planned(plan)
        plan.raise_if_forbidden()
        lost = context.live_server.file.lost_on_restart
        settings = {**{name: getattr(spec.rollout, spec_name) for name, spec_name in BAKE_TIMES.items()},
                    **({"lost_on_restart": lost} if lost else {})}
        release = begin(context.ledger, model, kind, goal, note=note or allow_breaking, spec=context.entry,
                        settings=settings)
        return _drive(context, release, goal, progress, plan)


def _resume(spec: Spec, model: str, undo: str, progress: Progress, session: ServerSession | None, *,
            approve: bool = False) -> Released:
    with changing(spec, f"rollout of {model}", release=True), rollout_context(spec, model, session) as context:
        return _go_on(context, _required(context.ledger, model), undo, progress, approve=approve)


def _go_on(context: RolloutContext, release: Release, undo: str, progress: Progress, *, approve: bool = False
           ) -> Released:
    """Take an open release over, forward or back. approve: let it pass the step that it waits before."""
    lines = [{"event": "go", "by": whoami(), "steps": [release.paused] if release.paused and approve else []}]
    if undo and not release.undoing:
        lines.append({"event": "undo", "reason": undo})
    for line in lines:
        release = after(release, _written(context.ledger, release, line, back=bool(undo), progress=progress))
    times = ", ".join(f"{spec_name} {release.options[name]:g} s" for name, spec_name in BAKE_TIMES.items()
                      if name in release.options)
    context.live_server.resumed(last_shown(context.ledger.read(), release))
    progress(f"going on with release {release.id}, begun {release.began}{f' with {times}' if times else ''}")
    return _drive(context, release, goal_of(release), progress, asked_to_undo=bool(undo))


def _written(ledger: Ledger, release: Release, line: Line, *, back: bool, progress: Progress) -> Line:
    """The line as the ledger has it. On the way back it may be lost: a full disk doesn't keep the label."""
    fields = {k: v for k, v in line.items() if k != "event"}
    lenient = back or bool(release.undoing) or release.kind == "rollback"
    return append_if_possible(ledger, line["event"], lenient=lenient, tell=progress, release=release.id, **fields)


def _drive(context: RolloutContext, release: Release, goal: Goal, progress: Progress,
           plan: RolloutPlan | None = None, *, asked_to_undo: bool = False) -> Released:
    driver = Driver(context.live_server, context.ledger, release, goal, checks(context, release), entry=context.entry,
                    known_good=context.known_good, progress=progress)
    ended = driver.run()
    lines = context.ledger.read()
    recorded = next((r for r in releases(lines) if r.id == release.id), release)
    if not recorded.open and context.receipts:
        leave_receipts(context.spec, context.model, recorded, lines, progress)
    if ended.outcome == "undone" and not asked_to_undo:
        raise RolloutError(f"{release.model} is served as before, {release.before}: {ended.reason}", hint=ended.hint,
                           id="release-undone", details={**ended.details, "release": release.id, "outcome": "undone"})
    return Released(recorded, ended, plan, driver.live)


def leave_receipts(spec: Spec, model: ServedModel, release: Release, lines: Sequence[Line], progress: Progress, *,
                   of_all: tuple[str, Release] | None = None) -> None:
    """Write down beside the version what became of it. A release isn't undone because that can't be written.

    of_all: the name of all servers and their release, of which this was the part of one.
    """
    stored = versions_of(model)
    if not stored.here:
        return
    verdicts = {str(line["check"]): str(line.get("found", "")) for line in lines
                if line["event"] == "passed" and line.get("release") == release.id}
    name, told = of_all or (spec.name, release)
    remote = spec.remote if stored.repository.root == spec.repository else None
    for place in (stored.repository, *([Repository(remote)] if remote else [])):
        try:
            receipts.released(place, ModelVersion(stored.name, told.version), told, server=name, verdicts=verdicts)
        except DeployError as error:
            progress(f"no receipt in {place.store}: {error.message}")


def _open(ledger: Ledger) -> Release | None:
    return open_release(ledger.read())


def _required(ledger: Ledger, model: str) -> Release:
    release = _open(ledger)
    if release is None or release.model != model:
        raise RolloutError(f"no release of {model} is open", hint="see tfs history", id="no-open-release")
    return release


def _held(release: Release) -> LockHeld:
    by, what = str(release.by.get("by", "unknown")), f"{release.kind} of {release.model} to {release.version}"
    state = f"waits before `{release.paused}`" if release.paused else "was not finished"
    return LockHeld(f"release {release.id} ({what}), begun by {by} at {release.began}, {state}", by=by,
                    since=release.began, why=what,
                    hint=f"finish it: tfs rollout {release.model} --continue; or undo it: tfs rollout {release.model} "
                         "--abort", id="release-open")


def adjusted(spec: Spec, **changes: Any) -> Spec:
    """The spec with some of its rollout part replaced, where a value is given."""
    given = {k: v for k, v in changes.items() if v is not None}
    return msgspec.structs.replace(spec, rollout=msgspec.structs.replace(spec.rollout, **given))

