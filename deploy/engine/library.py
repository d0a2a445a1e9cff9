"""The C API of TensorFlow's shared library, bound with ctypes.

Source: tensorflow/c/c_api.h, tf_tensor.h, tf_buffer.h and tf_status.h of TensorFlow 2.x, stable by TensorFlow's
compatibility promise. Two views of the one library: calls that take long let go of the GIL, short ones keep it,
since giving it away and getting it back costs more than they do (5 ms when another thread is busy).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deploy.engine.settings import Flushing
from deploy.errors import BackendMissing, DeployError
from deploy.wire import model_pb2

_INSTALL = "pip install 'tfs-deploy[tensorflow]'"
_P, _I, _N, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
Deallocator = ctypes.CFUNCTYPE(None, _P, _N, _P)

# name: (result, arguments); the header's order.
_SHORT: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TF_Version": (_S, ()),
    "TF_NewStatus": (_P, ()),
    "TF_DeleteStatus": (None, (_P,)),
    "TF_GetCode": (_I, (_P,)),
    "TF_Message": (_S, (_P,)),
    "TF_NewBuffer": (_P, ()),
    "TF_NewBufferFromString": (_P, (_S, _N)),
    "TF_DeleteBuffer": (None, (_P,)),
    "TF_GetAllOpList": (_P, ()),
    "TF_NewGraph": (_P, ()),
    "TF_NewSessionOptions": (_P, ()),
    "TF_DeleteSessionOptions": (None, (_P,)),
    "TF_SetConfig": (None, (_P, _S, _N, _P)),
    "TF_NewImportGraphDefOptions": (_P, ()),
    "TF_DeleteImportGraphDefOptions": (None, (_P,)),
    "TF_GraphOperationByName": (_P, (_P, _S)),
    "TF_OperationNumOutputs": (_I, (_P,)),
    "TF_AllocateTensor": (_P, (_I, _P, _I, _N)),
    "TF_DeleteTensor": (None, (_P,)),
    "TF_TensorMaybeMove": (_P, (_P,)),
    "TF_TensorType": (_I, (_P,)),
    "TF_NumDims": (_I, (_P,)),
    "TF_Dim": (ctypes.c_int64, (_P, _I)),
    "TF_TensorByteSize": (_N, (_P,)),
    "TF_TensorData": (_P, (_P,)),
}
_LONG: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TF_LoadSessionFromSavedModel": (_P, (_P, _P, _S, _P, _I, _P, _P, _P)),
    "TF_GraphImportGraphDef": (None, (_P, _P, _P, _P)),
    "TF_NewSession": (_P, (_P, _P, _P)),
    "TF_SessionRun": (None, (_P, _P, _P, _P, _I, _P, _P, _I, _P, _I, _P, _P)),
    "TF_CloseSession": (None, (_P, _P)),
    "TF_DeleteSession": (None, (_P, _P)),
    "TF_DeleteGraph": (None, (_P,)),
    "TF_NewTensor": (_P, (_I, _P, _I, _P, _N, Deallocator, _P)),
}


class EngineError(DeployError):
    """TensorFlow refused to load or to run.

    code: TF_Code, the same numbers as google.rpc.Code.
    status: TensorFlow's own text, unchanged.
    """

    exit_code = 3  # the model has to be mended

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message, details={"code": code})
        self.code, self.status = code, message


class Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = [("data", _P), ("length", _N), ("deallocator", _P)]


class Output(ctypes.Structure):
    """TF_Output: a tensor of a graph, as operation and index."""

    _fields_ = [("operation", _P), ("index", _I)]


class Library:
    """The opened library: every function of the two tables above, under its own name without `TF_`."""

    def __init__(self, path: Path) -> None:
        mode = os.RTLD_LOCAL | os.RTLD_LAZY  # local: with global visibility its symbols crash numpy
        try:
            short, long = ctypes.PyDLL(str(path), mode=mode), ctypes.CDLL(str(path), mode=mode)
            for library, table in ((short, _SHORT), (long, _LONG)):
                for name, (result, arguments) in table.items():
                    function = getattr(library, name)
                    function.restype, function.argtypes = result, arguments
                    setattr(self, name.removeprefix("TF_"), function)
        except (OSError, AttributeError) as error:
            raise BackendMissing(f"TensorFlow's library {path} can't be used: {error}", hint=_INSTALL,
                                 id="extra-missing") from error
        self._disable_xla = getattr(long, "_ZN10tensorflow21DisableXlaCompilationEv", None)
        self.long_runs: set[object] = set()  # runs and loads; they keep its threads busy, which all sessions share
        self.flushing = Flushing()
        self._kept: dict[int, object] = {}
        self._keys = itertools.count(1)
        self.release = Deallocator(self._release)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)

    def disable_xla(self) -> None:
        """Refuse what XLA would have to compile from now on, in this process, as TF Serving does without its flag.

        It can't be taken back. Source: tensorflow/compiler/jit/flags.h, DisableXlaCompilation.
        """
        if self._disable_xla is not None:
            self._disable_xla()

    def keep(self, *things: object) -> int:
        """Keep `things` alive until TensorFlow calls `release` with the number returned here."""
        key = next(self._keys)
        self._kept[key] = things
        return key

    def _release(self, _data: int | None, _length: int, key: int) -> None:
        self._kept.pop(key, None)

    def check(self, status: int) -> None:
        """Raise EngineError unless `status` is OK."""
        code = self.GetCode(status)
        if code:
            raise EngineError(code, self.Message(status).decode(errors="replace"))

    def take(self, buffer: int) -> bytes:
        """A TF_Buffer's bytes; the buffer is deleted."""
        raw = Buffer.from_address(buffer)
        data = ctypes.string_at(raw.data, raw.length) if raw.data else b""
        self.DeleteBuffer(buffer)
        return data


def find() -> Path | None:
    """TensorFlow's shared library in the installed wheel (`tensorflow` or `tensorflow-cpu`); nothing is imported."""
    name = "libtensorflow_cc.2.dylib" if sys.platform == "darwin" else "libtensorflow_cc.so.2"
    try:
        spec = importlib.util.find_spec("tensorflow")
    except (ImportError, ValueError):
        return None
    places = (spec and spec.submodule_search_locations) or ()
    return next((path for place in places if (path := Path(place) / name).is_file()), None)


def available() -> str | None:
    """None if the engine can be used, else a sentence that says why not. Looks only for the file: a microsecond job."""
    if sys.byteorder != "little" or sys.platform not in {"linux", "darwin"}:
        return f"the engine runs on little-endian Linux and macOS, not on {sys.platform}"
    if find() is None:
        return f"no wheel of TensorFlow 2 with its shared library is installed ({_INSTALL})"
    return None


@functools.cache
def library() -> Library:
    """The library, opened once. Raises BackendMissing."""
    path, why = find(), available()
    if path is None or why:
        raise BackendMissing(str(why), hint=_INSTALL, id="extra-missing")
    return Library(path)


def disable_xla() -> None:
    """Library.disable_xla of this process. Raises BackendMissing."""
    library().disable_xla()


def quiet() -> None:
    """Open the library without its chatter; TensorFlow's log stays silent, errors come as exceptions anyway.

    And with oneDNN told to use the system's allocator, since its own keeps a closed model's memory for the next one,
    and to work in the thread that calls it, too, which otherwise only waits for the pool's.
    For a process's entry point, before other threads run: three lines are written while the library is opened, before
    it reads any setting, so this process's stderr is closed for that time (0.2 s). Without the library: no effect.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    os.environ.setdefault("TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD", "1")
    with closed_stderr(), contextlib.suppress(BackendMissing):  # the first real call says it
        library()


@contextlib.contextmanager
def closed_stderr() -> Iterator[None]:
    """Nothing of this process reaches stderr, not even what a library writes to the descriptor itself."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def version() -> str:
    """TensorFlow's version: `2.21.0`."""
    return str(library().Version().decode())


def ops() -> list[str]:
    """Names of all ops that this TensorFlow knows, sorted."""
    tf = library()
    known = model_pb2.OpList.FromString(tf.take(tf.GetAllOpList()))
    return sorted(op.name for op in known.op)
