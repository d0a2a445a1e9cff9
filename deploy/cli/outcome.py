"""Where errors become sentences and exit codes, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise

import click

from deploy.cli.app import app
from deploy.cli.escaping import escaped_streams
from deploy.cli.untranslated import as_deploy_error
from deploy.errors import (
    ClientError,
    DeployError,
    LockHeld,
    RepositoryError,
    RolloutError,
    ServerError,
    SmokeFailed,
)

USAGE, INTERRUPTED = 2, 130
EVIDENCE = ("said", "logs", "statuses", "differences")
# Where an error names no command itself. Whether the command is about a spec: then it goes by the same one
_OFFERS = ((ServerError, "tfs doctor", True), (SmokeFailed, "tfs doctor", True), (ClientError, "tfs status", True),
           (RolloutError, "tfs history", True), (LockHeld, "tfs status", True),
           (RepositoryError, "tfs repository list", False))
_BEFORE_A_SPEC = frozenset({"tfs adopt"})  # they write one: what needs it can't help
_NAMES_A_COMMAND = re.compile(r"\b(tfs|pip install|make|docker) [a-z'\[-]|(?<!\S)--[a-z]")


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    with escaped_streams():
        return _run(argv)


def _run(argv: Sequence[str]) -> int:
    words = argv[: argv.index("--")] if "--" in argv else argv
    try:
        # Without standalone mode, click returns the code of ctx.exit() and of Exit; commands return None
        return app.main(args=list(argv), prog_name="tfs", standalone_mode=False) or 0
    except BrokenPipeError:  # `tfs ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort):
        click.echo("tfs: interrupted", err=True)
        return INTERRUPTED
    except Exception as e:
        if "--verbose" in words or "-v" in words:
            traceback.print_exc()
        return _explain(e, words, as_json="--json" in words)


def _explain(error: Exception, words: Sequence[str], *, as_json: bool) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, click.ClickException):
        if as_json:
            _tell_json({"error": type(error).__name__, "id": "usage", "message": error.format_message(),
                        "exit_code": USAGE})
        else:
            error.show(sys.stderr)
        return USAGE
    translated = as_deploy_error(error)
    _tell(translated, offer(translated, words), as_json)
    return translated.exit_code


def offer(error: DeployError, words: Sequence[str]) -> str:
    """The command that helps, "" if the error names one. words: the command line that failed."""
    if _NAMES_A_COMMAND.search(str(error)):
        return ""
    verb = _verb(words)
    for kind, command, by_spec in _OFFERS:
        if isinstance(error, kind) and command != verb and not (by_spec and verb in _BEFORE_A_SPEC):
            return command + (_spec_of(words) if by_spec else "")
    if error.details.get("path"):  # in a spec
        return "tfs schema"
    return f"{verb} --help"


def _verb(words: Sequence[str]) -> str:
    """`tfs repository list` of its command line."""
    verb, group = "tfs", app
    for word in words:
        command = group.commands.get(word)
        if command is None:
            break
        verb = f"{verb} {word}"
        if not isinstance(command, click.Group):
            break
        group = command
    return verb


def _spec_of(words: Sequence[str]) -> str:
    for word, after in pairwise([*words, ""]):
        if word == "--spec":
            return f" --spec {shlex.quote(after)}"
        if word.startswith("--spec="):
            return f" {shlex.quote(word)}"
    return ""


def _tell(error: DeployError, see: str, as_json: bool) -> None:
    """The evidence first, the reason as the last line. see: the command that helps, if the error names none."""
    if as_json:
        _tell_json(error.to_json() | ({"see": see} if see else {}))
        return
    for key in EVIDENCE:
        value = error.details.get(key) or ""
        text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        if text.strip() not in error.message:  # one line of log may be all of the sentence
            click.echo(f"--- {key}\n{text}", err=True)
    line = " ".join(str(error).splitlines()).replace("\t", "")  # one line, whoever is quoted
    more = f"; see `{see}`" if see else ""
    click.echo(f"tfs: {line}{more} (tfs explain {error.id})", err=True)


def _tell_json(data: dict[str, object]) -> None:
    click.echo(json.dumps(data, indent=2, default=str))
