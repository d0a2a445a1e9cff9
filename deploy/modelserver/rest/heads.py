"""What is wrong with a request's head, by RFC 9112 and as libevent answers it."""

from __future__ import annotations

import re
from functools import lru_cache

from deploy.modelserver.rest.messages import Request

_HOST = re.compile(rb"(\[[0-9A-Fa-fvV:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_LONGEST_HOST = 1024  # bytes
_KNOWN = ("1.0", "1.1")


def refusal(version: str, request: Request) -> int | None:
    """The status of an error after which the connection ends; None if the request can be taken.

    version: of HTTP. The real server takes what has no Host; the RFC doesn't, and pages of other sites that reach a
    server on 127.0.0.1 are the reason.
    """
    headers = request.headers
    if version not in _KNOWN:
        return 400
    host = headers.get(b"host")
    if (version != "1.0") if host is None else not _is_host(host):
        return 400
    coding = headers.get(b"transfer-encoding")
    if coding is not None and coding.lower() != b"chunked":
        return 501
    return None


@lru_cache(256)
def _is_host(value: bytes) -> bool:
    return len(value) <= _LONGEST_HOST and _HOST.fullmatch(value) is not None


def length(request: Request) -> int:
    """What the head says of the body's length; 0 if it says nothing. The parser has let only digits pass."""
    return int(request.headers.get(b"content-length", b"0")[:20] or 0)


def continues(request: Request) -> bool:
    """Whether the client waits to be told to go on."""
    return request.headers.get(b"expect", b"").lower() == b"100-continue"
