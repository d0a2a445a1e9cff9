"""tfs rollout, rollback, history: change what is served."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.fleet_rollouts import (
    adjusted,
    event_stream,
    fleet_plan,
    one_or_several,
    plan_text,
    refuse_while_all_are_released,
    release_verbs,
    tell_event,
)
from deploy.cli.fleets import on_each, several, tell_each
from deploy.cli.options import (
    ChosenServers,
    command,
    load_spec,
    load_spec_or_last,
    of_servers,
    spec_option,
    steps,
    tell,
)
from deploy.cli.replacing import ReplacementRequest, refuse_options, replace_pods_of

if TYPE_CHECKING:
    from deploy.backends import Progress
    from deploy.fleet import FleetReleased
    from deploy.rollout import Released, RolloutPlan
    from deploy.spec import Spec

_ROLLOUT = """tfs rollout digits --to 4 --plan
tfs rollout digits --to 4
tfs rollout digits --to 4 --pause-before promote
tfs rollout digits --continue
tfs rollout --replace-pods --plan"""


def register(app: click.Group) -> None:
    _rollout(app)
    _rollback(app)
    _repair(app)


def _rollout(app: click.Group) -> None:
    @command(app, "rollout", example=_ROLLOUT)
    @click.argument("model", required=False, default="")
    @spec_option
    @of_servers
    @click.option("--to", help="The version to serve.")
    @click.option("--replace-pods", is_flag=True, help="No version: let pods be as the spec says (image, flags, "
                  "resources), by new ones that are tested before old ones go.")
    @click.option("--force-conflicts", is_flag=True, help="With --replace-pods: take fields over that another field "
                  "manager owns.")
    @click.option("--plan", "plan_only", is_flag=True, help="Print what would be done, and what forbids it.")
    @click.option("--resume", is_flag=True, help="Only go on with what a crash left; begin nothing.")
    @click.option("--continue", "go_on", is_flag=True, help="Let a release that waits go on.")
    @click.option("--abort", is_flag=True, help="Undo a release that waits, or that a crash left.")
    @click.option("--pause-before", multiple=True, metavar="STEP",
                  help="Wait for --continue before load, canary, gate, compare, soak, promote, hold or unload; of "
                       "several servers before each `wave` but the first, or before one: wave:2. Repeatable.")
    @click.option("--allow-breaking", metavar="REASON", default="", help="Let a broken contract pass, and say why.")
    @click.option("--canary/--no-canary", default=None, help="Overrides the spec's rollout/canary.")
    @click.option("--compare/--no-compare", default=None, help="Overrides rollout/compare.")
    @click.option("--soak", type=click.FloatRange(0), help="Overrides rollout/soak, seconds.")
    @click.option("--hold", type=click.FloatRange(0), help="Overrides rollout/hold, seconds.")
    @click.option("--despite-freeze", metavar="REASON", default="", help="Begin within a freeze window, and say why.")
    @click.option("--events", is_flag=True, help="Print each event as a line of JSON, once it is written down.")
    @click.option("--note", default="", help="Why, for the history.")
    def rollout(model: str, spec_path: Path, chosen: ChosenServers, to: str | None, plan_only: bool, resume: bool,
                go_on: bool, abort: bool, pause_before: tuple[str, ...], allow_breaking: str, canary: bool | None,
                compare: bool | None, soak: float | None, hold: float | None, despite_freeze: str, events: bool,
                note: str, replace_pods: bool, force_conflicts: bool, as_json: bool) -> None:
        """Replace the version that is served.

        The new version loads beside the old one, gets the label `canary`, is smoke-tested and compared, and watched;
        then the label `stable` moves. The old one stays loaded for a while. If anything isn't right, traffic stays
        where it is, what was loaded is unloaded, and the exit code is 8.

        Of several servers, wave after wave, as rollout/waves says: the next one begins once each server of the one
        before serves what is wanted. If one fails, all go back.

        With --replace-pods (Kubernetes) it is the pods that are replaced, by the same rules: the first new one is
        tested beside the old ones, and held there for rollout/soak, before the others follow.
        """
        from deploy import rollout
        from deploy.naming import check_version

        if replace_pods or force_conflicts:
            refuse_options(model or to, pause_before, allow_breaking, canary, resume, events, replace_pods=replace_pods)
            asked = adjusted(load_spec(spec_path), compare=compare, soak=soak, hold=hold)
            with _stop_signal():
                replace_pods_of(asked, chosen, ReplacementRequest(plan_only, abort, force_conflicts, note,
                                                                  despite_freeze), as_json)
            return
        if not model:
            raise click.UsageError("say which model, and which version: tfs rollout MODEL --to N")
        load = load_spec_or_last if abort else load_spec
        spec, only = one_or_several(load(spec_path), chosen)
        spec = adjusted(spec, canary=canary, compare=compare, soak=soak, hold=hold)
        if sum((go_on, abort, resume and to is None)) > 1 or ((go_on or abort) and to):
            raise click.UsageError("give one of --to, --continue, --abort")
        if not to and (pause_before or allow_breaking or (canary, compare, soak, hold) != (None,) * 4):
            raise click.UsageError("--pause-before, --allow-breaking, --canary, --compare, --soak and --hold go with "
                                   "--to: a release that is open keeps what it began with")
        if not (to or go_on or abort or resume):
            raise click.UsageError("say which version: --to N")
        if plan_only and not (go_on or abort or resume):
            if spec.servers:
                _tell_fleet_plan(spec, model, check_version(to), only, allow_breaking, as_json)
                return
            with steps(f"plan of {model}", quiet=as_json) as progress:
                plan = rollout.plan_rollout(spec, model, check_version(to), pause_before=pause_before,
                                            allow_breaking=allow_breaking, progress=progress)
            _tell_plan(plan, as_json)
            return
        verbs = release_verbs(spec, only, planned=_announce(quiet=as_json or events))
        with steps(f"rollout of {model}", quiet=as_json or events) as progress, _stop_signal(), event_stream(
                wanted=events):
            refuse_while_all_are_released(spec_path, spec, model, check_version(to) if to else None)
            if abort:
                done = verbs.abort(spec, model, note or "aborted", progress=progress)
            elif go_on or resume:
                done = verbs.go_on(spec, model, approve=go_on, progress=progress)
            else:
                done = verbs.roll_out(spec, model, check_version(to), pause_before=pause_before, note=note,
                                      allow_breaking=allow_breaking, despite_freeze=despite_freeze, progress=progress)
        _tell_done(done, as_json=as_json, events=events)


@contextmanager
def _stop_signal() -> Iterator[None]:
    """SIGTERM, as from a CI job that is cancelled, ends a rollout as Ctrl-C does: it goes back, and says so."""
    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _rollback(app: click.Group) -> None:
    @command(app, "rollback", example="tfs rollback digits\ntfs rollback digits --to 2")
    @click.argument("model")
    @spec_option
    @of_servers
    @click.option("--to", help="The version to go back to.  [default: what was served before the one of now]")
    @click.option("--plan", "plan_only", is_flag=True, help="Print what would be done; stop there.")
    @click.option("--events", is_flag=True, help="Print each event as a line of JSON, once it is written down.")
    @click.option("--note", default="", help="Why, for the history.")
    def rollback(model: str, spec_path: Path, chosen: ChosenServers, to: str | None, plan_only: bool, events: bool,
                 note: str, as_json: bool) -> None:
        """Go back to the version before.

        The label moves first, then the bad version is unloaded, so that unlabelled requests return as well. At once
        while the old version is still loaded, else it is loaded and smoke-tested first. An open rollout is undone. All
        servers of a spec go back at the same time.
        """
        from deploy import rollout
        from deploy.naming import check_version

        spec, only = one_or_several(load_spec(spec_path), chosen)
        version = None if to is None else check_version(to)
        if plan_only:
            if spec.servers:
                raise click.UsageError("--plan of a rollback is for one server: name it with --server")
            with steps(f"plan of {model}", quiet=as_json) as progress:
                plan = rollout.plan_rollback(spec, model, version, progress=progress)
            _tell_plan(plan, as_json)
            return
        verbs = release_verbs(spec, only, planned=_announce(quiet=as_json or events))
        with steps(f"rollback of {model}", quiet=as_json or events) as progress, _stop_signal(), event_stream(
                wanted=events):
            refuse_while_all_are_released(spec_path, spec, model)
            done = verbs.roll_back(spec, model, version, note=note, progress=progress)
        _tell_done(done, as_json=as_json, events=events)


def _repair(app: click.Group) -> None:
    @command(app, "repair", example="tfs repair")
    @spec_option
    @of_servers
    def repair(spec_path: Path, chosen: ChosenServers, as_json: bool) -> None:
        """Bring a live server back to what is known to be good.

        Undoes what others have pushed, without a restart; even a wrong platform, after which the server refuses correct
        configurations.
        """
        from deploy import rollout

        spec = load_spec(spec_path)
        if servers := several(spec, chosen):
            _repair_each(spec, servers, as_json)
            return
        with steps(f"repairing {spec.name}", quiet=as_json) as progress:
            rollout.repair(spec, progress=progress)
        tell({"name": spec.name, "repaired": True}, as_json, lambda: f"{spec.name} serves what is known to be good")


def _repair_each(spec: Spec, servers: Sequence[Spec], as_json: bool) -> None:
    from deploy import rollout
    from deploy.cli.fleet_views import REPAIRED

    def repaired(one: Spec, progress: Progress) -> bool:
        rollout.repair(one, progress=progress)
        return True

    tell_each(spec, on_each(servers, repaired, quiet=as_json, changing=True), REPAIRED, as_json)


def _tell_fleet_plan(spec: Spec, model: str, version: int, only: Collection[str] | None, allow_breaking: str,
                     as_json: bool) -> None:
    plan = fleet_plan(spec, model, version, only, allow_breaking=allow_breaking, quiet=as_json)
    tell(plan, as_json, lambda: plan_text(plan))
    problems = [problem for server in plan["servers"].values() for problem in server["problems"]]
    if problems:
        raise click.exceptions.Exit(max(problem["exit_code"] for problem in problems))


def _tell_done(done: Released | FleetReleased, *, as_json: bool, events: bool) -> None:
    if events:
        tell_event({"event": "result", **done.to_json()})
        return
    tell(done.to_json(), as_json, done.text)


def _announce(*, quiet: bool) -> Callable[[RolloutPlan], None]:
    def announce(plan: RolloutPlan) -> None:
        if not quiet:
            click.echo(plan.text())

    return announce


def _tell_plan(plan: RolloutPlan, as_json: bool) -> None:
    tell(plan.to_json(), as_json, plan.text)
    if not plan.ok:
        raise click.exceptions.Exit(plan.findings.problems[0].exit_code)
