"""The Docker engine, on this machine or another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy import extras, net
from deploy.backends import docker_host
from deploy.backends.base import Progress, silent
from deploy.backends.container_options import Host
from deploy.backends.docker_host import EngineAddress, machine_of
from deploy.backends.engine_errors import OLDEST, tls_expected, too_old, translated
from deploy.errors import BackendMissing, DeployError, ServerError
from deploy.lazy import LOADING
from deploy.spec import Spec

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from paramiko import SSHClient

_PULL = "check server/image in the spec, log in with `docker login` if it's private, or use backend: embedded"
_LOOPBACK = ("127.", "::1", "localhost")
_HELLO = 10  # seconds for an engine's first answers


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


def connect(named: str | None = None, tls: str | None = None) -> Engine:
    """The engine that is named as in server/docker, with the PEM files in the directory `tls`; by default the one that
    the docker CLI would use. Raises BackendMissing if none answers."""
    with LOADING:
        from docker.constants import DEFAULT_TIMEOUT_SECONDS

    address = docker_host.address(named=named, tls=tls)
    try:
        with (tls_expected(str(address)) if address.tls else nullcontext(),
              translated("reach the Docker engine", str(address))):
            client = _over_ssh(address) if address.host.startswith("ssh://") else _client(address)
            client.ping()
    except (AttributeError, TypeError, ValueError, KeyError, RecursionError) as e:  # the SDK trusts its configuration
        raise BackendMissing(f"docker's configuration {docker_host.config_dir() / 'config.json'} has a value that "
                             f"docker doesn't write: {e}", hint="mend it, or set DOCKER_CONFIG",
                             id="docker-config") from e
    version = str(client.api.api_version)
    if tuple(map(int, version.split("."))) < tuple(map(int, OLDEST.split("."))):
        client.close()
        raise too_old(str(address), version)
    client.api.timeout = DEFAULT_TIMEOUT_SECONDS
    return Engine(client, str(address), _machine(address))


def is_reachable(machine: str, host: str) -> bool:
    """Whether a server that listens on `host` of an engine's machine ("" for this one) can be reached from here."""
    return not (machine and host.startswith(_LOOPBACK))


def check_reachable(engine: Engine, host: str) -> None:
    """Raises ServerError if a server that listens on `host` there can't be reached from here."""
    if not is_reachable(engine.machine, host):
        raise ServerError(f"the Docker engine at {engine.where} is on another machine, and a server on its {host} "
                          "can't be reached from here", id="engine-elsewhere",
                          hint="set server/host to 0.0.0.0 or an address of that machine, or use backend: embedded")


def engine_of(spec: Spec) -> Engine:
    """The engine that the containers of a spec run on. Raises BackendMissing if it doesn't answer."""
    return connect(spec.server.docker, spec.server.docker_tls)


def _client(address: EngineAddress) -> DockerClient:
    import docker

    host = address.host
    if host.startswith("unix://"):
        Path(urlsplit(host).path).stat()  # else the SDK leaves sockets open on the way to its error
    if address.tls is None:
        return docker.DockerClient(base_url=host, timeout=_HELLO)
    cert, key = address.tls.get("cert"), address.tls.get("key")
    tls = docker.TLSConfig(client_cert=(cert, key) if cert and key else None, ca_cert=address.tls.get("ca"),
                           verify=address.verify)
    host = host.replace("tcp://", "https://", 1)
    client = docker.DockerClient(base_url=host if "://" in host else f"https://{host}", tls=tls, version=OLDEST,
                                 timeout=_HELLO)
    client.api.trust_env = False  # else REQUESTS_CA_BUNDLE takes the place of the engine's own authority
    return _negotiated(client)


def _negotiated(client: DockerClient) -> DockerClient:
    """A client that was made for some version, which asks nothing, now for that of its engine."""
    import docker.errors

    api: Any = client.api
    try:
        api._version = str(api.version(api_version=False)["ApiVersion"])
    except Exception as e:  # in the SDK's own words
        raise docker.errors.DockerException(f"Error while fetching server API version: {e}") from e
    return client


def _over_ssh(address: EngineAddress) -> DockerClient:
    """Over one connection of ours: the SDK's own waits for minutes, and its other one may ask at the terminal."""
    import docker

    extras.require("ssh", f"a Docker engine behind SSH ({address})")
    try:
        connection = net.ssh.connect(urlsplit(address.host).netloc, f"the Docker engine at {address}", _HELLO)
    except net.ssh.SshRefused as e:
        raise BackendMissing(e.message, hint=f"{e.hint}, or use backend: embedded", id=e.id) from e
    try:
        # As if it were to start the ssh program the SDK makes no connection yet
        client = docker.DockerClient(base_url=address.host, version=OLDEST, timeout=_HELLO, use_ssh_client=True)
        client.api._custom_adapter.ssh_client = connection  # type: ignore[attr-defined]
        return _negotiated(client)
    except BaseException as e:
        said = _words_there(connection) if isinstance(e, Exception) else ""
        connection.close()
        if said:
            raise BackendMissing(f"no Docker engine answers at {address}: {said}",
                                 hint="Docker has to be there, with its command line, and this user in the group "
                                      "`docker`", id="engine-missing") from e
        raise


def _words_there(connection: SSHClient) -> str:
    """Why the docker command on the other machine doesn't reach its engine: its last line."""
    with suppress(Exception):
        _, output, errors = connection.exec_command("docker version --format '{{.Server.Version}}'", timeout=_HELLO)
        output.read()
        return errors.read().decode(errors="replace").strip().rpartition("\n")[2]
    return ""


def _machine(address: EngineAddress) -> str:
    """As EngineAddress.machine; behind SSH the name may be one of ~/.ssh/config."""
    if not address.host.startswith("ssh://"):
        return address.machine
    return machine_of(net.ssh.machine(urlsplit(address.host).netloc))


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
