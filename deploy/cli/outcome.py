"""Where errors become sentences and exit codes, and nowhere else."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence

import click

from deploy.cli.app import app
from deploy.cli.escaping import escaped_streams
from deploy.errors import BackendMissing, DeployError, Malformed, RepositoryError
from deploy.extras import install, of_module
from deploy.files import reason

USAGE, INTERRUPTED = 2, 130
EVIDENCE = ("said", "logs", "statuses", "differences")


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
        return _explain(e, as_json="--json" in words)


def _explain(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, click.ClickException):
        if as_json:
            _tell_json({"error": type(error).__name__, "message": error.format_message(), "exit_code": USAGE})
        else:
            error.show(sys.stderr)
        return USAGE
    if not isinstance(error, DeployError):
        error = _sentence(error)
    _tell(error, as_json)
    return error.exit_code


def _sentence(error: Exception) -> DeployError:
    """What nobody has translated: the system's refusals, and input that is too much, are no errors of ours."""
    if isinstance(error, OSError) and error.errno is not None:
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "it"
        return RepositoryError(f"can't use {where:.300}: {reason(error)}",
                               hint="check the path, who may read and write there, and the room on its disk")
    if isinstance(error, ModuleNotFoundError) and error.name and (extra := of_module(error.name)):
        return BackendMissing(f"this needs {error.name}, which isn't installed", hint=install(extra))
    if isinstance(error, RecursionError):
        return Malformed("what was given is nested too deeply to be read", hint="see which file with --verbose")
    if isinstance(error, MemoryError):
        return Malformed("what was given takes more memory than there is", hint="see which file with --verbose")
    return DeployError(f"internal error: {type(error).__name__}: {error}",
                       hint="run it again with --verbose to see where, and please report it")


def _tell(error: DeployError, as_json: bool) -> None:
    """The evidence first, the reason as the last line."""
    if as_json:
        _tell_json(error.to_json())
        return
    for key in EVIDENCE:
        value = error.details.get(key) or ""
        text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        if text.strip() not in error.message:  # one line of log may be all of the sentence
            click.echo(f"--- {key}\n{text}", err=True)
    click.echo("tfs: " + " ".join(str(error).splitlines()).replace("\t", ""), err=True)  # one line, whoever is quoted


def _tell_json(data: dict[str, object]) -> None:
    click.echo(json.dumps(data, indent=2, default=str))
