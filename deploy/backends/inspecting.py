"""Any container on the engine, ours or not, and images: looked at, never changed."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from string import Template
from typing import Any, Literal

from deploy.backends.base import Inspected
from deploy.backends.container_options import IMAGE_LABEL
from deploy.backends.engine import Engine, connect
from deploy.backends.engine_errors import translated
from deploy.errors import ServerError
from deploy.render.configs import GRPC_PORT, PROGRAM, REST_PORT

_ENTRY_POINT = "tf_serving_entrypoint.sh"
_MOST_READ = 4 << 20  # bytes of a path inside a container


@dataclass(frozen=True, slots=True)
class Inside:
    """What a container has at a path, mounts included. names: relative paths below a directory, as far as they were
    read; complete: that is all. text: of a small file."""

    kind: Literal["directory", "file", "missing"]
    names: frozenset[str] = frozenset()
    complete: bool = True
    text: bytes = b""


def inspect(name: str, *, tail: int = 400, engine: Engine | None = None) -> Inspected:
    """A container by name or id. Raises BackendMissing without an engine, ServerError for an unknown container."""
    import docker.errors

    engine = engine or connect()
    with translated(f"look at container {name}", engine.where):
        try:
            container = engine.client.containers.get(name)
        except docker.errors.NotFound:
            raise ServerError(f"there is no container {name!r}", hint="docker ps --all lists them",
                              id="no-container") from None
        attrs = container.attrs
        log = container.logs(tail=tail).decode(errors="replace").rstrip("\n")
    config, state = attrs["Config"], attrs["State"]
    argv = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
    running = bool(state.get("Running")) and not state.get("Restarting")
    environment = dict(pair.partition("=")[::2] for pair in config.get("Env") or ())
    expanded, added = _expanded(argv, environment)
    return Inspected(
        name=str(container.name), argv=expanded, added=added, environment=environment,
        state=str(state.get("Status") or ""), address=_address(attrs) if running else "",
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


def _address(attrs: Mapping[str, Any]) -> str:
    if attrs["HostConfig"].get("NetworkMode") == "host":
        return "127.0.0.1"
    networks = attrs.get("NetworkSettings", {}).get("Networks") or {}
    return next((str(n["IPAddress"]) for n in networks.values() if n.get("IPAddress")), "")


def look_inside(name: str, path: str, *, engine: Engine | None = None) -> Inside:
    """What lies at a path of a container, running or not, without running anything in it: the first megabytes.

    Raises BackendMissing without an engine, ServerError for an unknown container.
    """
    import docker.errors

    engine = engine or connect()
    with translated(f"look at {path} in container {name}", engine.where):
        try:
            stream, stat = engine.client.containers.get(name).get_archive(path)
        except docker.errors.NotFound:
            return Inside("missing")
        read, whole = _some(stream)
    kind: Literal["directory", "file"] = "directory" if int((stat or {})["mode"]) >> 31 & 1 else "file"
    names, text = set[str](), b""
    with suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=io.BytesIO(read), mode="r|") as archive:
        for member in archive:
            names.add(member.name.partition("/")[2])
            if kind == "file" and member.isfile() and (opened := archive.extractfile(member)) is not None:
                text = opened.read(_MOST_READ)
    return Inside(kind, frozenset(names - {""}), whole, text)


def _some(stream: Iterable[bytes]) -> tuple[bytes, bool]:
    """The beginning of a stream, and whether that is all of it. The rest stays unread: the connection is closed."""
    read, whole = bytearray(), True
    for piece in stream:
        read += piece
        whole = len(read) <= _MOST_READ
        if not whole:
            break
    getattr(stream, "close", lambda: None)()
    return bytes(read), whole


def _expanded(argv: tuple[str, ...], environment: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The command line that is run at last, and how many of its arguments are nobody's but the entry point's.

    The stock image's entry point is a shell script that puts flags of its own in front; that of an image of ours is
    a shell that hands signals on; others write `sh -c "tensorflow_model_server ..."`.
    """
    if argv[:2] == ("/bin/sh", "-c") and argv[3:4] == ("tensorflow_model_server",):
        return (PROGRAM, *argv[4:]), 0
    if len(argv) == 3 and argv[1] == "-c" and argv[0].endswith("sh"):
        return _of_shell(argv, environment), 0
    if not argv or not argv[0].endswith(_ENTRY_POINT):
        return argv, 0
    name, base = environment.get("MODEL_NAME", "model"), environment.get("MODEL_BASE_PATH", "/models")
    own = (f"--port={GRPC_PORT}", f"--rest_api_port={REST_PORT}", f"--model_name={name}",
           f"--model_base_path={base}/{name}")
    return (PROGRAM, *own, *argv[1:]), len(own)


def _of_shell(argv: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """A command line for a shell that is just this server; anything more is left as it is."""
    try:
        words = shlex.split(Template(argv[2]).safe_substitute(environment))
    except ValueError:
        return argv
    words = words[1:] if words[:1] == ["exec"] else words
    simple = words and words[0].endswith("tensorflow_model_server") and not {";", "&&", "||", "|", "&"} & {*words}
    return tuple(words) if simple else argv
