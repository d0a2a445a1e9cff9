"""Locks between processes: they end with their holder, however it ends (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy import files
from deploy.repository import copying, naming

_MOST = 4096  # bytes of such a file, which has 21
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def held(fd: int) -> bool | None:
    """Whether another open file has the lock; None where the filesystem knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


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


def _opened(directory: Path, name: str) -> int:
    """The lock's file, which others may have written to before us: links aren't followed, nor is anything else taken.
    """
    with suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(copying.DIRECTORY_MODE)
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, copying.FILE_MODE,
                     dir_fd=parent)
    except OSError as error:
        raise OSError(error.errno, files.reason(error), str(directory / name)) from error
    finally:
        os.close(parent)
    try:
        status = os.fstat(fd)
        files.check_regular(status, directory / name, _MOST)
        if status.st_nlink > 1:  # another name of somebody's file
            raise OSError(errno.EMLINK, "it has other names elsewhere, and isn't written to", str(directory / name))
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def model_lock(root: Path, model: str) -> Iterator[Numbers]:
    """Be the only one, among all processes, that chooses numbers and renames for `model`. Held for milliseconds.

    Where locks don't work (some network filesystems) the rename alone keeps versions apart. Raises OSError.
    """
    fd = _opened(root / naming.STATE_DIRECTORY, model)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        yield Numbers(fd)
    finally:
        os.close(fd)
