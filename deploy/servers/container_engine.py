"""The Docker engine, and the one place where its errors become ours."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from deploy.errors import BackendMissing, DeployError, ServerError
from deploy.servers.base import Progress, silent

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_START = "start it (Linux: `sudo systemctl start docker`; else Docker Desktop), or use backend: embedded"
_GROUP = "add yourself to the group `docker` and log in again, or use backend: embedded"


class Engine:
    """A Docker engine that answered."""

    def __init__(self, client: DockerClient, where: str) -> None:
        self.client, self.where = client, where

    def has_image(self, image: str) -> bool:
        """Whether the image is on the engine already."""
        import docker.errors

        with translated(f"look for image {image}", self.where):
            try:
                self.client.images.get(image)
            except docker.errors.ImageNotFound:
                return False
            return True

    def pull(self, image: str, progress: Progress = silent) -> None:
        """Pull an image. Raises BackendMissing naming it if its registry doesn't have it, or can't be asked."""
        name, tag = _name_and_tag(image)
        try:
            with translated(f"pull {image}", self.where):
                seen = _Pull(image)
                for line in self.client.api.pull(name, tag=tag, stream=True, decode=True):
                    if sentence := seen.sentence(line):
                        progress(sentence)
        except DeployError as e:
            raise BackendMissing(f"image {image} isn't here and can't be pulled: {_reason(e)}",
                                 hint="check server/image in the spec, log in with `docker login` if it's private, "
                                      "or use backend: embedded", details={"image": image, "said": _said(e)}) from e

    def require_image(self, image: str, progress: Progress = silent) -> None:
        """The image, pulled if it isn't here. Raises BackendMissing."""
        if not self.has_image(image):
            progress(f"pulling image {image}")
            self.pull(image, progress)

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """All containers, running or not, with all of these labels."""
        with translated("list the containers", self.where):
            return list(self.client.containers.list(
                all=True, ignore_removed=True, filters={"label": [f"{k}={v}" for k, v in labels.items()]}))


class _Pull:
    """Hundreds of events per layer, errors included, as one sentence per tenth of the whole."""

    def __init__(self, image: str) -> None:
        self._image, self._told = image, ""
        self._layers: dict[str, tuple[int, int]] = {}  # bytes here, bytes in all

    def sentence(self, line: Mapping[str, Any]) -> str:
        """What is new with this event; empty if nothing is. Raises BackendMissing for one that tells an error."""
        if "error" in line:
            raise BackendMissing(str(line["error"]))
        layer, status, size = str(line.get("id")), line.get("status"), line.get("progressDetail") or {}
        if status == "Downloading" and size.get("total"):
            self._layers[layer] = (size.get("current", 0), size["total"])
        elif status == "Download complete" and layer in self._layers:
            self._layers[layer] = (self._layers[layer][1],) * 2
        here, total = (sum(n) for n in zip(*self._layers.values(), strict=True)) if self._layers else (0, 0)
        now = f"pulling {self._image}: {10 * here // total}0 % of {total >> 20} MB" if total else ""
        new, self._told = now if now != self._told else "", now
        return new


def connect() -> Engine:
    """The engine of DOCKER_HOST, or of the current `docker context`. Raises BackendMissing if none answers."""
    import docker

    where, tls = _address()
    with translated("reach the Docker engine", where):
        client = docker.DockerClient.from_env() if tls is None else docker.DockerClient(base_url=where, tls=tls)
        client.ping()
    return Engine(client, where)


def _address() -> tuple[str, Any]:
    """Where the engine should be, and its TLS settings if a context has them (None: the environment's)."""
    if "DOCKER_HOST" in os.environ:
        return os.environ["DOCKER_HOST"], None
    default = "unix:///var/run/docker.sock"
    with translated("read the current Docker context", default):
        from docker.context import ContextAPI

        context = ContextAPI.get_current_context()
    if context is None or context.Host in (None, default, "http+unix:///var/run/docker.sock"):
        return default, None
    return str(context.Host), context.TLSConfig or False


@contextmanager
def translated(doing: str, where: str = "") -> Iterator[None]:
    """Turn whatever the SDK raises into a ServerError. `doing` completes "can't ..."; `where`: the engine's address.

    The SDK lets errors of requests (which are OSErrors) and of urllib3 through.
    """
    import docker.errors
    import urllib3.exceptions

    foreign = (docker.errors.DockerException, docker.errors.StreamParseError, urllib3.exceptions.HTTPError,
               urllib3.exceptions.ProxySchemeUnsupported, OSError)
    try:
        yield
    except foreign as e:
        _translate(e, doing, where)


def _translate(error: BaseException, doing: str, where: str) -> NoReturn:
    import docker.errors

    at = f" at {where}" if where else ""
    if isinstance(error, docker.errors.APIError):
        said = str(error.explanation or error)
        raise ServerError(f"can't {doing}: the Docker engine says: {said}",
                          details={"status": error.status_code, "engine": where}) from error
    if any(isinstance(e, PermissionError) for e in _chain(error)):
        raise BackendMissing(f"can't {doing}: no permission to talk to the Docker engine{at}", hint=_GROUP) from error
    if any(isinstance(e, ConnectionError | FileNotFoundError) for e in _chain(error)):
        raise BackendMissing(f"no Docker engine answers{at}", hint=_START) from error
    if type(error) is docker.errors.DockerException:  # the SDK's word for "not even its version can be asked"
        raise BackendMissing(f"no Docker engine answers{at}: {error}", hint=_START) from error
    raise ServerError(f"can't {doing}: {type(error).__name__}: {error}", details={"engine": where}) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, those behind it, and those that requests and urllib3 hide in arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        e = waiting.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        yield e
        hidden = [a for a in (*e.args, getattr(e, "reason", None)) if isinstance(a, BaseException)]
        waiting.extend(x for x in (e.__cause__, e.__context__, *hidden) if x is not None)


def _name_and_tag(image: str) -> tuple[str, str | None]:
    """The SDK wants them apart, or else it pulls every tag. A digest is a tag in its eyes."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _reason(error: DeployError) -> str:
    """Why a pull failed, in a few words, by the status that the engine answered with."""
    status = error.details.get("status")
    if status == 404:
        return "no registry has it, or none without a login"
    return "its registry can't be reached, or refuses" if status else "the pull ended with an error"


def _said(error: DeployError) -> str:
    return error.message.rpartition("says: ")[2]
