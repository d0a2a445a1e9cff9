"""Several operators, each on a machine with a state directory of its own, and servers that all of them reach."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy import client, fleet, leases, rollout, serving
from deploy.backends import silent
from deploy.backends.shared_place import STALE, _StoreLock, held
from deploy.cli.app import app
from deploy.errors import LockHeld, RolloutError, SpecError
from deploy.fleet.driver import FleetDriver
from deploy.leases import HeldLease, check_held, renewed
from deploy.locks import Owner
from deploy.repository import Repository
from deploy.repository.stores.addresses import open_store
from deploy.repository.stores.conditional import MemoryStore
from deploy.spec import Spec, load_spec
from deploy.state import Ledger, changing, changing_all, ledger_of
from deploy.state.ledger import FILE
from deploy.types import ModelRef
from tests.support.remote import Elsewhere, elsewhere
from tests.support.repository import savedmodel

PLACES = ["memory:operators", "directory"]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Elsewhere, Elsewhere]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(elsewhere(tmp_path / name)) for name in ("a", "b")]
        for version in (2, 3):
            Repository(tmp_path / "models").publish(savedmodel(tmp_path / "made" / str(version)), "m", version)
        yield servers[0], servers[1]
    open_store("memory:operators")._objects.clear()  # type: ignore[attr-defined]


def operator(servers: tuple[Elsewhere, Elsewhere], directory: Path, lock: str | None, extra: str = "") -> Spec:
    """The spec as an operator has it on a machine of theirs."""
    directory.mkdir()
    place = "" if lock is None else f", lock: '{servers[0].place.parent / 'ops' if lock == 'directory' else lock}'"
    lines = "".join(f"- {{name: {name}, server: {{remote: {{{server.addresses}, {staged(server)}}}}}}}\n"
                    for name, server in zip("ab", servers, strict=True))
    (directory / "serving.yaml").write_text(
        f"repository: {servers[0].place.parent}/models\n"
        "models: [{name: m, versions: [1], labels: {stable: 1}}]\n"
        "server: {backend: remote, flags: {allow_version_labels_for_unavailable_models: true}}\n"
        f"rollout: {{soak: 0, hold: 0, interval: 0.05, patience: 1, waves: [1], compare: false{place}{extra}}}\n"
        f"servers:\n{lines}")
    spec = load_spec(directory / "serving.yaml")
    if directory.name == "here":
        for member in spec.members:
            serving.up(member)
    return spec


def staged(server: Elsewhere) -> str:
    return f"models: {server.models}, stage: {server.models}"


def served(spec: Spec) -> dict[str, tuple[list[int], int]]:
    seen = {}
    for member in spec.members:
        server = serving.find(member)
        assert server is not None
        with client.connect(server.endpoint) as asked:
            assert asked.rpc is not None
            seen[member.short_name] = (sorted(s.version for s in asked.rpc.status(ModelRef("m"))
                                              if s.state.name == "AVAILABLE"),
                                       asked.rpc.resolve(ModelRef("m", label="stable")).version)
    return seen


def everywhere(version: int) -> dict[str, tuple[list[int], int]]:
    return dict.fromkeys("ab", ([version], version))


# -- what another operator knows

@pytest.mark.parametrize("place", PLACES)
def test_another_operator_goes_on_and_goes_back(two: tuple[Elsewhere, Elsewhere], tmp_path: Path, place: str) -> None:
    here, there = (operator(two, tmp_path / name, place) for name in ("here", "there"))
    assert fleet.roll_out(here, "m", 2, pause_before=["wave"]).ended.outcome == "paused"
    assert fleet.history(there)[0].paused == 2 and rollout.history(there.members[0])[0].open
    assert rollout.watch(there.members[0]).outcome == "release"
    assert fleet.go_on(there, "m").ended.outcome == "done"
    assert served(here) == everywhere(2), "nothing is left loaded"
    assert [r.outcome for r in rollout.history(here.members[0])] == ["done"]
    assert rollout.watch(here.members[0]).outcome == "well"
    assert rollout.watch(there.members[1]).outcome == "well"
    assert fleet.roll_back(here, "m").ended.outcome == "done", "each to what it served before"
    assert served(there) == everywhere(1)


def test_a_server_that_is_changed_by_hand_is_brought_back_by_whoever_watches(
        two: tuple[Elsewhere, Elsewhere], tmp_path: Path) -> None:
    here, there = (operator(two, tmp_path / name, PLACES[0]) for name in ("here", "there"))
    fleet.roll_out(here, "m", 2)
    two[0].restart()  # with its own file: version 1
    assert served(there)["a"] == ([1], 1)
    assert rollout.watch(there.members[0]).outcome == "mended"
    assert served(here) == everywhere(2)


@pytest.mark.parametrize("place", PLACES)
def test_a_ledger_of_before_the_place_was_named_is_gone_on_with(
        two: tuple[Elsewhere, Elsewhere], tmp_path: Path, place: str) -> None:
    alone = operator(two, tmp_path / "here", None)
    fleet.roll_out(alone, "m", 2)
    path = alone.path
    ops = two[0].place.parent / "ops" if place == "directory" else place
    path.write_text(path.read_text().replace("patience: 1", f"patience: 1, lock: '{ops}'"))
    here = load_spec(path)
    assert [r.version for r in fleet.history(here)] == [2] == [r.version for r in rollout.history(here.members[0])]
    fleet.roll_back(here, "m")
    assert served(here) == everywhere(1)
    there = operator(two, tmp_path / "there", place)
    assert [r.kind for r in fleet.history(there)] == ["rollout", "rollback"]
    assert [r.kind for r in rollout.history(there.members[1])] == ["rollout", "rollback"]


# -- one at a time

@pytest.mark.parametrize("place", [*PLACES, None])
def test_a_server_alone_is_not_released_while_all_are(
        two: tuple[Elsewhere, Elsewhere], tmp_path: Path, place: str | None) -> None:
    here, there = (operator(two, tmp_path / name, place) for name in ("here", "there"))
    other = here if place is None else there
    tries = list[LockHeld]()
    look = FleetDriver._look

    def meanwhile(self: FleetDriver) -> None:
        if not tries:
            with pytest.raises(LockHeld, match="holds the lock of") as e:
                in_a_context_of_its_own(lambda: rollout.roll_out(other.members[1], "m", 3))
            tries.append(e.value)
        look(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FleetDriver, "_look", meanwhile)
        fleet.roll_out(here, "m", 2)
    assert tries[0].exit_code == 5 and served(here) == everywhere(2)
    rollout.roll_out(other.members[1], "m", 3)
    with changing(other.members[1], "rollout of m", release=True), pytest.raises(LockHeld):
        in_a_context_of_its_own(lambda: fleet.roll_out(here, "m", 2))


def in_a_context_of_its_own(verb: Any) -> None:
    """As another thread of this process, or another process, would do it."""
    import contextvars

    contextvars.Context().run(verb)


def test_one_process_works_on_several_servers_at_once(two: tuple[Elsewhere, Elsewhere], tmp_path: Path) -> None:
    here, there = (operator(two, tmp_path / name, PLACES[0]) for name in ("here", "there"))
    results = fleet.everywhere(here.members, lambda one, _: rollout.roll_out(one, "m", 2))
    assert not [r.error for r in results if r.error] and served(there) == everywhere(2)
    with changing(here.members[0], "up"), pytest.raises(LockHeld, match="for a up"), changing(there.members[1], "up"):
        pass


# -- locks in a store, and clocks

class SlowClock(MemoryStore):
    """A store whose clock is another one than ours."""

    def __init__(self, behind: float) -> None:
        super().__init__("clock")
        self.behind = behind

    def list(self, prefix: str = "", *, deep: bool = False) -> Any:
        return iter([replace(item, changed=item.changed - self.behind) for item in super().list(prefix, deep=deep)])


OTHER = Owner("ops@elsewhere (process 7)", "elsewhere", 7, 0.0, "2026-11-01T00:00:00+00:00", "rollout of m")


@pytest.mark.parametrize("behind", [-3600.0, 3600.0])
def test_a_clock_that_is_wrong_takes_no_lock_that_is_renewed(behind: float) -> None:
    store = SlowClock(behind)
    store.put("serving.lock.4", json.dumps(OTHER.to_json()).encode())
    with pytest.raises(LockHeld, match=r"ops@elsewhere.*memory:clock"):
        _StoreLock(store, "serving", "rollback of m").take()
    assert [item.name for item in store.list()] == ["serving.lock.4"], "nothing else is left there"
    data, when = store._objects["serving.lock.4"]
    store._objects["serving.lock.4"] = data, when - STALE - 1
    _StoreLock(store, "serving", "rollback of m").take()
    assert [item.name for item in store.list()] == ["serving.lock.5"]


def test_a_holder_on_another_machine_of_the_same_name_keeps_its_lock() -> None:
    """As CI runners have it: their process isn't seen here, and a lock was taken from them at once."""
    store, gone = MemoryStore("names"), replace(Owner.here("rollout"), pid=2**22 - 1)
    store.put("serving.lock.4", json.dumps(replace(gone, machine="other 1").to_json()).encode())
    with pytest.raises(LockHeld, match=f"@{socket.gethostname()} "):
        _StoreLock(store, "serving", "rollback of m").take()
    store.put("serving.lock.4", json.dumps(gone.to_json()).encode())
    _StoreLock(store, "serving", "rollback of m").take()  # of this machine, killed


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b'{"held": true}', b"{"])
def test_a_lock_that_cannot_be_read_is_somebodys(data: bytes) -> None:
    store = MemoryStore("unreadable")
    store.put("serving.lock.1", data)
    lock = _StoreLock(store, "serving", "rollout of m")
    with pytest.raises(LockHeld, match="somebody whose name can't be read holds the lock of these servers in memory"):
        lock.take()
    store._objects["serving.lock.1"] = data, time.time() - STALE - 1
    lock.take()


def test_of_two_who_take_it_over_one_gets_it() -> None:
    store = MemoryStore("race")
    first, second = (_StoreLock(store, "serving", why) for why in ("first", "second"))
    first.take()
    with pytest.raises(LockHeld, match="for a first"):
        second.take()
    first.let_go()
    second.take()
    assert not first.renew() and second.renew()


class Unreachable:
    """A lock whose place answers no more."""

    def __str__(self) -> str:
        return "s3://ops/tfs"

    def renew(self) -> bool:
        raise OSError("no route to host")

    def let_go(self) -> None:
        raise OSError("no route to host")


def test_a_holder_that_cannot_renew_stops_before_others_may_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(leases, "now", lambda: now[0])
    with renewed(Unreachable(), every=3600, limit=60, taken=100.0) as lease, leases.under(lease):
        lease.renew()
        now[0] = 159.0
        check_held()
        now[0] = 161.0
        with pytest.raises(RolloutError, match=r"s3://ops/tfs, wasn't renewed for 61 s, .*: no route to host") as e:
            check_held()
    assert (e.value.id, e.value.exit_code) == ("lock-lost", 8)
    check_held()


@contextmanager
def frozen_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds that have passed since the last renewal, for whoever holds a lock."""
    late = [0.0]
    check = HeldLease.check

    def silent_for(self: HeldLease) -> None:
        self._renewed -= late[0]
        check(self)

    with monkeypatch.context() as patch:
        patch.setattr(HeldLease, "check", silent_for)
        yield late


def test_no_server_is_told_anything_once_the_lock_may_be_somebody_elses(
        two: tuple[Elsewhere, Elsewhere], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the release of one of the servers, between two steps of it."""
    here = operator(two, tmp_path / "here", PLACES[0])
    append, lines = Ledger.append, list[str]()
    with frozen_place(monkeypatch) as late:
        def count(self: Ledger, event: str, **fields: Any) -> Any:
            if event == "apply" and fields["action"]["do"] == "point" and fields["action"]["label"] == "stable":
                late[0] = 61.0
            lines.append(event)
            return append(self, event, **fields)

        monkeypatch.setattr(Ledger, "append", count)
        with pytest.raises(RolloutError, match="wasn't renewed for") as e:
            fleet.roll_out(here, "m", 2)
    assert e.value.id == "lock-lost"
    assert {stable for _, stable in served(here).values()} == {1}, "the label didn't move"
    monkeypatch.undo()
    assert fleet.roll_out(operator(two, tmp_path / "there", PLACES[0]), "m", 2).ended.outcome == "done"
    assert served(here) == everywhere(2)


# -- how much is kept

def test_a_ledger_that_others_see_keeps_what_counts(two: tuple[Elsewhere, Elsewhere], tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.backends.shared_place.MOST_BYTES", 4000)
    here = operator(two, tmp_path / "here", PLACES[0])
    fleet.roll_out(here, "m", 2, pause_before=["wave"])
    with changing_all(here, "test", silent) as ledger:
        for number in range(100):
            ledger.append("noise", number=number, text="x" * 40)
    store = open_store(PLACES[0])
    with store.open(f"serving.{FILE}") as file:
        assert len(file.read()) <= 4000
    there = operator(two, tmp_path / "there", PLACES[0])
    assert fleet.history(there)[-1].paused == 2, "the release that is open"
    assert [line["number"] for line in ledger_of(there).read() if line["event"] == "noise"][-1] == 99
    with changing_all(here, "test", silent) as ledger, pytest.raises(RolloutError, match="what counts of the ledger"):
        for number in range(100):
            ledger.append("fleet_apply", release="f1", do="stage", servers=["a"] * 10, wave=number)


def test_a_place_that_cannot_be_used_is_a_sentence(two: tuple[Elsewhere, Elsewhere], tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    here = operator(two, tmp_path / "here", PLACES[0])

    def refuse(*_: object) -> None:
        raise OSError("no route to host")

    with held(_Place(), "serving", "test"):
        pass
    monkeypatch.setattr(MemoryStore, "put", refuse)
    with pytest.raises(RolloutError, match=r"can't write the ledger serving\.ledger\.jsonl in memory:operators: no ro"):
        fleet.roll_out(here, "m", 2)


class _Place:
    """One whose lock is always free."""

    def lock(self, *_: str) -> Any:
        return _StoreLock(MemoryStore("free"), "serving", "test")


def test_down_stops_those_that_are_ours(two: tuple[Elsewhere, Elsewhere], tmp_path: Path) -> None:
    here = operator(two, tmp_path / "here", None)
    text = here.path.read_text() + "- {name: c, server: {backend: embedded, flags: {tfs_loader: echo}, drain: 0}}\n"
    here.path.write_text(text)
    result = CliRunner().invoke(app, ["down", "--spec", str(here.path), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["servers"]
    assert told == {"a": {"stopped": False, "ours": False}, "b": {"stopped": False, "ours": False},
                    "c": {"stopped": False, "ours": True}}
    result = CliRunner().invoke(app, ["down", "--spec", str(here.path)])
    assert "a: it is somebody else's, and isn't stopped by tfs" in result.stdout and result.exit_code == 0
    assert CliRunner().invoke(app, ["down", "--spec", str(here.path), "--server", "a"]).exit_code == 6


def test_a_registry_keeps_no_lock(tmp_path: Path) -> None:
    (tmp_path / "serving.yaml").write_text("models: [{name: m, versions: [1]}]\nrollout: {lock: 'oci://r.example/ops'}\n")
    with pytest.raises(SpecError, match="rollout/lock: a registry keeps no lock"):
        load_spec(tmp_path / "serving.yaml")


def test_without_a_common_place_status_names_the_way_to_see_each_other(tmp_path: Path) -> None:
    with elsewhere(tmp_path / "there") as there:
        savedmodel(there.models / "m" / "2")
        two = [there.spec(tmp_path / name, parts=f"state: {tmp_path}/{name}/state\n") for name in ("a", "b")]
        here, other = (replace_repository(spec, there) for spec in two)
        for spec in (here, other):
            serving.up(spec)
        assert not any("rollout/lock" in note for note in serving.status(other).notes)
        rollout.roll_out(here, "m", 2)
        status = serving.status(other)
        assert status.drift and status.notes[-1].endswith("if all specs name one place as rollout/lock")


def replace_repository(spec: Spec, there: Elsewhere) -> Spec:
    spec.path.write_text(spec.path.read_text().replace("repository: models", f"repository: {there.models}"))
    return load_spec(spec.path)
