"""`python -m deploy.modelserver.healthcheck`: a container's HEALTHCHECK. Exit code 0, or 1 and a line that says why.

It finds the server's own command line in /proc, so there is nothing to configure. Healthy means: the versions that the
configuration names are AVAILABLE (by policy: at least one), its labels lead somewhere, and both ports answer. More may
be loaded: a rollout may be under way. `tfs ready` is stricter, and knows what is wanted.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

from deploy.modelserver.main import read_config
from deploy.modelserver.status import StatusError
from deploy.types import Specific
from deploy.wire import config_pb2
from deploy.wire.flags import FLAGS, Options, parse
from deploy.wire.model_config import policy_of

_MODULE = "deploy.modelserver"
_SECONDS = 4.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4  # the type of the frame with which an HTTP/2 server begins


def running(proc: Path = Path("/proc")) -> Options | None:
    """The flags of the server that runs in this container; None if there is none."""
    for directory in sorted(proc.glob("[0-9]*"), key=lambda p: int(p.name)):
        try:
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # ended meanwhile
            continue
        if _MODULE in words:
            return Options.of(parse(words[words.index(_MODULE) + 1:-1], FLAGS).values)
    return None


def gaps(options: Options) -> Iterator[str]:
    """What isn't as it should be, one by one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.tfs_bind_address, options.tfs_bind_address)  # noqa: S104
    try:
        if options.port and (why := _grpc(host, options.port, secure=bool(options.ssl_config_file))):
            yield f"gRPC port {options.port}: {why}"
        if not options.rest_api_port:
            return
        connection = HTTPConnection(host, options.rest_api_port, timeout=_SECONDS)
        for model in read_config(options).model_config_list.config:
            yield from _model(connection, model)
        connection.close()
    except (OSError, HTTPException, ValueError) as e:
        yield f"REST port {options.rest_api_port}: {type(e).__name__}: {e}"
    except StatusError as e:
        yield f"the configuration can't be read: {e}"


def _grpc(host: str, port: int, *, secure: bool) -> str:
    """Why no HTTP/2 server answers there; empty if one does. Spares the import of gRPC. Behind TLS, an open port does:
    it may ask for a certificate that isn't in here."""
    try:
        with socket.create_connection((host, port), _SECONDS) as s:
            if secure:
                return ""
            s.sendall(_PREFACE)
            begun = s.recv(9)
    except OSError as e:
        return str(e)
    return "" if len(begun) > 3 and begun[3] == _SETTINGS else "what answers is no gRPC server"


def _model(connection: HTTPConnection, model: config_pb2.ModelConfig) -> Iterator[str]:
    path = f"/v1/models/{quote(model.name, safe='')}"
    status, data = _get(connection, path)
    served = {int(v["version"]) for v in data.get("model_version_status", ()) if v["state"] == "AVAILABLE"}
    policy = policy_of(model)
    missing = sorted(set(policy.versions) - served) if isinstance(policy, Specific) else []
    if missing or not served:
        yield f"model {model.name!r}: version {', '.join(map(str, missing)) or 'whatever'} isn't AVAILABLE ({status})"
    for label in sorted(model.version_labels):
        if _get(connection, f"{path}/labels/{quote(label, safe='')}/metadata")[0] != 200:
            yield f"label {model.name}@{label} leads nowhere"


def _get(connection: HTTPConnection, path: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read()
    return reply.status, json.loads(body) if reply.status == 200 else {}


def main() -> int:
    """The exit code for Docker."""
    options = running()
    why = "no server runs here" if options is None else next(gaps(options), "")
    if why:
        print(why)  # noqa: T201
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
