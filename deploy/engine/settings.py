"""What a process and its threads have to set before they run models: what becomes of freed memory, and of denormals.

Memory: the C library's allocator, where it can be told (glibc). Denormals, numbers too small to be normal, count as
zero in TensorFlow's own threads: so they must in every thread that runs its ops. The mode is a register of the thread:
MXCSR on x86-64, FPCR on ARM. The C library's fegetenv and fesetenv read and set it, within a structure whose layout is
part of the ABI.
Source: tsl/platform/denormal.cc (ScopedFlushDenormal); glibc's fenv.h for both architectures.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
import threading

# Architecture -> which 32-bit word of fenv_t, and the bits in it: results, and operands on x86, count as zero.
_WORDS = {"x86_64": (7, 1 << 15 | 1 << 6), "aarch64": (0, 1 << 24)}
_ROOM = 64  # bytes, more than a fenv_t
Mode = ctypes.Array[ctypes.c_uint32]
_thread = threading.local()
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def flushes() -> bool:
    """Whether the calling thread takes denormals for zero for good, its numpy arithmetic included."""
    return getattr(_thread, "flushes", False)


def flush_for_good() -> None:
    """Let the calling thread take denormals for zero from now on, if this machine's way to do so is known.

    For threads that serve: TensorFlow Serving's own are like that.
    """
    flushing = Flushing()
    if flushing.available:
        flushing.start()
        _thread.flushes = True


class Flushing:
    """Sets and restores the calling thread's mode. available: whether this machine's is known."""

    def __init__(self) -> None:
        self._word, self._bits = _WORDS.get(platform.machine(), (0, 0))
        try:  # PyDLL: for calls that are shorter than giving the GIL away
            library = ctypes.PyDLL("libm.so.6" if sys.platform == "linux" else None)
            self._get, self._set = library.fegetenv, library.fesetenv
        except (OSError, AttributeError):
            self._bits = 0
        self.available = sys.platform == "linux" and self._bits != 0

    def start(self) -> Mode | None:
        """Flush from now on. Returns what `stop` needs; None if the thread flushes for good."""
        if flushes():
            return None
        modes: tuple[Mode, Mode] | None = getattr(_thread, "modes", None)
        if modes is None:
            modes = _thread.modes = self._modes()
        self._set(modes[1])
        return modes[0]

    def _modes(self) -> tuple[Mode, Mode]:
        """The thread's mode now, and the same with flushing: nothing else in this process changes it."""
        before = (ctypes.c_uint32 * (_ROOM // 4))()
        self._get(before)
        flushing = type(before).from_buffer_copy(before)
        flushing[self._word] |= self._bits
        return before, flushing

    def stop(self, before: Mode | None) -> None:
        if before is not None:
            self._set(before)


def keep_freed() -> None:
    """Keep up to 16 MiB of freed memory at the end of a heap, and have blocks of up to 4 MiB there.

    By default a server gives the buffers of each request back to the system, and the page faults of the next one take
    longer than reading its body. For a process's entry point.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 16 << 20)
        mallopt(_MMAP_THRESHOLD, 4 << 20)


def give_back() -> None:
    """Return freed memory to the system, where the C library can (glibc); takes a few milliseconds."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
