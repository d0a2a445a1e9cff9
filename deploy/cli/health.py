"""tfs status, ready, doctor: how is the server, is it ready, and why not?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.options import command, load_spec, spec_option, table, tell
from deploy.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from deploy.serving.doctor.diagnosis import Diagnosis
    from deploy.serving.doctor.evidence import Evidence
    from deploy.serving.observe import ServerStatus
    from deploy.serving.ready import Prober, ReadyAnswer
    from deploy.types import Serving

_ONE_LINE, _MOST_LINES = 3, 20  # checks of one model, with the ports; lines for many
_DOCTOR = """tfs doctor
tfs doctor --container my-serving
tfs doctor --log server.log -- --model_name=digits --model_base_path=/models/digits"""


def register(app: click.Group) -> None:
    _status(app)
    _ready(app)
    _doctor(app)


def _status(app: click.Group) -> None:
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


def _ready(app: click.Group) -> None:
    @command(app, "ready", example="tfs ready && run-traffic\ntfs ready --wait 60\ntfs ready --serve 8600\n"
                                   "tfs ready --rest-url http://10.0.0.5:8501 --grpc 10.0.0.5:8500 --model digits/3")
    @spec_option
    @click.option("--rest-url", metavar="URL", help="A server that is managed elsewhere: http://host:port.")
    @click.option("--grpc", "grpc_target", metavar="HOST:PORT", help="Its gRPC address.")
    @click.option("--model", "refs", multiple=True, metavar="REF",
                  help="What that server has to serve, instead of the spec: name, name/version or name@label. "
                       "Repeatable.")
    @click.option("--timeout", type=click.FloatRange(0.1), default=5.0, show_default=True,
                  help="Seconds for one question.")
    @click.option("--wait", type=click.FloatRange(0), default=0.0, help="Ask again for so many seconds.")
    @click.option("--serve", type=click.IntRange(0, 65535), metavar="PORT",
                  help="Answer over HTTP on 127.0.0.1 instead: 200 or 503, with JSON. 0 takes any free port.")
    def ready(spec_path: Path, rest_url: str | None, grpc_target: str | None, refs: tuple[str, ...], timeout: float,
              wait: float, serve: int | None, as_json: bool) -> None:
        """Is exactly what is wanted served? Exit code 0 or 6.

        2, 4 or 8 if the spec, the repository or the ledger is broken, so that nobody can say.

        Asks over both protocols: the wanted versions AVAILABLE and no others, each label resolves to its version, and
        one golden answer per model is right. While a rollout is under way, each of its steps counts as ready.
        """
        from deploy.waiting import Deadline, poll

        if refs and not (rest_url or grpc_target):
            raise click.UsageError("--model is for a server that is managed elsewhere: --rest-url, --grpc")
        prober = _prober(spec_path, rest_url, grpc_target, refs, timeout)
        if serve is not None:
            _serve(prober, serve)
            return
        answer = prober.ask()
        if not answer.ready and wait > 0:
            later = [answer]

            def again() -> bool | None:
                later.append(prober.ask())
                return True if later[-1].ready else None

            poll(again, Deadline(wait))
            answer = later[-1]
        tell(answer.to_json(), as_json, lambda: _sentence(answer))
        if not answer.ready:
            raise click.exceptions.Exit(answer.exit_code)


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


def _serve(prober: Prober, port: int) -> None:
    from deploy.serving.healthz import listen

    server = listen(prober.ask, port)
    host, chosen = server.server_address[:2]
    click.echo(f"http://{host!s}:{chosen}/ answers 200 or 503; Ctrl-C ends it", err=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def _doctor(app: click.Group) -> None:
    @command(app, "doctor", example=_DOCTOR)
    @spec_option
    @click.option("--container", metavar="NAME", help="Any container with a model server, running or ended.")
    @click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="What a server here has printed.")
    @click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLAGS...]")
    def doctor(spec_path: Path, container: str | None, log: Path | None, flags: tuple[str, ...], as_json: bool) -> None:
        """Why doesn't it start, or serve?

        Looks at the exit code, the log, the mounts, the config files, the flags, the ports and the models on disk, and
        says what is wrong and what to do; the most likely cause is the last line. Nothing is changed. Exit code 6 if
        anything is wrong.
        """
        from deploy.serving.doctor.diagnosis import examine

        if sum((container is not None, log is not None or bool(flags))) > 1:
            raise click.UsageError("give one of --container and --log")
        diagnosis = examine(_evidence(spec_path, container, log, flags))
        tell(diagnosis.to_json(), as_json, lambda: _shown(diagnosis))
        if not diagnosis.well:
            raise click.exceptions.Exit(NotReady.exit_code)


def _evidence(spec_path: Path, container: str | None, log: Path | None, flags: tuple[str, ...]) -> Evidence:
    from deploy.serving.doctor import diagnosis

    if container is not None:
        return diagnosis.of_container(container)
    if log is not None or flags:
        return diagnosis.of_log(log, flags)
    return diagnosis.of_spec(load_spec(spec_path))


def _nothing(diagnosis: Diagnosis) -> str:
    """Nothing was found; whether that means that all is well depends on what could be seen."""
    if diagnosis.kind == "unknown" and diagnosis.given:
        return f"{diagnosis.name}: nothing in it shows a fault; whether the server runs can't be told from that"
    if diagnosis.running:
        return f"{diagnosis.name} runs; nothing is wrong"
    return f"{diagnosis.name} doesn't run; nothing is wrong: start it with " + (
        f"docker start {diagnosis.name}" if diagnosis.given else "tfs up")


def _shown(diagnosis: Diagnosis) -> object:
    from rich.console import Group
    from rich.text import Text

    from deploy.cli.options import table

    likely = diagnosis.most_likely
    if likely is None:
        return _nothing(diagnosis)
    shown = table("", "rule", "cause", "fix", "seen")
    for cause in diagnosis.causes:
        shown.add_row(cause.rule, Text(cause.cause), Text(cause.fix), Text(cause.seen[:300]))
    what = "worth a look" if diagnosis.well else "most likely"
    return Group(shown, "", Text(f"{what}: {likely.cause}; {likely.fix}"))
