"""Carries a release of many servers out: look, ask the policy, do one thing on several servers at once, write it down.

Each server's own release is in its own ledger, the fleet's in the fleet's; what is killed at whatever point is gone on
with by the next run, from what is seen then. The order for one step:

    fleet_apply  ->  the servers' own releases  ->  fleet_confirm  ->  looking at those servers again
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from deploy.backends import Progress
from deploy.errors import DeployError, RolloutError
from deploy.fleet.parallel import ServerResult, everywhere
from deploy.fleet.policy import (
    AbortRelease,
    BakeServers,
    ChangeServers,
    FinishServers,
    FleetEnd,
    FleetGoal,
    FleetObserved,
    MemberState,
    PauseWave,
    SendHome,
    StageVersion,
    WaitFor,
    Work,
    next_action,
)
from deploy.fleet.server import FleetServer
from deploy.leases import LOST
from deploy.rollout import Unfinished
from deploy.rollout.context import Once
from deploy.spec import Spec
from deploy.state import FleetRelease, Ledger
from deploy.state import fleet_release as recorded
from deploy.state.ledger import append_if_possible, current_listener, listening
from deploy.state.lines import Line
from deploy.waiting import Deadline

LOOKS, STAGES, BAKES = 32, 8, 256  # servers at a time; those that bake mostly wait
MOST_KEPT = 256  # servers whose connections are kept from one step to the next: each takes two or three files
MOST_CHANGES = 3  # of one server in one run
RESUME = "run the same rollout again, or with --resume; or undo it: tfs rollout MODEL --abort"

_WORDS = {StageVersion: "stage", ChangeServers: "change", BakeServers: "bake", FinishServers: "finish",
          SendHome: "home"}
_SENTENCES = {"stage": "staging version {version} on", "change": "wave {wave}: changing",
              "bake": "wave {wave}: watching", "finish": "unloading what was left on", "home": "bringing back"}


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """How a run ended. wave: the one that waits, if it paused. missing: servers that aren't where they should be, each
    with the reason. down: of those that are brought back, servers that couldn't be told, with the reason: they are
    where they should be once they start."""

    outcome: Literal["done", "undone", "paused"]
    reason: str = ""
    wave: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)


class FleetDriver:
    """One run of one release. Whoever runs it holds the fleet's lock.

    patience: seconds for servers that don't answer to come back.
    """

    def __init__(self, servers: Sequence[FleetServer], ledger: Ledger, release: FleetRelease, *, most_unavailable: int,
                 patience: float, progress: Progress) -> None:
        self._servers = {server.name: server for server in servers}
        self._ledger, self._release, self._progress = ledger, release, progress
        waves = tuple(tuple(name for name in wave if name in self._servers) for wave in release.waves)
        self._goal = FleetGoal(waves, most_unavailable, release.pauses,
                               backward=release.kind == "rollback" or bool(release.undoing))
        self._patience, self._waiting = patience, Deadline(None)
        self._waits = False
        self._members: dict[str, MemberState] = {}
        self._stale, self._staged, self._sent = set(self._servers), set[str](), set[str]()
        self._looked = set[str]()  # just now
        self._looked_at_all, self._ending, self._trouble = False, False, ""
        self._changes = Counter[str]()
        self.forbidden: DeployError | None = None
        """What the first server that couldn't be staged has said."""

    def run(self) -> FleetOutcome:
        """Until it is done, undone or paused. Raises Unfinished if it was interrupted on the way back."""
        outcome: FleetOutcome | None = None
        while outcome is None:
            try:
                outcome = self._once()
            except KeyboardInterrupt:
                self._interrupted()
            except RolloutError as e:  # what is done can't be written down
                if self._goal.backward or self._ending or e.id == LOST:
                    raise
                self._trouble = e.message
        return outcome

    @property
    def release(self) -> FleetRelease:
        """As it is by now, even if that couldn't be written down."""
        return self._release

    def _interrupted(self) -> None:
        if self._goal.backward:
            raise Unfinished(f"{self._release.undoing or self._release.kind}; interrupted on the way back", hint=RESUME)
        self._trouble = "interrupted"

    # -- one turn

    def _once(self) -> FleetOutcome | None:
        self._look()
        action = next_action(FleetObserved(self._members, self._release.approved, self._trouble), self._goal)
        if not isinstance(action, WaitFor):
            self._waits = False
        if isinstance(action, WaitFor):
            self._wait(action)
        elif isinstance(action, AbortRelease):
            self._go_back(action.reason)
        elif isinstance(action, PauseWave):
            self._note("fleet_pause", wave=action.wave)
            return FleetOutcome("paused", wave=action.wave)
        elif isinstance(action, FleetEnd | FinishServers) and not self._looked_at_all:
            self._stale = set(self._servers) - self._looked  # one of an early wave may have been started again since
            self._looked_at_all = True
        elif isinstance(action, FleetEnd):
            self._ending = True
            return self._end(action)
        elif not self._lost_again(action):
            self._ending = isinstance(action, FinishServers)
            self._work(action)
        return None

    def _look(self) -> None:
        """At the servers whose state may be another one than it was."""
        if not self._stale:
            return
        self._looked = set(self._stale)
        names = [name for name in self._servers if name in self._stale]
        release, staged = self._release, frozenset(self._staged)
        results = self._everywhere(names, lambda server, _: server.state(release, server.name in staged), LOOKS)
        for name, result in zip(names, results, strict=True):
            failed = self._members[name].failed if name in self._members else ""
            if result.value is not None:
                if name in self._sent and not result.value.home:
                    failed = failed or result.value.away or "it doesn't serve what it did before"
                self._members[name] = replace(result.value, failed=failed)
            else:
                self._members[name] = MemberState(failed=_reason(result), home=False)
        self._stale = set()

    def _lost_again(self, action: Work) -> bool:
        """Whether one of those that are to be changed had it before, so often that it won't keep it."""
        if not isinstance(action, ChangeServers):
            return False
        for name in action.servers:
            self._changes[name] += 1
            if self._changes[name] > MOST_CHANGES:
                self._members[name] = replace(self._members[name], failed=(
                    f"version {self._release.version} was brought to it {MOST_CHANGES} times, and it doesn't keep it"))
                return True
            before = None if name in self._release.before else self._servers[name].look().before
            if before is not None:  # it was away when the release began
                self._note("fleet_join", server=name, before=before.to_json())
        return False

    def _work(self, action: Work) -> None:
        do, names, release = _WORDS[type(action)], action.servers, self._release
        wave = getattr(action, "wave", 0)
        self._progress(f"{_SENTENCES[do].format(version=release.version, wave=wave)} {', '.join(names)}")
        self._note("fleet_apply", do=do, servers=list(names), wave=wave)
        release, began = self._release, time.monotonic()
        verb: Callable[[FleetServer, Progress], None] = {
            "stage": lambda server, tell: server.stage(release.version, tell),
            "change": lambda server, tell: server.change(release.version, f"{release.id} of all servers", wave, tell),
            "bake": lambda server, tell: server.bake(tell),
            "finish": lambda server, tell: server.finish(tell),
            "home": lambda server, tell: server.send_home(release, tell)}[do]
        results = self._everywhere(names, verb, STAGES if do == "stage" else BAKES)
        failed = {name: _reason(result) for name, result in zip(names, results, strict=True)
                  if result.error is not None or result.interrupted}
        self._note("fleet_confirm", do=do, servers=list(names), failed=failed,
                   seconds=round(time.monotonic() - began, 3))
        for name, reason in failed.items():
            self._members[name] = replace(self._members[name], failed=reason)
        if do == "stage":
            self._staged |= set(names) - failed.keys()
            errors = (result.error for result in results if isinstance(result.error, DeployError))
            self.forbidden = self.forbidden or next(errors, None)
        if do == "home":
            self._sent |= set(names)
        self._stale |= set(names)
        if do in ("change", "bake"):
            self._looked_at_all = False

    def _everywhere(self, names: Sequence[str], verb: Callable[[FleetServer, Progress], Any], at_once: int
                    ) -> tuple[ServerResult[Any], ...]:
        stop, servers, listening_for, once = threading.Event(), self._servers, _forwarding(), Once()
        by_name = {servers[name].spec.name: servers[name] for name in names}

        def one(spec: Spec, tell: Progress) -> Any:
            server = by_name[spec.name]
            with listening_for(server.name), server.kept(once, connected=len(servers) <= MOST_KEPT):
                return verb(server, tell)

        results = everywhere([servers[name].spec for name in names], one, progress=self._progress, at_once=at_once,
                             stop=stop)
        for result in results:
            if result.error is not None and not isinstance(result.error, DeployError):
                raise result.error
        if stop.is_set():
            self._interrupted()
        return results

    def _wait(self, action: WaitFor) -> None:
        if not self._waits:
            self._waits, self._waiting = True, Deadline(self._patience)
            self._progress(f"{action.why}; waiting for up to {self._patience:g} s")
        if self._waiting.over:
            self._trouble = action.why
            return
        self._waiting.sleep(0.2)
        self._stale = {name for name, member in self._members.items() if member.away}

    def _go_back(self, reason: str) -> None:
        self._progress(f"going back everywhere: {reason}")
        self._note("fleet_undo", reason=reason)
        self._goal, self._trouble = replace(self._goal, backward=True), ""
        self._members = {name: replace(member, failed="") for name, member in self._members.items()}
        self._stale, self._looked_at_all = set(self._servers), True

    def _end(self, action: FleetEnd) -> FleetOutcome:
        undone = self._goal.backward and self._release.kind == "rollout"
        missing = {name: self._members[name].failed or self._members[name].away or "it serves something else"
                   for name in action.missing}
        if self._release.kind == "rollback":
            unknown = self._release.options.get("unknown", {})
            missing |= {name: str(unknown.get(name, "nobody knows what it served before"))
                        for name in self._servers if name not in self._release.home}
        down = {name: member.away for name, member in self._members.items()
                if self._goal.backward and member.away and name not in missing}
        outcome = FleetOutcome("undone" if undone else "done", self._release.undoing, missing=missing, down=down)
        started = f"{', '.join(down)} {'were down: they start' if len(down) > 1 else 'was down: it starts'} with this"
        self._note("fleet_end", outcome=outcome.outcome, missing=list(missing),
                   reason="; ".join(filter(None, (outcome.reason, started if down else ""))))
        return outcome

    def _note(self, event: str, **fields: Any) -> None:
        """Into the ledger. On the way back a ledger that can't be written stops nobody."""
        line = append_if_possible(self._ledger, event, lenient=self._goal.backward or event == "fleet_undo",
                                  tell=self._progress, release=self._release.id, **fields)
        self._release = recorded.after(self._release, line)


def _forwarding() -> Callable[[str], AbstractContextManager[None]]:
    """In a thread that works on a server: what its ledger gets goes to who listens to the fleet's, with its name."""
    listener, turn = current_listener(), threading.Lock()

    def forward(server: str) -> AbstractContextManager[None]:
        if listener is None:
            return nullcontext()

        def tell(line: Line) -> None:
            with turn:
                listener({"server": server, **line})

        return listening(tell)

    return forward


def _reason(result: ServerResult[Any]) -> str:
    if isinstance(result.error, DeployError):
        return result.error.message
    return "interrupted" if result.interrupted else str(result.error or "")
