"""A stage: a directory beside the versions, under a name that the server ignores, until one rename shows it.

    <root>/<model>/.stage-<pid>-<random>/
        owner.json     who works here, and the number it claims; locked (flock) as long as its owner lives
        version/       what becomes <root>/<model>/<number>
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy import files
from deploy.repository import locks, naming

_OWNER = "owner.json"
_TREE = "version"
_MOST = 4096  # bytes of owner.json


@dataclass(frozen=True, slots=True)
class Owner:
    """Who works in a stage. `host` is the running kernel where it tells its identity, so containers share it."""

    host: str
    name: str
    pid: int
    version: int | None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.name}"


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
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._fd, json.dumps(
                {"host": host(), "name": socket.gethostname(), "pid": os.getpid(), "version": version}).encode())
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


def host() -> str:
    """Which kernel runs this process: locks and dead processes are seen within one kernel."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def claims(model_directory: Path, but: Path | None = None) -> Iterator[tuple[int, Owner]]:
    """The numbers that living publishers, except the stage `but`, have asked for."""
    for path in naming.stage_paths(model_directory):
        owner = _owner(path)
        if path != but and owner and owner.version is not None and _held(path):
            yield owner.version, owner


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
    owner = _owner(path)
    if held is False and owner and owner.host == host():
        return True
    return time.time() - _last_change(path) > older_than


def _held(path: Path) -> bool | None:
    """Whether a living process works there; None where that can't be told."""
    try:
        fd = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return locks.held(fd)
    finally:
        os.close(fd)


def _owner(path: Path) -> Owner | None:
    try:
        owner = Owner(**json.loads(files.read_bytes(path / _OWNER, _MOST, follow=False)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return owner if owner.version is None or type(owner.version) is int else None


def _last_change(path: Path) -> float:
    latest = 0.0
    with suppress(OSError):
        latest = path.lstat().st_mtime
        for _, entry in files.walk(path):
            latest = max(latest, entry.stat(follow_symlinks=False).st_mtime)
    return latest
