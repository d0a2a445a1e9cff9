"""A SavedModel run in a process of its own, which can do little but answer.

Parent and child talk through the child's stdin and stdout: a kind (one byte), a length (eight), that many bytes. What
the child says is as little trusted as the model: lengths are bounded, waits have a deadline.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deploy import files, savedmodel
from deploy.engine.library import EngineError, available
from deploy.errors import BackendMissing, BadReply, BadRequest
from deploy.wire import predict_codec
from deploy.wire import serving_pb2 as pb
from deploy.wire.dtypes import Array

LOAD_SECONDS, ANSWER_SECONDS = 60.0, 60.0
_BYTES_PER_SECOND = 20 << 20  # a slow disk's, added to the time to load
_MEMORY = 8 << 30  # bytes of address space beside six times the model's
_CPU_SECONDS = 900
_MOST = 1 << 31
_INTERNAL, _DEADLINE = 13, 4  # TF_Code

LOADED, ANSWER, REFUSED, BAD, MISSING, ASK = b"L", b"R", b"E", b"B", b"M", b"A"
_START = ("import sys, json; asked = json.loads(sys.argv[1]); sys.path[:] = asked['path']; "
          "from deploy.engine.confined_process import main; main(asked)")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")


@contextmanager
def confined(directory: str | Path) -> Iterator[Confined]:
    """The SavedModel in `directory`, run by a child process without network, secrets and write access, as far as the
    platform can do that.

    Raises BackendMissing without TensorFlow's library, EngineError if the model doesn't load, in time.
    """
    place = os.path.realpath(directory)
    why = None if savedmodel.tflite_alone(Path(place)) else available()
    if why:
        raise BackendMissing(why, id="extra-missing")
    with contextlib.suppress(OSError):
        size = files.total(place)[0]
    with tempfile.TemporaryDirectory(prefix="tfs-run-") as empty:
        child = Confined(place, size, empty)
        try:
            child.load()
            yield child
        finally:
            child.end()


class Confined:
    """One child with one model. Not thread-safe."""

    def __init__(self, directory: str, size: int, empty: str) -> None:
        self._seconds = LOAD_SECONDS + size / _BYTES_PER_SECOND
        arguments = {"directory": directory, "path": [path for path in sys.path if path] ,
                     "memory": _MEMORY + 6 * size, "seconds": _CPU_SECONDS}
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "HOME": empty, "MALLOC_ARENA_MAX": "4"}
        self._process = subprocess.Popen([sys.executable, "-I", "-c", _START, json.dumps(arguments)], cwd=empty,
                                         env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, start_new_session=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)

    def load(self) -> None:
        """Wait for the model. Raises EngineError, BackendMissing."""
        message_type, _ = self._reply(time.monotonic() + self._seconds, "loading it")
        if message_type != LOADED:
            raise self._broken(f"it answered {message_type!r}")

    def ask(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a signature by name. Raises EngineError, BadRequest for inputs that don't fit."""
        data = predict_codec.write_predict_request(pb.ModelSpec(signature_name=signature), inputs)
        deadline = time.monotonic() + ANSWER_SECONDS
        self._write(ASK + len(data).to_bytes(8, "little") + data, deadline)
        message_type, reply = self._reply(deadline, "a request")
        if message_type != ANSWER:
            raise self._broken(f"it answered {message_type!r}")
        try:
            return predict_codec.read_predict_response(reply)[1]
        except BadReply as error:
            raise self._broken(error.message) from error

    def end(self) -> None:
        """The child ends now."""
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.kill()
        self._process.wait()

    def _reply(self, deadline: float, doing: str) -> tuple[bytes, bytes]:
        head = self._read(9, deadline, doing)
        size = int.from_bytes(head[1:], "little")
        if size > _MOST:
            raise self._broken(f"its answer has {size:,} bytes")
        message_type, data = head[:1], self._read(size, deadline, doing)
        if message_type == REFUSED:
            refusal = json.loads(data)
            raise EngineError(int(refusal["code"]), str(refusal["message"]))
        if message_type == BAD:
            raise BadRequest(data.decode(errors="replace"))
        if message_type == MISSING:
            raise BackendMissing(data.decode(errors="replace"), id="extra-missing")
        return message_type, data

    def _read(self, size: int, deadline: float, doing: str) -> bytes:
        pieces, left = [], size
        while left:
            self._wait(self._from, deadline, doing, write=False)
            piece = os.read(self._from.fileno(), min(left, 1 << 20))
            if not piece:
                raise self._died(doing)
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        try:
            while view:
                self._wait(self._to, deadline, "a request", write=True)
                view = view[os.write(self._to.fileno(), view[:1 << 16]):]
        except BrokenPipeError as error:
            raise self._died("a request") from error

    def _wait(self, pipe: IO[bytes], deadline: float, doing: str, *, write: bool) -> None:
        left = deadline - time.monotonic()
        ready = select.select([] if write else [pipe], [pipe] if write else [], [], max(0.0, left))
        if not any(ready):
            self._process.kill()
            raise EngineError(_DEADLINE, f"the model took too long over {doing}, and was ended")

    def _died(self, doing: str) -> EngineError:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe is closed, so it is about to end
            self._process.wait(5)
        self._process.kill()
        code = self._process.wait()
        how = f"signal {_signal(-code)}" if code < 0 else f"exit code {code}"
        return EngineError(_INTERNAL, f"the model ended the process that ran it, over {doing} ({how})")

    def _broken(self, what: str) -> EngineError:
        self._process.kill()
        return EngineError(_INTERNAL, f"the process that ran the model doesn't keep to the protocol: {what}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
