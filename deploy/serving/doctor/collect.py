"""Evidence from a spec's server, from any container, from a log. Everything that can't be had is left out."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from deploy import backends, files, serving
from deploy.backends import Backend, Server
from deploy.backends.base import Inspected
from deploy.backends.container_options import GRPC_PORT, REST_PORT
from deploy.backends.inspecting import inspect, look_inside
from deploy.backends.ports import listens, owners
from deploy.errors import ServerError
from deploy.serving import snapshot
from deploy.serving.doctor.disk import configured, located, looked_at, named_files
from deploy.serving.doctor.evidence import Evidence, ModelEvidence, Port, PortName
from deploy.serving.doctor.server_files import Files
from deploy.serving.observe import ServerStatus
from deploy.serving.snapshot import Connect
from deploy.serving.start_record import failure
from deploy.spec import Spec
from deploy.wire.flags import FLAGS, parse

TAIL = 400
_MOST_LOG = 1 << 28  # bytes of a log that the user names


def of_spec(spec: Spec, *, connect: Connect = snapshot.connect) -> Evidence:
    """The spec's server: the one that runs, or what the last start left. Raises RolloutError for a broken ledger."""
    found, lost = _found(spec)
    status, problems = _status(spec, connect)
    if found is None:
        evidence = _of_record(spec) or _of_failure(spec)
    else:
        evidence = _of_inspected(found.inspect(TAIL), found.kind)
    evidence = replace(evidence, name=spec.name, machine=platform.machine(), problems=tuple(problems),
                       unstopped=evidence.unstopped or (found is not None and not evidence.running),
                       drift=tuple(d.message for d in status.drift if d.kind != "release") if status else (),
                       changes=status.changes if status else ())
    evidence = _surroundings(evidence, spec, lost)
    backend = backends.BACKENDS.get(evidence.kind, backends.AUTO[-1])
    return replace(evidence, user=backend.user or "", ports=_ports(spec, found),
                   models=tuple(_models(spec, status, backend)))


def _found(spec: Spec) -> tuple[Server | None, str]:
    try:
        return serving.find(spec), ""
    except ServerError as e:
        return None, e.message


def _status(spec: Spec, connect: Connect) -> tuple[ServerStatus | None, list[str]]:
    """What `tfs status` says, and its problems; without a status, why there is none."""
    try:
        status = serving.status(spec, connect=connect)
    except ServerError as e:
        return None, [e.message]
    return status, status.problems


def _of_record(spec: Spec) -> Evidence | None:
    """A server that ended by itself, or was ended by others: `down` and a start that failed remove what it leaves."""
    try:
        found = backends.left(spec, TAIL)
    except ServerError:
        return None  # find() has said so
    if found is None:
        return None
    backend, seen = found
    return replace(_of_inspected(seen, backend.name), unstopped=True)


def _of_failure(spec: Spec) -> Evidence:
    """What the last start left: its error, or at least the log of a process."""
    error, backend = failure(spec), spec.server.backend
    kind = "unknown" if backend == "auto" else backend
    if error is None:
        return Evidence(kind=kind)
    details = error.get("details") or {}
    log = str(details.get("logs") or "")
    return Evidence(kind=details.get("kind") or kind, argv=tuple(map(str, details.get("argv") or ())),
                    exit_code=details.get("returncode"), log=tuple(log.splitlines()),
                    up_error=str(error.get("message", "")), up_hint=str(error.get("hint", "")))


def _surroundings(e: Evidence, spec: Spec, lost: str) -> Evidence:
    """Engine, image, program: what has to be there before anything starts."""
    if e.running:
        return e
    candidates = [b] if (b := backends.BACKENDS.get(e.kind)) else backends.AUTO
    for backend in candidates:
        try:
            seen = backend.surroundings(spec)
        except ServerError as error:
            if backend.name == spec.server.backend:
                return replace(e, engine_error=lost or error.message)
            continue  # the next one takes its place
        return replace(e, program_error=seen.program_error, image=seen.image or e.image, image_here=seen.image_here,
                       image_platform=seen.image_platform if seen.image else e.image_platform)
    return e


def _ports(spec: Spec, found: Server | None) -> tuple[Port, ...]:
    endpoint = found.endpoint if found is not None else None
    numbers = (endpoint.grpc_port, endpoint.rest_port) if endpoint else (spec.server.grpc_port, spec.server.rest_port)
    ours = found.listening() if found is not None else frozenset()
    named: tuple[tuple[PortName, int | None], ...] = (("gRPC", numbers[0]), ("REST", numbers[1]))
    return tuple(Port(name, number, number in ours, _others(number, found)) for name, number in named if number)


def _others(number: int, found: Server | None) -> tuple[str, ...]:
    """All who listen; where an engine forwards the ports that is the engine, in as many processes as it likes."""
    forwarded = found is not None and backends.backend_of(found).capabilities.own_network
    return () if found is not None and forwarded and number in found.listening() else owners(number)


def _models(spec: Spec, status: ServerStatus | None, backend: Backend) -> list[ModelEvidence]:
    layout, target = backend.layout(spec), serving.target_of(spec)
    found = []
    statuses = {m.name: m.statuses for m in status.models} if status is not None else {}
    for model in serving.as_known_good(spec).models:
        made = ModelEvidence(model.name, layout.base_paths[model.name], model.base_path, model.versions,
                             dict(model.labels), statuses=statuses.get(model.name, ()))
        found.append(looked_at(made, backend.user, target))
    return found


def of_container(name: str) -> Evidence:
    """Any container that runs, or ran, a model server. Raises BackendMissing or ServerError."""
    seen = inspect(name, tail=TAIL)
    files = Files(seen.mounts, lambda path: look_inside(name, path))
    evidence = replace(_of_inspected(seen, "container"), given_by_name=True, machine=platform.machine(),
                       ports=tuple(_container_ports(seen)) if seen.running else ())
    return _configured(evidence, files, _reader(seen.user))


def _reader(user: str) -> str | None:
    """Who reads a container's files, as `uid:gid`; "" for root, and for a name, whose number only the image knows."""
    uid, _, gid = user.partition(":")
    if not uid.isdecimal() or int(uid) == 0 or not (gid or "0").isdecimal():
        return ""
    return f"{uid}:{gid or 0}"


def _of_inspected(seen: Inspected, kind: str) -> Evidence:
    log = (*seen.log.splitlines(), *([seen.error] if seen.error else []))
    return Evidence(name=seen.name, kind=kind, running=seen.running, exit_code=seen.exit_code,
                    out_of_memory=seen.out_of_memory, argv=seen.argv, added=seen.added, environment=seen.environment,
                    state=seen.state, start_error=seen.error, log=log, user=seen.user, mounts=dict(seen.mounts),
                    image=seen.image, image_platform=seen.image_platform)


def _container_ports(seen: Inspected) -> Iterator[Port]:
    """The ports that the server in it should have; whether it has them is asked in the engine's network.

    What is published is no proof: the engine's own proxy accepts connections, whoever listens behind it.
    """
    first = next((i for i, a in enumerate(seen.argv) if a.startswith("--")), len(seen.argv))
    flags = parse(seen.argv[first:], FLAGS).values
    known = first < len(seen.argv)
    named: tuple[tuple[PortName, int], ...] = (
        ("gRPC", int(flags["port"]) if known else GRPC_PORT), ("REST", int(flags["rest_api_port"]) if known else 0))
    strays = seen.published.keys() - {inside for _, inside in named}  # published, and nobody listens there
    for name, inside in named:
        if inside:
            yield Port(name, seen.published.get(inside, inside), ours=listens(seen.address, inside) is not False,
                       unpublished=bool(strays) and inside not in (*seen.published, GRPC_PORT, REST_PORT))


def of_log(log: Path | None, argv: Sequence[str]) -> Evidence:
    """A server that ran on this machine: what it printed, and its flags. Raises ServerError for an unreadable log."""
    try:
        text = files.read_given(log, _MOST_LOG).decode(errors="replace") if log is not None else ""
    except OSError as e:
        raise ServerError(f"can't read {log}: {files.reason(e)}") from None
    flags = tuple(argv) if argv and not argv[0].startswith("--") else ("tensorflow_model_server", *argv)
    made = Evidence(name=str(log or "the command line"), kind="unknown", given_by_name=True,
                    log=tuple(text.splitlines()), argv=flags if argv else ())
    return _configured(made, Files(None), None)


def _configured(e: Evidence, files: Files, user: str | None) -> Evidence:
    """With the models that the command line names, and the state of its files."""
    if not e.arguments:
        return e
    models, error = configured(e.flags, files)
    return replace(e, models=tuple(located(m, files, user) for m in models), config_error=error,
                   files=named_files(e.flags, files))
