"""How a serving container is run, as plain data. Nothing here talks to an engine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deploy.backends.base import LABEL
from deploy.render.configs import GRPC_PORT, REST_PORT

NOBODY = "65534:65534"
NAME_LABEL, STATE_LABEL, RUN_LABEL = f"{LABEL}.name", f"{LABEL}.state", f"{LABEL}.run"
IMAGE_LABEL, DIGEST_LABEL = f"{LABEL}.image", f"{LABEL}.image.digest"  # as the spec says it; what it stood for
_OWN = (NAME_LABEL, STATE_LABEL, RUN_LABEL, IMAGE_LABEL, DIGEST_LABEL)
# As the engine, Podman and Docker Desktop say that a mount's source isn't on the machine of theirs
_NOT_THERE = re.compile(r"bind source path does not exist|statfs .*no such file|error while creating mount source path|"
                        r"[Mm]ounts denied|is not shared from the host")
PROCESSES = 4096  # and threads: some hundreds for requests, and several per core for TensorFlow
LOGS = {"max-size": "20m", "max-file": "5"}
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the engine's machine, or a named volume, read-only inside."""

    source: str
    target: str
    volume: bool = False

    def to_docker(self) -> dict[str, Any]:
        """As the engine wants it. A new volume isn't filled with what the image has there."""
        options = {"VolumeOptions": {"NoCopy": True}} if self.volume else {}
        return {"Type": "volume" if self.volume else "bind", "Source": self.source, "Target": self.target,
                "ReadOnly": True, **options}


@dataclass(frozen=True, slots=True)
class Host:
    """The engine's machine. memory: bytes, 0 if unknown or not to be limited. pids: whether processes can be limited.
    log_driver: the engine's own choice."""

    memory: int = 0
    pids: bool = True
    log_driver: str = "json-file"


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """A server in a container.

    image: a tag, a digest (name@sha256:...) or an id.
    argv: program first; None keeps the image's own entry point and command.
    state_dir: identifies the server on the engine together with its name; nothing is written there.
    grpc_port, rest_port: on the host; 0 takes any free one.
    expects: files that have to be there inside; a mount can be empty if the engine is on another machine or in a VM.
    user: uid:gid. memory: bytes, or with k, m, g; by default nine tenths of the machine's, so that the server is what
    ends when memory does. gpus: a number or "all".
    """

    name: str
    image: str
    argv: tuple[str, ...] | None
    state_dir: str
    mounts: tuple[Mount, ...] = ()
    expects: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    grpc_port: int = GRPC_PORT
    rest_port: int = REST_PORT
    user: str = NOBODY
    cpus: float | None = None
    memory: str | None = None
    gpus: int | Literal["all"] | None = None
    restart: Literal["no", "on-failure", "unless-stopped", "always"] = "no"
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    docker: str | None = None
    docker_tls: str | None = None

    @property
    def container_name(self) -> str:
        """One name per server, so the engine itself refuses a second one."""
        return name_on_engine(self.name, self.state_dir)

    def to_json(self) -> dict[str, Any]:
        """What a dry run shows beside files and command line."""
        return {"container": docker_options(self)}


def name_on_engine(name: str, state_dir: str) -> str:
    """What a server is called there: another one for each state directory."""
    return f"tfs-{name}-{hashlib.sha256(state_dir.encode()).hexdigest()[:8]}"


def container_user() -> str:
    """Who the server runs as: the caller, who can read the caller's models, but never root."""
    return NOBODY if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"


def docker_options(options: ContainerOptions, host: Host = Host()) -> dict[str, Any]:
    """The arguments for the Docker SDK's containers.create().

    The restart policy isn't among them: a server that dies while starting has to stay dead, so that its logs and
    exit code can be read. It is set once the server is ready (`restart_policy`).
    """
    o = options
    ports = {f"{GRPC_PORT}/tcp": (o.host, o.grpc_port or None), f"{REST_PORT}/tcp": (o.host, o.rest_port or None)}
    create: dict[str, Any] = {
        "image": o.image,
        "name": o.container_name,
        "labels": {**o.labels, NAME_LABEL: o.name, STATE_LABEL: o.state_dir},
        "environment": {"HOME": "/tmp", **o.environment},  # noqa: S108  the container's own
        "mounts": [mount.to_docker() for mount in o.mounts],
        "ports": ports,
        "init": True,  # pid 1 without a handler ignores SIGTERM
        "user": o.user,
        "read_only": True,
        "tmpfs": {"/tmp": "size=256m,mode=1777"},  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    if o.argv is not None:
        # The stock image's entry point is a shell that passes signals to nobody and puts in flags of its own
        create |= {"entrypoint": [o.argv[0]], "command": list(o.argv[1:])}
    return create | _limits(o, host)


def _limits(o: ContainerOptions, host: Host) -> dict[str, Any]:
    limits: dict[str, Any] = {"pids_limit": PROCESSES} if host.pids else {}
    if host.log_driver == "json-file":  # the others rotate by themselves, or are somebody's central logs
        limits["log_config"] = {"Type": "json-file", "Config": dict(LOGS)}
    if o.cpus is not None:
        limits["nano_cpus"] = round(o.cpus * 1e9)
    if o.memory is not None:
        # The same for memory and swap: a server that swaps is slower than one that is restarted
        limits |= {"mem_limit": memory_bytes(o.memory), "memswap_limit": memory_bytes(o.memory)}
    elif host.memory:
        # Nobody asked for a limit: a model that only fits with the machine's swap goes on to fit
        limits |= {"mem_limit": host.memory * 9 // 10, "memswap_limit": -1}
    if o.gpus is not None:
        limits["device_requests"] = [{"count": -1 if o.gpus == "all" else o.gpus, "capabilities": [["gpu"]]}]
    return limits


def restart_policy(options: ContainerOptions) -> dict[str, Any]:
    """The policy for the Docker SDK's container.update()."""
    return {"Name": options.restart} | ({"MaximumRetryCount": 5} if options.restart == "on-failure" else {})


def memory_bytes(memory: str) -> int:
    """`512m` as bytes."""
    unit = _UNITS.get(memory[-1].lower())
    return int(memory[:-1]) * unit if unit else int(memory)


def options_of(attrs: Mapping[str, Any]) -> ContainerOptions:
    """What a container was started with, read back from the engine's view of it."""
    config, host = attrs["Config"], attrs["HostConfig"]
    all_labels: Mapping[str, str] = config.get("Labels") or {}
    bindings = {k: v[0] for k, v in (host.get("PortBindings") or {}).items() if v}
    grpc, rest = (bindings.get(f"{port}/tcp", {}) for port in (GRPC_PORT, REST_PORT))
    labels = {k: v for k, v in all_labels.items() if k.startswith(f"{LABEL}.") and k not in _OWN}
    return ContainerOptions(
        name=all_labels[NAME_LABEL], image=all_labels.get(IMAGE_LABEL, config["Image"]),
        state_dir=all_labels[STATE_LABEL],
        argv=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        mounts=tuple(Mount(m["Source"], m["Target"], m.get("Type") == "volume") for m in host.get("Mounts") or ()),
        host=grpc.get("HostIp") or "127.0.0.1", grpc_port=int(grpc.get("HostPort") or 0),
        rest_port=int(rest.get("HostPort") or 0), user=config.get("User", ""), labels=labels)


def unseen_source(message: str, mounts: Iterable[Mount]) -> str:
    """The directory that is here, and that the engine says it doesn't find or may not share; empty if it says
    something else."""
    if not _NOT_THERE.search(message):
        return ""
    return next((m.source for m in mounts if m.source in message and Path(m.source).exists()), "")
