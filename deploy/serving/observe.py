"""find, status, logs: what is there now. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deploy import backends
from deploy.backends import Server
from deploy.client.failures import answers_no
from deploy.errors import ClientError, DeployError, RepositoryError, ServerError, SpecError
from deploy.repository import versions_of
from deploy.serving import readiness
from deploy.serving.drift import Drift, Views, drifts, edits, in_transit, read_config
from deploy.serving.known_good import as_proven
from deploy.serving.planning import CONFIG_LABEL
from deploy.serving.readiness import Connect, Control, connected
from deploy.serving.resolving import resolve
from deploy.serving.start_record import changes
from deploy.spec import Spec
from deploy.state import Ledger, Release, Serving, releases, started_from
from deploy.types import ModelRef, ServedModel, Specific, VersionState, VersionStatus
from deploy.waiting import Deadline
from deploy.wire import config_pb2
from deploy.wire.flags import FLAGS, parse
from deploy.wire.model_config import policy_of, select

_ASK = 5.0


def find(spec: Spec) -> Server | None:
    """The spec's server, started by any process; None if there is none. An ended container is still found."""
    return backends.find(spec)


def logs(spec: Spec, tail: int = 50) -> str:
    """The last lines of the spec's server, or of the last one that left any. Raises ServerError if none did."""
    text = backends.logs(spec, tail)
    if text is None:
        raise ServerError(f"{spec.name} isn't running and left no log", hint="start it: tfs up")
    return text


def status(spec: Spec, *, connect: Connect = readiness.connect) -> dict[str, Any]:
    """What is wanted and what is served, as JSON data.

    name, running, ready, problems (sentences), changed (the spec differs from what was started) and changes (how, in
    sentences), drift (kind, model, message: see serving.drift), models (each: name, wanted, served, versions with state
    and error, labels with wanted and live; spec, ledger, file and live as each of them tells it), and what the server
    says of itself. Raises ServerError if its record can't be read, RolloutError if its ledger can't.
    """
    found, site = find(spec), _Site.of(spec)
    said = {"name": spec.name, "running": False} if found is None else found.describe()
    if found is None or not said["running"]:
        why = "isn't running" if found is None else f"ended with exit code {said['returncode']}"
        models = [_looked(site, model, i, None) for i, model in enumerate(spec.models)]
        return {**said, "ready": False, "problems": [f"{spec.name} {why}"], "changed": False, "changes": [],
                "drift": _drift(site, models), "models": [m.data for m in models]}
    site.polls = _polls(found.argv)
    with connected(connect, found.endpoint) as controls:
        control = controls.get("gRPC") or next(iter(controls.values()))
        models = [_looked(site, model, i, control) for i, model in enumerate(spec.models)]
    problems = [p for m in models for p in m.data["problems"]]
    if not {found.endpoint.grpc_port, found.endpoint.rest_port} <= found.listening():
        problems.insert(0, "not both of its ports are open")
    changed = changes(spec, found.labels.get(CONFIG_LABEL))
    return {**said, "ready": not problems, "problems": problems, "changed": bool(changed), "changes": changed,
            "drift": _drift(site, models), "models": [m.data for m in models]}


@dataclass(slots=True)
class _Site:
    """What is the same for all models. proven: the spec with what rollouts have changed. config: the file, if any."""

    spec: Spec
    proven: Spec
    lines: list[dict[str, Any]]
    config: config_pb2.ModelServerConfig | None
    unreadable: str = ""
    polls: bool = False
    edited: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Spec) -> _Site:
        made = cls(spec, as_proven(spec), Ledger(spec.state_dir).read(), None)
        try:
            made.config = read_config(backends.config(spec))
        except SpecError as e:
            made.unreadable = e.message
        if made.config is not None:
            made.edited = edits(made.config, made.proven.models, partial(backends.base_paths, spec))
        return made

    def release(self, name: str) -> Release | None:
        return next((r for r in reversed(releases(self.lines, name)) if r.open), None)

    def file(self, model: ServedModel) -> Serving | None:
        """What the file's entry means with what is on disk."""
        entries = self.config.model_config_list.config if self.config is not None else ()
        for entry in entries:
            if entry.name == model.name:
                policy = policy_of(entry)
                versions = policy.versions if isinstance(policy, Specific) else select(policy, _on_disk(model))
                return Serving(frozenset(versions), dict(entry.version_labels))
        return None


@dataclass(frozen=True, slots=True)
class _Looked:
    """A model's JSON data, and its views."""

    data: dict[str, Any]
    views: Views


def _drift(site: _Site, models: Iterable[_Looked]) -> list[dict[str, str]]:
    found = [d for m in models for d in drifts(m.views)]
    if site.unreadable:
        found.append(Drift("file", "", f"the config file can't be read: {site.unreadable}"))
    strangers = site.edited.keys() - {m.name for m in site.spec.models}
    found += [Drift("file", name, f"the config file was edited by hand: {site.edited[name]}") for name in
              sorted(strangers)]
    return [d._asdict() for d in found]


def _looked(site: _Site, model: ServedModel, index: int, control: Control | None) -> _Looked:
    proven = site.proven.models[index]
    wanted, problems = _wanted(proven, f"models/{index}")
    ours, _ = _wanted(model, f"models/{index}")
    statuses = list[VersionStatus]()
    file, release = site.file(model), site.release(model.name)
    live: Serving | None = None
    unasked = dict[str, str]()
    if control is not None:
        statuses = _statuses(control, model.name, problems)
        labels = {*proven.labels, *model.labels, *(file.labels if file else ()), site.spec.rollout.label,
                  *filter(None, [site.spec.rollout.canary_label]), *(release.goal.labels if release else ())}
        live = Serving(frozenset(s.version for s in statuses if s.serving), _live(control, model.name, labels, unasked))
        asked = {k: v for k, v in proven.labels.items() if k not in unasked}
        problems += _problems(model.name, Serving(frozenset(wanted), asked), live, statuses, release)
        problems += [f"label {model.name}@{k} can't be asked for: {why}" for k, why in unasked.items()
                     if k in proven.labels]
    unloaded = frozenset(s.version for s in statuses if s.state is VersionState.END and not s.failed)
    views = Views(model.name, Serving(frozenset(ours), model.labels), started_from(site.lines, model), file,
                  None if unasked else live, _on_disk(model), site.edited.get(model.name, ""), release=release,
                  polls=site.polls, unloaded=unloaded)
    led = live.labels if live is not None else {}
    data = {"name": model.name, "wanted": wanted, "served": sorted(live.versions) if live is not None else [],
            "versions": readiness.told(statuses), "problems": problems,
            "labels": {k: {"wanted": v, "live": led.get(k)} for k, v in proven.labels.items()}, **views.to_json()}
    return _Looked(data, views)


def _wanted(model: ServedModel, where: str) -> tuple[list[int], list[str]]:
    try:
        return sorted(resolve(model, where).versions), []
    except DeployError as e:
        return [], [e.message]


def _statuses(control: Control, name: str, problems: list[str]) -> list[VersionStatus]:
    try:
        return list(control.status(ModelRef(name), timeout=_ASK))
    except ClientError as e:
        problems.append(f"model {name!r}: {e.message}")
        return []


def _problems(name: str, wanted: Serving, live: Serving, statuses: list[VersionStatus], release: Release | None
              ) -> list[str]:
    found = [f"{name}/{s.version} failed: {s.error}" for s in statuses if s.failed and s.version in wanted.versions]
    if in_transit(release, live):
        return found
    if live.versions != wanted.versions and statuses:
        found.append(f"model {name!r} serves {sorted(live.versions) or 'nothing'}, wanted "
                     f"{sorted(wanted.versions) or 'nothing'}")
    found += [f"label {name}@{k} leads to {live.labels.get(k) or 'nothing'}, wanted {v}"
              for k, v in wanted.labels.items() if live.labels.get(k) != v]
    return found


def _live(control: Control, name: str, labels: Iterable[str], unasked: dict[str, str]) -> dict[str, int]:
    """Where labels lead; those that lead nowhere aren't there. unasked: gets those of which no answer came, and why."""
    found = {}
    for label in sorted(set(labels)):
        try:
            found[label] = control.metadata(ModelRef(name, label=label), timeout=Deadline(_ASK).left).version
        except ClientError as e:
            if not answers_no(e):
                unasked[label] = e.message
    return found


def _on_disk(model: ServedModel) -> frozenset[int]:
    try:
        return frozenset(versions_of(model).numbers())
    except RepositoryError:
        return frozenset()


def _polls(argv: tuple[str, ...]) -> bool:
    """Whether this server reads its config file again and again."""
    return int(parse(argv[1:], FLAGS).values["model_config_file_poll_wait_seconds"]) > 0
