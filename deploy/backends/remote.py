"""A TF Serving that somebody else starts and stops: known by its addresses, told what to serve, never ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy import backends, render, repository
from deploy.addresses import grpc_address
from deploy.backends.backend import Capabilities, ConfigStore, Launch, Surroundings
from deploy.backends.base import Inspected, MemoryUse, Progress, Replica, Scoped, Server, described, silent
from deploy.backends.verified_copies import VerifiedCopies
from deploy.errors import ServerError, SpecError
from deploy.render import Layout
from deploy.render.configs import MODELS
from deploy.spec import RemotePart, Spec
from deploy.types import Endpoint, Tls

if TYPE_CHECKING:
    from deploy.repository import Repository, StoredVersion

_CONNECT = 2.0  # seconds to see whether somebody listens
_PORTS = {"http": 80, "https": 443}


def part_of(spec: Spec) -> RemotePart:
    """Raises SpecError for a spec whose server isn't somebody else's."""
    if spec.server.remote is None:
        raise SpecError("it isn't said where the server is", path="server/remote",
                        hint="write its addresses into the spec: tfs adopt", id="missing-key")
    return spec.server.remote


def endpoint_of(part: RemotePart) -> Endpoint:
    """Where it answers."""
    host, port = grpc_address(part.grpc)
    tls = None if part.tls is None else Tls(part.tls.ca, part.tls.client_certificate, part.tls.client_key,
                                            part.tls.server_name)
    if part.rest is None:
        return Endpoint(host, port, None, tls)
    url = urlsplit(part.rest)
    return Endpoint(host, port, url.port or _PORTS[url.scheme.lower()], tls, part.rest.rstrip("/"))


class RemoteServer(Scoped):
    """See base.Server. Nobody here can start, end or look into it: what can be known is what it answers."""

    kind = "remote"
    argv: tuple[str, ...] = ()
    labels: Mapping[str, str] = MappingProxyType({})

    def __init__(self, name: str, part: RemotePart, layout: Layout) -> None:
        self.name, self._part, self._layout = name, part, layout
        self.endpoint = endpoint_of(part)

    def start(self) -> Endpoint:
        raise ServerError(f"{self.name} is started by somebody else", id="not-ours",
                          hint=f"have it started where it runs; then it answers at {self.endpoint.grpc_target}")

    def stop(self, grace: float = 10.0) -> None:
        """Nothing of it is ours: it goes on."""

    def instance(self) -> str | None:
        """A server doesn't say which run of its program it is."""

    def alive(self) -> bool:
        return _listens(self.endpoint.host, self.endpoint.grpc_port)

    def returncode(self) -> int | None:
        """Only who started it knows."""

    def listening(self) -> frozenset[int]:
        e, rest = self.endpoint, urlsplit(self._part.rest or "")
        places = ((e.host, e.grpc_port), (rest.hostname or e.host, e.rest_port))
        return frozenset(port for host, port in places if port is not None and _listens(host, port))

    def logs(self, tail: int = 50) -> str:
        return ""

    def replicas(self) -> tuple[Replica, ...]:
        return (Replica(self.name, self.endpoint),) if self.alive() else ()

    def inspect(self, tail: int) -> Inspected:
        return Inspected(self.name, self.argv, self.alive(), None, "")

    def missing(self, paths: Sequence[str]) -> list[str]:
        """As far as it can be seen from here: paths that both have, or that are in the directory that tfs fills."""
        if self._part.models is None:
            return [path for path in paths if not os.access(path, os.R_OK)]
        if self._part.stage is None:
            return []
        target = repository.Repository(self._part.stage)
        return [path for path in paths if not self._staged(target, path)]

    def _staged(self, target: Repository, path: str) -> bool:
        """Whether a base path, or what is below one, is in the store; True for what is no model's."""
        for base in self._layout.base_paths.values():
            if path == base or path.startswith(f"{base}/"):
                name = PurePosixPath(base).name + path.removeprefix(base)
                beside = target.store.list(name.rpartition("/")[0])
                return any(item.name.rstrip("/") == name for item in beside)
        return True

    def memory(self) -> MemoryUse | None:
        """Of another machine."""

    def describe(self) -> dict[str, Any]:
        return {**described(self, running=self.alive(), since=None), "started_by": "somebody else",
                "config_file": self._part.config_file}


def _listens(host: str, port: int | None) -> bool:
    try:
        with closing(socket.create_connection((host, port or 0), _CONNECT)):
            return True
    except OSError:
        return False


class RemoteOptions:
    """See backend.LaunchOptions: there is nothing to start."""

    argv: tuple[str, ...] | None = None

    def __init__(self, name: str, part: RemotePart, layout: Layout) -> None:
        self.name, self.part, self.layout = name, part, layout

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteOptions) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def to_json(self) -> dict[str, Any]:
        return {"grpc": self.part.grpc, "rest": self.part.rest, "config_file": self.part.config_file,
                "base_paths": dict(self.layout.base_paths)}


class RemoteBackend:
    """See backend.Backend."""

    name = "remote"
    capabilities = Capabilities(own_files=True, own_network=True, starts=False)
    user: str | None = None

    @property
    def reader(self) -> tuple[int, int]:
        return os.getuid(), os.getgid()

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        return ""

    def prepared(self, spec: Spec) -> Spec:
        part_of(spec)
        return spec

    def layout(self, spec: Spec, config_dir: str | None = None) -> Layout:
        part, place = spec.server.remote, config_dir or str(spec.state_dir / "config")
        models = None if part is None else part.models
        if models is None:
            return render.host_layout(spec, place)
        if isinstance(models, dict):
            return Layout({m.name: models.get(m.name, m.base_path).rstrip("/") for m in spec.models}, place)
        return Layout({m.name: f"{models.rstrip('/')}/{Path(m.base_path).name}" for m in spec.models}, place)

    def plan(self, spec: Spec, *, labels: Mapping[str, str], versions: Mapping[str, Sequence[str]] | None = None
             ) -> Launch:
        layout = self.layout(spec)
        files = {MODELS: render.files(spec, layout)[MODELS]}  # nothing else is ours to say
        return Launch(files, RemoteOptions(spec.name, part_of(spec), layout))

    def stage(self, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
        """Into the directory that the server looks into, as far as tfs can write there. What is there already is read
        back once, and again when its sizes or times are others. What is there of another tool, as in a server that was
        adopted, can't be compared, and stays."""
        place = part_of(spec).stage
        if place is None:
            return
        target, verified = repository.Repository(place), VerifiedCopies(spec.state_dir)
        for version in versions:
            self._check_name(spec, version)
            manifest, there = version.find_manifest(), version.mv.version in target.numbered(version.mv.name)
            if manifest is None and there:
                continue
            known = there and manifest is not None and verified.unchanged(target, manifest)
            if there and not known:
                progress(f"reading {version.mv} back from {target.store}")
            repository.pull(version.repository, target, version.mv, verify=not known, step=progress)
            if manifest is not None and not known:
                verified.remember(target, manifest)

    def _check_name(self, spec: Spec, version: StoredVersion) -> None:
        """That the store's directory is the one where the server looks."""
        name = version.mv.name
        base = next(base for model, base in self.layout(spec).base_paths.items()
                    if name == next(Path(m.base_path).name for m in spec.models if m.name == model))
        if PurePosixPath(base).name != name:
            raise SpecError(f"the server sees {name} as {base}, and its versions would be copied to "
                            f"{part_of(spec).stage}/{name}", path="server/remote/stage",
                            hint=f"call the model's directory here {PurePosixPath(base).name}, too: models/base_path",
                            id="bad-path")

    def server(self, launch: Launch, progress: Progress = silent) -> Server:
        assert isinstance(launch.options, RemoteOptions)
        return RemoteServer(launch.options.name, launch.options.part, launch.options.layout)

    def find(self, spec: Spec) -> Server | None:
        if spec.server.backend != self.name:
            return None
        return RemoteServer(spec.name, part_of(spec), self.layout(spec))

    def logs(self, spec: Spec, tail: int) -> str | None:
        """They are where it runs."""

    def left(self, spec: Spec, tail: int) -> Inspected | None:
        """Whoever started it knows."""

    def forget(self, spec: Spec) -> None:
        """There is nothing of it here."""

    def discard(self, spec: Spec) -> Sequence[str]:
        return ()

    def config(self, spec: Spec) -> ConfigStore:
        there, labels = part_of(spec).config_file, spec.server.labels_at_start
        return backends.remote_config.config_of(spec, there, labels=labels)

    def surroundings(self, spec: Spec) -> Surroundings:
        return Surroundings()
