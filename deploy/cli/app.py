"""The root of the command tree. Commands import what they need when they run: `tfs --help` stays fast."""

from __future__ import annotations

import click

from deploy.cli.options import command, tell
from deploy.version import __version__

EPILOG = """\b
The way through:
  tfs export docs/examples/digits.py:build --name digits     a version in ./models, with golden answers
  tfs init > serving.yaml                                     what to serve, and how
  tfs up && tfs smoke && tfs down                             start, verify, stop
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
             invoke_without_command=True)
@click.version_option(__version__, prog_name="tfs")
@click.option("--json", "as_json", is_flag=True, help="Without a command: print JSON instead of text.")
@click.pass_context
def app(context: click.Context, as_json: bool) -> None:
    """Export, publish, serve and verify models with TensorFlow Serving.

    Without a command it tells how far this directory is, and which command comes next.
    """
    if context.invoked_subcommand is None:
        from deploy.cli import overview

        now = overview.look()
        tell(now.to_json(), as_json, lambda: overview.text(now))
    elif as_json:
        raise click.UsageError(f"--json belongs behind the command: tfs {context.invoked_subcommand} ... --json")


def _completion(app: click.Group) -> None:
    @command(app, "completion", example='eval "$(tfs completion bash)"')
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def completion(shell: str, as_json: bool) -> None:
        """Print the completion script for a shell."""
        from click.shell_completion import get_completion_class

        completion_class = get_completion_class(shell)
        assert completion_class is not None
        source = completion_class(app, {}, "tfs", "_TFS_COMPLETE").source()
        tell({"shell": shell, "script": source}, as_json, lambda: source)


def _register() -> None:
    from deploy.cli import (
        adopting,
        checks,
        diffs,
        doctor,
        explaining,
        exports,
        goldens,
        health,
        history,
        inspection,
        mirrors,
        models,
        retention,
        rollouts,
        servers,
        signing,
        smoke,
        specs,
        ui,
    )

    for family in (exports, models, mirrors, signing, retention, inspection, checks, goldens, diffs, specs, servers,
                   health, doctor, smoke, rollouts, history, adopting, ui, explaining):
        family.register(app)
    _completion(app)


_register()
