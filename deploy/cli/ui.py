"""tfs ui: the page, until somebody ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.fleets import several
from deploy.cli.options import ChosenServers, command, load_spec, of_servers, tell

if TYPE_CHECKING:
    from deploy.spec import Spec
    from deploy.ui.watching import SpecSource

_EXAMPLE = """tfs ui
tfs ui --spec serving.yaml --spec ranking.yaml --port 9000
tfs ui --allow-actions --open"""


def register(app: click.Group) -> None:
    @command(app, "ui", example=_EXAMPLE)
    @click.option("--spec", "spec_paths", type=click.Path(path_type=Path, dir_okay=False), multiple=True,
                  default=("serving.yaml",), envvar="TFS_SPEC", show_default=True,
                  help="The serving.yaml that says what is served. Repeatable: one page for several servers.")
    @of_servers
    @click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    @click.option("--port", type=click.IntRange(0, 65535), default=8555, show_default=True,
                  help="0 takes any free one.")
    @click.option("--allow-actions", is_flag=True,
                  help="Let the page continue, abort and roll back releases, for who has the token in its address.")
    @click.option("--open", "open_browser", is_flag=True, help="Open it in a browser.")
    def ui(spec_paths: tuple[Path, ...], chosen: ChosenServers, host: str, port: int, allow_actions: bool,
           open_browser: bool, as_json: bool) -> None:
        """Show servers and releases on a page, live.

        Servers, models, versions, labels and where each stands; releases step by step with the judge's numbers; golden
        answers and their drift; metrics; logs. It changes nothing without --allow-actions. Ctrl-C ends the page, and
        no server.
        """
        from deploy.extras import require

        require("ui", "tfs ui")
        sources = [source for path in spec_paths for source in _sources(path, chosen)]
        show(sources, host=host, port=port, allow_actions=allow_actions, open_browser=open_browser, as_json=as_json)


def show_spec(spec_path: Path, backend: str | None, image: str | None, chosen: ChosenServers, *, as_json: bool) -> None:
    """The page of a spec's servers, with what the command line overrides."""
    show(_sources(spec_path, chosen, backend, image), as_json=as_json)


def _sources(spec_path: Path, chosen: ChosenServers, backend: str | None = None, image: str | None = None
             ) -> list[SpecSource]:
    """One for each server of a spec that names several, which is looked at by itself."""
    from deploy.ui.watching import SpecSource

    def read(path: Path) -> Spec:
        return load_spec(path, backend, image)

    servers = several(read(spec_path), chosen)
    if not servers:
        return [SpecSource(spec_path, read)]
    return [SpecSource(spec_path, partial(_one, read, server.short_name)) for server in servers]


def _one(read: Callable[[Path], Spec], name: str, path: Path) -> Spec:
    """That server of the spec as it is now. Raises SpecError if it has gone."""
    return several(read(path), ChosenServers((name,)))[0]


def show(sources: Sequence[SpecSource], *, host: str = "127.0.0.1", port: int = 8555, allow_actions: bool = False,
         open_browser: bool = False, as_json: bool = False) -> None:
    """Until Ctrl-C."""
    from deploy.ui import open_ui

    with open_ui(sources, host=host, port=port, allow_actions=allow_actions) as page:
        tell(page.to_json(), as_json, lambda: _announced(page.url, page.servers, allow_actions))
        if open_browser:
            click.launch(page.url)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        if not as_json:
            click.echo("the page is closed; the servers go on", err=True)


def _announced(url: str, servers: Sequence[str], actions: bool) -> str:
    may = "it may continue, abort and roll back releases: keep the address to yourself" if actions else "read only"
    return f"{', '.join(servers)} on {url}\n  {may}\n  stop  Ctrl-C"
