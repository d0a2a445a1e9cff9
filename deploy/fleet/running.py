"""roll_out, roll_back, go_on, abort, history of several servers: releases from the caller's side."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from deploy.backends import Progress
from deploy.backends.base import silent
from deploy.errors import ServerError, SpecError
from deploy.fleet.context import FleetReleased, fleet_context, held, is_about, latest_open
from deploy.fleet.driver import FleetOutcome
from deploy.fleet.members import those_of
from deploy.fleet.policy import size, waves_of
from deploy.fleet.server import ServerView
from deploy.naming import check_version
from deploy.rollout.freezing import refuse_frozen
from deploy.rollout.goals import current, model_of
from deploy.spec import Spec
from deploy.state import FleetRelease, changing, fleet_releases, ledger_of
from deploy.state.lines import Line
from deploy.state.release import entry, portable
from deploy.types import Serving

_WAVE = re.compile(r"wave(?::([1-9][0-9]{0,4}))?")


def roll_out(spec: Spec, model: str, to: int, *, pause_before: Sequence[str] = (), allow_breaking: str = "",
             despite_freeze: str = "", only: Collection[str] | None = None, note: str = "", progress: Progress = silent
             ) -> FleetReleased:
    """Replace what is served of a model by version `to` on all servers of the spec, wave after wave; or on none.

    A release to the same version that a crash or a pause left open is gone on with. pause_before: `wave` for each but
    the first, or `wave:2`. only: the short names of the servers that it is about, if not all.

    Raises LockHeld (5) if another release is open; SpecError, RepositoryError, ServerError or ClientError before
    any server is told; RolloutError (8) if it was undone, or if servers that don't answer were left behind.
    """
    check_version(to)
    refuse_frozen(spec.rollout, despite_freeze)
    with fleet_context(spec, model, "rollout", progress) as context:
        unfinished = context.open_release()
        if unfinished is not None:
            if (unfinished.model, unfinished.kind, unfinished.version) != (model, "rollout", to) or not is_about(
                    unfinished, only):
                raise held(unfinished)
            return context.go_on(unfinished)
        names = [member.short_name for member in those_of(spec, only)]
        views = context.views(names)
        served = {name: view.live for name, view in views.items() if view.live is not None}
        if len(served) == len(views) and all(
                view.own is None and current(served[name], spec.rollout.label) == to for name, view in views.items()):
            return FleetReleased(None, FleetOutcome("done"))
        _refuse_absent(spec, views)
        for name, view in views.items():
            context.servers[name].refuse_open(view.own, to)
        places = set[tuple[str, str]]()
        for name in names:
            context.servers[name].refuse_missing(to, places)
        waves = waves_of(names, spec.rollout.waves)
        release = context.begin("rollout", to, waves, _before(views), note=note or despite_freeze,
                                pauses=_pauses(pause_before, len(waves)), allow_breaking=allow_breaking,
                                some=only is not None)
        return context.drive(release)


def roll_back(spec: Spec, model: str, to: int | None = None, *, only: Collection[str] | None = None, note: str = "",
              progress: Progress = silent) -> FleetReleased:
    """Go back on all servers at once: each to what it served before the version that it serves now, or to `to`.

    An open rollout is undone, a rollback gone on with. A server that doesn't answer keeps none of the others from it.
    Raises as `roll_out`.
    """
    if to is not None:
        check_version(to)
    with fleet_context(spec, model, "rollback", progress) as context:
        unfinished = context.open_release()
        if unfinished is not None:
            if unfinished.model != model or to is not None or not is_about(unfinished, only):
                raise held(unfinished)
            return context.go_on(unfinished) if unfinished.kind == "rollback" else context.undo(
                unfinished, note or "rolled back")
        names = [member.short_name for member in those_of(spec, only)]
        views = context.views(names)
        home, unknown = context.homes(names, to)
        if len(set(home.values())) > 1:
            progress("the servers go back to different versions, each by its own history: "
                     + ", ".join(f"{name} to {version}" for name, version in home.items()))
        return context.drive(context.begin("rollback", max(home.values()), (tuple(names),), _before(views), note=note,
                                           home=home, unknown=unknown, some=only is not None))


def go_on(spec: Spec, model: str, *, approve: bool = True, only: Collection[str] | None = None,
          progress: Progress = silent) -> FleetReleased:
    """Go on with a release that is open; one that waits only if that is approved. only: the short names of the servers
    that it has to be about. Raises RolloutError if none is open, LockHeld if it is about others."""
    with fleet_context(spec, model, "rollout", progress) as context:
        return context.go_on(context.required(only), approve=approve)


def abort(spec: Spec, model: str, reason: str = "aborted", *, only: Collection[str] | None = None,
          progress: Progress = silent) -> FleetReleased:
    """Undo a release that is open, on all its servers. only: as in `go_on`. Raises as `go_on`."""
    with fleet_context(spec, model, "rollback", progress) as context:
        return context.undo(context.required(only), reason)


def history(spec: Spec, model: str | None = None) -> list[FleetRelease]:
    """All releases of the fleet, oldest first. Raises RolloutError if the ledger can't be read."""
    if model is not None:
        model_of(spec, model)
    return fleet_releases(ledger_of(spec).read(), model)


def unfinished(spec: Spec) -> FleetRelease | None:
    """The release of the fleet that is open. Raises RolloutError if the ledger can't be read."""
    return latest_open(fleet_releases(ledger_of(spec).read()))


def refuse_beside(spec: Spec, model: str, server: str, version: int | None = None) -> None:
    """Raises LockHeld if a release of the model is open that the server, by its short name, takes part in: what is
    done to it alone would be taken back by that. version: but for a release to that one."""
    release = unfinished(spec)
    if release is not None and release.model == model and release.version != version and server in release.servers:
        raise held(release)


def inherit(fleet: Spec, member: Spec) -> None:
    """Let a server that is new in the fleet start with what the others serve since the last release, not with what the
    spec says. Whoever calls is about to start it. Raises RolloutError."""
    lines = ledger_of(fleet).read()
    with changing(member, "up"):
        _inherit(lines, member)


def _inherit(lines: Sequence[Line], member: Spec) -> None:
    ledger = ledger_of(member)
    known = {line.get("model") for line in ledger.read() if line["event"] in ("known_good", "started")}
    for model in member.models:
        last = next((line for line in reversed(lines)
                     if line["event"] == "fleet_known_good" and line.get("model") == model.name), None)
        if last is not None and model.name not in known and last.get("entry") == portable(entry(model)):
            ledger.append("known_good", model=model.name, serving=last["serving"], spec=entry(model))


def _refuse_absent(spec: Spec, views: Mapping[str, ServerView]) -> None:
    """Raises ServerError if more servers aren't there than may be away: none is waited for that nobody has started."""
    absent, most = [name for name, view in views.items() if view.absent], size(
        spec.rollout.max_unavailable, len(spec.members))
    if len(absent) <= most:
        return
    why = next((view.away for view in views.values() if view.absent), "")
    names = ", ".join(absent)
    raise ServerError(f"{names} {'aren' if len(absent) > 1 else 'isn'}'t running, and rollout/max_unavailable is "
                      f"{most}: nothing was begun ({why})", hint=f"start them: tfs up --server {','.join(absent)}",
                      id="not-running", details={"absent": {name: views[name].away for name in absent}})


def _before(views: Mapping[str, ServerView]) -> dict[str, Serving]:
    return {name: view.before for name, view in views.items() if view.before is not None}


def _pauses(before: Collection[str], waves: int) -> frozenset[int]:
    pauses = set[int]()
    for text in before:
        match = _WAVE.fullmatch(text)
        if match is None:
            raise SpecError(f"several servers can't pause before {text!r}",
                            hint="pause before `wave` (each but the first), or before one, `wave:2`", id="wrong-value")
        if match[1] and not 1 <= int(match[1]) <= waves:
            raise SpecError(f"there is no wave {match[1]}: there are {waves}",
                            hint="see rollout/waves in the spec", id="wrong-value")
        if not match[1] and waves == 1:
            raise SpecError("there is one wave, and none before which it could wait",
                            hint="let rollout/waves have more than one, or wait before it begins: wave:1",
                            id="wrong-value")
        pauses |= {int(match[1])} if match[1] else set(range(2, waves + 1))
    return frozenset(pauses)
