"""A server that somebody else has started, with its own directory and flags; ended and started again at will."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.render.configs import MODELS, models_config
from deploy.spec import RemotePart, Spec, parse
from deploy.types import ServedModel, Specific, VersionPolicy
from deploy.wire.text import to_text
from tests.support.modelserver import ROOT, is_open
from tests.support.ports import free_ports
from tests.support.repository import savedmodel
from tests.support.servers import until

LABELS_FLAG = "allow_version_labels_for_unavailable_models"


class Elsewhere:
    """place: of the other machine; its models are in `models`, its config file is `models.config`."""

    def __init__(self, place: Path, versions: Mapping[str, int] | None = None, *, labels: bool = True,
                 policy: VersionPolicy | None = None, monitoring: bool = True, flags: Sequence[str] = ()) -> None:
        """versions: model -> the version that is served, called stable if there are labels. policy: another one."""
        self.place, self.models, self.file = place, place / "models", place / MODELS
        self.grpc, self.rest = free_ports()
        self._labels, self._monitoring, self._flags = labels, monitoring, flags
        self._process: subprocess.Popen[bytes] | None = None
        served = []
        for name, version in (versions or {"m": 1}).items():
            savedmodel(self.models / name / str(version))
            served.append(ServedModel(name, str(self.models / name), policy or Specific((version,)),
                                      {"stable": version} if labels else {}))
        self.file.write_text(to_text(models_config(served, {m.name: m.base_path for m in served})))
        (place / "monitoring.config").write_text("prometheus_config { enable: true }")
        try:
            self.start()
        except BaseException:
            self.kill()
            raise

    def start(self, *flags: str) -> None:
        flags += (*self._flags, "--tfs_fail_on_taken_port=true")
        flags += (f"--{LABELS_FLAG}=true",) if self._labels else ()
        flags += (f"--monitoring_config_file={self.place / 'monitoring.config'}",) if self._monitoring else ()
        until(lambda: self._started(flags), "it serves", evidence=(self.place / "log").read_text)

    def _started(self, flags: Sequence[str]) -> bool:
        """Whether it serves. It is tried again where another program has had one of its ports for a moment."""
        if self._process is None or self._process.poll() is not None:
            with (self.place / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "deploy.modelserver", f"--port={self.grpc}", f"--rest_api_port={self.rest}",
                     f"--model_config_file={self.file}", "--file_system_poll_wait_seconds=1", "--tfs_loader=echo",
                     *flags], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        return is_open(self.grpc) and is_open(self.rest) and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def part(self, *, models: str | None = None, stage: str | None = None) -> RemotePart:
        """Its part of a spec, as a value."""
        return RemotePart(grpc=f"127.0.0.1:{self.grpc}", rest=f"http://127.0.0.1:{self.rest}", models=models,
                          stage=stage)

    @property
    def addresses(self) -> str:
        """Its part of a spec."""
        return f"grpc: '127.0.0.1:{self.grpc}', rest: 'http://127.0.0.1:{self.rest}'"

    def spec(self, directory: Path, more: str = "", *, models: str = "[{name: m, versions: [1], labels: {stable: 1}}]",
             parts: str = "") -> Spec:
        """What stands in `directory`; more: of server/remote; parts: of the file."""
        flags = f"flags: {{{LABELS_FLAG}: true}}, " if self._labels else ""
        text = (f"repository: models\nmodels: {models}\nserver: {{backend: remote, {flags}remote: {{{self.addresses}"
                f"{', ' + more if more else ''}}}}}\nrollout: {{soak: 0, hold: 0, patience: 5}}\n{parts}")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "serving.yaml").write_text(text)
        return parse(text, directory / "serving.yaml")


@contextmanager
def elsewhere(place: Path, versions: Mapping[str, int] | None = None, *, labels: bool = True,
              policy: VersionPolicy | None = None, monitoring: bool = True, flags: Sequence[str] = ()
              ) -> Iterator[Elsewhere]:
    """See Elsewhere; it ends with the block."""
    place.mkdir(parents=True, exist_ok=True)
    server = Elsewhere(place, versions, labels=labels, policy=policy, monitoring=monitoring, flags=flags)
    try:
        yield server
    finally:
        server.kill()
