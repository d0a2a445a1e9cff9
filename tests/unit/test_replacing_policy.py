"""What comes next while a server's replicas are replaced: a table of snapshots, and every way through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.backends import Generations, Replica
from deploy.rollout.actions import Wait
from deploy.rollout.replacing_policy import (
    AFTER,
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
from deploy.types import Endpoint

WHERE = Endpoint("127.0.0.1", 8500, 8501)


def pod(name: str, restarts: int = 0) -> Replica:
    return Replica(name, WHERE, f"{name} run", restarts)


OLD = (pod("old-1"), pod("old-2"))
NEW = pod("new-1")
FIRST = Generations((NEW,), OLD, 2, held=True, pending="1 pods of an older form are still there")
GOOD = {"new-1": "new-1 run"}
ALL = Generations((NEW, pod("new-2")), (), 2, held=False, all_new=True)
BOTH = GOOD | {"new-2": "new-2 run"}


@pytest.mark.parametrize(("snapshot", "step"), [
    (ReplacementSnapshot(Generations((), OLD, 2, held=False, begun=False, all_old=True)), MakeFirst()),
    (ReplacementSnapshot(replace(FIRST, new=(), pending="new-1: Pending")), Wait("new-1: Pending")),
    (ReplacementSnapshot(FIRST), Prove("new-1")),
    (ReplacementSnapshot(FIRST, proven={"new-1": "the run before"}), Prove("new-1")),
    (ReplacementSnapshot(FIRST, proven=GOOD), Bake(BEFORE)),
    (ReplacementSnapshot(FIRST, proven=GOOD, baked=frozenset({BEFORE})), LetGoOn()),
    (ReplacementSnapshot(replace(FIRST, coming=1), proven=GOOD, baked=frozenset({BEFORE})), Wait(FIRST.pending)),
    (ReplacementSnapshot(replace(FIRST, held=False), proven=GOOD, baked=frozenset({BEFORE})),
     Wait("1 pods of an older form are still there")),
    (ReplacementSnapshot(replace(ALL, all_new=False, pending="2 of 3 pods run"), proven=BOTH,
                         baked=frozenset({BEFORE})), Wait("2 of 3 pods run")),
    (ReplacementSnapshot(ALL, proven=GOOD, baked=frozenset({BEFORE})), Prove("new-2")),
    (ReplacementSnapshot(ALL, proven=BOTH, baked=frozenset({BEFORE})), Bake(AFTER)),
    (ReplacementSnapshot(ALL, proven=BOTH, baked=frozenset({BEFORE, AFTER})), FinishReplacing()),
    (ReplacementSnapshot(replace(FIRST, trouble="ImagePullBackOff")), GoBack("ImagePullBackOff")),
    (ReplacementSnapshot(replace(FIRST, new=(), begun=False, trouble="it ends")), GoBack("it ends")),
    (ReplacementSnapshot(replace(FIRST, new=(pod("new-1", 1),)), proven=GOOD),
     GoBack("the new new-1 was started again 1 time")),
    (ReplacementSnapshot(FIRST, undoing="it is slow"), GoBack("it is slow")),
    (ReplacementSnapshot(FIRST, undoing="it is slow", told_back=True), Wait(FIRST.pending)),
    (ReplacementSnapshot(Generations((), OLD, 2, held=False, all_old=True), undoing="it is slow", told_back=True),
     Undone()),
])
def test_the_next_step(snapshot: ReplacementSnapshot, step: ReplacementStep) -> None:
    assert next_step(snapshot) == step


@pytest.mark.parametrize("fails_at", [None, 1, 2, 3])
def test_every_way_ends_with_replicas_of_one_kind_only(fails_at: int | None) -> None:
    """A cluster that does as it is told; a crash at every step forgets what isn't kept; the n-th new pod is bad."""
    wanted = 3
    for crash in range(6, 20):
        old, new, coming, held, begun = wanted, 0, 0, False, False
        proven, baked, undoing, told = dict[str, str](), set[str](), "", False
        for turn in range(200):
            if turn % crash == crash - 1:
                proven, told = {}, False
            there = Generations(tuple(pod(f"new-{i + 1}") for i in range(new - coming)), OLD[:old], wanted, held,
                                begun=begun, coming=coming, all_new=new == wanted and not old,
                                all_old=old == wanted and not new)
            step = next_step(ReplacementSnapshot(there, proven, frozenset(baked), undoing, told))
            if isinstance(step, (FinishReplacing, Undone)):
                break
            if isinstance(step, MakeFirst):
                new, coming, held, begun = 1, 1, True, True
            elif isinstance(step, Prove):
                if fails_at is not None and step.name == f"new-{fails_at}":
                    undoing = "it is bad"
                proven = proven | {step.name: f"{step.name} run"}
            elif isinstance(step, Bake):
                baked.add(step.name)
            elif isinstance(step, LetGoOn):
                assert len(proven) >= new > 0, "an old one goes when the newest one is tested"
                old, coming = old - 1, int(new < wanted)
                new, held = new + coming, old > 0
            elif isinstance(step, GoBack):
                undoing, told = step.why, True
                new, old, coming, held = 0, wanted, 0, False
            elif isinstance(step, Wait):  # the cluster goes on by itself
                coming = 0
        else:
            pytest.fail(f"it doesn't end: {step}")
        assert (old, new) == ((0, wanted) if fails_at is None else (wanted, 0))
        assert bool(undoing) == (fails_at is not None)
