"""tfs completion."""

from __future__ import annotations

import click

from deploy.cli.options import command, tell


def register(app: click.Group) -> None:
    @command(app, "completion", example='eval "$(tfs completion bash)"')
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def completion(shell: str, as_json: bool) -> None:
        """Print the completion script for a shell."""
        from click.shell_completion import get_completion_class

        completion_class = get_completion_class(shell)
        assert completion_class is not None
        source = completion_class(app, {}, "tfs", "_TFS_COMPLETE").source()
        tell({"shell": shell, "script": source}, as_json, lambda: source)
