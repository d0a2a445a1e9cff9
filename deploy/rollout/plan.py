"""What a release would do, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.rollout.algebra import Check, DropLabel, Goal, Load, Pause, PointLabel, Unload, Wait
from deploy.rollout.algebra import Observed as Seen
from deploy.rollout.confirming import sentence
from deploy.rollout.policy import next_action, told_next
from deploy.rollout.preflight import Findings
from deploy.spec import RolloutPart
from deploy.state.releases import Kind
from deploy.types import VersionState, VersionStatus


@dataclass(frozen=True, slots=True)
class Plan:
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
        found = self.findings
        return {"model": self.model, "kind": self.kind, "version": self.goal.version, "ok": self.ok,
                "before": self.goal.before.to_json(), "goal": self.goal.to.to_json(), "steps": list(self.steps),
                "contract": found.verdict.to_json() if found.verdict else None,
                "memory": None if found.forecast is None else {"needed": found.forecast.needed,
                                                               "measured": found.forecast.measured,
                                                               "fits": found.forecast.fits},
                "notes": found.notes, "problems": [p.to_json() for p in found.problems]}

    def text(self) -> str:
        """For people."""
        found = self.findings
        lines = [f"{self.kind} of {self.model}: {self.goal.before}  =>  {self.goal.to}"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        if found.verdict is not None:
            lines.append(f"  contract: {found.verdict.level}")
            lines += [f"    {reason}" for reason in found.verdict.reasons if reason.level]
        if found.forecast is not None:
            lines.append(f"  memory: {found.forecast}")
        lines += [f"  note: {note}" for note in found.notes]
        lines += [f"  problem: {problem}" for problem in found.problems]
        return "\n".join(lines)


def steps(model: str, goal: Goal, part: RolloutPart) -> tuple[str, ...]:
    """The way, walked in thought: the policy itself says what comes next."""
    words, seen = list[str](), Seen({v: _available(v) for v in goal.before.versions}, goal.before.labels)
    passed, let_go = set[str](), set[str]()
    for _ in range(100):
        action = next_action(Seen(seen.statuses, seen.labels, frozenset(passed), frozenset(let_go)), goal)
        if isinstance(action, Pause):
            let_go.add(action.before)
            words.append(f"wait for approval: tfs rollout {model} --continue")
        elif isinstance(action, Check):
            passed.add(action.name)
            words.append(_CHECKS[action.name].format(soak=part.soak, hold=part.hold))
        elif isinstance(action, (Load, PointLabel, DropLabel, Unload)):
            words.append(sentence(action, model))
            told = told_next(seen, action)
            seen = Seen({v: _available(v) for v in told.versions}, told.labels)
        else:
            assert not isinstance(action, Wait)
            break
    return tuple(words)


_CHECKS = {"gate": "smoke-test it: state, contract, golden answers over both protocols",
           "compare": "compare its answers with those of the version that it replaces",
           "soak": "watch it for {soak:g} s", "confirm": "confirm over both protocols that the label leads there",
           "hold": "watch it for {hold:g} s, with the old version still loaded"}


def _available(version: int) -> VersionStatus:
    return VersionStatus(version, VersionState.AVAILABLE)
