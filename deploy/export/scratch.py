"""Temporary directories that outlive no export for long, not even one that was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "tfs-export-"
_LOCK = ".lock"
_SETTLED = 60.0  # seconds after which whoever made a directory has locked it, too


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A directory that is locked while it is in use, and removed then. Those of killed exports are removed first."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as place:
        lock = os.open(Path(place, _LOCK), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(place)
        finally:
            os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove our own user's directories there that nobody holds any more. Links are never followed."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(PREFIX) and _abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    """The kernel lets go of a lock when its process ends, however it ends, and in whatever container it ran."""
    try:
        seen = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or time.time() - seen.st_mtime < _SETTLED:
            return False
        lock = os.open(Path(entry.path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # killed before it had a lock, or made by an older release
        return time.time() - seen.st_mtime > 24 * 3600
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
