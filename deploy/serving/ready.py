"""Ready: exactly the wanted versions AVAILABLE over both protocols, labels lead there, and an answer is right.

While a release is open, each of its steps is ready as well: traffic isn't taken away because a rollout is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from deploy import client, serving
from deploy.client import Client, probing
from deploy.client.failures import answers_no
from deploy.client.forms import no_json_values
from deploy.client.interfaces import Control
from deploy.errors import ClientError, DeployError
from deploy.goldens import Golden
from deploy.serving.cases import GoldenOf, golden_of
from deploy.serving.drift import in_transit
from deploy.serving.resolving import resolve
from deploy.spec import Spec
from deploy.state import Ledger, Release, Serving, releases
from deploy.types import Endpoint, ModelRef, ModelVersion


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to be served of one model.

    versions: exactly these; None: whatever there is, at least one. labels: where they have to lead; None: anywhere.
    release: one that is open.
    """

    name: str
    versions: frozenset[int] | None = None
    labels: Mapping[str, int | None] = field(default_factory=dict)
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict. why: one sentence, empty if it is ready. checked: what was looked at, in words.
    gaps: one sentence for the server, or for each model that isn't as it should be; why is the first."""

    ready: bool
    why: str
    checked: tuple[str, ...]
    seconds: float
    gaps: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"ready": self.ready, "why": self.why, "gaps": list(self.gaps), "checked": list(self.checked),
                "seconds": round(self.seconds, 3)}


class Prober:
    """Asks again and again. Keeps only what can't change: the golden cases of published versions.

    spec: None for a server of which only `expected` is known. endpoint: of a server that is managed elsewhere; None for
    the spec's own. expected: instead of what the spec wants. timeout: seconds for one question.
    """

    def __init__(self, spec: Spec | None, endpoint: Callable[[], Client] | None = None,
                 expected: Iterable[Expected] = (), *, timeout: float = 5.0) -> None:
        self._spec, self._connect, self._expected, self._timeout = spec, endpoint, tuple(expected), timeout
        self._goldens: dict[ModelVersion, Golden | None] = {}

    def ask(self) -> Answer:
        """Look once. Whatever goes wrong is a reason; nothing is raised but for bugs."""
        began, checked, found = time.monotonic(), list[str](), list[str]()
        try:
            found.extend(self._gaps(checked))
        except DeployError as e:
            found.append(e.message)
        return Answer(not found, next(iter(found), ""), tuple(checked), time.monotonic() - began, tuple(found))

    def _gaps(self, checked: list[str]) -> Iterator[str]:
        connect = self._connect
        if connect is None:
            assert self._spec is not None, "a prober has a spec or an endpoint"
            found = serving.find(self._spec)
            if found is None or not found.alive():
                yield f"{self._spec.name} isn't running"
                return
            endpoint, open_now = found.endpoint, found.listening()
            closed = [f"its {protocol} port {port} isn't open" for protocol, port in
                      (("REST", endpoint.rest_port), ("gRPC", endpoint.grpc_port)) if port not in open_now]
            if closed:
                yield closed[0]
                return
            checked.append("both ports are its own")
            connect = _to(endpoint, self._timeout)
        expected = self._expected or (expected_of(self._spec) if self._spec is not None else ())
        with closing(connect()) as connected:
            for model in expected:
                try:
                    yield from islice(gaps(connected, model, self._golden, checked), 1)  # further ones say it again
                except ClientError as e:
                    yield e.message
                    if not answers_no(e):  # it won't answer for the next model either
                        return

    def _golden(self, mv: ModelVersion) -> Golden | None:
        if mv not in self._goldens:
            bases = {m.name: m for m in self._spec.models} if self._spec is not None else {}
            tflite = self._spec is not None and self._spec.server.prefers_tflite
            self._goldens[mv] = golden_of(bases[mv.name], mv.version, tflite=tflite) if mv.name in bases else None
        return self._goldens[mv]


def expected_of(spec: Spec) -> list[Expected]:
    """What the spec wants now, with what rollouts have proven since. Raises RepositoryError or SpecError."""
    lines = Ledger(spec.state_dir).read()
    found = []
    for i, model in enumerate(serving.as_proven(spec).models):
        release = next((r for r in reversed(releases(lines, model.name)) if r.open), None)
        found.append(Expected(model.name, resolve(model, f"models/{i}").versions, dict(model.labels), release))
    return found


def expected_from(refs: Iterable[str]) -> list[Expected]:
    """From `mnist` (served at all), `mnist/3` (exactly that, with further ones), `mnist@stable` (the label leads
    somewhere). Raises SpecError."""
    versions, labels = dict[str, set[int]](), dict[str, dict[str, int | None]]()
    for ref in map(ModelRef.parse, refs):
        named, led = versions.setdefault(ref.name, set()), labels.setdefault(ref.name, {})
        if ref.version is not None:
            named.add(ref.version)
        if ref.label is not None:
            led[ref.label] = None
    return [Expected(name, frozenset(named) or None, labels[name]) for name, named in versions.items()]


def gaps(connected: Client, model: Expected, golden_of: GoldenOf, checked: list[str]) -> Iterator[str]:
    """What isn't as it has to be, one by one. Raises ClientError if nobody answers."""
    offered: tuple[tuple[str, Control | None], ...] = (("REST", connected.rest), ("gRPC", connected.rpc))
    controls = {name: control for name, control in offered if control is not None}
    answering = dict[str, int]()
    for protocol, control in controls.items():
        statuses = control.status(ModelRef(model.name))
        failed = [s for s in statuses if s.failed and s.version in (model.versions or ())]
        if failed:
            yield f"{model.name}/{failed[0].version} can't be loaded: {failed[0].error}"
        served = frozenset(s.version for s in statuses if s.serving)
        labels = {label: _leads(control, model.name, label) for label in _labels(model)}
        live = Serving(served, {k: v for k, v in labels.items() if v is not None})
        yield from _wrong(model, live, protocol)
        answering[protocol] = min(live.labels.values(), default=max(served, default=0))
    checked.append(f"{model.name}: versions and labels over {' and '.join(controls)}")
    version = next(iter(answering.values()), 0)
    golden = golden_of(ModelVersion(model.name, version)) if version else None
    if golden is None:
        if version:
            yield from _generated(connected, ModelRef(model.name, version), checked)
        return
    yield from _answers(connected, ModelVersion(model.name, version), golden, checked)


def _generated(connected: Client, ref: ModelRef, checked: list[str]) -> Iterator[str]:
    """A version without a golden case has to answer requests that its signatures say, or refuse them by itself."""
    verdict = probing.probe(connected, ref, connected.metadata(ref).contract, rest=connected.rpc is None, most=1)
    if verdict.fault:
        yield verdict.fault
    elif verdict.answered or verdict.refused:
        refused = f"; refused as made up: {', '.join(verdict.refused)}" if verdict.refused else ""
        checked.append(f"{ref}: generated requests for {', '.join(verdict.answered) or 'no signature'}{refused}")


def _labels(model: Expected) -> list[str]:
    both = () if model.release is None else (model.release.before, model.release.goal)
    return sorted({*model.labels, *(label for serving in both for label in serving.labels)})


def _wrong(model: Expected, live: Serving, protocol: str) -> Iterator[str]:
    if in_transit(model.release, live):
        return
    if model.versions is not None and live.versions != model.versions:
        yield f"{model.name} serves {_list(live.versions)} over {protocol}, wanted {_list(model.versions)}"
    if not live.versions:
        yield f"{model.name} serves nothing over {protocol}"
    for label, version in model.labels.items():
        if label not in live.labels or version not in (None, live.labels[label]):
            seen, wanted = live.labels.get(label, "nothing"), "" if version is None else f", wanted {version}"
            yield f"{model.name}@{label} leads to {seen} over {protocol}{wanted}"


def _leads(control: Control, name: str, label: str) -> int | None:
    try:
        return control.metadata(ModelRef(name, label=label)).version
    except ClientError as e:
        if answers_no(e):
            return None
        raise


def _answers(connected: Client, mv: ModelVersion, golden: Golden, checked: list[str]) -> Iterator[str]:
    ref, asked = ModelRef(mv.name, mv.version), []
    json = not no_json_values(golden.inputs, golden.outputs)
    for protocol, asking in (("REST", connected.rest if json else None), ("gRPC", connected.rpc)):
        if asking is None:
            continue
        answer = asking.predict(ref, golden.inputs, signature=golden.signature)
        for difference in golden.differences(answer):
            yield f"{mv} answers wrongly over {protocol}: {difference}"
        asked.append(protocol)
    checked.append(f"{mv}: a golden answer over {' and '.join(asked)}")


def elsewhere(rest_url: str | None, grpc_target: str | None, timeout: float) -> Callable[[], Client]:
    """Connects to a server that isn't ours. Raises SpecError if no address is given, or one that is none."""
    client.connect_to(grpc_target, rest_url, timeout=timeout).close()  # nothing is sent yet, but both are looked at
    return lambda: client.connect_to(grpc_target, rest_url, timeout=timeout)


def _to(endpoint: Endpoint, timeout: float) -> Callable[[], Client]:
    return lambda: client.connect(endpoint, timeout=timeout)


def _list(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "nothing"
