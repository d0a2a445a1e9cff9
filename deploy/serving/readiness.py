"""Ready means: exactly the wanted versions AVAILABLE, the labels resolve, both ports are this very server's, and each
version answers.

There is no URL to ask for that, and an open port means little: another server may share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from deploy import goldens
from deploy.backends.base import Progress, Server, silent
from deploy.client import probing
from deploy.client.failures import distrusts
from deploy.client.interfaces import Inputs, Prediction
from deploy.errors import ClientError, DeployError, NotReady, ServerError, StartFailed, TimedOut, Unreachable
from deploy.savedmodel import read as read_saved_model
from deploy.serving import server_log
from deploy.serving.flags import unreadable
from deploy.serving.resolving import Wanted
from deploy.types import Contract, Endpoint, ModelRef, Signature, TensorSpec, VersionStatus
from deploy.waiting import Deadline, poll

LOG_LINES = 40
_LAST_LINES = 400  # the usage text alone has more than forty
_ASK = 5.0  # seconds for one question
_ANSWER = 10.0  # seconds for a model's answer
_REFUSAL = 200  # characters of a refusal that are told
_SIGNALS = {9: "it was killed, perhaps for lack of memory: see server/resources/memory", 11: "it crashed (SIGSEGV)",
            6: "it crashed (SIGABRT)", 4: "it crashed (SIGILL): was it built for another CPU?"}


class Resolved(Protocol):
    """A model's metadata, as far as readiness reads it."""

    @property
    def version(self) -> int: ...

    @property
    def contract(self) -> Contract: ...


class Control(Protocol):
    """What readiness asks of a server, over one protocol. All raise ClientError."""

    def status(self, ref: ModelRef, /, *, timeout: float | None = None) -> Sequence[VersionStatus]: ...

    def metadata(self, ref: ModelRef, /, *, timeout: float | None = None) -> Resolved: ...

    def predict(self, ref: ModelRef, inputs: Inputs, /, *, signature: Signature, timeout: float | None = None
                ) -> Prediction: ...

    def close(self) -> None: ...


Controls = Mapping[str, Control]  # by the protocol's name, in the order in which they are asked
Connect = Callable[[Endpoint], Controls]


class Gap(NamedTuple):
    """What is missing until a server is ready. `detail`: evidence for the error, too much for the progress."""

    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.detail})" if self.detail else self.what


def wait(server: Server, controls: Controls, models: Sequence[Wanted], deadline: Deadline,
         progress: Progress = silent) -> None:
    """Return as soon as the server is ready. Doesn't stop it.

    Raises StartFailed if it ended, NotReady if a wanted version failed or the deadline is over; with the evidence.
    """
    gap: Gap | None = None

    def ready() -> bool | None:
        nonlocal gap
        if not server.alive():
            raise ended(server)
        before, gap = gap, next(gaps(server, controls, models, deadline), None)
        if gap and (before is None or before.what != gap.what):
            progress(f"waiting: {gap.what}")
        return True if gap is None else None

    if not poll(ready, deadline):
        raise with_evidence(NotReady, f"{server.name} isn't ready after {deadline.waited:.0f} s: {gap}", server,
                            hint="see its log; if it only needs longer, raise server/start_timeout")
    for model in models:
        _check_answers(server, controls, model, deadline, progress)


def _check_answers(server: Server, controls: Controls, model: Wanted, deadline: Deadline, progress: Progress) -> None:
    """One generated request for each signature that no warm-up request has asked. Raises NotReady or StartFailed."""
    protocol, control = next(((p, c) for p, c in controls.items() if p == "gRPC"), (*controls.items(),)[-1])
    for version, path in sorted(model.paths.items()):
        ref = ModelRef(model.name, version)
        try:
            contract = control.metadata(ref, timeout=max(0.1, deadline.clip(_ASK))).contract
            verdict = probing.probe(control, ref, contract, features=_features(path), without=_recorded(path),
                                    rest=protocol == "REST", timeout=max(0.1, deadline.clip(_ANSWER)))
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


def gaps(server: Server, controls: Controls, models: Sequence[Wanted], deadline: Deadline) -> Iterator[Gap]:
    """What is missing until the server is ready, found one by one. Raises NotReady for a version that failed."""
    yield from _ports(server)
    for protocol, control in controls.items():
        for model in models:
            yield from _versions(server, protocol, control, model, deadline)
    for control in list(controls.values())[-1:]:
        for model in models:
            yield from _labels(control, model, deadline)


def _ports(server: Server) -> Iterator[Gap]:
    open_now, wanted = server.listening(), {"gRPC": server.endpoint.grpc_port, "REST": server.endpoint.rest_port}
    closed = [f"{name} port {port} isn't open" for name, port in wanted.items() if port not in open_now]
    if closed:
        yield Gap(", ".join(closed))


def _versions(server: Server, protocol: str, control: Control, model: Wanted, deadline: Deadline) -> Iterator[Gap]:
    try:
        statuses = control.status(ModelRef(model.name), timeout=max(0.1, deadline.clip(_ASK)))
    except (Unreachable, TimedOut) as e:
        if distrusts(e):
            raise with_evidence(NotReady, f"{server.name} is up, but tfs can't talk to it: {e.message}", server,
                                hint="see server/tls: ca, and server_name if the certificate isn't for this address"
                                ) from e
        yield Gap(f"{protocol} doesn't answer yet", e.message)
        return
    except ClientError as e:
        yield Gap(f"{protocol}: {e.message}")
        return
    for s in statuses:
        if s.failed and s.version in model.versions:
            message = f"model {model.name!r}: version {s.version} can't be loaded: {server_log.sentence(s.error)}"
            raise with_evidence(NotReady, message, server, statuses=told(statuses))
    serving = {s.version for s in statuses if s.serving}
    if serving != model.versions:
        yield Gap(f"model {model.name!r} serves {_list(serving)} over {protocol}, wanted {_list(model.versions)}")


def _labels(control: Control, model: Wanted, deadline: Deadline) -> Iterator[Gap]:
    for label, version in model.labels.items():
        try:
            live = control.metadata(ModelRef(model.name, label=label), timeout=max(0.1, deadline.clip(_ASK))).version
        except ClientError as e:
            yield Gap(f"label {model.name}@{label}: {e.message}")
            continue
        if live != version:
            yield Gap(f"label {model.name}@{label} leads to version {live}, wanted {version}")


def connect(endpoint: Endpoint) -> dict[str, Control]:
    """One control per protocol, so that both are proven to answer."""
    from deploy import client

    # REST first: it opens last, and a gRPC channel that was refused once pauses before it tries again
    return {"REST": client.connect(replace(endpoint, grpc_port=None)),
            "gRPC": client.connect(replace(endpoint, rest_port=None))}


@contextmanager
def connected(connect: Connect, endpoint: Endpoint) -> Iterator[Controls]:
    """The controls of an endpoint, closed at the end."""
    controls = connect(endpoint)
    try:
        yield controls
    finally:
        for control in controls.values():
            control.close()


def ended(server: Server) -> ServerError:
    """StartFailed for a server that ended by itself: exit code, and the sentence of its log that names the cause."""
    code, lines = server.returncode(), server.logs(_LAST_LINES).splitlines()
    words = server_log.last_words(lines)
    unread = next(unreadable(server.argv[1:]), None) if any(x.startswith("usage: ") for x in lines) else None
    if unread is not None and not words.startswith("Failed to start"):
        words = unread.sentence
    said = f"its last words: {words}" if words else "it said nothing"
    number = -code if code is not None and code < 0 else (code or 0) - 128
    how = "" if code is None else f" with exit code {code}"
    return with_evidence(StartFailed, f"{server.name} ended{how} while starting; {said}", server,
                         hint=_SIGNALS.get(number, ""))


def with_evidence(kind: type[ServerError], message: str, server: Server, *, hint: str = "", **details: object
                  ) -> ServerError:
    """An error with the server's command line, log tail, exit code and mounts, taken while they are still there."""
    try:
        seen = {k: v for k, v in server.describe().items() if k in ("kind", "image", "mounts", "user", "log") and v}
    except DeployError:
        seen = {}
    return kind(message, argv=server.argv, logs=server.logs(LOG_LINES), returncode=server.returncode(), hint=hint,
                details={**seen, **details})


def told(statuses: Iterable[VersionStatus]) -> list[dict[str, object]]:
    """Statuses as JSON data."""
    return [{"version": s.version, "state": s.state.name, "error": s.error} for s in statuses]


def _list(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "nothing"
