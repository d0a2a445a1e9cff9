"""Errors of every verb offer the command that helps."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from deploy import errors
from deploy.cli.app import app
from deploy.cli.outcome import offer, run
from deploy.errors import DeployError


@pytest.mark.parametrize(("error", "line", "command"), [
    (errors.PortTaken("port 8500 is taken"), "up", "tfs doctor"),
    (errors.PortTaken("port 8500 is taken"), "up --spec a'b.yaml", "tfs doctor --spec 'a'\"'\"'b.yaml'"),
    (errors.NotReady("m/1 isn't served"), "smoke --spec=x.yaml --json", "tfs doctor --spec=x.yaml"),
    (errors.NotReady("m/1 isn't served"), "doctor", "tfs doctor --help"),
    (errors.BackendMissing("no engine", hint="pip install 'tfs-deploy[server]'"), "up", ""),
    (errors.Unreachable("no connection", hint="is it running?"), "smoke", "tfs status"),
    (errors.Unreachable("no connection", hint="is it running?"), "adopt --grpc h:1", "tfs adopt --help"),
    (errors.RolloutError("given up"), "rollout m --to 2", "tfs history"),
    (errors.VersionNotFound("there is no m/2"), "diff m/1 m/2", "tfs repository list"),
    (errors.VersionNotFound("there is no m/2", hint="see `tfs repository list`"), "diff m/1 m/2", ""),
    (errors.RepositoryError("no root"), "repository list", "tfs repository list --help"),
    (errors.SpecError("no", details={"path": "models/0"}), "up", "tfs schema"),
    (errors.SpecError("no", hint="give --to"), "rollout", ""),
    (errors.ExportError("no"), "export x", "tfs export --help"),
    (errors.DeployError("no"), "", "tfs --help"),
])
def test_the_command_that_helps(error: DeployError, line: str, command: str) -> None:
    assert offer(error, line.split()) == command


def verbs(group: click.Group = app, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found += verbs(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("verb", [v for v in verbs() if v[0] not in ("completion", "schema", "explain")], ids=" ".join)
def test_in_an_empty_directory(verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is typed first, the answer says what to type instead."""
    monkeypatch.chdir(tmp_path)
    command: click.Command = app
    for name in verb:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    arguments = ["m"] * sum(isinstance(p, click.Argument) and p.required for p in command.params)
    options = [word for p in command.params if isinstance(p, click.Option) and p.required for word in (p.opts[0], "m")]
    code = run([*verb, *arguments, *options])
    said = capsys.readouterr().err
    assert code and "internal error" not in said
    assert "tfs " in said.removeprefix("tfs: ") and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
