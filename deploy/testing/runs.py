"""A test session and the servers that it started: they end with the process that owns it, however that ends.

Each run has a directory below `root()` with an owner, and in it one state directory per server. The owner ends its run;
a watcher does if the owner was killed; `tfs down --leftovers` does if both were.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from deploy import files, serving
from deploy.backends.process_server import let_go
from deploy.errors import DeployError, LockHeld, ServerError
from deploy.locks import Owner, locked
from deploy.render import write
from deploy.spec import ServerPart, SmokePart, Spec
from deploy.waiting import Deadline, poll

OWNER, SPEC = "owner.json", "server.json"
_PLACE = "TFS_RUNS_DIR"
_MOST_BYTES = 1 << 20
_ENDING = 60.0  # seconds for somebody else who ends the same run
_WATCHER = "deploy.testing.watcher"

T = TypeVar("T")


def root() -> Path:
    """Where runs are kept: TFS_RUNS_DIR, or a directory of this user below the system's temporary one.

    Made if it isn't there. Raises ServerError if it is somebody else's, or others may write to it.
    """
    place = Path(os.environ.get(_PLACE) or Path(tempfile.gettempdir()) / f"tfs-runs-{os.getuid()}").absolute()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.lstat()
    except OSError as e:
        raise ServerError(f"can't keep test servers in {place}: {files.reason(e)}",
                          hint=f"name a directory that can be written: {_PLACE}", id="state-directory") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise ServerError(f"can't keep test servers in {place}: it has to be a directory that only you can write to",
                          hint=f"remove it, or name another one: {_PLACE}", id="state-directory")
    return place


@dataclass(frozen=True, slots=True)
class TestRun:
    """One test session. directory: `<root>/<id>`, which holds its servers' state. owner: the process that it ends with.
    """

    directory: Path
    owner: Owner

    @property
    def id(self) -> str:
        return self.directory.name

    @classmethod
    def begin(cls, id: str = "", pid: int = 0) -> TestRun:
        """A new run, or the one with this id that another worker has begun. pid: of its owner, by default this process.

        Raises ServerError if the directory can't be used.
        """
        owner = Owner.here("tests")
        if pid and pid != owner.pid:
            owner = replace(owner, by=f"process {pid}", pid=pid, created=psutil.Process(pid).create_time())
        directory = root() / (id or uuid.uuid4().hex)
        directory.mkdir(mode=0o700, exist_ok=True)
        if not (directory / OWNER).exists():
            write({OWNER: json.dumps(owner.to_json())}, directory)
            _watch(directory)
        return cls(directory, owner)

    @classmethod
    def read(cls, directory: Path) -> TestRun | None:
        """The run in a directory; None if it isn't one, or was given up before it had an owner."""
        try:
            return cls(directory, Owner.from_json(json.loads(_text(directory / OWNER))))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    @property
    def alive(self) -> bool:
        """Whether the owner still runs and hasn't ended its run."""
        return (self.directory / OWNER).exists() and _lives(self.owner)

    def remember(self, spec: Spec) -> None:
        """Called before a server is started, so that it is ended whatever happens."""
        write({SPEC: json.dumps({"name": spec.name, "backend": spec.server.backend})}, spec.state_dir)

    def servers(self) -> Iterator[Spec]:
        """The servers that were started: specs that are enough to stop them, without models."""
        for place in sorted(self.directory.glob(f"*/{SPEC}")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                record = json.loads(_text(place))
                yield Spec(name=record["name"], path=place, repository=place.parent, models=(), smoke=SmokePart(),
                           server=ServerPart(backend=record["backend"], drain=0), state=self.directory)

    def end(self) -> list[str]:
        """Stop what was started, and remove the directory. Done twice is no error. The names of the stopped servers.

        Raises DeployError if a server can't be stopped, once the others are; the directory is kept then. Its
        details["stopped"] has the names of the others.
        """
        deadline, stopped = Deadline(_ENDING), list[str]()

        def ended() -> None:
            if self.directory.exists():
                with locked(self.directory, "ending a test run"):
                    errors = list[DeployError]()
                    for spec in self.servers():
                        try:  # one may just be starting, by a worker that is ending itself
                            if once_free(partial(serving.down, spec), deadline):
                                stopped.append(spec.name)
                        except DeployError as e:
                            errors.append(e)
                    if errors:
                        errors[0].details["stopped"] = stopped
                        raise errors[0]
                    shutil.rmtree(self.directory, ignore_errors=True)

        once_free(ended, deadline)
        return stopped


def leftovers() -> list[TestRun]:
    """Runs whose owner is gone."""
    runs = ((place, TestRun.read(place)) for place in sorted(root().iterdir()) if place.is_dir())
    return [run for place, run in runs if run is not None and not _lives(run.owner)]


def once_free(operation: Callable[[], T], deadline: Deadline) -> T:
    """What the operation returns, once nobody else holds the lock that it takes. Raises LockHeld after the deadline."""
    def attempt() -> tuple[T] | None:
        with suppress(LockHeld):
            return (operation(),)
        return None

    done = poll(attempt, deadline)
    return operation() if done is None else done[0]


def _text(path: Path) -> bytes:
    return files.read_bytes(path, _MOST_BYTES, follow=False)


def _watch(directory: Path) -> None:
    """Start the process that ends the run if its owner can't."""
    # In the run's directory: Python looks there first, and a test's own may have a package of any name
    with (directory / "watcher.log").open("wb") as log:
        let_go(subprocess.Popen([sys.executable, "-m", _WATCHER, str(directory)], start_new_session=True,
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory))


def _lives(owner: Owner) -> bool:
    """These directories are this machine's: what was begun before it was started again is over."""
    return owner.alive and not owner.before_boot
