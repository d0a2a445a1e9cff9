"""Which requests are answered at all. Any web page that a browser has open can send requests to this machine: those are
refused by their Host (DNS rebinding) and Origin, and what changes anything needs a token besides."""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.errors import SpecError

MOST_BODY = 1 << 14  # bytes of a request's body
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """A Host header without its port, in lower case."""
    if header.startswith("["):
        return header.partition("]")[0].lstrip("[").lower()
    return header.partition(":")[0].lower()


class Guard:
    """Answers 403 to what doesn't come from this page. host: where it listens, which is one of its names.

    token: what a request that changes something has to bring; None: nothing can be changed.
    """

    def __init__(self, app: ASGIApp, *, host: str, token: str | None) -> None:
        self._app, self._host, self._token = app, host, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, reason = self.refusal(scope["method"], scope["path"], headers)
        if reason:
            await _refuse(status, reason, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_encoded(_HEADERS)]
            await send(message)

        await self._app(scope, receive, hardened)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """A status and why; no reason if it is fine. headers: by names in lower case."""
        elsewhere = self._elsewhere(path, headers)
        if elsewhere:
            return 403, elsewhere
        return (200, "") if method in ("GET", "HEAD") else self._unauthorized(headers)

    def _elsewhere(self, path: str, headers: Mapping[str, str]) -> str:
        """Why it doesn't come from this page. Links from elsewhere to the page itself are fine."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._known(host_of(host)):
            return f"this page isn't called {host!r:.100}: open it under the address that tfs ui has printed"
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"requests of the page {origin!r:.100} aren't answered"
        if path.startswith("/api/") and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "requests of other pages aren't answered"
        return ""

    def _unauthorized(self, headers: Mapping[str, str]) -> tuple[int, str]:
        """What forbids a change."""
        if self._token is None:
            return 403, "this page changes nothing: start it with tfs ui --allow-actions"
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), self._token.encode()):
            return 401, "the token is missing or wrong: open the whole address that tfs ui has printed"
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return 415, "a request's body is JSON, and says so (content-type)"
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MOST_BODY:
            return 413, f"a request's body has a length, of up to {MOST_BODY} bytes"
        return 200, ""

    def _known(self, host: str) -> bool:
        """An address can't be rebound by DNS, a name can."""
        if host in ("localhost", self._host.strip("[]").lower()):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._host)


def check_host(host: str, *, actions: bool) -> None:
    """Raises SpecError for an address on which nothing may be changed from."""
    if actions and not is_loopback(host):
        raise SpecError(f"--allow-actions goes with an address of this machine only, and {host} isn't one",
                        hint="listen on 127.0.0.1, and reach it from elsewhere with ssh -L 8555:127.0.0.1:8555")


async def _refuse(status: int, reason: str, send: Send) -> None:
    body = json.dumps({"error": "Refused", "message": reason}).encode()
    await send({"type": "http.response.start", "status": status,
                "headers": _encoded({"content-type": "application/json", "content-length": str(len(body)),
                                     "cache-control": "no-store", **_HEADERS})})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
