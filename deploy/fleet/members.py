"""Which servers of a spec a command is about."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from deploy.errors import SpecError
from deploy.spec import Spec


def select_servers(spec: Spec, servers: Collection[str] = (), groups: Collection[str] = ()) -> tuple[Spec, ...]:
    """The servers that are named, and those of each group that is, in the spec's order; all, if nothing is named.

    Of a spec with one server, that one. Raises SpecError for a name that no server, or no group, has.
    """
    if not servers and not groups:
        return spec.members
    if not spec.servers:
        raise SpecError(f"{spec.path.name} has one server and no `servers`, so there is nothing to choose from",
                        hint="leave --server and --group out", id="unknown-server")
    names = [member.short_name for member in spec.servers]
    known = dict.fromkeys(group for member in spec.servers for group in member.groups)
    for name in servers:
        _check(name, names, "server", known, spec)
    for group in groups:
        _check(group, known, "group", names, spec)
    return tuple(member for member in spec.servers
                 if member.short_name in servers or not set(groups).isdisjoint(member.groups))


def those_of(spec: Spec, only: Collection[str] | None) -> tuple[Spec, ...]:
    """The servers of these short names; all of them for None."""
    return tuple(member for member in spec.members if only is None or member.short_name in only)


def _check(name: str, known: Collection[str], kind: str, others: Collection[str], spec: Spec) -> None:
    """others: the names of the other kind, which people mix up with this one."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    if name in others:
        other = "group" if kind == "server" else "server"
        hint = f"it is a {other}: --{other} {name}"
    elif near:
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = f"it has {_listed(known)}" if known else f"its servers are in no {kind}s"
    raise SpecError(f"there is no {kind} {name!r} in {spec.path.name}", hint=hint, id="unknown-server")


def _listed(names: Collection[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join([*names][:most]) + more
