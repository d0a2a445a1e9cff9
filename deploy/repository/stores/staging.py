"""A directory's stages and numbers, kept apart by locks.

A stage is a directory beside the versions, under a name that the server ignores, until one rename shows it:

    <root>/<model>/.stage-<pid>-<random>/
        owner.json     who works here, on which kernel, and the number it claims; locked as long as its owner lives
        version/       what becomes <root>/<model>/<number>

A model's number is the highest that it ever had; its file is the lock of whoever chooses one.

    <root>/.tfs/<model>
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from deploy import files, locks
from deploy.locks import Owner
from deploy.repository import copying, naming

_OWNER = "owner.json"
_TREE = "version"
_MOST = 4096  # bytes of such a file; owner.json has 200, a number 21


class StageDirectory:
    """A stage on disk and the lock on it. Made, and looked for, under the model's lock only."""

    def __init__(self, model_directory: Path, version: int | None) -> None:
        self.path = model_directory / f"{naming.STAGE_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self.tree = self.path / _TREE
        self._fd = -1
        self.path.mkdir(0o700)
        try:
            self._fd = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with suppress(OSError):  # without locks, its age tells when it was left
                locks.try_lock(self._fd)
            os.write(self._fd, json.dumps({**Owner.here("publish").to_json(), "kernel": kernel(),
                                           "version": version}).encode())
            self.tree.mkdir()
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove what is left of it, then let go of the lock. Never fails: `clean` takes the rest later."""
        _remove(self.path)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def kernel() -> str:
    """Which kernel runs this process: locks and dead processes are seen within one kernel."""
    try:
        return locks.boot_id()
    except OSError:
        return socket.gethostname()


def claims(model_directory: Path, but: Path | None = None) -> Iterator[tuple[int, Owner]]:
    """The numbers that living publishers, except the stage `but`, have asked for."""
    for path in naming.stage_paths(model_directory):
        note = _note(path)
        if path != but and note and note.version is not None and _held(path):
            yield note.version, note.owner


def remove_stale(model_directory: Path, older_than: float) -> list[Path]:
    """Remove stages whose owner is dead on this host, or that nobody has touched for `older_than` seconds.

    What can't be removed (another user's) stays, and isn't in the answer.
    """
    stale = [path for path in naming.stage_paths(model_directory) if _stale(path, older_than)]
    for path in stale:
        _remove(path)
    return [path for path in stale if not os.path.lexists(path)]


def _remove(path: Path) -> None:
    shutil.rmtree(path / _TREE, ignore_errors=True)  # first, so that a half-removed stage still says whose it is
    shutil.rmtree(path, ignore_errors=True)


def _stale(path: Path, older_than: float) -> bool:
    held = _held(path)
    if held:
        return False
    note = _note(path)
    if held is False and note and note.kernel == kernel():
        return True
    return time.time() - _last_change(path) > older_than


def _held(path: Path) -> bool | None:
    """Whether a living process works there; None where that can't be told."""
    try:
        fd = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        taken = locks.try_lock(fd)
    except OSError:
        return None
    else:
        return None if taken is None else not taken
    finally:
        os.close(fd)


class _Note(NamedTuple):
    """owner.json. kernel: containers of one host share it, so whoever runs on it sees a lock, or that nobody has it."""

    owner: Owner
    kernel: str
    version: int | None


def _note(path: Path) -> _Note | None:
    try:
        data = json.loads(files.read_bytes(path / _OWNER, _MOST, follow=False))
        note = _Note(Owner.from_json(data), str(data["kernel"]), data["version"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return note if note.version is None or type(note.version) is int else None


def _last_change(path: Path) -> float:
    latest = 0.0
    with suppress(OSError):
        latest = path.lstat().st_mtime
        for _, entry in files.walk(path):
            latest = max(latest, entry.stat(follow_symlinks=False).st_mtime)
    return latest


class Numbers:
    """The highest number that a model ever had, so that it isn't given twice, even after the version was removed.

    A server that failed to load a number doesn't try it again.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def highest(self) -> int:
        return _number(os.pread(self._fd, 32, 0))

    def record(self, number: int) -> None:
        if number > self.highest:
            os.pwrite(self._fd, b"%-20d\n" % number, 0)


def read_highest(root: Path, model: str) -> int:
    """The highest number on record, without the lock; 0 if there is none."""
    try:
        return _number(files.read_bytes(root / naming.STATE_DIRECTORY / model, _MOST, follow=False))
    except FileNotFoundError:
        return 0


def _number(text: bytes) -> int:
    text = text.strip()
    return int(text) if text.isdigit() else 0  # torn by a crash: the versions on disk still count


@contextmanager
def model_lock(root: Path, model: str) -> Iterator[Numbers]:
    """Be the only one, among all processes, that chooses numbers and renames for `model`. Held for milliseconds.

    Where locks don't work (some network filesystems) the rename alone keeps versions apart. Raises OSError.
    """
    directory = root / naming.STATE_DIRECTORY
    with suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(copying.DIRECTORY_MODE)
    fd = locks.opened(directory, model, follow=False, mode=copying.FILE_MODE)
    try:
        locks.wait_lock(fd)
        yield Numbers(fd)
    finally:
        os.close(fd)
