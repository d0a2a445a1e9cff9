"""`up`: from a spec to a server that serves exactly what the spec wants, or to nothing and a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy import backends
from deploy.backends import Progress, Server, silent
from deploy.backends.base import endpoint_json
from deploy.errors import DeployError, ServerError
from deploy.locks import locked
from deploy.serving import preflight, snapshot, startup
from deploy.serving.known_good import as_proven, differences, note_start
from deploy.serving.planning import CONFIG_LABEL, choose_backend, digest, make
from deploy.serving.resolving import Wanted, wanted
from deploy.serving.snapshot import Connect, connected, open_release
from deploy.serving.start_record import remember_failure, remember_start
from deploy.spec import Spec
from deploy.state import Ledger
from deploy.state.ledger import Line
from deploy.types import Endpoint
from deploy.waiting import Deadline

_HASTY = 0.5  # seconds of grace for a server that never served


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready. `already`: it was running before, with the same configuration."""

    endpoint: Endpoint
    server: Server
    backend: str
    why: str
    seconds: float
    models: tuple[Wanted, ...]
    already: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"name": self.server.name, "endpoint": endpoint_json(self.endpoint), "backend": self.backend,
                "why": self.why, "seconds": round(self.seconds, 3), "already": self.already,
                "models": {m.name: {"versions": sorted(m.versions), "labels": dict(m.labels)} for m in self.models}}


def up(spec: Spec, *, progress: Progress | None = None, connect: Connect = snapshot.connect) -> Running:
    """Start the spec's server and return when it is ready; from then on it outlives this process.

    One that is running already with the same configuration is returned once it's ready. What rollouts have proven since
    the spec was written is started instead of what it says (see known_good). progress: gets a sentence per step.
    connect: makes the controls that readiness asks.

    Raises SpecError, RepositoryError, LockHeld, BackendMissing, PortTaken, StartFailed, NotReady or ServerError.
    Whatever it raises, KeyboardInterrupt included, nothing that it started is left.
    """
    progress = progress or silent
    with locked(spec.state_dir, "up"):
        deadline = Deadline(spec.server.start_timeout)
        found = _running(spec)
        try:
            lines = Ledger(spec.state_dir).read()
            proven = as_proven(spec, lines)
            for difference in differences(spec, proven) if found is None else ():
                progress(difference)
            models = wanted(proven)
            if found is None:
                return _start(spec, proven, models, lines, progress=progress, connect=connect)
        except DeployError as e:
            remember_failure(spec, e)
            raise
        with connected(connect, found.endpoint) as controls:
            releases = {m.name: r for m in models if (r := open_release(lines, m.name)) is not None}
            startup.wait(found, controls, models, deadline, progress, changes=releases)
        why = "it is running already, with this configuration"
        return Running(found.endpoint, found, found.kind, why, deadline.waited, models, already=True)


def _running(spec: Spec) -> Server | None:
    """The spec's server if it runs. What is left of one that ended is removed. Raises ServerError for another one."""
    found = backends.find(spec)
    if found is None or not found.alive():
        if found is not None:
            found.stop(0)
        backends.forget(spec)
        return None
    if found.labels.get(CONFIG_LABEL) != digest(spec):
        raise ServerError(f"{spec.name} is running already, with another configuration than {spec.path.name} has now",
                          argv=found.argv, hint="stop it first: tfs down")
    return found


def _start(spec: Spec, proven: Spec, models: tuple[Wanted, ...], lines: Sequence[Line], *,
           progress: Progress, connect: Connect) -> Running:
    """proven, lines: what the ledger says, read once: this process holds the lock."""
    choice = choose_backend(spec, progress)
    backend = choice.backend
    progress(f"backend {backend.name}: {choice.why}")
    preflight.check_readable(models, backend.user)
    plan = make(backend.prepared(proven), choice, models, config=digest(spec))
    backend.config(spec).write(plan.launch.files, plan.secrets)
    server, deadline = backend.server(plan.launch, progress), Deadline(spec.server.start_timeout)
    try:
        endpoint = server.start()
        deadline = Deadline(spec.server.start_timeout)  # a pull has its own pace
        if not server.alive():
            raise startup.ended(server)
        progress(f"started, gRPC {endpoint.grpc_target}, REST {endpoint.rest_url}")
        with connected(connect, endpoint) as controls:
            startup.wait(server, controls, models, deadline, progress)
        note_start(spec, models, lines)
        remember_start(spec)
        server.detach()
    except BaseException:
        server.stop(_HASTY)
        raise
    return Running(endpoint, server, backend.name, choice.why, deadline.waited, models)
