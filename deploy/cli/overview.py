"""`tfs` alone: how far this directory is (repository, spec, server, release), and the command that comes next.

Looking, deciding and drawing are three functions; nothing is asked over the network, and nothing heavy is loaded.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.addresses import Address
from deploy.errors import BackendMissing, DeployError
from deploy.version import __version__

if TYPE_CHECKING:
    from deploy.backends.base import Server
    from deploy.spec import Spec
    from deploy.state import Release
    from deploy.types import Endpoint

SPEC, REPOSITORY = "serving.yaml", "models"
_MOST_LOOKED_AT = 2000  # directory entries, when somebody's SavedModel is looked for


class NextCommand(NamedTuple):
    """What to type, and what that does or why it is due."""

    command: str
    why: str


@dataclass(frozen=True, slots=True)
class Overview:
    """How far a directory is.

    repository: a directory or a store's address. versions: model -> version numbers there; None if it isn't there, or
    can't be looked at without asking another machine. saved_models: directories with a SavedModel that nobody has
    published yet. spec: the file, None if there is none. served: model -> the versions that the spec, or the last
    rollout, names by number. unexported: models of the spec without a version. server: the backend that runs it.
    ended: it was started and has ended by itself. release: one that is open. problem: what can't be read, and why.
    servers: of a spec that names several, each with whether it was started; they aren't asked. unasked: why nobody can
    know whether the server runs.
    """

    repository: str = REPOSITORY
    versions: Mapping[str, tuple[int, ...]] | None = None
    remote: bool = False
    saved_models: tuple[str, ...] = ()
    exports: bool = True
    spec: str | None = None
    models: tuple[str, ...] = ()
    served: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unexported: tuple[str, ...] = ()
    server: str | None = None
    endpoint: Endpoint | None = None
    ended: bool = False
    failed: str = ""
    release: Release | None = None
    problem: str = ""
    servers: Mapping[str, bool] = field(default_factory=dict)
    unasked: str = ""

    @property
    def newer(self) -> tuple[str, int] | None:
        """A model with a version in the repository that is newer than those served; None if there is none."""
        for model, served in self.served.items():
            latest = max((self.versions or {}).get(model, (0,)), default=0)
            if served and latest > max(served):
                return model, latest
        return None

    def to_json(self) -> dict[str, Any]:
        endpoint, command = self.endpoint, next_command(self)
        return {"version": __version__, "repository": self.repository,
                "versions": None if self.versions is None else {m: list(v) for m, v in self.versions.items()},
                "spec": self.spec, "models": list(self.models), "problem": self.problem,
                "server": None if self.server is None else {
                    "backend": self.server, "running": not self.ended,
                    "rest_url": endpoint and endpoint.addresses.get("REST"),
                    "grpc_target": endpoint and endpoint.addresses.get("gRPC")},
                **({"servers": {name: {"started": started} for name, started in self.servers.items()}}
                   if self.servers else {}),
                "release": self.release and self.release.to_json(),
                "next": {"command": command.command, "why": command.why}}


def next_command(now: Overview) -> NextCommand:
    """The one command that takes this directory a step further."""
    if now.problem:
        command = "tfs configure --dry-run" if now.spec else "tfs repository list"
        return NextCommand(command, "tells whether it reads now")
    if now.spec is None:
        return NextCommand(f"tfs init > {SPEC}", "says what to serve: the newest version of each model; edit it") \
            if now.versions else _first_version(now)
    if (now.server and not now.ended) or any(now.servers.values()):
        return _while_running(now)
    if now.ended or now.failed or now.unasked:
        return NextCommand("tfs doctor", "says why it doesn't run, and what to do")
    if now.unexported:
        return _first_version(now, now.unexported[0])
    return NextCommand("tfs up", "starts the server, and returns when all of that is served")


def _while_running(now: Overview) -> NextCommand:
    release = now.release
    if release is not None:
        flag = "--continue" if release.paused else "--resume"
        return NextCommand(f"tfs rollout {shlex.quote(release.model)} {flag}", "or --abort, which goes back")
    if not all(now.servers.values()):
        return NextCommand("tfs up", "starts those that don't run yet; tfs status asks all of them")
    if now.newer:
        model, version = now.newer
        return NextCommand(f"tfs rollout {shlex.quote(model)} --to {version}",
                           "replaces what is served, step by step; --plan only says how")
    return NextCommand("tfs smoke", "asks each model over REST and gRPC, and compares with its golden answers")


def _first_version(now: Overview, name: str = "") -> NextCommand:
    if now.saved_models:
        path = now.saved_models[0]
        name = name or next((part for part in reversed(Path(path).parts) if not part.isdigit()), "my_model")
        verb, why = ("export", ", with golden answers") if now.exports else ("publish", "")
        return NextCommand(f"tfs {verb} {shlex.quote(path)} --name {shlex.quote(name)}",
                           f"checks that SavedModel, and copies it into {now.repository}/{why}")
    if now.exports:
        return NextCommand(f"tfs export my_code.py:build --name {shlex.quote(name or 'my_model')}",
                           "makes the first version of a model, or of a function that returns one")
    return NextCommand(f"tfs publish PATH/TO/SAVED_MODEL --name {shlex.quote(name or 'my_model')}",
                       "from Python objects: pip install 'tfs-deploy[tensorflow]', and `tfs export`")


def look() -> Overview:
    """Look at the working directory, or where TFS_SPEC and TFS_REPOSITORY point."""
    path = Path(os.environ.get("TFS_SPEC") or SPEC)
    place = os.environ.get("TFS_REPOSITORY") or REPOSITORY
    if not os.path.lexists(path):
        try:
            remote = Address.parse(place) is not None
            versions = None if remote else _versions(place)
        except DeployError as error:
            return Overview(repository=place, problem=str(error))
        return Overview(repository=place, versions=versions, remote=remote,
                        saved_models=() if versions or remote else _saved_models(), exports=_exports())
    from deploy import spec as specs

    try:
        return _of_spec(specs.load_spec(path), path)
    except DeployError as error:
        return Overview(repository=place, spec=str(path), problem=str(error))


def _of_spec(spec: Spec, path: Path) -> Overview:
    from deploy import serving
    from deploy.serving import start_record
    from deploy.state import ledger_of, releases
    from deploy.types import Specific

    place = str(spec.repository) if spec.remote is None else str(spec.remote)
    versions = _versions(place) if spec.remote is None else None
    served = {m.name: m.versions.versions for m in serving.as_known_good(spec).models
              if isinstance(m.versions, Specific)}
    server, unasked = _asked(spec) if not spec.servers else (None, "")
    failure = None if server or unasked or spec.servers else start_record.failure(spec)
    here = [m for m in spec.models if spec.remote is None and m.base_path == str(spec.repository / m.name)]
    unexported = tuple(m.name for m in here if not (versions or {}).get(m.name))
    return Overview(
        repository=_short(place), versions=versions, remote=spec.remote is not None,
        saved_models=_saved_models() if unexported else (), exports=_exports(), spec=_short(str(path)),
        models=tuple(m.name for m in spec.models), served=served, unexported=unexported,
        **_server(server), failed=str(failure.get("message", "")) if failure else "",
        servers={one.short_name: start_record.started(one) for one in spec.servers},
        release=next((r for one in (spec, *spec.servers) for r in releases(ledger_of(one).read()) if r.open),
                     None), unasked=unasked)


def _asked(spec: Spec) -> tuple[Server | None, str]:
    """The spec's server; and why nobody can know whether there is one, if so."""
    from deploy import serving

    try:
        return serving.find(spec), ""
    except BackendMissing as error:
        return None, error.message


def _server(server: Server | None) -> dict[str, Any]:
    if server is None:
        return {}
    alive = server.alive()
    return {"server": server.kind, "ended": not alive, "endpoint": server.endpoint if alive else None}


def _versions(place: str) -> dict[str, tuple[int, ...]] | None:
    from deploy.repository import Repository

    if not os.path.lexists(place):
        return None
    repository = Repository(place)
    return {name: tuple(repository.versions(name)) for name in repository.models()}


def _exports() -> bool:
    return find_spec("tensorflow") is not None


def _saved_models() -> tuple[str, ...]:
    """SavedModels in this directory, down to two levels, as far as that is quick to see."""
    try:
        paths = [path for pattern in ("*", "*/*") for path in islice(Path().glob(pattern), _MOST_LOOKED_AT)
                 if (path / "saved_model.pb").is_file() and not path.parts[0].startswith(".")]
    except OSError:
        return ()
    return tuple(map(str, paths))


def _short(path: str) -> str:
    """Relative to the working directory, if it is below."""
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here)


def text(now: Overview) -> str:
    """For people: a line each for repository, spec, server and release, and what comes next."""
    command = next_command(now)
    lines = [("repository", _repository_line(now)), ("spec", _spec_line(now))]
    if now.servers and not now.problem:
        lines.append(("servers", _servers_line(now.servers)))
    elif now.spec and not now.problem:
        lines.append(("server", _server_line(now)))
    if now.release:
        release = now.release
        how_far = f"waits before {release.paused}" if release.paused else "isn't finished"
        lines.append(("release", f"{release.kind} of {release.model} to version {release.version} {how_far}"))
    if now.problem:
        lines.append(("problem", now.problem))
    return "\n".join([*(f"{name:<12}{line}" for name, line in lines), "", f"next:  {command.command}",
                      f"       {command.why}", "", "all commands: tfs --help"])


def _repository_line(now: Overview) -> str:
    if now.remote:
        return f"{now.repository}: a store, not asked"
    if now.versions is None:
        return f"there is no {now.repository}/ here" if not now.problem else now.repository
    if not now.versions:
        return f"{now.repository}: empty"
    shown = [f"{name}/{max(v)}" if v else f"{name} (no version)" for name, v in islice(now.versions.items(), 6)]
    more = f" and {len(now.versions) - 6} more" if len(now.versions) > 6 else ""
    return f"{now.repository}: {', '.join(shown)}{more}"


def _spec_line(now: Overview) -> str:
    if now.spec is None:
        return f"there is no {os.environ.get('TFS_SPEC') or SPEC} here"
    count = len(now.models)
    return f"{now.spec}: {', '.join(now.models[:6])}{f' and {count - 6} more' if count > 6 else ''}".rstrip(": ")


def _servers_line(servers: Mapping[str, bool]) -> str:
    more = f" and {len(servers) - 6} more" if len(servers) > 6 else ""
    return f"{', '.join(islice(servers, 6))}{more}; {sum(servers.values())} of {len(servers)} were started"


def _server_line(now: Overview) -> str:
    if now.unasked:
        return f"not known: {now.unasked}"
    if now.server is None:
        return f"not running; the last start failed: {now.failed}" if now.failed else "not running"
    if now.ended or now.endpoint is None:
        return f"ended by itself ({now.server})"
    return f"runs ({now.server}): {', '.join(f'{name} {at}' for name, at in now.endpoint.addresses.items())}"
