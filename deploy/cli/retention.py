"""tfs prune: versions that nobody needs any more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import command, load_spec_or_last, repository_option, steps, table, tell

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.repository import Repository
    from deploy.serving import PrunePlan
    from deploy.spec import Spec

_DEFAULT_SPEC = Path("serving.yaml")
_EXAMPLE = """tfs prune --keep 3 --days 30
tfs prune digits --keep 3 --yes
tfs prune -r s3://bucket/models --spec eu/serving.yaml --spec us/serving.yaml --server 10.0.0.7:8500 --yes
tfs prune --restore digits/4"""


def register(app: click.Group) -> None:
    @command(app, "prune", example=_EXAMPLE)
    @click.argument("models", nargs=-1, metavar="[MODEL]...")
    @repository_option
    @click.option("--keep", type=click.IntRange(1), default=3, show_default=True, metavar="N",
                  help="The newest N versions of each model stay.")
    @click.option("--days", type=click.FloatRange(0), default=0.0, metavar="D",
                  help="Versions of the last D days stay, too.")
    @click.option("--spec", "specs", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
                  help="A serving.yaml whose server reads there. Repeatable.  [default: serving.yaml if it is here]")
    @click.option("--server", "servers", multiple=True, metavar="HOST:PORT",
                  help="The gRPC address of another server that reads from there. Repeatable.")
    @click.option("--unserved", is_flag=True, help="No server reads from there.")
    @click.option("--quarantine", type=click.FloatRange(0), metavar="D",
                  help="Days for which what was removed can be brought back.  [default: 7; 0 in a directory]")
    @click.option("--yes", is_flag=True, help="Do it.")
    @click.option("--restore", metavar="MODEL/VERSION", help="Bring back what was removed.")
    def prune(models: tuple[str, ...], repository: Path | str, keep: int, days: float, specs: tuple[Path, ...],
              servers: tuple[str, ...], unserved: bool, quarantine: float | None, yes: bool, restore: str | None,
              as_json: bool) -> None:
        """Remove versions that are old and that nothing uses.

        What stays, and why: the newest, those of the last days, and whatever a spec, a ledger, a config file, a label
        or a server refers to; a server that doesn't answer counts as using all of its model. Without --yes it is said
        and nothing is done. What was removed is seen by nobody and comes back with --restore until the quarantine is
        over; then the next run deletes it.
        """
        from deploy import serving
        from deploy.repository import Repository

        repo = Repository(repository)
        if restore:
            _restore(repo, restore, as_json)
            return
        loaded = _specs(specs)
        if not unserved:
            serving.check_proof(repo, loaded, servers)
        rule = serving.RetentionRule(keep, days, _quarantine(quarantine, local=repo.local))
        do = serving.prune if yes else serving.plan_prune
        with steps("pruning", quiet=as_json) as progress:
            plan = do(repo, loaded, rule, models=models, servers=servers, progress=progress)
        tell({**plan.to_json(), "done": yes, "quarantine_days": rule.quarantine}, as_json, lambda: _table(plan, yes))
        if not as_json:
            click.echo(_sentence(plan, yes, rule.quarantine))


def _quarantine(days: float | None, *, local: bool) -> float:
    if days is None:
        return 0.0 if local else 7.0
    return days


def _specs(paths: tuple[Path, ...]) -> list[Spec]:
    if not paths and _DEFAULT_SPEC.exists():
        paths = (_DEFAULT_SPEC,)
    return [server for path in paths for server in load_spec_or_last(path).members]


def _restore(repo: Repository, text: str, as_json: bool) -> None:
    from deploy.errors import SpecError
    from deploy.types import ModelRef, ModelVersion

    ref = ModelRef.parse(text)
    if ref.version is None:
        raise SpecError(f"--restore {text}: expected MODEL/VERSION")
    mv = ModelVersion(ref.name, ref.version)
    repo.restore(mv)
    tell({"restored": str(mv)}, as_json, lambda: f"{mv} is in {repo.store} again")


def _table(plan: PrunePlan, done: bool) -> Table:
    shown = table("", "version", ">MB", "created", "removed" if done else "to remove", "why it stays")
    for fate in plan.versions:
        shown.add_row(str(fate.mv), f"{fate.size / 1e6:,.1f}", fate.created[:10], "yes" if fate.goes else "",
                      fate.summary)
    return shown


def _sentence(plan: PrunePlan, done: bool, quarantine: float) -> str:
    going, size = len(plan.going), f"{plan.size / 1e6:,.1f} MB"
    if not going and not plan.delete:
        return "nothing to remove"
    deleted = f"; deleted for good: {', '.join(map(str, plan.delete))}" if plan.delete else ""
    if not done:
        return f"{going} of {len(plan.versions)} would go, {size}{deleted.replace('deleted', 'to be deleted')}: --yes"
    back = f"; --restore brings one back for {quarantine:g} days" if quarantine and going else ""
    return f"removed {going} of {len(plan.versions)}, {size}{back}{deleted}"
