"""Lock, ledger, and what a restart may rely on."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from deploy import serving
from deploy.errors import LockHeld, RolloutError, ServerError
from deploy.locks import FILE, Owner, locked, this_machine
from deploy.rollout import goal_of
from deploy.serving.resolving import ResolvedModel, differences, note_start
from deploy.state import Ledger, releases, started_from
from deploy.state.release import entry
from deploy.types import Latest, ServedModel, Serving, Specific
from tests.support.serving import spec_at

MODEL = ServedModel("m", "/models/m", Specific((1,)), {"stable": 1})
KNOWN_GOOD = Serving(frozenset({2}), {"stable": 2})


def known_good(model: ServedModel = MODEL, event: str = "known_good", **more: object) -> dict[str, Any]:
    return {"event": event, "model": "m", "serving": KNOWN_GOOD.to_json(), "spec": entry(model), **more}


@pytest.mark.parametrize(("lines", "model", "expected"), [
    ([], MODEL, None),
    ([known_good()], MODEL, KNOWN_GOOD),
    ([known_good()], ServedModel("m", "/models/m", Specific((3,)), {"stable": 3}), None),  # edited since
    ([known_good()], ServedModel("m", "/models/m", Specific((1,)), {}), None),
    ([known_good()], ServedModel("m", "/elsewhere/m", Specific((1,)), {"stable": 1}), None),
    ([known_good()], ServedModel("m", "/models/m", Latest(1), {"stable": 1}), None),
    ([known_good()], ServedModel("other", "/models/m", Specific((1,)), {"stable": 1}), None),
    ([known_good(), known_good(event="started", source="ledger")], MODEL, KNOWN_GOOD),
    ([known_good(), known_good(event="started", source="spec")], MODEL, None),  # edited, started, and edited back
    ([known_good(serving={"versions": "?"})], MODEL, None),
])
def test_what_a_restart_serves(lines: list[dict[str, Any]], model: ServedModel, expected: Serving | None) -> None:
    assert started_from(lines, model) == expected


def test_a_spec_as_known_good(tmp_path: Path) -> None:
    spec = spec_at(tmp_path, "models: [{name: m, versions: [1], labels: {stable: 1}}, {name: n, versions: latest}]")
    assert serving.as_known_good(spec) == spec and differences(spec, serving.as_known_good(spec)) == []
    started = [ResolvedModel("m", {1: tmp_path}, {"stable": 1}), ResolvedModel("n", {7: tmp_path})]
    note_start(spec, started, Ledger(spec.state_dir).read())
    assert serving.as_known_good(spec) == spec
    Ledger(spec.state_dir).append("known_good", model="m", serving=KNOWN_GOOD.to_json(), spec=entry(spec.models[0]))
    assert serving.as_known_good(spec).models[0].versions == Specific((2,))
    assert serving.as_known_good(spec).models[1] == spec.models[1]
    assert differences(spec, serving.as_known_good(spec)) == ["m: version 2, as rolled out; serving.yaml says 1"]
    note_start(spec, [ResolvedModel("m", {2: tmp_path}, {"stable": 2})], Ledger(spec.state_dir).read())
    assert serving.as_known_good(spec).models[0].labels == {"stable": 2}


def test_a_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new", now=lambda: datetime(2026, 11, 21, tzinfo=timezone.utc))
    assert ledger.read() == []
    ledger.append("one", what="ü")
    with ledger.path.open("ab") as f:
        f.write(b'{"event": "tor')
    ledger.append("two")
    assert [(line["event"], line["at"]) for line in ledger.read()] == [
        (event, "2026-11-21T00:00:00.000+00:00") for event in ("one", "two")]
    assert releases(ledger.read()) == []


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RolloutError, match="can't write the ledger"):
        Ledger(tmp_path / "file").append("one")
    assert Ledger(tmp_path / "file").read() == []


def test_a_ledger_of_an_earlier_release_is_read_in_todays_words(tmp_path: Path) -> None:
    """Recorded before bake times and known good states had these names; its last release waits."""
    shutil.copy(Path(__file__).parents[1] / "recorded" / "ledger_1.jsonl", tmp_path / "ledger.jsonl")
    lines = Ledger(tmp_path).read()
    assert not {"proven", "soak", "hold"} & {word for line in lines for word in (
        line["event"], line.get("check"), *line.get("options", {}), *line.get("options", {}).get("trial", ()))}
    first, failed, back, waiting = releases(lines)
    assert (first.outcome, failed.outcome, back.kind, waiting.paused) == ("done", "undone", "rollback", "bake_after")
    assert set(first.passed) == {"gate", "compare", "bake_before", "confirm", "bake_after"}
    assert first.approved == {"bake_before"} and first.options["bake_before"] == 5.0 and waiting.open
    goal = goal_of(waiting)
    assert (goal.trial, goal.after, goal.pauses) == (
        ("gate", "compare", "bake_before"), ("confirm", "bake_after"), {"bake_after"})
    served = ServedModel("m", "memory://m", Specific((1,)), {"stable": 1})
    assert started_from(lines, served) == Serving(frozenset({1}), {"stable": 1})  # as the rollback has left it


AT = "2026-11-21T08:00:00.000+00:00"
BEGIN = {"at": AT, "event": "begin", "release": "r1", "model": "m", "kind": "rollout", "version": 2, "by": {},
         "before": {"versions": [1], "labels": {}}, "goal": KNOWN_GOOD.to_json()}


LEDGERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a pipe"), "link": (lambda path: path.symlink_to("elsewhere"), "a symbolic link"),
    "device": (lambda path: path.symlink_to("/dev/full"), "a symbolic link"),
    "hole": (lambda path: (path.touch(), os.truncate(path, 50 << 30)), "53,687,091,200 bytes"),
}


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_ledger_that_is_something_else(tmp_path: Path, kind: str) -> None:
    ledger = Ledger(tmp_path)
    LEDGERS[kind][0](ledger.path)
    with pytest.raises(RolloutError, match=f"can't read the ledger .*{LEDGERS[kind][1]}"):
        ledger.read()
    with pytest.raises(RolloutError, match="can't write the ledger"):
        ledger.append("one")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("line", [
    {**BEGIN, "release": ["r1"]}, {**BEGIN, "version": "two"}, {**BEGIN, "before": {"versions": 1}}, {**BEGIN, "by": 1},
    {**BEGIN, "at": "yesterday"}, {**BEGIN, "at": "2026-11-21T08:00:00"}, {k: v for k, v in BEGIN.items() if k != "at"},
    {"at": AT, "event": "passed", "release": "r1"}, {"at": AT, "event": "end", "release": "r1", "outcome": 3},
    {"at": AT, "event": "go", "release": "r1", "by": {}, "steps": "promote"}, {"at": AT, "event": ["begin"]},
    {"at": AT, "event": "known_good", "model": "m", "serving": {"versions": ["2"], "labels": {}}},
    {"at": AT, "event": "of a later release", "release": 7},
])
def test_a_damaged_line_is_named(tmp_path: Path, line: dict[str, Any]) -> None:
    ledger = Ledger(tmp_path)
    ledger.path.write_text(json.dumps(BEGIN) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(RolloutError, match=r"line 2 of the ledger .*ledger.jsonl is damaged: .*restore the file"):
        ledger.read()


@pytest.mark.parametrize("torn", ["[" * 100_000, "\0" * 50, "nonsense", "[1]", "null", '{"at": "2026"}', "\xff"])
def test_what_was_torn_or_is_unknown_is_passed_over(tmp_path: Path, torn: str) -> None:
    ledger = Ledger(tmp_path)
    later = {"at": AT, "event": "of a later release of the toolkit", "anything": [1]}
    ledger.path.write_text("\n".join([json.dumps(BEGIN), torn, json.dumps(later), ""]))
    assert [r.id for r in releases(ledger.read())] == ["r1"]


def test_a_lock_on_a_full_disk_and_one_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("theirs")
    (tmp_path / FILE).symlink_to("secret")
    with pytest.raises(ServerError, match="lock: it is a symbolic link"), locked(tmp_path, "up"):
        pytest.fail("a link was followed")
    assert (tmp_path / "secret").read_text() == "theirs"
    (tmp_path / FILE).unlink()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path, "up"), pytest.raises(LockHeld, match="by unknown, since unknown"), locked(tmp_path, "down"):
        pytest.fail("two hold it")


def locked_already() -> pytest.RaisesExc[LockHeld]:
    return pytest.raises(LockHeld, match="another operation holds the lock .*`rollout of m` by")


def test_a_lock_says_who_since_when_and_why(tmp_path: Path) -> None:
    with locked(tmp_path, "rollout of m"), locked_already() as e, locked(tmp_path, "down"):
        pytest.fail("two hold it")
    assert f"process {os.getpid()}" in e.value.by and e.value.since.startswith("20")
    assert (tmp_path / FILE).read_text() == ""


HOLD = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from deploy.locks import locked
with locked(Path({where!r}), "a rollout"):
    print("held", flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("filesystem", ["with locks", "without"])
def test_a_dead_holder_holds_nothing(tmp_path: Path, filesystem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = HOLD.format(root=str(Path(__file__).parents[2]), where=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "held\n" and "a rollout" in (tmp_path / FILE).read_text()
    if filesystem == "without":
        def unsupported(*_: object) -> None:
            raise OSError(errno.ENOLCK, "no locks available")

        monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path, "up"):
        assert json.loads((tmp_path / FILE).read_text())["why"] == "up"
        if filesystem == "without":
            with pytest.raises(LockHeld), locked(tmp_path, "down"):
                pass


def test_who_is_alive() -> None:
    me = Owner.here()
    assert me.alive and Owner.from_json(me.to_json()) == me
    before = replace(me, machine="")  # as an earlier release wrote it
    assert before.alive and replace(before, host="elsewhere").alive and not replace(before, pid=-1).alive
    assert not replace(me, created=me.created - 100).alive and not replace(me, pid=-1).alive


def test_a_holder_on_another_machine_of_this_name_is_not_taken_for_dead() -> None:
    boot, _, pids = this_machine().partition(" ")
    for machine in (f"another-boot {pids}", f"{boot} 1"):  # another machine, or this one in another container
        other = replace(Owner.here(), pid=2**22 - 1, machine=machine)
        assert other.alive and not other.on_this_host
        assert other.before_boot is machine.startswith("another"), "what is only this machine's, and of before its boot"
    assert not replace(Owner.here(), pid=2**22 - 1).alive


def test_where_files_have_no_locks_a_holder_elsewhere_is_named_with_its_file(tmp_path: Path, monkeypatch:
                                                                             pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    other = replace(Owner.here("rollout of m"), pid=2**22 - 1, machine="another-boot 1")
    (tmp_path / FILE).write_text(json.dumps(other.to_json()))
    with locked_already() as e, locked(tmp_path, "down"):
        pytest.fail("it is another machine's")
    assert e.value.hint == f"wait until it is done; if nothing of it runs there any more, remove {tmp_path / FILE}"
