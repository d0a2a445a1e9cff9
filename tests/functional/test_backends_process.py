"""Ports, run records and log tails: the parts of a process server that need no server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.backends import process_server, record
from deploy.backends.base import ProcessOptions
from deploy.backends.ports import pick
from deploy.backends.process_server import ProcessServer, forget, tail_of
from deploy.backends.record import RunRecord
from deploy.errors import BackendMissing, PortTaken, ServerError
from deploy.types import Endpoint
from tests.support.servers import limited_files, taken_port

ME = psutil.Process()
SLEEPER = (sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()")


def planned(state: Path, name: str = "m", run: str = "r1") -> RunRecord:
    return RunRecord(name, "process", ME.pid, ME.create_time(), run, ("a", "--port=1"), "127.0.0.1", 1, 2,
                     str(state / record.LOG), {"org.tfs-deploy.config": "c"})


@contextmanager
def running(state: Path, *, told: RunRecord | None) -> Iterator[tuple[psutil.Process, RunRecord]]:
    """A process in a session of its own that was started as `told` says (None: as a stranger), and its true record."""
    facts = told.environment() if told else {}
    child = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **facts},
                             start_new_session=True, cwd=state)
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    process = psutil.Process(child.pid)
    try:
        yield process, replace(told or planned(state), pid=child.pid, created=process.create_time())
    finally:
        child.kill()
        child.communicate()


def test_free_ports_are_different() -> None:
    ports = pick("127.0.0.1", {"gRPC": 0, "REST": 0})
    assert ports["gRPC"] != ports["REST"] and min(ports.values()) > 0


def test_a_taken_port_is_named_with_its_owner() -> None:
    with taken_port() as port, pytest.raises(PortTaken) as e:
        pick("127.0.0.1", {"gRPC": 0, "REST": port})
    assert f"REST port {port} on 127.0.0.1 is taken by" in e.value.message and f"pid {os.getpid()}" in e.value.message
    assert e.value.exit_code == 6


def test_a_strange_address_is_refused() -> None:
    with pytest.raises(ServerError, match=r"can't listen on 192\.0\.2\.1"):
        pick("192.0.2.1", {"gRPC": 0})


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    with running(tmp_path, told=planned(tmp_path)) as (process, mine):
        record.write(mine, tmp_path)
        assert record.read(tmp_path) == mine and mine.process() == process


def test_a_record_that_names_a_stranger_ends_nobody(tmp_path: Path) -> None:
    with running(tmp_path, told=None) as (process, doctored):
        record.write(doctored, tmp_path)
        assert doctored.process() is None and process_server.find("m", tmp_path, "process") is None
        server = ProcessServer(doctored.options(tmp_path), found=doctored)
        assert not server.alive()
        server.stop()
        assert process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        assert record.read(tmp_path) is None


def test_a_copied_record_doesnt_name_another_specs_server(tmp_path: Path) -> None:
    other, here = tmp_path / "other", tmp_path / "here"
    other.mkdir()
    here.mkdir()
    with running(other, told=planned(other)) as (process, theirs):
        record.write(theirs, here)
        found = process_server.find("m", here, "process")
        assert found is None and process.is_running()
        record.write(theirs, other)
        assert process_server.find("m", other, "process") is not None


def test_a_reused_pid_is_a_stranger(tmp_path: Path) -> None:
    with running(tmp_path, told=planned(tmp_path, run="later")) as (_, later):
        assert replace(later, run="r1").process() is None


def test_a_clock_that_was_set_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path, told=planned(tmp_path)) as (process, mine):
        for shift in (-1e6, 3600.0, 1e6):
            assert replace(mine, created=mine.created + shift).process() == process


def test_a_state_directory_that_was_moved_is_still_the_servers(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with running(before, told=planned(before)) as (process, mine):
        record.write(mine, before)
        before.rename(after)
        found = process_server.find("m", after, "process")
        assert found is not None and found.describe()["pid"] == process.pid


@pytest.mark.parametrize("damage", [
    lambda state: (state / record.FILE).unlink(),
    shutil.rmtree,
    lambda state: (state / record.FILE).write_text("{"),
    lambda state: (state / record.FILE).write_text((state / record.FILE).read_text().replace('"pid": ', '"pid": 1')),
])
def test_a_server_whose_record_is_lost_or_wrong_is_found_by_its_environment(tmp_path: Path, damage: Any) -> None:
    state = tmp_path / "m"
    state.mkdir()
    with running(state, told=planned(state)) as (process, mine):
        record.write(mine, state)
        damage(state)
        assert record.search("another", state) is None
        found = process_server.find("m", state, "process")
        assert found is not None and found.describe()["pid"] == process.pid and found.labels == mine.labels
        assert found.endpoint == Endpoint("127.0.0.1", 1, 2) and found.argv == mine.argv
        found.stop(5)
        assert not found.alive() and process_server.find("m", state, "process") is None


def test_processes_that_a_server_started_arent_the_server(tmp_path: Path) -> None:
    """They inherit its environment, but not its session's number."""
    facts = planned(tmp_path).environment()
    child = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **facts})
    try:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        assert record.search("m", tmp_path) is None
    finally:
        child.kill()
        child.communicate()


def test_a_process_that_cant_prove_itself_isnt_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's: its environment is closed to us. It is looked at, by its time and command line."""
    def closed(self: psutil.Process) -> dict[str, str]:
        raise psutil.AccessDenied

    with running(tmp_path, told=planned(tmp_path)) as (process, mine):
        seen = replace(mine, argv=("python", *SLEEPER[1:]))
        monkeypatch.setattr(psutil.Process, "environ", closed)
        server = ProcessServer(seen.options(tmp_path), found=seen)
        assert server.alive() and replace(seen, argv=("python", "-c", "other")).process() is None
        with pytest.raises(ServerError, match="can't be shown to be m: its environment isn't readable"):
            server.stop()
        assert process.is_running()


BROKEN = ["", "[]", "{}", '{"name": 1', json.dumps({"pid": "x"}), "[" * 100_000, '{"a":' * 50_000, "1e999", "\0" * 99]
WHOLE = {"name": "m", "kind": "process", "run": "r", "argv": ["a"], "host": "h", "grpc_port": 1, "rest_port": 2,
         "log": "l", "labels": {}, "pid": 4711, "created": 1.0}
WRONG = [{"pid": -1}, {"pid": 0}, {"pid": 1 << 70}, {"pid": 1.5}, {"created": "x"}, {"run": ""}, {"labels": [1]},
         {"labels": {"a": 1}}, {"argv": "abc"}, {"grpc_port": "8500"}, {"rest_port": 70000}, {"name": None}]


@pytest.mark.parametrize("text", [*BROKEN, *(json.dumps({**WHOLE, **wrong}) for wrong in WRONG),
                                  json.dumps(WHOLE).replace("1.0", "1e999"),
                                  json.dumps(WHOLE) + " " * record.MOST_BYTES])
def test_a_broken_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / record.FILE).write_text(text)
    with pytest.raises(ServerError, match="can't read the run record"):
        record.read(tmp_path)
    with pytest.raises(ServerError, match="can't read the run record"):
        process_server.find("m", tmp_path, "process")


def test_a_record_that_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / record.FILE)
    with pytest.raises(ServerError, match="no regular file"):
        record.read(tmp_path)
    (tmp_path / record.FILE).unlink()
    (tmp_path / record.FILE).symlink_to("/etc/hostname")
    with pytest.raises(ServerError, match="can't read the run record"):
        record.read(tmp_path)


def test_a_record_that_cant_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A full disk, as far as a file too long for what is left of it goes."""
    with limited_files(0), pytest.raises(ServerError, match=r"can't write the run record .*run\.json"):
        record.write(planned(tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_record_of_the_same_run_is_removed(tmp_path: Path) -> None:
    record.write(planned(tmp_path), tmp_path)
    record.remove(tmp_path, "another")
    assert record.read(tmp_path) is not None
    record.remove(tmp_path, "r1")
    assert record.read(tmp_path) is None


def test_a_dead_servers_record_is_forgotten_a_living_ones_kept(tmp_path: Path) -> None:
    with running(tmp_path, told=planned(tmp_path)) as (_, mine):
        record.write(mine, tmp_path)
        forget(tmp_path)
        assert record.read(tmp_path) is not None
    forget(tmp_path)
    assert record.read(tmp_path) is None


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail_of(log, 5) == ""
    log.write_bytes(b"".join(b"line %d \xff\n" % i for i in range(100_000)))
    assert tail_of(log, 2) == "line 99998 \ufffd\nline 99999 \ufffd"
    assert tail_of(log, 0) == ""


@pytest.mark.parametrize("program", ["no-such-server-anywhere", "/no/such/server",
                                     "/etc/passwd is no file that can be executed"])
def test_a_missing_binary_is_told(tmp_path: Path, program: str) -> None:
    server = ProcessServer(ProcessOptions("m", (program.partition(" ")[0],), Endpoint(), str(tmp_path)))
    with pytest.raises(BackendMissing, match=program) as e:
        server.start()
    assert "server/binary" in e.value.hint
    server.stop()


@pytest.mark.parametrize(("host", "to"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")])
def test_all_addresses_are_none_to_connect_to(tmp_path: Path, host: str, to: str) -> None:
    server = ProcessServer(ProcessOptions("m", ("x",), Endpoint(host, 1, 2), str(tmp_path)))
    assert server.endpoint == Endpoint(to, 1, 2)
