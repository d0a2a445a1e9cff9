"""All kinds of backends, and the questions that go to each of them. The only place that lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from deploy.backends.backend import Backend, ConfigStore
from deploy.backends.base import Inspected, Server
from deploy.backends.container import ContainerBackend
from deploy.backends.kubernetes.backend import KubernetesBackend
from deploy.backends.process import EmbeddedBackend, ProcessBackend
from deploy.backends.remote import RemoteBackend
from deploy.backends.swarm import SwarmBackend
from deploy.errors import BackendMissing, ServerError, SpecError
from deploy.render import Layout
from deploy.spec import Spec, check_alone
from deploy.types import ServedModel

if TYPE_CHECKING:
    from deploy.backends.replacement import Replacing

# In the order in which a server is looked for: the quick ones first
BACKENDS: Mapping[str, Backend] = {b.name: b for b in (
    RemoteBackend(), ProcessBackend(), EmbeddedBackend(), ContainerBackend(), SwarmBackend(), KubernetesBackend())}
# What `backend: auto` stands for: the first that offers to serve
AUTO: tuple[Backend, ...] = (BACKENDS["container"], BACKENDS["embedded"])


def backend_of(server: Server) -> Backend:
    """Where a server runs."""
    return BACKENDS[server.kind]


def preferred(spec: Spec) -> Backend:
    """The backend that the spec names; for `auto` the one that is asked first. Nothing is asked."""
    return BACKENDS.get(spec.server.backend, AUTO[0])


def find(spec: Spec) -> Server | None:
    """The spec's server that any process started: one that runs, or one that ended and whose backend keeps it.

    A backend that can't be asked has no server of ours, unless it is the one that the spec names: nobody can know then.
    Raises BackendMissing for that, ServerError if what is known of the server can't be read, SpecError for the spec of
    several servers.
    """
    check_alone(spec.path.name, spec.servers)
    for backend in BACKENDS.values():
        try:
            server = backend.find(spec)
        except BackendMissing:
            if backend.name == spec.server.backend:
                raise
            continue
        if server is not None:
            return server
    return None


def replacing(spec: Spec) -> Replacing:
    """The backend that the spec names. Raises ServerError where a server that runs can't get another configuration."""
    backend = preferred(spec)
    if not backend.capabilities.replaces:
        raise ServerError(f"{spec.name} has no pods to replace one by one: its backend is {spec.server.backend}",
                          id="not-replaced", hint="tfs down, then tfs up; or a fleet, one server after the other")
    return cast("Replacing", backend)


def logs(spec: Spec, tail: int) -> str | None:
    """The last lines of the spec's server, or of the last one that left any; None if none did."""
    server = find(spec)
    if server is not None:
        return server.logs(tail)
    return next((text for b in BACKENDS.values() if (text := b.logs(spec, tail)) is not None), None)


def left(spec: Spec, tail: int) -> tuple[Backend, Inspected] | None:
    """What the spec's server left that ended and wasn't stopped, and where it ran. Raises ServerError."""
    return next(((b, remains) for b in BACKENDS.values() if (remains := b.left(spec, tail)) is not None), None)


def forget(spec: Spec) -> None:
    """Remove what a server of the spec left that ended by itself; its log stays."""
    for backend in BACKENDS.values():
        backend.forget(spec)


def discard(spec: Spec) -> Sequence[str]:
    """Remove what the place keeps for the spec's server, which doesn't run; what it was. Raises ServerError."""
    return preferred(spec).discard(spec)


def config(spec: Spec, server: Server | None = None) -> ConfigStore:
    """Where the config files are of a server that was found, or of the one that the spec would start."""
    return (preferred(spec) if server is None else backend_of(server)).config(spec)


def base_paths(spec: Spec, model: ServedModel) -> frozenset[str]:
    """All the paths under which a server of the spec may have a model, whatever runs it."""
    return frozenset(layout.base_paths.get(model.name, model.base_path) for layout in _layouts(spec))


def _layouts(spec: Spec) -> Iterator[Layout]:
    for backend in BACKENDS.values():
        with suppress(SpecError):  # the spec doesn't say what a place of this kind needs: its server isn't there
            yield backend.layout(spec)
