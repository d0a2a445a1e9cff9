"""One pass over the bytes: copied by the kernel, hashed from the copy, written to disk, all at the same time.

Threads that don't hold the GIL while they work: the caller's copies piece by piece, one hashes each piece once it is
copied (from the page cache, so the digest is that of the bytes staged, whatever happens to the source), some start
the disk on what is copied and then make whole files durable.

Measured for 1 GB on two cores, ext4 on NVMe: `cp -r` 0.25 s, copied and hashed 0.26 s, durable as well 0.33 s;
`cp -r` and then `sync` 0.50 s. A userspace copy is as fast at best, and fdatasync in between costs 0.2 s and more.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from deploy.errors import RepositoryError
from deploy.repository.manifest import DEFAULT, FileRecord, hasher
from deploy.repository.survey import SourceFile, Survey

Progress = Callable[[int, int], None]  # bytes done, bytes in all; called on the caller's thread

BUFFER = 1 << 20  # fits a core's own cache, so that hashing reads memory once
PIECE = 8 << 20
PIECES = 16  # copied but not hashed yet: few enough to be in the page cache still
FILES = 64  # open at most
FLUSH = 16 << 20  # the disk starts on this much at a time, instead of idling until the last fsync
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755  # any user of any container can read, whatever the umask was

_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}


class FileDigest:
    """The digest of an open file, taken piece by piece as its bytes appear. Not thread-safe: one caller at a time.

    Moves the descriptor's position; whoever writes to it meanwhile has to name offsets.
    """

    def __init__(self, fd: int, algorithm: str = DEFAULT) -> None:
        self._file = io.FileIO(fd, closefd=False)
        self._hasher, self._buffer = hasher(algorithm), memoryview(b"")
        self.done = 0

    def advance(self, end: int) -> None:
        """Take in the bytes up to offset `end`. Raises OSError if the file is shorter."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(min(BUFFER, end)))
        while self.done < end:
            count = self._file.readinto(self._buffer[:end - self.done])
            if not count:
                raise OSError(errno.EIO, f"file ends at byte {self.done}, {end} expected")
            self._hasher.update(self._buffer[:count])
            self.done += count

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()


class Pipeline:
    """Hashes, syncs and closes files behind the caller's back. Leaving it waits for that, or ends it on errors."""

    def __init__(self, algorithm: str, total: int, progress: Progress | None, *, sync: bool = True) -> None:
        self._algorithm, self._total, self._progress, self._sync = algorithm, total, progress, sync
        self._hashing = ThreadPoolExecutor(1, "tfs-digest")
        self._settling = ThreadPoolExecutor(4, "tfs-sync")
        self._hashes: deque[tuple[Future[None], int]] = deque()
        self._settled: deque[Future[None]] = deque()
        self._flushes: dict[int, list[Future[None]]] = {}
        self._open: set[int] = set()
        self._done = 0

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait(pieces=0, files=0)
        finally:
            self._hashing.shutdown(cancel_futures=True)
            self._settling.shutdown(cancel_futures=True)
            for fd in self._open:
                os.close(fd)

    def begin(self, fd: int) -> FileDigest:
        """Take over an open, readable file: the pipeline closes it."""
        self._open.add(fd)
        return FileDigest(fd, self._algorithm)

    def advance(self, file: FileDigest, start: int, end: int) -> None:
        """Hash the bytes from `start` to `end` soon. May wait for earlier pieces; reports progress."""
        self._hashes.append((self._hashing.submit(file.advance, end), end - start))
        self._wait(pieces=PIECES, files=FILES)

    def flush(self, fd: int, start: int, end: int) -> None:
        """Let the disk start on the bytes from `start` to `end`, without waiting; does nothing outside Linux."""
        if self._sync and end > start and hasattr(os, "posix_fadvise"):
            # "Don't need" starts writing dirty pages, and drops only clean ones: these stay.
            future = self._settling.submit(os.posix_fadvise, fd, start, end - start, os.POSIX_FADV_DONTNEED)
            self._flushes.setdefault(fd, []).append(future)

    def finish(self, fd: int) -> None:
        """Make the file durable soon, and close it once it is hashed."""
        first = self._flushes.pop(fd, [])
        if self._hashes:
            first.append(self._hashes[-1][0])
        self._settled.append(self._settling.submit(self._settle, fd, first))
        self._wait(pieces=PIECES, files=FILES)

    def _settle(self, fd: int, first: list[Future[None]]) -> None:
        if self._sync:
            os.fsync(fd)
        for future in first:
            with suppress(CancelledError):  # wait() would never return for a cancelled one
                future.exception()
        self._open.discard(fd)
        os.close(fd)

    def _wait(self, *, pieces: int, files: int) -> None:
        while len(self._hashes) > pieces:
            future, count = self._hashes.popleft()
            future.result()
            self._done += count
            if self._progress:
                self._progress(self._done, self._total)
        while len(self._settled) > files:
            self._settled.popleft().result()


def copy_tree(source: Survey, target: Path, algorithm: str, progress: Progress | None = None) -> dict[str, FileRecord]:
    """Copy what was surveyed into the empty directory `target`, with published modes; all of it is on the disk then.

    Raises RepositoryError if a file changes meanwhile, OSError if the disk refuses.
    """
    target.chmod(DIRECTORY_MODE)
    for name in source.directories:
        (target / name).mkdir()
        (target / name).chmod(DIRECTORY_MODE)
    with Pipeline(algorithm, source.size, progress) as pipeline:
        hashed = {file.name: (file.size, _copy(file, target / file.name, pipeline)) for file in source.files}
    sync_directories(target, source.directories)
    return {name: FileRecord(size, digest.hexdigest()) for name, (size, digest) in hashed.items()}


def digest_tree(tree: Survey, algorithm: str, progress: Progress | None = None, *,
                publish: bool = False) -> dict[str, FileRecord]:
    """Hash what was surveyed, where it is. `publish`: also set published modes and make all of it durable."""
    with Pipeline(algorithm, tree.size, progress, sync=publish) as pipeline:
        hashed = {}
        for file in tree.files:
            fd = _opened(file)
            digest = pipeline.begin(fd)
            if publish:
                os.fchmod(fd, FILE_MODE)
                pipeline.flush(fd, 0, file.size)
            for start in range(0, file.size, PIECE):
                pipeline.advance(digest, start, min(file.size, start + PIECE))
            pipeline.finish(fd)
            hashed[file.name] = (file.size, digest)
    if publish:
        for name in ("", *tree.directories):
            Path(tree.root, name).chmod(DIRECTORY_MODE)
        sync_directories(Path(tree.root), tree.directories)
    return {name: FileRecord(size, digest.hexdigest()) for name, (size, digest) in hashed.items()}


def sync_directories(root: Path, names: list[str]) -> None:
    """Make the entries of `root` and of directories below it durable, children first."""
    for name in (*reversed(names), ""):
        sync_directory(root / name)


def sync_directory(directory: Path) -> None:
    """Make a directory's entries durable. Filesystems that can't are left alone."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)


def _opened(file: SourceFile) -> int:
    """What was surveyed, open to be read; it may have become a link or a pipe since."""
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise _changed(file) from error
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise _changed(file)


def check_unchanged(file: SourceFile, record: FileRecord, algorithm: str) -> None:
    """Raises RepositoryError if a file isn't what was surveyed and then digested, as `record` has it.

    Its bytes are read again only where its times don't tell.
    """
    fd = _opened(file)
    try:
        now = os.fstat(fd)
        same = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (file.size, file.changed, file.touched)
        if same and not file.fresh:
            return
        if now.st_size != record.size:
            raise _changed(file)
        digest = FileDigest(fd, algorithm)
        digest.advance(record.size)
        if digest.hexdigest() != record.digest:
            raise _changed(file)
    finally:
        os.close(fd)


def _copy(file: SourceFile, target: Path, pipeline: Pipeline) -> FileDigest:
    source = _opened(file)
    try:
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        digest = pipeline.begin(fd)
        os.fchmod(fd, FILE_MODE)
        for start in range(0, file.size, PIECE):
            end = min(file.size, start + PIECE)
            _copy_piece(source, fd, start, end, file)
            pipeline.advance(digest, start, end)
            if end % FLUSH == 0:
                pipeline.flush(fd, end - FLUSH, end)
        now = os.fstat(source)
        if (now.st_size, now.st_mtime_ns) != (file.size, file.changed):
            raise _changed(file)
    finally:
        os.close(source)
    pipeline.finish(fd)
    return digest


def _copy_piece(source: int, target: int, start: int, end: int, file: SourceFile) -> None:
    while start < end:
        count = _kernel_copy(source, target, start, end - start)
        if not count:  # can't, or sees the end; reading tells which
            count = os.pwrite(target, os.pread(source, min(end - start, BUFFER), start), start)
        if not count:
            raise _changed(file)
        start += count


def _kernel_copy(source: int, target: int, offset: int, count: int) -> int:
    """Bytes copied without passing through this process, or shared by both files; 0 where that isn't possible."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, target, count, offset, offset)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return 0
        raise


def _changed(file: SourceFile) -> RepositoryError:
    return RepositoryError(f"{file.path} changed while it was being published",
                           hint="wait until whatever writes it is done, then publish again", id="model-changed")
