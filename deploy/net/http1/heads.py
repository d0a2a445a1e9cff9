"""A request's head: what is wrong with it, by RFC 9112 and as libevent answers it, and those that are known already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from deploy.net.http1.limits import FIRST, KNOWN_HEADS, LONGEST_KNOWN_HEAD
from deploy.net.http1.messages import Request

_HOST = re.compile(rb"(\[[0-9A-Fa-fvV:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_LONGEST_HOST = 1024  # bytes
_KNOWN = ("1.0", "1.1")
_END = b"\r\n\r\n"
_PARSED_ONLY = {b"transfer-encoding", b"expect", b"content-encoding"}


def refusal(version: str, headers: Mapping[bytes, bytes]) -> int | None:
    """The status of an error after which the connection ends; None if the request can be taken.

    version: of HTTP. The real server takes what has no Host; the RFC doesn't, and pages of other sites that reach a
    server on 127.0.0.1 are the reason.
    """
    if version not in _KNOWN:
        return 400
    host = headers.get(b"host")
    if (version != "1.0") if host is None else not is_host(host):
        return 400
    coding = headers.get(b"transfer-encoding")
    if coding is not None and coding.lower() != b"chunked":
        return 501
    return None


@lru_cache(256)
def is_host(value: bytes | None) -> bool:
    return value is not None and len(value) <= _LONGEST_HOST and _HOST.fullmatch(value) is not None


def length(headers: Mapping[bytes, bytes]) -> int:
    """What the head says of the body's length; 0 if it says nothing. The parser has let only digits pass."""
    digits = headers.get(b"content-length")
    return int(digits[:20]) if digits else 0


def continues(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client waits to be told to go on."""
    return headers.get(b"expect", b"").lower() == b"100-continue"


class HeadCache:
    """Heads that the parser has taken, by their bytes: a client sends the same ones again and again.

    Exact, since a whole head is compared, and since only those are kept after whose request the parser is where it was
    before: HTTP/1.1, kept alive, with a length or without a body.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[str, str, dict[bytes, bytes], int]] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def request(self, data: bytes) -> Request | None:
        """The request that these bytes are, no more and no less; None if only a parser can tell."""
        end = data.find(_END, 0, LONGEST_KNOWN_HEAD) + len(_END)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head[3]:
            return None
        method, target, headers, size = head
        return Request(method, target, headers, data[end:], size=size)

    def awaits_body(self, data: bytes) -> bool:
        """Whether these bytes are a head whose body, not long, is still to come."""
        return len(data) <= LONGEST_KNOWN_HEAD and (head := self._heads.get(data)) is not None and 0 < head[3] <= FIRST

    def keep(self, head: bytes, request: Request) -> None:
        """Keep the head of a request: all that came before its body, to a parser that was at its start."""
        if (len(head) > LONGEST_KNOWN_HEAD or head.find(_END) + len(_END) != len(head) or not request.keep_alive
                or request.old or request.refusal is not None or request.collected is not None
                or not _PARSED_ONLY.isdisjoint(request.headers) or length(request.headers) != request.size):
            return
        if len(self._heads) >= KNOWN_HEADS:
            self._heads.clear()  # clients can make up heads
        self._heads[head] = (request.method, request.target, request.headers, request.size)
