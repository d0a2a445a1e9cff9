"""Services of Docker Swarm with one task each: Swarm starts it again, and moves nothing.

A task can't be changed, only replaced: also Docker's own configs are fixed from its start to its end. A release must
not end the server, so config files are where a container has them, in a mount or a volume, and not in Docker configs.
These belong to one node, the manager that is asked, so the task stays on it. Ports are published by the node itself
(host mode): behind Swarm's routing mesh nobody knows which task answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from deploy.backends.base import LABEL, Inspected, Progress, silent
from deploy.backends.container_options import (
    DIGEST_LABEL,
    IMAGE_LABEL,
    NAME_LABEL,
    RUN_LABEL,
    STATE_LABEL,
    ContainerOptions,
    Mount,
    memory_bytes,
)
from deploy.backends.container_server import ContainerServer
from deploy.backends.engine import Engine
from deploy.backends.engine_errors import translated
from deploy.backends.inspecting import inspect
from deploy.errors import BackendMissing, PortTaken, ServerError, StartFailed
from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.waiting import Deadline, poll

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.services import Service

_OWN = (NAME_LABEL, STATE_LABEL, RUN_LABEL, IMAGE_LABEL, DIGEST_LABEL)
_CONDITIONS = {"no": "none", "on-failure": "on-failure", "unless-stopped": "any", "always": "any"}
_PLACED = 60.0  # seconds for a task to get its container
_ENDED = 30.0  # seconds beside its grace for one to go
EVERYWHERE = "0.0.0.0"  # noqa: S104  what a service listens on
_SECOND = 1_000_000_000  # nanoseconds


class SwarmServer(ContainerServer):
    """See base.Server. A service, and the container of its task that was started last."""

    def __init__(self, options: ContainerOptions, *, progress: Progress = silent, engine: Engine | None = None,
                 connect: Callable[[], Engine] | None = None, service: Service | None = None) -> None:
        """service: of a server that was found; then engine is its."""
        super().__init__(options, progress=progress, engine=engine, connect=connect)
        if service is not None and engine is not None:
            self._run = str(service.attrs["Spec"]["Labels"][RUN_LABEL])
            self._detached = self._started = True
            self._reach(engine)
            self._state()

    @property
    def _service(self) -> str:
        return service_name(self.options)

    @property
    def kind(self) -> str:
        return "swarm"

    def _create_and_start(self, engine: Engine) -> None:
        node = check_manager(engine)
        pinned = engine.pinned(self.options.image)
        image = pinned if "@" in pinned else self.options.image  # an image that no registry has is found by name only
        labels = {**self.options.labels, NAME_LABEL: self.options.name, STATE_LABEL: self.options.state_dir,
                  RUN_LABEL: self._run, IMAGE_LABEL: self.options.image, DIGEST_LABEL: pinned}
        with translated(f"create service {self._service}", engine.where):
            api: Any = engine.client.api
            api.create_service(**service_options(self.options, image, labels, node))
        self._await_container()
        self._look_inside()

    def _await_container(self) -> None:
        """Raises PortTaken, StartFailed if Swarm gives the task none."""
        error = ""

        def placed() -> bool | None:
            nonlocal error
            tasks = self._tasks()
            error = next((str(task["Status"].get("Err") or "") for task in tasks), "")
            if "host-mode port" in error or any(t["Status"]["State"] in ("rejected", "failed") and not _container(t)
                                                for t in tasks):
                return False
            return (bool(self._state().get("StartedAt")) and self._container is not None) or None

        if not poll(placed, Deadline(_PLACED)):
            kind = PortTaken if "host-mode port" in error else StartFailed
            raise kind(f"Swarm can't start {self._service}: {error or 'no task got a container'}",
                       hint="docker service ps --no-trunc shows its tasks")

    def _tasks(self) -> list[Mapping[str, Any]]:
        """Newest first."""
        tasks: list[Mapping[str, Any]] = [task for service in self._services() for task in service.tasks()]
        return sorted(tasks, key=lambda task: str(task["CreatedAt"]), reverse=True)

    def _services(self) -> list[Any]:  # the SDK's services have no types
        return list(services(self._engine, {RUN_LABEL: self._run})) if self._engine is not None else []

    def _current(self) -> Container | None:
        """The container of the task that was started last."""
        import docker.errors

        assert self._engine is not None
        for task in self._tasks():
            with suppress(docker.errors.NotFound):
                if name := _container(task):
                    return self._engine.client.containers.get(name)
        return None

    def _state(self) -> dict[str, Any]:
        if self._engine is None:
            return {}
        with translated(f"look at service {self._service}", self._engine.where):
            self._container = self._current()
        return super()._state()

    def pending(self, *, traffic: bool = False) -> str:  # noqa: ARG002  it is the same for both
        """Raises StartFailed for a service that somebody has scaled: only its newest task is seen, and told."""
        with translated(f"look at service {self._service}", getattr(self._engine, "where", "")):
            counts = [(s.attrs["Spec"]["Mode"].get("Replicated") or {}).get("Replicas") for s in self._services()]
        if counts and counts != [1]:
            raise StartFailed(f"somebody has scaled service {self._service} to {counts[0]} tasks, and a "
                              "release tells one", argv=self.argv, id="swarm-scaled",
                              hint=f"docker service scale {self._service}=1; for more servers write them "
                                   "into the spec: servers")
        return ""

    def inspect(self, tail: int) -> Inspected:
        self._state()
        return inspect(str(self._container.name if self._container else self._service), tail=tail,
                       engine=self._engine)

    def detach(self) -> None:
        self._detached = True  # how it is started again stands in its service

    def stop(self, grace: float = 10.0) -> None:
        if self._engine is None:
            return
        with translated(f"stop service {self._service}", self._engine.where):
            ends = [container for task in self._tasks() if (container := self._of(task)) is not None]
            for service in self._services():
                service.remove()
            for container in ends:
                _end(container, grace)
        self._container = None

    def _of(self, task: Mapping[str, Any]) -> Container | None:
        import docker.errors

        assert self._engine is not None
        with suppress(docker.errors.NotFound):
            return self._engine.client.containers.get(name) if (name := _container(task)) else None
        return None

    def describe(self) -> dict[str, Any]:
        facts = super().describe()
        name = self._container.name if self._container is not None else self._service
        return {**facts, "container_name": name, "service": self._service}

    def _digest(self) -> str | None:
        return next((s.attrs["Spec"]["Labels"].get(DIGEST_LABEL) for s in self._services()), None)


def check_manager(engine: Engine) -> str:
    """The node that the engine is. Raises BackendMissing unless it manages a swarm."""
    with translated("ask for the swarm", engine.where):
        swarm = engine.client.info().get("Swarm") or {}
    if not swarm.get("ControlAvailable"):
        raise BackendMissing(f"the Docker engine at {engine.where} manages no swarm", id="swarm-unusable",
                             hint="docker swarm init makes one; or name a manager: server/docker")
    return str(swarm["NodeID"])


def find(engine: Engine, labels: Mapping[str, str]) -> SwarmServer | None:
    """The server whose service has these labels. Raises ServerError."""
    service = next(iter(services(engine, labels)), None)
    return None if service is None else SwarmServer(options_of(service.attrs["Spec"]), engine=engine, service=service)


def services(engine: Engine, labels: Mapping[str, str]) -> list[Service]:
    """Those with all of these labels; none on an engine that manages no swarm."""
    try:
        with translated("list the services", engine.where):
            return list(engine.client.services.list(filters={"label": [f"{k}={v}" for k, v in labels.items()]}))
    except ServerError as e:
        if e.details.get("status") in (406, 503):
            return []
        raise


def service_name(o: ContainerOptions) -> str:
    """A name as DNS has them, at most 63 characters: Swarm takes no other. What is cut off is in its last part, too."""
    head, _, tail = re.sub(r"[^A-Za-z0-9-]+", "-", o.container_name).rpartition("-")
    return f"{head[:62 - len(tail)].rstrip('-')}-{tail}"


def service_options(o: ContainerOptions, image: str, labels: Mapping[str, str], node: str) -> dict[str, Any]:
    """The arguments for the Docker SDK's create_service(): as closed as a container can be in Swarm."""
    mounts = [mount.to_docker() for mount in o.mounts]
    mounts.append({"Type": "tmpfs", "Target": "/tmp",  # noqa: S108  the container's own
                   "TmpfsOptions": {"SizeBytes": 256 << 20, "Mode": 0o1777}})
    container: dict[str, Any] = {
        "Image": image, "Mounts": mounts, "User": o.user, "ReadOnly": True, "Init": True, "CapabilityDrop": ["ALL"],
        "Env": [f"{k}={v}" for k, v in {"HOME": "/tmp", **o.environment}.items()],  # noqa: S108
        "StopGracePeriod": 10 * _SECOND}
    if o.argv is not None:
        container |= {"Command": [o.argv[0]], "Args": list(o.argv[1:])}
    limits = {"NanoCPUs": round(o.cpus * 1e9)} if o.cpus is not None else {}
    if o.memory is not None:
        limits["MemoryBytes"] = memory_bytes(o.memory)
    restart: dict[str, Any] = {"Condition": _CONDITIONS[o.restart], "Delay": _SECOND}
    task = {"ContainerSpec": container, "Resources": {"Limits": limits}, "RestartPolicy": restart,
            "Placement": {"Constraints": [f"node.id=={node}"]}}
    return {"name": service_name(o), "labels": dict(labels), "mode": {"Replicated": {"Replicas": 1}},
            "task_template": task, "endpoint_spec": {"Ports": [
                _published(GRPC_PORT, o.grpc_port), _published(REST_PORT, o.rest_port)]}}


def _published(inside: int, port: int) -> dict[str, Any]:
    given = {"PublishedPort": port} if port else {}  # else any free one
    return {"Protocol": "tcp", "TargetPort": inside, "PublishMode": "host", **given}


def options_of(spec: Mapping[str, Any]) -> ContainerOptions:
    """What a service was started with, read back from the engine's view of it."""
    container, labels = spec["TaskTemplate"]["ContainerSpec"], spec["Labels"]
    ports = {p["TargetPort"]: p.get("PublishedPort", 0) for p in spec.get("EndpointSpec", {}).get("Ports") or ()}
    return ContainerOptions(
        name=labels[NAME_LABEL], image=labels[IMAGE_LABEL], state_dir=labels[STATE_LABEL], host=EVERYWHERE,
        argv=(*(container.get("Command") or ()), *(container.get("Args") or ())),
        mounts=tuple(Mount(m["Source"], m["Target"], m.get("Type") == "volume") for m in container.get("Mounts") or ()
                     if m.get("Source")),
        grpc_port=ports.get(GRPC_PORT, 0), rest_port=ports.get(REST_PORT, 0), user=container.get("User", ""),
        labels={k: v for k, v in labels.items() if k.startswith(f"{LABEL}.") and k not in _OWN})


def _container(task: Mapping[str, Any]) -> str:
    return str((task["Status"].get("ContainerStatus") or {}).get("ContainerID") or "")


def _end(container: Container, grace: float) -> None:
    """SIGTERM, wait, SIGKILL; Swarm removes what is left of it, or we do."""
    import docker.errors

    def gone() -> bool | None:
        try:
            container.reload()
        except docker.errors.NotFound:
            return True
        return None

    with suppress(docker.errors.APIError):
        container.stop(timeout=max(0, round(grace)))
    if not poll(gone, Deadline(grace + _ENDED)):
        with suppress(docker.errors.APIError):
            container.remove(force=True)
