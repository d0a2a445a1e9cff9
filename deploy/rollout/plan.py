"""What a release would do, as plain data: its goal, its steps, and what forbids it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.backends.base import Progress, silent
from deploy.errors import RolloutError, SpecError
from deploy.locks import locked
from deploy.naming import check_version
from deploy.rollout import preflight
from deploy.rollout.actions import (
    DropLabel,
    Goal,
    LoadVersion,
    Observed,
    Pause,
    PointLabel,
    RunCheck,
    UnloadVersion,
    Wait,
    sentence,
)
from deploy.rollout.checks import BAKE_TIMES
from deploy.rollout.context import RolloutContext, ServerSession, rollout_context
from deploy.rollout.goals import Strategy, backward, current, forward
from deploy.rollout.policy import next_action, next_config
from deploy.rollout.preflight import Findings
from deploy.spec import RolloutPart, Spec
from deploy.state import Ledger, Release, releases
from deploy.state.release import Kind
from deploy.types import Serving, VersionState, VersionStatus

_PLANNED = 30.0  # seconds for which what a server has shown is good enough for a plan, which changes nothing


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """steps: in order, in words. findings: what forbids it, and what people should know."""

    model: str
    kind: Kind
    goal: Goal
    steps: tuple[str, ...]
    findings: Findings

    @property
    def ok(self) -> bool:
        return not self.findings.problems

    def raise_if_forbidden(self) -> None:
        """Raises the first problem, whatever its class."""
        if self.findings.problems:
            raise self.findings.problems[0]

    def to_json(self) -> dict[str, Any]:
        findings = self.findings
        return {"model": self.model, "kind": self.kind, "version": self.goal.version, "ok": self.ok,
                "before": self.goal.before.to_json(), "goal": self.goal.to.to_json(), "steps": list(self.steps),
                "contract": findings.verdict.to_json() if findings.verdict else None,
                "memory": None if findings.forecast is None else {"needed": findings.forecast.needed,
                                                               "measured": findings.forecast.measured,
                                                               "fits": findings.forecast.fits},
                "notes": findings.notes, "problems": [p.to_json() for p in findings.problems]}

    def text(self) -> str:
        """For people."""
        findings = self.findings
        lines = [f"{self.kind} of {self.model}: {self.goal.before}  =>  {self.goal.to}"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        if findings.verdict is not None:
            lines.append(f"  contract: {findings.verdict.level}")
            lines += [f"    {reason}" for reason in findings.verdict.reasons if reason.level]
        if findings.forecast is not None:
            lines.append(f"  memory: {findings.forecast}")
        lines += [f"  note: {note}" for note in findings.notes]
        lines += [f"  problem: {problem}" for problem in findings.problems]
        return "\n".join(lines)


def steps(model: str, goal: Goal, part: RolloutPart) -> tuple[str, ...]:
    """Each step in words, by a simulation: the policy itself says what comes next."""
    words, state = list[str](), Observed({v: _available(v) for v in goal.before.versions}, goal.before.labels)
    passed, approved = set[str](), set[str]()
    for _ in range(100):
        action = next_action(Observed(state.statuses, state.labels, frozenset(passed), frozenset(approved)), goal)
        if isinstance(action, Pause):
            approved.add(action.before)
            words.append(f"wait for approval: tfs rollout {model} --continue")
        elif isinstance(action, RunCheck):
            passed.add(action.name)
            words.append(_CHECKS[action.name].format(before=part.soak, after=part.hold))
        elif isinstance(action, (LoadVersion, PointLabel, DropLabel, UnloadVersion)):
            words.append(sentence(action, model))
            config = next_config(state, action)
            state = Observed({v: _available(v) for v in config.versions}, config.labels)
        else:
            assert not isinstance(action, Wait)
            break
    return tuple(words)


_CHECKS = {"gate": "smoke-test it: state, contract, golden answers over both protocols",
           "compare": "compare its answers with those of the version that it replaces",
           "bake_before": "watch it for {before:g} s",
           "confirm": "confirm over both protocols that the label resolves to it",
           "bake_after": "watch it for {after:g} s, with the old version still loaded"}


def _available(version: int) -> VersionStatus:
    return VersionStatus(version, VersionState.AVAILABLE)


def plan_rollout(spec: Spec, model: str, to: int, *, pause_before: Sequence[str] = (), allow_breaking: str = "",
                 progress: Progress | None = None, session: ServerSession | None = None) -> RolloutPlan:
    """What `roll_out` would do, and what forbids it. Nothing is changed. Raises as `roll_out` does before it changes
    anything; what the plan itself forbids is among its findings."""
    check_version(to)
    strategy = strategy_of(spec, pause_before)
    with locked(spec.state_dir, f"plan of {model}"), rollout_context(spec, model, session) as context:
        context.live_server.moment = _PLANNED
        live = context.settled(to, progress or silent)
        return make_plan(context, "rollout", forward(live, to, strategy), allow_breaking, progress or silent)


def plan_rollback(spec: Spec, model: str, to: int | None = None, *, progress: Progress | None = None) -> RolloutPlan:
    """What `roll_back` would do on a server that runs. As `plan_rollout`."""
    with locked(spec.state_dir, f"plan of {model}"), rollout_context(spec, model) as context:
        live = context.live() if to is None else context.settled(to, progress or silent)
        goal = backward_goal(strategy_of(spec), model, to)(context.ledger, live)
        return make_plan(context, "rollback", goal, "", progress or silent)


def strategy_of(spec: Spec, pauses: Iterable[str] = ()) -> Strategy:
    """The strategy that the spec describes. pauses: names of steps; `soak` and `hold`, as the spec has them, are fine.

    Raises SpecError for a pause before a step that there isn't.
    """
    part = spec.rollout
    trial = ("gate", *(["compare"] if part.comparison else []), *(["bake_before"] if part.soak else []))
    after = ("confirm", *(["bake_after"] if part.hold else []))
    names = {spec_name: name for name, spec_name in BAKE_TIMES.items()}
    pause_steps = {p: names.get(p, p) for p in pauses}
    strategy = Strategy(part.label, part.canary_label, trial, after, frozenset(pause_steps.values()))
    for given, step in pause_steps.items():
        if step not in strategy.steps:
            raise SpecError(f"there is no step {given!r} to pause before", hint=f"steps: {', '.join(strategy.steps)}")
    return strategy


GoalFor = Callable[[Ledger, Serving], Goal]
"""From the ledger and what is live to the goal."""


def backward_goal(strategy: Strategy, model: str, to: int | None) -> GoalFor:
    def goal(ledger: Ledger, live: Serving) -> Goal:
        if to is not None:
            return backward(live, forward(live, check_version(to), strategy).to, strategy)
        now = current(live, strategy.label)
        before = _earlier(releases(ledger.read(), model), now, strategy.label)
        if before is None:
            raise RolloutError(f"no release is known that brought {model}/{now}",
                               hint="name a version: --to N; see tfs history", id="nothing-to-go-back-to")
        return backward(live, before, strategy)

    return goal


def _earlier(known: Sequence[Release], now: int | None, label: str) -> Serving | None:
    """What was served before the release that brought the version which is served now.

    If that version is what the last release left, the way back was gone already, and couldn't be written down.
    """
    done = [r for r in reversed(known) if r.outcome == "done"]
    if done and done[0].kind == "rollout" and done[0].version != now and current(done[0].before, label) == now:
        return done[0].before
    return next((r.before for r in done if r.kind == "rollout" and r.version == now), None)


def make_plan(context: RolloutContext, kind: Kind, goal: Goal, allow_breaking: str, progress: Progress) -> RolloutPlan:
    model = context.model.name
    if nothing_to_do(context, goal):
        return RolloutPlan(model, kind, goal, (), preflight.Findings([], [NOTHING_TO_DO]))
    findings = preflight.check(context, goal, allow_breaking=allow_breaking, progress=progress)
    part = context.spec.rollout
    words = context.once(("steps", model, repr(goal), part.soak, part.hold), lambda: steps(model, goal, part))
    return RolloutPlan(model, kind, goal, words, findings)


NOTHING_TO_DO = "nothing to do: it is served like that already"


def nothing_to_do(context: RolloutContext, goal: Goal) -> bool:
    """Whether the goal is what is live, and what a restart would serve."""
    return goal.to == goal.before == context.named()
