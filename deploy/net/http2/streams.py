"""A stream: one request and its reply, the state that it is in (RFC 9113, 5.1), and its header fields.

Fields are read from header blocks (HPACK), and checked (RFC 9113, 8.2 and 8.3).
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from deploy.net.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Failed

_REMEMBERED, _MEMORABLE = 64, 1 << 10
_NAME = re.compile(rb"[!-9;-@\[-~]+")  # no capitals, no colon
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))


class State(enum.Enum):
    """Of a stream that was opened; one with a higher number than all of these is idle."""

    OPEN = "open"
    CLIENT_ENDED = "half-closed (remote)"
    WE_ENDED = "half-closed (local)"
    CLOSED = "closed"


class End(enum.Enum):
    """How a stream was closed. What comes after it is an error, an echo of the past, or a crossing of messages."""

    BOTH_ENDED = "END_STREAM of both"
    CLIENT_RESET = "RST_STREAM of the client"
    WE_RESET = "RST_STREAM of ours"


class Stream:
    """One request and its reply.

    window: bytes that may be sent beyond those of the connection's initial window. unreturned: bytes received since the
    client was given more window. length: bytes that its content-length still promises. held: bytes that it takes up.
    announced: bytes that the body is to have. accepted: it is to be served. begun: the reply's headers are sent.
    handed: a thread works for it. soon: its deadline is near. until: its deadline, in the loop's time.
    """

    state = State.OPEN
    pending: memoryview | None = None
    trailers = b""
    timer: asyncio.TimerHandle | None = None
    until: float | None = None
    on_close: Callable[[], object] | None = None
    handler: Any = None
    accepted = begun = handed = soon = False
    unreturned = held = announced = 0

    def __init__(self, number: int, headers: dict[bytes, bytes], length: int | None, window: int) -> None:
        self.number, self.headers, self.length, self.window = number, headers, length, window
        self.body = bytearray()

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.state is State.CLOSED or self.state is State.WE_ENDED


class Closed:
    """The last streams that were closed, some hundred at least: the others can't be told from those never opened."""

    def __init__(self, most: int = 512) -> None:
        self._most = most
        self._recent: dict[int, End] = {}
        self._older: dict[int, End] = {}

    def add(self, number: int, end: End) -> None:
        if len(self._recent) >= self._most:
            self._recent, self._older = {}, self._recent
        self._recent[number] = end

    def get(self, number: int) -> End | None:
        return self._recent.get(number) or self._older.get(number)


@dataclass(frozen=True, slots=True)
class Block:
    """One header block. request, trailers: whether it may begin a request, or end one. length: its content-length.

    size: bytes of its fields, and 32 for each (RFC 7541, 4.1). any_length: it may begin a request with any body.
    """

    fields: dict[bytes, bytes]
    request: bool
    trailers: bool
    length: int | None = None
    size: int = 0
    any_length: bool = False


def checked(pairs: Iterable[tuple[bytes, bytes]]) -> Block:
    """What header fields are good for. Of a field that comes more than once, the values are joined (RFC 9110, 5.3)."""
    fields: dict[bytes, bytes] = {}
    sound, regular, size = True, False, 0
    for name, value in pairs:
        size += 32 + len(name) + len(value)
        if name[:1] == b":":
            sound = sound and not regular and name in _PSEUDO and name not in fields and bool(value)
        else:
            regular = True
            sound = sound and bool(_NAME.fullmatch(name)) and name not in _HOP_BY_HOP
            sound = sound and (name != b"te" or value.lower() == b"trailers")
        if b"\0" in value or b"\r" in value or b"\n" in value:
            sound = False
        fields[name] = fields[name] + b", " + value if name in fields else value
    length = fields.get(b"content-length")
    sound = sound and (length is None or (length.isdigit() and len(length) < 20))
    pseudo = fields.keys() & _PSEUDO
    request = sound and _whole(fields)
    return Block(fields, request, sound and not pseudo, int(length) if sound and length is not None else None, size,
                 request and length is None)


def _whole(fields: dict[bytes, bytes]) -> bool:
    """Whether the fields that a request must have are there."""
    if fields.get(b":method") == b"CONNECT":
        return b":authority" in fields and b":path" not in fields and b":scheme" not in fields
    path = fields.get(b":path", b"")
    return b":method" in fields and b":scheme" in fields and (path[:1] == b"/" or path == b"*")


class Blocks:
    """Reads the header blocks of one connection. Blocks repeat; one that means the same each time is read once.

    remembered: what blocks mean, until that changes.
    """

    def __init__(self, longest: int) -> None:
        self._decoder = Decoder(max_header_list_size=longest)
        self.remembered: dict[bytes, Block] = {}

    def read(self, block: bytes) -> Block:
        table = self._decoder.header_table
        before = table.maxsize, len(table.dynamic_entries), table.dynamic_entries[0] if table.dynamic_entries else None
        try:
            parsed = checked(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise Failed(ENHANCE_YOUR_CALM) from error
        except (HPACKError, IndexError, ValueError) as error:
            raise Failed(COMPRESSION_ERROR) from error
        first = table.dynamic_entries[0] if table.dynamic_entries else None
        if before[:2] != (table.maxsize, len(table.dynamic_entries)) or before[2] is not first:
            self.remembered.clear()  # numbers of the table's entries have changed
        elif len(self.remembered) < _REMEMBERED and len(block) <= _MEMORABLE:
            self.remembered[block] = parsed
        return parsed
