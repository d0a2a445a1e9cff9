"""Which ports are free, and who has those that aren't."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

import psutil

from deploy.errors import PortTaken, ServerError


def pick(host: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name, the wanted one or for 0 any. All are held together, so no two are the same.

    Another program can still take one before the server does. Raises PortTaken naming the port and its owner.
    """
    held: list[socket.socket] = []
    try:
        for name, port in wanted.items():
            held.append(_hold(host, port, name))
        return {name: int(s.getsockname()[1]) for name, s in zip(wanted, held, strict=True)}
    finally:
        for s in held:
            s.close()


def _hold(host: str, port: int, name: str) -> socket.socket:
    family, _, _, _, address = _resolve(host, port)
    s = socket.socket(family, socket.SOCK_STREAM)
    # Past connections in TIME_WAIT don't matter; a listener still does. Never SO_REUSEPORT: gRPC servers set it
    # themselves, and two of them on one port share its connections without an error.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if os.name == "posix" else 0)
    try:
        s.bind(address)
    except OSError as e:
        s.close()
        raise _refused(host, port, name, e) from None
    return s


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]  # type: ignore[return-value]
    except OSError as e:
        raise ServerError(f"can't listen on {host}: {e.strerror or e}",
                          hint="server/host is an address of this machine", id="address-unusable") from None


def _refused(host: str, port: int, name: str, error: OSError) -> ServerError:
    if error.errno == errno.EADDRINUSE:
        by = owner(port)
        return PortTaken(f"{name} port {port} on {host} is taken{f' by {by}' if by else ''}",
                         hint="stop that program, or choose another port (0 takes any free one)",
                         details={"port": port, "by": by})
    hint = "ports below 1024 need privileges" if error.errno == errno.EACCES else ""
    return ServerError(f"can't listen on {host}:{port} ({name}): {error.strerror or error}", hint=hint,
                       details={"port": port}, id="address-unusable")


def owner(port: int) -> str:
    """Who listens on a port of this machine, as in `python3 (pid 4711)`; empty if that can't be seen."""
    return next(iter(owners(port)), "")


def owners(port: int) -> tuple[str, ...]:
    """All who listen on a port of this machine: with SO_REUSEPORT it can be several. Those that can be seen."""
    names: dict[int, str] = {}
    try:
        for c in psutil.net_connections("tcp"):
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid:
                names[c.pid] = f"{psutil.Process(c.pid).name()} (pid {c.pid})"
    except psutil.Error:
        pass
    return tuple(names.values())


def listens(address: str, port: int, timeout: float = 1.0) -> bool | None:
    """Whether anybody accepts connections there; None if that can't be told from here."""
    if not address:
        return None
    try:
        with socket.create_connection((address, port), timeout):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return None


def listened(processes: list[psutil.Process]) -> frozenset[int]:
    """The TCP ports on which any of the processes listens."""
    numbers: set[int] = set()
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue  # ended, or not ours to look into
        numbers.update(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN and c.laddr)
    return frozenset(numbers)
