"""tfs doctor: why isn't it served, and what to do?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deploy.cli.fleets import on_each, several, tell_each
from deploy.cli.options import ChosenServers, command, load_spec, of_servers, spec_option, tell
from deploy.errors import NotReady

if TYPE_CHECKING:
    from deploy.serving.doctor.diagnosis import Diagnosis
    from deploy.serving.doctor.evidence import Evidence

_DOCTOR = """tfs doctor
tfs doctor --container my-serving
tfs doctor --log server.log -- --model_name=digits --model_base_path=/models/digits"""


def register(app: click.Group) -> None:
    @command(app, "doctor", example=_DOCTOR)
    @spec_option
    @of_servers
    @click.option("--container", metavar="NAME", help="Any container with a model server, running or ended.")
    @click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="What a server here has printed.")
    @click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLAGS...]")
    def doctor(spec_path: Path, chosen: ChosenServers, container: str | None, log: Path | None,
               flags: tuple[str, ...], as_json: bool) -> None:
        """Why doesn't it start, or serve?

        Looks at the exit code, the log, the mounts, the config files, the flags, the ports and the models on disk, and
        says what is wrong and what to do; the most likely cause is the last line. Nothing is changed. Exit code 6 if
        anything is wrong.
        """
        from deploy.serving.doctor.diagnosis import examine

        if sum((container is not None, log is not None or bool(flags))) > 1:
            raise click.UsageError("give one of --container and --log")
        named = container is not None or log is not None or bool(flags)
        if named and any(chosen):
            raise click.UsageError("--server and --group choose among the spec's servers: leave --container, --log and "
                                   "flags out")
        if not named and (servers := several(spec := load_spec(spec_path), chosen)):
            from deploy.cli.fleet_views import DOCTOR
            from deploy.serving.doctor.diagnosis import diagnose

            tell_each(spec, on_each(servers, lambda one, _: diagnose(one), quiet=True), DOCTOR, as_json)
            return
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
