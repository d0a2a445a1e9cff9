"""`up`: from a spec to a server that serves exactly what the spec wants, or to nothing and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy import render
from deploy.backends import find as find_server
from deploy.backends.base import Kind, Progress, Server, endpoint_json, silent
from deploy.backends.container_options import container_user
from deploy.backends.ports import pick
from deploy.backends.process_server import forget
from deploy.errors import DeployError, ServerError
from deploy.locks import locked
from deploy.serving import preflight, readiness
from deploy.serving.backend_choice import Choice, choose_backend
from deploy.serving.known_good import as_proven, differences, note_start
from deploy.serving.planning import CONFIG_LABEL, Plan, digest, make, server_of
from deploy.serving.readiness import Connect, connected
from deploy.serving.resolving import Wanted, wanted
from deploy.serving.start_record import remember_failure, remember_start
from deploy.spec import Spec
from deploy.types import Endpoint
from deploy.waiting import Deadline

_HASTY = 0.5  # seconds of grace for a server that never served


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready. `already`: it was running before, with the same configuration."""

    endpoint: Endpoint
    server: Server
    backend: Kind
    why: str
    seconds: float
    models: tuple[Wanted, ...]
    already: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"name": self.server.name, "endpoint": endpoint_json(self.endpoint), "backend": self.backend,
                "why": self.why, "seconds": round(self.seconds, 3), "already": self.already,
                "models": {m.name: {"versions": sorted(m.versions), "labels": dict(m.labels)} for m in self.models}}


def up(spec: Spec, *, progress: Progress | None = None, connect: Connect = readiness.connect) -> Running:
    """Start the spec's server and return when it is ready; from then on it outlives this process.

    One that is running already with the same configuration is returned once it's ready. What rollouts have proven since
    the spec was written is started instead of what it says (see proven). progress: gets a sentence per step.
    connect: makes the controls that readiness asks.

    Raises SpecError, RepositoryError, LockHeld, BackendMissing, PortTaken, StartFailed, NotReady or ServerError.
    Whatever it raises, KeyboardInterrupt included, nothing that it started is left.
    """
    with locked(spec.state_dir, "up"):
        deadline = Deadline(spec.server.start_timeout)
        found = _running(spec)
        try:
            for difference in differences(spec) if found is None else ():
                (progress or silent)(difference)
            models = wanted(as_proven(spec))
            if found is None:
                return _start(spec, models, progress or silent, connect)
        except DeployError as e:
            remember_failure(spec, e)
            raise
        with connected(connect, found.endpoint) as controls:
            readiness.wait(found, controls, models, deadline, progress or silent)
        why = "it is running already, with this configuration"
        return Running(found.endpoint, found, found.kind, why, deadline.waited, models, already=True)


def _running(spec: Spec) -> Server | None:
    """The spec's server if it runs. What is left of one that ended is removed. Raises ServerError for another one."""
    found = find_server(spec.name, spec.state_dir)
    if found is None or not found.alive():
        if found is not None:
            found.stop(0)
        forget(spec.state_dir)
        return None
    if found.labels.get(CONFIG_LABEL) != digest(spec):
        raise ServerError(f"{spec.name} is running already, with another configuration than {spec.path.name} has now",
                          argv=found.argv, hint="stop it first: tfs down")
    return found


def _start(spec: Spec, models: tuple[Wanted, ...], progress: Progress, connect: Connect) -> Running:
    choice = choose_backend(spec, progress)
    progress(f"backend {choice.kind}: {choice.why}")
    preflight.check_readable(models, container_user() if choice.kind == "container" else None)
    made = _plan(spec, choice, models)
    render.write(made.files, made.config_dir)
    render.write(made.secrets, made.config_dir, secret_of=made.reader)
    made.config_dir.chmod(0o755)  # whatever the umask: a container's user is another one
    server, deadline = server_of(made, progress), Deadline(spec.server.start_timeout)
    try:
        endpoint = server.start()
        deadline = Deadline(spec.server.start_timeout)  # a pull has its own pace
        if not server.alive():
            raise readiness.ended(server)
        progress(f"started, gRPC {endpoint.grpc_target}, REST {endpoint.rest_url}")
        with connected(connect, endpoint) as controls:
            readiness.wait(server, controls, models, deadline, progress)
        note_start(spec, models)
        remember_start(spec)
        server.detach()
    except BaseException:
        server.stop(_HASTY)
        raise
    return Running(endpoint, server, choice.kind, choice.why, deadline.waited, models)


def _plan(spec: Spec, choice: Choice, models: tuple[Wanted, ...]) -> Plan:
    """The plan with real ports: the engine picks free ones for a container, for a process we do."""
    server = spec.server
    if choice.kind == "embedded" and server.flags.get("tfs_loader") != "echo":
        from deploy.backends.process import require

        require()
    # tensorflow_model_server itself can't be told an address: it listens on all of them
    host = "0.0.0.0" if choice.kind == "process" else server.host  # noqa: S104
    ports = {"gRPC": server.grpc_port, "REST": server.rest_port}
    if choice.kind != "container":
        ports = pick(host, ports)
    return make(as_proven(spec), choice, ports["gRPC"], ports["REST"], models, config=digest(spec))
