"""tfs history: what was changed, when, by whom, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from deploy.cli.fleet_rollouts import one_or_several, tell_fleet_history
from deploy.cli.options import (
    ChosenServers,
    command,
    load_spec,
    of_servers,
    repository_option,
    spec_option,
    table,
    tell,
)
from deploy.cli.signing import receipts_table
from deploy.cli.targets import repository_at

if TYPE_CHECKING:
    from deploy.repository import Repository
    from deploy.signing import Receipt
    from deploy.spec import Spec
    from deploy.state import Release
    from deploy.state.replacement import PodReplacementEntry


def register(app: click.Group) -> None:
    @command(app, "history", example="tfs history\ntfs history digits --json\ntfs history digits/4\n"
                                     "tfs history digits/4 -r s3://bucket/models")
    @click.argument("model", required=False, metavar="[MODEL[/VERSION]]")
    @spec_option
    @repository_option
    @of_servers
    @click.pass_context
    def history(context: click.Context, model: str | None, spec_path: Path, repository: Path | str,
                chosen: ChosenServers, as_json: bool) -> None:
        """List the releases: what, when, by whom, how it ended.

        Those of pods (rollout --replace-pods) are among them. Of MODEL/VERSION: what was done to that version,
        wherever it was served, as its receipts say, which lie beside it: in the spec's repository, or in that of
        --repository, without a spec. Of several servers: the releases of all of them; with --server what was done on
        one.
        """
        from deploy import rollout
        from deploy.state import ledger_of
        from deploy.state.replacement import replacements

        of_version = model is not None and "/" in model
        given = {name for name in ("repository", "spec_path")
                 if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        if "repository" in given and not of_version:
            raise click.UsageError("--repository is for MODEL/VERSION; releases are in the ledger of the spec's server")
        if "repository" in given or (of_version and not given and not spec_path.exists()):
            _tell_receipts(receipts_in(repository_at(repository), str(model)), str(model), as_json)
            return
        spec, only = one_or_several(load_spec(spec_path), chosen)
        if model is not None and of_version:
            _tell_receipts(_receipts(spec, model), model, as_json)
            return
        if spec.servers:
            tell_fleet_history(spec, model, only, as_json)
            return
        releases = rollout.history(spec, model)
        replaced = [] if model else replacements(ledger_of(spec).read())
        both: list[Release | PodReplacementEntry] = sorted([*releases, *replaced], key=lambda one: one.began)
        tell([one.to_json() for one in both], as_json, lambda: _table(both))


def _tell_receipts(receipts: Sequence[Receipt], of: str, as_json: bool) -> None:
    tell([r.to_json() for r in receipts], as_json,
         lambda: receipts_table(receipts) if receipts else f"no receipts of {of} yet")


def _receipts(spec: Spec, text: str) -> list[Receipt]:
    """Of a version: where the spec's model has it, or else in the spec's repository. Raises as `receipts_in`."""
    from deploy.repository import Repository, versions_of
    from deploy.types import ModelRef

    ref = ModelRef.parse(text)
    served = next((versions_of(model) for model in spec.models if model.name == ref.name), None)
    repository, name = (served.repository, served.name) if served else (Repository(spec.repository), ref.name)
    if spec.remote is not None and (served is None or repository.root == spec.repository):
        repository = Repository(spec.remote)
    return receipts_in(repository, text, name)


def receipts_in(repository: Repository, text: str, name: str = "") -> list[Receipt]:
    """Of MODEL/VERSION, as the repository has it. name: what the model is called there, if not so. Raises
    VersionNotFound if there are none, and no such version either."""
    from deploy.signing import receipts_of
    from deploy.types import ModelRef, ModelVersion

    ref = ModelRef.parse(text)
    assert ref.version is not None, "there is a slash"
    mv = ModelVersion(name or ref.name, ref.version)
    receipts = receipts_of(repository, mv)
    if not receipts:
        repository.name(mv)
    return receipts


def _table(history: Sequence[Release | PodReplacementEntry]) -> object:
    from deploy.state.replacement import PodReplacementEntry

    if not history:
        return "no releases yet"
    shown = table("", "release", "what", "from", "to", "began", ">seconds", "by", "outcome")
    for r in history:
        if isinstance(r, PodReplacementEntry):
            shown.add_row(r.id, "replacement of pods", "", "; ".join(r.replacing), r.began[:19].replace("T", " "),
                          "-" if r.seconds is None else f"{r.seconds:.1f}", r.by,
                          f"{r.outcome}: {r.reason}" if r.reason else r.outcome)
            continue
        outcome = f"waits before {r.paused}" if r.paused else r.outcome
        shown.add_row(r.id, f"{r.kind} of {r.model}", str(r.before), str(r.goal), r.began[:19].replace("T", " "),
                      "-" if r.seconds is None else f"{r.seconds:.1f}", str(r.by.get("by", "unknown")),
                      f"{outcome}: {r.reason or r.undoing}" if r.reason or r.undoing else outcome)
    note = next((r.lost_on_restart for r in reversed(history) if not isinstance(r, PodReplacementEntry)), "")
    if not note:
        return shown
    from rich.console import Group

    return Group(shown, "", f"note: {note}")
