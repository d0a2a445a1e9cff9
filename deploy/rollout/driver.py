"""Carries a release out: observe, ask the policy, apply one thing, confirm it, write it down; again until it is done.

Whatever is killed at whatever point, the config file names a state that was proven, and the ledger says what was meant:
the next run observes and goes on from there. The order for one change:

    ledger `apply`  ->  reload  ->  the server shows it  ->  ledger `confirm`  ->  config file  ->  ledger `proven`

On the way back traffic comes first: what can't be written (a full disk) is told, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deploy.errors import ClientError, DeployError, Rejected, RolloutError, TimedOut, Unreachable
from deploy.rollout.algebra import (
    Abort,
    Change,
    Check,
    DropLabel,
    Goal,
    Load,
    Observed,
    Pause,
    PointLabel,
    Unload,
    Wait,
)
from deploy.rollout.confirming import confirm, sentence, to_json
from deploy.rollout.policy import next_action, promoted, relied_on, told_next
from deploy.rollout.site import Site
from deploy.rollout.trial import Checks, Progress, trial_of
from deploy.state import Ledger, Release, Serving
from deploy.types import VersionStatus
from deploy.waiting import Deadline

RESUME = "run the same rollout again, or with --resume; or undo it: tfs rollout MODEL --abort"
HANGS = ("a configuration names a base path that isn't there: until it is, the server takes no other; put it back, or "
         "restart the server: tfs down, tfs up")
REFUSED = "if it refuses every configuration, somebody has pushed a wrong one: tfs repair"


class LeftOpen(RolloutError):
    """The run is over, the release isn't: what the server starts from is proven, and a later run goes on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. Paused: it waits before `step`. Undone: for this `reason`."""

    outcome: Literal["done", "undone", "paused"]
    reason: str = ""
    hint: str = ""
    step: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Driver:
    """One run of one release. Whoever runs it holds the server's lock.

    entry: the spec's entry for the model now (state.releases.entry), written beside what is proven.
    proven: what a restart would serve by the ledger, None if it says nothing.
    """

    def __init__(self, site: Site, ledger: Ledger, release: Release, goal: Goal, checks: Checks, *,
                 entry: Mapping[str, Any], proven: Serving | None = None, progress: Progress = lambda _: None) -> None:
        self._site, self._ledger, self._release, self._goal = site, ledger, release, goal
        self._checks, self._entry, self._proven, self._tell = checks, dict(entry), proven, progress
        self._passed, self._let_go = frozenset(release.passed), release.let_go
        self._instance: str | None = None  # the run of the server that was last looked at
        self._looked, self._passed_on = False, dict(release.passed_on)
        self._unwritten: DeployError | None = None  # what a restart relies on isn't what the way back leads to
        self._confirmed: frozenset[int] = frozenset()
        self._told: frozenset[int] | None = None
        self._why: Ended | None = None  # why it goes back
        self._trouble: DeployError | None = None
        self._interrupted = False
        self._waiting: Deadline | None = None
        if release.undoing:
            self._go_back(Abort(release.undoing), write=False)

    def run(self) -> Ended:
        """Until it is done, undone or paused.

        Raises LeftOpen if the server can't be reached, or the way back fails.
        """
        ended: Ended | None = None
        while ended is None:
            try:
                ended = self._once()
            except LeftOpen:
                raise
            except KeyboardInterrupt:
                if self._why is not None:
                    raise LeftOpen(f"{self._why.reason}; interrupted on the way back", hint=RESUME) from None
                self._interrupted, self._trouble = True, RolloutError("interrupted")
            except DeployError as e:
                self._failed(e)
        return ended

    def observe(self) -> Observed:
        """A snapshot. Raises ClientError if the server doesn't answer for too long, RolloutError if it isn't the one
        that this run began with."""
        goal, instance = self._goal, self._site.instance()
        names = {goal.label, *goal.before.labels, *goal.to.labels, *([goal.canary] if goal.canary else [])}
        names |= {*self._release.goal.labels, *filter(None, (self._release.options.get("canary"),))}
        statuses = self._site.statuses()
        self._recognize(instance, statuses)
        return Observed(statuses, self._site.labels(names), self._passed, self._let_go, self._confirmed,
                        self._told, self._trouble.message if self._trouble else "")

    def _recognize(self, instance: str | None, statuses: Mapping[int, VersionStatus]) -> None:
        """What a version passed on one run of the server, loaded once, says nothing of the next."""
        changed = self._looked and instance != self._instance
        before, self._looked, self._instance = self._passed, True, instance
        if self._why is not None or self._known_good():
            return
        status = statuses.get(self._goal.version)
        if status is None or not status.serving:
            self._passed = frozenset()
        else:
            self._passed = frozenset(c for c in before if self._passed_on.get(c) == instance)
        if changed and self._trouble is None:
            self._told = None
            raise RolloutError(f"the server was started again meanwhile; version {self._goal.version} may be the "
                               "reason", hint="see tfs doctor and tfs logs, then begin again")
        if before - self._passed:
            self._tell(f"asking again what passed before the server was started again, or the version unloaded: "
                       f"{', '.join(sorted(before - self._passed))}")

    def _known_good(self) -> bool:
        """Whether every check has passed and that is written down: then only leftovers remain."""
        goal = self._goal
        return (self._passed >= {*goal.trial, *goal.after} and self._proven is not None
                and self._proven.labels.get(goal.label) == goal.version)

    # -- one turn

    def _once(self) -> Ended | None:
        observed = self.observe()
        if self._interrupted and self._why is None and promoted(observed, self._goal):
            raise LeftOpen(f"interrupted; {self._goal.label} leads to version {self._goal.version} already",
                           hint=f"finish: the same with --resume; go back: tfs rollback {self._site.model}")
        if self._trouble is None:
            self._settle(observed)
        action = next_action(observed, self._goal)
        if not isinstance(action, Wait):
            self._waiting = None
        if isinstance(action, (Load, PointLabel, DropLabel, Unload)):
            self._change(action, observed)
        elif isinstance(action, Check):
            self._check(action.name, observed)
        elif isinstance(action, Wait):
            self._wait(action)
        elif isinstance(action, Abort):
            self._go_back(action)
        elif isinstance(action, Pause):
            self._note("pause", before=action.before)
            return Ended("paused", step=action.before)
        else:
            return self._end()
        return None

    def _end(self) -> Ended:
        ended, lost = self._why or Ended("done"), self._unwritten
        if lost is not None and self._proven is not None:  # else the spec decides what a restart serves, as before
            raise LeftOpen(f"{ended.reason or 'rolled back'}; {self._goal.to} is served again, which can't be written "
                           f"down, so that a restart may serve something else: {lost.message}",
                           hint=f"make room, then {RESUME}", details=lost.details)
        self._note("end", outcome=ended.outcome, reason=ended.reason)
        return ended

    def _settle(self, observed: Observed) -> None:
        """What a restart may rely on stands in the config file, and in the ledger."""
        serving = relied_on(observed, self._goal)
        if not serving.versions:
            return
        try:
            self._site.file.change(self._site.model, serving)
            if serving != self._proven:
                self._ledger.append("proven", release=self._release.id, model=self._site.model,
                                    serving=serving.to_json(), spec=self._entry)
                self._proven = serving
        except DeployError as e:
            if self._why is None and not self._goal.backward:
                raise
            if self._unwritten is None:  # the label goes back all the same
                self._tell(e.message)
            self._unwritten = e
        else:
            self._unwritten = None

    def _change(self, change: Change, observed: Observed) -> None:
        site, told, what = self._site, told_next(observed, change), sentence(change, self._site.model)
        self._tell(what)
        self._note("apply", action=to_json(change), told=told.to_json())
        began, memory = site.clock.monotonic(), site.memory() if isinstance(change, Load) else None
        try:
            site.reload(told)
        except TimedOut as e:
            raise RolloutError(f"the reload for `{what}` hangs: {e.message}", hint=HANGS) from e
        except Rejected as e:
            said = e.details.get("server") or e.message
            raise RolloutError(f"the server refused `{what}`: {said}", hint=REFUSED) from e
        self._told = told.versions
        confirm(site, change)
        seconds = round(site.clock.monotonic() - began, 3)
        grown = _grown(memory, site.memory()) if isinstance(change, Load) else {}
        if isinstance(change, Load):
            self._confirmed |= {change.version}
        self._note("confirm", action=to_json(change), seconds=seconds, **grown)

    def _check(self, name: str, observed: Observed) -> None:
        trial = trial_of(self._site.model, observed, self._goal)
        began = self._site.clock.monotonic()
        self._tell(f"{name}: asking {trial.candidate}")
        found = self._checks[name](trial)
        self._tell(f"{name}: {found}")
        self._note("passed", check=name, found=found, seconds=round(self._site.clock.monotonic() - began, 3),
                   server=self._instance)
        self._passed, self._passed_on = self._passed | {name}, {**self._passed_on, name: self._instance}

    def _wait(self, action: Wait) -> None:
        site = self._site
        self._waiting = self._waiting or site.deadline(site.timeouts.load)
        if self._waiting.over:
            raise RolloutError(f"{action.why}, still, after {self._waiting.waited:.0f} s", hint="see `tfs logs`")
        self._waiting.sleep(0.05)

    # -- when something goes wrong

    def _failed(self, error: DeployError) -> None:
        """Trouble for the policy to see; raised where there is no way back, or none that could be gone."""
        if self._why is not None:
            raise LeftOpen(f"{self._why.reason}; and the way back failed: {error.message}", hint=RESUME,
                           details=error.details) from error
        if isinstance(error, Unreachable | TimedOut) and not self._alive():
            raise LeftOpen(f"the server doesn't answer: {error.message}",
                           hint=f"start it, from what is proven: tfs up; then {RESUME}") from error
        if self._known_good():  # no reason to take traffic away from it
            goal = self._goal
            raise LeftOpen(f"version {goal.version} has passed everything and {goal.label} stays on it; what was left "
                           f"to do failed: {error.message}", hint=RESUME, details=error.details) from error
        if self._trouble is not None:  # the policy didn't get to see the first one: not even looking works
            raise LeftOpen(f"{self._trouble.message}; and then: {error.message}", hint=RESUME) from error
        self._trouble = error

    def _alive(self) -> bool:
        try:
            self._site.statuses()
        except ClientError:
            return False
        return True

    def _go_back(self, action: Abort, *, write: bool = True) -> None:
        cause, self._trouble = self._trouble, None
        if self._why is not None:  # it was the way back already
            raise LeftOpen(f"{self._why.reason}; and the way back failed: {action.reason}", hint=RESUME)
        hint = action.hint or (cause.hint if cause else "")
        self._why = Ended("undone", action.reason, hint, details=cause.details if cause else {})
        self._goal = self._goal.undone()
        if write:
            self._tell(f"going back to {self._goal.to}: {action.reason}")
            self._note("undo", reason=action.reason)

    def _note(self, event: str, **fields: Any) -> None:
        """Into the ledger. On the way back a ledger that can't be written (a full disk) stops nobody."""
        try:
            self._ledger.append(event, release=self._release.id, **fields)
        except RolloutError as e:
            if self._why is None and not self._goal.backward:
                raise
            self._tell(e.message)


def _grown(before: int | None, after: int | None) -> dict[str, int]:
    """How much memory a load took, in bytes, if that is known."""
    return {} if before is None or after is None else {"memory": max(0, after - before)}
