"""`adopt`: a server that somebody else started becomes a spec and a ledger's first lines. Nothing is told to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import yaml

from deploy import backends, client, render
from deploy.backends.remote import endpoint_of
from deploy.errors import SpecError
from deploy.locks import whoami
from deploy.render.configs import MODELS
from deploy.serving.adoption import AdoptedModel, check_one_server, check_protocols, from_answers, from_config
from deploy.serving.drift import read_config
from deploy.serving.taking_over import missing_file
from deploy.spec import ModelSpec, Monitoring, RemotePart, ServerPart, Spec, SpecFile, parse
from deploy.spec.remote import checked_remote
from deploy.state import changing, ledger_of
from deploy.state.release import entry
from deploy.types import All, Specific, VersionPolicy
from deploy.wire import config_pb2


@dataclass(frozen=True, slots=True)
class Adopted:
    """A spec that was written for somebody else's server. notes: what couldn't be known, and what follows from it."""

    spec: Spec
    models: tuple[AdoptedModel, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.spec.name, "spec": str(self.spec.path), "notes": list(self.notes),
                "models": {m.name: {"base_path": m.base_path, **m.live.to_json(), "policy": _versions(m.served),
                                    "failed": {str(v): error for v, error in m.failed.items()}} for m in self.models}}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.spec.name} is adopted: {self.spec.path}"]
        lines += [f"  {m.name}: {m.live}, in {m.base_path}" for m in self.models]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Known:
    """What whoever adopts a server says of it.

    models: model -> base path as the server sees it; None: it is found out. labels: further ones to ask for.
    repository: where its versions are published. pin: name the versions that are live instead of a policy.
    """

    models: Mapping[str, str | None]
    labels: Collection[str] = ()
    repository: str | None = None
    pin: bool = False


def adopt(part: RemotePart, path: str | Path, known: Known | None = None, *, name: str | None = None,
          replace: bool = False, timeout: float = 10.0) -> Adopted:
    """Read off a running server what it serves, and write a spec and first ledger lines for it. It isn't told anything.

    part: where it is. path: of the spec. name: of the server, if not as the file. replace: a spec that is there, and
    what its ledger says. timeout: seconds for one question.

    Raises SpecError for addresses that can't be, a spec that is there, and what nobody can know; ServerError for a
    config file that can't be read, NotReady while versions are loading, ClientError if it doesn't answer.
    """
    path, known = Path(path).absolute(), known or Known({})
    if path.exists() and not replace:
        raise SpecError(f"{path} is there already", hint="choose another file with --out, or write over it: --force",
                        id="spec-exists")
    part, notes = checked_remote(part, path.parent), list[str]()
    config = None if part.config_file is None else _config(part, path)
    with client.connect(endpoint_of(part), timeout=timeout) as connected:
        check_protocols(connected)
        named = list(known.models) if config is None else [one.name for one in config.model_config_list.config]
        notes += filter(None, [check_one_server(connected, named)])
        models = tuple(from_config(connected, config, known.labels) if config is not None else
                       from_answers(connected, known.models, known.labels, notes))
        monitored = connected.rest is not None and client.monitoring.read(connected.rest) is not None
    if config is not None:
        _check_named(models, known.models, str(part.config_file))
    file = _file(part, models, known, name, labels=config is not None and any(
        entry.version_labels for entry in config.model_config_list.config), monitored=monitored)
    text = _yaml(file)
    spec = parse(text, path)
    notes += _notes(spec, models, known)
    _keep(spec, models, replace=replace)
    render.write({path.name: text}, path.parent, error=SpecError)
    return Adopted(spec, models, tuple(notes))


def _config(part: RemotePart, path: Path) -> config_pb2.ModelServerConfig:
    """The server's own config file. Raises ServerError, SpecError."""
    assert part.config_file is not None
    store = backends.remote_config.RemoteConfig(path.parent / ".tfs-none", part.config_file, labels=True)
    config = read_config(store)
    if config is None:
        raise missing_file(part.config_file)
    if not config.model_config_list.config:
        raise SpecError(f"{part.config_file} names no model", id="config-unreadable",
                        hint="a server without models can be adopted when it has one")
    return config


def _check_named(models: Sequence[AdoptedModel], named: Mapping[str, str | None], place: str) -> None:
    """Raises SpecError where what somebody says isn't what the config file says."""
    bases = {model.name: model.base_path for model in models}
    for name, base in named.items():
        if name not in bases or base not in (None, bases[name]):
            seen = f"in {bases[name]}" if name in bases else "not at all"
            raise SpecError(f"model {name!r} stands {seen} in {place}", id="base-path-unknown",
                            hint="leave --model out: the config file says which models there are")


def _file(part: RemotePart, models: Sequence[AdoptedModel], known: Known, name: str | None, *, labels: bool,
          monitored: bool) -> SpecFile:
    """labels: whether the server starts with labels in its config file."""
    here = known.repository is None and all(model.here for model in models)
    root = _common(models)
    repository = known.repository or (root if here and root else None)
    specs = []
    for model in models:
        policy = Specific(tuple(model.live.versions)) if known.pin else model.served
        pinned = isinstance(policy, Specific)
        versions = sorted(model.live.versions) if pinned else _versions(policy)
        specs.append(ModelSpec(name=model.name, versions=versions, labels=dict(model.live.labels),
                               base_path=model.base_path if here and root is None else None))
    if not here and not (root is not None and root == known.repository):
        part = msgspec.structs.replace(part, models=root or {model.name: model.base_path for model in models})
    server = ServerPart(backend="remote", remote=part, flags={backends.remote_config.FLAG: True} if labels else {},
                        monitoring=Monitoring() if monitored else None)
    return SpecFile(models=specs, name=name, repository=repository or "models", server=server)


def _common(models: Sequence[AdoptedModel]) -> str | None:
    """The directory that holds all base paths, each called like its model; None if there is no such one."""
    roots = {model.base_path.rpartition("/")[0] for model in models}
    alike = all(PurePosixPath(model.base_path).name == model.name for model in models)
    return roots.pop() if len(roots) == 1 and alike else None


def _versions(policy: VersionPolicy) -> Any:
    """As a spec writes it."""
    if isinstance(policy, Specific):
        return list(policy.versions)
    if isinstance(policy, All):
        return "all"
    return "latest" if policy.count <= 1 else {"latest": policy.count}


def _yaml(file: SpecFile) -> str:
    head = ("# Written by `tfs adopt`: a server that somebody else starts and stops. All keys: tfs schema\n"
            "# Its state: tfs status; another version: tfs rollout MODEL --to N; after a restart: tfs watch\n\n")
    return head + yaml.safe_dump(msgspec.to_builtins(file), sort_keys=False, allow_unicode=True, width=110)


def _notes(spec: Spec, models: Sequence[AdoptedModel], known: Known) -> list[str]:
    notes = []
    for model in models:
        if not isinstance(model.served, Specific) and not known.pin:
            notes.append(f"{model.name} follows a policy ({_versions(model.served)}), so that the server itself "
                         "decides what it loads: to roll versions out, adopt it with --pin")
        elif model.policy is not None and model.policy != Specific(tuple(model.live.versions)):
            notes.append(f"{model.name} is served as {model.live}, and its config file says "
                         f"{_versions(model.policy)}: `tfs watch` writes there what is live")
        notes += [f"{model.name}/{version} failed to load: {error}" for version, error in model.failed.items()]
    if known.repository is None and not all(model.here for model in models):
        notes.append("its versions aren't on this machine: name where new ones are published (repository), and where "
                     "they are copied to (server/remote/stage), before the first rollout")
    lost = backends.config(spec).lost_on_restart
    return [*notes, *([lost] if lost else [])]


def _keep(spec: Spec, models: Sequence[AdoptedModel], *, replace: bool) -> None:
    """The first lines of the ledger, and what the server is told when anything changes. Raises SpecError where another
    ledger is kept."""
    with changing(spec, "adopt"):
        ledger = ledger_of(spec)
        if ledger.read() and not replace:
            raise SpecError(f"{spec.state_dir} remembers a server of this name already",
                            hint="give this one another name (--name), or go on from here: --force", id="spec-exists")
        if spec.server.remote is not None and spec.server.remote.config_file is None:
            plan = backends.preferred(spec).plan(spec, labels={})
            backends.config(spec).write({MODELS: plan.files[MODELS]})
        ledger.append("adopted", by=whoami(), grpc=endpoint_of(_part(spec)).grpc_target)
        for served, model in zip(spec.models, models, strict=True):
            ledger.append("started", model=model.name, source="spec", spec=entry(served), serving=model.live.to_json())


def _part(spec: Spec) -> RemotePart:
    assert spec.server.remote is not None
    return spec.server.remote
