"""tfs rollout, rollback, history of a spec with several servers; the events of a release as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from deploy.cli.options import ChosenServers, steps, table, tell

if TYPE_CHECKING:
    from deploy.fleet import FleetReleased
    from deploy.rollout import Released, RolloutPlan
    from deploy.spec import Spec
    from deploy.state import FleetRelease


class ReleaseVerbs(Protocol):
    """roll_out, roll_back, go_on, abort: of one server (deploy.rollout), or of several (deploy.fleet)."""

    roll_out: Callable[..., Released | FleetReleased]
    roll_back: Callable[..., Released | FleetReleased]
    go_on: Callable[..., Released | FleetReleased]
    abort: Callable[..., Released | FleetReleased]


def one_or_several(spec: Spec, chosen: ChosenServers) -> tuple[Spec, tuple[str, ...] | None]:
    """The spec of the one server that a release is about, or that of all; and the names of those, if not all."""
    if not any(chosen):
        return spec, None
    from deploy.fleet import select_servers

    servers = select_servers(spec, *chosen)
    return (servers[0], None) if len(servers) == 1 else (spec, tuple(server.short_name for server in servers))


def refuse_while_all_are_released(path: Path, spec: Spec, model: str, version: int | None = None) -> None:
    """Raises LockHeld if the spec is that of one server of the file, which takes part in a release of several that is
    open, to another version than this."""
    from deploy import fleet
    from deploy.spec import load_spec

    if spec.fleet:
        fleet.refuse_beside(load_spec(path), model, spec.short_name, version)


def adjusted(spec: Spec, **changes: Any) -> Spec:
    """As rollout.adjusted, of each server."""
    import msgspec

    from deploy import rollout

    return msgspec.structs.replace(rollout.adjusted(spec, **changes), servers=tuple(
        rollout.adjusted(server, **changes) for server in spec.servers))


def release_verbs(spec: Spec, only: Collection[str] | None, planned: Callable[[RolloutPlan], None]) -> ReleaseVerbs:
    """Those for the spec. planned: gets the plan of a release of one server."""
    from types import SimpleNamespace

    from deploy import fleet, rollout

    if spec.servers:
        return SimpleNamespace(roll_out=partial(fleet.roll_out, only=only), roll_back=partial(
            fleet.roll_back, only=only), go_on=partial(fleet.go_on, only=only), abort=partial(fleet.abort, only=only))
    return SimpleNamespace(roll_out=partial(rollout.roll_out, planned=planned), roll_back=partial(
        rollout.roll_back, planned=planned), go_on=rollout.go_on, abort=rollout.abort)


@contextmanager
def event_stream(*, wanted: bool) -> Iterator[None]:
    """Print each line of a ledger as JSON on a line of its own, once it is written; at the end what it ended with."""
    if not wanted:
        yield
        return
    from deploy.errors import DeployError
    from deploy.state.ledger import listening

    try:
        with listening(tell_event):
            yield
    except DeployError as error:
        tell_event({"event": "error", **error.to_json()})
        raise


def tell_event(line: Mapping[str, Any]) -> None:
    click.echo(json.dumps(line, default=str))


def fleet_plan(spec: Spec, model: str, version: int, only: Collection[str] | None, *, allow_breaking: str, quiet: bool
               ) -> dict[str, Any]:
    """Each server's plan, and the waves, as JSON data."""
    from deploy import fleet, rollout
    from deploy.errors import DeployError

    def plan(one: Spec, progress: Any) -> dict[str, Any]:
        return rollout.plan_rollout(one, model, version, allow_breaking=allow_breaking, progress=progress).to_json()

    with steps(f"plan of {model}", quiet=quiet) as progress:
        members = fleet.those_of(spec, only)
        results = fleet.everywhere(members, plan, progress=progress, at_once=8)
    servers: dict[str, Any] = {}
    for result in results:
        if result.error is not None and not isinstance(result.error, DeployError):
            raise result.error
        servers[result.server] = result.value or {"ok": False, "problems": [
            result.error.to_json() if result.error is not None else {"message": "interrupted", "exit_code": 130}]}
    names = [member.short_name for member in members]
    return {"model": model, "version": version, "waves": [list(w) for w in fleet.waves_of(names, spec.rollout.waves)],
            "max_unavailable": fleet.size(spec.rollout.max_unavailable, len(names)),
            "ok": all(server["ok"] for server in servers.values()), "servers": servers}


def plan_text(plan: Mapping[str, Any]) -> str:
    """For people."""
    lines = [f"rollout of {plan['model']} to version {plan['version']} on {len(plan['servers'])} servers, at most "
             f"{plan['max_unavailable']} changing at once"]
    lines += [f"  wave {number}: {', '.join(wave)}" for number, wave in enumerate(plan["waves"], 1)]
    for name, server in plan["servers"].items():
        lines += [f"  {name}: note: {note}" for note in server.get("notes", ())]
        lines += [f"  {name}: problem: {problem['message']}" for problem in server["problems"]]
    return "\n".join(lines)


def tell_fleet_history(spec: Spec, model: str | None, only: Collection[str] | None, as_json: bool) -> None:
    """The releases of all servers, or those that these took part in."""
    from deploy import fleet

    releases = [release for release in fleet.history(spec, model)
                if only is None or any(name in wave for wave in release.waves for name in only)]
    tell([release.to_json() for release in releases], as_json, lambda: _history(releases))


def _history(releases: Sequence[FleetRelease]) -> object:
    if not releases:
        return "no releases of all servers yet; of one: tfs history --server NAME"
    shown = table("", "release", "what", "servers", "began", "by", "outcome")
    for r in releases:
        state = f"waits before wave {r.paused}" if r.paused else r.outcome
        reason = r.reason or r.undoing
        missing = f"; missing: {', '.join(r.missing)}" if r.missing else ""
        versions = sorted(set(r.home.values())) if r.kind == "rollback" else [r.version]
        target = f"to {', '.join(map(str, versions))}"
        shown.add_row(r.id, f"{r.kind} of {r.model} {target}", " | ".join(str(len(wave)) for wave in r.waves),
                      r.began[:19].replace("T", " "), str(r.by.get("by", "unknown")),
                      f"{state}: {reason}{missing}" if reason else f"{state}{missing}")
    return shown
