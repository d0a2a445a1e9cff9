"""The Docker engine, and the one place where its errors become ours."""

from __future__ import annotations

import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from deploy.backends import docker_host
from deploy.backends.base import Progress, silent
from deploy.backends.container_options import Host
from deploy.errors import BackendMissing, DeployError, ServerError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_START = "start it (Linux: `sudo systemctl start docker`; else Docker Desktop), or use backend: embedded"
_PULL = "check server/image in the spec, log in with `docker login` if it's private, or use backend: embedded"
_HELLO = 10  # seconds for an engine's first answers
_HELPER = re.compile(r"docker-credential-[\w.-]*\w")
_GROUP = "add yourself to the group `docker` and log in again, or use backend: embedded"


class Engine:
    """A Docker engine that answered. machine: the host that its ports are on, if that isn't this one."""

    def __init__(self, client: DockerClient, where: str, machine: str = "") -> None:
        self.client, self.where, self.machine = client, where, machine

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
                pull = _Pull(image)
                for line in self.client.api.pull(name, tag=tag, stream=True, decode=True):
                    if sentence := pull.sentence(line):
                        progress(sentence)
        except DeployError as e:
            raise BackendMissing(f"image {image} isn't here and can't be pulled: {_reason(e)}",
                                 hint=e.hint if "helper" in e.details else _PULL,
                                 details={"image": image, "said": _said(e)}, id="image-missing") from e

    def require_image(self, image: str, progress: Progress = silent) -> None:
        """The image, pulled if it isn't here. Raises BackendMissing."""
        if not self.has_image(image):
            progress(f"pulling image {image}")
            self.pull(image, progress)

    def pinned(self, image: str) -> str:
        """What an image's name stands for now: name@sha256:... as its registry has it, or the id of one made here."""
        with translated(f"look at image {image}", self.where):
            attrs = self.client.images.get(image).attrs
        name = _name_and_tag(image)[0]
        known = {name, f"docker.io/{name}", f"docker.io/library/{name}"}
        digests = [str(d) for d in attrs.get("RepoDigests") or () if str(d).partition("@")[0] in known]
        return digests[0] if digests else str(attrs["Id"])

    def host(self) -> Host:
        """The machine that the containers run on."""
        with translated("ask for the engine's machine", self.where):
            info: Mapping[str, Any] = self.client.info()
        return Host(int(info.get("MemTotal") or 0) if info.get("MemoryLimit") else 0,
                    pids=bool(info.get("PidsLimit")), log_driver=str(info.get("LoggingDriver") or ""))

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
    """The engine that the docker CLI would use. Raises BackendMissing if none answers."""
    import docker
    from docker.constants import DEFAULT_TIMEOUT_SECONDS

    host, tls, where = _address()
    machine = docker_host.address().machine
    over_ssh = host.startswith("ssh://")
    if over_ssh and find_spec("paramiko") is None:
        raise BackendMissing(f"the Docker engine at {where} is behind SSH, for which the package paramiko is missing",
                             hint="pip install 'docker[ssh]', or use backend: embedded", id="engine-missing")
    try:
        with translated("reach the Docker engine", where):
            if host.startswith("unix://"):
                Path(urlsplit(host).path).stat()  # else the SDK leaves sockets open on the way to its error
            client = docker.DockerClient(base_url=host, tls=tls, timeout=_HELLO,
                                         use_ssh_client=over_ssh and shutil.which("ssh") is not None)
            client.ping()
    except (AttributeError, TypeError, ValueError, KeyError, RecursionError) as e:  # the SDK trusts its configuration
        raise BackendMissing(f"docker's configuration {docker_host.config_dir() / 'config.json'} has a value that "
                             f"docker doesn't write: {e}", hint="mend it, or set DOCKER_CONFIG",
                             id="docker-config") from e
    client.api.timeout = DEFAULT_TIMEOUT_SECONDS
    return Engine(client, where, machine)


def _address() -> tuple[str, Any, str]:
    """Where the engine is, its TLS settings for the SDK, and its address for people."""
    import docker.tls

    engine = docker_host.address()
    if engine.tls is None:
        return engine.host, False, str(engine)
    cert, key = engine.tls.get("cert"), engine.tls.get("key")
    with translated("use the Docker engine's certificates", str(engine)):
        tls = docker.tls.TLSConfig(client_cert=(cert, key) if cert and key else None, ca_cert=engine.tls.get("ca"),
                                   verify=engine.verify)
    host = engine.host.replace("tcp://", "https://", 1)
    return host if "://" in host else f"https://{host}", tls, str(engine)


@contextmanager
def translated(doing: str, where: str = "") -> Iterator[None]:
    """Turn whatever the SDK raises into a ServerError. `doing` completes "can't ..."; `where`: the engine's address.

    The SDK lets errors of requests (which are OSErrors), of urllib3 and of paramiko through.
    """
    import docker.errors
    import urllib3.exceptions

    paramiko = sys.modules.get("paramiko")
    ssh: tuple[type[Exception], ...] = (paramiko.SSHException,) if paramiko else ()
    foreign: tuple[type[BaseException], ...] = (
        *ssh, docker.errors.DockerException, docker.errors.StreamParseError, urllib3.exceptions.HTTPError,
        urllib3.exceptions.ProxySchemeUnsupported, OSError)
    try:
        with warnings.catch_warnings():  # the error that follows is told in our words
            warnings.filterwarnings("ignore", message="docker-credential-")
            yield
    except foreign as e:
        _translate(e, doing, where)


def _translate(error: BaseException, doing: str, where: str) -> NoReturn:
    import docker.errors
    from docker.credentials.errors import StoreError

    at = f" at {where}" if where else ""
    if isinstance(error, docker.errors.APIError):
        explanation = str(error.explanation or error)
        raise ServerError(f"can't {doing}: the Docker engine says: {explanation}",
                          details={"status": error.status_code, "engine": where}, id="docker-refused") from error
    for e in _chain(error):
        if isinstance(e, StoreError):
            raise _helper_failed(e, doing) from error
    if any(isinstance(e, PermissionError) for e in _chain(error)):
        raise BackendMissing(f"can't {doing}: no permission to talk to the Docker engine{at}", hint=_GROUP,
                             id="docker-permission") from error
    if any(isinstance(e, ConnectionError | FileNotFoundError) for e in _chain(error)):
        raise BackendMissing(f"no Docker engine answers{at}", hint=_start(where), id="engine-missing") from error
    if type(error) is docker.errors.DockerException:  # the SDK's word for "not even its version can be asked"
        raise BackendMissing(f"no Docker engine answers{at}: {_innermost(error)}", hint=_start(where),
                             id="engine-missing") from error
    raise ServerError(f"can't {doing}: {type(error).__name__}: {error}", details={"engine": where},
                      id="docker-refused") from error


def _helper_failed(error: BaseException, doing: str) -> BackendMissing:
    """The program of credsStore or credHelpers, which the CLI's configuration names, isn't there or fails."""
    name = _HELPER.search(str(error))
    helper = f"the credential helper {name[0]}" if name else "the credential helper"
    what = "isn't installed" if "not installed" in str(error) else f"fails: {error}"
    return BackendMissing(f"can't {doing}: {helper} {what}", details={"helper": f"{helper} {what}"},
                          hint=f"install it, or take credsStore and credHelpers out of "
                               f"{docker_host.config_dir() / 'config.json'}, or use backend: embedded",
                          id="docker-credentials")


def _start(where: str) -> str:
    """What to do about an engine that doesn't answer: somebody may have named the wrong one."""
    return f"is that the right address? {_START}" if "(from " in where else _START


def _innermost(error: BaseException) -> str:
    """The SDK wraps urllib3's errors, and those wrap the socket's: the last one says it best."""
    *_, last = _chain(error)
    if last is error:
        return str(error)
    return str(getattr(last, "strerror", None) or last).rpartition(": ")[2] or type(last).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, those behind it, and those that requests and urllib3 hide in arguments."""
    waiting, visited = [error], set[int]()
    while waiting:
        e = waiting.pop()
        if id(e) in visited:
            continue
        visited.add(id(e))
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
    if helper := error.details.get("helper"):
        return str(helper)
    status = error.details.get("status")
    if status == 404:
        return "no registry has it, or none without a login"
    return "its registry can't be reached, or refuses" if status else "the pull ended with an error"


def _said(error: DeployError) -> str:
    return error.message.rpartition("says: ")[2]
