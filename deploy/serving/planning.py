"""What `up` would run, as plain data: files, command line, container options."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from deploy import render
from deploy.backends.base import LABEL, ProcessOptions, Server
from deploy.backends.container_options import (
    GRPC_PORT,
    PROGRAM,
    REST_PORT,
    ContainerOptions,
    Mount,
    container_user,
    docker_options,
)
from deploy.backends.process import embedded_options
from deploy.render.configs import MODELS
from deploy.render.layout import CONFIG_MOUNT, Layout
from deploy.serving import certificates
from deploy.serving.backend_choice import Choice, choose_backend
from deploy.serving.flags import check_values
from deploy.serving.known_good import as_proven
from deploy.serving.resolving import Wanted, wanted
from deploy.spec import Spec
from deploy.types import Endpoint

CONFIG_LABEL = f"{LABEL}.config"
_NOT_SHOWN = "# with the private key of server/tls, so it isn't shown; only the server's user can read it\n"
# How it is started and stopped, not what is served
_NOT_CONFIGURATION = ("backend", "start_timeout", "drain")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before something happens. `files` and `secrets` belong into `config_dir`."""

    choice: Choice
    files: Mapping[str, str]
    config_dir: Path
    options: ContainerOptions | ProcessOptions
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def reader(self) -> tuple[int, int]:
        """The server's user and group."""
        return reader(on_host=not isinstance(self.options, ContainerOptions))

    def to_json(self) -> dict[str, Any]:
        o = self.options
        run = {"container": docker_options(o)} if isinstance(o, ContainerOptions) else {"log_dir": o.state_dir}
        files = {**self.files, **dict.fromkeys(self.secrets, _NOT_SHOWN)}
        return {"name": o.name, "backend": self.choice.kind, "why": self.choice.why, "files": files,
                "config_dir": str(self.config_dir), "argv": list(o.argv or ()), **run}


def plan(spec: Spec) -> dict[str, Any]:
    """The dry run: what would be written and run, as JSON data. Nothing is pulled, written or started.

    A port of 0 stays 0 here: a free one is picked at the start. Raises what `up` raises before it starts anything.
    """
    proven = as_proven(spec)
    models = wanted(proven)
    made = make(proven, choose_backend(spec, pull=False), spec.server.grpc_port, spec.server.rest_port)
    return made.to_json() | {"wanted": {m.name: {"versions": sorted(m.versions), "labels": dict(m.labels)}
                                        for m in models}}


def reader(*, on_host: bool) -> tuple[int, int]:
    """User and group of a server that is a process here, or in a container."""
    uid, gid = (os.getuid(), os.getgid()) if on_host else map(int, container_user().split(":"))
    return uid, gid


def make(spec: Spec, choice: Choice, grpc_port: int, rest_port: int, models: Iterable[Wanted] = (), *,
         config: str | None = None) -> Plan:
    """The plan for one kind of server. The ports are the host's. models: what a container has to find inside.

    config: the digest that it is started under, if not this spec's.
    """
    check_values(spec.server.flags)
    labels = {CONFIG_LABEL: config or digest(spec), **certificates.labels(spec.server.tls)}
    secrets = certificates.secrets(spec)
    config_dir = spec.state_dir / "config"
    if choice.kind == "container":
        layout = render.mounted_layout(spec)
        container = _container(spec, layout, config_dir, grpc_port, rest_port)
        container = replace(container, expects=tuple(_expected(layout, models)), labels=labels)
        return Plan(choice, render.files(spec, layout), config_dir, container, secrets)
    layout = render.host_layout(spec, config_dir)
    flags = render.argv(spec, layout, grpc_port, rest_port)
    endpoint = Endpoint(spec.server.host, grpc_port, rest_port)
    options = (embedded_options(spec.name, flags, endpoint, spec.state_dir, drain=spec.server.drain, labels=labels)
               if choice.kind == "embedded" else
               ProcessOptions(spec.name, (spec.server.binary, *flags), endpoint, str(spec.state_dir), labels=labels))
    return Plan(choice, render.files(spec, layout), config_dir, options, secrets)


def _container(spec: Spec, layout: Layout, config_dir: Path, grpc_port: int, rest_port: int) -> ContainerOptions:
    server, limits = spec.server, spec.server.resources
    # The engine's daemon resolves the paths, so links have to be resolved here, where they are understood
    mounts = [Mount(str(Path(m.base_path).resolve()), layout.base_paths[m.name]) for m in spec.models]
    mounts.append(Mount(str(config_dir), str(CONFIG_MOUNT)))
    return ContainerOptions(
        name=spec.name, image=server.image, argv=(PROGRAM, *render.argv(spec, layout, GRPC_PORT, REST_PORT)),
        state_dir=str(spec.state_dir), mounts=tuple(mounts), host=server.host, grpc_port=grpc_port, rest_port=rest_port,
        user=container_user(), cpus=limits.cpus, memory=limits.memory, gpus=limits.gpus, restart=server.restart)


def _expected(layout: Layout, models: Iterable[Wanted]) -> Iterator[str]:
    yield layout.config(MODELS)
    for model in models:
        for path in model.paths.values():
            yield f"{layout.base_paths[model.name]}/{path.name}/saved_model.pb"


def server_of(made: Plan, progress: Any) -> Server:
    """The server that a plan describes, not started."""
    if isinstance(made.options, ContainerOptions):
        from deploy.backends.container_server import ContainerServer

        return ContainerServer(made.options, progress=progress)
    from deploy.backends.process import EmbeddedServer
    from deploy.backends.process_server import ProcessServer

    return EmbeddedServer(made.options) if made.choice.kind == "embedded" else ProcessServer(made.options)


def digest(spec: Spec) -> str:
    """Equal for specs that run the same server; what `up` compares with a server that is running already."""
    return digest_of(configuration(spec))


def configuration(spec: Spec) -> dict[str, Any]:
    """Everything that makes a server another one, as JSON data."""
    server = {k: v for k, v in msgspec.to_builtins(spec.server).items() if k not in _NOT_CONFIGURATION}
    return {"server": server, "files": render.files(spec, render.mounted_layout(spec)),
            "base_paths": {m.name: m.base_path for m in spec.models}, **certificates.fingerprint(spec)}


def digest_of(told: Mapping[str, Any]) -> str:
    """The digest of a configuration."""
    return "sha256:" + hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
