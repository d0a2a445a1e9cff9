"""One change at a time per server: `up`, `down`, a rollout."""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import psutil

from deploy.errors import LockHeld, ServerError

FILE = "lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# A process's creation time is derived from the boot time, which follows corrections of the clock
_CLOCK_TOLERANCE = 2.0


@contextmanager
def locked(state_dir: Path, why: str) -> Iterator[None]:
    """Hold the server's lock; the system gives it back even if this process is killed. Raises LockHeld at once.

    Where the filesystem knows no locks, the holder that is written down counts as long as its process lives on this
    host. Raises ServerError if the directory can't be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(state_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as e:
        what = f"{state_dir / FILE} is a link" if e.errno == errno.ELOOP else e.strerror or e
        raise ServerError(f"can't keep the server's state in {state_dir}: {what}",
                          hint="name a directory that can be written: `state` in the spec, or TFS_STATE_DIR") from None
    with os.fdopen(handle, "r+") as file:
        _take(file, state_dir)
        try:
            _write(file, {**whoami(), "since": _now(), "why": why})
            yield
        finally:
            _write(file, None)


def whoami() -> dict[str, Any]:
    """This process, as locks and ledger lines name it: by, host, pid, created."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, in a container
        user = f"uid {os.getuid()}"
    host = socket.gethostname()
    return {"by": f"{user}@{host} (process {os.getpid()})", "host": host, "pid": os.getpid(),
            "created": psutil.Process().create_time()}


def alive(holder: dict[str, Any]) -> bool:
    """Whether the process that `whoami` described may still run: on another host nobody can know, so it does."""
    if holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        process = psutil.Process(int(holder["pid"]))
        same = abs(process.create_time() - float(holder["created"])) <= _CLOCK_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError, TypeError):
        return False


def _take(file: IO[str], state_dir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held(_read(file), state_dir) from None
    except OSError as e:
        if e.errno not in _UNSUPPORTED:
            raise ServerError(f"can't lock {state_dir / FILE}: {e.strerror or e}") from None
        holder = _read(file)
        if alive(holder):
            raise _held(holder, state_dir) from None


def _read(file: IO[str]) -> dict[str, Any]:
    try:
        file.seek(0)
        return dict(json.loads(file.read()))
    except (ValueError, TypeError, OSError, RecursionError):
        return {}


def _write(file: IO[str], holder: dict[str, Any] | None) -> None:
    """Who has the lock, or nobody. It is only told to others: a full disk doesn't matter."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        if holder is not None:  # past the file object: closing it would write what stays in its buffer, and fail again
            os.pwrite(file.fileno(), json.dumps(holder).encode(), 0)


def _held(holder: dict[str, Any], state_dir: Path) -> LockHeld:
    by, since, why = (str(holder.get(k, "unknown")) for k in ("by", "since", "why"))
    return LockHeld(f"{by} is busy with `{why}` of {state_dir.name!r} since {since}", by=by, since=since, why=why,
                    hint="wait until it is done, or stop that process")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
