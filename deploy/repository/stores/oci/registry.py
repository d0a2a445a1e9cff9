"""One registry, asked as whom Docker's config says: tokens, another try where that may help, refusals in a sentence.

PyPI's `oras` is built around whole files, pushed and pulled by name: it reads no ranges and keeps no directories. What
is needed here is less, and stands on urllib3, which requests and docker bring.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit

from urllib3.exceptions import HTTPError

from deploy.repository.failures import Refused
from deploy.repository.stores.oci import credentials
from deploy.repository.stores.oci.connection import (
    AGAIN,
    TRIES,
    RegistryConnection,
    RegistryReply,
    RegistryRequest,
    hopeless,
    pause,
)
from deploy.repository.stores.oci.credentials import Credentials
from deploy.waiting import Deadline

MOST_PAGES = 1000


class Registry:
    """Thread-safe. Everything raises Refused. host: `ghcr.io`, `localhost:5000`."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._connection = RegistryConnection(host)
        self._authorizations: dict[str, str] = {}
        self._credentials: tuple[Credentials | None] | None = None
        self._lock = threading.Lock()

    def ping(self) -> None:
        """Ask once whether it is a registry; from then on it is known how it is spoken to."""
        with self._lock:
            if not self._connection.base:
                self._connection.find_base()

    def ask(self, request: RegistryRequest, what: str, scope: str) -> RegistryReply:
        """One call, tried again as long as that may help. Any status but those of refusals is an answer.

        request: its url may be a path below /v2/. what: for messages, `push m:3`. scope: of its token.
        """
        self.ping()
        waited, tries = Deadline(self._connection.seconds), 0
        while True:
            tries += 1
            reply = None
            try:
                reply = self._authorized(request, what, scope)
            except HTTPError as error:
                if tries >= TRIES or waited.over or hopeless(error):
                    raise self._connection.unreachable(error, what, tries, waited) from error
            if reply is not None and (reply.status not in AGAIN or tries >= TRIES or waited.over):
                return self._answer(reply, what, tries, waited)
            pause(tries, waited, reply)

    def upload(self, path: str, query: Mapping[str, str], what: str, scope: str, *, body: BinaryIO,
               size: int) -> RegistryReply:
        """A blob: begin its upload at `path`, then send all of it, once. Raises HTTPError if the connection is cut."""
        begun = self.ask(RegistryRequest("POST", path, headers={"Content-Length": "0"}), what, scope)
        if begun.status != 202 or "location" not in begun.headers:
            return begun
        location = urljoin(f"{self._connection.base}/v2/", begun.headers["location"])
        location += ("&" if urlsplit(location).query else "?") + urlencode(query)
        known = self._authorizations.get(scope) if self._connection.own(location) else None
        return self._connection.send(location, {"Content-Type": "application/octet-stream", "Content-Length": str(size),
                                                **({"Authorization": known} if known else {})}, body)

    def upload_failed(self, error: HTTPError | None, reply: RegistryReply | None, what: str, *, tries: int,
                      waited: Deadline) -> bool:
        """Whether a failed upload is worth another try, after a pause. Raises Refused if not."""
        last = tries >= TRIES or waited.over
        if error is not None and (last or hopeless(error)):
            raise self._connection.unreachable(error, what, tries, waited) from error
        if reply is not None and (last or reply.status not in {*AGAIN, 404, 416}):
            self._answer(reply, what, tries, waited)
            return False
        pause(tries, waited, reply)
        return True

    def pages(self, path: str, what: str, scope: str) -> Iterator[RegistryReply]:
        """The answers of a list that comes in pages."""
        for _ in range(MOST_PAGES):
            reply = self.ask(RegistryRequest("GET", path), what, scope)
            yield reply
            following = re.match(r'\s*<([^>]+)>\s*;\s*rel="?next"?', reply.headers.get("link", ""))
            if reply.status != 200 or not following:
                return
            path = urljoin(f"{self._connection.base}/v2/", following[1])
        raise Refused(f"{self.host}: what it lists to {what} has more than {MOST_PAGES:,} pages", "look what fills it",
                      "registry-answer")

    @property
    def seconds(self) -> float:
        """How long one call may be tried."""
        return self._connection.seconds

    def _authorized(self, request: RegistryRequest, what: str, scope: str) -> RegistryReply:
        """With a token if the registry wants one; where it doesn't accept one any more, with a new one."""
        if "://" not in request.url:
            request = replace(request, url=f"{self._connection.base}/v2/{request.url}")
        own = self._connection.own(request.url)
        reply = self._connection.request(_with(request, self._authorizations.get(scope) if own else None))
        challenge = reply.headers.get("www-authenticate", "")
        if reply.status != 401 or not own or not challenge:
            return reply
        authorization = self._authorizations[scope] = self._authorize(challenge, scope, what)
        return self._connection.request(_with(request, authorization))

    def _authorize(self, challenge: str, scope: str, what: str) -> str:
        kind, _, rest = challenge.partition(" ")
        fields, known = dict(re.findall(r'(\w+)="([^"]*)"', rest)), self._known()
        if kind.lower() == "basic":
            if known is None:
                raise self._denied(what, 401, "")
            return known.basic
        realm = fields.get("realm", "")
        if kind.lower() != "bearer" or urlsplit(realm).scheme not in ("https", urlsplit(self._connection.base).scheme):
            raise Refused(f"{self.host} wants to be asked in a way that isn't known: {challenge[:100]}",
                          "registries ask for Basic or Bearer, and for tokens over https", "registry-answer")
        return f"Bearer {self._token(realm, fields.get('service', ''), scope, what)}"

    def _token(self, realm: str, service: str, scope: str, what: str) -> str:
        known = self._known()
        form = {"service": service, "client_id": "tfs-deploy", **({"scope": scope} if scope else {})}
        if known is not None and known.identity:
            body = urlencode({**form, "grant_type": "refresh_token", "refresh_token": known.secret}).encode()
            reply = self._connection.request(
                RegistryRequest("POST", realm, body, {"Content-Type": "application/x-www-form-urlencoded"}))
        else:
            mark = "&" if urlsplit(realm).query else "?"
            reply = self._connection.request(
                _with(RegistryRequest("GET", f"{realm}{mark}{urlencode(form)}"), known.basic if known else None))
        try:
            answer = reply.json() if reply.status == 200 else {}
            return str(answer.get("token") or answer["access_token"])
        except (ValueError, LookupError, AttributeError):
            raise self._denied(what, reply.status, reply.reason) from None

    def _answer(self, reply: RegistryReply, what: str, tries: int, waited: Deadline) -> RegistryReply:
        """The answer, unless it is a refusal that no caller can make anything of."""
        if reply.status in (401, 403):
            limited = "insufficient_scope" in reply.headers.get("www-authenticate", "")
            raise self._denied(what, 403 if limited else reply.status, reply.reason)
        if reply.status in AGAIN:
            tried = f" (tried {tries} times in {waited.waited:.1f} s)" if tries > 1 else ""
            busy = reply.status in (429, 503)
            verb = "asks to slow down and did not recover" if busy else f"fails to {what}"
            raise Refused(f"{self.host} {verb}{tried}: {reply.reason}", "repeat the command later",
                          "store-busy" if busy else "store-failing")
        return reply

    def _denied(self, what: str, status: int, reason: str) -> Refused:
        login, because, known = f"docker login {self.host}", f": {reason}" if reason else "", self._known()
        if known is None:
            return Refused(f"{self.host} wants credentials to {what}, and there are none for it{because}", login,
                           "no-credentials")
        caller = f"{known.user!r} (from {known.source})"
        if status == 403 or "denied" in reason.lower():
            return Refused(f"{caller} may not {what} at {self.host}{because}",
                           f"give it the right to, or use other credentials: {login}", "store-forbidden")
        return Refused(f"{self.host} doesn't accept the credentials of {caller} to {what}{because}", login,
                       "credentials-refused")

    def _known(self) -> Credentials | None:
        if self._credentials is None:
            self._credentials = (credentials.find(self.host),)
        return self._credentials[0]


def _with(request: RegistryRequest, authorization: str | None) -> RegistryRequest:
    """The request as somebody who may."""
    return replace(request, headers={**request.headers, "Authorization": authorization}) if authorization else request
