"""Ask a running server what it serves, over each of its protocols: snapshots for deploy.readiness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

from deploy import backends, client
from deploy.backends import Replica, Server
from deploy.client.failures import answers_no
from deploy.client.interfaces import Asked, Control
from deploy.errors import BackendMissing, ClientError, DeployError, ServerError
from deploy.readiness import Desired, Gap, Snapshot, not_answering, not_running
from deploy.serving.start_record import moved, started_elsewhere
from deploy.spec import Spec
from deploy.state import Release, releases
from deploy.state.lines import Line
from deploy.types import Endpoint, ModelRef

ASK = 5.0
"""Seconds for one question."""

UNKNOWN = "unknown"  # what is seen of a server whose place can't be asked

Timeout = Callable[[], float | None]


class ProtocolClient(Control, Asked, Protocol):
    """A server over one protocol."""

    def close(self) -> None:
        """Let go of it."""
        ...


Controls = Mapping[str, ProtocolClient]
"""By the protocol's name, in the order in which they are asked."""
Connect = Callable[[Endpoint], Controls]


def connect(endpoint: Endpoint) -> Controls:
    """One control per protocol that is offered, so that both are shown to answer."""
    # REST first: it opens last, and a gRPC channel that was refused once pauses before it tries again
    offered = {"REST": replace(endpoint, grpc_port=None), "gRPC": replace(endpoint, rest_port=None)}
    return {name: client.connect(one) for name, one in offered.items() if any(one.ports.values())}


def replicas_of(server: Server) -> tuple[Replica, ...]:
    """All that have to show what is served: a server's own endpoint, or each of several processes behind it."""
    if backends.backend_of(server).capabilities.replicas:
        return server.replicas()
    return (Replica(server.name, server.endpoint),)


def pending(server: Server) -> str:
    """Why not all of a server's replicas run and get requests, in a sentence; "" if they do."""
    try:
        why = server.pending(traffic=True)
    except DeployError as e:
        return e.message
    return why and f"{server.name}: {why}"


@contextmanager
def all_connected(connect: Connect, server: Server) -> Iterator[Controls]:
    """The controls of each replica, closed at the end; named after it, as `gRPC of web-2`, if there are several."""
    replicas = replicas_of(server)
    with ExitStack() as stack:
        controls = dict[str, ProtocolClient]()
        for replica in replicas:
            of = f" of {replica.name}" if len(replicas) > 1 else ""
            for protocol, control in stack.enter_context(connected(connect, replica.endpoint)).items():
                controls[f"{protocol}{of}"] = control
        yield controls


def protocol_of(name: str) -> str:
    """Of a control: `gRPC` of `gRPC of web-2`."""
    return name.partition(" ")[0]


@contextmanager
def connected(connect: Connect, endpoint: Endpoint) -> Iterator[Controls]:
    """The controls of an endpoint, closed at the end."""
    controls = connect(endpoint)
    try:
        yield controls
    finally:
        for control in controls.values():
            control.close()


def look(controls: Mapping[str, Control], models: Iterable[Desired], timeout: Timeout = lambda: ASK, *,
         labels: Mapping[str, Iterable[str]] | None = None) -> dict[str, list[Snapshot]]:
    """By model, what each protocol shows. A server that doesn't answer once isn't asked again: what it would be asked
    after that has no snapshot. labels: by model, further ones to resolve. Raises nothing for what a server does."""
    snapshots_of: dict[str, list[Snapshot]] = {model.model: [] for model in models}
    names = {model.model: {*model.asked, *(labels or {}).get(model.model, ())} for model in models}
    for protocol, control in controls.items():
        for model, snapshots in snapshots_of.items():
            snapshots.append(_snapshot(protocol, control, model, sorted(names[model]), timeout))
            if not snapshots[-1].answered:
                return snapshots_of
    return snapshots_of


def _snapshot(protocol: str, control: Control, model: str, labels: Iterable[str], timeout: Timeout) -> Snapshot:
    try:
        statuses = control.status(ModelRef(model), timeout=timeout())
    except ClientError as e:
        return Snapshot(protocol, error=e)
    resolved, unknown = dict[str, int](), dict[str, str]()
    for label in labels:
        try:
            resolved[label] = control.metadata(ModelRef(model, label=label), timeout=timeout()).version
        except ClientError as e:
            if not answers_no(e):
                unknown[label] = e.message
    return Snapshot(protocol, tuple(statuses), resolved, unknown)


def absent(spec: Spec, server: Server | None, returncode: int | None) -> Gap:
    """The gap of a spec's server that doesn't run. server: what is left of it; None: nothing."""
    if server is not None and not backends.backend_of(server).capabilities.starts:
        return not_answering(spec.name, server.endpoint.grpc_target)
    return not_running(spec.name, returncode, ended=server is not None)


def find_or_gap(spec: Spec) -> tuple[Server | None, Gap | None]:
    """The spec's server; None with the reason if nobody can know whether it runs, or if it isn't where the spec says.
    """
    try:
        return _find(spec), None
    except BackendMissing as e:
        return None, Gap("", f"nobody can say whether {spec.name} runs: {e}", "running", UNKNOWN)
    except _Moved as e:
        return None, Gap("", str(e), "running", "missing")


class _Moved(ServerError):
    """The server is on another engine than the spec says; see start_record.moved."""


def _find(spec: Spec) -> Server | None:
    """As backends.find. Raises _Moved as well, also where the engine that the spec names doesn't answer."""
    refused: BackendMissing | None = None
    try:
        server = backends.find(spec)
    except BackendMissing as e:
        server, refused = None, e
    if server is None and (there := started_elsewhere(spec)) is not None:
        error = moved(spec, there)
        raise _Moved(error.message, hint=error.hint, id=error.id)
    if refused is not None:
        raise refused
    return server


def running_server(spec: Spec) -> Server:
    """The spec's server, which runs. Raises ServerError if it doesn't."""
    server = _find(spec)
    if server is not None and server.alive():
        return server
    if server is not None and not backends.backend_of(server).capabilities.starts:
        raise ServerError(str(absent(spec, server, None)), id="not-running",
                          hint="see whether the address is right, and have it started where it runs")
    raise ServerError(f"{spec.name} isn't running", hint="start it: tfs up", id="not-running")


def open_release(lines: Iterable[Line], model: str | None = None) -> Release | None:
    """The release (of a model) that isn't finished; None if there is none."""
    return next((r for r in reversed(releases(lines, model)) if r.open), None)
