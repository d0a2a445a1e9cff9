"""run.json: how another process finds a server that was started as a child process, and never a stranger.

A file can be edited, copied and lost; what a process was started with can't be changed from outside. So the same facts
stand in the server's own environment: they prove what the file says, and they are found when the file is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import psutil
from msgspec import Meta

from deploy import files
from deploy.backends.base import ProcessOptions
from deploy.errors import ServerError
from deploy.locks import same_process
from deploy.types import Endpoint

FILE = "run.json"
LOG = "server.log"
MARK, FACTS = "TFS_DEPLOY_RUN", "TFS_DEPLOY_SERVER"  # in the server's environment: its run, and its record as JSON
MOST_BYTES = 1 << 20

_Port = Annotated[int, Meta(ge=0, le=65535)] | None


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """The file's form, and with other defaults that of the environment's."""

    name: str
    kind: str
    run: Annotated[str, Meta(min_length=1)]
    argv: tuple[str, ...]
    host: str
    grpc_port: _Port
    rest_port: _Port
    log: str
    labels: dict[str, str]
    pid: Annotated[int, Meta(ge=1, lt=1 << 31)] = 0
    created: Annotated[float, Meta(ge=0, le=1e11)] = 0.0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One running child process. `created`: seconds since the epoch, as psutil tells it."""

    name: str
    kind: str
    pid: int
    created: float
    run: str
    argv: tuple[str, ...]
    host: str
    grpc_port: int | None
    rest_port: int | None
    log: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def process(self) -> psutil.Process | None:
        """The process if it still runs and is the same one; a reused pid is not, and nobody that only the file names.

        Where its environment can't be read (another user's process) its time and command line have to do: enough to
        look at it, not to end it, see `verified`.
        """
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            environment = _environment(process)
            if environment is not None:
                return process if environment.get(MARK) == self.run and _is_here(process, environment, self) else None
            same = tuple(process.cmdline()[-len(self.argv) + 1:]) == self.argv[1:]
            return process if same and same_process(process, self.created) else None
        return None

    def verified(self, process: psutil.Process) -> bool:
        """Whether the process itself says that it is this server."""
        return (_environment(process) or {}).get(MARK) == self.run

    def options(self, state_dir: Path) -> ProcessOptions:
        """What it was started with, as far as that is needed once it runs."""
        endpoint = Endpoint(self.host, self.grpc_port, self.rest_port)
        return ProcessOptions(self.name, self.argv, endpoint, str(state_dir), self.kind, labels=self.labels)

    def environment(self) -> dict[str, str]:
        """What the process has to be started with."""
        facts = {k: v for k, v in asdict(self).items() if k not in ("pid", "created")}
        return {MARK: self.run, FACTS: json.dumps(facts)}


def _environment(process: psutil.Process) -> dict[str, str] | None:
    """What a process was started with; None if that can't be read."""
    try:
        return process.environ()
    except psutil.AccessDenied:
        return None


def _is_here(process: psutil.Process, environment: Mapping[str, str], record: RunRecord) -> bool:
    """A record that was copied names a server that runs, but another spec's: its own facts say where it belongs.

    Its working directory is its state directory, also after that was moved.
    """
    facts = _facts(environment)
    if facts is None or Path(facts.log).parent == Path(record.log).parent:
        return True
    with suppress(psutil.Error, OSError):
        return Path(process.cwd()).samefile(Path(record.log).parent)
    return False


def _facts(environment: Mapping[str, str]) -> _File | None:
    try:
        return msgspec.json.decode(environment[FACTS], type=_File)
    except (KeyError, ValueError, RecursionError):
        return None


def search(name: str, state_dir: Path) -> RunRecord | None:
    """The server of this name and state directory among this user's processes, whatever became of its record."""
    here = os.path.realpath(state_dir)
    for process, facts in _servers():
        if facts.name == name and os.path.realpath(Path(facts.log).parent) == here:
            with suppress(psutil.Error):
                return _record(facts, process.pid, process.create_time(), state_dir)
    return None


def _servers() -> Iterator[tuple[psutil.Process, _File]]:
    """All processes that were started as servers, without those that they started themselves."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) != process.pid or process.status() == psutil.STATUS_ZOMBIE:
                continue
            facts = _facts(_environment(process) or {})
            if facts is not None:
                yield process, facts


def _record(file: _File, pid: int, created: float, state_dir: Path) -> RunRecord:
    return RunRecord(file.name, file.kind, pid, created, file.run, file.argv, file.host, file.grpc_port,
                     file.rest_port, str(state_dir / LOG), file.labels)


def write(record: RunRecord, state_dir: Path) -> None:
    """Write run.json by one rename. Raises ServerError, and leaves nothing then."""
    path = state_dir / FILE
    part = path.with_suffix(f".{os.getpid()}")
    try:
        part.write_text(json.dumps({"format": 1, **asdict(record)}, indent=1) + "\n")
        part.replace(path)
    except OSError as e:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise ServerError(f"can't write the run record {path}: {e.strerror or e}", id="run-record") from None


def read(state_dir: Path) -> RunRecord | None:
    """The record of a state directory; None if there is none. Raises ServerError for one that can't be read."""
    path = state_dir / FILE
    try:
        file = msgspec.json.decode(files.read_bytes(path, MOST_BYTES, follow=False), type=_File)
        if not file.pid:
            raise ValueError("it names no process")
        return _record(file, file.pid, file.created, state_dir)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else f"{type(e).__name__}: {e}"
        raise ServerError(f"can't read the run record {path}: {why}",
                          hint="none of this user's processes is its server; if ps shows none either, remove the file",
                          id="run-record") from None


def remove(state_dir: Path, run: str) -> None:
    """Remove run.json if it is that of this run, so that a newer server's record stays; or if it can't be read."""
    with suppress(ServerError):
        record = read(state_dir)
        if record is None or record.run != run:
            return
    with suppress(OSError):  # a directory that is read-only by now; nobody takes a stale record for a server
        (state_dir / FILE).unlink(missing_ok=True)
