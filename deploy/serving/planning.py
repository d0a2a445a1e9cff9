"""What `up` would run, as plain data: which backend and why, files, command line, the backend's own options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from deploy import backends, checks, render, serving
from deploy.backends import Backend, Launch, Progress, silent
from deploy.backends.base import LABEL
from deploy.errors import BackendMissing, ServerError, SpecError
from deploy.serving.preflight import check_values
from deploy.serving.release_flags import check_release
from deploy.serving.resolving import ResolvedModel, as_known_good, wanted
from deploy.spec import Spec, check_alone
from deploy.types import Specific

if TYPE_CHECKING:
    from deploy.backends import Replacement
    from deploy.checks import Target

CONFIG_LABEL = f"{LABEL}.config"
_NOT_SHOWN = "# with the private key of server/tls, so it isn't shown; only the server's user can read it\n"
# How it is started and stopped, not what is served
_NOT_CONFIGURATION = ("backend", "start_timeout", "drain", "kubernetes")


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and the reason for it in half a sentence."""

    backend: Backend
    why: str


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """Everything that is decided before a server is started.

    config_place: where its files belong. secrets: files that only the server's user may read. models: what it serves.
    """

    choice: Choice
    launch: Launch
    config_place: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    models: tuple[ResolvedModel, ...] = ()

    @property
    def shown_files(self) -> dict[str, str]:
        """The text of every file, but for the secrets."""
        return {**self.launch.files, **dict.fromkeys(self.secrets, _NOT_SHOWN)}

    def to_json(self) -> dict[str, Any]:
        options = self.launch.options
        return {"name": options.name, "backend": self.choice.backend.name, "why": self.choice.why,
                "files": self.shown_files, "config_dir": self.config_place, "argv": list(options.argv or ()),
                **options.to_json(), "wanted": {m.name: {"versions": sorted(m.versions), "labels": dict(m.labels)}
                                                for m in self.models}}


def plan(spec: Spec) -> ServerPlan:
    """The dry run: what would be written and run. Nothing is pulled, written or started.

    A port of 0 stays 0 here: a free one is picked at the start. Raises what `up` raises before it starts anything.
    """
    known_good = as_known_good(spec)
    models = wanted(known_good)
    return make(known_good, choose_backend(spec, pull=False), models)


def choose_backend(spec: Spec, progress: Progress | None = None, *, pull: bool = True,
                   candidates: Sequence[Backend] = backends.AUTO) -> Choice:
    """The spec's backend; for `auto` the first of the candidates that offers to serve it.

    pull: False takes an image that would have to be pulled for granted (dry run).
    Raises BackendMissing if `auto` finds nothing that can run here, SpecError for the spec of several servers, and for
    flags that the release in the image doesn't know.
    """
    check_alone(spec.path.name, spec.servers)
    choice = _chosen(spec, progress or silent, candidates, pull=pull)
    check_release(spec, choice.backend)
    return choice


def _chosen(spec: Spec, progress: Progress, candidates: Sequence[Backend], *, pull: bool) -> Choice:
    if spec.server.backend != "auto":
        return Choice(backends.BACKENDS[spec.server.backend], "the spec says so")
    refusals: list[str] = []
    for backend in candidates:
        try:
            why = backend.offer(spec, progress, pull=pull)
        except ServerError as e:
            refusals.append(e.message)
        else:
            return Choice(backend, why or "; ".join(refusals))
    raise BackendMissing(f"nothing here can serve: {'; and '.join(refusals)}",
                         hint="start Docker, or pip install 'tfs-deploy[server,tensorflow]'")


def replacement(spec: Spec, known_good: Spec, models: Iterable[ResolvedModel], progress: Progress) -> Replacement:
    """The spec's server, which runs, and what it would be started as now. known_good: the spec with what is served.
    Raises ServerError where a server that runs can't get another configuration."""
    place, choice = backends.replacing(spec), choose_backend(spec, progress)
    plan = make(choice.backend.prepared(known_good), choice, models, config=digest(spec))
    return place.replacement(spec, plan.launch, plan.secrets, progress)


def make(spec: Spec, choice: Choice, models: Iterable[ResolvedModel] = (), *, config: str | None = None) -> ServerPlan:
    """The plan for one backend. models: what it serves, and has to find.

    config: the digest that it is started under, if not this spec's.
    """
    check_values(spec.server.flags)
    _check_followed(spec)
    secrets, models = serving.certificates.secrets(spec), tuple(models)
    launch = choice.backend.plan(
        spec, labels={CONFIG_LABEL: config or digest(spec), **serving.certificates.labels(spec)},
        versions={m.name: [path.name for path in m.paths.values()] for m in models})
    return ServerPlan(choice, launch, choice.backend.config(spec).place, secrets, models)


def _check_followed(spec: Spec) -> None:
    """Raises SpecError where a server would by itself load what nobody has looked at. A mirror takes only what is
    signed."""
    for i, model in enumerate(spec.models if spec.signed_by and spec.remote is None else ()):
        if not isinstance(model.versions, Specific):
            raise SpecError("a server that follows a directory loads whatever appears there, signed or not",
                            path=f"models/{i}/versions", hint="with signed_by, name the versions (versions: [N]), and "
                            "change them with tfs rollout")


def target_of(spec: Spec) -> Target:
    """What the spec's versions have to be checked against: the server that would run them."""
    return checks.of_server(spec.server, bundled=backends.preferred(spec).capabilities.bundled)


def digest(spec: Spec) -> str:
    """Equal for specs that run the same server; what `up` compares with a server that is running already."""
    return digest_of(configuration(spec))


def configuration(spec: Spec) -> dict[str, Any]:
    """Everything that makes a server another one, as JSON data. Its files are those of one layout, whatever runs it."""
    server = {k: v for k, v in msgspec.to_builtins(spec.server).items() if k not in _NOT_CONFIGURATION}
    base_paths = {m.name: m.base_path for m in spec.models}
    if (backend := backends.preferred(spec)).capabilities.replaces:
        # Operators' machines have the same files in other places: here are their paths as the server sees them
        server, base_paths = {k: v for k, v in server.items() if k != "tls"}, dict(backend.layout(spec).base_paths)
    return {"server": server, "files": render.files(spec, render.mounted_layout(spec)),
            "base_paths": base_paths, **serving.certificates.fingerprint(spec)}


def digest_of(configuration: Mapping[str, Any]) -> str:
    """The digest of a configuration."""
    return "sha256:" + hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()
