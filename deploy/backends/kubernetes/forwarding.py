"""A pod's port on this machine, through the API server: for pods that can't be reached from here."""

from __future__ import annotations

import socket
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.backends.kubernetes.cluster import Cluster
from deploy.backends.kubernetes.refusals import translated
from deploy.backends.kubernetes.streams import forward, opened
from deploy.errors import DeployError

MOST_CONNECTIONS = 64  # at a time, for one port; those beyond it are closed at once


@dataclass(frozen=True, slots=True)
class _Port:
    """Of a pod. failures: what was wrong with the last connection."""

    cluster: Cluster
    pod: str
    number: int
    failures: list[str] = field(default_factory=list)

    def serve(self, here: socket.socket) -> None:
        """Until one side ends."""
        doing, why = f"forward port {self.number} of pod {self.pod}", ""
        path = f"{self.cluster.path(('v1', 'Pod'), self.pod)}/portforward?ports={self.number}"
        try:
            there = opened(self.cluster, path, doing)
            try:
                with translated(doing, self.cluster.where):
                    why = forward(here, there)
            finally:
                there.shutdown()
            self.failures[:] = [f"can't {doing}: {' '.join(why.split())}"] if why else []
        except DeployError as e:  # closed: the client says that nobody answers
            self.failures[:] = [e.message]


class Forward:
    """Listens on a free port of 127.0.0.1 until it is closed, or nobody has it any more.

    A connection that the API server or the pod refuses is closed: whoever made it sees a server that doesn't answer;
    `why` says what was wrong with the last one.
    """

    def __init__(self, cluster: Cluster, pod: str, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._to = _Port(cluster, pod, port)
        accepting = threading.Thread(target=_accept, args=(self._listener, self._to), daemon=True,
                                     name=f"port {port} of {pod}")
        self._close = weakref.finalize(self, _end, self._listener)
        accepting.start()

    @property
    def why(self) -> str:
        """Why the last connection came to nothing; "" if it didn't."""
        return "".join(self._to.failures)

    def close(self) -> None:
        """No further connections; those that are open stay."""
        self._close()


def _end(listener: socket.socket) -> None:
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _accept(listener: socket.socket, to: _Port) -> None:
    free = threading.BoundedSemaphore(MOST_CONNECTIONS)
    with suppress(OSError):  # closed
        while True:
            connection, _ = listener.accept()
            if not free.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=_serve, args=(connection, to, free), daemon=True).start()


def _serve(connection: socket.socket, to: _Port, free: threading.BoundedSemaphore) -> None:
    try:
        to.serve(connection)
    finally:
        connection.close()
        free.release()
