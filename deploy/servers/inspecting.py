"""Any container on the engine, ours or not, and images: looked at, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.errors import ServerError
from deploy.servers.container_engine import Engine, connect, translated
from deploy.servers.container_options import GRPC_PORT, IMAGE_LABEL, PROGRAM, REST_PORT

_ENTRY_POINT = "tf_serving_entrypoint.sh"


@dataclass(frozen=True, slots=True)
class Inspected:
    """A container from outside.

    argv: the whole command line, with what the stock image's entry point adds. mounts: source -> target.
    exit_code: None while it runs. published: port inside -> port of this machine. error: why it couldn't be started.
    """

    name: str
    argv: tuple[str, ...]
    image: str
    image_platform: str
    user: str
    mounts: Mapping[str, str]
    running: bool
    exit_code: int | None
    out_of_memory: bool
    published: Mapping[int, int]
    log: str
    error: str


def inspect(name: str, *, tail: int = 400, engine: Engine | None = None) -> Inspected:
    """A container by name or id. Raises BackendMissing without an engine, ServerError for an unknown container."""
    import docker.errors

    engine = engine or connect()
    with translated(f"look at container {name}", engine.where):
        try:
            container = engine.client.containers.get(name)
        except docker.errors.NotFound:
            raise ServerError(f"there is no container {name!r}", hint="docker ps --all lists them") from None
        attrs = container.attrs
        log = container.logs(tail=tail).decode(errors="replace")
    config, state = attrs["Config"], attrs["State"]
    argv = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
    running = bool(state.get("Running")) and not state.get("Restarting")
    return Inspected(
        name=str(container.name), argv=_expanded(argv, config.get("Env") or ()),
        image=(config.get("Labels") or {}).get(IMAGE_LABEL, config["Image"]),
        image_platform=image_platform(config["Image"], engine=engine) or "", user=config.get("User", ""),
        mounts={m.get("Name") or m["Source"]: m["Destination"] for m in attrs.get("Mounts") or ()},
        running=running, exit_code=None if running or state.get("Status") == "created" else int(state["ExitCode"]),
        out_of_memory=bool(state.get("OOMKilled")), published=_published(attrs), log=log,
        error=str(state.get("Error") or ""))


def image_platform(image: str, *, engine: Engine | None = None) -> str | None:
    """The architecture that an image is for, as `amd64`; None if the image isn't here. Raises BackendMissing."""
    import docker.errors

    engine = engine or connect()
    with translated(f"look for image {image}", engine.where):
        try:
            return str(engine.client.images.get(image).attrs.get("Architecture", ""))
        except docker.errors.ImageNotFound:
            return None


def _published(attrs: Mapping[str, Any]) -> dict[int, int]:
    """As it was asked for: that of a container which doesn't run is empty in its network settings."""
    bindings = {**(attrs["HostConfig"].get("PortBindings") or {}),
                **(attrs.get("NetworkSettings", {}).get("Ports") or {})}
    return {int(inside.partition("/")[0]): int(outside[0]["HostPort"])
            for inside, outside in bindings.items() if outside and outside[0].get("HostPort")}


def _expanded(argv: tuple[str, ...], environment: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """The stock image's entry point is a shell script that puts flags of its own in front; that of an image of ours is
    a shell that hands signals on."""
    if argv[:2] == ("/bin/sh", "-c") and argv[3:4] == ("tensorflow_model_server",):
        return (PROGRAM, *argv[4:])
    if not argv or not argv[0].endswith(_ENTRY_POINT):
        return argv
    known = dict(pair.partition("=")[::2] for pair in environment)
    name, base = known.get("MODEL_NAME", "model"), known.get("MODEL_BASE_PATH", "/models")
    return (PROGRAM, f"--port={GRPC_PORT}", f"--rest_api_port={REST_PORT}",
            f"--model_name={name}", f"--model_base_path={base}/{name}", *argv[1:])
