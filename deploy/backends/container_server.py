"""A server in a container that can do as little as possible besides serving."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deploy.backends import inspecting
from deploy.backends.base import EVERY, Inspected, MemoryUse, Progress, Replica, Scoped, described, reachable, silent
from deploy.backends.container_options import (
    DIGEST_LABEL,
    IMAGE_LABEL,
    NAME_LABEL,
    RUN_LABEL,
    STATE_LABEL,
    ContainerOptions,
    docker_options,
    options_of,
    restart_policy,
    unseen_source,
)
from deploy.backends.engine import Engine, check_reachable, connect
from deploy.backends.engine_errors import translated
from deploy.backends.ports import pick
from deploy.errors import BackendMissing, PortTaken, ServerError, StartFailed
from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.types import Endpoint

if TYPE_CHECKING:
    from docker.models.containers import Container


_OTHER_FILES = ("leave server/docker_files on auto, make it available there under the same path, put the models into "
                "an image (tfs image build), or use backend: embedded")


class ContainerServer(Scoped):
    """A server in a container of its own. See base.Server."""

    def __init__(self, options: ContainerOptions, *, progress: Progress = silent, engine: Engine | None = None,
                 connect: Callable[[], Engine] | None = None, found: Container | None = None) -> None:
        """engine: None connects at start(). found: the container of a server that runs already (see find)."""
        self.options = options
        self._progress, self._engine, self._connect, self._container = progress, engine, connect, found
        self._run = found.labels.get(RUN_LABEL, "") if found is not None else uuid.uuid4().hex
        self._endpoint = reachable(Endpoint(options.host, options.grpc_port, options.rest_port), options.labels)
        self._detached = self._started = found is not None
        if found is not None and engine is not None:
            self._reach(engine)
            self._state()

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def kind(self) -> str:
        return "container"

    @property
    def argv(self) -> tuple[str, ...]:
        return self.options.argv or ()

    @property
    def labels(self) -> Mapping[str, str]:
        return self.options.labels

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def by_volumes(self) -> bool:
        """Whether it gets its files by volumes."""
        return any(mount.volume for mount in self.options.mounts)

    def start(self) -> Endpoint:
        if self._started:
            raise ServerError(f"server {self.name!r} was started before", argv=self.argv, id="started-before")
        self._started = True
        self._engine = self._engine or (self._connect() if self._connect else
                                        connect(self.options.docker, self.options.docker_tls))
        self._reach(self._engine)
        self._check_ports()
        self._engine.require_image(self.options.image, self._progress)
        try:
            self._create_and_start(self._engine)
        except BaseException:
            self.stop(0)
            raise
        return self._endpoint

    def _reach(self, engine: Engine) -> None:
        """Ports of an engine on another machine are published there."""
        check_reachable(engine, self.options.host)
        if engine.machine and self.options.host in EVERY:
            self._endpoint = replace(self._endpoint, host=engine.machine)

    def _check_ports(self) -> None:
        if self._engine is not None and not self._engine.machine:
            pick(self.options.host, {"gRPC": self.options.grpc_port, "REST": self.options.rest_port})

    def _create_and_start(self, engine: Engine) -> None:
        create = docker_options(self.options, engine.host())
        # By digest: a tag can be moved between two looks at it
        create["image"] = engine.pinned(self.options.image)
        create["labels"] |= {RUN_LABEL: self._run, IMAGE_LABEL: self.options.image, DIGEST_LABEL: create["image"]}
        try:
            with translated(f"create container {self.options.container_name}", engine.where):
                self._container = engine.client.containers.create(**create)
            self._look_inside()
            with translated(f"start container {self.options.container_name}", engine.where):
                self._container.start()
        except (BackendMissing, StartFailed, PortTaken) as e:  # they say what to do already
            if isinstance(e, PortTaken):
                self._check_ports()  # says who has it, on this machine
                e.message += self._namesake(engine)
            raise
        except ServerError as e:
            if source := unseen_source(e.message, self.options.mounts):
                raise StartFailed(
                    f"the Docker engine at {engine.where} doesn't see {source}, which is here: its file system is "
                    "another one (Docker in Docker, an engine on another machine or in a VM)", argv=self.argv,
                    hint=_OTHER_FILES, details={"mounts": self._mounts(), "image": self.options.image},
                    id="engine-elsewhere") from e
            self._check_ports()  # taken by someone quicker: PortTaken says it better
            raise StartFailed(e.message, argv=self.argv, logs=self.logs(), returncode=self.returncode(), hint=e.hint,
                              details={**e.details, "mounts": self._mounts(), "image": self.options.image}) from e
        self._state()

    def _namesake(self, engine: Engine) -> str:
        """Half a sentence about another server of this name there."""
        state = started_from(engine, self.name, self.options.state_dir)
        return f"; a server called {self.name} runs there already, which was started from {state}" if state else ""

    def _look_inside(self) -> None:
        """A server that doesn't find its models waits for them for ever, with closed ports."""
        assert self._engine is not None
        for path in self.missing(self.options.expects):
            raise StartFailed(f"{path} isn't in the container, though it is here: the Docker engine at "
                              f"{self._engine.where} sees another file system, or a link leads out of what is mounted",
                              argv=self.argv, details={"mounts": self._mounts(), "image": self.options.image},
                              hint=_OTHER_FILES, id="engine-elsewhere")

    def replicas(self) -> tuple[Replica, ...]:
        return (Replica(self.name, self.endpoint),) if self.alive() else ()

    def inspect(self, tail: int) -> Inspected:
        return inspecting.inspect(self.options.container_name, tail=tail, engine=self._engine)

    def missing(self, paths: Sequence[str]) -> list[str]:
        if self._container is None:
            return list(paths)
        import docker.errors

        absent = []
        for path in paths:
            with translated(f"look for {path} in container {self.options.container_name}"):
                try:
                    self._container.get_archive(path)  # its headers tell; the contents aren't read
                except docker.errors.NotFound:
                    absent.append(path)
        return absent

    def memory(self) -> MemoryUse | None:
        if self._container is None:
            return None
        with suppress(ServerError, KeyError), translated(f"ask for the memory of {self.options.container_name}"):
            stats: Any = self._container.stats(stream=False, one_shot=True)
            # The files that it has read can be dropped any time, so they don't count
            memory = stats["memory_stats"]
            return MemoryUse(memory["usage"] - memory.get("stats", {}).get("inactive_file", 0), memory["limit"])
        return None

    def _locate(self) -> None:
        """The ports that were asked for as 0 are known once the container runs, and others when it runs again."""
        published = self._published()
        self._endpoint = replace(self._endpoint, grpc_port=published.get(GRPC_PORT, self._endpoint.grpc_port),
                                 rest_port=published.get(REST_PORT, self._endpoint.rest_port))

    def _published(self) -> dict[int, int]:
        """Port inside -> port outside, as the engine forwarded them when it was asked last."""
        ports = self._container.attrs.get("NetworkSettings", {}).get("Ports") or {} if self._container else {}
        return {int(inside.partition("/")[0]): int(outside[0]["HostPort"])
                for inside, outside in ports.items() if outside}

    def _state(self) -> dict[str, Any]:
        """The engine's view of the container now; empty if it has none."""
        if self._container is None:
            return {}
        import docker.errors

        with translated(f"look at container {self.options.container_name}"):
            try:
                self._container.reload()
            except docker.errors.NotFound:
                return {}
        self._locate()
        return dict(self._container.attrs.get("State", {}))

    def instance(self) -> str | None:
        state = {} if self._container is None or not self.alive() else self._container.attrs.get("State", {})
        return f"{self._container.id} {state['StartedAt']}" if self._container and state.get("StartedAt") else None

    def alive(self) -> bool:
        try:
            state = self._state()
        except ServerError:
            return False  # no engine, no container
        return bool(state.get("Running")) and not state.get("Restarting")

    def returncode(self) -> int | None:
        with suppress(ServerError):
            state = self._state()
            if state and not state.get("Running") and state.get("Status") in ("exited", "dead"):
                return int(state["ExitCode"])
        return None

    def listening(self) -> frozenset[int]:
        return frozenset(self._published().values()) if self.alive() else frozenset()

    def logs(self, tail: int = 50) -> str:
        if self._container is None or tail <= 0:
            return ""
        with suppress(ServerError), translated(f"read the logs of {self.options.container_name}"):
            text: bytes = self._container.logs(stdout=True, stderr=True, tail=tail)
            return text.decode(errors="replace").rstrip("\n")
        return ""

    def detach(self) -> None:
        super().detach()
        if self._container is not None and self.options.restart != "no":
            with translated(f"set the restart policy of {self.options.container_name}"):
                self._container.update(restart_policy=restart_policy(self.options))  # type: ignore[arg-type]

    def stop(self, grace: float = 10.0) -> None:
        for container in self._ours():
            _stop(container, grace)
        self._container = None

    def _ours(self) -> list[Container]:
        """By label, not by handle: an interrupted create() leaves a container that nobody has a handle of."""
        if self._engine is None or not self._run:
            return []
        return self._engine.containers({RUN_LABEL: self._run, NAME_LABEL: self.options.name})

    def describe(self) -> dict[str, Any]:
        running = self.alive()
        attrs = self._container.attrs if self._container is not None else {}
        return {**described(self, running=running, since=attrs.get("State", {}).get("StartedAt")),
                "image": self.options.image, "image_digest": self._digest(), "container": attrs.get("Id", "")[:12],
                "container_name": self.options.container_name, "mounts": self._mounts(), "user": self.options.user}

    def _digest(self) -> str | None:
        return self._container.labels.get(DIGEST_LABEL) if self._container is not None else None

    def _mounts(self) -> list[str]:
        return [f"{m.source} -> {m.target} (read-only)" for m in self.options.mounts]


def find(name: str, state_dir: str, *, engine: Engine | None = None) -> ContainerServer | None:
    """The container of a server, running or ended, by its labels. Raises BackendMissing if no engine answers."""
    engine = engine or connect()
    containers = engine.containers({NAME_LABEL: name, STATE_LABEL: state_dir})
    return ContainerServer(options_of(containers[0].attrs), engine=engine, found=containers[0]) if containers else None


def started_from(engine: Engine, name: str, state_dir: str) -> str:
    """Another state directory from which a server of this name was started there; "" if there is none."""
    states = {container.labels.get(STATE_LABEL, "") for container in engine.containers({NAME_LABEL: name})}
    return min(states - {state_dir, ""}, default="")


def _stop(container: Container, grace: float) -> None:
    """SIGTERM, wait, SIGKILL, remove. Someone else may have removed it meanwhile."""
    import docker.errors

    with translated(f"stop container {container.name}"):
        try:
            container.stop(timeout=max(0, round(grace)))
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            pass
        except docker.errors.APIError as e:
            if e.status_code != 409:  # its removal is under way already
                raise
