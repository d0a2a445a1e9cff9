"""Several servers of one spec: which ones a command is about, and one verb on all of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from deploy.backends import Progress
from deploy.errors import SpecError, Unreachable
from deploy.fleet import ServerResult, everywhere, parallel, select_servers
from deploy.spec import Spec, parse
from deploy.waiting import Deadline, interrupted_by, poll
from tests.support.fleet_model import fleet_of, release

FLEET = """
name: prod
server: {backend: process, grpc_port: 0, rest_port: 0}
servers: [{name: eu-1, groups: [eu]}, {name: eu-2, groups: [eu, new]}, {name: us-1, groups: [us]}, {name: spare}]
models: [{name: m, versions: [1]}]
"""


def spec(text: str = FLEET) -> Spec:
    return parse(text, Path("/nowhere/serving.yaml"))


@pytest.mark.parametrize(("servers", "groups", "names"), [
    ([], [], ["eu-1", "eu-2", "us-1", "spare"]),
    (["us-1", "eu-1"], [], ["eu-1", "us-1"]),
    ([], ["eu"], ["eu-1", "eu-2"]),
    (["spare"], ["us", "new"], ["eu-2", "us-1", "spare"]),
])
def test_servers_are_chosen_by_name_or_group_in_the_specs_order(servers: list[str], groups: list[str],
                                                                names: list[str]) -> None:
    assert [one.short_name for one in select_servers(spec(), servers, groups)] == names


@pytest.mark.parametrize(("servers", "groups", "sentence"), [
    (["eu-3"], [], "there is no server 'eu-3' in serving.yaml; did you mean 'eu-2'?"),
    (["x"], [], "there is no server 'x' in serving.yaml; it has eu-1, eu-2, us-1, spare"),
    (["eu"], [], "there is no server 'eu' in serving.yaml; it is a group: --group eu"),
    ([], ["us-1"], "there is no group 'us-1' in serving.yaml; it is a server: --server us-1"),
    ([], ["nwe"], "there is no group 'nwe' in serving.yaml; did you mean 'new'?"),
])
def test_a_name_that_nobody_has(servers: list[str], groups: list[str], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        select_servers(spec(), servers, groups)
    assert str(caught.value) == sentence


def test_a_spec_with_one_server_is_that_server_and_has_nothing_to_choose_from() -> None:
    alone = spec("models: [{name: m, versions: [1]}]")
    assert select_servers(alone) == (alone,)
    with pytest.raises(SpecError, match=r"serving.yaml has one server and no `servers`"):
        select_servers(alone, ["a"])
    with pytest.raises(SpecError, match="its servers are in no groups"):
        select_servers(fleet_of(2), [], ["eu"])


def test_results_are_in_the_specs_order_whoever_ends_first() -> None:
    servers, second = fleet_of(2).servers, threading.Event()

    def verb(one: Spec, progress: Progress) -> str:
        progress("begins")
        if one.short_name == "s0":
            assert second.wait(10)
        else:
            second.set()
        return one.name

    told: list[str] = []
    results = everywhere(servers, verb, progress=told.append)
    assert [(r.server, r.value) for r in results] == [("s0", "serving.s0"), ("s1", "serving.s1")]
    assert sorted(told) == ["s0: begins", "s1: begins"]


def test_a_server_that_fails_is_a_result_and_the_others_go_on() -> None:
    def verb(one: Spec, _: Progress) -> int:
        if one.short_name == "s1":
            raise Unreachable("nobody answers")
        return 1

    results = everywhere(fleet_of(3).servers, verb)
    assert [r.value for r in results] == [1, None, 1]
    assert isinstance(results[1].error, Unreachable)


def test_so_many_at_a_time_and_no_more() -> None:
    running, most, lock, gate = 0, 0, threading.Lock(), threading.Barrier(3)

    def verb(_: Spec, __: Progress) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(10)
        with lock:
            running -= 1

    everywhere(fleet_of(9).servers, verb, at_once=3)
    assert most == 3


def test_a_fleet_of_hundreds_takes_few_threads() -> None:
    before = threading.active_count()
    peaks = everywhere(fleet_of(500).servers, lambda *_: threading.active_count() - before)
    assert max(result.value or 0 for result in peaks) <= 32


def test_ctrl_c_ends_what_waits_once_and_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    both, undone, real = threading.Barrier(3), list[str](), parallel._Run.wait

    def wait(run: parallel._Run[None]) -> None:
        if not run.stop.is_set():
            both.wait(10)
            raise KeyboardInterrupt
        real(run)

    monkeypatch.setattr(parallel._Run, "wait", wait)

    def verb(one: Spec, _: Progress) -> None:
        both.wait(10)
        try:
            poll(lambda: None, Deadline(30))
        except KeyboardInterrupt:
            assert poll(lambda: True, Deadline(1))  # who undoes can wait as well
            undone.append(one.short_name)
            raise

    results: tuple[ServerResult[None], ...] = everywhere(fleet_of(4).servers, verb, at_once=2)
    assert sorted(undone) == ["s0", "s1"]
    assert [r.interrupted for r in results] == [True] * 4


def test_an_interruption_is_raised_once_in_its_thread_only() -> None:
    stop = threading.Event()
    stop.set()
    with interrupted_by(stop):
        with pytest.raises(KeyboardInterrupt):
            poll(lambda: None, Deadline(1))
        assert poll(lambda: 3, Deadline(1)) == 3
    assert poll(lambda: 4, Deadline(1)) == 4


@pytest.mark.parametrize("share", ["25%", 1])
def test_a_release_asks_each_server_as_often_however_many_there_are(tmp_path: Path, share: int | str) -> None:
    calls = set()
    for count in (10, 50, 200):
        ended = release(fleet_of(count), tmp_path / str(count), share)
        assert ended.outcome.outcome == "done"
        calls.add(ended.calls / count)
    assert max(calls) < 9.5 and max(calls) - min(calls) < 0.1
