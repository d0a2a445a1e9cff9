"""What several replicas show, as one server would show it."""

from __future__ import annotations

import pytest

from deploy.rollout.goals import Strategy, forward
from deploy.rollout.merging import agreed, last_shown, merged
from deploy.state import Release
from deploy.types import Serving, VersionState, VersionStatus

A, L, U, E, S = (VersionState[n] for n in ("AVAILABLE", "LOADING", "UNLOADING", "END", "START"))
CASES: dict[str, tuple[list[VersionState | None], VersionState]] = {
    "all serve it": ([A, A, A], A),
    "one has yet to load it": ([A, L, A], L),
    "one hasn't heard of it": ([A, None, A], L),
    "one has begun": ([S, None], L),
    "gone everywhere": ([E, E], E),
    "gone or never there": ([E, None], E),
    "one still unloads it": ([E, U], U),
    "two unload it": ([U, U], U),
    "one serves it still": ([E, A], L),
    "one serves it, one unloads it": ([U, A], L),
}


@pytest.mark.parametrize("case", CASES)
def test_a_version_is_as_far_as_the_last_of_them(case: str) -> None:
    states, expected = CASES[case]
    each = [(f"pod-{i}", {} if s is None else {7: VersionStatus(7, s)}) for i, s in enumerate(states)]
    assert merged(each)[7].state is expected


def test_one_that_cannot_load_it_says_so_by_name() -> None:
    failed = VersionStatus(2, E, 8, "out of memory")
    one = merged([("web-1", {2: VersionStatus(2, A)}), ("web-2", {2: failed})])[2]
    assert one.failed and one.error == "web-2: out of memory"
    assert merged([("web-1", {2: failed})])[2] == failed


def test_a_label_resolves_where_all_agree() -> None:
    assert agreed([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}]) == {"a": 1}
    assert agreed([]) == {}


def test_what_the_ledger_says_all_have_shown() -> None:
    before, loaded = Serving(frozenset({1}), {"stable": 1}), Serving(frozenset({1, 2}), {"stable": 1})
    goal = forward(before, 2, Strategy())
    release = Release(id="r1", model="m", kind="rollout", version=2, before=before, goal=goal.to, by={}, began="")
    lines = [{"event": "apply", "release": "r1", "config": loaded.to_json()}]
    assert last_shown(lines, release) == before
    lines.append({"event": "confirm", "release": "r1"})
    lines.append({"event": "apply", "release": "r1", "config": Serving(frozenset({2})).to_json()})
    assert last_shown(lines, release) == loaded
    assert last_shown([{**line, "release": "another"} for line in lines], release) == before
