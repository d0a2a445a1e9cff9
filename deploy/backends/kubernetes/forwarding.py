"""A pod's port on this machine, through the API server: for pods that can't be reached from here."""

from __future__ import annotations

import socket
import threading
import weakref
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from deploy.backends.kubernetes.cluster import Cluster
from deploy.backends.kubernetes.refusals import translated
from deploy.errors import DeployError

MOST_CONNECTIONS = 64  # at a time, for one port; those beyond it are closed at once
_CHUNK = 1 << 16  # bytes
_CONNECT = 10.0  # seconds until the API server has to have let a connection through


class Forward:
    """Listens on a free port of 127.0.0.1 until it is closed, or nobody has it any more.

    A connection that the API server or the pod refuses is closed: whoever made it sees a server that doesn't answer.
    """

    def __init__(self, cluster: Cluster, pod: str, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        accepting = threading.Thread(target=_accept, args=(self._listener, cluster, pod, port), daemon=True,
                                     name=f"port {port} of {pod}")
        self._close = weakref.finalize(self, _end, self._listener)
        accepting.start()

    def close(self) -> None:
        """No further connections; those that are open stay."""
        self._close()


def _end(listener: socket.socket) -> None:
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _accept(listener: socket.socket, cluster: Cluster, pod: str, port: int) -> None:
    free = threading.BoundedSemaphore(MOST_CONNECTIONS)
    with suppress(OSError):  # closed
        while True:
            connection, _ = listener.accept()
            if not free.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=_serve, args=(connection, cluster, pod, port, free), daemon=True).start()


def _serve(here: socket.socket, cluster: Cluster, pod: str, port: int, free: threading.BoundedSemaphore) -> None:
    try:
        there = _open(cluster, pod, port)
        back = threading.Thread(target=_pump, args=(there, here), daemon=True)
        back.start()
        _pump(here, there)
        back.join()
    except (DeployError, OSError):
        pass  # closed: the client says that nobody answers
    finally:
        here.close()
        free.release()


def _open(cluster: Cluster, pod: str, port: int) -> Any:
    """A socket whose other end is the pod's port."""
    from kubernetes.stream.ws_client import PortForward, create_websocket, get_websocket_url

    path = f"{cluster.path(('v1', 'Pod'), pod)}/portforward?ports={quote(str(port))}"
    headers = {"sec-websocket-protocol": "v4.channel.k8s.io", **cluster.authorization()}
    with translated(f"forward port {port} of pod {pod}", cluster.where):
        opened = create_websocket(cluster.configuration, get_websocket_url(cluster.configuration.host + path), headers)
        opened.settimeout(None)
        return PortForward(opened, [port]).socket(port)


def _pump(source: Any, target: Any) -> None:
    with suppress(OSError, ValueError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError, ValueError):
        target.shutdown(socket.SHUT_WR)
