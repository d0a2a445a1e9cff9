"""Request targets, as libevent's evhttp_uri_parse takes them apart: what it refuses is a bad request.

Source: libevent 2.1 http.c; tensorflow_serving/util/net_http/server/internal/evhttp_request.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

_CHAR = r"[A-Za-z0-9\-._~!$&'()*+,;=%s]|%%[0-9A-Fa-f]{2}"
_PATH, _MORE, _HOST = (rf"(?:{_CHAR % more})*" for more in (":@/", ":@/?", ""))
_USER = rf"(?:{_CHAR % ':'})*"
_TARGET = re.compile(rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*:)?"
                     rf"(?:(?P<authority>//(?:{_USER}@)?(?:\[[0-9A-Fa-f:.]+\]|{_HOST})(?::(?P<port>[0-9]*))?(?=[/?#]|$))"
                     rf"|(?!//))"
                     rf"(?P<path>{_PATH})(?P<more>(?:\?{_MORE})?(?:#{_MORE})?)")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


_LONG, _REMEMBERED = 256, 512
T = TypeVar("T")


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
        found = _TARGET.fullmatch(target)
        if found is None or int(found["port"] or 0) > 65535:
            return None
        if not found["scheme"] and not found["authority"] and ":" in found["path"].split("/", 1)[0]:
            return None
        return cls(found["path"], found["more"])

    @property
    def whole(self) -> str:
        """What URL patterns are matched with."""
        return self.path + self.more


def unescaped(part: str) -> str:
    """A name or label with its %XX replaced, once, as UTF-8. part: Latin-1 for bytes."""
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), part.encode("latin-1")).decode("utf-8", "replace")
