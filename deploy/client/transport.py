"""HTTP for one server: pooled connections, a deadline on everything, whole bodies in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from deploy.client import failures
from deploy.client.failures import CallSite
from deploy.client.headers import pem
from deploy.errors import ClientError
from deploy.types import Tls
from deploy.version import __version__
from deploy.waiting import Deadline

POOL = 64
"""Connections that are kept open. More threads than this are fine, they only connect anew."""

_CHUNK = 1 << 18
_LOOPBACK = ("127.", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whatever its status."""

    status: int
    body: bytes


class Transport:
    """Sends requests to one base URL. Thread-safe.

    Of the environment only the proxies are heeded, and not for this machine's own addresses.
    """

    def __init__(self, url: str, headers: Mapping[str, str], tls: Tls | None) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from requests.utils import get_environ_proxies

        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        if not (urlsplit(url).hostname or "").startswith(_LOOPBACK):
            self._session.proxies = get_environ_proxies(url)
        self._session.mount(self.url, HTTPAdapter(pool_connections=1, pool_maxsize=POOL))
        self._session.headers = requests.structures.CaseInsensitiveDict({  # what requests adds by itself is left out
            "Accept-Encoding": "identity", "Connection": "keep-alive",
            "User-Agent": f"tfs-deploy/{__version__}", **headers})
        if tls is not None:
            self._use(tls)

    def send(self, method: str, path: str, body: bytes | None, call: CallSite, deadline: Deadline) -> Reply:
        """One request. Raises Unreachable, TimedOut, BadReply, BadRequest; an error status is an answer."""
        timeout = None if deadline.seconds is None else max(deadline.left, 0.001)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            with self._session.request(method, self.url + path, data=body, headers=headers, timeout=timeout,
                                       allow_redirects=False, stream=True) as response:
                return Reply(response.status_code, _read(response.raw, call, deadline))
        except ClientError:
            raise
        except Exception as error:
            raise failures.from_http(error, call) from error

    def close(self) -> None:
        self._session.close()

    def _use(self, tls: Tls) -> None:
        for part in ("ca", "certificate", "key"):
            pem(tls, part)
        if tls.ca is not None:
            self._session.verify = tls.ca
        if tls.certificate is not None:
            self._session.cert = tls.certificate if tls.key is None else (tls.certificate, tls.key)


def _read(raw: Any, call: CallSite, deadline: Deadline) -> bytes:
    """The whole body. A socket's timeout starts anew with each packet; the deadline doesn't."""
    chunks = []
    while chunk := raw.read1(_CHUNK):
        chunks.append(chunk)
        if deadline.over:
            raise call.timed_out()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
