"""What a client of the REST port may take. docs/modelserver.md has the table."""

from __future__ import annotations

from dataclasses import dataclass

# One turn of the event loop for one connection, after which the others have theirs.
TURN_REQUESTS = 8
TURN_BYTES = 1 << 19
FIRST, SLICE = 1 << 14, 1 << 12  # bytes that are parsed before those requests are answered that were found in them

MOST_HEAD = 1 << 20  # bytes of a request line and headers
MOST_FIELDS = 1000  # headers of a request
KNOWN_HEADS, LONGEST_KNOWN_HEAD = 512, 1 << 11  # heads that needn't be parsed again, of all connections; bytes of one
KEEP_ONE_OF = 8  # heads that are new, one after the other: with a client that never sends one twice, it's in vain
MOST_FRAMING = 1 << 18  # bytes of trailers and chunk extensions
FRAMING_PER_CHUNK = 16  # bytes that a chunk needs besides
MOST_WAITING = 64  # requests of one connection that wait for their turn; while there are more, nothing is read
MOST_LINGERING = 1 << 26  # bytes that are still read, and thrown away, from a client that was refused
LINGER = 2.0  # seconds for it to end the connection
LONG = 1 << 16  # bytes of a body that isn't collected before its path and method are looked at
SHORT = 1 << 18  # bytes of a body that the event loop may look at
HEAVY = 1 << 22  # bytes of a body that goes to threads of its own, so that short ones needn't wait for it

MOST_UNPACKED = 100 << 20  # bytes; ZLib::kMaxUncompressedBytes of the real server's net_http
UNPACKED_ANYWAY = 16 << 20  # bytes that a body may unpack to, however small it was
MOST_RATIO = 100  # bytes unpacked of one, beyond that


@dataclass(frozen=True, slots=True)
class Limits:
    """Those that have flags, which have the defaults (deploy/wire/flags.py). Bytes and seconds; 0: none.

    body: of one request; bodies: of all requests together. values: numbers and strings in a body of JSON.
    head: until a request's headers are complete. idle: between two requests. stall: in which nothing of a body arrives,
    or nothing of a reply is taken.
    """

    body: int = 0
    bodies: int = 0
    values: int = 0
    connections: int = 0
    head: float = 0.0
    idle: float = 0.0
    stall: float = 0.0
