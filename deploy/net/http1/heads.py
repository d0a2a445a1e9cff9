"""A request's head and target: what is wrong with them, by RFC 9112 and as libevent answers it; heads known already.

Targets are taken apart as libevent's evhttp_uri_parse does: what it refuses is a bad request.
Source: libevent 2.1 http.c; tensorflow_serving/util/net_http/server/internal/evhttp_request.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from deploy.net.http1.limits import FIRST, KNOWN_HEADS, LONGEST_KNOWN_HEAD
from deploy.net.http1.messages import Request

_HOST = re.compile(rb"(\[[0-9A-Fa-fvV:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_LONGEST_HOST = 1024  # bytes
_KNOWN = ("1.0", "1.1")
_END = b"\r\n\r\n"
_PARSED_ONLY = {b"transfer-encoding", b"expect", b"content-encoding"}
_CHAR = r"[A-Za-z0-9\-._~!$&'()*+,;=%s]|%%[0-9A-Fa-f]{2}"
_PATH, _MORE, _AUTHORITY = (rf"(?:{_CHAR % more})*" for more in (":@/", ":@/?", ""))
_USER = rf"(?:{_CHAR % ':'})*"
_TARGET = re.compile(rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*:)?"
                     rf"(?:(?P<authority>//(?:{_USER}@)?(?:\[[0-9A-Fa-f:.]+\]|{_AUTHORITY})(?::(?P<port>[0-9]*))?(?=[/?#]|$))"
                     rf"|(?!//))"
                     rf"(?P<path>{_PATH})(?P<more>(?:\?{_MORE})?(?:#{_MORE})?)")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_LONG, _REMEMBERED = 256, 512
T = TypeVar("T")


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


def remembered(function: Callable[[str], T]) -> Callable[[str], T]:
    """The function of a target, with its last results kept for short targets: clients ask for few."""
    known = lru_cache(_REMEMBERED)(function)
    return lambda target: known(target) if len(target) < _LONG else function(target)


@dataclass(frozen=True, slots=True)
class Uri:
    """What of a target counts. more: query and fragment, each with its sign."""

    path: str
    more: str

    @classmethod
    def of(cls, target: str) -> Uri | None:
        """The parts of a target; None if it is no URI."""
        match = _TARGET.fullmatch(target)
        if match is None or int(match["port"] or 0) > 65535:
            return None
        if not match["scheme"] and not match["authority"] and ":" in match["path"].split("/", 1)[0]:
            return None
        return cls(match["path"], match["more"])

    @property
    def whole(self) -> str:
        """What URL patterns are matched with."""
        return self.path + self.more


def unescaped(part: str) -> str:
    """A name or label with its %XX replaced, once, as UTF-8. part: Latin-1 for bytes."""
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), part.encode("latin-1")).decode("utf-8", "replace")
