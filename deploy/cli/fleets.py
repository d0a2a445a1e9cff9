"""One verb on the servers of a spec that names several: one table, JSON by server, and the worst exit code."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from deploy.cli.options import ChosenServers, steps, table, tell, verbose
from deploy.cli.untranslated import as_deploy_error

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deploy.backends import Progress
    from deploy.fleet import ServerResult
    from deploy.spec import Spec

T = TypeVar("T")

INTERRUPTED = 130
_INTERRUPTED = {"error": "Interrupted", "id": "interrupted", "message": "interrupted", "hint": "",
                "exit_code": INTERRUPTED, "details": {}}

Row = Sequence["RenderableType"]


@dataclass(frozen=True)
class FleetView(Generic[T]):
    """How one verb's results are told.

    columns: between the server's name and its state, and the problem. row: state, those columns, problem.
    data: as the verb's JSON for one server. exit_code: of a result that is no error. summary: of all, one line.
    """

    columns: tuple[str, ...]
    row: Callable[[T], Row]
    data: Callable[[T], Mapping[str, Any]]
    summary: Callable[[Sequence[ServerResult[T]]], str]
    exit_code: Callable[[T], int] = lambda _: 0
    notes: Callable[[T], Iterable[str]] = lambda _: ()


def several(spec: Spec, chosen: ChosenServers) -> tuple[Spec, ...]:
    """The servers that a command is about, of a spec that names several; none of one that doesn't, which goes its own
    way. Raises SpecError for a name that isn't there."""
    if not spec.servers and not any(chosen):
        return ()
    from deploy.fleet import select_servers

    return select_servers(spec, *chosen)


def on_each(servers: Sequence[Spec], verb: Callable[[Spec, Progress], T], *, quiet: bool, changing: bool = False
            ) -> tuple[ServerResult[T], ...]:
    """The verb on each of them, at the same time; its steps on stderr, each after its server's name."""
    from deploy.fleet import everywhere
    from deploy.fleet.parallel import CHANGING, LOOKING

    with steps("", quiet=quiet) as progress:
        return everywhere(servers, verb, progress=progress, at_once=CHANGING if changing else LOOKING)


def tell_each(spec: Spec, results: Sequence[ServerResult[T]], view: FleetView[T], as_json: bool, *,
              below: Callable[[], Sequence[RenderableType]] = tuple) -> None:
    """Tell all results. Raises Exit with the largest exit code, if that isn't 0. below: what follows the table."""
    tell(json_of(spec, results, view), as_json, lambda: shown(results, view, below()))
    _end(results, view, as_json)


def _end(results: Sequence[ServerResult[T]], view: FleetView[T], as_json: bool) -> None:
    if not as_json:
        _tell_errors(results)
    if code := worst(results, view):
        raise click.exceptions.Exit(code)


def tell_sections(spec: Spec, results: Sequence[ServerResult[T]], as_json: bool, *,
                  data: Callable[[T], Mapping[str, Any]], text: Callable[[T], str]) -> None:
    """Longer texts, each below its server's name."""
    view = FleetView[T]((), lambda _: (), data, lambda _: "")
    tell(json_of(spec, results, view), as_json, lambda: "\n\n".join(
        f"=== {result.server}\n{text(result.value)}" for result in results if result.value is not None))
    _end(results, view, as_json)


def tell_lines(spec: Spec, results: Sequence[ServerResult[str]], as_json: bool) -> None:
    """The lines of each server's log, each after its server's name."""
    view = FleetView[str]((), lambda _: (), lambda text: {"logs": text.splitlines()}, lambda _: "")
    width = max(len(result.server) for result in results)
    tell(json_of(spec, results, view), as_json, lambda: "\n".join(
        f"{result.server:<{width}} | {line}" for result in results for line in (result.value or "").splitlines()))
    _end(results, view, as_json)


def _tell_errors(results: Iterable[ServerResult[Any]]) -> None:
    """On stderr, a sentence for each server that has an error."""
    for result in results:
        if result.error is None:
            continue
        if verbose():
            traceback.print_exception(result.error)
        error = as_deploy_error(result.error)
        click.echo(f"tfs: {result.server}: {' '.join(str(error).splitlines())} (tfs explain {error.id})", err=True)


def worst(results: Iterable[ServerResult[T]], view: FleetView[T]) -> int:
    """The largest exit code of all; 130 if any was interrupted."""
    return max((_exit_code(result, view) for result in results), default=0)


def _exit_code(result: ServerResult[T], view: FleetView[T]) -> int:
    if result.interrupted:
        return INTERRUPTED
    if result.error is not None:
        return as_deploy_error(result.error).exit_code
    assert result.value is not None, "a verb gives something"
    return view.exit_code(result.value)


def json_of(spec: Spec, results: Sequence[ServerResult[T]], view: FleetView[T]) -> dict[str, Any]:
    """By server, what the verb says of one server alone, or its error."""
    return {"name": spec.name, "exit_code": worst(results, view),
            "servers": {result.server: _data(result, view) for result in results}}


def _data(result: ServerResult[T], view: FleetView[T]) -> Mapping[str, Any]:
    if result.interrupted:
        return _INTERRUPTED
    if result.error is not None:
        return as_deploy_error(result.error).to_json()
    assert result.value is not None, "a verb gives something"
    return view.data(result.value)


def shown(results: Sequence[ServerResult[T]], view: FleetView[T], below: Sequence[RenderableType] = ()
          ) -> RenderableType:
    """A line for each server, in the spec's order."""
    from rich.console import Group
    from rich.text import Text

    listing = table("", "server", "state", *view.columns, "problem")
    nothing = ["-"] * len(view.columns)
    for result in results:
        if result.interrupted:
            row: Row = (Text("interrupted", style="yellow"), *nothing, "")
        elif result.error is not None:
            row = (Text("failed", style="bold red"), *nothing, as_deploy_error(result.error).message)
        else:
            assert result.value is not None, "a verb gives something"
            row = view.row(result.value)
        listing.add_row(result.server, *row)
    notes = [f"{r.server}: {note}" for r in results if r.value is not None for note in view.notes(r.value)]
    return Group(view.summary(results), "", listing, *([""] if notes else []), *notes, *below)


def counted(results: Sequence[ServerResult[T]], what: str, when: Callable[[T], bool]) -> str:
    """`4 of 5 servers are ready`."""
    count = sum(1 for result in results if result.value is not None and when(result.value))
    if count < len(results):
        return f"{count} of {len(results)} servers {'is' if count == 1 else 'are'} {what}"
    return f"all {count} servers are {what}" if count > 1 else f"1 server is {what}"
