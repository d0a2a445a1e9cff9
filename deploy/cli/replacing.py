"""tfs rollout --replace-pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from deploy.cli.fleets import several
from deploy.cli.options import ChosenServers, steps, tell

if TYPE_CHECKING:
    from deploy.backends import ServerChange
    from deploy.rollout import Replaced
    from deploy.spec import Spec


@dataclass(frozen=True, slots=True)
class ReplacementRequest:
    """How a replacement was asked for."""

    plan_only: bool
    abort: bool
    force: bool
    note: str
    despite_freeze: str


def refuse_options(*versions: object, replace_pods: bool) -> None:
    """Raises UsageError for options that go with a version. versions: what was given of those."""
    if not replace_pods:
        raise click.UsageError("--force-conflicts goes with --replace-pods")
    if any(versions):
        raise click.UsageError("versions and pods aren't replaced at once: MODEL, --to, --pause-before, "
                               "--allow-breaking, --canary, --resume and --events don't go with --replace-pods")


def replace_pods_of(spec: Spec, chosen: ChosenServers, asked: ReplacementRequest, as_json: bool) -> None:
    """Of one server, or of several, one after the other: the first that goes back ends it."""
    servers = several(spec, chosen)
    if asked.plan_only:
        plans = {one.short_name: _plan(one, asked, as_json) for one in servers or (spec,)}
        tell({name: plan.to_json() for name, plan in plans.items()} if servers else plans[spec.short_name].to_json(),
             as_json, lambda: "\n".join(_text(plan, f"{name}: " if servers else "") for name, plan in plans.items()))
        return
    done = {one.short_name: _replace(one, asked, as_json) for one in servers or (spec,)}
    tell({name: each.to_json() for name, each in done.items()} if servers else done[spec.short_name].to_json(), as_json,
         lambda: "\n".join(each.text() for each in done.values()))


def _plan(spec: Spec, asked: ReplacementRequest, as_json: bool) -> ServerChange:
    from deploy import rollout

    with steps(f"plan of {spec.name}", quiet=as_json) as progress:
        return rollout.plan_replacement(spec, force=asked.force, progress=progress)


def _replace(spec: Spec, asked: ReplacementRequest, as_json: bool) -> Replaced:
    from deploy import rollout

    with steps(f"pods of {spec.name}", quiet=as_json) as progress:
        if asked.abort:
            return rollout.abort_replacement(spec, asked.note or "aborted", progress=progress)
        return rollout.replace_replicas(spec, force=asked.force, note=asked.note, despite_freeze=asked.despite_freeze,
                                        planned=None if as_json else lambda change: click.echo(_text(change)),
                                        progress=progress)


def _text(change: ServerChange, of: str = "") -> str:
    """For people."""
    if not change.at_once and not change.replacing:
        return f"{of}nothing differs from the spec"
    lines = [f"{of}pods are replaced for: {line}" for line in change.replacing]
    return "\n".join([*lines, *(f"{of}{'afterwards' if lines else 'at once'}: {line}" for line in change.at_once)])
