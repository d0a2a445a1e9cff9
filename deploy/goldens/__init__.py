"""Recorded requests with their answers, kept inside a version; and how answers are compared.

    recorded   one recorded request with its answer: read, written, scanned
    warmup     the version's warm-up file, checked
    examples   inputs that fit a signature
    compare    are two answers the same, within tolerances?
    drift      how far apart are they?
"""

from __future__ import annotations

from deploy.goldens.recorded import (
    ENGINE,
    FILE,
    LIMIT,
    MOST_BYTES,
    SERVER,
    Golden,
    Recorded,
    answered,
    encode,
    golden,
    parse,
    read,
    scan,
    write,
)

__all__ = ["ENGINE", "FILE", "LIMIT", "MOST_BYTES", "SERVER", "Golden", "Recorded", "answered", "encode", "golden",
           "parse", "read", "scan", "write"]
