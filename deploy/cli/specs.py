"""tfs init, configure, schema: what to serve."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.fleets import on_each, several, tell_each, tell_sections
from deploy.cli.options import (
    ChosenServers,
    command,
    load_spec,
    of_servers,
    overridable,
    repository_option,
    spec_option,
    tell,
)

if TYPE_CHECKING:
    from deploy.serving import ServerPlan
    from deploy.spec import Spec


def register(app: click.Group) -> None:
    _init(app)
    _configure(app)
    _schema(app)


def _init(app: click.Group) -> None:
    @command(app, "init", example="tfs init --repository models > serving.yaml\n"
                                  "tfs init --from-config /etc/tfs/models.config > serving.yaml\n"
                                  "tfs init --make > tfs.mk")
    @repository_option
    @click.option("--from-config", type=click.Path(path_type=Path, dir_okay=False),
                  help="An existing models.config to start from.")
    @click.option("--make", is_flag=True, help="Print targets for your Makefile instead: include tfs.mk.")
    def init(repository: Path | str, from_config: Path | None, make: bool, as_json: bool) -> None:
        """Print a serving.yaml to start from.

        It names the newest version of each model in the repository, or what an existing models.config says, and each
        line says what it means. It asks nothing and writes no file.
        """
        if make:
            from importlib.resources import files

            fragment = files("deploy.cli").joinpath("tfs.mk").read_text(encoding="utf-8")
            tell({"makefile": fragment}, as_json, fragment.rstrip)
            return
        import msgspec

        from deploy.render.configs import not_local, spec_file, to_yaml

        if from_config:
            file = spec_file(from_config)
            for warning in not_local(file):
                click.echo(f"warning: {warning}", err=True)
        else:
            from deploy.errors import RepositoryError
            from deploy.repository import Repository
            from deploy.spec import ModelSpec, SpecFile

            repo = Repository(repository)
            latest = {name: repo.latest(name) for name in repo.models()}
            if not latest:
                raise RepositoryError(f"there is no model in {repository}",
                                      hint="make one first: `tfs export` or `tfs publish`", id="no-models")
            file = SpecFile(repository=str(repository), models=[
                ModelSpec(name=name, versions=[version], labels={"stable": version})
                for name, version in latest.items() if version is not None])
        tell(msgspec.to_builtins(file), as_json, lambda: to_yaml(file).rstrip())
        if not as_json:
            click.echo("to keep it: tfs init > serving.yaml" if sys.stdout.isatty() else "next: tfs up", err=True)


def _configure(app: click.Group) -> None:
    @command(app, "configure", example="tfs configure --spec serving.yaml --out generated\ntfs configure --dry-run\n"
                                       "tfs configure --check")
    @spec_option
    @of_servers
    @overridable
    @click.option("--out", type=click.Path(path_type=Path, file_okay=False),
                  help="Directory for the files.  [default: generated/<the spec's file name> beside it]")
    @click.option("--dry-run", is_flag=True, help="Print files, command line and container options; write nothing.")
    @click.option("--check", "only_check", is_flag=True,
                  help="Write nothing; exit code 2 if the files aren't what the spec says. Keys aren't compared.")
    def configure(spec_path: Path, chosen: ChosenServers, backend: str | None, image: str | None, out: Path | None,
                  dry_run: bool, only_check: bool, as_json: bool) -> None:
        """Write the server's config files.

        Paths in them are those that a container sees, unless server/backend is process or embedded. Of a spec with
        several servers each has a directory of its own.
        """
        from deploy import serving

        if dry_run and only_check:
            raise click.UsageError("--dry-run prints the files and --check compares them: choose one")
        spec = load_spec(spec_path, backend, image)
        directory, servers = out or spec.path.parent / "generated" / spec.path.stem, several(spec, chosen)
        if servers and dry_run:
            tell_plans(spec, servers, as_json)
        elif servers:
            from deploy.cli.fleet_views import files_view

            results = on_each(servers, lambda one, _: _files(one, directory / one.short_name, only_check), quiet=True)
            tell_each(spec, results, files_view("up to date" if only_check else "written"), as_json)
        elif dry_run:
            plan = serving.plan(spec)
            tell(plan.to_json(), as_json, lambda: plan_text(plan))
        else:
            files = _files(spec, directory, only_check)
            tell({"files": files}, as_json, lambda: f"{directory} is up to date" if only_check else
                 "\n".join(f"wrote {path}" for path in files))


def _files(spec: Spec, directory: Path, only_check: bool) -> list[str]:
    """The paths of the config files, which are written, or are what the spec says already. Raises SpecError."""
    from deploy import backends, render

    runs = backends.preferred(spec)
    files = render.files(spec, runs.layout(spec, str(directory.absolute())))
    paths = _check_current(spec, files, directory) if only_check else _write(spec, files, directory, runs.reader)
    return list(map(str, paths))


def _write(spec: Spec, files: Mapping[str, str], directory: Path, reader: tuple[int, int] | None) -> list[Path]:
    from deploy import render, serving
    from deploy.errors import SpecError

    written = render.write(files, directory, error=SpecError, hint="make room, or choose another directory with --out")
    return written + render.write(serving.certificates.secrets(spec), directory, error=SpecError, secret_of=reader)


def _check_current(spec: Spec, files: Mapping[str, str], directory: Path) -> list[Path]:
    """The files, which are what the spec renders to. Raises SpecError with those that aren't."""
    from deploy.errors import SpecError

    paths = {directory / name: text for name, text in files.items()}
    stale = [str(path) for path, text in paths.items() if not path.is_file() or path.read_bytes() != text.encode()]
    if stale:
        raise SpecError(f"not what {spec.path} says: {', '.join(stale)}", details={"files": stale},
                        hint="run `tfs configure` with the same options, and commit what it wrote",
                        id="generated-stale")
    return list(paths)


def tell_plans(spec: Spec, servers: Sequence[Spec], as_json: bool) -> None:
    """What would be started for each of several servers."""
    from deploy import serving

    results = on_each(servers, lambda one, _: serving.plan(one), quiet=True)
    tell_sections(spec, results, as_json, data=lambda plan: plan.to_json(), text=plan_text)


def plan_text(plan: ServerPlan) -> str:
    parts = [f"--- {name}\n{text}" for name, text in plan.shown_files.items()]
    parts += [f"--- {key}\n{json.dumps(value, indent=2, default=str)}" for key, value in plan.to_json().items()
              if key != "files"]
    return "\n".join(parts)


def _schema(app: click.Group) -> None:
    @command(app, "schema", example="tfs schema > serving.schema.json")
    def schema(as_json: bool) -> None:
        """Print the JSON Schema of serving.yaml."""
        from deploy.spec import json_schema

        data = json_schema()
        tell(data, as_json, lambda: json.dumps(data, indent=2))
