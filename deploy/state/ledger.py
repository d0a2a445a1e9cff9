"""The ledger: one JSON object per line, only ever appended, on the disk before anyone goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from deploy import files
from deploy.errors import RolloutError
from deploy.leases import LOST, check_held
from deploy.state.lines import Line, parsed
from deploy.state.release import portable

FILE = "ledger.jsonl"
_LITTLE = 1 << 15  # bytes
_MOST = 1 << 28  # bytes; a release writes about two thousand


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


_listener: ContextVar[Callable[[Line], None] | None] = ContextVar("_listener", default=None)


@contextmanager
def listening(listener: Callable[[Line], None]) -> Iterator[None]:
    """Whoever appends to a ledger in this thread meanwhile, `listener` gets each line once it is written."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def current_listener() -> Callable[[Line], None] | None:
    """Who listens in this thread."""
    return _listener.get()


_Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Known:
    """Lines as they were read last, and the file that they were in, as it was then."""

    file: _Identity | None = None
    lines: tuple[Line, ...] = ()

    @staticmethod
    def identity(status: os.stat_result) -> _Identity:
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Ledger:
    """What happened to a server's models. Whoever appends holds the server's lock.

    What was read is kept, and read again once the file is another one than it was. now: the wall clock, for the lines'
    `at`. shared: operators on several machines read it. before: the directory of the one that is gone on with, if there
    is none yet.
    """

    def __init__(self, state_dir: Path, *, now: Callable[[], datetime] = utc_now, shared: bool = False,
                 before: Path | None = None) -> None:
        self.path, self._now, self._shared = state_dir / FILE, now, shared
        self._before = before / FILE if before else None
        self.where = str(self.path)  # for people
        self._known = _Known()

    def append(self, event: str, **fields: Any) -> Line:
        """Write one line and sync it. Raises RolloutError if it can't be written: then it doesn't count; or if the lock
        under which this is done is lost."""
        check_held()
        if self._shared and "spec" in fields:
            fields["spec"] = portable(fields["spec"])
        line: Line = {"at": self._now().isoformat(timespec="milliseconds"), "event": event, **fields}
        try:
            self._write(json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n")
        except OSError as e:
            raise RolloutError(f"can't write the ledger {self.where}: {e.strerror or e}",
                               hint="make room, or check who owns the directory", id="ledger-unusable") from e
        if (listener := current_listener()) is not None:
            listener(line)
        return line

    def _write(self, data: bytes) -> None:
        new = not self.path.exists()
        data = self._old() + data if new else data
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
                     0o644)
        try:
            before = os.fstat(fd)
            files.check_regular(before, self.path)
            size = before.st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":  # torn by a crash: the next line stands for itself
                data = b"\n" + data
            written = os.write(fd, data)
            if written != len(data):
                os.write(fd, data[written:])  # raises what is wrong: no space left
            os.fsync(fd)
            self._known = self._known_after(data, before, os.fstat(fd))
        finally:
            os.close(fd)
        if new:
            _sync(self.path.parent)

    def _known_after(self, data: bytes, before: os.stat_result, now: os.stat_result) -> _Known:
        """What is known of the file once a line was added."""
        if self._known.file != _Known.identity(before) or now.st_size != before.st_size + len(data):
            return _Known()
        line = parsed(data.strip())
        return _Known(_Known.identity(now), (*self._known.lines, *([line] if line is not None else [])))

    def forget(self) -> None:
        """Keep nothing of what was read, unless it is little."""
        if self._known.file is not None and self._known.file[1] > _LITTLE:
            self._known = _Known()

    def read(self) -> list[Line]:
        """All whole lines, oldest first; none if there is no ledger.

        Raises RolloutError if it can't be read, or names the line that isn't one of ours: it may be the one that says
        what is known to be good, so it isn't passed over.
        """
        try:
            now = _Known.identity(self.path.stat(follow_symlinks=False))
            if now == self._known.file:
                return list(self._known.lines)
            data = files.read_bytes(self.path, _MOST, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            return self._lines(self._old())
        except OSError as e:
            raise RolloutError(f"can't read the ledger {self.where}: {files.reason(e)}",
                               hint="it is a file that tfs writes; move away what lies there",
                               id="ledger-unusable") from e
        lines = self._lines(data)
        self._known = _Known(now, tuple(lines))
        return lines

    def _old(self) -> bytes:
        """The one that is gone on with."""
        with suppress(OSError):
            return files.read_bytes(self._before, _MOST, follow=False) if self._before else b""
        return b""

    def _lines(self, data: bytes) -> list[Line]:
        lines = []
        for number, text in enumerate(data.split(b"\n"), 1):
            try:
                line = parsed(text)
            except msgspec.ValidationError as e:
                raise RolloutError(f"line {number} of the ledger {self.where} is damaged: {e}",
                                   hint="restore the file, or remove that line if what it tells is of no use",
                                   id="ledger-damaged") from None
            if line is not None:
                lines.append(line)
        return lines


def append_if_possible(ledger: Ledger, event: str, *, lenient: bool, tell: Callable[[str], None], **fields: Any
                       ) -> Line:
    """As `ledger.append`. lenient: on the way back what can't be written (a full disk) is told, and stops nobody: the
    line is given as it would have been written. A lock that is lost stops everybody."""
    try:
        return ledger.append(event, **fields)
    except RolloutError as e:
        if e.id == LOST or not lenient:
            raise
        tell(e.message)
        return {"at": utc_now().isoformat(timespec="milliseconds"), "event": event, **fields}


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
