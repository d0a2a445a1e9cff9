"""A pod's port on this machine, through the API server: for pods that can't be reached from here."""

from __future__ import annotations

import socket
import threading
import weakref
from contextlib import suppress
from typing import Any

from deploy.backends.kubernetes.cluster import Cluster
from deploy.backends.kubernetes.streams import forward, opened
from deploy.errors import DeployError

MOST_CONNECTIONS = 64  # at a time, for one port; those beyond it are closed at once


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
        there = connected(cluster, pod, port)
        try:
            forward(here, there)
        finally:
            there.shutdown()
    except (DeployError, OSError):
        pass  # closed: the client says that nobody answers
    finally:
        here.close()
        free.release()


def connected(cluster: Cluster, pod: str, port: int) -> Any:
    """A websocket to the pod's port. Raises BackendMissing, ServerError."""
    return opened(cluster, f"{cluster.path(('v1', 'Pod'), pod)}/portforward?ports={port}",
                  f"forward port {port} of pod {pod}")
