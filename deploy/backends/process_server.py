"""Any binary that takes tensorflow_model_server's flags, as a child process that may outlive us."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from deploy.backends import record
from deploy.backends.base import Inspected, MemoryUse, ProcessOptions, Replica, Scoped, described, reachable
from deploy.backends.ports import listened
from deploy.backends.record import RunRecord
from deploy.errors import BackendMissing, ServerError, StartFailed
from deploy.types import Endpoint

_TAIL_BYTES = 1 << 18
_outliving: list[subprocess.Popen[bytes]] = []


def let_go(child: subprocess.Popen[bytes]) -> None:
    """It outlives this process, on purpose: nothing has to warn that nobody waits for it."""
    _outliving[:] = [*(other for other in _outliving if other.poll() is None), child]


@atexit.register
def _forget() -> None:
    for child in _outliving:
        child.returncode = child.returncode or 0


class ProcessServer(Scoped):
    """A server in a session of its own, so that a terminal's Ctrl-C or hang-up doesn't reach it. See base.Server."""

    def __init__(self, options: ProcessOptions, *, found: RunRecord | None = None) -> None:
        """found: the record of a server that runs already (see find)."""
        self.options = options
        self._state = Path(options.state_dir)
        self._record = found
        self._child: subprocess.Popen[bytes] | None = None
        self._detached = found is not None

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def kind(self) -> str:
        return self.options.kind

    @property
    def argv(self) -> tuple[str, ...]:
        return self.options.argv

    @property
    def labels(self) -> Mapping[str, str]:
        return self.options.labels

    @property
    def endpoint(self) -> Endpoint:
        return reachable(self.options.endpoint, self.options.labels)

    @property
    def log(self) -> Path:
        """Where stdout and stderr go."""
        return self._state / record.LOG

    def start(self) -> Endpoint:
        if self._record is not None:
            raise ServerError(f"server {self.name!r} was started before", argv=self.argv, id="started-before")
        program, e = _program(self.argv[0]), self.options.endpoint
        planned = RunRecord(self.name, self.kind, 0, 0.0, uuid.uuid4().hex, self.argv, e.host, e.grpc_port, e.rest_port,
                            str(self.log), dict(self.labels))
        with uninterrupted():
            self._child = self._spawn(program, planned)
            try:
                self._remember(planned)
            except BaseException:
                self._child.kill()
                self._child.wait()
                raise
        return self.endpoint

    def _spawn(self, program: str, planned: RunRecord) -> subprocess.Popen[bytes]:
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            log = self.log.open("wb")
        except OSError as e:
            raise ServerError(f"can't write {self.log}: {e.strerror or e}", argv=self.argv,
                              id="state-directory") from None
        try:
            with log:
                return subprocess.Popen(
                    [program, *self.argv[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    start_new_session=True, cwd=self._state,
                    env={**os.environ, **self.options.environment, **planned.environment()})
        except OSError as e:
            raise StartFailed(f"{program} can't be run: {e.strerror or e}", argv=self.argv,
                              hint="is it an executable for this machine?", id="program-missing") from None

    def _remember(self, planned: RunRecord) -> None:
        assert self._child is not None
        try:
            created = psutil.Process(self._child.pid).create_time()
        except psutil.Error:
            created = 0.0  # ended already; the child object knows its exit code
        self._record = replace(planned, pid=self._child.pid, created=created)
        record.write(self._record, self._state)

    def _process(self) -> psutil.Process | None:
        """The running process: our own child, or by identity."""
        if self._child is None:
            return self._record.process() if self._record is not None else None
        if self._child.poll() is not None:
            return None
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._child.pid)
        return None

    def detach(self) -> None:
        super().detach()
        if self._child is not None:
            let_go(self._child)

    def instance(self) -> str | None:
        return self._record.run if self._record is not None and self.alive() else None

    def alive(self) -> bool:
        return self._process() is not None

    def returncode(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def listening(self) -> frozenset[int]:
        process = self._process()
        return listened(_family(process)) if process else frozenset()

    def logs(self, tail: int = 50) -> str:
        return tail_of(self.log, tail)

    def replicas(self) -> tuple[Replica, ...]:
        return (Replica(self.name, self.endpoint),) if self.alive() else ()

    def inspect(self, tail: int) -> Inspected:
        return Inspected(self.name, self.argv, self.alive(), self.returncode(), self.logs(tail))

    def missing(self, paths: Sequence[str]) -> list[str]:
        return [path for path in paths if not os.access(path, os.R_OK)]

    def memory(self) -> MemoryUse | None:
        process = self._process()
        if process is None:
            return None
        with suppress(psutil.Error):
            used = sum(p.memory_info().rss for p in _family(process))
            return MemoryUse(used, used + psutil.virtual_memory().available)
        return None

    def stop(self, grace: float = 10.0) -> None:
        process = self._process()
        if process is not None:
            if self._child is None and self._record is not None and not self._record.verified(process):
                raise ServerError(f"process {process.pid} can't be shown to be {self.name}: its environment isn't "
                                  "readable for this user", hint="end it as the user who started it", id="run-record")
            family = _family(process)
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            if not self._ended(process, grace):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                self._ended(process, grace=5.0)
            _kill([p for p in family if p != process])
        if self._record is not None:
            record.remove(self._state, self._record.run)

    def _ended(self, process: psutil.Process, grace: float) -> bool:
        """Whether it ended within `grace` seconds; our own child is reaped."""
        try:
            if self._child is not None:
                self._child.wait(grace)
            else:
                process.wait(grace)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        return True

    def describe(self) -> dict[str, Any]:
        run, process = self._record, self._process()
        since = datetime.fromtimestamp(run.created, timezone.utc).isoformat() if run and run.created else None
        return {**described(self, running=process is not None, since=since),
                "pid": process.pid if process else None, "log": str(self.log)}


def find(name: str, state_dir: str | Path, kind: str) -> ProcessServer | None:
    """The running server of a state directory: by its record, or among the processes if that is lost or wrong.

    kind: the backend's name; servers of another one aren't found. Raises ServerError for an unreadable record, if no
    such server runs.
    """
    state, unreadable = Path(state_dir), None
    try:
        run = record.read(state)
    except ServerError as e:
        run, unreadable = None, e
    if run is None or run.process() is None:
        run = record.search(name, state)
    if run is None and unreadable is not None:
        raise unreadable
    return ProcessServer(run.options(state), found=run) if run is not None and run.kind == kind else None


def forget(state_dir: str | Path) -> None:
    """Remove the record of a server that ended by itself."""
    run = record.read(Path(state_dir))
    if run is not None and run.process() is None:
        record.remove(Path(state_dir), run.run)


def tail_of(log: Path, lines: int) -> str:
    """The last lines of a log file; empty if there is no file."""
    try:
        with os.fdopen(os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as f:  # never waits for a pipe
            f.seek(max(0, f.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = f.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        why = f"{name} is no file that can be executed" if os.sep in name and Path(name).exists() else \
            f"there is no program {name!r}" + ("" if os.sep in name else " on PATH")
        raise BackendMissing(
            why,
            hint="set server/binary to a tensorflow_model_server, or use another backend: container or embedded",
            id="program-missing")
    return str(Path(path).absolute())


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def _kill(processes: list[psutil.Process]) -> None:
    """End what a wrapper script left behind. psutil checks each one's identity before it signals."""
    for p in processes:
        with suppress(psutil.NoSuchProcess):
            p.terminate()
    for p in psutil.wait_procs(processes, timeout=1.0)[1]:
        with suppress(psutil.NoSuchProcess):
            p.kill()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back while a child runs that isn't written down yet, or where the interpreter would lose it: in
    imports, whose garbage collection drops what is raised in it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        held.append(number)

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
        if held and callable(before):  # at once, here: raised as a signal it may end in some object's destructor
            before(signal.SIGINT, None)
        elif held:
            signal.raise_signal(signal.SIGINT)
