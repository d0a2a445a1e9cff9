"""Where the fields of a serialized message lie: for files too big to be parsed whole.

The loops are written out, since they run once for each node of a graph.
Wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from google.protobuf.message import DecodeError

PIECE = 1 << 21
"""Bytes of neighbouring fields that come as one run; a field of more bytes comes alone."""

Data = mmap.mmap | bytes

_LENGTH_DELIMITED = 2


def runs(data: Data, at: int, stop: int, number: int) -> Iterator[tuple[int, int, int, int | None]]:
    """The fields of a message, those of `number` in runs: (number, start, end, None) for many in a row, of PIECE bytes.

    A field that is bigger, and one of another number, comes alone: (number, start, end, where its value begins).
    Raises DecodeError or IndexError if the bytes end too early or are no message.
    """
    tag, start = number << 3 | _LENGTH_DELIMITED, at
    while at < stop:
        here, seen = at, data[at]
        length, after = data[at + 1], at + 2
        if length > 0x7F:
            length, after = read_varint(data, at + 1)
        if seen == tag:
            at = after + length
            if length < PIECE:
                if at - start >= PIECE:
                    yield number, start, _checked(at, stop), None
                    start = at
                continue
            run = number, here, _checked(at, stop), after
        else:
            other, _, value, at = _step(data, here, stop)
            run = other, here, at, value
        if start < here:
            yield number, start, here, None
        yield run
        start = at
    _checked(at, stop)
    if start < at:
        yield number, start, at, None


def fields(data: Data | memoryview, at: int, stop: int, skip: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message: number, where it starts, where its value does, where it ends.

    Fields with the number `skip` aren't told. Raises DecodeError or IndexError as `runs` does.
    """
    skipped = skip << 3 | _LENGTH_DELIMITED if skip else -1  # no field has the number 0
    while at < stop:
        if data[at] == skipped:
            length, after = data[at + 1], at + 2
            if length > 0x7F:
                length, after = read_varint(data, at + 1)
            at = _checked(after + length, stop)
            continue
        found = _step(data, at, stop)
        at = found[3]
        yield found


def _step(data: Data | memoryview, start: int, stop: int) -> tuple[int, int, int, int]:
    tag, at = read_varint(data, start)
    wire_type, value = tag & 7, at
    if tag < 8:
        raise DecodeError(f"no field at byte {start}")
    if wire_type == _LENGTH_DELIMITED:
        length, value = read_varint(data, at)
        at = value + length
    elif wire_type == 0:
        at = read_varint(data, at)[1]
    elif wire_type in (1, 5):
        at += 8 if wire_type == 1 else 4
    else:
        raise DecodeError(f"wire type {wire_type} at byte {start}")
    return tag >> 3, start, value, _checked(at, stop)


def _checked(at: int, stop: int) -> int:
    if at > stop:
        raise DecodeError(f"it ends {at - stop} bytes too early")
    return at


def read_varint(data: Data | memoryview, at: int) -> tuple[int, int]:
    """A number, and where the next thing begins. Raises DecodeError, IndexError."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise DecodeError("a number of more than ten bytes")


def varint(number: int) -> bytes:
    """A non-negative number as protobuf writes it."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
