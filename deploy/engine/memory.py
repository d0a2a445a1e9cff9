"""What the process's allocator does with freed memory, where it can be told (glibc); elsewhere, nothing happens."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


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
