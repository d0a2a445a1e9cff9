"""tfs adopt, watch: servers that somebody else starts; what is served stays what is known to be good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.fleets import on_each, several, tell_each
from deploy.cli.options import ChosenServers, LocalPath, command, load_spec, of_servers, spec_option, steps, tell

if TYPE_CHECKING:
    from deploy.spec import RemoteTls

_ADOPT = """tfs adopt --grpc 10.0.0.5:8500 --rest http://10.0.0.5:8501 --config-file ssh://ops@10.0.0.5/etc/models.config
tfs adopt --grpc 10.0.0.5:8500 --rest http://10.0.0.5:8501 --model digits=/models/digits --repository s3://bucket/models"""


def register(app: click.Group) -> None:
    _adopt(app)
    _watch(app)


def _adopt(app: click.Group) -> None:
    @command(app, "adopt", example=_ADOPT)
    @click.option("--grpc", "grpc_target", required=True, metavar="HOST:PORT", help="Its gRPC address.")
    @click.option("--rest", "rest_url", metavar="URL", help="Its REST address: http://host:port.")
    @click.option("--config-file", metavar="PLACE",
                  help="Its --model_config_file as it is reached from here: a path, or ssh://user@host/path. It says "
                       "which models there are.")
    @click.option("--model", "models", multiple=True, metavar="NAME[=BASE_PATH]",
                  help="A model that it serves, where no config file says so, and its base path as the server sees it. "
                       "Repeatable; all of them have to be named, unless the server's metrics show them.")
    @click.option("--label", "labels", multiple=True, help="A label to ask for beside the usual ones. Repeatable.")
    @click.option("--pin", is_flag=True, help="Name the versions that are served instead of a version policy.")
    @click.option("--repository", "-r", metavar="PLACE",
                  help="Where its versions are published.  [default: its base paths, if they are here, else models]")
    @click.option("--stage", metavar="PLACE", help="Its directory of models as tfs can write it, a path or an address: "
                                                   "versions are copied there before it is told.")
    @click.option("--ca", type=click.Path(dir_okay=False), help="Authority of its gRPC certificate, a PEM file.")
    @click.option("--server-name", help="Name that its certificate is for, if it isn't the address.")
    @click.option("--client-certificate", type=click.Path(dir_okay=False), help="What to show to it, a PEM file.")
    @click.option("--client-key", type=click.Path(dir_okay=False), help="Private key of --client-certificate.")
    @click.option("--name", help="What to call it.  [default: as the file]")
    @click.option("--out", type=LocalPath("name a file here", directory=False), default="serving.yaml",
                  show_default=True, help="The spec to write.")
    @click.option("--force", is_flag=True, help="Write over a spec, and go on with a ledger, that are there.")
    def adopt(grpc_target: str, rest_url: str | None, config_file: str | None, models: tuple[str, ...],
              labels: tuple[str, ...], pin: bool, repository: str | None, stage: str | None, ca: str | None,
              server_name: str | None, client_certificate: str | None, client_key: str | None, name: str | None,
              out: Path, force: bool, as_json: bool) -> None:
        """Take over a TF Serving that somebody else started.

        Its models, versions, labels and policies are read off its config file, metrics and answers, and written as a
        spec and the first lines of a ledger; then status, ready, doctor, smoke, rollout, rollback and watch work. The
        server isn't told anything.
        """
        from deploy import serving
        from deploy.spec import RemotePart

        tls = _tls(ca, server_name, client_certificate, client_key)
        part = RemotePart(grpc=grpc_target, rest=rest_url, config_file=_place(config_file), stage=_place(stage),
                          tls=tls)
        beside = out.absolute().parent == Path.cwd()  # what is relative in the spec means the same there
        known = serving.Known(_named(models), labels, repository if beside else _place(repository), pin)
        with steps(f"adopting {grpc_target}", quiet=as_json) as progress:
            progress("asking what it serves")
            adopted = serving.adopt(part, out, known, name=name, replace=force)
        tell(adopted.to_json(), as_json, adopted.text)
        if not as_json:
            click.echo("next: tfs status" + ("" if str(out) == "serving.yaml" else f" --spec {out}"), err=True)


def _place(text: str | None) -> str | None:
    """A path from here, absolute; an address as it is."""
    from deploy.addresses import Address

    return text if text is None or Address.parse(text) is not None else str(Path(text).expanduser().absolute())


def _named(models: tuple[str, ...]) -> Mapping[str, str | None]:
    named: dict[str, str | None] = {}
    for text in models:
        name, _, base = text.partition("=")
        if not name or name in named:
            raise click.UsageError(f"--model {text}: " + ("it names no model" if not name else "it stands twice"))
        named[name] = base.rstrip("/") or None
    return named


def _tls(ca: str | None, server_name: str | None, certificate: str | None, key: str | None) -> RemoteTls | None:
    from deploy.spec import RemoteTls

    if not any((ca, server_name, certificate, key)):
        return None
    paths = {name: str(Path(path).absolute()) for name, path in (
        ("ca", ca), ("client_certificate", certificate), ("client_key", key)) if path is not None}
    return RemoteTls(server_name=server_name, **paths)


def _watch(app: click.Group) -> None:
    @command(app, "watch", example="tfs watch\ntfs watch --loop 30")
    @spec_option
    @of_servers
    @click.option("--loop", "every", type=click.FloatRange(0.1), metavar="SECONDS",
                  help="Look again and again, so many seconds apart, until Ctrl-C.")
    @click.option("--once", is_flag=True, help="Look once and end, as without --loop.")
    def watch(spec_path: Path, chosen: ChosenServers, every: float | None, once: bool, as_json: bool) -> None:
        """Bring drift back to what is known to be good.

        Looks what the server serves and what its config file says; what isn't as the ledger has it is brought back,
        without a restart: what others have pushed, and what a restart of a server has undone whose config file tfs
        can't write. While a release is open nothing is done. Exit code 0 if all is well, then.
        """
        from deploy import rollout

        if once and every is not None:
            raise click.UsageError("give one of --once and --loop")
        spec = load_spec(spec_path)
        servers = several(spec, chosen)
        if every is not None:
            _loop(spec_path, chosen, every, as_json)
        elif servers:
            from deploy.cli.fleet_views import WATCHED

            tell_each(spec, on_each(servers, lambda one, progress: rollout.watch(one, progress=progress),
                                    quiet=as_json, changing=True), WATCHED, as_json)
        else:
            with steps(f"watching {spec.name}", quiet=as_json) as progress:
                seen = rollout.watch(spec, progress=progress)
            tell(seen.to_json(), as_json, seen.text)


def _loop(spec_path: Path, chosen: ChosenServers, every: float, as_json: bool) -> None:
    """For ever: a line for each change, as JSON a line for each look."""
    from deploy import rollout
    from deploy.errors import DeployError
    from deploy.waiting import Deadline

    forever, before = Deadline(None), dict[str, str]()
    while True:
        spec = load_spec(spec_path)
        for one in several(spec, chosen) or (spec,):
            try:
                seen = rollout.watch(one)
            except DeployError as error:
                _tell_look(one.name, {"name": one.name, "outcome": "failed", **error.to_json()}, str(error), before,
                           as_json)
            else:
                _tell_look(one.name, seen.to_json(), seen.text(), before, as_json)
        forever.sleep(every)


def _tell_look(name: str, data: Mapping[str, object], text: str, before: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(data, default=str))
    elif before.get(name) != text:
        click.echo(text)
    before[name] = text
