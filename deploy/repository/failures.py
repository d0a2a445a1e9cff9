"""What the operating system refuses, said in a sentence."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy import files
from deploy.errors import RepositoryError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class Refused(OSError):
    """What a store elsewhere refuses. `str()` is the sentence; hint: what to do; id: as of DeployError."""

    def __init__(self, sentence: str, hint: str, id: str = "") -> None:
        super().__init__(sentence)
        self.hint, self.id = hint, id


@contextmanager
def translated(doing: str, where: Path | str) -> Iterator[None]:
    """Turn OSError into RepositoryError: `doing` is what failed ('publish mnist'), `where` the repository."""
    try:
        yield
    except Refused as error:
        raise RepositoryError(f"can't {doing}: {error}", hint=error.hint, id=error.id) from error
    except OSError as error:
        path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(where)
        if error.errno in _REFUSED:
            raise RepositoryError(f"can't {doing}: {path}: {os.strerror(error.errno or 0)}",
                                  hint="check the owner and mode of the directory, and how it is mounted",
                                  id="permission-denied") from error
        raise RepositoryError(f"can't {doing}: {path}: {files.reason(error)}", id="permission-denied") from error
    except (RecursionError, MemoryError) as error:
        raise RepositoryError(f"can't {doing}: {where} takes more memory or depth than there is") from error


@contextmanager
def room_for(needed: int, doing: str, directory: Path, where: str) -> Iterator[None]:
    """Turn the full disk of `directory` into RepositoryError that says how many bytes were needed and free."""
    free = shutil.disk_usage(directory).free
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _no_inodes(doing, where) if _inodes(directory) == 0 else no_room(needed, free, doing, where) from error


def _inodes(directory: Path) -> int | None:
    """Files that can still be made; None where a filesystem doesn't count them."""
    stats = os.statvfs(directory)
    return stats.f_favail if stats.f_files else None


def _no_inodes(doing: str, where: str) -> RepositoryError:
    return RepositoryError(f"can't {doing}: {where} can't hold more files: no inodes are left, though there are bytes",
                           hint="remove files (`df -i` shows them), or make the filesystem with more inodes",
                           id="disk-full")


def no_room(needed: int, free: int, doing: str, where: str) -> RepositoryError:
    return RepositoryError(f"can't {doing}: no space left in {where}: {readable(needed)} needed, {readable(free)} free",
                           hint="make room, or remove what crashed publishers left with `tfs repository clean`",
                           details={"needed_bytes": needed, "free_bytes": free}, id="disk-full")


def readable(size: int) -> str:
    """Bytes as people read them: 1.5 GB."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}" if unit != "bytes" else f"{size} bytes"
        amount /= 1000
    return f"{amount:.4g} TB"
