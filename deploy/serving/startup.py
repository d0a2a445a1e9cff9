"""Wait until a started server is ready, and each version of it answers; or say why not, with all the evidence.

There is no URL to ask for that, and an open port means little: another server may share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy import client, goldens
from deploy.backends.base import Progress, Server, silent
from deploy.client.failures import distrusts
from deploy.errors import ClientError, DeployError, NotReady, ServerError, StartFailed
from deploy.readiness import Change, Desired, Gap, closed_ports, gaps
from deploy.savedmodel import read as read_saved_model
from deploy.serving import server_log
from deploy.serving.preflight import unreadable_flags
from deploy.serving.resolving import ResolvedModel
from deploy.serving.snapshot import ASK, Controls, look, protocol_of
from deploy.types import ModelRef, TensorSpec
from deploy.waiting import Deadline, poll

LOG_LINES = 40
_LAST_LINES = 400  # the usage text alone has more than forty
_ANSWER = 10.0  # seconds for a model's answer
_REFUSAL = 200  # characters of a refusal that are told
_SIGNALS = {9: "it was killed, perhaps for lack of memory: see server/resources/memory", 11: "it crashed (SIGSEGV)",
            6: "it crashed (SIGABRT)", 4: "it crashed (SIGILL): was it built for another CPU?"}


def wait(server: Server, controls: Controls, models: Sequence[ResolvedModel], deadline: Deadline,
         progress: Progress = silent, *, changes: Mapping[str, Change] | None = None) -> None:
    """Return as soon as the server is ready. Doesn't stop it. changes: open releases, by model.

    Raises StartFailed if it ended, NotReady if a wanted version failed or the deadline is over; with the evidence.
    """
    desired = [model.desired((changes or {}).get(model.name)) for model in models]
    gap: Gap | None = None

    def ready() -> bool | None:
        nonlocal gap
        if not server.alive():
            raise ended(server)
        before, gap = gap, _first_gap(server, controls, desired, deadline)
        if gap and (before is None or before.why != gap.why):
            progress(f"waiting: {gap.why}")
        return True if gap is None else None

    if not poll(ready, deadline):
        raise with_evidence(NotReady, f"{server.name} isn't ready after {deadline.waited:.0f} s: {gap}", server,
                            hint="see its log; if it only needs longer, raise server/start_timeout")
    for model in models:
        _check_answers(server, controls, model, deadline, progress)


def await_replicas(server: Server, deadline: Deadline, progress: Progress = silent, *, traffic: bool = False) -> None:
    """Return when all of a server's replicas run; traffic: when they also get requests. Raises StartFailed, or NotReady
    when the deadline is over."""
    told = ""

    def there() -> bool | None:
        nonlocal told
        why = server.pending(traffic=traffic)
        if why and why != told:
            progress(f"waiting: {why}")
        told = why
        return None if why else True

    if not poll(there, deadline, most=1.0):
        raise with_evidence(NotReady, f"{server.name} isn't ready after {deadline.waited:.0f} s: {told}", server,
                            hint="see tfs doctor; if it only needs longer, raise server/start_timeout")


def _first_gap(server: Server, controls: Controls, models: Sequence[Desired], deadline: Deadline) -> Gap | None:
    """What is missing, first of all; None if nothing is. Raises NotReady for what waiting doesn't help with."""
    closed = closed_ports(server.endpoint.ports, server.listening())
    if closed:
        return closed[0]
    snapshots_of = look(controls, models, lambda: max(0.1, deadline.clip(ASK)))
    for snapshot in (s for snapshots in snapshots_of.values() for s in snapshots):
        if snapshot.error is not None and distrusts(snapshot.error):
            raise with_evidence(NotReady, f"{server.name} is up, but tfs can't talk to it: {snapshot.error.message}",
                                server, hint=_untrusted(server)) from snapshot.error
    missing = [(gap, model.model) for model in models for gap in gaps(model, snapshots_of[model.model])]
    for gap, name in missing:
        if gap.final:
            statuses = next(s.statuses for s in reversed(snapshots_of[name]) if s.statuses)
            raise with_evidence(NotReady, gap.why, server, statuses=[s.to_json() for s in statuses])
    return missing[0][0] if missing else None


def _untrusted(server: Server) -> str:
    tls, address = server.endpoint.tls, server.endpoint.host
    return (f"see server/tls: ca, and server_name if the certificate isn't for {(tls and tls.server_name) or address}")


def _check_answers(server: Server, controls: Controls, model: ResolvedModel, deadline: Deadline, progress: Progress
                   ) -> None:
    """One generated request for each signature that no warm-up request has asked. Raises NotReady or StartFailed."""
    over_grpc = ((p, c) for p, c in controls.items() if protocol_of(p) == "gRPC")
    protocol, control = next(over_grpc, (*controls.items(),)[-1])
    for version, path in sorted(model.paths.items()):
        ref = ModelRef(model.name, version)
        try:
            contract = control.metadata(ref, timeout=max(0.1, deadline.clip(ASK))).contract
            verdict = client.probing.probe(control, ref, contract, features=_features(path), without=_recorded(path),
                                    rest=protocol_of(protocol) == "REST", timeout=max(0.1, deadline.clip(_ANSWER)))
        except ClientError as e:
            if not server.alive():
                raise ended(server) from e
            progress(f"{ref} wasn't asked: {e.message}")
            continue
        if verdict.fault:
            raise with_evidence(NotReady, verdict.fault, server, hint="tfs check says which ops a server knows")
        for signature, why in verdict.refused.items():
            progress(f"{ref} refuses a generated request for signature {signature!r}, as a model may: {why[:_REFUSAL]}")


def _recorded(path: Path) -> frozenset[str]:
    """The signatures of the version's golden cases: the server asks them before the version is AVAILABLE."""
    try:
        return frozenset(golden.signature for golden in goldens.read(path))
    except DeployError:
        return frozenset()


def _features(path: Path) -> Mapping[str, Sequence[TensorSpec]]:
    """What the graph wants of serialized tf.Examples; nothing if the files aren't readable here."""
    try:
        return read_saved_model(path).features
    except DeployError:
        return {}


def ended(server: Server) -> ServerError:
    """StartFailed for a server that ended by itself: exit code, and the sentence of its log that names the cause."""
    code, lines = server.returncode(), server.logs(_LAST_LINES).splitlines()
    words = server_log.last_words(lines)
    unread = next(unreadable_flags(server.argv[1:]), None) if any(x.startswith("usage: ") for x in lines) else None
    if unread is not None and not words.startswith("Failed to start"):
        words = unread.sentence
    last = f"its last words: {words}" if words else "it said nothing"
    number = -code if code is not None and code < 0 else (code or 0) - 128
    how = "" if code is None else f" with exit code {code}"
    return with_evidence(StartFailed, f"{server.name} ended{how} while starting; {last}", server,
                         hint=_SIGNALS.get(number, ""))


def with_evidence(kind: type[ServerError], message: str, server: Server, *, hint: str = "", **details: object
                  ) -> ServerError:
    """An error with the server's command line, log tail, exit code and mounts, taken while they are still there."""
    try:
        evidence = {k: v for k, v in server.describe().items() if k in ("kind", "image", "mounts", "user", "log") and v}
    except DeployError:
        evidence = {}
    return kind(message, argv=server.argv, logs=server.logs(LOG_LINES), returncode=server.returncode(), hint=hint,
                details={**evidence, **details})
