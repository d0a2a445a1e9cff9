"""`up`: from a spec to a server that serves exactly what the spec wants, or to nothing and a reason.
`down`: let running requests finish, then stop what we started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from deploy import backends, client, serving
from deploy.backends import Progress, Server, silent
from deploy.backends.base import endpoint_json
from deploy.backends.process_server import uninterrupted
from deploy.client.failures import busy
from deploy.client.interfaces import Control, ReloadControl
from deploy.errors import ClientError, DeployError, Rejected, ServerError, SpecError, StartFailed
from deploy.render import models_config
from deploy.serving import preflight, snapshot, startup
from deploy.serving.drift import read_config
from deploy.serving.planning import CONFIG_LABEL, Choice, choose_backend, digest, make, replacement
from deploy.serving.resolving import ResolvedModel, as_known_good, differences, note_start, stored, wanted
from deploy.serving.snapshot import Connect, Controls, all_connected, open_release, running_server
from deploy.serving.start_record import forget_start, moved, remember_failure, remember_start, started_elsewhere
from deploy.spec import Spec
from deploy.state import changing, ledger_of
from deploy.state.lines import Line
from deploy.types import Endpoint, ModelRef, VersionState
from deploy.waiting import Deadline, poll

if TYPE_CHECKING:
    from deploy.client import Client

_TRIES = 3  # to get ports that are free
# What a server says that can't have a port
_NO_PORT = ("ddress already in use", "Failed to start HTTP", "Failed to BuildAndStart gRPC")
_HASTY = 0.5  # seconds of grace for a server that never served
_GRACE = 5.0  # seconds from SIGTERM to SIGKILL, once running requests are done
_REPLIES = 0.2  # seconds for replies on their way: the model is unloaded before the last one is written


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is ready. `already`: it was running before, with the same configuration."""

    endpoint: Endpoint
    server: Server
    backend: str
    why: str
    seconds: float
    models: tuple[ResolvedModel, ...]
    already: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"name": self.server.name, "endpoint": endpoint_json(self.endpoint), "backend": self.backend,
                "why": self.why, "seconds": round(self.seconds, 3), "already": self.already,
                "models": {m.name: {"versions": sorted(m.versions), "labels": dict(m.labels)} for m in self.models}}


def up(spec: Spec, *, force: bool = False, progress: Progress | None = None, connect: Connect = snapshot.connect
       ) -> RunningServer:
    """Start the spec's server and return when it is ready; from then on it outlives this process.

    One that is running already with the same configuration is returned once it's ready; in a cluster it first gets
    what may change without new pods (replicas, autoscaler, Services). force: fields that somebody else owns, too. What
    rollouts have made known good since the spec was written is started instead of what it says (see known_good).
    progress: gets a sentence per step. connect: makes the controls that readiness asks.

    Raises SpecError, RepositoryError, LockHeld, BackendMissing, PortTaken, StartFailed, NotReady or ServerError.
    Whatever it raises, KeyboardInterrupt included, nothing that it started is left.
    """
    progress = progress or silent
    with changing(spec, "up"):
        deadline = Deadline(spec.server.start_timeout)
        server = _running(spec)
        try:
            lines = ledger_of(spec).read()
            known_good = as_known_good(spec, lines)
            for difference in differences(spec, known_good) if server is None else ():
                progress(difference)
            models = wanted(known_good, progress)
            if server is None:
                if (there := started_elsewhere(spec)) is not None:
                    raise moved(spec, there)
                return _start(spec, known_good, models, lines, progress=progress, connect=connect)
            if (backend := backends.backend_of(server)).capabilities.starts:  # it may follow what arrives
                backend.stage(known_good, stored(known_good, models), progress)
            if backend.capabilities.replaces:
                _apply(spec, known_good, models, server, progress, force=force)
        except DeployError as e:
            remember_failure(spec, e)
            raise
        startup.await_replicas(server, deadline, progress)
        with all_connected(connect, server) as controls:
            releases = {m.name: r for m in models if (r := open_release(lines, m.name)) is not None}
            startup.wait(server, controls, models, deadline, progress, changes=releases)
        startup.await_replicas(server, deadline, progress, traffic=True)
        why = "it is running already, with this configuration"
        if not backends.backend_of(server).capabilities.starts:
            why = "it was started by somebody else"
            serving.taking_over.take_over(spec, server, known_good, models, lines, progress=progress)
        return RunningServer(server.endpoint, server, server.kind, why, deadline.waited, models, already=True)


def _running(spec: Spec) -> Server | None:
    """The spec's server if it runs. Raises ServerError for one that was started with another configuration, and for one
    that doesn't run and isn't ours to start."""
    if not backends.preferred(spec).capabilities.starts:
        return running_server(spec)
    server = _alive(spec)
    if server is not None and not backends.backend_of(server).capabilities.replaces:
        require_same(spec, server)
    return server


def require_same(spec: Spec, server: Server) -> None:
    """Raises ServerError for a server that was started with another configuration than the spec's."""
    if server.labels.get(CONFIG_LABEL) != digest(spec):
        raise ServerError(f"{spec.name} is running already, with another configuration than {spec.path.name} has now",
                          argv=server.argv, hint="stop it first: tfs down", id="other-configuration")


def _apply(spec: Spec, known_good: Spec, models: tuple[ResolvedModel, ...], server: Server, progress: Progress, *,
           force: bool) -> None:
    """Let a server in a cluster have what changes no pod. Raises ServerError if pods would have to be replaced, or it
    serves other models."""
    changed = replacement(spec, known_good, models, progress)
    if (record := changed.record()) is not None:
        raise record.held(spec.name)
    change = changed.change(force=force)
    if change.replacing:
        raise ServerError(f"{spec.name} is running already, and {spec.path.name} says something else of its pods: "
                          f"{change.replacing[0]}", argv=server.argv, id="other-configuration",
                          details=change.to_json(), hint="replace them, tested and one by one: tfs rollout "
                          "--replace-pods (--plan shows all of it); or tfs down, then tfs up")
    require_same(spec, server)
    for sentence in change.at_once:
        progress(f"changing {sentence}")
    if change.at_once:
        changed.apply(force=force)


def _alive(spec: Spec) -> Server | None:
    """The spec's server if it runs; what is left of one that ended is removed."""
    server = backends.find(spec)
    if server is not None and server.alive():
        return server
    if server is not None:
        server.stop(0)
    backends.forget(spec)
    return None


def _start(spec: Spec, known_good: Spec, models: tuple[ResolvedModel, ...], lines: Sequence[Line], *,
           progress: Progress, connect: Connect) -> RunningServer:
    """known_good, lines: what the ledger says, read once: this process holds the lock."""
    choice = choose_backend(spec, progress)
    backend = choice.backend
    progress(f"backend {backend.name}: {choice.why}")
    preflight.check_readable(models, backend.user)
    backend.stage(spec, stored(known_good, models), progress)
    for tried in range(1, _TRIES + 1):
        try:
            return _started(spec, known_good, models, lines, choice, progress=progress, connect=connect)
        except StartFailed as e:
            if tried == _TRIES or not _lost_port(known_good, e):
                raise
        progress("another program took a port that was free before the server had it: another one is taken")
    raise AssertionError("the last try returns or raises")


def _lost_port(spec: Spec, error: StartFailed) -> bool:
    """Whether the server ended since a port that we chose wasn't free any more: it is chosen before the server has it,
    and any program that connects to somewhere gets one of the same numbers from the system."""
    ours = 0 in (spec.server.grpc_port, spec.server.rest_port)
    return ours and any(words in line for line in error.logs.splitlines() for words in _NO_PORT)


def _started(spec: Spec, known_good: Spec, models: tuple[ResolvedModel, ...], lines: Sequence[Line], choice: Choice, *,
             progress: Progress, connect: Connect) -> RunningServer:
    backend = choice.backend
    plan = make(backend.prepared(known_good), choice, models, config=digest(spec))
    backend.config(spec).write(plan.launch.files, plan.secrets)
    server, deadline = backend.server(plan.launch, progress), Deadline(spec.server.start_timeout)
    try:
        endpoint = server.start()
        deadline = Deadline(spec.server.start_timeout)  # a pull has its own pace
        if not server.alive():
            raise startup.ended(server)
        progress(f"started, {', '.join(f'{name} {at}' for name, at in reversed(endpoint.addresses.items()))}")
        startup.await_replicas(server, deadline, progress)
        with all_connected(partial(_uninterrupted, connect), server) as controls:
            startup.wait(server, controls, models, deadline, progress)
        startup.await_replicas(server, deadline, progress, traffic=True)
        note_start(spec, models, lines)
        remember_start(spec)
        server.detach()
    except BaseException:
        server.stop(_HASTY)
        raise
    return RunningServer(endpoint, server, backend.name, choice.why, deadline.waited, models)


def _uninterrupted(connect: Connect, endpoint: Endpoint) -> Controls:
    """What `connect` makes. It imports gRPC, and a Ctrl-C that arrives meanwhile must not get lost."""
    with uninterrupted():
        return connect(endpoint)


def _connect_grpc(endpoint: Endpoint) -> Client:
    return client.connect(replace(endpoint, rest_port=None))


def down(spec: Spec, *, volumes: bool = False, progress: Progress | None = None,
         connect: Callable[[Endpoint], Client] = _connect_grpc) -> bool:
    """Stop the spec's server; False if it wasn't running. Only what carries this spec's name and state is touched.

    RunningServer requests get server/drain seconds. A server that doesn't drain by itself (tensorflow_model_server cuts
    requests off) is first told to unload every model: requests that run finish, new ones get NOT_FOUND.

    volumes: remove what was copied to its engine's machine, too (versions, config files); else the next start has it.

    Raises LockHeld, ServerError, or BackendMissing if the backend that the spec names can't be asked.
    """
    if not backends.preferred(spec).capabilities.starts:
        raise ServerError(f"{spec.name} is somebody else's: tfs hasn't started it, and doesn't stop it", id="not-ours",
                          hint="stop it where it runs; to let go of it, remove the spec and its state")
    with changing(spec, "down"):
        server = _alive(spec)
        if server is None and (there := started_elsewhere(spec)) is not None:
            (progress or silent)(moved(spec, there).message)
            spec, server = there, _alive(there)
        if server is not None:
            _stop(spec, server, progress or silent, connect)
        forget_start(spec)
        for name in backends.discard(spec) if volumes else ():
            (progress or silent)(f"removed {name}")
        return server is not None


def _stop(spec: Spec, server: Server, progress: Progress, connect: Callable[[Endpoint], Client]) -> None:
    if backends.backend_of(server).capabilities.drains:
        server.stop(spec.server.drain + _GRACE)
        return
    if spec.server.drain > 0:
        names, deadline = _served(spec, server), Deadline(spec.server.drain)
        with closing(connect(server.endpoint)) as control:
            drain(control, names, deadline, progress)
    server.stop(_GRACE)


def _served(spec: Spec, server: Server) -> list[str]:
    """The models of the server: also of one whose spec can't be read any more."""
    if spec.models:
        return [model.name for model in spec.models]
    with suppress(SpecError):
        config = read_config(backends.config(spec, server))
        return [entry.name for entry in config.model_config_list.config] if config else []
    return []


def drain(control: ReloadControl, models: Iterable[str], deadline: Deadline, progress: Progress = silent) -> bool:
    """Unload every model and wait until none has a request left; False if that can't be known or takes too long."""
    names = list(models)
    progress("letting running requests finish")
    try:
        control.reload(models_config([], {}), timeout=max(0.1, deadline.left))
        done = poll(lambda: None if _busy(control, names, deadline) else True, deadline)
    except ClientError as e:
        progress(f"can't wait for running requests: {e.message}")
        return False
    if done:
        deadline.sleep(_REPLIES)
    return bool(done)


def _busy(control: Control, models: Iterable[str], deadline: Deadline) -> bool:
    for name in models:
        try:
            statuses = control.status(ModelRef(name), timeout=max(0.1, deadline.left))
        except Rejected as e:
            if busy(e):
                return True
            continue  # unknown by now
        if any(s.state is not VersionState.END for s in statuses):
            return True
    return False
