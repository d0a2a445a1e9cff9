"""tfs status, ready: how is the server, and is it ready?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from deploy.cli.fleets import json_of, on_each, several, shown, tell_each
from deploy.cli.options import ChosenServers, command, load_spec, of_servers, spec_option, table, tell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deploy.fleet import ServerResult
    from deploy.serving.healthz import Readiness
    from deploy.serving.observe import ServerStatus
    from deploy.serving.ready import Prober, ReadyAnswer
    from deploy.spec import Spec
    from deploy.types import Serving

V = TypeVar("V", bound="Readiness")

_ONE_LINE, _MOST_LINES = 3, 20  # checks of one model, with the ports; lines for many

def register(app: click.Group) -> None:
    _status(app)
    _ready(app)


def _status(app: click.Group) -> None:
    @command(app, "status", example="tfs status --json\ntfs status --watch")
    @spec_option
    @of_servers
    @click.option("--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
    @click.option("--interval", type=click.FloatRange(0.1), default=1.0, show_default=True,
                  help="Seconds between two looks while watching.")
    def status(spec_path: Path, chosen: ChosenServers, watch: bool, interval: float, as_json: bool) -> None:
        """Show what is wanted and what is served.

        Per model what the spec says, what is known good since (ledger), what the server's config file says, and
        what is live. Where they disagree, a line says who did what. Of several servers a line each.
        """
        from deploy import serving

        spec = load_spec(spec_path)
        if servers := several(spec, chosen):
            from deploy.cli.fleet_views import STATUS

            if watch:
                _watch(lambda: _look_at_each(load_spec(spec_path), chosen), interval, as_json)
            else:
                tell_each(spec, _statuses(servers), STATUS, as_json)
        elif watch:
            _watch(lambda: _look(serving.status(load_spec(spec_path))), interval, as_json)
        else:
            status = serving.status(spec)
            tell(status.to_json(), as_json, lambda: status_table(status))
            if status.exit_code:
                raise click.exceptions.Exit(status.exit_code)


def _statuses(servers: Sequence[Spec]) -> tuple[ServerResult[ServerStatus], ...]:
    from deploy import serving

    return on_each(servers, lambda one, _: serving.status(one), quiet=True)


def _look_at_each(spec: Spec, chosen: ChosenServers) -> Look:
    from deploy.cli.fleet_views import STATUS

    results = _statuses(several(spec, chosen))
    if any(result.interrupted for result in results):
        raise KeyboardInterrupt
    lines = [f"{r.server}: {r.error}" if r.value is None else summary(r.value, r.server) for r in results]
    return Look(json_of(spec, results, STATUS), lines, lambda: shown(results, STATUS))


class Look(NamedTuple):
    """What a look has shown: as JSON data, as lines for a log, for a terminal."""

    data: Mapping[str, Any]
    lines: Sequence[str]
    shown: Callable[[], RenderableType]


def _look(status: ServerStatus) -> Look:
    return Look(status.to_json(), [summary(status)], lambda: status_table(status))


def _watch(look: Callable[[], Look], interval: float, as_json: bool) -> None:
    """For ever. On a terminal in place; else a line for each change (JSON: a line for each look)."""
    from deploy.waiting import Deadline

    forever, before = Deadline(None), list[str]()
    if sys.stdout.isatty() and not as_json:
        from rich.live import Live

        from deploy.cli.options import console

        with Live(look().shown(), console=console(), auto_refresh=False) as live:
            while True:
                live.update(look().shown(), refresh=True)
                forever.sleep(interval)
    while True:
        now = look()
        lines = [json.dumps(now.data, default=str)] if as_json else list(now.lines)
        for line in lines:
            if as_json or line not in before:
                click.echo(line)
        before = lines
        forever.sleep(interval)


def summary(status: ServerStatus, name: str = "") -> str:
    """One line for a log."""
    parts = [f"{name or status.name} {_state(status)}"]
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
        offered = (f"{name} {at}" for name, at in (("REST", status.rest_url), ("gRPC", status.grpc_target)) if at)
        head += f"  ({', '.join([status.backend, *offered])})"
    shown = table("", "model", "spec", "ledger", "file", "live", "states")
    for model in status.models:
        states = [f"{s.version} {s.state.name}" + (f": {s.error}" if s.error else "")
                  for s in sorted(model.statuses, key=lambda s: s.version)]
        views = model.views
        shown.add_row(model.name, *map(_serving, (views.spec, views.ledger, views.file, views.live)),
                      "\n".join(states) or "-")
    lines = [f"problem: {p}" for p in status.problems if status.running or status.exists or status.unknown]
    lines += [f"{'release' if d.kind == 'release' else 'drift'}: {d.message}" for d in status.drift]
    lines += [f"note: {note}" for note in status.notes]
    if status.changes:
        lines += [f"changed: {change}" for change in status.changes]
        lines.append("it runs with another configuration than the spec has now; `tfs down` and `tfs up` apply the spec")
    return Group(head, "", shown, *([""] if lines else []), *lines)


def _state(status: ServerStatus) -> str:
    return "ready" if status.ready else "running, not ready" if status.running else \
        "not to be asked for" if status.unknown else "not running"


def _serving(view: Serving | None) -> str:
    """A model as one of the four sees it."""
    if view is None:
        return "-"
    return "\n".join([_numbers(view.versions), *(f"{k} -> {v}" for k, v in sorted(view.labels.items()))])


def _numbers(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "-"


Address = tuple[str, int]


class _Listening(click.ParamType):  # type: ignore[type-arg]
    """`8600`, `0.0.0.0:8600`."""

    name = "address"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} is no port and no HOST:PORT", param, ctx)
        return host or "127.0.0.1", int(port)


def _ready(app: click.Group) -> None:
    @command(app, "ready", example="tfs ready && run-traffic\ntfs ready --wait 60\ntfs ready --serve 8600\n"
                                   "tfs ready --rest-url http://10.0.0.5:8501 --grpc 10.0.0.5:8500 --model digits/3")
    @spec_option
    @of_servers
    @click.option("--rest-url", metavar="URL", help="A server that is managed elsewhere: http://host:port.")
    @click.option("--grpc", "grpc_target", metavar="HOST:PORT", help="Its gRPC address.")
    @click.option("--model", "refs", multiple=True, metavar="REF",
                  help="What that server has to serve, instead of the spec: name, name/version or name@label. "
                       "Repeatable.")
    @click.option("--timeout", type=click.FloatRange(0.1), default=5.0, show_default=True,
                  help="Seconds for one question.")
    @click.option("--wait", type=click.FloatRange(0), default=0.0, help="Ask again for so many seconds.")
    @click.option("--serve", type=_Listening(), metavar="[HOST:]PORT",
                  help="Answer over HTTP instead, on 127.0.0.1 or another address: 200 or 503, with JSON. 0 takes any "
                       "free port.")
    def ready(spec_path: Path, chosen: ChosenServers, rest_url: str | None, grpc_target: str | None,
              refs: tuple[str, ...], timeout: float, wait: float, serve: Address | None, as_json: bool) -> None:
        """Is exactly what is wanted served? Exit code 0 or 6.

        2, 4 or 8 if the spec, the repository or the ledger is broken, so that nobody can say.

        Asks over both protocols: the wanted versions AVAILABLE and no others, each label resolves to its version, and
        one golden answer per model is right. While a rollout is under way, each of its steps counts as ready.
        """
        if refs and not (rest_url or grpc_target):
            raise click.UsageError("--model is for a server that is managed elsewhere: --rest-url, --grpc")
        if any(chosen) and (rest_url or grpc_target):
            raise click.UsageError("--server and --group choose among the spec's servers: leave --rest-url and --grpc "
                                   "out")
        if not (rest_url or grpc_target) and (servers := several(spec := load_spec(spec_path), chosen)):
            _ready_each(spec, servers, timeout, wait, serve, as_json)
            return
        prober = _prober(spec_path, rest_url, grpc_target, refs, timeout)
        if serve is not None:
            _serve(prober.ask, serve)
            return
        answer = _asked(prober.ask, wait)
        tell(answer.to_json(), as_json, lambda: _sentence(answer))
        if not answer.ready:
            raise click.exceptions.Exit(answer.exit_code)


def _ready_each(spec: Spec, servers: Sequence[Spec], timeout: float, wait: float, serve: Address | None, as_json: bool
                ) -> None:
    from deploy.cli.fleet_views import READY
    from deploy.fleet import FleetProber

    prober = FleetProber(servers, timeout=timeout)
    if serve is not None:
        _serve(prober.ask, serve)
    else:
        tell_each(spec, _asked(prober.ask, wait).results, READY, as_json)


def _asked(ask: Callable[[], V], wait: float) -> V:
    """The first answer that says ready, or after `wait` seconds the last."""
    from deploy.waiting import Deadline, poll

    answer = ask()
    if answer.ready or wait <= 0:
        return answer
    later = [answer]

    def again() -> bool | None:
        later[:] = [ask()]
        return True if later[0].ready else None

    poll(again, Deadline(wait))
    return later[0]


def _prober(spec_path: Path, rest_url: str | None, grpc_target: str | None, refs: tuple[str, ...], timeout: float
            ) -> Prober:
    from deploy.serving.ready import Prober, elsewhere, expected_from

    if not (rest_url or grpc_target):
        return Prober(load_spec(spec_path), timeout=timeout)
    there = elsewhere(rest_url, grpc_target, timeout)
    if refs:
        return Prober(None, there, expected_from(refs), timeout=timeout)
    return Prober(load_spec(spec_path), there, timeout=timeout)


def _sentence(answer: ReadyAnswer) -> str:
    """One line for one model or gap; a line for each of several."""
    if not answer.ready:
        return f"not ready: {answer.why}" if len(answer.gaps) < 2 else _listed("not ready:", answer.gaps)
    if len(answer.checked) <= _ONE_LINE:
        return f"ready ({'; '.join(answer.checked)})"
    by_model = dict[str, list[str]]()
    for sentence in answer.checked:
        by_model.setdefault(sentence.partition(":")[0].partition("/")[0], []).append(sentence)
    return _listed("ready:", ["; ".join(sentences) for sentences in by_model.values()])


def _listed(head: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _MOST_LINES} more (--json has all)"] if len(lines) > _MOST_LINES else []
    return "\n  ".join([head, *lines[:_MOST_LINES], *more])


def _serve(ask: Callable[[], Readiness], address: Address) -> None:
    from deploy.serving.healthz import listen

    server = listen(ask, *address)
    host, chosen = server.server_address[:2]
    click.echo(f"http://{host!s}:{chosen}/ answers 200 or 503; Ctrl-C ends it", err=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
