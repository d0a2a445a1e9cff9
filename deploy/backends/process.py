"""Child processes of this machine: tensorflow_model_server itself, or the toolkit's own server (embedded)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import deploy
from deploy import backends, engine, render
from deploy.backends.backend import Capabilities, ConfigStore, Launch, LocalConfig, Surroundings
from deploy.backends.base import Inspected, ProcessOptions, Progress, Server, silent
from deploy.errors import BackendMissing
from deploy.extras import missing
from deploy.render import Layout
from deploy.spec import Spec
from deploy.types import Endpoint

if TYPE_CHECKING:
    from deploy.repository import StoredVersion

MODULE = "deploy.modelserver"
_EVERYWHERE = "0.0.0.0"  # noqa: S104


class ProcessBackend:
    """Any binary that takes tensorflow_model_server's flags. See backend.Backend."""

    name = "process"
    capabilities = Capabilities(logs_after_end=True)
    user: str | None = None

    @property
    def reader(self) -> tuple[int, int]:
        return os.getuid(), os.getgid()

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        if error := self.surroundings(spec).program_error:
            raise BackendMissing(error, id="program-missing")
        return f"{spec.server.binary} is here"

    def prepared(self, spec: Spec) -> Spec:
        # tensorflow_model_server itself can't be told an address: it listens on all of them
        return _with_free_ports(spec, _EVERYWHERE)

    def layout(self, spec: Spec, config_dir: str | None = None) -> Layout:
        return render.host_layout(spec, config_dir or self.config(spec).place)

    def plan(self, spec: Spec, *, labels: Mapping[str, str], versions: Mapping[str, Sequence[str]] | None = None
             ) -> Launch:
        server, layout = spec.server, self.layout(spec)
        flags = render.argv(spec, layout, server.grpc_port, server.rest_port)
        return Launch(render.files(spec, layout), self._options(spec, flags, labels))

    def _options(self, spec: Spec, flags: Sequence[str], labels: Mapping[str, str]) -> ProcessOptions:
        return ProcessOptions(spec.name, (spec.server.binary, *flags), _endpoint(spec), str(spec.state_dir),
                              labels=labels)

    def stage(self, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
        """They read the repository itself."""

    def server(self, launch: Launch, progress: Progress = silent) -> Server:
        assert isinstance(launch.options, ProcessOptions)
        return backends.process_server.ProcessServer(launch.options)

    def find(self, spec: Spec) -> Server | None:
        return backends.process_server.find(spec.name, spec.state_dir, self.name)

    def logs(self, spec: Spec, tail: int) -> str | None:
        log = spec.state_dir / backends.record.LOG
        return backends.process_server.tail_of(log, tail) if log.exists() else None

    def left(self, spec: Spec, tail: int) -> Inspected | None:
        ended = backends.record.read(spec.state_dir)
        if ended is None or ended.kind != self.name or ended.process() is not None:
            return None
        return Inspected(spec.name, ended.argv, False, None, self.logs(spec, tail) or "")

    def forget(self, spec: Spec) -> None:
        backends.process_server.forget(spec.state_dir)

    def discard(self, spec: Spec) -> Sequence[str]:
        return ()

    def config(self, spec: Spec) -> ConfigStore:
        return LocalConfig.of(spec, self.reader)

    def surroundings(self, spec: Spec) -> Surroundings:
        there = shutil.which(spec.server.binary) is not None
        return Surroundings(program_error="" if there else f"there is no program {spec.server.binary!r}")


def unavailable() -> str | None:
    """Why the embedded server can't run models here; None if it can."""
    return missing("server") or engine.available()


class EmbeddedBackend(ProcessBackend):
    """`python -m deploy.modelserver`: runs wherever this package and TensorFlow's library are. See backend.Backend."""

    name = "embedded"
    capabilities = Capabilities(drains=True, logs_after_end=True, bundled=True)

    def __init__(self, unavailable: Callable[[], str | None] = unavailable) -> None:
        """unavailable: why models can't be run here; None if they can."""
        self._unavailable = unavailable

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        if reason := self._missing(spec):
            raise BackendMissing(f"the embedded server can't run: {reason}", id="extra-missing")
        return ""

    def prepared(self, spec: Spec) -> Spec:
        if reason := self._missing(spec):
            raise BackendMissing(f"the embedded server can't run here: {reason}",
                                 hint="pip install 'tfs-deploy[server,tensorflow]', or use another backend: "
                                      "container or process", id="extra-missing")
        return _with_free_ports(spec, spec.server.host)

    def _options(self, spec: Spec, flags: Sequence[str], labels: Mapping[str, str]) -> ProcessOptions:
        return embedded_options(spec.name, flags, _endpoint(spec), spec.state_dir, drain=spec.server.drain,
                                labels=labels)

    def surroundings(self, spec: Spec) -> Surroundings:
        reason = self._missing(spec)
        return Surroundings(program_error=f"the embedded server can't run here: {reason}" if reason else "")

    def _missing(self, spec: Spec) -> str | None:
        return None if spec.server.flags.get("tfs_loader") == "echo" else self._unavailable()


def embedded_options(name: str, flags: Sequence[str], endpoint: Endpoint, state_dir: str | Path, *,
                     drain: float = 0.0, labels: Mapping[str, str] | None = None) -> ProcessOptions:
    """The child's options: tensorflow_model_server's `flags`, and those of ours that it gets besides.

    drain: seconds that running requests get after SIGTERM. Unlike the real server it ends when a port is taken.
    """
    ours = (f"--tfs_bind_address={endpoint.host}", f"--tfs_drain_seconds={drain:g}", "--tfs_fail_on_taken_port=true")
    argv = (sys.executable, "-m", MODULE, *flags, *ours)
    return ProcessOptions(name, argv, endpoint, str(state_dir), "embedded", _environment(), labels or {})


def _environment() -> dict[str, str]:
    """The child's working directory is its state directory, so it has to be told where this package is."""
    home = str(Path(deploy.__file__).resolve().parent.parent)
    path = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), "PYTHONUNBUFFERED": "1"}


def _endpoint(spec: Spec) -> Endpoint:
    return Endpoint(spec.server.host, spec.server.grpc_port, spec.server.rest_port)


def _with_free_ports(spec: Spec, host: str) -> Spec:
    """The spec with ports that are free on `host`. Raises PortTaken or ServerError."""
    free = backends.ports.pick(host, {"gRPC": spec.server.grpc_port, "REST": spec.server.rest_port})
    server = msgspec.structs.replace(spec.server, grpc_port=free["gRPC"], rest_port=free["REST"])
    return msgspec.structs.replace(spec, server=server)
