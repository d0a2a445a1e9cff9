"""Snappy blocks, as older TensorFlow wrote the index of variables.

Source: https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

from deploy.wire.spans import read_varint

_LITERAL = 0


def decompress(block: bytes, most: int) -> bytes:
    """The block's contents, of at most `most` bytes. Raises ValueError or IndexError if it is damaged, or longer."""
    size, at = read_varint(block, 0)
    if size > most:
        raise ValueError(f"a compressed block of {size:,} bytes, and at most {most:,} make sense")
    out = bytearray()
    while at < len(block):
        length, offset, at = _element(block, at)
        if len(out) + length > size:
            raise ValueError(f"a compressed block has more than its {size} bytes")
        if offset:
            _copy(out, offset, length)
        else:
            out += block[at:at + length]
            at += length
    if len(out) != size:
        raise ValueError(f"a compressed block has {len(out)} bytes instead of {size}")
    return bytes(out)


def _element(block: bytes, at: int) -> tuple[int, int, int]:
    """How many bytes come next, how far back they stand (0: they follow), and where the next thing begins."""
    tag = block[at]
    kind, at = tag & 3, at + 1
    if kind == _LITERAL:
        length = (tag >> 2) + 1
        if length > 60:  # the length less one stands in the next 1 to 4 bytes
            extra = length - 60
            length, at = int.from_bytes(block[at:at + extra], "little") + 1, at + extra
        return length, 0, at
    if kind == 1:
        length, offset, at = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[at], at + 1
    else:
        width = 2 if kind == 2 else 4
        length, offset, at = (tag >> 2) + 1, int.from_bytes(block[at:at + width], "little"), at + width
    if not offset:
        raise ValueError("a compressed block refers to before its beginning")
    return length, offset, at


def _copy(out: bytearray, offset: int, length: int) -> None:
    """Repeat what stands `offset` bytes before the end; it may overlap with what it makes."""
    start = len(out) - offset
    if start < 0:
        raise ValueError("a compressed block refers to before its beginning")
    piece = out[start:start + length]
    out += (piece * (length // len(piece) + 1))[:length]
