"""What can be known of a server that somebody else started: from its config file, its metrics and its answers.

There is no call that lists models, base paths, policies or labels. A reload names all of them, and what it leaves out
is gone from the server; so what can't be known has to be said by somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from deploy.client import Client, monitoring
from deploy.client.failures import answers_no
from deploy.client.interfaces import Control
from deploy.errors import BadReply, ClientError, NotReady, Rejected, SpecError
from deploy.readiness import unserved
from deploy.types import ModelRef, Serving, Specific, VersionPolicy, VersionState, VersionStatus
from deploy.wire import config_pb2, methods
from deploy.wire import serving_pb2 as pb
from deploy.wire.model_config import policy_of, version_number

if TYPE_CHECKING:
    from deploy.client.monitoring import Sample
    from deploy.client.rest import RestClient

_LOADS = ":tensorflow:cc:saved_model:load_attempt_count"
# Where nobody can say which labels there are: those that people use
USUAL_LABELS = ("stable", "canary", "production", "prod", "current", "latest", "champion", "challenger", "blue",
                "green")
_PORTS = "check the address: gRPC is mostly port 8500, REST 8501; behind a proxy its path belongs to it"
_NO_MODEL = "tfs-adopt-no-such-model"
_COMING = (VersionState.UNKNOWN, VersionState.START, VersionState.LOADING)


@dataclass(frozen=True, slots=True)
class AdoptedModel:
    """base_path: as the server sees it. policy: None where only the live versions are known. failed: version -> why."""

    name: str
    base_path: str
    live: Serving
    policy: VersionPolicy | None = None
    failed: Mapping[int, str] = field(default_factory=dict)

    @property
    def served(self) -> VersionPolicy:
        return self.policy or Specific(tuple(self.live.versions))

    @property
    def here(self) -> bool:
        """Whether its base path is one of this machine, with the versions that are served."""
        try:
            there = {version_number(path.name) for path in Path(self.base_path).iterdir()}
        except OSError:
            return False
        return self.live.versions <= there


def check_protocols(client: Client) -> None:
    """Raises ClientError if a TF Serving answers at neither or only one of the addresses."""
    for one in (client.rpc, client.rest):
        if one is None:
            continue
        try:
            one.status(ModelRef(_NO_MODEL))
        except Rejected as e:
            if not unserved(e) or _NO_MODEL not in str(e.details.get("server")):  # another's 404 names no model
                raise BadReply(f"{one.endpoint} is no TensorFlow Serving: asked for a model's status it says {e.code}",
                               endpoint=one.endpoint, hint=_PORTS, id="not-tensorflow-serving") from e
        except ClientError as e:
            e.message = e.message.removeprefix(f"status of {_NO_MODEL}: ")  # nobody has heard of it
            if isinstance(e, BadReply):
                raise BadReply(f"{one.endpoint} is no TensorFlow Serving: {e.message}", endpoint=one.endpoint,
                               hint=_PORTS, id="not-tensorflow-serving") from e
            raise


def check_one_server(client: Client, models: Sequence[str]) -> str:
    """Whether both addresses are of one server: a request over gRPC is counted, and the count is read over REST.

    models: those that somebody has named. The sentence to tell where nobody can know, "" if it is one. Raises SpecError
    if they are of two, ClientError.
    """
    if client.rpc is None or client.rest is None:
        return ""
    for name in models:
        _statuses(client, name)
    unproven = f"it isn't proven that {client.rpc.endpoint} and {client.rest.endpoint} are one server: "
    # An unknown model has no counters of anybody's; where those aren't counted, an unknown signature of a known one
    for name, signature in ((_NO_MODEL, ""), *((model, _NO_MODEL) for model in models[:1])):
        spec, status = pb.ModelSpec(name=name, signature_name=signature), "OK"
        before = monitoring.request_counts(client.rest, name)
        if before is None:
            return f"{unproven}its metrics are off, and all that could be compared is equal"
        try:
            client.rpc.request(methods.PREDICT, pb.PredictRequest(model_spec=spec), pb.PredictResponse)
        except Rejected as e:
            status = e.code
        after = monitoring.request_counts(client.rest, name)
        if after is not None and after.by_status.get(status, 0) > before.by_status.get(status, 0):
            return ""
    if not models:
        return f"{unproven}a request over gRPC isn't in its metrics (name a model, to ask for that: --model)"
    raise _two_servers(client, "a request over gRPC isn't in the other's metrics")


def _two_servers(client: Client, why: str) -> SpecError:
    assert client.rpc is not None and client.rest is not None, "one address is one server"
    return SpecError(f"{client.rpc.endpoint} and {client.rest.endpoint} aren't the same server: {why}",
                     hint="give the gRPC and the REST address of one server", id="bad-address")


def from_config(client: Client, config: config_pb2.ModelServerConfig, labels: Iterable[str]
                ) -> Iterator[AdoptedModel]:
    """The models of its config file, as they are served now. Raises NotReady, ClientError."""
    for entry in config.model_config_list.config:
        names = {*labels, *entry.version_labels, *USUAL_LABELS}
        yield _model(client, entry.name, entry.base_path.rstrip("/"), names, policy_of(entry))


def from_answers(client: Client, named: Mapping[str, str | None], labels: Iterable[str], notes: list[str]
                 ) -> Iterator[AdoptedModel]:
    """The models that somebody has named, and those that its metrics show. named: model -> base path, None: unknown.

    Raises SpecError where a model or a base path stays unknown; NotReady, ClientError.
    """
    seen = _Metrics.of(client)
    bases = {name: base or seen.base_of(name, versions_served(client, name)) for name, base in named.items()}
    for name, base in seen.others(client, bases):
        notes.append(f"{name} wasn't named: it is served, and the server's metrics show it in {base}")
        bases[name] = base
    if not bases:
        raise SpecError("nobody can say which models it serves: TensorFlow Serving has no call that lists them",
                        hint="name its config file (--config-file), or each model (--model NAME=BASE_PATH)",
                        id="base-path-unknown")
    for name, base in bases.items():
        if base is None:
            raise SpecError(f"the base path of model {name!r} isn't known, and whatever is told to the server has to "
                            "name it: a wrong one hangs it, and a model left out is gone",
                            hint=f"--model {name}=/its/base/path, as the server sees it; or name its config file: "
                                 "--config-file", id="base-path-unknown")
        seen.check_base(name, base, versions_served(client, name))
        yield _model(client, name, base, {*labels, *USUAL_LABELS}, None)
    notes.extend(seen.unclaimed(base for base in bases.values() if base))
    if not seen.known:
        notes.append("the server shows no metrics: a model that wasn't named here would be gone with the first release")
    notes.append("labels can't be listed, and a release sets all of them: asked for were "
                 f"{', '.join(sorted({*labels, *USUAL_LABELS}))}; name others with --label")


@dataclass(frozen=True, slots=True)
class Unnamed:
    """What metrics say of models that aren't named. known: whether there are any. served: model -> base path, None:
    unknown. notes: what was loaded once, in sentences."""

    known: bool
    served: Mapping[str, str | None]
    notes: tuple[str, ...]


ReadMetrics = Callable[["RestClient"], "Sequence[Sample] | None"]
"""What a server's metrics say of loads and requests; None if they are off. Raises ClientError."""


def _read(rest: RestClient) -> Sequence[Sample] | None:
    return monitoring.read(rest, timeout=5.0, names=(_LOADS, monitoring.REQUESTS))


def unnamed(client: Client, named: Mapping[str, str | None], read: ReadMetrics | None = None) -> Unnamed:
    """What a server serves beside what is named. named: model -> base path. Raises ClientError."""
    metrics = _Metrics.of(client, read or _read)
    served = dict(metrics.others(client, named))
    return Unnamed(metrics.known, served, tuple(metrics.unclaimed(filter(None, [*named.values(), *served.values()]))))


def versions_served(client: Client, name: str) -> frozenset[int]:
    """The versions of a model that are AVAILABLE. Raises ClientError."""
    return frozenset(s.version for s in _statuses(client, name) if s.serving)


def _model(client: Client, name: str, base_path: str, labels: Iterable[str], policy: VersionPolicy | None
           ) -> AdoptedModel:
    statuses = _statuses(client, name)
    coming = [s.version for s in statuses if s.state in _COMING]
    if coming:
        raise NotReady(f"{name}/{coming[0]} is still loading, so that nobody can say what is served",
                       hint="wait, then adopt it again")
    versions = frozenset(s.version for s in statuses if s.serving)
    failed = {s.version: s.error for s in statuses if s.failed}
    if not versions:
        why = "; ".join(f"version {v} failed: {error}" for v, error in failed.items())
        raise NotReady(f"the server serves no version of {name!r}{f': {why}' if why else ''}",
                       hint="is that its name? A model that isn't served can't be adopted")
    return AdoptedModel(name, base_path, Serving(versions, _resolved(client, name, labels, versions)), policy, failed)


def _statuses(client: Client, name: str) -> Sequence[VersionStatus]:
    """Over every protocol the same. Raises SpecError if they are two servers."""
    answers: list[Sequence[VersionStatus]] = []
    for one in _protocols(client):
        try:
            answers.append(one.status(ModelRef(name)))
        except Rejected as e:
            if not unserved(e):
                raise
            answers.append([])
    there, here = ({s.version for s in statuses if s.serving} for statuses in (answers[0], answers[-1]))
    if there != here:
        raise _two_servers(client, f"{name} is served as {sorted(there) or 'nothing'} there, and as "
                                   f"{sorted(here) or 'nothing'} here")
    return answers[0]


def _resolved(client: Client, name: str, labels: Iterable[str], versions: frozenset[int]) -> dict[str, int]:
    """Over every protocol the same. Raises SpecError if they are two servers."""
    resolved = {}
    for label in sorted(labels):
        there, *others = (_version_of(one, ModelRef(name, label=label)) for one in _protocols(client))
        if any(here != there for here in others):
            said = [f"version {version}" if version else "nothing" for version in (there, *others)]
            raise _two_servers(client, f"{name}'s label {label} is {said[0]} there, and {said[-1]} here")
        if there in versions:
            resolved[label] = there
    return resolved


def _protocols(client: Client) -> list[Control]:
    return [one for one in (client.rpc, client.rest) if one is not None]


def _version_of(one: Control, ref: ModelRef) -> int | None:
    try:
        return one.metadata(ref).version
    except Rejected as e:
        if not answers_no(e):
            raise
        return None


@dataclass(frozen=True, slots=True)
class _Metrics:
    """What the metrics page says: base path -> versions that were loaded from it, ever; models that were asked for."""

    known: bool
    loaded: Mapping[str, frozenset[int]] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, client: Client, read: ReadMetrics = _read) -> _Metrics:
        try:
            samples = None if client.rest is None else read(client.rest)
        except ClientError:
            samples = None
        if samples is None:
            return cls(False)
        loaded: dict[str, frozenset[int]] = {}
        for sample in samples:
            path = PurePosixPath(sample.labels.get("model_path", ""))
            number = version_number(path.name)
            if sample.name == _LOADS and number is not None:
                base = sample.labels["model_path"].rstrip("/").rpartition("/")[0]  # an address keeps its two slashes
                loaded[base] = loaded.get(base, frozenset()) | {number}
        asked = {s.labels.get("model_name", "") for s in samples if s.name == monitoring.REQUESTS}
        return cls(True, loaded, frozenset(asked - {""}))

    def base_of(self, name: str, versions: frozenset[int]) -> str | None:
        """The one base path that is called like the model and holds what is served of it."""
        fitting = [base for base, there in self.loaded.items()
                   if PurePosixPath(base).name == name and versions and versions <= there]
        return fitting[0] if len(fitting) == 1 else None

    def check_base(self, name: str, base: str, versions: frozenset[int]) -> None:
        """Raises SpecError for a base path from which nothing was loaded, where it is clear which one it is."""
        real = self.base_of(name, versions)
        if real is not None and base.rstrip("/") not in self.loaded:
            raise SpecError(f"by its metrics the server has loaded {name} from {real}, and nothing from {base}: a base "
                            "path that isn't there hangs it", hint=f"--model {name}={real}", id="base-path-unknown")

    def others(self, client: Client, named: Mapping[str, str | None]) -> Iterator[tuple[str, str | None]]:
        """Models that are served and weren't named."""
        for name in sorted({PurePosixPath(base).name for base in self.loaded} | self.asked):
            versions = versions_served(client, name) if name not in named else frozenset()
            if versions and self.base_of(name, versions) not in {base for base in named.values() if base}:
                yield name, self.base_of(name, versions)

    def unclaimed(self, bases: Iterable[str]) -> Iterator[str]:
        """A sentence for each base path that no known model has."""
        for base in sorted(self.loaded.keys() - set(bases)):
            yield (f"the server has loaded something from {base} once: if it still serves that, under a name that "
                   f"isn't known here, the first release would drop it (--model NAME={base})")
