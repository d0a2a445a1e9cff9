"""HTTP to one registry: how it is spoken to, answers read within limits, pauses, and why there was none."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, SSLError

from deploy.repository.failures import Refused
from deploy.repository.stores.oci.credentials import DOCKER_HUB
from deploy.repository.stores.refusals import deadline
from deploy.version import __version__
from deploy.waiting import Deadline

PLAIN_HTTP = "TFS_OCI_PLAIN_HTTP"  # registries without TLS, besides those of this machine: host:port, by commas
MOST_JSON = 8 << 20  # bytes of a manifest, a list of tags; registries themselves take 4 MB
AGAIN = {408, 429, 500, 502, 503, 504}
TRIES = 6
_CONNECT, _READ = 10.0, 60.0  # seconds
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class RegistryReply:
    """An HTTP answer, read. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        """Raises ValueError."""
        try:
            return json.loads(self.data)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    @property
    def reason(self) -> str:
        """What a registry says of an error: its codes and texts, or the status."""
        try:
            errors = self.json()["errors"]
            said = "; ".join(f"{e.get('code', '')} {e.get('message') or ''}".strip() for e in errors[:3])
        except (ValueError, LookupError, TypeError, AttributeError):
            said = ""
        return (said or f"HTTP {self.status}")[:300]


@dataclass(frozen=True, slots=True)
class RegistryRequest:
    """An HTTP request. most: bytes of the answer. skip: of a range, the bytes before it, if all of it comes instead."""

    method: str
    url: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    most: int = MOST_JSON
    skip: int | None = None


class RegistryConnection:
    """To one registry. Thread-safe. base: `https://ghcr.io`, once `find_base` was called."""

    def __init__(self, host: str) -> None:
        self.host, self.base, self.seconds = host, "", deadline()
        self._server = "registry-1.docker.io" if host == DOCKER_HUB else host
        self._http = _connections(self._server, host)

    def own(self, url: str) -> bool:
        """Whether it is the registry's own, which alone gets to know who asks."""
        return urlsplit(url).netloc == self._server

    def find_base(self) -> None:
        """Ask whether it is a registry, with or without TLS. Raises Refused."""
        scheme, tries, waited = "http" if is_plain(self.host) else "https", 0, Deadline(self.seconds)
        while True:
            tries, url = tries + 1, f"{scheme}://{self._server}/v2/"
            try:
                reply = self.request(RegistryRequest("GET", url))
            except HTTPError as error:
                if tries >= TRIES or waited.over or hopeless(error):
                    raise self.unreachable(error, "ask what it is", tries, waited) from error
                pause(tries, waited, None)
                continue
            if reply.status == 400 and scheme == "http" and b"HTTPS server" in reply.data:
                scheme = "https"
            elif reply.status in (200, 401, 403):
                self.base = f"{scheme}://{self._server}"
                return
            elif reply.status not in AGAIN or tries >= TRIES or waited.over:
                raise Refused(f"{self.host} isn't an OCI registry: {url} answers {reply.status}",
                              "write oci://registry/name, for example oci://ghcr.io/team/models", "not-a-registry")
            else:
                pause(tries, waited, reply)

    def request(self, request: RegistryRequest) -> RegistryReply:
        """One answer, read to its end. Redirects of reads are followed, without what authorizes at another host.

        Raises HTTPError, Refused.
        """
        retries = urllib3.Retry(total=5, connect=0, read=0, redirect=5, status=0, other=0)
        response = self._http.request(
            request.method, request.url, body=request.body, retries=retries, redirect=request.method in ("GET", "HEAD"),
            headers={"Accept-Encoding": "identity", **_agent(), **request.headers}, preload_content=False,
            decode_content=False)
        return _read(response, request.most, request.skip)

    def send(self, url: str, headers: Mapping[str, str], body: BinaryIO) -> RegistryReply:
        """PUT what is read from `body`. Raises HTTPError, Refused."""
        response = self._http.request("PUT", url, body=body, redirect=False, retries=False, preload_content=False,
                                      headers={**_agent(), **headers})
        return _read(response, MOST_JSON, 0)

    def unreachable(self, error: Exception, what: str, tries: int, deadline: Deadline) -> Refused:
        """Why there was no answer, and how often it was tried."""
        tried = f" (tried {tries} times in {deadline.waited:.1f} s)" if tries > 1 else ""
        text = str(error.reason if hasattr(error, "reason") else error)
        if isinstance(getattr(error, "reason", error), SSLError):
            return Refused(f"{self.host} can't prove who it is, to {what}: {_short(text)}",
                           f"name its authority in SSL_CERT_FILE; a registry without TLS in {PLAIN_HTTP}",
                           "certificate-untrusted")
        return Refused(f"{self.host} can't be reached, or went away, to {what}{tried}: {_short(text)}",
                       "check the registry's name and the network, then repeat the command", "store-unreachable")


def is_plain(host: str) -> bool:
    """Whether it is spoken to without TLS: on this machine, as Docker does, or where the environment says so."""
    name = urlsplit(f"//{host}").hostname or ""
    if host in [entry.strip() for entry in os.environ.get(PLAIN_HTTP, "").split(",")]:
        return True
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def pause(tries: int, deadline: Deadline, reply: RegistryReply | None) -> None:
    """Before the next try: longer each time, not at the same time as others, as long as the registry says."""
    asked = reply.headers.get("retry-after", "") if reply else ""
    seconds = float(asked) if asked.isdigit() else min(0.2 * 2 ** tries, 5.0) * random.uniform(0.5, 1.0)  # noqa: S311
    deadline.sleep(seconds)


def _agent() -> dict[str, str]:
    return {"User-Agent": f"tfs-deploy/{__version__}"}


def hopeless(error: HTTPError) -> bool:
    """A certificate that isn't trusted, a name that nobody knows: another try wouldn't help."""
    return isinstance(getattr(error, "reason", error), SSLError | NameResolutionError)


def _short(text: str) -> str:
    return re.sub(r"^.*?>: |^.*?\): ", "", re.sub(r"\s+", " ", text))[:200]


def _read(response: urllib3.BaseHTTPResponse, most: int, skip: int | None) -> RegistryReply:
    """At most `most` bytes. Raises Refused for more, but where a range was asked for and all of it comes."""
    try:
        left = skip if skip and response.status == 200 else 0
        while left and (piece := response.read(min(left, _PIECE))):
            left -= len(piece)
        data = b"".join(_pieces(response, most))
        whole = skip is not None or len(data) < most or not response.read(1)
    finally:
        response.close() if response.length_remaining else response.release_conn()
    if not whole:
        raise Refused(f"a registry answers with more than {most:,} bytes", "look whether it is one",
                      "registry-answer")
    return RegistryReply(response.status, {k.lower(): v for k, v in response.headers.items()}, data)


def _pieces(response: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
    """Until the end, or `most`. Raises HTTPError where the connection is cut."""
    while most and (piece := response.read(most)):
        most -= len(piece)
        yield piece


def _connections(server: str, host: str) -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
    proxies = {} if proxy_bypass(server) or is_plain(host) else getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=16, timeout=timeout, blocksize=_PIECE)
    return urllib3.PoolManager(maxsize=16, timeout=timeout, blocksize=_PIECE)
