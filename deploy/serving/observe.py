"""find, status, logs: what is there now. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deploy import backends
from deploy.backends import Server
from deploy.errors import BackendMissing, DeployError, RepositoryError, ServerError, SpecError, Unreachable
from deploy.readiness import Desired, Gap, Snapshot, closed_ports, gaps
from deploy.repository import versions_of
from deploy.serving import snapshot
from deploy.serving.drift import Drift, Views, drifts, edits, others, read_config
from deploy.serving.planning import CONFIG_LABEL
from deploy.serving.ready import asked_version, golden_of
from deploy.serving.resolving import as_known_good, elsewhere, resolved
from deploy.serving.snapshot import Connect, absent, all_connected, look, open_release, pending, protocol_of
from deploy.serving.start_record import changes
from deploy.spec import Spec
from deploy.state import Release, ledger_of, started_from
from deploy.types import ServedModel, Serving, Specific, VersionState, VersionStatus
from deploy.wire import config_pb2
from deploy.wire.flags import FLAGS, parse
from deploy.wire.model_config import policy_of, select


def find(spec: Spec) -> Server | None:
    """The spec's server, started by any process; None if there is none. An ended container is still found. Raises
    BackendMissing if the place that the spec names can't be asked."""
    return backends.find(spec)


def logs(spec: Spec, tail: int = 50) -> str:
    """The last lines of the spec's server, or of the last one that left any. Raises ServerError if none did."""
    if not backends.preferred(spec).capabilities.starts:
        raise ServerError(f"{spec.name} is started by somebody else, and its log is where it runs",
                          hint="what was done to it: tfs history; what it serves: tfs status", id="not-ours")
    text = backends.logs(spec, tail)
    if text is None:
        raise ServerError(f"{spec.name} isn't running and left no log", hint="start it: tfs up", id="not-running")
    return text


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model: what is desired, what is served, and what spec, ledger, config file and server each say of it.

    wanted: the versions that should be served; none if that can't be said, and `problems` says why. statuses: of all
    versions that the server knows. labels: where each should resolve to. gaps: what keeps it from being ready.
    """

    views: Views
    wanted: tuple[int, ...]
    labels: Mapping[str, int]
    statuses: tuple[VersionStatus, ...] = ()
    live: Serving | None = None
    gaps: tuple[Gap, ...] = ()
    unresolved: str = ""

    @property
    def name(self) -> str:
        return self.views.model

    @property
    def served(self) -> list[int]:
        """The versions that are AVAILABLE now."""
        return sorted(self.live.versions) if self.live is not None else []

    @property
    def problems(self) -> list[str]:
        return [*filter(None, [self.unresolved]), *map(str, self.gaps)]

    def to_json(self) -> dict[str, Any]:
        live = self.live.labels if self.live is not None else {}
        return {"name": self.name, "wanted": list(self.wanted), "served": self.served,
                "versions": [s.to_json() for s in self.statuses], "problems": self.problems,
                "labels": {k: {"wanted": v, "live": live.get(k)} for k, v in self.labels.items()},
                **self.views.to_json()}


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is wanted and what is served. facts: what the server says of itself (see Server.describe), as JSON data;
    `running` is None where nobody can know.

    gaps: of the server itself. changes: how the spec differs from what was started, in sentences. notes: what people
    should know of this server whatever its state.
    """

    facts: Mapping[str, Any]
    models: tuple[ModelStatus, ...]
    gaps: tuple[Gap, ...] = ()
    changes: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def running(self) -> bool:
        return bool(self.facts["running"])

    @property
    def unknown(self) -> bool:
        """Nobody can know whether it runs: the place that the spec names can't be asked."""
        return self.facts["running"] is None

    @property
    def exit_code(self) -> int:
        """Of the command line: 0 for whatever there is to see."""
        return BackendMissing.exit_code if self.unknown else 0

    @property
    def backend(self) -> str:
        """What runs it; empty if nothing does."""
        return str(self.facts.get("kind") or "")

    @property
    def rest_url(self) -> str | None:
        """Where it answers; None for a server that has no such port, or that isn't there."""
        return (self.facts.get("endpoint") or {}).get("rest")

    @property
    def grpc_target(self) -> str | None:
        return (self.facts.get("endpoint") or {}).get("grpc")

    @property
    def exists(self) -> bool:
        """There is one, be it running or ended."""
        return "returncode" in self.facts

    @property
    def ready(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """What keeps it from being ready, in sentences, each once. Of one that doesn't run, that alone."""
        models = [p for m in self.models for p in m.problems] if self.running else []
        return list(dict.fromkeys([*map(str, self.gaps), *models]))

    def to_json(self) -> dict[str, Any]:
        return {**self.facts, "ready": self.ready, "problems": self.problems, "changed": bool(self.changes),
                "changes": list(self.changes), "drift": [d._asdict() for d in self.drift],
                "notes": list(self.notes),
                "models": [m.to_json() for m in self.models]}


def status(spec: Spec, *, connect: Connect = snapshot.connect) -> ServerStatus:
    """What is wanted and what is served. Raises ServerError if the server's record can't be read, RolloutError if the
    spec's ledger can't."""
    server, gap = snapshot.find_or_gap(spec)
    site = _Site.of(spec, server)
    unshared = spec.rollout.lock is None and not backends.preferred(spec).capabilities.starts
    running = None if gap and gap.seen == snapshot.UNKNOWN else False
    facts: dict[str, Any] = {"name": spec.name, "running": running} if server is None else server.describe()
    desired = [_desired(site, i) for i in range(len(spec.models))]
    if server is None or not facts["running"]:
        models = tuple(_model(site, i, d, []) for i, d in enumerate(desired))
        gap = gap or absent(spec, server, facts.get("returncode"))
        drift = _drift(site, models)
        return ServerStatus(facts, models, (gap,), drift=drift, notes=(*site.notes, *others(drift, unshared=unshared)))
    site.polls = _polls(server.argv)
    ports, listening = server.endpoint.ports, server.listening()
    closed = closed_ports(ports, listening)
    with all_connected(connect, server) as controls:  # a port that isn't its own may be another server's
        asked = {name: c for name, c in controls.items() if ports.get(protocol_of(name)) in listening}
        snapshots = look(asked, [d for d, _ in desired], labels={m.name: _labels(site, m) for m in spec.models})
    models = tuple(_model(site, i, d, snapshots[d[0].model]) for i, d in enumerate(desired))
    ours = backends.backend_of(server).capabilities.starts
    if why := pending(server):
        closed.append(Gap("", why, "running", "pending"))
    changed, drift = changes(spec, server.labels.get(CONFIG_LABEL)) if ours else (), _drift(site, models)
    return ServerStatus(facts, models, tuple(closed), tuple(changed), drift,
                        (*site.notes, *others(drift, unshared=unshared)))


@dataclass(slots=True)
class _Site:
    """What is the same for all models. known_good: the spec with what rollouts have changed. config: the file, if any.

    releases, files: by model; the one that is open, what the file's entry means with what is on disk.
    """

    spec: Spec
    known_good: Spec
    lines: list[dict[str, Any]]
    config: config_pb2.ModelServerConfig | None
    unreadable: str = ""
    notes: tuple[str, ...] = ()
    polls: bool = False
    edited: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, Release | None] = field(default_factory=dict)
    files: Mapping[str, Serving | None] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Spec, server: Server | None) -> _Site:
        lines = ledger_of(spec).read()
        site, store = cls(spec, as_known_good(spec, lines), lines, None), backends.config(spec, server)
        site.notes = tuple(filter(None, [store.lost_on_restart]))
        try:
            site.config = read_config(store)
        except BackendMissing:
            if server is not None:
                raise
        except SpecError as e:
            site.unreadable = e.message
        if site.config is not None:
            site.edited = edits(site.config, site.known_good.models, partial(backends.base_paths, spec))
        site.releases = {model.name: open_release(lines, model.name) for model in spec.models}
        site.files = {model.name: site._file(model) for model in spec.models}
        return site

    def _file(self, model: ServedModel) -> Serving | None:
        entries = self.config.model_config_list.config if self.config is not None else ()
        for entry in entries:
            if entry.name == model.name:
                policy = policy_of(entry)
                on_disk = _on_disk(self.spec, model)
                if on_disk is None and not isinstance(policy, Specific):
                    return None
                versions = policy.versions if isinstance(policy, Specific) else select(policy, on_disk or ())
                return Serving(frozenset(versions), dict(entry.version_labels))
        return None


def _drift(site: _Site, models: Iterable[ModelStatus]) -> tuple[Drift, ...]:
    drift = [d for m in models for d in drifts(m.views)]
    if site.unreadable:
        drift.append(Drift("file", "", f"the config file can't be read: {site.unreadable}"))
    strangers = site.edited.keys() - {m.name for m in site.spec.models}
    drift += [Drift("file", name, f"the config file was edited by hand: {site.edited[name]}") for name in
              sorted(strangers)]
    return tuple(drift)


def _desired(site: _Site, index: int) -> tuple[Desired, str]:
    """What has to be served of a model; and why its versions can't be said, if they can't: then any are fine."""
    model = site.known_good.models[index]
    release = site.releases[model.name]
    try:
        return resolved(site.known_good, index).desired(release), ""
    except DeployError as e:
        return Desired(model.name, None, model.labels, release), e.message


def _labels(site: _Site, model: ServedModel) -> set[str]:
    """Labels that may resolve to something, whoever set them."""
    file, rollout = site.files[model.name], site.spec.rollout
    return {*model.labels, *(file.labels if file else ()), *filter(None, [rollout.label, rollout.canary_label])}


def _model(site: _Site, index: int, wanted: tuple[Desired, str], snapshots: Sequence[Snapshot]) -> ModelStatus:
    (desired, unresolved), model = wanted, site.spec.models[index]
    first = next(iter(snapshots), Snapshot("", error=Unreachable("")))
    live = first.live if first.answered else None
    try:
        ours = resolved(site.spec, index).versions
    except DeployError:
        ours = frozenset()
    unloaded = frozenset(s.version for s in first.statuses if s.state is VersionState.END and not s.failed)
    views = Views(model.name, Serving(ours, model.labels), started_from(site.lines, model), site.files[model.name],
                  None if first.unknown else live, _on_disk(site.spec, model), site.edited.get(model.name, ""),
                  release=site.releases[model.name], polls=site.polls, unloaded=unloaded, forgets=bool(site.notes))
    return ModelStatus(views, tuple(sorted(desired.versions or ())), site.known_good.models[index].labels,
                       first.statuses, live, (*gaps(desired, snapshots), *_unverifiable(site, model, live)), unresolved)


def _unverifiable(site: _Site, model: ServedModel, live: Serving | None) -> Iterator[Gap]:
    """What `ready` would ask of the model can't be read: neither of them says that all is well then."""
    version = asked_version(live) if live is not None else 0
    try:
        if version:
            golden_of(model, version, tflite=site.spec.server.prefers_tflite)
    except RepositoryError as e:
        yield Gap(model.name, e.message, version=version)


def _on_disk(spec: Spec, model: ServedModel) -> frozenset[int] | None:
    """The versions where the server looks; None if that can't be seen from here."""
    if elsewhere(spec, model):
        return None
    try:
        return frozenset(versions_of(model).numbers())
    except RepositoryError:
        return frozenset()


def _polls(argv: tuple[str, ...]) -> bool:
    """Whether this server reads its config file again and again."""
    return int(parse(argv[1:], FLAGS).values["model_config_file_poll_wait_seconds"]) > 0
