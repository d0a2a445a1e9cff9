"""Options that several commands share; how a command says what it found, and on stderr how far it is."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, get_args

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from deploy.spec import Spec

F = TypeVar("F", bound=Callable[..., Any])
_MANY = 100_000_000  # bytes whose copying takes so long that somebody wonders

spec_option = click.option(
    "--spec", "spec_path", type=click.Path(path_type=Path, dir_okay=False), default="serving.yaml", envvar="TFS_SPEC",
    show_default=True, help="The serving.yaml that says what is served.")


DEFAULT_REPOSITORY = "models"


class RepositoryPlace(click.Path):
    """A directory's path, or the address of a store, `s3://bucket/prefix`, as text."""

    name = "repository"

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from deploy.addresses import Address, file_path

        address = Address.parse(value)
        return str(address) if address else super().convert(file_path(value), param, ctx)


class LocalPath(click.Path):
    """A path of this machine; addresses of stores are refused, not taken for its name. hint: what to do instead.
    either: whoever gets the path says what it should be."""

    def __init__(self, hint: str, *, directory: bool = True, either: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=either or not directory, dir_okay=either or directory)
        self._hint, self._kind = hint, "directory" if directory else "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from deploy.addresses import file_path, is_address
        from deploy.errors import SpecError

        if isinstance(value, str) and is_address(value):
            name = f"{param.opts[0]} " if isinstance(param, click.Option) else ""
            raise SpecError(f"{name}{value}: expected a {self._kind} of this machine, got an address", hint=self._hint,
                            id="bad-address")
        return super().convert(file_path(value) if isinstance(value, str) else value, param, ctx)


repository_option = click.option(
    "--repository", "-r", type=RepositoryPlace(), default=DEFAULT_REPOSITORY, envvar="TFS_REPOSITORY",
    show_default=True, help="Root of the model repository: a directory, or an address such as s3://bucket/models.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_VERBOSE = "tfs.verbose"
_verbose_option = click.option("--verbose", "-v", is_flag=True, expose_value=False,
                               callback=lambda context, _, value: context.meta.update({_VERBOSE: value}),
                               help="Show tracebacks of errors.")


class LateChoice(click.Choice[str]):
    """Names that are looked up when a command needs them. names: makes them."""

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        self.case_sensitive, self._names = True, names

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self._names())


def _backends() -> Sequence[str]:
    """The names that server/backend takes."""
    from deploy.spec import BackendKind

    return get_args(BackendKind)


backend_options = (
    click.option("--backend", type=LateChoice(_backends), help="Overrides the spec's server/backend."),
    click.option("--image", help="Overrides the spec's server/image."),
)


def command(group: click.Group, name: str, *, example: str) -> Callable[[F], click.Command]:
    """Register a function as a command with --json, --verbose and an example in its help."""

    def register(function: F) -> click.Command:
        epilog = "\b\nExample:\n  " + example.replace("\n", "\n  ")
        new = click.command(name, epilog=epilog)(_json_option(_verbose_option(function)))
        group.add_command(new)
        return new

    return register


def overridable(function: F) -> F:
    """Add --backend and --image."""
    for option in reversed(backend_options):
        function = option(function)
    return function


def verbose() -> bool:
    """Whether the command line has --verbose."""
    return bool(click.get_current_context().meta.get(_VERBOSE))


class ChosenServers(NamedTuple):
    """The servers that a command line names, of a spec with several; all of them, if it names none."""

    servers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


_choosing_options = (
    click.option("--server", "servers", multiple=True, metavar="NAME[,NAME]",
                 help="Of a spec with several servers, only this one. Repeatable."),
    click.option("--group", "groups", multiple=True, metavar="NAME[,NAME]",
                 help="Of a spec with several servers, those of this group. Repeatable."),
)


def of_servers(function: F) -> F:
    """Add --server and --group, which the function gets together as `chosen`."""

    @functools.wraps(function)
    def with_chosen(*args: Any, servers: tuple[str, ...], groups: tuple[str, ...], **options: Any) -> Any:
        return function(*args, chosen=ChosenServers(_names(servers), _names(groups)), **options)

    wrapped: Any = with_chosen
    for option in reversed(_choosing_options):
        wrapped = option(wrapped)
    return cast("F", wrapped)


def _names(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for value in values for part in value.split(",") if (name := part.strip()))


def load_spec(path: Path, backend: str | None = None, image: str | None = None) -> Spec:
    """The spec at `path`, with what the command line overrides for each of its servers."""
    import msgspec

    from deploy import spec

    loaded = spec.load_spec(path)
    changes = {k: v for k, v in (("backend", backend), ("image", image)) if v is not None}
    if not changes:
        return loaded

    def overridden(one: Spec) -> Spec:
        return msgspec.structs.replace(one, server=msgspec.structs.replace(one.server, **changes),
                                       servers=tuple(map(overridden, one.servers)))

    return overridden(loaded)


def load_spec_or_last(path: Path) -> Spec:
    """The spec at `path`; if it is broken or gone, that of the server which was started from it: an error in a file is
    no reason to leave a server or a release where it is."""
    from deploy import serving
    from deploy.errors import SpecError

    try:
        return load_spec(path)
    except SpecError as broken:
        last = serving.last_started(path)
        if last is None:
            raise
        click.echo(f"warning: {broken}; going by what was started last", err=True)
        return last


def console(*, stderr: bool = False) -> Console:
    """A rich console; off a terminal it is wide enough that tables don't wrap."""
    from deploy.cli.console import SafeConsole

    stream = sys.stderr if stderr else sys.stdout
    return SafeConsole(stream, None if stream.isatty() else 160)


def tell(data: object, as_json: bool, text: Callable[[], object]) -> None:
    """Print `data` as JSON, or what `text` makes for people (a string or something that rich can print)."""
    if as_json:
        click.echo(json.dumps(data, indent=2, default=str))
        return
    shown = text()
    if isinstance(shown, str):
        click.echo(shown)
    else:
        console().print(shown)


def table(title: str, *columns: str) -> Table:
    """An empty rich table in the house's style."""
    from rich import box
    from rich.table import Table

    empty = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        empty.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return empty


class Steps:
    """How far a command is: called with one sentence per step.

    show: takes what is to be seen. change: the same for what soon changes again, where that can be shown.
    """

    def __init__(self, title: str, show: Callable[[str], None], change: Callable[[str], None] | None = None) -> None:
        self._prefix, self._show, self._change, self._sentence = f"{title}: " if title else "", show, change, ""

    def __call__(self, sentence: str) -> None:
        self._sentence = sentence
        self._show(f"{self._prefix}{sentence}")

    def copied(self, done: int, total: int) -> None:
        """Bytes of the step that was named last, if they are many."""
        if self._change and total >= _MANY:
            self._change(f"{self._prefix}{self._sentence}, {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")


@contextmanager
def steps(title: str, *, quiet: bool = False) -> Iterator[Steps]:
    """On a terminal one line that changes, elsewhere a line for each step, both on stderr; nothing if `quiet`."""
    if quiet:
        yield Steps(title, lambda _: None)
    elif sys.stderr.isatty():
        from rich.live import Live
        from rich.spinner import Spinner

        spinner = Spinner("dots", title)
        with Live(spinner, console=console(stderr=True), refresh_per_second=12.5, transient=True) as live:
            def change(text: str) -> None:
                spinner.update(text=text)

            def show(text: str) -> None:
                change(text)
                live.refresh()  # at once: stderr is closed while TensorFlow is imported

            yield Steps(title, show, change)
    else:
        yield Steps(title, lambda text: click.echo(text, err=True))


@contextmanager
def bytes_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that takes (bytes done, bytes in all)."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
