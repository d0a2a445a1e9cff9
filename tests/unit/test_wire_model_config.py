"""Version directories, policies and ModelConfig: one meaning for servers, repositories, smoke tests and rollouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.modelserver.source import Monitored, look
from deploy.repository.naming import version_paths
from deploy.serving.resolving import resolve
from deploy.smoke.running import _on_disk
from deploy.types import All, Latest, ServedModel, Specific
from deploy.wire import config_pb2
from deploy.wire.model_config import by_version, policy_of, select, set_served, version_number


@pytest.mark.parametrize(("name", "version"), [
    ("1", 1), ("007", 7), ("+5", 5), (" 3 ", 3), ("0", 0), (str(2**63 - 1), 2**63 - 1), (str(2**63), None),
    ("-1", -1), ("-003", -3), (" -5\t", -5), ("-0", 0), (str(-2**63), -2**63), (str(-2**63 - 1), None),
    ("- 1", None), ("--1", None), ("+-1", None), ("-", None), ("0x1", None), ("1e3", None), ("\u2212" "1", None),
    ("1\v", 1), ("1\0", None), ("", None), ("latest", None),
    ("9a", None), ("8.0", None), ("1_000", None), (".11", None), ("\u0661", None),
])
def test_version_number(name: str, version: int | None) -> None:
    assert version_number(name) == version


def test_of_one_number_twice_the_last_in_byte_order_wins() -> None:
    assert by_version(["1", "001", "01"]) == {1: "1"}


@pytest.mark.parametrize(("policy", "versions"), [
    (Latest(1), [9]), (Latest(2), [2, 9]), (Latest(0), [9]), (Latest(9), [1, 2, 9]), (All(), [1, 2, 9]),
    (Specific((2, 5)), [2]), (Specific(()), []),
])
def test_select(policy: Latest | All | Specific, versions: list[int]) -> None:
    assert select(policy, [9, 1, 2]) == versions


def test_negative_versions_are_the_lowest() -> None:
    assert (select(Latest(1), [-3, -7]), select(All(), [2, -3]), select(Specific((-3,)), [2, -3])) == (
        [-3], [-3, 2], [-3])


@pytest.mark.parametrize("policy", [Latest(1), Latest(3), All(), Specific((1, 7)), Specific(())])
def test_a_policy_and_its_message(policy: Latest | All | Specific) -> None:
    entry = config_pb2.ModelConfig()
    set_served(entry, Specific((9,)), {"old": 9})
    set_served(entry, policy, {"stable": 1})
    assert policy_of(entry) == policy and dict(entry.version_labels) == {"stable": 1}


def test_a_policy_that_says_nothing() -> None:
    entry = config_pb2.ModelConfig()
    assert policy_of(entry) == Latest(1)
    entry.model_version_policy.latest.num_versions = 0
    assert policy_of(entry) == Latest(1)


@pytest.mark.parametrize("policy", [Latest(1), Latest(2), All(), Specific((1, 5))])
def test_every_room_sees_the_same_versions(tmp_path: Path, policy: Latest | All | Specific) -> None:
    for name in ("+1", " 3", "007", "5", "\u0664", "six", ".stage-8"):
        (tmp_path / name).mkdir()
    model, spelled = ServedModel("m", str(tmp_path), policy), {1: "+1", 3: " 3", 5: "5", 7: "007"}
    wanted = select(policy, spelled)
    assert look(Monitored("m", str(tmp_path), policy)) == {v: f"{tmp_path}/{spelled[v]}" for v in wanted}
    assert version_paths(tmp_path) == {v: tmp_path / name for v, name in spelled.items()}
    assert list(resolve(model, "models/0").paths) == _on_disk(model) == wanted
