"""Numbers of versions: one publisher at a time chooses one, and none is given twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy import files, locks
from deploy.repository import copying, naming

_MOST = 4096  # bytes of such a file, which has 21


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
