"""tfs smoke: verify what is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import RepositoryPlace, command, load_spec, spec_option, steps, tell
from deploy.cli.targets import connected
from deploy.errors import SmokeFailed

if TYPE_CHECKING:
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
    @click.option("--model", "names", multiple=True, help="Only this model. Repeatable.")
    @click.option("--rest-url", metavar="URL", help="A server that wasn't started from the spec: http://host:port.")
    @click.option("--grpc", "grpc_target", metavar="HOST:PORT", help="Its gRPC address.")
    @click.option("--repository", "-r", type=RepositoryPlace(),
                  help="Where such a server's models were published, for their golden answers.")
    @click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML here, too.")
    def smoke(spec_path: Path, names: tuple[str, ...], rest_url: str | None, grpc_target: str | None,
              repository: Path | str | None, junit: Path | None, as_json: bool) -> None:
        """Ask every served model over REST and gRPC.

        States, signatures, every golden answer in every form, labels, and the errors that should come. Models without
        goldens are asked with requests generated from their signatures. Exit code 9 if anything isn't right.
        """
        from deploy.cli.smoke_tables import smoke_table
        from deploy.report import junit as junit_xml

        if rest_url or grpc_target:
            report = _of_address(rest_url, grpc_target, names, repository, quiet=as_json)
        else:
            report = _of_spec(load_spec(spec_path), names, quiet=as_json)
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


def _of_spec(spec: Spec, names: tuple[str, ...], *, quiet: bool) -> SmokeReport:
    from deploy import serving, smoke
    from deploy.errors import ServerError

    models, server = _chosen(serving.as_known_good(spec), names), serving.find(spec)
    if server is None or not server.alive():
        raise ServerError(f"{spec.name} isn't running",
                          hint="start it with `tfs up`, or name a server with --rest-url and --grpc", id="not-running")
    with steps(f"asking {spec.name}", quiet=quiet) as progress:
        return smoke.smoke_test(server.endpoint, models, smoke.source_of(spec, models), smoke.settings_of(spec),
                                progress)


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
