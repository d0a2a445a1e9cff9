"""Compressed bodies, unpacked piece by piece: a small one can stand for gigabytes."""

from __future__ import annotations

import zlib

GZIP, DEFLATE = 31, 15  # zlib's wbits
ANY_RATIO, MOST_RATIO = 64 << 20, 100  # bytes that may come of little; for more of them, how much longer than packed
_PIECE = 1 << 20


class TooLong(Exception):
    """It would be longer than allowed."""


def most_unpacked(packed: int, most: int) -> int:
    """How long `packed` bytes may become: at most `most`, and, beyond 64 MiB, a hundred times as long."""
    return min(most, max(ANY_RATIO, packed * MOST_RATIO))


def inflated(packed: bytes | bytearray | memoryview, wbits: int, most: int) -> bytes:
    """All of a compressed body. Raises TooLong; zlib.error if it is damaged, cut off, or followed by something."""
    unpacker, pieces, size = zlib.decompressobj(wbits=wbits), [], 0
    most = most_unpacked(len(packed), most)
    rest: bytes | bytearray | memoryview = packed
    while not unpacker.eof:
        piece = unpacker.decompress(rest, _PIECE)
        rest = unpacker.unconsumed_tail
        size += len(piece)
        if size > most:
            raise TooLong(most)
        if not piece and not rest and not unpacker.eof:
            raise zlib.error("it is cut off")
        pieces.append(piece)
    if unpacker.unused_data:
        raise zlib.error("something follows")
    return b"".join(pieces)
