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
    LateChoice,
    LocalPath,
    command,
    load_spec,
    of_servers,
    overridable,
    repository_option,
    spec_option,
    tell,
)

if TYPE_CHECKING:
    from deploy.render.kubernetes import RoleVerb
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
                                       "tfs configure --check\ntfs configure --rbac rollout | kubectl apply -f -")
    @spec_option
    @of_servers
    @overridable
    @click.option("--out", type=LocalPath("name a directory here, and copy it from there"),
                  help="Directory for the files.  [default: generated/<the spec's file name> beside it]")
    @click.option("--dry-run", is_flag=True, help="Print files, command line and container options; write nothing.")
    @click.option("--check", "only_check", is_flag=True,
                  help="Write nothing; exit code 2 if the files aren't what the spec says. Keys aren't compared.")
    @click.option("--known-good", is_flag=True, help="With what rollouts have made known good since, instead of the "
                  "spec's versions and labels.")
    @click.option("--rbac", "verbs", multiple=True, type=LateChoice(_role_verbs),
                  help="Print the least Role that this command needs in the server's namespace instead. Repeatable.")
    def configure(spec_path: Path, chosen: ChosenServers, backend: str | None, image: str | None, out: Path | None,
                  dry_run: bool, only_check: bool, known_good: bool, verbs: tuple[RoleVerb, ...], as_json: bool
                  ) -> None:
        """Write the server's config files, or its manifests for Kubernetes.

        Paths in them are those that a container or a pod sees, unless server/backend is process or embedded. Of a spec
        with several servers each has a directory of its own. What is written for Kubernetes is for kubectl apply -k,
        Kustomize, Argo CD and Flux.
        """
        from deploy import serving

        if dry_run + only_check + bool(verbs) > 1:
            raise click.UsageError("--dry-run prints the files, --check compares them, --rbac prints Roles: choose one")
        spec = load_spec(spec_path, backend, image)
        directory, servers = out or spec.path.parent / "generated" / spec.path.stem, several(spec, chosen)
        if verbs:
            _tell_roles(servers or [spec], verbs, as_json)
        elif servers and dry_run:
            tell_plans(spec, servers, as_json)
        elif servers:
            from deploy.cli.fleet_views import files_view

            results = on_each(servers, lambda one, _: _files(one, directory / one.short_name, only_check, known_good),
                              quiet=True)
            tell_each(spec, results, files_view("up to date" if only_check else "written"), as_json)
        elif dry_run:
            plan = serving.plan(spec)
            tell(plan.to_json(), as_json, lambda: plan_text(plan))
        else:
            files = _files(spec, directory, only_check, known_good)
            tell({"files": files}, as_json, lambda: f"{directory} is up to date" if only_check else
                 "\n".join(f"wrote {path}" for path in files))


def _role_verbs() -> Sequence[str]:
    """The commands that a Role can be written for."""
    from deploy.render.kubernetes import ROLE_VERBS

    return ROLE_VERBS


def _tell_roles(specs: Sequence[Spec], verbs: tuple[RoleVerb, ...], as_json: bool) -> None:
    from deploy.render import kubernetes

    roles = [kubernetes.role(spec, verb, kubernetes.manifests(spec)) for spec in specs for verb in verbs]
    tell(roles, as_json, lambda: kubernetes.to_yaml(roles).rstrip())


def _files(spec: Spec, directory: Path, only_check: bool, known_good: bool) -> list[str]:
    """The paths of the config files, which are written, or are what the spec says already. Raises SpecError."""
    from deploy import backends, render, serving
    from deploy.render import kubernetes

    runs = backends.preferred(spec)
    serving.check_release(spec, runs)
    shown = serving.resolving.as_known_good(spec) if known_good else spec
    if runs.capabilities.manifests:
        files, secrets = kubernetes.directory_files(shown, kubernetes.manifests(shown)), dict[str, str]()
    else:
        files = render.files(shown, runs.layout(shown, str(directory.absolute())))
        secrets = {} if only_check else serving.certificates.secrets(spec)
    paths = _check_current(spec, files, directory) if only_check else _write(files, secrets, directory, runs.reader)
    return list(map(str, paths))


def _write(files: Mapping[str, str], secrets: Mapping[str, str], directory: Path, reader: tuple[int, int] | None
           ) -> list[Path]:
    from deploy import render
    from deploy.errors import SpecError

    written = render.write(files, directory, error=SpecError, hint="make room, or choose another directory with --out")
    return written + render.write(secrets, directory, error=SpecError, secret_of=reader)


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
