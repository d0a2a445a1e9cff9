"""Readiness over HTTP: any path answers 200 or 503, with the verdict as JSON. For load balancers and orchestrators."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, Protocol

from deploy.errors import PortTaken


class Readiness(Protocol):
    """Of one server (ready.ReadyAnswer), or of several."""

    @property
    def ready(self) -> bool: ...

    def to_json(self) -> dict[str, Any]: ...


class Cached:
    """One look at a time, and at most one per `seconds`: however many probes there are, the server is asked once."""

    def __init__(self, ask: Callable[[], Readiness], seconds: float = 0.5) -> None:
        self._ask, self._seconds, self._lock = ask, seconds, Lock()
        self._last: tuple[float, Readiness] | None = None

    def __call__(self) -> Readiness:
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self._seconds:
                answer = self._ask()
                self._last = (time.monotonic(), answer)
            return self._last[1]


def listen(ask: Callable[[], Readiness], host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; `serve_forever` answers. host: 127.0.0.1, unless somebody asks from another machine.
    port: 0 for any. Raises PortTaken."""
    cached = Cached(ask)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10.0

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            answer = cached()
            data = json.dumps(answer.to_json()).encode() + b"\n"
            self.send_response(200 if answer.ready else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds: nothing is logged."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as e:
        raise PortTaken(f"can't listen on {host}:{port}: {e.strerror or e}",
                        hint="choose another port (0 takes any free one)") from None
    server.daemon_threads = True
    return server
