"""TFRecord files: length and data, each with a masked CRC32C. Source: tensorflow/core/lib/io/record_writer.h."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from deploy import files
from deploy.errors import Malformed, RepositoryError

_MASK_DELTA = 0xA282EAD8
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER = struct.Struct("<QI")

MOST = (1 << 31) - 1
"""Bytes of a record: they hold protobuf messages, and no such message has more."""


def read(path: str | Path, most: int | None = None) -> Iterator[bytes]:
    """Each record's data, in order, read as it is asked for.

    most: bytes that the file may have.
    Raises Malformed that names file, record and byte: not readable, truncated, or a checksum that differs.
    """
    try:
        with files.open_regular(path, most=most) as file:
            size = os.fstat(file.fileno()).st_size
            number = 0
            while file.tell() < size:
                yield _record(file, size, f"{path}: record {number} at byte {file.tell()}")
                number += 1
    except OSError as error:
        raise Malformed(f"{path}: can't be read: {files.reason(error)}") from error


def write(path: str | Path, records: Iterable[bytes]) -> int:
    """Write the records to a new or emptied file; returns their number. Raises RepositoryError if that fails."""
    number = 0
    try:
        with Path(path).open("wb") as file:
            for number, data in enumerate(records, 1):  # noqa: B007
                length = _LENGTH.pack(len(data))
                file.writelines((length, checksum(length), data, checksum(data)))
    except OSError as error:
        raise RepositoryError(f"{path}: can't be written: {error.strerror}") from error
    return number


def _record(file: BinaryIO, size: int, where: str) -> bytes:
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise Malformed(f"{where}: truncated in its header")
    length = _HEADER.unpack(head)[0]
    if head[_LENGTH.size:] != checksum(head[:_LENGTH.size]):
        raise Malformed(f"{where}: the length's checksum differs", hint="not a TFRecord file, or a damaged one")
    if length + _CHECKSUM.size > size - file.tell():
        raise Malformed(f"{where}: truncated: {length} bytes announced, {size - file.tell()} left in the file")
    if length > MOST:
        raise Malformed(f"{where}: {length:,} bytes announced, and a message has {MOST:,} at most")
    data = file.read(length)
    if file.read(_CHECKSUM.size) != checksum(data):
        raise Malformed(f"{where}: the data's checksum differs", hint="the file is damaged")
    return data


def checksum(data: bytes) -> bytes:
    """CRC32C, 4 bytes, masked as TensorFlow does, so that the CRC of data that holds CRCs stays useful."""
    crc = google_crc32c.value(data)
    return _CHECKSUM.pack(((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)
