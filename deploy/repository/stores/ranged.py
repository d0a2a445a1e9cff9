"""An object that is elsewhere as a file: what isn't read isn't fetched, what is read in order comes in big pieces."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, cast

FIRST = 256 << 10  # bytes of the first request; those that follow it in order are twice as big each, up to LARGEST
LARGEST = 4 << 20

Fetch = Callable[[int, int], "bytes | memoryview"]  # from, to (exclusive); within the object


def open_ranged(size: int, fetch: Fetch, first: bytes = b"") -> BinaryIO:
    """A seekable file over an object of `size` bytes. fetch: raises OSError. first: how it begins, as far as known."""
    if len(first) == size:
        return io.BytesIO(first)
    return cast(BinaryIO, io.BufferedReader(_Ranged(size, fetch, first), 1 << 16))


class _Ranged(io.RawIOBase):
    """Holds one piece at a time."""

    def __init__(self, size: int, fetch: Fetch, first: bytes) -> None:
        self._size, self._fetch, self._position = size, fetch, 0
        self._piece: bytes | memoryview = first
        self._start, self._ask = 0, FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"can't seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        if not self._start <= self._position < self._start + len(self._piece):
            self._next_piece(len(buffer))
        offset = self._position - self._start
        count = min(len(buffer), len(self._piece) - offset)
        buffer[:count] = memoryview(self._piece)[offset:offset + count]
        self._position += count
        return count

    def _next_piece(self, wanted: int) -> None:
        in_order = self._position == self._start + len(self._piece)
        self._ask = min(self._ask * 2, LARGEST) if in_order and self._piece else FIRST
        end = min(self._position + max(self._ask, min(wanted, LARGEST)), self._size)
        self._piece = b""  # two would be held otherwise
        self._piece, self._start = self._fetch(self._position, end), self._position
        if len(self._piece) != end - self._position:
            raise OSError(f"got {len(self._piece)} bytes of {end - self._position}")
