"""Containers on a Docker engine: where they find things, how they are started, what the engine needs for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import backends, render, savedmodel
from deploy.backends import docker_host
from deploy.backends.backend import Capabilities, ConfigStore, Launch, LocalConfig, Surroundings
from deploy.backends.base import Inspected, Progress, Server, silent
from deploy.backends.container_options import NAME_LABEL, STATE_LABEL, ContainerOptions, Mount, container_user
from deploy.backends.engine import Engine, check_reachable, engine_of, is_reachable
from deploy.errors import BackendMissing, ServerError
from deploy.render import Layout
from deploy.render.configs import CONFIG_MOUNT, GRPC_PORT, MODELS, PROGRAM, REST_PORT
from deploy.spec import Spec

if TYPE_CHECKING:
    from deploy.backends.container_server import ContainerServer
    from deploy.repository import StoredVersion


class ContainerBackend:
    """A Docker engine, here or on another machine. See backend.Backend."""

    name = "container"
    capabilities = Capabilities(own_files=True, own_network=True, restarts=True, logs_after_end=True,
                                limits_memory=True, images=True)

    def __init__(self, connect: Callable[[], Engine] | None = None) -> None:
        """connect: makes the connection to the engine, if that isn't the spec's. Raises BackendMissing."""
        self._connect = connect

    def engine(self, spec: Spec) -> Engine:
        """The engine that the spec's server runs on. Raises BackendMissing."""
        return self._connect() if self._connect else engine_of(spec)

    @property
    def user(self) -> str | None:
        return container_user()

    @property
    def reader(self) -> tuple[int, int]:
        uid, gid = map(int, container_user().split(":"))
        return uid, gid

    def offer(self, spec: Spec, progress: Progress, *, pull: bool) -> str:
        image, engine = spec.server.image, self.engine(spec)
        if not is_reachable(engine.machine, spec.server.host):
            raise ServerError(f"the Docker engine is on another machine, {engine.machine}, and server/host is this one",
                              id="engine-elsewhere")
        if engine.has_image(image):
            return f"a Docker engine answers and has {image}"
        if not pull:
            return f"a Docker engine answers; {image} would be pulled, and without it the embedded server would run"
        engine.pull(image, progress)
        return f"a Docker engine answers and pulled {image}"

    def prepared(self, spec: Spec) -> Spec:
        return spec

    def layout(self, spec: Spec, config_dir: str | None = None) -> Layout:
        return render.mounted_layout(spec)

    def plan(self, spec: Spec, *, labels: Mapping[str, str], versions: Mapping[str, Sequence[str]] | None = None
             ) -> Launch:
        server, limits, layout = spec.server, spec.server.resources, self.layout(spec)
        here = {m.name: Path(m.base_path) for m in spec.models}
        graphs = [f"{layout.base_paths[model]}/{directory}/{savedmodel.model_file(here[model] / directory)}"
                  for model, directories in (versions or {}).items() for directory in directories]
        return Launch(render.files(spec, layout), ContainerOptions(
            name=spec.name, image=server.image, argv=(PROGRAM, *self.flags(spec)), state_dir=str(spec.state_dir),
            mounts=self._mounts(spec, layout), expects=(layout.config(MODELS), *graphs), host=server.host,
            grpc_port=server.grpc_port, rest_port=server.rest_port, user=container_user(), cpus=limits.cpus,
            memory=limits.memory, gpus=limits.gpus, restart=server.restart, labels=labels, docker=server.docker,
            docker_tls=server.docker_tls))

    def _mounts(self, spec: Spec, layout: Layout) -> tuple[Mount, ...]:
        if backends.container_files.by_volumes(spec):
            return backends.container_files.mounts_of_volumes(spec)
        # The engine's daemon resolves the paths, so links have to be resolved here, where they are understood
        return (*(Mount(str(Path(m.base_path).resolve()), layout.base_paths[m.name]) for m in spec.models),
                Mount(self.config(spec).place, str(CONFIG_MOUNT)))

    def flags(self, spec: Spec) -> list[str]:
        """The server's flags: inside, its ports are always the same."""
        return render.argv(spec, self.layout(spec), GRPC_PORT, REST_PORT)

    def stage(self, spec: Spec, versions: Sequence[StoredVersion], progress: Progress) -> None:
        """They read the repository itself, by a mount, if their engine sees it; else it is copied to a volume there."""
        if spec.server.docker_files == "mounts":
            return
        engine, files = self.engine(spec), backends.container_files
        check_reachable(engine, spec.server.host)
        engine.require_image(spec.server.image, progress)
        if spec.server.docker_files == "auto":
            server = self._found(spec, engine)
            volumes = server.by_volumes if server is not None else not files.sees(engine, spec, versions)
            files.remember(spec, volumes)
            if not volumes:
                return
            if server is None:
                progress(f"the engine at {engine.where} doesn't see this machine's files: they are copied to volumes")
        files.bring_versions(spec, versions, lambda: engine, self.reader, progress)

    def server(self, launch: Launch, progress: Progress = silent) -> Server:
        assert isinstance(launch.options, ContainerOptions)
        return backends.container_server.ContainerServer(launch.options, progress=progress, connect=self._connect)

    def trial(self, spec: Spec, image: str, engine: Engine, progress: Progress = silent) -> ContainerServer:
        """A server for trying an image that carries its models: as the image is, nothing mounted, on free ports."""
        limits = spec.server.resources
        options = ContainerOptions(f"{spec.name}-image", image, None, str(spec.state_dir), host=spec.server.host,
                                   grpc_port=0, rest_port=0, memory=limits.memory, cpus=limits.cpus, gpus=limits.gpus)
        return backends.container_server.ContainerServer(options, progress=progress, engine=engine)

    def find(self, spec: Spec) -> Server | None:
        labels = {NAME_LABEL: spec.name, **({} if spec.rollout.lock else {STATE_LABEL: str(spec.state_dir)})}
        if self._connect is None and docker_host.knows_none(labels, spec.server.docker):
            return None  # without the SDK, which takes longer to load
        engine = self.engine(spec)
        server = self._found(spec, engine)
        if server is not None:
            backends.container_files.remember(spec, server.by_volumes)
        elif spec.rollout.lock and (state := backends.container_server.started_from(
                engine, spec.name, str(spec.state_dir))):
            raise ServerError(f"{spec.name} was started on that Docker engine from {state}, which isn't this state "
                              f"directory, {spec.state_dir}: who shares a lock shares its servers", id="other-state",
                              hint="run tfs from there, or give all operators' specs one path as `state`, and "
                                   "server/docker_files: volumes")
        return server

    def _found(self, spec: Spec, engine: Engine) -> ContainerServer | None:
        return backends.container_server.find(spec.name, str(spec.state_dir), engine=engine)

    def logs(self, spec: Spec, tail: int) -> str | None:
        return None  # they go with the container, and one that is there is found

    def left(self, spec: Spec, tail: int) -> Inspected | None:
        return None  # an ended container is found

    def forget(self, spec: Spec) -> None:
        """Nothing is kept beside the container but what the next one needs."""

    def discard(self, spec: Spec) -> Sequence[str]:
        if spec.server.docker_files == "mounts":
            return ()
        try:
            engine = self.engine(spec)
        except BackendMissing:
            if spec.server.backend == "auto" and not backends.container_files.by_volumes(spec):
                return ()  # another place has its server
            raise
        return backends.container_files.discard(spec, lambda: engine)

    def config(self, spec: Spec) -> ConfigStore:
        if backends.container_files.by_volumes(spec):
            return backends.container_files.config_store(spec, lambda: self.engine(spec), self.reader)
        return LocalConfig.of(spec, self.reader)

    def surroundings(self, spec: Spec) -> Surroundings:
        here = backends.inspecting.image_platform(spec.server.image, engine=self.engine(spec))
        return Surroundings(image=spec.server.image, image_here=here is not None, image_platform=here or "")
