"""Running a model server: in a container, as a process, or embedded. One Protocol (base.Server), one contract suite."""

from __future__ import annotations

from pathlib import Path

from deploy.backends import process_server
from deploy.backends.base import Kind, ProcessOptions, Progress, Server
from deploy.backends.container_options import ContainerOptions, Mount
from deploy.backends.process import EmbeddedServer
from deploy.backends.process_server import ProcessServer
from deploy.errors import BackendMissing

__all__ = ["ContainerOptions", "EmbeddedServer", "Kind", "Mount", "ProcessOptions", "ProcessServer", "Progress",
           "Server", "find"]


def find(name: str, state_dir: str | Path, *, contained: bool = False) -> Server | None:
    """The server that any process started with this name and state directory: a running process, or a container
    even if it ended (its logs are still there). Without a Docker engine there can't be a container of ours, unless it
    is known that there was to be one (contained): then BackendMissing is raised, since nobody can know.
    """
    found = process_server.find(name, state_dir)
    if found is not None:
        return found
    from deploy.backends import container_server

    try:
        return container_server.find(name, str(state_dir))
    except BackendMissing:
        if contained:
            raise
        return None
