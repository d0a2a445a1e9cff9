"""serving.yaml's part `servers`: the same models on several servers. Each entry makes a Spec of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, Any

from msgspec import Meta

from deploy.addresses import same_place
from deploy.errors import SpecError
from deploy.naming import check_name
from deploy.spec.base import Struct
from deploy.spec.server import ServerPart
from deploy.types import bracketed

MOST = 10_000  # servers of one spec


class ServerEntry(Struct, frozen=True):
    """One server of several: what is different from the parts at the top."""

    name: Annotated[str, Meta(description="the server's name among the servers of this file")]
    groups: Annotated[list[str], Meta(description="names by which several servers are chosen, e.g. a region")] = []
    server: Annotated[dict[str, Any], Meta(
        description="what differs from `server` at the top; mappings are merged",
        extra_json_schema={"$ref": "#/$defs/ServerPart"})] = {}
    repository: Annotated[str | None, Meta(description="another repository than at the top")] = None
    mirror: Annotated[str | None, Meta(description="another mirror than at the top")] = None


def merged(data: Mapping[str, Any], entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The file as it would be written for this server alone."""
    alone = {key: value for key, value in data.items() if key != "servers"}
    alone |= {key: entry[key] for key in ("repository", "mirror") if entry.get(key) is not None}
    if entry.get("server"):
        alone["server"] = _over(data.get("server") or {}, entry["server"])
    return {**alone, "name": name}


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return {**below, **{key: _over(below[key], value) if isinstance(value, Mapping) and isinstance(
        below.get(key), Mapping) else value for key, value in above.items()}}


def check_entries(entries: Sequence[ServerEntry]) -> None:
    """Raises SpecError for names that can't be, or stand twice; for none at all, and for too many."""
    if not entries:
        raise SpecError("the list is empty: no server is named", path="servers",
                        hint="list at least one (- name: a), or leave `servers` out", id="no-server-named")
    if len(entries) > MOST:
        raise SpecError(f"expected at most {MOST:,} servers, got {len(entries):,}", path="servers",
                        hint="divide them into several files", id="wrong-value")
    first: dict[str, int] = {}
    for i, entry in enumerate(entries):
        for path, text, kind in ((f"servers/{i}/name", entry.name, "server name"),
                                 *((f"servers/{i}/groups/{j}", g, "group") for j, g in enumerate(entry.groups))):
            with rebased(path):
                check_name(text, kind)
        if entry.name in first:
            raise SpecError(f"server {entry.name!r} stands here and at servers/{first[entry.name]}",
                            path=f"servers/{i}/name", hint="name each server once", id="duplicate-key")
        first[entry.name] = i


def check_addresses(servers: Sequence[ServerPart]) -> None:
    """Raises SpecError for two servers at one address, however each of them writes it."""
    owners: dict[str, tuple[int, str]] = {}
    for i, server in enumerate(servers):
        for address, place in _addresses(server):
            other, written = owners.setdefault(place, (i, address))
            if other != i:
                seen = "" if written == address else f" (as {written})"
                raise SpecError(f"{address} is the address of servers/{other}, too{seen}", path=f"servers/{i}/server",
                                hint="one server stands twice here, or needs ports of its own", id="same-port")


def check_waves(waves: Sequence[int | str]) -> None:
    """Raises SpecError for waves of which one ends before the one before it. How 2 and 25% compare, the number of
    servers decides."""
    for i, (before, share) in enumerate(pairwise(waves), 1):
        if before == "100%" or (type(before) is type(share) and _number(share) <= _number(before)):
            raise SpecError(f"expected more than {before}, which have changed after the wave before, got {share}",
                            path=f"rollout/waves/{i}", hint="each says how many servers have changed after it, of all: "
                            "[1, 25%, 100%]", id="wrong-value")


def _number(share: int | str) -> int:
    return int(str(share).rstrip("%"))


def _addresses(server: ServerPart) -> Iterator[tuple[str, str]]:
    """Those that only one server can have, as they are written and to be compared: host:port of both ports, unless a
    free one is taken."""
    if server.remote is not None:
        yield from ((text, same_place(text)) for text in (server.remote.grpc, server.remote.rest) if text)
        return
    if server.kubernetes is not None:  # a service has an address of its own
        return
    engine = f" of the engine {server.docker}" if server.docker and not server.docker.startswith("unix:") else ""
    for port in (server.grpc_port, server.rest_port):
        if port:
            text = f"{bracketed(server.host)}:{port}"
            yield f"{text}{engine}", f"{same_place(text)}{engine}"


def check_alone(name: str, servers: Sequence[object]) -> None:
    """Raises SpecError for the spec of several servers, where one is meant."""
    if servers:
        raise SpecError(f"{name} names {len(servers)} servers, and this is about one", path="servers",
                        hint="name it: --server NAME; from Python, take one of spec.members, or deploy.fleet for all",
                        id="several-servers")


@contextmanager
def rebased(path: str, within: tuple[str, ...] = ()) -> Iterator[None]:
    """Errors inside that name no path, or one that begins with a word of `within`, get this path before it."""
    try:
        yield
    except SpecError as error:
        inside = not error.path or error.path.partition("/")[0] in within
        at = f"{path}/{error.path}".rstrip("/") if inside else error.path
        raise SpecError(error.message.removeprefix(f"{error.path}: "), path=at, hint=error.hint, id=error.id,
                        details=error.details) from None
