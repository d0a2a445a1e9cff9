"""Temporary directories of killed exports are removed by the next one; nobody else's are."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deploy.export import processes

HOLD = "import tempfile, sys; tempfile.tempdir = sys.argv[1]\n" \
    "from deploy.export import processes\n" \
    "with processes.directory() as place: print(place, flush=True); sys.stdin.read()"
OLD = (0, 0)


def age(path: Path) -> None:
    os.utime(path, OLD)


def test_what_a_killed_export_leaves_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as running:
        assert running.stdout is not None
        left = Path(running.stdout.readline().strip())
        age(left)
        processes.remove_abandoned(tmp_path)
        assert left.is_dir(), "it is in use"
        running.send_signal(signal.SIGKILL)
        running.wait(30)
    processes.remove_abandoned(tmp_path)
    assert not left.exists()


def test_what_is_young_foreign_or_a_link_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    for path in (kept, elsewhere):
        path.mkdir()
        (path / ".lock").touch()
        age(path)
    (tmp_path / f"{processes.PREFIX}link").symlink_to(kept)
    young, file, foreign = (tmp_path / f"{processes.PREFIX}{name}" for name in ("young", "file", "foreign"))
    for path in (young, foreign):
        path.mkdir()
        (path / ".lock").touch()
    file.touch()
    linked = tmp_path / f"{processes.PREFIX}linked-lock"
    linked.mkdir()
    (linked / ".lock").symlink_to(elsewhere / ".lock")
    for path in (file, foreign, linked):
        age(path)
    there = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    processes.remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == there
    monkeypatch.undo()
    processes.remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == [path for path in there if path != foreign]


def test_where_the_filesystem_knows_no_locks_nothing_is_taken_for_abandoned(tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with processes.directory() as place:
        age(place)
        processes.remove_abandoned(tmp_path)
        assert place.is_dir()
    assert not place.exists()


def test_it_is_locked_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with processes.directory() as place, (place / ".lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert list(tmp_path.iterdir()) == []
