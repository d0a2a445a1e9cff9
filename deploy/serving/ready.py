"""Ready: no gap (see deploy.readiness) over any protocol, and an answer of each model is right.

While a release is open, each of its steps is ready as well: traffic isn't taken away because a rollout is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from deploy import client, serving
from deploy.backends import Replica
from deploy.client.failures import answers_no
from deploy.client.interfaces import Control
from deploy.errors import (
    ClientError,
    DeployError,
    NotReady,
    RepositoryError,
    RolloutError,
    SpecError,
    VersionNotFound,
)
from deploy.readiness import Desired, closed_ports, gaps
from deploy.repository import versions_of
from deploy.serving.resolving import resolved
from deploy.serving.snapshot import absent, look, open_release, pending, replicas_of
from deploy.spec import Spec
from deploy.state import ledger_of
from deploy.types import Endpoint, ModelRef, ModelVersion, ServedModel, Serving

if TYPE_CHECKING:
    from deploy.client import Client
    from deploy.goldens import Golden

GoldenOf = Callable[[ModelVersion], "Golden | None"]


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """The verdict. why: one sentence, empty if it is ready. checked: what was looked at, in words.
    gaps: one sentence for the server, or for each model that isn't as it should be; why is the first.
    broken: a file of ours (spec, repository, ledger) that keeps anybody from saying what should be served, or answered.
    """

    ready: bool
    why: str
    checked: tuple[str, ...]
    seconds: float
    gaps: tuple[str, ...] = ()
    broken: SpecError | RepositoryError | RolloutError | None = None

    @property
    def exit_code(self) -> int:
        """Of the command line: 0, NotReady's for what the server shows, else that of what is broken."""
        return 0 if self.ready else (self.broken or NotReady).exit_code

    def to_json(self) -> dict[str, Any]:
        return {"ready": self.ready, "why": self.why, "gaps": list(self.gaps), "checked": list(self.checked),
                "seconds": round(self.seconds, 3)}


class Prober:
    """Asks again and again. Keeps only what can't change: the golden cases of published versions.

    spec: None for a server of which only `expected` is known. endpoint: of a server that is managed elsewhere; None for
    the spec's own. expected: instead of what the spec wants. timeout: seconds for one question.
    """

    def __init__(self, spec: Spec | None, endpoint: Callable[[], Client] | None = None,
                 expected: Iterable[Desired] = (), *, timeout: float = 5.0) -> None:
        self._spec, self._connect, self._expected, self._timeout = spec, endpoint, tuple(expected), timeout
        self._goldens: dict[ModelVersion, Golden | None] = {}

    def ask(self) -> ReadyAnswer:
        """Look once. Whatever goes wrong is a reason; nothing is raised but for bugs."""
        began, checked, sentences, broken = time.monotonic(), list[str](), list[str](), None
        try:
            sentences.extend(self._gaps(checked))
        except DeployError as e:
            sentences.append(e.message)
            broken = e if isinstance(e, SpecError | RepositoryError | RolloutError) else None
        return ReadyAnswer(not sentences, next(iter(sentences), ""), tuple(checked), time.monotonic() - began,
                           tuple(sentences), broken)

    def _gaps(self, checked: list[str]) -> Iterator[str]:
        connect = self._connect
        if connect is None:
            assert self._spec is not None, "a prober has a spec or an endpoint"
            server = serving.find(self._spec)
            if server is None or not server.alive():
                code = server.returncode() if server is not None else None
                yield str(absent(self._spec, server, code))
                return
            closed = closed_ports(server.endpoint.ports, server.listening())
            if closed:
                yield str(closed[0])
                return
            if why := pending(server):
                yield why
            checked.append("both ports are its own")
            yield from self._of_replicas(replicas_of(server), checked)
            return
        yield from self._missing(connect, checked)

    def _of_replicas(self, replicas: Sequence[Replica], checked: list[str]) -> Iterator[str]:
        for replica in replicas:
            of = f"{replica.name}: " if len(replicas) > 1 else ""
            part = list[str]()
            yield from (f"{of}{why}" for why in self._missing(_to(replica.endpoint, self._timeout), part))
            checked.extend(f"{of}{what}" for what in part)

    def _missing(self, connect: Callable[[], Client], checked: list[str]) -> Iterator[str]:
        expected = self._expected or (expected_of(self._spec) if self._spec is not None else ())
        with closing(connect()) as connected:
            yield from dict.fromkeys(missing(connected, expected, self._golden, checked))

    def _golden(self, mv: ModelVersion) -> Golden | None:
        if mv not in self._goldens:
            bases = {m.name: m for m in self._spec.models} if self._spec is not None else {}
            tflite = self._spec is not None and self._spec.server.prefers_tflite
            self._goldens[mv] = golden_of(bases[mv.name], mv.version, tflite=tflite) if mv.name in bases else None
        return self._goldens[mv]


def ready(spec: Spec, *, timeout: float = 5.0) -> ReadyAnswer:
    """Whether exactly what the spec wants is served, and answered right: `tfs ready`, asked once.

    timeout: seconds for one question. Whatever keeps it from being ready is a sentence of the answer, no exception.
    """
    return Prober(spec, timeout=timeout).ask()


def expected_of(spec: Spec) -> list[Desired]:
    """What the spec wants now, with what rollouts have made known good since. Raises RepositoryError or SpecError."""
    lines = ledger_of(spec).read()
    known_good = serving.as_known_good(spec, lines)
    return [resolved(known_good, i).desired(open_release(lines, model.name))
            for i, model in enumerate(known_good.models)]


def expected_from(refs: Iterable[str]) -> list[Desired]:
    """From `mnist` (served at all), `mnist/3` (exactly that, with further ones), `mnist@stable` (the label resolves).
    Raises SpecError."""
    versions, labels = dict[str, set[int]](), dict[str, dict[str, int | None]]()
    for ref in map(ModelRef.parse, refs):
        named, resolved = versions.setdefault(ref.name, set()), labels.setdefault(ref.name, {})
        if ref.version is not None:
            named.add(ref.version)
        if ref.label is not None:
            resolved[ref.label] = None
    return [Desired(name, frozenset(named) or None, labels[name]) for name, named in versions.items()]


def missing(connected: Client, models: Sequence[Desired], golden_of: GoldenOf, checked: list[str]) -> Iterator[str]:
    """Of each model the first thing that isn't as it has to be; its further gaps mostly follow from that one."""
    offered: tuple[tuple[str, Control | None], ...] = (("REST", connected.rest), ("gRPC", connected.rpc))
    controls = {name: control for name, control in offered if control is not None}
    snapshots_of = look(controls, models, lambda: None)
    for model in models:
        snapshots = snapshots_of[model.model]
        gap = next(iter(gaps(model, snapshots)), None)
        if gap is not None:
            yield str(gap)
        elif len(snapshots) == len(controls):
            checked.append(f"{model.model}: versions and labels over {' and '.join(controls)}")
            try:
                yield from islice(_answering(connected, model.model, snapshots[0].live, golden_of, checked), 1)
            except ClientError as e:
                yield e.message
                if not answers_no(e):  # it won't answer for the next model either
                    return


def _answering(connected: Client, model: str, live: Serving, golden_of: GoldenOf, checked: list[str]) -> Iterator[str]:
    version = asked_version(live)
    golden = golden_of(ModelVersion(model, version)) if version else None
    if golden is not None:
        yield from _answers(connected, ModelVersion(model, version), golden, checked)
    elif version:
        yield from _generated(connected, ModelRef(model, version), checked)


def asked_version(live: Serving) -> int:
    """The one version that has to answer, the one that most clients ask for; 0 if none is served."""
    return min(live.labels.values(), default=max(live.versions, default=0))


def _generated(connected: Client, ref: ModelRef, checked: list[str]) -> Iterator[str]:
    """A version without a golden case has to answer requests that its signatures say, or refuse them by itself."""
    verdict = client.probing.probe(connected, ref, connected.metadata(ref).contract, rest=connected.rpc is None, most=1)
    if verdict.fault:
        yield verdict.fault
    elif verdict.answered or verdict.refused:
        refused = f"; refused as made up: {', '.join(verdict.refused)}" if verdict.refused else ""
        checked.append(f"{ref}: generated requests for {', '.join(verdict.answered) or 'no signature'}{refused}")


def _answers(connected: Client, mv: ModelVersion, golden: Golden, checked: list[str]) -> Iterator[str]:
    ref, asked = ModelRef(mv.name, mv.version), []
    json = not client.no_json_values(golden.inputs, golden.outputs)
    for protocol, asking in (("REST", connected.rest if json else None), ("gRPC", connected.rpc)):
        if asking is None:
            continue
        answer = asking.predict(ref, golden.inputs, signature=golden.signature)
        for difference in golden.differences(answer):
            yield f"{mv} answers wrongly over {protocol}: {difference}"
        asked.append(protocol)
    checked.append(f"{mv}: a golden answer over {' and '.join(asked)}")


def golden_of(model: ServedModel, version: int, *, tflite: bool = False) -> Golden | None:
    """A version's first golden; None for a version without one, or that isn't here.

    Also None for a version of another tool: its answers weren't checked when it was made (warm-up requests are often
    copied from version to version, with answers of an older one), and traffic isn't taken away for that. A smoke test
    and a rollout ask them.
    tflite: the server prefers the model.tflite of a version that has one.
    Raises RepositoryError for a damaged version: asking less than was recorded would be no answer.
    """
    if not versions_of(model).here:
        return None
    stored = versions_of(model).version(version)
    try:
        if stored.find_manifest() is None:
            return None
    except VersionNotFound:
        return None
    return next(iter(stored.repository.facts(stored.mv, tflite=tflite).goldens), None)


def elsewhere(rest_url: str | None, grpc_target: str | None, timeout: float) -> Callable[[], Client]:
    """Connects to a server that isn't ours. Raises SpecError if no address is given, or one that is none."""
    client.connect_to(grpc_target, rest_url, timeout=timeout).close()  # nothing is sent yet, but both are looked at
    return lambda: client.connect_to(grpc_target, rest_url, timeout=timeout)


def _to(endpoint: Endpoint, timeout: float) -> Callable[[], Client]:
    return lambda: client.connect(endpoint, timeout=timeout)
