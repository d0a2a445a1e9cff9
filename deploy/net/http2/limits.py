"""What one client may ask of the gRPC port, and all of them together. docs/modelserver.md has the table.

Work is bounded per turn of the event loop: after so much of it for one connection, the others are looked at. Frames
that carry nothing (PING, SETTINGS, resets, empty ones ...) are paid from a budget that time and honest calls fill.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20

# Work of one turn, in something like microseconds: so much, and what the parts of it count.
TURN, FRAME_WORK, CALL_WORK = 2048, 4, 128

# Prices of frames that carry nothing; each second and each answered call bring something back.
BUDGET, MOST_BUDGET, PER_SECOND, PER_CALL = 1000, 10_000, 100, 8
RESET_PRICE, REFUSAL_PRICE, SMALL = 5, 2, 128  # SMALL: bytes of DATA that are too few to be a call's

EMPTY_MESSAGE = 5  # bytes of DATA; a call has at least these

STREAM_WINDOW, RECEIVE_WINDOW = 16 * MIB, 64 * MIB  # bytes that a client may send ahead, of a call, of all of its calls
LEAST_RETURNED = 1 * MIB  # of a window at once
BURST, WRITE_BUFFER = 1 << 18, 1 << 19  # bytes of a reply that are written at once, that may wait to be sent
LONGEST_FRAME, LONG_MESSAGE = 1 << 18, 1 << 16  # bytes of a frame, once a client has sent so long a message
MOST_BLOCK = 1 << 16  # bytes of a header block, until the connection ends
LONG_READ = 200_000  # bytes; what uvloop and asyncio read at once is a little more
MOST_CONTINUATIONS = 64
LATE_DATA = 1 << 16  # bytes of a request that is answered already, until its stream is reset


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, numbers, and seconds. held: bytes of requests and replies, of a connection and of all.

    stall: in which nothing of a reply is taken; 0: any. Its default is its flag's (deploy/wire/flags.py).
    """

    streams: int = 100
    message: int = 512 * MIB
    block: int = 1 << 14
    held: int = 1024 * MIB
    held_by_all: int = 2048 * MIB
    connections: int = 4096
    handshake: int = 20
    idle: int = 3600
    stall: int = 0


@dataclass(slots=True)
class Memory:
    """The bytes that all connections hold. shed: called when they are too many; it ends who holds the most."""

    most: int
    shed: Callable[[], None]
    total: int = 0


def available_memory() -> int:
    """Bytes that this process may use: the machine's, or its control group's if that is less."""
    try:
        amounts = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # Windows
        amounts = [8 << 30]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            amounts.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            continue  # there is none, or it says "max"
    return int(min(amounts))
