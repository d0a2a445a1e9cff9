"""Ports for servers that tests start."""

from __future__ import annotations

import itertools
import os
import random
import socket

_FIRST, _EACH, _WORKERS = 12000, 3000, 6  # below the ports that the system gives to clients: those come and go
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_NEXT = itertools.count(random.randrange(_EACH))


def free_ports(count: int = 2) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, and that no other test of this run gets."""
    ports = list[int]()
    for _ in range(_EACH):
        port = _FIRST + _WORKER * _EACH + next(_NEXT) % _EACH
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no port is free")
