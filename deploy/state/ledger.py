"""The ledger: one JSON object per line, only ever appended, on the disk before anyone goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from deploy import files
from deploy.errors import RolloutError

FILE = "ledger.jsonl"
LOCK_LOST = "lock-lost"  # id of the error of a ledger whose lock somebody else has by now
_MOST = 1 << 28  # bytes; a release writes about two thousand
Line = dict[str, Any]


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


class Ledger:
    """What happened to a server's models. Whoever appends holds the server's lock.

    now: the wall clock, for the lines' `at`.
    """

    def __init__(self, state_dir: Path, *, now: Callable[[], datetime] = utc_now) -> None:
        self.path, self._now = state_dir / FILE, now

    def append(self, event: str, **fields: Any) -> Line:
        """Write one line and sync it. Raises RolloutError if it can't be written: then it doesn't count."""
        line: Line = {"at": self._now().isoformat(timespec="milliseconds"), "event": event, **fields}
        try:
            self._write(json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n")
        except OSError as e:
            raise RolloutError(f"can't write the ledger {self.path}: {e.strerror or e}",
                               hint="make room, or check who owns the directory", id="ledger-unusable") from e
        if (listener := current_listener()) is not None:
            listener(line)
        return line

    def _write(self, data: bytes) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
                     0o644)
        try:
            files.check_regular(os.fstat(fd), self.path)
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":  # torn by a crash: the next line stands for itself
                data = b"\n" + data
            written = os.write(fd, data)
            if written != len(data):
                os.write(fd, data[written:])  # raises what is wrong: no space left
            os.fsync(fd)
        finally:
            os.close(fd)
        if new:
            _sync(self.path.parent)

    def read(self) -> list[Line]:
        """All whole lines, oldest first; none if there is no ledger.

        Raises RolloutError if it can't be read, or names the line that isn't one of ours: it may be the one that says
        what is known to be good, so it isn't passed over.
        """
        try:
            data = files.read_bytes(self.path, _MOST, follow=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as e:
            raise RolloutError(f"can't read the ledger {self.path}: {files.reason(e)}",
                               hint="it is a file that tfs writes; move away what lies there",
                               id="ledger-unusable") from e
        return self._lines(data)

    def _lines(self, data: bytes) -> list[Line]:
        lines = []
        for number, text in enumerate(data.split(b"\n"), 1):
            try:
                line = _parsed(text)
            except msgspec.ValidationError as e:
                raise RolloutError(f"line {number} of the ledger {self.path} is damaged: {e}",
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
        if e.id == LOCK_LOST or not lenient:
            raise
        tell(e.message)
        return {"at": utc_now().isoformat(timespec="milliseconds"), "event": event, **fields}


class _Serving(msgspec.Struct):
    versions: list[int]
    labels: dict[str, int]


class _Event(msgspec.Struct):
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    release: str | None = None


class _Begin(_Event, kw_only=True):
    release: str
    model: str
    kind: Literal["rollout", "rollback"]
    version: int
    before: _Serving
    goal: _Serving
    by: dict[str, Any]
    note: str = ""
    options: dict[str, Any] = {}


class _Passed(_Event, kw_only=True):
    check: str


class _Pause(_Event, kw_only=True):
    before: str


class _Go(_Event, kw_only=True):
    by: dict[str, Any]
    steps: list[str] = []


class _Undo(_Event, kw_only=True):
    reason: str


class _End(_Event, kw_only=True):
    outcome: Literal["done", "undone"]
    reason: str = ""


class _KnownGood(_Event, kw_only=True):
    model: str
    serving: _Serving


class _FleetBegin(_Event, kw_only=True):
    release: str
    model: str
    kind: Literal["rollout", "rollback"]
    version: int
    waves: list[list[str]]
    before: dict[str, _Serving]
    by: dict[str, Any]
    home: dict[str, int] = {}
    note: str = ""
    options: dict[str, Any] = {}
    pauses: list[int] = []


class _FleetJoin(_Event, kw_only=True):
    server: str
    before: _Serving


class _FleetApply(_Event, kw_only=True):
    do: str
    servers: list[str]


class _FleetPause(_Event, kw_only=True):
    wave: int


class _FleetGo(_Event, kw_only=True):
    by: dict[str, Any]
    waves: list[int] = []


class _FleetEnd(_End, kw_only=True):
    missing: list[str] = []


_EVENTS: dict[str, type[_Event]] = {
    "begin": _Begin, "passed": _Passed, "pause": _Pause, "go": _Go, "undo": _Undo, "end": _End,
    "known_good": _KnownGood, "started": _KnownGood, "fleet_begin": _FleetBegin, "fleet_join": _FleetJoin,
    "fleet_apply": _FleetApply, "fleet_pause": _FleetPause, "fleet_go": _FleetGo, "fleet_undo": _Undo,
    "fleet_end": _FleetEnd, "fleet_known_good": _KnownGood}

_RENAMED = {"proven": "known_good", "soak": "bake_before", "hold": "bake_after"}
"""Events and checks by the names that lines of earlier releases have."""


def _parsed(text: bytes) -> Line | None:
    """A line, or None for one that was torn. Raises msgspec.ValidationError for a whole one with wrong fields."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or "event" not in line:
        return None
    line = _renamed(line)
    event = line["event"]
    msgspec.convert(line, _EVENTS.get(event, _Event) if isinstance(event, str) else _Named)
    return line


def _renamed(line: Line) -> Line:
    """A line of any release in today's words: `known_good` was called `proven`, bake times `soak` and `hold`."""
    changed = {"event": _today(line["event"])}
    for field in ("check", "before", "steps"):
        if isinstance(line.get(field), str | list):
            changed[field] = _today(line[field])
    if isinstance(options := line.get("options"), dict):
        changed["options"] = {_today(name): _today(value) if name in ("trial", "after", "pauses") else value
                              for name, value in options.items()}
    return {**line, **changed}


def _today(name: Any) -> Any:
    if isinstance(name, list):
        return [_today(part) for part in name]
    return _RENAMED.get(name, name) if isinstance(name, str) else name


class _Named(_Event, kw_only=True):
    event: str


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
