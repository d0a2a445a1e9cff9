"""tfs smoke: verify what is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.fleets import on_each, several, tell_each
from deploy.cli.options import (
    ChosenServers,
    RepositoryPlace,
    command,
    load_spec,
    of_servers,
    spec_option,
    steps,
    tell,
)
from deploy.cli.targets import connected
from deploy.errors import SmokeFailed

if TYPE_CHECKING:
    from deploy.backends import Progress
    from deploy.repository import Repository
    from deploy.smoke import SmokeReport
    from deploy.spec import Spec
    from deploy.types import Endpoint, ServedModel

_EXAMPLE = """tfs smoke
tfs smoke --junit smoke.xml
tfs smoke --rest-url http://10.0.0.5:8501 --grpc 10.0.0.5:8500 --model digits --repository models"""


def register(app: click.Group) -> None:
    @command(app, "smoke", example=_EXAMPLE)
    @spec_option
    @of_servers
    @click.option("--model", "names", multiple=True, help="Only this model. Repeatable.")
    @click.option("--rest-url", metavar="URL", help="A server that wasn't started from the spec: http://host:port.")
    @click.option("--grpc", "grpc_target", metavar="HOST:PORT", help="Its gRPC address.")
    @click.option("--repository", "-r", type=RepositoryPlace(),
                  help="Where such a server's models were published, for their golden answers.")
    @click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML here, too.")
    def smoke(spec_path: Path, chosen: ChosenServers, names: tuple[str, ...], rest_url: str | None,
              grpc_target: str | None, repository: Path | str | None, junit: Path | None, as_json: bool) -> None:
        """Ask every served model over REST and gRPC.

        States, signatures, every golden answer in every form, labels, and the errors that should come. Models without
        goldens are asked with requests generated from their signatures. Exit code 9 if anything isn't right.
        """
        from deploy.cli.smoke_tables import smoke_table
        from deploy.report import junit as junit_xml

        if rest_url or grpc_target:
            if any(chosen):
                raise click.UsageError("--server and --group choose among the spec's servers: leave --rest-url and "
                                       "--grpc out")
            report = _of_address(rest_url, grpc_target, names, repository, quiet=as_json)
        else:
            spec = load_spec(spec_path)
            if servers := several(spec, chosen):
                _each(spec, servers, names, junit, as_json)
                return
            with steps(f"asking {spec.name}", quiet=as_json) as progress:
                report = _of_spec(spec, names, progress)
        if junit:
            _write(junit, junit_xml(report))
        tell(report.to_json(), as_json, lambda: smoke_table(report))
        if not report.ok and as_json:  # the report is on stdout already, whole
            raise click.exceptions.Exit(SmokeFailed.exit_code)
        report.raise_if_failed()


def gate(spec: Spec) -> Callable[[Endpoint], None]:
    """A function that smoke-tests an endpoint against the spec. It raises SmokeFailed."""
    from deploy import smoke

    def test(endpoint: Endpoint) -> None:
        smoke.smoke_test(endpoint, spec.models, smoke.source_of(spec), smoke.settings_of(spec)).raise_if_failed()

    return test


def _each(spec: Spec, servers: Sequence[Spec], names: tuple[str, ...], junit: Path | None, as_json: bool) -> None:
    """Of several servers: a line for each, and of those where something isn't right, what that is."""
    from deploy.cli.fleet_views import SMOKE
    from deploy.cli.smoke_tables import smoke_table
    from deploy.cli.untranslated import as_deploy_error
    from deploy.report import junit_of_servers

    _chosen(spec, names)
    results = on_each(servers, lambda one, progress: _of_spec(one, names, progress), quiet=as_json, changing=True)
    if junit:
        _write(junit, junit_of_servers({r.server: r.value if r.value is not None else
                                        "interrupted" if r.error is None else str(as_deploy_error(r.error))
                                        for r in results}))
    tell_each(spec, results, SMOKE, as_json, below=lambda: [part for r in results if r.value is not None and
              not r.value.ok for part in (f"\n{r.server}:", smoke_table(r.value))])


def _of_spec(spec: Spec, names: tuple[str, ...], progress: Progress) -> SmokeReport:
    from deploy import backends, serving, smoke
    from deploy.errors import ServerError
    from deploy.serving import snapshot

    models, server = _chosen(serving.as_known_good(spec), names), serving.find(spec)
    if server is None or not server.alive():
        if not backends.preferred(spec).capabilities.starts:
            snapshot.running_server(spec)
        raise ServerError(f"{spec.name} isn't running",
                          hint="start it with `tfs up`, or name a server with --rest-url and --grpc", id="not-running")
    return smoke.smoke_test(server.endpoint, models, smoke.source_of(spec, models), smoke.settings_of(spec), progress)


def _of_address(rest_url: str | None, grpc_target: str | None, names: tuple[str, ...], repository: Path | str | None, *,
                quiet: bool) -> SmokeReport:
    from deploy import smoke

    if not names:
        raise click.UsageError("a server can't be asked for the names of its models: name them with --model")
    source: Repository | None = None
    if repository is not None:
        from deploy.repository import Repository

        source = Repository(repository)
    with connected(rest_url, grpc_target) as client, steps("asking", quiet=quiet) as progress:
        return smoke.smoke_test(client, list(names), source, progress=progress)


def _chosen(spec: Spec, names: tuple[str, ...]) -> tuple[ServedModel, ...]:
    from deploy.errors import SpecError

    known = {model.name: model for model in spec.models}
    for name in names:
        if name not in known:
            raise SpecError(f"there is no model {name!r} in {spec.path.name}", hint=f"it has {', '.join(known)}",
                            id="unknown-model")
    return tuple(known[name] for name in names) or spec.models


def _write(path: Path, text: str) -> None:
    from deploy.errors import SpecError

    try:
        path.write_text(text)
    except OSError as e:
        raise SpecError(f"can't write {path}: {e.strerror}", hint="name another file with --junit",
                        id="cant-write") from None
