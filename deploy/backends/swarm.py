"""Docker Swarm as a place for servers: what a manager's own node needs before it can run one. See swarm_server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy import backends
from deploy.backends.backend import Capabilities, Launch
from deploy.backends.base import EVERY, Progress, Server, silent
from deploy.backends.container import ContainerBackend
from deploy.backends.container_options import NAME_LABEL, STATE_LABEL, ContainerOptions
from deploy.backends.engine import Engine
from deploy.errors import ServerError
from deploy.spec import Spec

if TYPE_CHECKING:
    from deploy.backends.container_server import ContainerServer
    from deploy.repository import StoredVersion


class SwarmBackend(ContainerBackend):
    """A manager of Docker Swarm, which runs the tasks itself. See backend.Backend."""

    name = "swarm"
    capabilities = Capabilities(own_files=True, own_network=True, restarts=True, logs_after_end=True,
                                limits_memory=True, images=True)

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        backends.swarm_server.check_manager(self.engine(spec))
        return super().offer(spec, progress, pull=pull)

    def prepared(self, spec: Spec) -> Spec:
        if spec.server.host not in EVERY:
            raise ServerError(f"a service of Swarm listens on all addresses of its machine, and server/host is "
                              f"{spec.server.host}", id="swarm-unusable",
                              hint="if they may all be open: host: 0.0.0.0; else use backend: container")
        return spec

    def stage(self, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
        self.prepared(spec)
        backends.swarm_server.check_manager(self.engine(spec))
        super().stage(spec, versions, progress)

    def server(self, launch: Launch, progress: Progress = silent) -> Server:
        assert isinstance(launch.options, ContainerOptions)
        return backends.swarm_server.SwarmServer(launch.options, progress=progress, connect=self._connect)

    def find(self, spec: Spec) -> Server | None:
        return self._found(spec, self.engine(spec)) if spec.server.backend == self.name else None

    def _found(self, spec: Spec, engine: Engine) -> ContainerServer | None:
        labels = {NAME_LABEL: spec.name, STATE_LABEL: str(spec.state_dir)}
        return backends.swarm_server.find(engine, labels)
