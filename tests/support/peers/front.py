"""What stands between a client and a real HTTP server, and does what networks, proxies and busy services do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    status: answered at once, with `headers` and `body`, and nothing is passed on. add: to the answer's headers.
    cut: the connection ends after so many bytes of the request's body; cut_answer: of the answer's.
    without: this header of the request is lost. damaged: the answer's first byte is another one; damaged_request: the
    last of the request's body. slow: seconds before each 64 kB of the answer.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    add: tuple[tuple[str, str], ...] = ()
    cut: int = -1
    cut_answer: int = -1
    without: str = ""
    damaged: bool = False
    damaged_request: bool = False
    slow: float = 0.0


Faults = Callable[[str, str], Fault | None]
"""Gets method and path of each request."""


@contextmanager
def front(server: str, faults: Faults, *, seen: Callable[[str, str, Mapping[str, str]], None] | None = None,
          sent: Callable[[int], object] | None = None) -> Iterator[str]:
    """`127.0.0.1:port` of one in front of `server`, which is host:port.

    seen: gets each request's headers, too. sent: how many bytes of an answer's body go back, piece by piece.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def _pass(self) -> None:
            if seen:
                seen(self.command, self.path, dict(self.headers.items()))
            fault = faults(self.command, self.path) or Fault()
            length = int(self.headers.get("Content-Length") or 0)
            if fault.status:
                self.rfile.read(length)
                self.send_response(fault.status)
                for name, value in (*fault.headers, ("Content-Length", str(len(fault.body)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(fault.body)
                return
            if 0 <= fault.cut < length:
                self.rfile.read(fault.cut)
                self._end()
                return
            self._forward(fault, length)

        def _forward(self, fault: Fault, length: int) -> None:
            connection = http.client.HTTPConnection(server, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() != fault.without.lower()}
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            while length and (piece := self.rfile.read(min(length, _PIECE))):
                length -= len(piece)
                if fault.damaged_request and not length:
                    piece = piece[:-1] + bytes([piece[-1] ^ 1])
                connection.send(piece)
            answer = connection.getresponse()
            self.send_response_only(answer.status)
            for name, value in (*answer.getheaders(), *fault.add):
                if name.lower() != "transfer-encoding":
                    self.send_header(name, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            self._answer(answer, fault)
            connection.close()

        def _answer(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
            left = fault.cut_answer if fault.cut_answer >= 0 else 1 << 62
            first = fault.damaged
            while piece := answer.read(min(_PIECE, left)):
                left -= len(piece)
                stopped.wait(fault.slow)
                if sent:
                    sent(len(piece))
                self.wfile.write(bytes([piece[0] ^ 1]) + piece[1:] if first else piece)
                first = False
                if not left:
                    self._end()
                    return

        def _end(self) -> None:
            self.close_connection = True
            self.connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass

    stopped = threading.Event()

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is what is tested."""

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.server_address[1]}"
        finally:
            stopped.set()
            listening.shutdown()
            thread.join(10)


def times(count: int, fault: Fault, when: Callable[[str, str], bool]) -> Faults:
    """The fault for the first so many requests that it is about."""
    left, lock = [count], threading.Lock()

    def faults(method: str, path: str) -> Fault | None:
        with lock:
            if left[0] and when(method, path):
                left[0] -= 1
                return fault
        return None

    return faults
