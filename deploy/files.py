"""Files that somebody else wrote, opened without trust.

A directory may hold pipes that never answer, links that lead elsewhere or round in circles, files of any length, and
directories nested without end. What is refused here is an OSError with a sentence in `strerror`, as what the system
refuses is, so that whoever reads a file has one kind of failure to translate.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from deploy.errors import SpecError

DEEPEST = 64
"""Directories in each other; a version has two or three."""

MOST_ENTRIES = 100_000
"""Files and directories below one directory."""

MOST_TEXT = 8 << 20
"""Bytes of a file that people write: a config file of ten thousand models has one million."""

_PATIENCE = 5.0  # seconds without a byte from a pipe
_HOLES = 1 << 30  # bytes from which a file is looked at for holes
_FULL = 16  # a file this many times longer than its blocks on disk is a hole, however well a disk compresses
_UNNAMED = "its name has characters that no file has"


def open_regular(path: str | Path, *, most: int | None = None, follow: bool = True,
                 directory: int | None = None) -> BinaryIO:
    """A regular file, open to be read; never waits for the other end of a pipe.

    most: bytes that it may have. follow: whether its last name may be a symbolic link; not in a directory that others
    may write to. directory: an open one that `path` is relative to.
    Raises OSError for anything else: missing, refused, no regular file, too long.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags, dir_fd=directory)
    except ValueError as error:
        raise OSError(errno.EINVAL, _UNNAMED, str(path)) from error
    except OSError as error:
        if error.errno == errno.ELOOP and not follow and stat.S_ISLNK(os.lstat(path, dir_fd=directory).st_mode):
            raise OSError(errno.ELOOP, "it is a symbolic link, and none is followed there", str(path)) from error
        raise
    try:
        check_regular(os.fstat(fd), path, most)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_bytes(path: str | Path, most: int, *, follow: bool = True, directory: int | None = None) -> bytes:
    """The bytes of a regular file that has at most `most`. Raises OSError as `open_regular` does."""
    with open_regular(path, most=most, follow=follow, directory=directory) as file:
        data = file.read(most + 1)
    if len(data) > most:  # it grew
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return data


def read_given(path: str | Path, most: int = MOST_TEXT) -> bytes:
    """The bytes of a file that the user named, who may name a pipe: `/dev/stdin`, `<(...)`.

    Raises OSError for more than `most` bytes, a directory, and a pipe that nobody writes into.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:
        raise OSError(errno.EINVAL, _UNNAMED, str(path)) from error
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            check_regular(status, path, most)
        data = b"".join(_pieces(file, path, most))
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return data


def _pieces(file: io.FileIO, path: str | Path, most: int) -> Iterator[bytes]:
    """Until the end, or a piece beyond `most`."""
    size = 0
    while size <= most:
        if not select.select([file], [], [], _PATIENCE)[0]:
            raise OSError(errno.ETIMEDOUT, f"nobody wrote into it for {_PATIENCE:g} seconds", str(path))
        piece = file.read(min(most + 1 - size, 1 << 20))
        if piece is None:  # another reader was faster
            continue
        if not piece:
            return
        size += len(piece)
        yield piece


def read_text(path: str | Path) -> str:
    """The text, UTF-8, of a file that the user named. Raises OSError, UnicodeDecodeError."""
    return read_given(path).decode().replace("\r\n", "\n")


def check_regular(status: os.stat_result, path: str | Path, most: int | None = None) -> None:
    """Raises OSError unless it is a regular file of at most `most` bytes, most of which are on disk."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"it is {kind(status.st_mode)}, no regular file", str(path))
    if most is not None and status.st_size > most:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, and at most {most:,} make sense", str(path))
    on_disk = getattr(status, "st_blocks", status.st_size) * 512
    if status.st_size > _HOLES and on_disk < status.st_size // _FULL:
        raise OSError(errno.EFBIG, f"it claims {status.st_size:,} bytes and has {on_disk:,} on disk: it is a hole",
                      str(path))


def kind(mode: int) -> str:
    """What a file is, in words."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
             stat.S_IFLNK: "a symbolic link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "a file")


def walk(root: str | Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a directory: (name relative to it, entry), parents first, each directory's entries sorted.

    Symbolic links are told and not followed. Raises OSError for a directory that can't be listed, and where there is
    more than a version of a model has: over DEEPEST levels or MOST_ENTRIES entries.
    """
    pending, count = [("", str(root), 0)], 0
    while pending:
        prefix, directory, depth = pending.pop()
        if depth > DEEPEST:
            raise OSError(errno.ELOOP, f"it has more than {DEEPEST} directories in each other", str(root))
        with os.scandir(directory) as listed:
            entries = []
            for entry in listed:
                count += 1
                if count > MOST_ENTRIES:
                    raise OSError(errno.E2BIG, f"it holds more than {MOST_ENTRIES:,} files", str(root))
                entries.append(entry)
        entries.sort(key=lambda entry: entry.name)
        for entry in entries:
            yield prefix + entry.name, entry
        pending += [(f"{prefix}{entry.name}/", entry.path, depth + 1) for entry in reversed(entries)
                    if entry.is_dir(follow_symlinks=False)]


def total(root: str | Path) -> tuple[int, int]:
    """Bytes and number of the regular files below a directory; links count as what they lead to."""
    sizes = []
    for _, entry in walk(root):
        try:
            status = entry.stat()
        except OSError:  # a link to nothing, or to itself
            continue
        if stat.S_ISREG(status.st_mode):
            sizes.append(status.st_size)
    return sum(sizes), len(sizes)


def escapes(name: str) -> bool:
    """Whether a relative path leads out of the directory that it is relative to."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not name or "\0" in name or path.is_absolute() or ".." in path.parts or name[1:2] == ":"


def check_letters(*paths: str | Path) -> None:
    """Raises SpecError for a path with letters that this locale doesn't have: what is written or printed of it fails.
    """
    for path in paths:
        try:
            str(path).encode(sys.getfilesystemencoding())
        except UnicodeEncodeError:
            raise no_letters() from None


def no_letters() -> SpecError:
    return SpecError(f"a path or a text has letters that this locale ({sys.getfilesystemencoding()}) doesn't have",
                     hint="set LC_ALL=C.UTF-8 or PYTHONUTF8=1", id="locale")


def reason(error: OSError) -> str:
    """Why the system, or this module, refused: always a text."""
    return error.strerror or str(error) or type(error).__name__
