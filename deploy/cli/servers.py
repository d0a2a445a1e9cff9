"""tfs up, logs, down, image: the server of a spec, and images that carry its models."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from deploy.cli.fleets import on_each, several, tell_each, tell_lines
from deploy.cli.options import (
    ChosenServers,
    command,
    load_spec,
    load_spec_or_last,
    of_servers,
    overridable,
    spec_option,
    steps,
    tell,
)

if TYPE_CHECKING:
    from deploy.errors import DeployError
    from deploy.fleet import ServerResult
    from deploy.serving import RunningServer
    from deploy.spec import Spec

_DEFAULT_SPEC = "serving.yaml"


def register(app: click.Group) -> None:
    _up(app)
    _logs(app)
    _down(app)
    _image(app)


def _up(app: click.Group) -> None:
    @command(app, "up", example="tfs up --spec serving.yaml --backend embedded")
    @spec_option
    @of_servers
    @overridable
    @click.option("--dry-run", is_flag=True, help="Print what would be run; start nothing.")
    @click.option("--ui", is_flag=True, help="Then show it on a page, as `tfs ui` does, until Ctrl-C.")
    @click.option("--force-conflicts", is_flag=True, help="Kubernetes: take fields over that others own.")
    def up(spec_path: Path, chosen: ChosenServers, backend: str | None, image: str | None, dry_run: bool, ui: bool,
           force_conflicts: bool, as_json: bool) -> None:
        """Start the server, wait until all is served.

        Ready means: exactly the versions and labels that the spec wants, on both ports. The server is stopped again,
        with the reason, if that doesn't happen within server/start_timeout.
        """
        from deploy import backends, serving
        from deploy.cli.specs import plan_text, tell_plans
        from deploy.cli.ui import show_spec
        from deploy.extras import require

        spec = load_spec(spec_path, backend, image)
        servers = several(spec, chosen)
        if dry_run:
            if servers:
                tell_plans(spec, servers, as_json)
                return
            plan = serving.plan(spec)
            tell(plan.to_json(), as_json, lambda: plan_text(plan))
            return
        if ui:
            require("ui", "tfs up --ui")
        if servers:
            _up_each(spec, servers, force_conflicts, as_json)
            if ui:
                show_spec(spec_path, backend, image, chosen, as_json=as_json)
            return
        warnings = list(serving.misspelled(spec.server.flags))
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        with steps(f"starting {spec.name}", quiet=as_json) as progress:
            running = serving.up(spec, force=force_conflicts, progress=progress)
        stop = "tfs down" if str(spec_path) == _DEFAULT_SPEC else f"tfs down --spec {shlex.quote(str(spec_path))}"
        if not backends.BACKENDS[running.backend].capabilities.starts:
            stop = "where it runs"
        tell(running.to_json() | {"warnings": warnings}, as_json,
             lambda: "\n".join([f"{spec.name} is up ({running.backend}: {running.why})", *(
                 f"  {name:5} {at}" for name, at in (*running.endpoint.addresses.items(), ("stop", stop)))]))
        if ui:
            show_spec(spec_path, backend, image, chosen, as_json=as_json)


def _up_each(spec: Spec, servers: Sequence[Spec], force: bool, as_json: bool) -> None:
    from deploy import fleet, serving
    from deploy.backends import Progress
    from deploy.cli.fleet_views import UP

    def started(one: Spec, progress: Progress) -> RunningServer:
        if one.fleet:
            fleet.inherit(spec, one)
        return serving.up(one, force=force, progress=progress)

    for server in servers:
        for warning in serving.misspelled(server.server.flags):
            click.echo(f"warning: {server.short_name}: {warning}", err=True)
    results = on_each(servers, started, quiet=as_json, changing=True)
    tell_each(spec, results, UP, as_json)


def _logs(app: click.Group) -> None:
    @command(app, "logs", example="tfs logs --tail 100")
    @spec_option
    @of_servers
    @click.option("--tail", "-n", type=click.IntRange(min=1), default=50, show_default=True,
                  help="Number of lines, from the end.")
    def logs(spec_path: Path, chosen: ChosenServers, tail: int, as_json: bool) -> None:
        """Print the server's last lines."""
        from deploy import serving

        spec = load_spec_or_last(spec_path)
        if servers := several(spec, chosen):
            tell_lines(spec, on_each(servers, lambda one, _: serving.logs(one, tail), quiet=True), as_json)
            return
        text = serving.logs(spec, tail)
        tell({"logs": text.splitlines()}, as_json, lambda: text.rstrip("\n"))


def _down(app: click.Group) -> None:
    @command(app, "down", example="tfs down --spec serving.yaml")
    @spec_option
    @of_servers
    @click.option("--leftovers", is_flag=True, help="Stop the servers of tests whose runs are gone, and no spec's.")
    @click.option("--volumes", is_flag=True, help="Remove what was copied to a Docker engine elsewhere, too.")
    def down(spec_path: Path, chosen: ChosenServers, leftovers: bool, volumes: bool, as_json: bool) -> None:
        """Stop the server.

        Running requests get server/drain seconds to finish. Doing it twice is no error.
        """
        from deploy import serving

        if leftovers:
            names, failed = _end_leftovers(quiet=as_json)
            if failed:
                raise _not_ended(names, failed, quiet=as_json)
            tell({"stopped": names}, as_json, lambda: f"stopped {', '.join(names)}" if names else "nothing was left")
            return
        spec = load_spec_or_last(spec_path)
        if servers := several(spec, chosen):
            from deploy.cli.fleet_views import DOWN
            from deploy.state import between_releases

            with between_releases(spec, "down"):
                results = _down_each(servers, volumes=volumes, quiet=as_json)
            tell_each(spec, results, DOWN, as_json)
            return
        with steps(f"stopping {spec.name}", quiet=as_json) as progress:
            stopped = serving.down(spec, volumes=volumes, progress=progress if volumes else None)
        tell({"name": spec.name, "stopped": stopped}, as_json,
             lambda: f"{spec.name} is stopped" if stopped else f"{spec.name} wasn't running")


def _down_each(servers: Sequence[Spec], *, volumes: bool, quiet: bool) -> tuple[ServerResult[str], ...]:
    """Those that somebody else starts stay, beside others that are ours."""
    from deploy import backends, serving
    from deploy.backends import Progress

    ours = {one.name for one in servers if backends.preferred(one).capabilities.starts}

    def stopped(one: Spec, progress: Progress) -> str:
        if ours and one.name not in ours:
            return "stays"
        return "stopped" if serving.down(one, volumes=volumes, progress=progress) else "wasn't running"

    return on_each(servers, stopped, quiet=quiet, changing=True)


def _end_leftovers(*, quiet: bool) -> tuple[list[str], list[DeployError]]:
    """The names of the servers that were stopped, and what kept others from it."""
    from deploy.errors import DeployError
    from deploy.testing.runs import leftovers

    names, failed = list[str](), list[DeployError]()
    with steps("ending test runs", quiet=quiet):
        for run in leftovers():
            try:
                names += run.end()
            except DeployError as e:
                names += cast("list[str]", e.details.pop("stopped", []))
                failed.append(e)
    return names, failed


def _not_ended(names: Sequence[str], failed: Sequence[DeployError], *, quiet: bool) -> DeployError:
    """The gravest of the errors; the others, and what was stopped, are told beside it."""
    worst = max(failed, key=lambda error: error.exit_code)
    others = [error for error in failed if error is not worst]
    if not quiet:
        if names:
            click.echo(f"stopped {', '.join(names)}")
        for error in others:
            click.echo(f"not stopped: {error}", err=True)
    worst.details |= {"stopped": list(names), "others": [error.to_json() for error in others]}
    return worst


def _image(app: click.Group) -> None:
    @app.group()
    def image() -> None:
        """Images that carry their models, built or pushed."""

    @command(image, "build", example="tfs image build --spec serving.yaml --tag registry.example.com/digits:2026-11-21")
    @spec_option
    @click.option("--tag", required=True, help="What to call the image, name:tag.")
    @click.option("--image", "base", help="The serving image to build on.  [default: the spec's server/image]")
    @click.option("--no-smoke", is_flag=True, help="Tag it without asking it anything.")
    def build(spec_path: Path, tag: str, base: str | None, no_smoke: bool, as_json: bool) -> None:
        """Bake models and configs into a serving image.

        The versions that the spec wants now go in and stay. The image is started and smoke-tested; only then it is
        tagged. Its label org.tfs-deploy.models carries the digest of each version.
        """
        from deploy import serving
        from deploy.cli.smoke import gate

        spec = load_spec(spec_path)
        with steps(f"building {tag}", quiet=as_json) as progress:
            built = serving.build_image(spec, tag, base_image=base, progress=progress,
                                        smoke=None if no_smoke else gate(spec))
        tell(built.to_json(), as_json, lambda: "\n".join(
            [f"built {built.tag} ({built.id})", *(f"  {name}  {digest}" for name, digest in built.models.items())]))

    @command(image, "push", example="tfs image push --spec serving.yaml --tag registry.example.com/digits:2026-11-21\n"
                                    "tfs image push --tag registry.example.com/digits:2 --no-smoke")
    @spec_option
    @click.option("--tag", required=True, help="What to call the image, registry/name:tag.")
    @click.option("--image", "base", help="The serving image to build on, in a registry.  [default: the spec's "
                                          "server/image]")
    @click.option("--no-smoke", is_flag=True, help="Tag it without asking it anything; no engine is needed.")
    def push(spec_path: Path, tag: str, base: str | None, no_smoke: bool, as_json: bool) -> None:
        """Put a server image together in a registry.

        Nothing is built: it has the base's layers, those of the versions' own images, and one of configs. The engine
        pulls it by its digest and smoke-tests it; only then it is tagged.
        """
        from deploy import serving
        from deploy.cli.smoke import gate

        spec = load_spec(spec_path)
        with steps(f"pushing {tag}", quiet=as_json) as progress:
            pushed = serving.push_image(spec, tag, base_image=base, progress=progress,
                                        smoke=None if no_smoke else gate(spec))
        tell(pushed.to_json(), as_json, lambda: "\n".join(
            [f"pushed {pushed.tag} ({pushed.digest})",
             *(f"  {name}  {digest}" for name, digest in pushed.models.items())]))
