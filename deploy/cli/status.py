"""tfs status: what is wanted, written, known good and served."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import command, load_spec, spec_option, table, tell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deploy.serving.observe import ServerStatus
    from deploy.types import Serving


def register(app: click.Group) -> None:
    @command(app, "status", example="tfs status --json\ntfs status --watch")
    @spec_option
    @click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
    @click.option("--interval", type=click.FloatRange(0.1), default=1.0, show_default=True,
                  help="Seconds between two looks while watching.")
    def status(spec_path: Path, watch: bool, interval: float, as_json: bool) -> None:
        """Show what is wanted and what is served.

        Per model what the spec says, what is known good since (ledger), what the server's config file says, and
        what is live. Where they disagree, a line says who did what.
        """
        from deploy import serving

        def look() -> ServerStatus:
            return serving.status(load_spec(spec_path))

        if watch:
            _watch(look, interval, as_json)
        else:
            status = look()
            tell(status.to_json(), as_json, lambda: status_table(status))


def _watch(look: Callable[[], ServerStatus], interval: float, as_json: bool) -> None:
    """For ever. On a terminal in place; else a line for each change (JSON: a line for each look)."""
    from deploy.waiting import Deadline

    forever, before = Deadline(None), ""
    if sys.stdout.isatty() and not as_json:
        from rich.live import Live

        from deploy.cli.options import console

        with Live(status_table(look()), console=console(), auto_refresh=False) as live:
            while True:
                live.update(status_table(look()), refresh=True)
                forever.sleep(interval)
    while True:
        status = look()
        line = json.dumps(status.to_json(), default=str) if as_json else summary(status)
        if line != before or as_json:
            click.echo(line)
        before = line
        forever.sleep(interval)


def summary(status: ServerStatus) -> str:
    """One line for a log."""
    parts = [f"{status.name} {_state(status)}"]
    for model in status.models:
        live = model.views.live
        labels = ", ".join(f"{k} -> {v}" for k, v in sorted(live.labels.items())) if live is not None else ""
        parts.append(f"{model.name}: {_numbers(model.served)}{f' ({labels})' if labels else ''}")
    return "; ".join([*parts, *status.problems, *(d.message for d in status.drift)])


def status_table(status: ServerStatus) -> RenderableType:
    """Everything, for people."""
    from rich.console import Group

    head = f"{status.name} is {_state(status)}"
    if status.running and (status.rest_url or status.grpc_target):
        head += f"  ({status.backend}, REST {status.rest_url}, gRPC {status.grpc_target})"
    shown = table("", "model", "spec", "ledger", "file", "live", "states")
    for model in status.models:
        states = [f"{s.version} {s.state.name}" + (f": {s.error}" if s.error else "")
                  for s in sorted(model.statuses, key=lambda s: s.version)]
        views = model.views
        shown.add_row(model.name, *map(_serving, (views.spec, views.ledger, views.file, views.live)),
                      "\n".join(states) or "-")
    lines = [f"problem: {p}" for p in status.problems if status.running or status.exists]
    lines += [f"{'release' if d.kind == 'release' else 'drift'}: {d.message}" for d in status.drift]
    if status.changes:
        lines += [f"changed: {change}" for change in status.changes]
        lines.append("it runs with another configuration than the spec has now; `tfs down` and `tfs up` apply the spec")
    return Group(head, "", shown, *([""] if lines else []), *lines)


def _state(status: ServerStatus) -> str:
    return "ready" if status.ready else "running, not ready" if status.running else "not running"


def _serving(view: Serving | None) -> str:
    """A model as one of the four sees it."""
    if view is None:
        return "-"
    return "\n".join([_numbers(view.versions), *(f"{k} -> {v}" for k, v in sorted(view.labels.items()))])


def _numbers(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "-"
