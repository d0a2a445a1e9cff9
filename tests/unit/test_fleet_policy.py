"""The waves of a release: snapshots in, at most one action out."""

from __future__ import annotations

import itertools

import pytest

from deploy.fleet.policy import (
    AbortRelease,
    BakeServers,
    ChangeServers,
    FinishServers,
    FleetAction,
    FleetEnd,
    FleetGoal,
    FleetObserved,
    MemberState,
    PauseWave,
    ReleaseStage,
    SendHome,
    StageVersion,
    WaitFor,
    next_action,
    size,
    waves_of,
)

BEHIND, STAGED, TRIAL, VERIFIED, DONE = ReleaseStage
NAMES = "abcdef"
GOAL = FleetGoal((("a",), ("b", "c"), ("d", "e", "f")), most_unavailable=2)
AWAY, FAILED = "connection refused", "version 2 answers wrongly"


def seen(text: str, **changed: MemberState) -> FleetObserved:
    """One digit for each server: its stage; x: doesn't answer."""
    states = {name: MemberState(BEHIND, away=AWAY) if digit == "x" else MemberState(ReleaseStage(int(digit)))
              for name, digit in zip(NAMES, text, strict=True)}
    return FleetObserved({**states, **changed})


@pytest.mark.parametrize(("stages", "action"), [
    # the version is everywhere before any server is told
    ("000000", StageVersion(tuple(NAMES))),
    ("110111", StageVersion(("c",))),
    ("111111", ChangeServers(("a",), 1)),
    ("211111", BakeServers(("a",), 1)),
    # the next wave begins once each server of the one before is verified
    ("311111", ChangeServers(("b", "c"), 2)),
    ("321111", ChangeServers(("c",), 2)),
    ("322111", BakeServers(("b", "c"), 2)),
    ("332111", BakeServers(("c",), 2)),
    # no more at once than may be unavailable
    ("333111", ChangeServers(("d", "e"), 3)),
    ("333221", ChangeServers(("f",), 3)),
    ("333222", BakeServers(("d", "e", "f"), 3)),
    # what was left stays loaded until all are verified
    ("333333", FinishServers(tuple(NAMES))),
    ("443333", FinishServers(("c", "d", "e", "f"))),
    ("444444", FleetEnd()),
    # a server that serves it already isn't touched; one that was started again and lost it is brought back to it
    ("411111", ChangeServers(("b", "c"), 2)),
    ("133111", ChangeServers(("a",), 1)),
    ("033111", StageVersion(("a",))),
    # servers that don't answer, as many as may: the others go on, and it ends without them
    ("x11111", ChangeServers(("b",), 2)),
    ("x33333", FinishServers(("b", "c", "d", "e", "f"))),
    ("x44444", FleetEnd(("a",))),
    ("xx3333", FinishServers(("c", "d", "e", "f"))),
    ("xx4444", FleetEnd(("a", "b"))),
])
def test_forward(stages: str, action: FleetAction) -> None:
    assert next_action(seen(stages), GOAL) == action


@pytest.mark.parametrize("stages", ["xxx111", "xx1111"])
def test_no_server_is_changed_while_too_many_are_unavailable(stages: str) -> None:
    action = next_action(seen(stages), GOAL)
    assert isinstance(action, WaitFor) and ("answer" in action.why)


def test_a_wave_waits_for_approval_before_it_begins_and_not_in_its_middle() -> None:
    goal = FleetGoal(GOAL.waves, 2, pauses=frozenset({2, 3}))
    assert next_action(seen("311111"), goal) == PauseWave(2)
    approved = FleetObserved(seen("311111").members, approved=frozenset({2}))
    assert next_action(approved, goal) == ChangeServers(("b", "c"), 2)
    assert next_action(seen("321111"), goal) == ChangeServers(("c",), 2)


@pytest.mark.parametrize("stages", ["111111", "311111", "333221", "333333"])
def test_one_failure_ends_it_everywhere(stages: str) -> None:
    assert next_action(seen(stages, b=MemberState(STAGED, failed=FAILED)), GOAL) == AbortRelease(f"b: {FAILED}")


def test_trouble_ends_it_everywhere() -> None:
    trouble = FleetObserved(seen("311111").members, trouble="interrupted")
    assert next_action(trouble, GOAL) == AbortRelease("interrupted")


BACK = FleetGoal(GOAL.waves, 1, backward=True)


def test_all_go_home_at_once_and_those_that_do_not_answer_keep_nobody_from_it() -> None:
    away, here = MemberState(VERIFIED, home=False, away=AWAY), MemberState(VERIFIED, home=False)
    assert next_action(seen("111111", a=here, b=away, c=here), BACK) == SendHome(("a", "b", "c"))
    tried = MemberState(VERIFIED, home=False, away=AWAY, failed=AWAY)
    assert next_action(seen("111111", b=tried), BACK) == FleetEnd(("b",))
    assert next_action(seen("111111"), BACK) == FleetEnd()


def test_every_way_forward_ends() -> None:
    """From each state of four servers, with or without one that never answers: carried out, the actions end in it."""
    goal = FleetGoal((("a",), ("b", "c"), ("d",)), 1)
    for start in itertools.product((*ReleaseStage, None), repeat=4):
        if start.count(None) > 1:
            continue
        members = {name: MemberState(BEHIND, away=AWAY) if stage is None else MemberState(stage)
                   for name, stage in zip("abcd", start, strict=True)}
        for _ in range(40):
            action = next_action(FleetObserved(members), goal)
            if isinstance(action, FleetEnd | WaitFor):
                break
            after = {StageVersion: STAGED, ChangeServers: TRIAL, BakeServers: VERIFIED, FinishServers: DONE}
            assert isinstance(action, tuple(after)), action
            members |= dict.fromkeys(action.servers, MemberState(after[type(action)]))
            changing = {name for name in action.servers if isinstance(action, ChangeServers)}
            assert len(changing) + start.count(None) <= goal.most_unavailable or not changing
        else:
            pytest.fail(f"no end from {start}")
        if isinstance(action, FleetEnd):
            assert all(m.stage is DONE or m.away for m in members.values())
        else:  # one doesn't answer, and no more may be unavailable
            assert None in start


@pytest.mark.parametrize(("shares", "servers", "sizes"), [
    ([1, "25%", "100%"], 12, [1, 2, 9]),
    ([1, "25%", "100%"], 1, [1]),
    ([1, "25%", "100%"], 3, [1, 2]),
    ([2], 5, [2, 3]),
    (["50%"], 5, [3, 2]),
    ([], 4, [4]),
    ([10], 4, [4]),
    ([1, "1%", "100%"], 200, [1, 1, 198]),
    ([2, "25%", "100%"], 4, [2, 2]),
])
def test_waves(shares: list[int | str], servers: int, sizes: list[int]) -> None:
    names = [f"s{i}" for i in range(servers)]
    waves = waves_of(names, shares)
    assert [len(wave) for wave in waves] == sizes
    assert [name for wave in waves for name in wave] == names


def test_a_share_is_at_least_one_server() -> None:
    assert [size("25%", n) for n in (1, 3, 4, 5, 200)] == [1, 1, 1, 2, 50]
    assert [size(3, n) for n in (1, 3, 200)] == [1, 3, 3]
