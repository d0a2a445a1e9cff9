"""Carries a replacement of replicas out: look, decide, do one thing, write it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.backends import Generations, Progress, Replacement, ReplacementRecord, ServerChange
from deploy.errors import BackendMissing, DeployError, RolloutError, ServerError
from deploy.rollout.actions import Wait
from deploy.rollout.replacing_policy import (
    BEFORE,
    Bake,
    FinishReplacing,
    GoBack,
    LetGoOn,
    MakeFirst,
    Prove,
    ReplacementSnapshot,
    ReplacementStep,
    Undone,
    next_step,
)
from deploy.rollout.replica_checks import ReplicaChecks
from deploy.serving import resolving, snapshot, startup
from deploy.spec import Spec
from deploy.state import ledger_of
from deploy.state.ledger import append_if_possible
from deploy.waiting import Deadline

_PAUSE = 0.5  # seconds between two looks
_TAIL = 20  # lines of a log as evidence
_ENDING = 60.0  # seconds that a node may need beside that, to be done with a pod that never started


@dataclass(frozen=True, slots=True)
class Replaced:
    """How it ended. outcome: `done`, `undone` (only by `abort`), or `none`: nothing was to change. id: "" for none."""

    name: str
    outcome: str
    change: ServerChange = field(default_factory=ServerChange)
    id: str = ""
    seconds: float = 0.0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "outcome": self.outcome, "id": self.id, "reason": self.reason,
                "seconds": round(self.seconds, 1), "change": self.change.to_json()}

    def text(self) -> str:
        """For people."""
        if self.outcome == "none":
            return f"{self.name} runs as the spec says: no pod has to be replaced"
        if self.outcome == "undone":
            return f"{self.name} runs as before (replacement {self.id}: {self.reason})"
        return f"{self.name} runs as the spec says, all pods replaced (replacement {self.id}, {self.seconds:.0f} s)"


@dataclass(frozen=True, slots=True)
class ReplacementPlan:
    """models: what is served, known_good: by the ledger."""

    replacement: Replacement
    models: tuple[resolving.ResolvedModel, ...]
    known_good: Spec
    progress: Progress

    def await_steady(self) -> None:
        """Raises NotReady if the server isn't well: new replicas would be compared with nothing."""
        server, deadline = self.replacement.server, Deadline(self.known_good.server.start_timeout)
        startup.await_replicas(server, deadline, self.progress, traffic=True)
        with snapshot.all_connected(snapshot.connect, server) as controls:
            startup.wait(server, controls, self.models, deadline, self.progress)


class ReplacementDriver:
    """Carries a replacement out."""

    def __init__(self, spec: Spec, plan: ReplacementPlan, record: ReplacementRecord, progress: Progress, *,
                 force: bool = False) -> None:
        self._spec, self._plan, self._record, self._progress = spec, plan, record, progress
        self._replacement, self._force = plan.replacement, force
        self._checks = ReplicaChecks(spec, plan.known_good, plan.models, progress)
        self._ledger, self._proven, self._told_back = ledger_of(spec), dict[str, str](), False
        self._began, self._hint, self._details = Deadline(float("inf")), "", dict[str, Any]()

    def run(self, change: ServerChange) -> Replaced:
        try:
            self._until(FinishReplacing)
        except KeyboardInterrupt:
            self._go_back("interrupted")
        if self._record.undoing:
            undone = self.undo(self._record.undoing)
            raise RolloutError(undone.text(), hint=self._hint, id="replacement-undone",
                               details={**self._details, "replacement": undone.id, "outcome": "undone"})
        self._replacement.apply(force=self._force)
        self._end("done")
        return Replaced(self._spec.name, "done", change, self._record.id, self._began.waited)

    def undo(self, reason: str) -> Replaced:
        if not self._record.undoing:
            self._go_back(reason)
        self._until(Undone)
        self._end("undone", reason)
        return Replaced(self._spec.name, "undone", id=self._record.id, seconds=self._began.waited, reason=reason)

    def _end(self, outcome: str, reason: str = "") -> None:
        self._replacement.end()
        self._append("replace_end", outcome=outcome, reason=reason)

    def _append(self, event: str, **fields: Any) -> None:
        append_if_possible(self._ledger, event, lenient=True, tell=self._progress, replacement=self._record.id,
                           **fields)

    def _until(self, last: type[ReplacementStep]) -> None:
        """Take steps until the one of this kind is to be taken, or the other way begins."""
        seen, patience = "", Deadline(self._patience)
        while True:
            there = self._replacement.look(self._record)
            step = next_step(self._snapshot(there))
            if isinstance(step, last):
                return
            if not isinstance(step, Wait):
                self._take(step, there)
                if self._record.undoing and last is FinishReplacing:
                    return
                patience = Deadline(self._patience)
                continue
            if step.why != seen:
                self._progress(f"waiting: {step.why}")
                seen, patience = step.why, Deadline(self._patience)
            if patience.over:
                if last is Undone:
                    raise ServerError(f"pods of {self._spec.name} aren't as before after {patience.waited:.0f} s: "
                                      f"{step.why}", id="replacement-stuck",
                                      hint="see tfs doctor; then tfs rollout --replace-pods --abort again")
                self._details = {"logs": self._replacement.server.logs(_TAIL)}
                self._go_back(f"nothing moved for {patience.waited:.0f} s: {step.why}")
                return
            patience.sleep(_PAUSE)

    def _snapshot(self, there: Generations) -> ReplacementSnapshot:
        return ReplacementSnapshot(there, self._proven, frozenset(self._record.baked), self._record.undoing,
                                   self._told_back)

    @property
    def _patience(self) -> float:
        return self._spec.server.start_timeout + self._spec.server.drain + (_ENDING if self._record.undoing else 0)

    def _take(self, step: ReplacementStep, there: Generations) -> None:
        if isinstance(step, GoBack):
            self._go_back(step.why)
        elif isinstance(step, MakeFirst):
            self._progress("making the first new pod")
            self._replacement.begin(force=self._force)
        elif isinstance(step, LetGoOn):
            self._progress(f"replacing the next one: {len(there.new)} of {there.wanted} are new")
            self._replacement.let_go_on(self._record)
        else:
            with self._undone_if_bad():
                if isinstance(step, Prove):
                    self._prove(step.name, there)
                elif isinstance(step, Bake) and self._watched(step.name):
                    self._record = replace(self._record, baked=(*self._record.baked, step.name))
                    self._replacement.write(self._record)
                    self._append("passed_replacement", check=step.name)

    @contextmanager
    def _undone_if_bad(self) -> Iterator[None]:
        try:
            yield
        except BackendMissing:
            raise  # nobody can be told to go back; old pods serve on
        except DeployError as e:
            self._hint, self._details = e.hint, dict(e.details)
            self._go_back(e.message)

    def _go_back(self, reason: str) -> None:
        self._progress(f"going back: {reason}")
        self._record = replace(self._record, undoing=reason)
        self._replacement.write(self._record)
        self._append("replace_undo", reason=reason)
        self._replacement.go_back(self._record)
        self._told_back = True

    def _prove(self, name: str, there: Generations) -> None:
        one = next(r for r in there.new if r.name == name)
        try:
            self._checks.prove(one, next(iter(there.old), None), self._replacement.server)
        except DeployError:
            if all(r.name != name for r in self._replacement.look(self._record).new):
                return  # the cluster took it away meanwhile: another one comes in its place
            raise
        self._proven[name] = one.instance
        self._append("replaced", pod=name)

    def _watched(self, name: str) -> bool:
        """Whether the bake time is over, and nothing else is to be done."""
        part = self._spec.rollout
        seconds = part.soak if name == BEFORE else part.hold
        self._progress(f"watching the new pods for {seconds:g} s")
        deadline = Deadline(seconds)
        while True:
            there = self._replacement.look(self._record)
            if there.trouble or any(self._proven.get(one.name) != one.instance for one in there.new) or not there.new:
                return False  # the policy decides
            for one in there.new:
                self._checks.compare(one, (there.old or there.new)[0], quick=True)
            if deadline.over:
                return True
            deadline.sleep(part.interval)
