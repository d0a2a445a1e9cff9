"""The processes that an export starts, and their temporary directories, which outlive no export for long.

The fresh process that has to answer as the live object did, and the one that converts to TFLite: neither can hurt the
process of the user. Not even an export that was killed leaves its directory behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import deploy
from deploy import locks
from deploy.engine import replay
from deploy.errors import ExportError
from deploy.goldens import Golden
from deploy.wire.dtypes import Arrays

PREFIX = "tfs-export-"
_LOCK = ".lock"
_SETTLED = 60.0  # seconds after which whoever made a directory has locked it, too
_LOG_TAIL = 4000  # characters

Answers = Sequence[Arrays]


class Replay:
    """The fresh process. Start it early: it opens TensorFlow's library while the model is traced and saved.

    Use it in a `with`: leaving it ends the process.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.engine.replay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment())

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, model: Path, cases: Sequence[Golden], tags: Sequence[str] = ("serve",)) -> tuple[Answers, Answers]:
        """The saved model's answers to all cases, and once more the same. At most one call.

        tags: of its graph. Raises ExportError if it can't be loaded, refuses a request, or ends the process.
        """
        with directory() as place:
            requests, answers = place / "requests", place / "answers"
            replay.write_requests(requests, ((case.signature, case.inputs) for case in cases))
            reply = self._reply({"directory": str(model), "tags": list(tags), "requests": str(requests),
                                 "answers": str(answers)})
            if reply.get("error"):
                raise _refused(str(reply["error"]), reply.get("request"), cases)
            outputs = replay.read_answers(answers)
        return outputs[:len(cases)], outputs[len(cases):]

    def _reply(self, request: Mapping[str, object]) -> dict[str, object]:
        try:
            out, err = self._process.communicate(json.dumps(request) + "\n", self._timeout)
        except subprocess.TimeoutExpired:
            raise ExportError(f"the saved model didn't answer its examples within {self._timeout:g} s",
                              hint="give smaller examples", id="saved-model-fails") from None
        lines = out.strip().splitlines()
        if self._process.returncode or not lines:
            code = self._process.returncode
            raise ExportError(f"the process that loaded the saved model ended with exit code {code}",
                              hint="the model can't be served like this", details={"logs": err[-_LOG_TAIL:]},
                              id="saved-model-fails")
        reply: dict[str, object] = json.loads(lines[-1])
        return reply


def environment() -> dict[str, str]:
    """For a process of this room: it finds this very package, from whatever directory the user's code has gone to."""
    here = str(Path(deploy.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)}


def run(module: str, request: Mapping[str, object], doing: str, timeout: float) -> dict[str, Any]:
    """Run a module of ours with a line of JSON; its last line is the answer. doing: what it does, for errors.

    Raises ExportError if it takes too long, or ends without an answer.
    """
    try:
        done = subprocess.run([sys.executable, "-m", module], input=json.dumps(request) + "\n",
                              capture_output=True, text=True, timeout=timeout, check=False, env=environment())
    except subprocess.TimeoutExpired:
        raise ExportError(f"{doing} didn't end within {timeout:g} s", id="saved-model-fails") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise ExportError(f"the process for {doing} ended with exit code {done.returncode}",
                          hint="it can't be done with this model", details={"logs": done.stderr[-_LOG_TAIL:]},
                          id="saved-model-fails")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A directory that is locked while it is in use, and removed then. Those of killed exports are removed first."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as place:
        lock = os.open(Path(place, _LOCK), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            locks.wait_lock(lock)
            yield Path(place)
        finally:
            os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove our own user's directories there that nobody holds any more. Links are never followed."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(PREFIX) and _abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    """The kernel lets go of a lock when its process ends, however it ends, and in whatever container it ran."""
    try:
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or time.time() - status.st_mtime < _SETTLED:
            return False
        lock = os.open(Path(entry.path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # killed before it had a lock, or made by an older release
        return time.time() - status.st_mtime > 24 * 3600
    except OSError:
        return False
    try:
        return locks.try_lock(lock) is True
    except OSError:
        return False
    finally:
        os.close(lock)


def _refused(text: str, request: object, cases: Sequence[Golden]) -> ExportError:
    if "Op type not registered" in text:
        return ExportError(f"the saved model needs an op that TensorFlow doesn't have: {text}",
                           hint="it comes from a package like TensorFlow Text: keep it out of the served model",
                           id="saved-model-fails")
    if request is None:
        return ExportError(f"the saved model doesn't load: {text}", hint="nothing was published",
                           id="saved-model-fails")
    case = cases[int(str(request))]
    shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in case.inputs.items())
    return ExportError(f"the saved model refuses an example for signature {case.signature!r} ({shapes}): {text}",
                       hint="give inputs that it takes with examples=...", id="examples-unfit")
