"""`python -m deploy.modelserver.healthcheck`: a container's HEALTHCHECK. Exit code 0, or 1 and a line that says why.

It finds the server's own command line in /proc, so there is nothing to configure. Healthy means: the versions that the
configuration names are AVAILABLE (by policy: as many as it wants of those on disk, see readiness.by_policy), its labels
resolve, and both ports answer. More may be loaded: a rollout may be under way. `tfs ready` is stricter, and knows what
is wanted.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from deploy.errors import Rejected
from deploy.modelserver.config import read_config
from deploy.modelserver.source import BasePathMissing, Monitored, look
from deploy.modelserver.status import Code, StatusError
from deploy.readiness import Snapshot, by_policy, gaps
from deploy.types import All, ModelRef, VersionState, VersionStatus
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


def problems(options: Options) -> Iterator[str]:
    """What isn't as it should be, one by one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.tfs_bind_address, options.tfs_bind_address)  # noqa: S104
    try:
        if options.port and (why := _grpc(host, options.port, secure=bool(options.ssl_config_file))):
            yield f"gRPC port {options.port}: {why}"
        if not options.rest_api_port:
            return
        connection = HTTPConnection(host, options.rest_api_port, timeout=_SECONDS)
        for model in read_config(options).model_config_list.config:
            snapshot = _snapshot(connection, model)
            desired = by_policy(model.name, policy_of(model), model.version_labels, snapshot.statuses,
                                _on_disk(model))
            yield from map(str, gaps(desired, [snapshot]))
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


def _snapshot(connection: HTTPConnection, model: config_pb2.ModelConfig) -> Snapshot:
    path = ModelRef(model.name).rest_path
    status, data = _get(connection, path)
    if status not in (200, 404):
        error = Rejected(f"HTTP status {status} for {path}", code="UNKNOWN")
        return Snapshot("REST", error=error)
    labels = {label: 0 for label in model.version_labels  # which version it is doesn't matter here
              if _get(connection, f"{ModelRef(model.name, label=label).rest_path}/metadata")[0] == 200}
    return Snapshot("REST", tuple(map(_status, data.get("model_version_status", ()))), labels)


def _status(entry: Mapping[str, Any]) -> VersionStatus:
    status = entry.get("status", {})
    code = Code.__members__.get(status.get("error_code", "OK"), Code.UNKNOWN)
    return VersionStatus(int(entry["version"]), VersionState[entry["state"]], code, status.get("error_message", ""))


def _on_disk(model: config_pb2.ModelConfig) -> frozenset[int] | None:
    """The versions that lie in its base path; None if it can't be listed."""
    try:
        return frozenset(look(Monitored(model.name, model.base_path, All())))
    except BasePathMissing:
        return None


def _get(connection: HTTPConnection, path: str) -> tuple[int, dict[str, Any]]:
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read()
    return reply.status, json.loads(body) if reply.status == 200 else {}


def main() -> int:
    """The exit code for Docker."""
    options = running()
    why = "no server runs here" if options is None else next(problems(options), "")
    if why:
        print(why)  # noqa: T201
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
