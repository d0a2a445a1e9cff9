"""From a server to a diagnosis: evidence from a spec's server, any container, or a log; and all rules over it.

Everything that can't be had is left out.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import backends, files, serving
from deploy.backends import Backend, Server
from deploy.backends.base import Inspected
from deploy.backends.inspecting import inspect, look_inside
from deploy.backends.ports import listens, owners
from deploy.errors import ServerError
from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.serving import snapshot
from deploy.serving.doctor import file_findings, flag_findings, load_findings, programs
from deploy.serving.doctor.disk import Files, configured, located, looked_at, named_files
from deploy.serving.doctor.evidence import Cause, Evidence, ModelEvidence, Port, PortName
from deploy.serving.observe import ServerStatus
from deploy.serving.resolving import elsewhere
from deploy.serving.snapshot import Connect
from deploy.serving.start_record import failure
from deploy.spec import Spec
from deploy.wire.flags import FLAGS, parse

TAIL = 400
_MOST_LOG = 1 << 28  # bytes of a log that the user names

RULES: tuple[Callable[[Evidence], Iterator[Cause]], ...] = (
    *file_findings.RULES, *flag_findings.RULES, *load_findings.RULES, *programs.RULES)
_SYMPTOMS = frozenset({"port-closed", "not-served", "start-failed", "ended", "restarting", "crashed", "usage-text"})
_SERIOUS = 30  # from here on it keeps a server from starting or serving as it should


def of_spec(spec: Spec, *, connect: Connect = snapshot.connect) -> Evidence:
    """The spec's server: the one that runs, or what the last start left. Raises RolloutError for a broken ledger."""
    server, lost = _found(spec)
    status, problems = _status(spec, connect)
    ours = backends.preferred(spec).capabilities.starts
    if server is None:
        evidence = _of_record(spec) or _of_failure(spec)
    else:
        evidence = _of_inspected(server.inspect(TAIL), server.kind)
    evidence = replace(evidence, name=spec.name, machine=platform.machine(), problems=tuple(problems),
                       unstopped=evidence.unstopped or (server is not None and not evidence.running and ours),
                       ours=ours, drift=tuple(d.message for d in status.drift if d.kind != "release") if status else (),
                       changes=status.changes if status else ())
    evidence = _surroundings(evidence, spec, lost)
    backend = backends.BACKENDS.get(evidence.kind, backends.AUTO[-1])
    return replace(evidence, user=backend.user or "", ports=_ports(spec, server),
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
        remains = backends.left(spec, TAIL)
    except ServerError:
        return None  # find() has said so
    if remains is None:
        return None
    backend, inspected = remains
    return replace(_of_inspected(inspected, backend.name), unstopped=True)


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
            around = backend.surroundings(spec)
        except ServerError as error:
            if backend.name == spec.server.backend:
                return replace(e, engine_error=lost or error.message, engine_fix=error.hint)
            continue  # the next one takes its place
        return replace(e, program_error=around.program_error, image=around.image or e.image,
                       image_here=around.image_here,
                       image_platform=around.image_platform if around.image else e.image_platform)
    return e


def _ports(spec: Spec, server: Server | None) -> tuple[Port, ...]:
    endpoint = server.endpoint if server is not None else None
    numbers = (endpoint.grpc_port, endpoint.rest_port) if endpoint else (spec.server.grpc_port, spec.server.rest_port)
    ours = server.listening() if server is not None else frozenset()
    named: tuple[tuple[PortName, int | None], ...] = (("gRPC", numbers[0]), ("REST", numbers[1]))
    return tuple(Port(name, number, number in ours, _others(number, server)) for name, number in named if number)


def _others(number: int, server: Server | None) -> tuple[str, ...]:
    """All who listen; where an engine forwards the ports that is the engine, in as many processes as it likes."""
    forwarded = server is not None and backends.backend_of(server).capabilities.own_network
    if server is not None and not backends.backend_of(server).capabilities.starts:
        return ()  # its ports aren't this machine's
    return () if server is not None and forwarded and number in server.listening() else owners(number)


def _models(spec: Spec, status: ServerStatus | None, backend: Backend) -> list[ModelEvidence]:
    layout, target = backend.layout(spec), serving.target_of(spec)
    models = []
    statuses = {m.name: m.statuses for m in status.models} if status is not None else {}
    for model in serving.as_known_good(spec).models:
        evidence = ModelEvidence(model.name, layout.base_paths[model.name], model.base_path, model.versions,
                                 dict(model.labels), statuses=statuses.get(model.name, ()))
        models.append(replace(evidence, path="") if elsewhere(spec, model) else
                      looked_at(evidence, backend.user, target))
    return models


def of_container(name: str) -> Evidence:
    """Any container that runs, or ran, a model server. Raises BackendMissing or ServerError."""
    inspected = inspect(name, tail=TAIL)
    files = Files(inspected.mounts, lambda path: look_inside(name, path))
    evidence = replace(_of_inspected(inspected, "container"), given_by_name=True, machine=platform.machine(),
                       ports=tuple(_container_ports(inspected)) if inspected.running else ())
    return _configured(evidence, files, _reader(inspected.user))


def _reader(user: str) -> str | None:
    """Who reads a container's files, as `uid:gid`; "" for root, and for a name, whose number only the image knows."""
    uid, _, gid = user.partition(":")
    if not uid.isdecimal() or int(uid) == 0 or not (gid or "0").isdecimal():
        return ""
    return f"{uid}:{gid or 0}"


def _of_inspected(inspected: Inspected, kind: str) -> Evidence:
    log = (*inspected.log.splitlines(), *([inspected.error] if inspected.error else []))
    return Evidence(name=inspected.name, kind=kind, running=inspected.running, exit_code=inspected.exit_code,
                    out_of_memory=inspected.out_of_memory, argv=inspected.argv, added=inspected.added,
                    environment=inspected.environment, state=inspected.state, start_error=inspected.error, log=log,
                    user=inspected.user, mounts=dict(inspected.mounts), image=inspected.image,
                    image_platform=inspected.image_platform, faults=inspected.faults)


def _container_ports(inspected: Inspected) -> Iterator[Port]:
    """The ports that the server in it should have; whether it has them is asked in the engine's network.

    What is published is no proof: the engine's own proxy accepts connections, whoever listens behind it.
    """
    first = next((i for i, a in enumerate(inspected.argv) if a.startswith("--")), len(inspected.argv))
    flags = parse(inspected.argv[first:], FLAGS).values
    known = first < len(inspected.argv)
    named: tuple[tuple[PortName, int], ...] = (
        ("gRPC", int(flags["port"]) if known else GRPC_PORT), ("REST", int(flags["rest_api_port"]) if known else 0))
    strays = inspected.published.keys() - {inside for _, inside in named}  # published, and nobody listens there
    for name, inside in named:
        if inside:
            yield Port(name, inspected.published.get(inside, inside),
                       ours=listens(inspected.address, inside) is not False,
                       unpublished=bool(strays) and inside not in (*inspected.published, GRPC_PORT, REST_PORT))


def of_log(log: Path | None, argv: Sequence[str]) -> Evidence:
    """A server that ran on this machine: what it printed, and its flags. Raises ServerError for an unreadable log."""
    try:
        text = files.read_given(log, _MOST_LOG).decode(errors="replace") if log is not None else ""
    except OSError as e:
        raise ServerError(f"can't read {log}: {files.reason(e)}") from None
    flags = tuple(argv) if argv and not argv[0].startswith("--") else ("tensorflow_model_server", *argv)
    evidence = Evidence(name=str(log or "the command line"), kind="unknown", given_by_name=True,
                        log=tuple(text.splitlines()), argv=flags if argv else ())
    return _configured(evidence, Files(None), None)


def _configured(e: Evidence, files: Files, user: str | None) -> Evidence:
    """With the models that the command line names, and the state of its files."""
    if not e.arguments:
        return e
    models, error = configured(e.flags, files)
    return replace(e, models=tuple(located(m, files, user) for m in models), config_error=error,
                   files=named_files(e.flags, files))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """causes: the most likely one last. kind: of the server. given: it isn't the spec's, but a container, log or
    command line that somebody named."""

    name: str
    running: bool
    causes: tuple[Cause, ...]
    kind: str = "unknown"
    given: bool = False

    @property
    def most_likely(self) -> Cause | None:
        return self.causes[-1] if self.causes else None

    @property
    def well(self) -> bool:
        """Nothing was found that matters."""
        return all(c.weight < _SERIOUS for c in self.causes)

    def to_json(self) -> dict[str, object]:
        likely = self.most_likely
        return {"name": self.name, "running": self.running, "well": self.well,
                "causes": [c.to_json() for c in self.causes], "most_likely": likely.to_json() if likely else None}


def diagnose(spec: Spec) -> Diagnosis:
    """Why the spec's server doesn't start, or serve: `tfs doctor`. Nothing is changed.

    Raises RolloutError if the ledger can't be read, ServerError if the server's record can't.
    """
    return examine(of_spec(spec))


def examine(evidence: Evidence) -> Diagnosis:
    """Every cause that the evidence shows, each once."""
    causes_by_name = dict[tuple[str, str], Cause]()
    for rule in RULES:
        for cause in rule(evidence):
            causes_by_name.setdefault((cause.rule, cause.cause), cause)
    # A symptom says nothing new beside its cause
    explained = any(c.weight > 80 for c in causes_by_name.values())
    causes = [c for c in causes_by_name.values() if not (explained and c.rule in _SYMPTOMS)]
    return Diagnosis(evidence.name, evidence.running, tuple(sorted(causes, key=lambda c: c.weight)), evidence.kind,
                     evidence.given_by_name)
