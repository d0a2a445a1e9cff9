"""What types can't say: directories of this machine, relative to the file that names them; values of `server` that
contradict each other, or the toolkit.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from pathlib import Path

import msgspec

from deploy.addresses import Address
from deploy.errors import SpecError
from deploy.spec.format import STATE, SpecFile
from deploy.spec.kubernetes_rules import check_kubernetes
from deploy.spec.remote import RemotePart, checked_remote
from deploy.spec.server import ServerPart, TlsPart

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # s3://, gs://, hdfs://; a single letter is a Windows drive
CLUSTER = "kubernetes:"  # begins the name of a Lease
MIRRORS = ".mirrors"  # below the state's directory; no server can be called so
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\|\.{0,2}\\")

_CONTEXT = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"  # as in docker/cli, cli/context/store
_ENGINE = r"(?:[A-Za-z0-9_.-]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9_.-]*)(?::[0-9]{1,5})?/?"

# Written by the toolkit itself, so a second value among `flags` would contradict it
OWNED_FLAGS = {"port": "server/grpc_port", "rest_api_port": "server/rest_port", "model_config_file": "models",
               "model_name": "models", "model_base_path": "models", "batching_parameters_file": "server/batching",
               "enable_batching": "server/batching", "monitoring_config_file": "server/monitoring",
               "platform_config_file": "server/platform_file", "ssl_config_file": "server/tls"}
# Set from the platform file and nowhere else, if there is one: tensorflow_serving/model_servers/server.cc
_IN_PLATFORM_FILE = frozenset({
    "enable_per_model_batching_parameters", "per_process_gpu_memory_fraction", "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "tensorflow_session_config_file",
    "saved_model_tags", "enable_model_warmup", "num_request_iterations_for_warmup", "prefer_tflite_model",
    "num_tflite_pools", "num_tflite_interpreters_per_pool", "remove_unused_fields_from_bundle_metagraph"})


def local(text: str, where: str) -> Path:
    """The path that a text means, `~` being the caller's home. Raises SpecError for what can't be a local directory."""
    scheme = _SCHEME.match(text)
    if scheme and scheme[0].lower() in ("file:/", "file:///"):
        text = text[len(scheme[0]) - 1:]
    elif scheme:
        raise SpecError(f"only local directories can be served, got {text!r}", path=where,
                        hint="copy it to a directory of this machine, or mount it there, and name that; "
                             "or name the store at the top: `repository: s3://bucket/prefix`", id="bad-path")
    if _WINDOWS.match(text):
        raise SpecError(f"expected a directory of this machine, got the Windows path {text!r}", path=where,
                        hint="write it as it is called here, with forward slashes, for example /mnt/c/models",
                        id="bad-path")
    if not text.strip() or "\0" in text:
        raise SpecError(f"expected a directory, got {text!r}", path=where, hint="`.` is the file's own", id="bad-path")
    try:
        return Path(text).expanduser()
    except RuntimeError as e:  # ~somebody who isn't known here
        raise SpecError(f"the directory {text!r} can't be looked up: {e}", path=where, id="bad-path") from None


def directory(text: str, beside: Path, where: str) -> Path:
    """As `local`, absolute; `beside` is what a relative one starts from."""
    try:
        return (beside / local(text, where)).resolve()
    except (OSError, RuntimeError) as e:  # links that lead in a circle
        raise SpecError(f"the directory {text!r} can't be looked up: {getattr(e, 'strerror', None) or e}", path=where,
                        id="bad-path") from None


def local_repository(file: SpecFile, remote: Address | None, state: Path | None, beside: Path) -> Path:
    """The directory that servers of this machine read: the repository itself, or the mirror of a remote one."""
    if remote is None:
        if file.mirror is not None:
            raise SpecError(f"the repository {file.repository!r} is on this machine, so nothing is mirrored",
                            path="mirror", hint="take `mirror` out, or name an address as `repository`", id="bad-path")
        return directory(file.repository, beside, "repository")
    if file.mirror is not None:
        return directory(file.mirror, beside, "mirror")
    return (state or beside / STATE).resolve() / MIRRORS / remote.slug


def state_root(written: str | None, path: Path) -> Path | None:
    """Where a spec's state is kept, if not beside it: as TFS_STATE_DIR says, where each spec gets its own directory, or
    else as the spec at `path` says itself. Raises SpecError."""
    if everywhere := os.environ.get("TFS_STATE_DIR"):
        own = f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        return directory(everywhere, Path.cwd(), "TFS_STATE_DIR") / own
    return None if written is None else directory(written, path.parent, "state")


def checked_server(server: ServerPart, beside: Path, *, shared: bool = False) -> ServerPart:
    """The part with absolute paths. beside: what relative ones start from. shared: it is what several servers have in
    common, and each says the rest. Raises SpecError."""
    _check_ports(server)
    _check_flags(server)
    _check_batching(server)
    elsewhere = shared or (server.kubernetes is not None and server.kubernetes.tls_secret is not None)
    tls = _tls(server.tls, beside, elsewhere=elsewhere) if server.tls else None
    if server.kubernetes is not None:
        check_kubernetes(server, server.kubernetes)
    docker_tls = str(directory(server.docker_tls, beside, "server/docker_tls")) if server.docker_tls else None
    _check_docker(server)
    return msgspec.structs.replace(server, host=_host(server.host), tls=tls, docker_tls=docker_tls,
                                   remote=_remote(server, beside, shared=shared))


def _remote(server: ServerPart, beside: Path, *, shared: bool) -> RemotePart | None:
    if server.remote is None and server.backend == "remote" and not shared:
        raise SpecError("it isn't said where the server is", path="server/remote",
                        hint="remote: {grpc: host:8500, rest: http://host:8501}; or let `tfs adopt` write the spec",
                        id="missing-key")
    if server.remote is None:
        return None
    if server.backend != "remote":
        raise SpecError(f"a server of backend {server.backend} isn't somebody else's", path="server/remote",
                        hint="write `backend: remote`, or take this part out", id="wrong-value")
    return checked_remote(server.remote, beside)


def _check_docker(server: ServerPart) -> None:
    docker = server.docker
    if server.docker_tls is not None and not (docker or "").startswith("tcp://"):
        raise SpecError("docker_tls is for an engine at a tcp:// address", path="server/docker_tls",
                        hint="name it: docker: tcp://host:2376; a context has its own, and SSH needs none",
                        id="bad-docker")
    if docker is None or re.fullmatch(_CONTEXT, docker):
        return
    scheme, _, rest = docker.partition("://")
    if ":" in rest.rpartition("@")[0]:
        raise SpecError("the address of the Docker engine holds a password", path="server/docker",
                        hint="take it out; SSH uses your keys", id="bad-docker")
    if not (scheme == "unix" and rest.startswith("/")) and not (
            scheme in ("tcp", "ssh") and re.fullmatch(_ENGINE, rest) and ("@" not in rest or scheme == "ssh")):
        raise SpecError(f"{docker!r} is no address of a Docker engine, and no name of a context", path="server/docker",
                        hint="write ssh://user@host, tcp://host:2376, unix:///var/run/docker.sock, or a name that "
                             "`docker context ls` lists", id="bad-docker")


def checked_lock(text: str, beside: Path) -> str:
    """What rollout/lock names: an address as it is, a directory absolute. Raises SpecError."""
    where = "rollout/lock"
    if text.startswith(CLUSTER):
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?", text[len(CLUSTER):]):
            raise SpecError(f"expected {CLUSTER}NAMESPACE/NAME, got {text!r}", path=where, id="bad-address")
        return text
    address = Address.parse(text, where)
    if address is not None and address.scheme == "oci":
        raise SpecError("a registry keeps no lock: nothing in it can be put only if it is absent", path=where,
                        id="bad-address", hint="name a store (s3, gs, az, ssh), a directory or "
                                               f"{CLUSTER}NAMESPACE/NAME")
    return text if address is not None else str(directory(text, beside, where))


def _host(host: str) -> str:
    """An address or a name of this machine, without the brackets that it has in URLs."""
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", bare, re.ASCII):
            raise SpecError(f"expected an address or name of this machine, got {host!r}", path="server/host",
                            hint="without http://, port and path, for example 127.0.0.1; the ports are grpc_port and "
                                 "rest_port", id="bad-address") from None
    return bare


def _check_ports(server: ServerPart) -> None:
    if server.grpc_port == server.rest_port != 0:
        raise SpecError(f"gRPC and REST can't share port {server.rest_port}", path="server/rest_port",
                        hint="the server would run without REST; give them different ports", id="same-port")


def _check_flags(server: ServerPart) -> None:
    for flag in server.flags:
        name = flag.lstrip("-")
        if name != flag:
            raise SpecError("write the flag without dashes", path=f"server/flags/{flag}", hint=f"{name}: ...",
                            id="bad-flag")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise SpecError("a flag's name has letters, digits and _ only", path=f"server/flags/{flag}",
                            hint="write the value behind the colon: name: value", id="bad-flag")
        if name in OWNED_FLAGS:
            raise SpecError("the toolkit writes this flag", path=f"server/flags/{flag}",
                            hint=f"set {OWNED_FLAGS[name]} instead", id="bad-flag")
        if name == "use_alts_credentials" and server.flags[flag] not in (False, 0, "false", "0"):
            raise SpecError("tfs can't connect through ALTS, so the server would never be ready for it",
                            path=f"server/flags/{flag}", hint="use server/tls", id="bad-flag")
        if server.platform_file and name in _IN_PLATFORM_FILE:
            raise SpecError("the server takes this from its platform file only, and passes over the flag",
                            path=f"server/flags/{flag}", hint="take out server/platform_file, or the flag",
                            id="bad-flag")


def _check_batching(server: ServerPart) -> None:
    batching = server.batching
    if batching and batching.allowed_batch_sizes:
        sizes = batching.allowed_batch_sizes
        if sorted(set(sizes)) != sizes or (batching.max_batch_size and sizes[-1] != batching.max_batch_size):
            raise SpecError(f"expected increasing sizes that end with max_batch_size, got {sizes}",
                            path="server/batching/allowed_batch_sizes")


def _tls(tls: TlsPart, beside: Path, *, elsewhere: bool) -> TlsPart:
    """elsewhere: the server has certificate and key of somebody else's."""
    where = "server/tls"
    for name in ("certificate", "key"):
        if getattr(tls, name) is None and not elsewhere:
            raise SpecError(f"{name} is missing: the server can't speak TLS without", path=where,
                            hint="name the PEM file, or in Kubernetes the Secret that has it "
                                 "(server/kubernetes/tls_secret)", id="missing-key")
    if (tls.client_certificate is None) != (tls.client_key is None):
        missing = "client_key" if tls.client_key is None else "client_certificate"
        raise SpecError(f"{missing} is missing: a certificate and its key go together", path=where,
                        id="bad-certificate")
    if tls.client_ca is not None and tls.client_certificate is None:
        raise SpecError("with client_ca the server lets in clients with a certificate only, and tfs has none",
                        path=f"{where}/client_certificate",
                        hint="give tfs its own client_certificate and client_key", id="bad-certificate")
    files = {name: str(directory(value, beside, f"{where}/{name}")) for name in (
        "certificate", "key", "client_ca", "ca", "client_certificate", "client_key")
        if (value := getattr(tls, name)) is not None}
    return msgspec.structs.replace(tls, **files)
