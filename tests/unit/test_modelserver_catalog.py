"""The catalog as a table: what is said to it, what it decides, what status shows."""

from __future__ import annotations

import pytest

from deploy.modelserver.catalog import Catalog, Id, Load, Managed, Stage, Unload, policy
from deploy.types import VersionState as State


class Driver:
    """Does at once what the catalog decides; versions in `broken` fail."""

    def __init__(self, *broken: int) -> None:
        self.catalog, self.broken = Catalog(), set(broken)

    def aspire(self, *versions: int, model: str = "m") -> list[str]:
        self.catalog.aspire(model, {v: f"/{model}/{v}" for v in versions})
        return self.settle()

    def settle(self) -> list[str]:
        done = []
        while action := self.catalog.next_action():
            done.append(f"{'+' if isinstance(action, Load) else '-'}{action.id.version}")
            if isinstance(action, Unload):
                self.catalog.unloaded(action.id)
            elif action.id.version in self.broken:
                self.catalog.failed(action.id, 13, "broken")
            else:
                self.catalog.loaded(action.id)
        return done

    def states(self, model: str = "m") -> dict[int, str]:
        return {s.version: s.state.name for s in self.catalog.states(model)}


@pytest.mark.parametrize(("steps", "expected"), [
    ([(1,)], [["+1"]]),
    ([(1,), (2,)], [["+1"], ["+2", "-1"]]),
    ([(1,), (1,)], [["+1"], []]),
    ([(1, 2, 3)], [["+3", "+2", "+1"]]),
    ([(1, 2), (2, 3)], [["+2", "+1"], ["-1", "+3"]]),
    ([(1,), ()], [["+1"], ["-1"]]),
    ([(1,), (), (1,)], [["+1"], ["-1"], ["+1"]]),
    ([(2,), (1,)], [["+2"], ["+1", "-2"]]),
])
def test_order_of_actions(steps: list[tuple[int, ...]], expected: list[list[str]]) -> None:
    driver = Driver()
    assert [driver.aspire(*versions) for versions in steps] == expected


def test_the_last_loaded_version_stays_until_its_successor_is_ready() -> None:
    driver = Driver(2)
    assert driver.aspire(1) == ["+1"]
    assert driver.aspire(2) == ["+2"]
    assert driver.states() == {2: "END", 1: "AVAILABLE"}


def test_a_failed_number_is_burnt_under_latest() -> None:
    """Removing it doesn't help: then the old one is wanted again, which has to go first, which it can't."""
    driver = Driver(2)
    driver.aspire(1)
    driver.aspire(2)
    driver.broken.clear()
    assert driver.aspire(2) == []
    assert driver.aspire(1) == []
    assert driver.aspire(2) == []
    assert driver.states() == {2: "END", 1: "AVAILABLE"}
    assert driver.aspire(3) == ["+3", "-1"]


def test_a_failed_number_is_tried_again_under_all_once_it_was_away() -> None:
    driver = Driver(2)
    driver.aspire(1, 2)
    driver.broken.clear()
    assert driver.aspire(1, 2) == []
    assert driver.aspire(1) == []
    assert driver.aspire(1, 2) == ["+2"]
    assert driver.states() == {2: "AVAILABLE", 1: "AVAILABLE"}


def test_failures_and_unloaded_versions_stay_in_the_status() -> None:
    driver = Driver(2)
    driver.aspire(1)
    driver.aspire(2)
    driver.aspire(3)
    shown = {s.version: (s.state, s.error_code, s.error) for s in driver.catalog.states("m")}
    assert shown == {3: (State.AVAILABLE, 0, ""), 2: (State.END, 13, "broken"), 1: (State.END, 0, "")}
    assert list(shown) == [3, 2, 1]


def test_a_set_that_brings_a_leaving_version_back_waits_until_it_is_gone() -> None:
    catalog = Catalog()
    catalog.aspire("m", {1: "/m/1"})
    assert catalog.next_action() == Load(Id("m", 1), "/m/1")
    catalog.loaded(Id("m", 1))
    catalog.aspire("m", {})
    assert catalog.next_action() == Unload(Id("m", 1))
    catalog.aspire("m", {1: "/other/1"})
    assert catalog.next_action() is None
    assert catalog.states("m")[0].state is State.UNLOADING
    catalog.unloaded(Id("m", 1))
    assert catalog.next_action() == Load(Id("m", 1), "/other/1")


def test_new_versions_show_up_when_somebody_acts() -> None:
    catalog = Catalog()
    catalog.aspire("m", {1: "/m/1", 2: "/m/2"})
    assert catalog.states("m") == []
    catalog.next_action()
    assert [(s.version, s.state) for s in catalog.states("m")] == [(2, State.START), (1, State.START)]
    catalog.reserved(Id("m", 2))
    assert [(s.version, s.state) for s in catalog.states("m")] == [(2, State.LOADING), (1, State.START)]


def test_a_version_that_isnt_wanted_any_more_while_it_loads() -> None:
    catalog = Catalog()
    catalog.aspire("m", {1: "/m/1"})
    catalog.next_action()
    catalog.aspire("m", {2: "/m/2"})
    assert catalog.next_action() == Load(Id("m", 2), "/m/2")
    assert not catalog.aspired(Id("m", 1))
    catalog.loaded(Id("m", 1))
    catalog.loaded(Id("m", 2))
    assert catalog.next_action() == Unload(Id("m", 1))


def test_models_are_apart_and_unloading_comes_first() -> None:
    driver = Driver()
    driver.aspire(1, model="a")
    driver.catalog.aspire("b", {1: "/b/1"})
    driver.catalog.aspire("a", {})
    assert driver.catalog.next_action() == Unload(Id("a", 1))
    assert driver.catalog.next_action() == Load(Id("b", 1), "/b/1")


def test_changes_since_a_mark() -> None:
    driver = Driver()
    driver.aspire(1)
    mark = driver.catalog.changes
    assert driver.catalog.states("m", mark) == []
    driver.aspire(1, 2)
    assert [s.version for s in driver.catalog.states("m", mark)] == [2]


def test_policy_prefers_the_highest_new_and_the_lowest_old() -> None:
    def managed(version: int, stage: Stage, aspired: bool) -> Managed:
        return Managed(Id("m", version), "", stage, aspired)

    versions = [managed(1, Stage.READY, False), managed(2, Stage.READY, False), managed(3, Stage.NEW, True),
                managed(4, Stage.NEW, True)]
    assert policy(versions) is versions[0]
    assert policy(versions[1:]) is versions[3]
    assert policy([managed(3, Stage.LOADING, True)]) is None
