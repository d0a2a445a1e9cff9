"""Carries a release out: observe, ask the policy, apply one thing, confirm it, write it down; again until it is done.

Whatever is killed at whatever point, the config file names a state that is known to be good, and the ledger says what
was meant: the next run observes and goes on from there. The order for one change:

    ledger `apply`  ->  reload  ->  the server shows it  ->  ledger `confirm`  ->  config file  ->  ledger `known_good`

On the way back traffic comes first: what can't be written (a full disk) is told, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from deploy.errors import BackendMissing, ClientError, DeployError, Rejected, RolloutError, TimedOut, Unreachable
from deploy.leases import LOST
from deploy.rollout.actions import (
    Abort,
    Action,
    Change,
    Checks,
    Done,
    DropLabel,
    Goal,
    LoadVersion,
    Observed,
    Pause,
    PointLabel,
    RolloutOutcome,
    RolloutProgress,
    RunCheck,
    UnloadVersion,
    Wait,
    sentence,
    to_json,
)
from deploy.rollout.live_server import LiveServer, confirm
from deploy.rollout.observing import Observer
from deploy.rollout.policy import known_good, next_action, next_config, promoted, trial_of
from deploy.state import Ledger, Release
from deploy.state.ledger import append_if_possible
from deploy.types import Serving
from deploy.waiting import Deadline, poll

RESUME = "run the same rollout again, or with --resume; or undo it: tfs rollout MODEL --abort"
HANGS = ("a configuration names a base path that isn't there: until it is, the server takes no other; put it back, or "
         "restart the server: tfs down, tfs up")
REFUSED = "if it refuses every configuration, somebody has pushed a wrong one: tfs repair"


class Unfinished(RolloutError):
    """The run is over, the release isn't: what the server starts from is known to be good; a later run goes on."""


class Driver:
    """One run of one release. Whoever runs it holds the server's lock.

    entry: the spec's entry for the model now (state.release.entry), written beside what is known to be good.
    known_good: what a restart would serve by the ledger, None if it says nothing.
    """

    def __init__(self, server: LiveServer, ledger: Ledger, release: Release, goal: Goal, checks: Checks, *,
                 entry: Mapping[str, Any], known_good: Serving | None = None,
                 progress: Callable[[str], None] = lambda _: None) -> None:
        self._server, self._ledger, self._release, self._checks = server, ledger, release, checks
        self._entry, self._tell, server.tell = dict(entry), progress, progress
        self._at = RolloutProgress.of(release, goal, known_good)
        self._waiting: Deadline | None = None
        self._filed: Serving | None = None  # what this run has let the config file name
        self._observer = Observer(server, release)
        self.live: Serving | None = None
        """What was served when it looked last."""

    def run(self) -> RolloutOutcome:
        """Until it is done, undone or paused.

        Raises Unfinished if the server can't be reached, or the way back fails.
        """
        outcome: RolloutOutcome | None = None
        while outcome is None:
            self._server.lenient = self._at.lenient
            try:
                outcome = self._once()
            except Unfinished:
                raise
            except KeyboardInterrupt:
                if self._at.undoing is not None:
                    raise Unfinished(f"{self._at.undoing.reason}; interrupted on the way back", hint=RESUME) from None
                self._at = replace(self._at, interrupted=True, trouble=RolloutError("interrupted"))
            except DeployError as e:
                if e.id == LOST:  # the servers are somebody else's by now
                    raise
                self._failed(e)
        return outcome

    def observe(self) -> Observed:
        """A snapshot. Raises ClientError if the server doesn't answer for too long, RolloutError if it isn't the one
        that this run began with."""
        before, look = self._at, self._observer.look(self._at)
        self._at = before.on(look.instance, look.statuses)
        if before.restarted(look.instance) and before.trouble is None:
            self._at = replace(self._at, configured=None)
            raise self._started_again()
        if again := sorted(before.passed - self._at.passed):
            self._tell("asking again what passed before the server was started again, or the version unloaded: "
                       f"{', '.join(again)}")
        observed = self._at.observed(look.statuses, look.labels)
        if look.borrowed and not self._may_follow(observed):
            return self.observe()
        self.live = Serving(observed.loaded, {k: v for k, v in observed.labels.items() if v in observed.loaded})
        return observed

    def _may_follow(self, observed: Observed) -> bool:
        """Whether what was seen just before the last change is enough: not for what a restart relies on, or the end."""
        at = self._at
        return at.trouble is not None or (known_good(observed, at.goal) == at.known_good and not isinstance(
            next_action(observed, at.goal), Done | Pause | Abort))

    # -- one turn

    def _once(self) -> RolloutOutcome | None:
        observed = self.observe()
        at = self._at
        if at.interrupted and at.undoing is None and promoted(observed, at.goal):
            raise Unfinished(f"interrupted; {at.goal.label} resolves to version {at.goal.version} already",
                             hint=f"finish: the same with --resume; go back: tfs rollback {self._server.model}")
        if at.trouble is None:
            self._settle(observed)
        action = next_action(observed, at.goal)
        if not isinstance(action, Wait):
            self._waiting = None
        if isinstance(action, (LoadVersion, PointLabel, DropLabel, UnloadVersion)):
            self._change(action, observed)
        elif isinstance(action, RunCheck):
            self._check_all(action, observed)
        elif isinstance(action, Wait):
            self._wait(action)
        elif isinstance(action, Abort):
            self._go_back(action)
        elif isinstance(action, Pause):
            self._note("pause", before=action.before)
            return RolloutOutcome("paused", step=action.before)
        else:
            return self._end()
        return None

    def _end(self) -> RolloutOutcome:
        outcome, lost = self._at.undoing or RolloutOutcome("done"), self._at.unwritten
        if lost is not None and self._at.known_good is not None:  # else the spec decides what a restart serves
            raise Unfinished(f"{outcome.reason or 'rolled back'}; {self._at.goal.to} is served again, which can't be "
                             f"written down, so that a restart may serve something else: {lost.message}",
                             hint=f"make room, then {RESUME}", details=lost.details)
        self._server.finished()
        self._note("end", outcome=outcome.outcome, reason=outcome.reason)
        return outcome

    def _settle(self, observed: Observed) -> None:
        """What a restart may rely on stands in the config file, and in the ledger."""
        serving = known_good(observed, self._at.goal)
        if not serving.versions:
            return
        try:
            if serving != self._filed:
                self._write_file(serving)
                self._filed = serving
            if serving != self._at.known_good:
                self._ledger.append("known_good", release=self._release.id, model=self._server.model,
                                    serving=serving.to_json(), spec=self._entry)
            self._at = replace(self._at, known_good=serving, unwritten=None)
        except DeployError as e:
            if not self._at.lenient or e.id == LOST:
                raise
            if self._at.unwritten is None:  # the label goes back all the same
                self._tell(e.message)
            self._at = replace(self._at, unwritten=e)

    def _write_file(self, serving: Serving) -> None:
        """Where the file's place may be away for a while it is waited for, but not on the way back: traffic goes first.
        """
        server, last = self._server, list[BackendMissing]()

        def written() -> bool | None:
            try:
                server.file.change(server.model, serving)
            except BackendMissing as e:
                last[:] = [e]
                return None
            return True

        patience = 0.0 if self._at.lenient else server.timeouts.patience
        if not poll(written, server.deadline(patience), first=0.2, most=2.0):
            raise last[0]

    def _change(self, change: Change, observed: Observed) -> None:
        server, config, what = self._server, next_config(observed, change), sentence(change, self._server.model)
        self._tell(what)
        self._note("apply", action=to_json(change), config=config.to_json())
        began, memory = server.clock.monotonic(), server.memory() if isinstance(change, LoadVersion) else None
        try:
            server.reload(config)
        except TimedOut as e:
            raise RolloutError(f"the reload for `{what}` hangs: {e.message}", hint=HANGS, id="reload-hangs") from e
        except Rejected as e:
            reason = e.details.get("server") or e.message
            raise RolloutError(f"the server refused `{what}`: {reason}", hint=REFUSED, id="reload-refused") from e
        self._at = replace(self._at, configured=config.versions)
        self._observer.changed(confirm(server, change))
        seconds = round(server.clock.monotonic() - began, 3)
        grown = _grown(memory, server.memory()) if isinstance(change, LoadVersion) else {}
        if isinstance(change, LoadVersion):
            self._at = replace(self._at, confirmed=self._at.confirmed | {change.version})
        self._note("confirm", action=to_json(change), seconds=seconds, **grown)

    def _check_all(self, action: Action, observed: Observed) -> None:
        """This check and those that come directly after it: they ask by themselves for what they are about. What the
        server is like after the last one is what counts, and that it is the same run still."""
        began = self._server.clock.monotonic()
        while isinstance(action, RunCheck):
            self._check(action.name, observed)
            observed = replace(observed, passed=self._at.passed)
            action = next_action(observed, self._at.goal)
        self._observer.checked(began)

    def _check(self, name: str, observed: Observed) -> None:
        trial = trial_of(self._server.model, observed, self._at.goal)
        began = self._server.clock.monotonic()
        self._tell(f"{name}: asking {trial.candidate}")
        result = self._checks[name](trial)
        self._tell(f"{name}: {result}")
        self._note("passed", check=name, found=result, seconds=round(self._server.clock.monotonic() - began, 3),
                   server=self._at.instance)
        self._at = self._at.passing(name)

    def _wait(self, action: Wait) -> None:
        server = self._server
        self._waiting = self._waiting or server.deadline(server.timeouts.load)
        if self._waiting.over:
            raise RolloutError(f"{action.why}, still, after {self._waiting.waited:.0f} s", hint="see `tfs logs`")
        self._waiting.sleep(0.05)

    # -- when something goes wrong

    def _failed(self, error: DeployError) -> None:
        """Trouble for the policy to see; raised where there is no way back, or none that could be gone."""
        at = self._at
        if at.undoing is not None:
            why = "" if error.message in at.undoing.reason else f": {error.message}"
            raise Unfinished(f"{at.undoing.reason}; and the way back failed{why or ' for that reason, too'}",
                             hint=RESUME, details=error.details) from error
        if isinstance(error, Unreachable | TimedOut) and not self._alive():
            raise Unfinished(f"the server doesn't answer: {error.message}",
                             hint=f"start it, from what is known to be good: tfs up; then {RESUME}") from error
        if at.verified:  # no reason to take traffic away from it
            raise Unfinished(f"version {at.goal.version} has passed everything and {at.goal.label} stays on it; what "
                             f"was left to do failed: {error.message}", hint=RESUME, details=error.details) from error
        if at.trouble is not None:  # the policy didn't get to see the first one: not even looking works
            first = "" if error.id and at.trouble.id == error.id else f"{at.trouble.message}; and then: "
            raise Unfinished(f"{first}{error.message}", hint=RESUME) from error
        if error.id != "started-again" and self._restarted():  # what failed says little then
            self._at = replace(at, trouble=self._started_again(error), configured=None)
        else:
            self._at = replace(at, trouble=error)

    def _restarted(self) -> bool:
        try:
            return self._at.restarted(self._server.instance())
        except DeployError:
            return False

    def _started_again(self, noticed: DeployError | None = None) -> RolloutError:
        seen = f" (noticed by: {noticed.message})" if noticed else ""
        return RolloutError(f"the server was started again meanwhile; version {self._at.goal.version} may be the "
                            f"reason{seen}", hint="see tfs doctor and tfs logs, then begin again", id="started-again",
                            details=noticed.details if noticed else {})

    def _alive(self) -> bool:
        try:
            self._server.statuses()
        except ClientError:
            return False
        return True

    def _go_back(self, action: Abort) -> None:
        if self._at.undoing is not None:  # it was the way back already
            raise Unfinished(f"{self._at.undoing.reason}; and the way back failed: {action.reason}", hint=RESUME)
        self._at = self._at.undone(action.reason, action.hint)
        self._tell(f"going back to {self._at.goal.to}: {action.reason}")
        self._note("undo", reason=action.reason)

    def _note(self, event: str, **fields: Any) -> None:
        """Into the ledger. On the way back a ledger that can't be written (a full disk) stops nobody."""
        append_if_possible(self._ledger, event, lenient=self._at.lenient, tell=self._tell, release=self._release.id,
                           **fields)


def _grown(before: int | None, after: int | None) -> dict[str, int]:
    """How much memory a load took, in bytes, if that is known."""
    return {} if before is None or after is None else {"memory": max(0, after - before)}
