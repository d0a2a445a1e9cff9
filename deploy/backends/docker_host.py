"""Where the Docker engine is: as the spec says, else as the docker CLI finds it: DOCKER_HOST, else DOCKER_CONTEXT, else
the current context.

The SDK knows neither DOCKER_CONTEXT nor contexts beside a missing config.json, so their files are read here.
Source: docker/cli, cli/command/cli.go and cli/context/store.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from deploy.errors import BackendMissing

_SOCKET = "unix://"
DEFAULT = f"{_SOCKET}/var/run/docker.sock"
_MOST_BYTES = 1 << 20
_MOST_OF_NONE = 1 << 14  # bytes of an answer that names nothing
_NO_PEMS = "put them there; or set server/docker_tls or DOCKER_CERT_PATH, or unset DOCKER_TLS_VERIFY"
SPEC = "server/docker"  # who says so
_CONTEXTS = "docker context ls lists those that there are"


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an engine listens. source: who says so, empty for the default. tls: its PEM files by their names, None
    without TLS. verify: whether the engine's certificate is."""

    host: str = DEFAULT
    source: str = ""
    tls: Mapping[str, str] | None = None
    verify: bool = True

    @property
    def machine(self) -> str:
        """The host that the engine's ports are on; empty if it is this one, as far as the address tells that."""
        parts = urlsplit(self.host if "://" in self.host else f"tcp://{self.host}")
        return machine_of(parts.hostname or "") if parts.scheme in ("tcp", "http", "https", "ssh") else ""

    def __str__(self) -> str:
        return f"{self.host} (from {self.source})" if self.source else self.host


def machine_of(name: str) -> str:
    """The machine of that name or address; empty if it is this one."""
    return "" if name.startswith("127.") or name in ("", "localhost", "::1") else name


def address(environment: Mapping[str, str] | None = None, *, named: str | None = None, tls: str | None = None
            ) -> EngineAddress:
    """The engine's address. named: an address or a context, which goes before what the environment says; tls: the
    directory of its PEM files. Raises BackendMissing for what isn't there or can't be read."""
    env = os.environ if environment is None else environment
    directory = config_dir(env)
    if named and "://" in named:
        return _of_host(named, env if tls is None else _verified(tls), directory, SPEC)
    if named:
        return _of_context(named, SPEC, directory)
    if host := env.get("DOCKER_HOST"):
        return _of_host(host, env, directory, "DOCKER_HOST")
    if name := env.get("DOCKER_CONTEXT"):
        return _of_context(name, "DOCKER_CONTEXT", directory)
    name = _config(directory / "config.json").get("currentContext") or "default"
    return _of_context(str(name), f"currentContext in {directory / 'config.json'}", directory)


def knows_none(labels: Mapping[str, str], named: str | None = None, *, seconds: float = 2.0) -> bool:
    """Whether the engine says that it has no container with these labels, neither running nor ended.

    Asked in one line, since most commands ask nothing else of it, and the SDK takes longer to load than they do. False
    for any other answer, and for an engine that isn't behind a socket of this machine: then the SDK has to ask.
    """
    query = quote(json.dumps({"label": [f"{k}={v}" for k, v in labels.items()]}))
    try:
        host = address(named=named).host
        if not host.startswith(_SOCKET):
            return False
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(host.removeprefix(_SOCKET))
            connection.sendall(f"GET /containers/json?all=1&filters={query} HTTP/1.0\r\n\r\n".encode())
            reply = b""
            while len(reply) < _MOST_OF_NONE and (piece := connection.recv(_MOST_OF_NONE)):
                reply += piece
    except (BackendMissing, OSError, ValueError):
        return False
    head, _, body = reply.partition(b"\r\n\r\n")
    return b" 200 " in head.partition(b"\r\n")[0] and body.strip() == b"[]"


def config_dir(environment: Mapping[str, str] | None = None) -> Path:
    """The docker CLI's own directory."""
    env = os.environ if environment is None else environment
    return Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME") or "~").expanduser() / ".docker")


def _verified(tls: str) -> dict[str, str]:
    return {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": tls}


def _of_host(host: str, env: Mapping[str, str], directory: Path, source: str) -> EngineAddress:
    """TLS as in the CLI: any value of DOCKER_TLS_VERIFY verifies, DOCKER_TLS alone doesn't; no matter for sockets."""
    wanted = bool(env.get("DOCKER_TLS_VERIFY") or env.get("DOCKER_TLS"))
    if not wanted or urlsplit(host).scheme not in ("tcp", "http", "https", ""):
        return EngineAddress(host, source)
    files = _pems(Path(env.get("DOCKER_CERT_PATH") or directory))
    if not files:
        raise BackendMissing(f"no Docker engine can be asked at {host}: TLS is wanted, and there is none of ca.pem, "
                             f"cert.pem and key.pem in {env.get('DOCKER_CERT_PATH') or directory}",
                             hint=_NO_PEMS, id="docker-tls")
    return EngineAddress(host, source, files, verify=bool(env.get("DOCKER_TLS_VERIFY")))


def _of_context(name: str, source: str, directory: Path) -> EngineAddress:
    if name == "default":
        return EngineAddress(source=source if source == SPEC else "")
    number = hashlib.sha256(name.encode()).hexdigest()
    path = directory / "contexts" / "meta" / number / "meta.json"
    try:
        endpoint: Any = json.loads(_read(path))["Endpoints"]["docker"]
        host, skip = endpoint["Host"], endpoint.get("SkipTLSVerify", False)
    except FileNotFoundError:
        raise BackendMissing(f"there is no Docker context {name!r} (from {source})", hint=_CONTEXTS,
                             id="docker-context") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BackendMissing(f"the Docker context {name!r} (from {source}) can't be read: {path}: "
                             f"{type(e).__name__}: {e}", hint=_CONTEXTS, id="docker-context") from None
    files = _pems(directory / "contexts" / "tls" / number / "docker")
    source = f"{source} {name!r}" if source in ("DOCKER_CONTEXT", SPEC) else source
    return EngineAddress(str(host or DEFAULT), source, files or None, verify=not skip)


def _pems(directory: Path) -> dict[str, str]:
    return {name: str(directory / f"{name}.pem") for name in ("ca", "cert", "key")
            if (directory / f"{name}.pem").is_file()}


def _config(path: Path) -> dict[str, Any]:
    """The CLI's configuration; empty if it isn't there or no JSON, as for the CLI. Raises BackendMissing for JSON of
    another form, which the SDK can't bear."""
    try:
        data = json.loads(_read(path))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        raise BackendMissing(f"docker's configuration {path} isn't a JSON object", hint="mend it, or set DOCKER_CONFIG",
                             id="docker-config")
    return data


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)
