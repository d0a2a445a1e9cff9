"""What to do next in a release of many servers, decided from a snapshot alone: pure, as the policy of one server.

Forward: the version is staged on every server before any is told; then wave by wave: its servers change, a few at a
time, all of them are watched, each has to show exactly what is wanted; only then comes the next wave. The version that
is left stays loaded on all of them until the last wave is verified, so that the way back is one move of a label.
Backward: all at once, and a server that doesn't answer keeps none of the others from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum


class ReleaseStage(IntEnum):
    """How far a server is. BEHIND: nothing was done. STAGED: the version is there, verified, and no server was told.
    TRIAL: loaded and tested, not watched yet. VERIFIED: traffic is on it, all checks passed, and the version before is
    loaded still. DONE: it serves what it should in the end."""

    BEHIND = 0
    STAGED = 1
    TRIAL = 2
    VERIFIED = 3
    DONE = 4


@dataclass(frozen=True, slots=True)
class MemberState:
    """One server as it was seen last.

    home: whether it is where the way back leads, or starts there, if it is down. away: why it can't be asked, "" if it
    can.
    failed: why what was last done to it didn't work, "" if it did.
    """

    stage: ReleaseStage = ReleaseStage.BEHIND
    home: bool = True
    away: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class FleetGoal:
    """waves: the names of the servers of each. most_unavailable: how many may be changing, or not answer, at once.
    pauses: numbers of the waves (from 1) that wait for approval. backward: every server goes home."""

    waves: tuple[tuple[str, ...], ...]
    most_unavailable: int = 1
    pauses: frozenset[int] = frozenset()
    backward: bool = False


@dataclass(frozen=True, slots=True)
class FleetObserved:
    """A snapshot. approved: waves that may go on. trouble: why it can't go on, "" if it can."""

    members: Mapping[str, MemberState]
    approved: frozenset[int] = frozenset()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class StageVersion:
    """Bring the version to these servers, and look whether anything forbids the release there; none is told."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeServers:
    """Load the version on these, and test and compare it."""

    servers: tuple[str, ...]
    wave: int


@dataclass(frozen=True, slots=True)
class BakeServers:
    """Watch it on these, move the label, watch again."""

    servers: tuple[str, ...]
    wave: int


@dataclass(frozen=True, slots=True)
class FinishServers:
    """Unload what isn't wanted any more."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendHome:
    """Bring these back to what they served before."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PauseWave:
    """Stop here until somebody lets the wave go on."""

    wave: int


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Too many servers don't answer: look again."""

    why: str


@dataclass(frozen=True, slots=True)
class AbortRelease:
    """Everything has to go back."""

    reason: str


@dataclass(frozen=True, slots=True)
class FleetEnd:
    """There is nothing left to do. missing: servers that aren't where they should be, since they don't answer or what
    was tried failed."""

    missing: tuple[str, ...] = ()


Work = StageVersion | ChangeServers | BakeServers | FinishServers | SendHome
FleetAction = Work | PauseWave | WaitFor | AbortRelease | FleetEnd


def next_action(observed: FleetObserved, goal: FleetGoal) -> FleetAction:
    """The one thing to do now."""
    members = observed.members
    if goal.backward:
        homeless = _those(members, lambda m: not m.home)
        able = tuple(name for name in homeless if not members[name].failed)
        return SendHome(able) if able else FleetEnd(homeless)
    if observed.trouble:
        return AbortRelease(observed.trouble)
    failed = _those(members, lambda m: bool(m.failed))
    if failed:
        return AbortRelease(f"{failed[0]}: {members[failed[0]].failed}")
    return _forward(observed, goal)


def _forward(observed: FleetObserved, goal: FleetGoal) -> FleetAction:
    members = observed.members
    away = _those(members, lambda m: bool(m.away))
    if len(away) > goal.most_unavailable:
        return WaitFor(f"{_listed(away)} {_answer(away)}, and rollout/max_unavailable is {goal.most_unavailable}: "
                       f"{members[away[0]].away}")
    behind = _those(members, lambda m: m.stage is ReleaseStage.BEHIND and not m.away)
    if behind:
        return StageVersion(behind)
    for number, wave in enumerate(goal.waves, 1):
        action = _wave(number, [name for name in wave if not members[name].away], observed, goal, away)
        if action is not None:
            return action
    verified = _those(members, lambda m: m.stage is ReleaseStage.VERIFIED and not m.away)
    return FinishServers(verified) if verified else FleetEnd(away)


def _wave(number: int, here: Sequence[str], observed: FleetObserved, goal: FleetGoal, away: Sequence[str]
          ) -> FleetAction | None:
    """None once each server of the wave that answers shows what is wanted."""
    stages = {name: observed.members[name].stage for name in here}
    pending = tuple(name for name in here if stages[name] is ReleaseStage.STAGED)
    if pending:
        if len(pending) == len(here) and number in goal.pauses and number not in observed.approved:
            return PauseWave(number)
        room = goal.most_unavailable - len(away)
        if room < 1:
            return WaitFor(f"{_listed(away)} {_answer(away)}, so none may change: rollout/max_unavailable is "
                           f"{goal.most_unavailable}")
        return ChangeServers(pending[:room], number)
    baking = tuple(name for name in here if stages[name] is ReleaseStage.TRIAL)
    return BakeServers(baking, number) if baking else None


def _those(members: Mapping[str, MemberState], wanted: Callable[[MemberState], bool]) -> tuple[str, ...]:
    return tuple(name for name, member in members.items() if wanted(member))


def _listed(names: Sequence[str]) -> str:
    most = 5
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _answer(names: Sequence[str]) -> str:
    return "don't answer" if len(names) > 1 else "doesn't answer"


def size(share: int | str, servers: int) -> int:
    """How many of so many servers `25%` or `3` are: at least one, at most all."""
    count = math.ceil(servers * int(share[:-1]) / 100) if isinstance(share, str) else share
    return max(1, min(count, servers))


def waves_of(names: Sequence[str], shares: Iterable[int | str]) -> tuple[tuple[str, ...], ...]:
    """The servers of each wave. shares: how many have changed after it, of all; all of them after the last.

    A share that adds no server to the ones before it is no wave.
    """
    ends = list[int]()
    for end in (*(size(share, len(names)) for share in shares), len(names)):
        if end > (ends[-1] if ends else 0):
            ends.append(end)
    return tuple(tuple(names[start:end]) for start, end in zip([0, *ends], ends, strict=False))
