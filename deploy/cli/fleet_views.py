"""What each verb's table of several servers shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from deploy.cli.fleets import FleetView, Row, counted
from deploy.errors import NotReady, SmokeFailed
from deploy.smoke import Outcome

if TYPE_CHECKING:
    from deploy.rollout import Watched
    from deploy.serving import RunningServer
    from deploy.serving.doctor.diagnosis import Diagnosis
    from deploy.serving.observe import ModelStatus, ServerStatus
    from deploy.serving.ready import ReadyAnswer
    from deploy.smoke import SmokeReport
    from deploy.types import Endpoint, Serving

_MOST_MODELS = 6  # of a server, in a table


def _good(text: str) -> Text:
    return Text(text, style="green")


def _bad(text: str) -> Text:
    return Text(text, style="bold red")


def _where(backend: str, rest: str | None, grpc: str | None) -> str:
    return ", ".join(filter(None, [backend, rest, grpc])) or "-"


def _up_row(running: RunningServer) -> Row:
    at: Endpoint = running.endpoint
    models = [f"{m.name} {_numbers(m.versions)}{_labels(m.labels)}" for m in running.models]
    return (_good("up already" if running.already else "up"),
            _where(running.backend, at.addresses.get("REST"), at.addresses.get("gRPC")),
            f"{running.seconds:.1f}", _listed(models), "")


UP: FleetView[RunningServer] = FleetView(
    ("at", ">seconds", "models"), _up_row, lambda running: running.to_json(),
    lambda results: counted(results, "up", lambda _: True))

DOWN: FleetView[str] = FleetView(
    (), lambda state: (state, ""), lambda state: {"stopped": state == "stopped", "ours": state != "stays"},
    lambda results: counted(results, "stopped", lambda state: state != "stays"),
    notes=lambda state: ["it is somebody else's, and isn't stopped by tfs"] if state == "stays" else [])

REPAIRED: FleetView[bool] = FleetView(
    (), lambda _: (_good("repaired"), ""), lambda _: {"repaired": True},
    lambda results: counted(results, "back at what is known to be good", lambda _: True))


WATCHED: FleetView[Watched] = FleetView(
    (), lambda seen: (_good(seen.outcome), "; ".join(seen.drift)), lambda seen: seen.to_json(),
    lambda results: counted(results, "at what is known to be good", lambda seen: seen.outcome != "release"))


def _status_row(status: ServerStatus) -> Row:
    state = _good("ready") if status.ready else _bad("not ready") if status.running else \
        _bad("not known" if status.unknown else "not running")
    problems = status.problems if status.running or status.exists or status.unknown else []
    return (state, _where(status.backend, status.rest_url, status.grpc_target),
            _listed([_model(model) for model in status.models]), "\n".join(problems))


def _model(model: ModelStatus) -> str:
    """`digits 3 (stable -> 3)`, or what is wanted, if nothing is served."""
    live: Serving | None = model.views.live
    if live is None:
        return f"{model.name} - of {_numbers(model.wanted)}"
    return f"{model.name} {_numbers(live.versions)}{_labels(live.labels)}"


def _status_notes(status: ServerStatus) -> Iterable[str]:
    yield from (f"{'release' if d.kind == 'release' else 'drift'}: {d.message}" for d in status.drift)
    yield from (f"changed: {change}" for change in status.changes)


STATUS: FleetView[ServerStatus] = FleetView(
    ("at", "models"), _status_row, lambda status: status.to_json(),
    lambda results: counted(results, "ready", lambda status: status.ready), notes=_status_notes,
    exit_code=lambda status: status.exit_code)

READY: FleetView[ReadyAnswer] = FleetView(
    (">seconds",), lambda answer: (_good("ready") if answer.ready else _bad("not ready"), f"{answer.seconds:.1f}",
                                   "\n".join(answer.gaps)),
    lambda answer: answer.to_json(), lambda results: counted(results, "ready", lambda answer: answer.ready),
    exit_code=lambda answer: answer.exit_code)


def _diagnosis_row(diagnosis: Diagnosis) -> Row:
    likely = diagnosis.most_likely
    state = "runs" if diagnosis.running else "doesn't run"
    if likely is None:
        return _good(state), "", "", "" if diagnosis.running else "start it with tfs up"
    return (state if diagnosis.well else _bad(state), likely.rule, f"{len(diagnosis.causes)}",
            f"{likely.cause}; {likely.fix}")


DOCTOR: FleetView[Diagnosis] = FleetView(
    ("rule", ">findings"), _diagnosis_row, lambda diagnosis: diagnosis.to_json(),
    lambda results: counted(results, "well", lambda diagnosis: diagnosis.well),
    exit_code=lambda diagnosis: 0 if diagnosis.well else NotReady.exit_code)


def _smoke_row(report: SmokeReport) -> Row:
    counts = report.counts
    failed = report.failed
    first = f"{failed[0].subject}, {failed[0].name} over {failed[0].protocol}" if failed else ""
    return (_good("passed") if report.ok else _bad("failed"), *(str(counts[outcome]) for outcome in Outcome),
            f"{report.seconds:.1f}", report.gone or first)


SMOKE: FleetView[SmokeReport] = FleetView(
    (*(f">{outcome.value}" for outcome in Outcome), ">seconds"), _smoke_row, lambda report: report.to_json(),
    lambda results: counted(results, "serving what was published", lambda report: report.ok),
    exit_code=lambda report: 0 if report.ok else SmokeFailed.exit_code)


def _files_data(files: list[str]) -> Mapping[str, Any]:
    return {"files": files}


def files_view(state: str) -> FleetView[list[str]]:
    """Config files that were written, or compared. state: what they are now."""
    return FleetView(("files",), lambda files: (_good(state), "\n".join(files), ""), _files_data,
                     lambda results: f"config files of {len(results)} servers")


def _numbers(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "-"


def _labels(labels: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{label} -> {version}' for label, version in sorted(labels.items()))})" if labels else ""


def _listed(models: list[str]) -> str:
    more = [f"and {len(models) - _MOST_MODELS} more (--json has all)"] if len(models) > _MOST_MODELS else []
    return "\n".join([*models[:_MOST_MODELS], *more])
