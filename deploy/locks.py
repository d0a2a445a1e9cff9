"""Locks between processes: they end with their holder, however it ends (flock); and who holds one, since when, and why.

A server's state directory has one for whole operations (`locked`), a repository one per model for milliseconds, and
each stage in it one for as long as its publisher lives.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import files, lazy
from deploy.errors import LockHeld, ServerError

if TYPE_CHECKING:
    import psutil
else:
    psutil = lazy.load("psutil")  # 30 ms, and a listing needs no lock

FILE = "lock"
_MOST = 4096  # bytes of a file that names an owner
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# A process's creation time is derived from the boot time, which follows corrections of the clock
_CLOCK_TOLERANCE = 2.0


def load() -> None:
    """Load now what else is loaded when it is first used: several threads must not begin that at the same time."""
    psutil.Process  # noqa: B018


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that changes something. by: as people read it. created: seconds since the epoch, as psutil tells it.

    since: ISO 8601, UTC. why: the operation. machine: see `this_machine`; "" if an earlier release wrote it.
    """

    by: str
    host: str
    pid: int
    created: float
    since: str = ""
    why: str = ""
    machine: str = ""

    def __str__(self) -> str:
        return self.by

    @classmethod
    def here(cls, why: str = "") -> Owner:
        """This process, from now on."""
        return replace(_process(os.getpid()), since=datetime.now(timezone.utc).isoformat(timespec="seconds"), why=why)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Owner:
        """What `to_json` gave, of this release or an earlier one. Raises KeyError, TypeError, ValueError."""
        return cls(str(data["by"]), str(data["host"]), int(data["pid"]), float(data["created"]),
                   str(data.get("since", "")), str(data.get("why", "")), str(data.get("machine", "")))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def on_this_host(self) -> bool:
        """Whether its process can be seen from here. Two machines may have one name: CI runners do."""
        return self.machine == this_machine() if self.machine else self.host == socket.gethostname()

    @property
    def before_boot(self) -> bool:
        """Whether it ran here before this machine was started again, as far as the host's name tells."""
        return self.host == socket.gethostname() and bool(self.machine) and _boot(self.machine) != _boot(this_machine())

    @property
    def alive(self) -> bool:
        """Whether it may still run: on another host nobody can know, so it does."""
        if not self.on_this_host:
            return True
        try:
            process = psutil.Process(self.pid)
            return same_process(process, self.created) and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return False


@lru_cache(1)
def _process(pid: int) -> Owner:
    """This process, which is asked for in each line of a ledger. pid: its own; another one after a fork."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, in a container
        user = f"uid {os.getuid()}"
    host = socket.gethostname()
    return Owner(f"{user}@{host} (process {pid})", host, pid, psutil.Process(pid).create_time(), machine=this_machine())


def this_machine() -> str:
    """Where process numbers mean the same processes as here: one start of one kernel, one space of process numbers."""
    try:
        return f"{boot_id()} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # another system than Linux: the name, and an address of its network card
        return f"{socket.gethostname()}/{uuid.getnode():x} 0"


def boot_id() -> str:
    """Names this start of this kernel, which containers share. Raises OSError on another system than Linux."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _boot(machine: str) -> str:
    return machine.partition(" ")[0]


def whoami() -> dict[str, Any]:
    """This process, as ledger lines name it: by, host, pid, created."""
    owner = Owner.here().to_json()
    return {name: owner[name] for name in ("by", "host", "pid", "created")}


def same_process(process: psutil.Process, created: float) -> bool:
    """Whether a process is the one that was created then, and no later one with its number. Raises psutil.Error."""
    return abs(process.create_time() - created) <= _CLOCK_TOLERANCE


@contextmanager
def locked(state_dir: Path, why: str) -> Iterator[None]:
    """Hold a server's lock, one change at a time: `up`, `down`, a rollout. Raises LockHeld at once.

    The system gives it back even if this process is killed. Where the filesystem knows no locks, the holder that is
    written down counts as long as its process lives on this host. Raises ServerError if the directory can't be written.
    """
    where = state_dir / FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        fd = opened(state_dir, FILE)
    except OSError as e:
        raise ServerError(f"can't keep the server's state in {state_dir}: {where}: {files.reason(e)}",
                          hint="name a directory that can be written: `state` in the spec, or TFS_STATE_DIR",
                          id="state-directory") from None
    try:
        try:
            taken = try_lock(fd)
        except OSError as e:
            raise ServerError(f"can't lock {where}: {files.reason(e)}", id="state-directory") from None
        holder = None if taken else _read(fd)
        if taken is False or (holder is not None and holder.alive):
            raise _held(holder, state_dir, by_system=taken is False)
        _write(fd, Owner.here(why))
        try:
            yield
        finally:
            _write(fd, None)
    finally:
        os.close(fd)


def holder(state_dir: Path) -> Owner | None:
    """Who changes a server right now, as far as it is written down; None if nobody does. Nothing is locked for it."""
    try:
        fd = os.open(state_dir / FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        owner = _read(fd)
    finally:
        os.close(fd)
    return owner if owner is not None and owner.alive else None


def try_lock(fd: int) -> bool | None:
    """Lock an open file: whether it is ours now; None where the filesystem knows no locks. Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def wait_lock(fd: int) -> None:
    """Lock an open file once nobody else has it; at once where the filesystem knows no locks. Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def opened(directory: Path, name: str, *, follow: bool = True, mode: int = 0o644) -> int:
    """A lock's file, which others may have written to before us: links aren't followed, nor is anything else taken.

    follow: whether `directory` may be a link. Raises OSError.
    """
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=parent)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else files.reason(error)
        raise OSError(error.errno, why, str(directory / name)) from error
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


def _read(fd: int) -> Owner | None:
    try:
        return Owner.from_json(json.loads(os.pread(fd, _MOST, 0)))
    except (ValueError, TypeError, KeyError, OSError, RecursionError):
        return None


def _write(fd: int, owner: Owner | None) -> None:
    """Who has the lock, or nobody. It is only told to others: a full disk doesn't matter."""
    with suppress(OSError):
        os.ftruncate(fd, 0)
        if owner is not None:
            os.pwrite(fd, json.dumps(owner.to_json()).encode(), 0)


def _held(holder: Owner | None, state_dir: Path, *, by_system: bool) -> LockHeld:
    """by_system: the system says that it is held, so that its process lives."""
    hint = "wait until it is done, or stop that process"
    if not by_system and holder is not None and not holder.on_this_host:
        hint = f"wait until it is done; if nothing of it runs there any more, remove {state_dir / FILE}"
    by, since, why = (holder.by, holder.since, holder.why) if holder else ("unknown",) * 3
    return LockHeld(f"another operation holds the lock of {state_dir.name!r}: `{why}` by {by}, since {since}", by=by,
                    since=since, why=why, hint=hint, id="state-directory")
