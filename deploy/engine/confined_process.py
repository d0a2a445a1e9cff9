"""The child's side of `child`: give up what it could harm with, load, answer until the parent is gone.

What it gives up before it runs somebody's model: network, secrets, write access, endless resources. Linux only, and as
far as the kernel knows it: resource limits, Landlock (which files may be read), seccomp (which calls may be made). Each
is optional, since containers and old kernels lack one or another.
Sources: https://docs.kernel.org/userspace-api/landlock.html, .../seccomp_filter.html, <linux/audit.h>,
arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from deploy import savedmodel
from deploy.engine import child, library, session, tflite
from deploy.errors import BackendMissing, BadReply, BadRequest
from deploy.savedmodel.tflite import FILE
from deploy.wire import predict_codec
from deploy.wire import serving_pb2 as pb

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _SIGKILL = 1, 38, 9
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_READABLE = ("/lib", "/lib64", "/usr", "/opt/cuda", "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system",
             "/sys/fs/cgroup", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self", "/dev/null",
             "/dev/urandom")
# Calls by architecture: AUDIT_ARCH, seccomp, (openat, tgkill), open or None, and what is refused altogether: network,
# programs, other processes, and every change of a file or of the system.
_X86_64 = (0xC000003E, 317, (257, 234), 2, (
    41, 42, 43, 44, 46, 49, 50, 53, 288, 307, 59, 322, 101, 310, 311, 62, 200, 129, 297, 424, 434, 438, 76, 82, 83, 84,
    85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 155, 161, 165, 166, 169, 188, 189, 190, 197, 198, 199, 235, 248, 249,
    250, 258, 259, 260, 261, 263, 264, 265, 266, 268, 272, 280, 298, 304, 308, 316, 321, 323, 425, 426, 427, 428, 429,
    430, 431, 432, 433, 437, 442, 452))
_AARCH64 = (0xC00000B7, 277, (56, 131), None, (
    198, 199, 200, 201, 202, 203, 206, 211, 242, 269, 221, 281, 117, 270, 271, 129, 130, 138, 240, 424, 434, 438, 5, 6,
    7, 14, 15, 16, 33, 34, 35, 36, 37, 38, 39, 40, 41, 45, 51, 52, 53, 54, 55, 88, 97, 142, 217, 218, 219, 241, 265,
    268, 276, 280, 282, 425, 426, 427, 428, 429, 430, 431, 432, 433, 437, 442, 452))
_LAYOUTS = {"x86_64": _X86_64, "aarch64": _AARCH64}
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EACCES
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF
_X32 = 0x40000000


def main(arguments: dict[str, Any]) -> NoReturn:
    """Serve one parent. arguments: `directory`, `path`, `memory` and `seconds`, as the parent gives them."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever TensorFlow prints isn't an answer
    limit(arguments["memory"], arguments["seconds"])
    shared_library = library.find()
    read_only([sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent),
                         str(Path(__file__).parents[1]), *arguments["path"], arguments["directory"],
                         *([str(shared_library.parent)] if shared_library else [])])
    _serve(arguments["directory"], answers)
    os._exit(0)  # without TensorFlow's own way out, which may wait


def _serve(directory: str, answers: int) -> None:
    try:
        alone = savedmodel.tflite_alone(Path(directory))
        tflite.ready(Path(directory, FILE)) if alone else library.library()  # first: afterwards nothing more may be
        no_calls()
        with session.load_version(directory) as model:
            _say(answers, child.LOADED, b"")
            while (head := _read(9)) is not None:
                data = _read(int.from_bytes(head[1:], "little"))
                if data is None:
                    return
                try:
                    _say(answers, child.ANSWER, _answer(model, data))
                except library.EngineError as error:
                    _say(answers, child.REFUSED, _refusal(error))
                except (BadRequest, BadReply) as error:
                    _say(answers, child.BAD, error.message.encode(errors="replace"))
    except library.EngineError as error:
        _say(answers, child.REFUSED, _refusal(error))
    except BackendMissing as error:
        _say(answers, child.MISSING, error.message.encode(errors="replace"))


def _answer(model: Any, data: bytes) -> bytes:
    request, inputs = predict_codec.read_predict_request(data)
    name, contract = request.model_spec.signature_name, model.contract
    if name not in contract:
        raise BadRequest(f"there is no signature {name!r}, only {', '.join(contract) or 'none'}",
                         id="unknown-signature")
    return predict_codec.write_predict_response(pb.ModelSpec(), model.call(contract[name], inputs))


def _refusal(error: Any) -> bytes:
    return json.dumps({"code": error.code, "message": error.status}).encode()


def _say(answers: int, message_type: bytes, data: bytes) -> None:
    view = memoryview(message_type + len(data).to_bytes(8, "little") + data)
    while view:
        view = view[os.write(answers, view):]


def _read(size: int) -> bytes | None:
    """That many bytes of stdin; None if the parent is gone."""
    pieces = []
    while size:
        piece = os.read(0, min(size, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def limit(memory: int, seconds: int) -> None:
    """Bytes of address space, seconds of CPU; no files written, no core; the end of the parent is the end."""
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, 0),
                       (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 256)):
        _, hard = resource.getrlimit(what)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (lower, lower))
    if platform.system() == "Linux":
        _libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def read_only(paths: Iterable[str]) -> bool:
    """From now on this thread, and those that it starts, read what lies below these paths and the system's libraries.

    Nothing is written or made. False if the kernel has no Landlock.
    """
    if platform.system() != "Linux":
        return False
    libc = _libc()
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    handled = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    ruleset = struct.pack("<Q", handled) + (struct.pack("<Q", 3) if version >= 4 else b"") + \
        (struct.pack("<Q", 3) if version >= 6 else b"")  # no TCP; no abstract sockets of others, no signals to them
    fd = libc.syscall(_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    if fd < 0:
        return False
    try:
        for path in (*_READABLE, *paths):
            _allow(libc, fd, path)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT_SELF, fd, 0) == 0)
    finally:
        os.close(fd)


def no_calls() -> bool:
    """From now on no thread of this process reaches the network, another process, or changes a file.

    False if the kernel or the machine's architecture can't do that.
    """
    layout = _LAYOUTS.get(platform.machine())
    if platform.system() != "Linux" or layout is None:
        return False
    program = b"".join(_program(layout, os.getpid()))
    kept = ctypes.create_string_buffer(program)
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    libc = _libc()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    all_threads = 1  # SECCOMP_FILTER_FLAG_TSYNC
    return bool(libc.syscall(layout[1], 1, all_threads, head) == 0)


def _program(layout: tuple[int, int, tuple[int, int], int | None, tuple[int, ...]], own: int) -> Iterator[bytes]:
    architecture, _, (openat, tgkill), open_, refused = layout
    yield _instruction(_LOAD, 4)
    yield _instruction(_EQUAL, architecture, 1, 0)
    yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_LOAD, 0)
    yield _instruction(_AT_LEAST, _X32, 0, 1)
    yield _instruction(_RETURN, _REFUSE)
    for number in refused:
        yield from (_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _REFUSE))
    changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for number, argument in ((openat, 2), *(((open_, 1),) if open_ is not None else ())):
        yield from (_instruction(_EQUAL, number, 0, 4), _instruction(_LOAD, 16 + 8 * argument),
                    _instruction(_ANY_BIT, changes, 0, 1), _instruction(_RETURN, _REFUSE),
                    _instruction(_RETURN, _ALLOW))
    yield from (_instruction(_EQUAL, tgkill, 0, 3), _instruction(_LOAD, 16), _instruction(_EQUAL, own, 1, 0),
                _instruction(_RETURN, _REFUSE))
    yield _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        access = _EXECUTE | _READ_FILE | (_READ_DIR if stat.S_ISDIR(os.fstat(fd).st_mode) else 0)
        libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("<Qi", access, fd), 0)
    finally:
        os.close(fd)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
