"""tfs diff: may one version take the place of another?"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.checks import gate, gated
from deploy.cli.escaping import line
from deploy.cli.options import command, repository_option, table, tell
from deploy.cli.targets import connected, place, repository_at, server_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.client import Client
    from deploy.regression import ComparedVersion, Comparison
    from deploy.regression.comparing import Ask

_EXAMPLE = """tfs diff digits/3 digits/4
tfs diff digits build/saved_model --allow-review
tfs diff live:digits@stable digits/4 --grpc 10.0.0.5:8500"""
_LIVE = "live:"
_STYLES = {"compatible": "green", "review required": "yellow", "breaking": "bold red"}


def register(app: click.Group) -> None:
    @command(app, "diff", example=_EXAMPLE)
    @click.argument("before")
    @click.argument("after")
    @server_options
    @repository_option
    @click.option("--answers/--no-answers", default=None,
                  help="Run the models, or don't.  [default: those that this toolkit has published]")
    @gated
    @click.option("--allow-review", "--allow-care", "allow_review", is_flag=True,
                  help="Exit code 0 also where a review is required.")
    def diff(before: str, after: str, rest_url: str | None, grpc_target: str | None, repository: Path | str,
             answers: bool | None, allow_review: bool, allowances: tuple[str, ...], spec_path: Path | None,
             as_json: bool) -> None:
        """Tell whether AFTER can take the place of BEFORE.

        Each is MODEL (its newest version), MODEL/VERSION, a SavedModel directory, or live:MODEL[/VERSION|@LABEL], which
        is what the server at --rest-url or --grpc serves. Signatures, graph and assets are compared, and the golden
        answers of BEFORE are asked of AFTER.

        To be asked, a model is run: only if `tfs check` lets it pass, and in a process without network, secrets and
        write access, as far as the system can do that. What isn't a published version is run with --answers only.

        Exit code 0: compatible. 10: review required. 3: breaking.
        """
        from deploy import regression

        with ExitStack() as opened:
            client = opened.enter_context(connected(rest_url, grpc_target)) if rest_url or grpc_target else None
            sides = [_side(text, client, repository, answers, (spec_path, allowances)) for text in (before, after)]
            compared = regression.compare(*sides, answers=answers is not False)
        tell(compared.to_json(), as_json, lambda: _shown(compared))
        if not as_json:
            compared.raise_for(review=not allow_review)
        elif compared.level and not (allow_review and compared.level == 1):
            raise click.exceptions.Exit(_exit_code(compared))


def _exit_code(compared: Comparison) -> int:
    from deploy.errors import BreakingChange, ReviewRequired

    return BreakingChange.exit_code if compared.verdict.breaking else ReviewRequired.exit_code


def _side(text: str, client: Client | None, repository: Path | str, answers: bool | None,
          given: tuple[Path | None, tuple[str, ...]]) -> ComparedVersion:
    from deploy.regression import ComparedVersion

    if text.startswith(_LIVE):
        return _live(text.removeprefix(_LIVE), client)
    path, mv = place(repository, text, weights=answers is True)
    remote = mv is not None and answers is not True and not repository_at(repository).local
    return ComparedVersion.of(path, mv, gate=gate(mv.name if mv else "", *given), answers=answers,
                              outline_of=str(repository) if remote else "")


def _live(text: str, client: Client | None) -> ComparedVersion:
    from deploy import regression
    from deploy.regression import ComparedVersion
    from deploy.repository import VersionFacts
    from deploy.savedmodel.diff import Subject
    from deploy.types import ModelRef

    if client is None:
        raise click.UsageError(f"{_LIVE}{text} is on a server: say which with --grpc or --rest-url")
    server, ref = client, ModelRef.parse(text)
    metadata = server.metadata(ref)
    pinned = ModelRef(ref.name, metadata.version)  # a label may move while we ask

    @contextmanager
    def open_() -> Iterator[Ask]:
        yield regression.on_server(server, pinned)

    return ComparedVersion(f"{pinned} at {server.endpoint}", Subject(metadata.contract), VersionFacts(), open_)


def _shown(compared: Comparison) -> object:
    from rich.console import Group
    from rich.text import Text

    from deploy.cli.tables import drift_table

    parts: list[object] = []
    if compared.verdict.reasons:
        shown = table("", "verdict", "where", "what changed")
        for reason in compared.verdict.reasons:
            shown.add_row(Text(str(reason.level), style=_STYLES[str(reason.level)]),
                          Text(line(reason.where)), Text(line(reason.what)))
        parts += [shown, ""]
    else:
        parts.append("signatures, graph and assets are the same")
    parts.append(Text(line(compared.asked)))
    if compared.drift:
        parts.append(drift_table(compared.drift))
    verdict = Text(f"{compared.before} -> {compared.after}: {compared.level}", style=_STYLES[str(compared.level)])
    return Group(*parts, verdict)  # type: ignore[arg-type]
