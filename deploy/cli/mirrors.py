"""tfs pull, mirror: versions that are elsewhere, on this machine."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from deploy.cli.options import (
    LocalPath,
    RepositoryPlace,
    bytes_bar,
    command,
    load_spec,
    repository_option,
    spec_option,
    tell,
)
from deploy.cli.targets import named, repository_at

if TYPE_CHECKING:
    from deploy.repository import Mirrored
    from deploy.types import VersionPolicy

_MIRROR = """tfs mirror                                    # what serving.yaml wants of its remote repository
tfs mirror --from s3://bucket/models --to /models --model digits:latest
tfs mirror --from s3://bucket/models --to /models --model digits:3,4 --follow --every 60
tfs mirror --from s3://bucket/models --to /models --list wanted.txt --follow"""

_from_option = click.option("--from", "source", type=RepositoryPlace(), metavar="ADDRESS",
                            help="The repository that has them, such as s3://bucket/models.")
_signed_option = click.option("--signed-by", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
                              help="Take only what one of these has signed: a public key, or certificates (PEM). "
                              "Repeatable.")
_verify_option = click.option("--verify", is_flag=True, help="Read what is here already, too, and compare it.")


def register(app: click.Group) -> None:
    _pull(app)
    _mirror(app)


def _pull(app: click.Group) -> None:
    @command(app, "pull", example="tfs pull digits/4 --from s3://bucket/models\n"
                                  "tfs pull digits --from oci://registry.example.com/models -r models")
    @click.argument("version")
    @_from_option
    @repository_option
    @_signed_option
    @_verify_option
    def pull(version: str, source: Path | str | None, repository: Path | str, signed_by: tuple[Path, ...],
             verify: bool, as_json: bool) -> None:
        """Bring a version from one repository into another.

        MODEL/VERSION, or MODEL for its newest. It arrives whole and as it was published, digests compared, or not at
        all. Between any two places: a directory, S3, GCS, Azure, SSH, a registry.
        """
        from deploy import serving
        from deploy.repository import pull as bring

        if source is None:
            raise click.UsageError("say where it is: --from s3://bucket/models")
        remote, target, mv = repository_at(source), repository_at(repository), named(source, version)
        with bytes_bar(f"fetching {mv}", quiet=as_json) as progress:
            fetched = bring(remote, target, mv, verify=verify, progress=progress,
                            accept=serving.accepting(remote, signed_by))
        tell({"model": mv.name, "version": mv.version, "fetched": fetched.to_json() if fetched else None,
              "to": str(target.store)}, as_json,
             lambda: f"{mv} is in {target.store}" + (f", {fetched.size / 1e6:,.1f} MB in {fetched.seconds:.1f} s"
                                                     if fetched else " already"))


def _mirror(app: click.Group) -> None:
    @command(app, "mirror", example=_MIRROR)
    @spec_option
    @_from_option
    @click.option("--to", "target", type=LocalPath(
        "a mirror is a directory; from one store to another: tfs pull MODEL/VERSION --from ADDRESS -r ADDRESS"),
                  help="A directory here.")
    @click.option("--model", "models", multiple=True, metavar="NAME[:VERSIONS]",
                  help="With --from: a model, and latest, latest=N, all or numbers.  [default: latest] Repeatable.")
    @click.option("--list", "listed", type=click.Path(path_type=Path, dir_okay=False),
                  help="With --from: a file with a NAME[:VERSIONS] on each line; with --follow it is read again before "
                       "each look.")
    @_signed_option
    @_verify_option
    @click.option("--keep", type=click.IntRange(0), metavar="N",
                  help="With --from: so many versions that aren't wanted any more stay of each model, the newest; "
                  "older copies are removed.  [default: all stay]")
    @click.option("--follow", is_flag=True, help="Go on until SIGTERM, as a sidecar does.")
    @click.option("--every", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="SECONDS",
                  help="With --follow: between two looks.")
    def mirror(spec_path: Path, source: Path | str | None, target: Path | None, models: tuple[str, ...],
               listed: Path | None, signed_by: tuple[Path, ...], verify: bool, keep: int | None, follow: bool,
               every: float, as_json: bool) -> None:
        """Keep a directory equal to what is wanted of a remote repository.

        Without --from: those that the spec wants, in the spec's mirror; `tfs up` and `tfs rollout` do that themselves.
        Each version appears whole and verified, by one rename; room on the disk is looked at first. Once as an init
        container does, or with --follow as a sidecar does: a pass that fails is told, and tried again.
        """
        from deploy import serving

        named = models or listed or signed_by or keep is not None
        if (source is None) != (target is None) or (named and source is None):
            raise click.UsageError("--from, --to, --model, --list, --signed-by and --keep go together: tfs mirror "
                                   "--from ADDRESS --to DIRECTORY --model NAME")
        once = _from_spec(spec_path, verify) if source is None or target is None else _named(
            source, target, _wanted(models, listed), signed_by, keep, verify)
        if not follow:
            with bytes_bar("mirroring", quiet=as_json) as progress:
                done = once(lambda text: click.echo(text, err=True), progress)
            tell(done.to_json(), as_json, lambda: _sentence(done))
            return

        def show(data: dict[str, object], text: str) -> None:
            click.echo(json.dumps(data) if as_json else text)

        with _until_terminated() as stop:
            serving.follow(lambda: once(None, None), every, stop,
                           arrived=lambda done: show(done.to_json(), _sentence(done)),
                           failed=lambda error: show(error.to_json(), f"failed: {error}"))


_Once = Callable[["Callable[[str], None] | None", "Callable[[int, int], None] | None"], "Mirrored"]


def _from_spec(path: Path, verify: bool) -> _Once:
    from deploy import serving
    from deploy.errors import SpecError
    from deploy.repository import Mirrored

    spec = load_spec(path)
    mirrors = {one.repository: one for one in spec.members if one.remote is not None}
    if not mirrors:
        raise SpecError(f"{path.name}: the repository {spec.repository} is on this machine: there is nothing to mirror",
                        path="repository", hint="name an address, such as s3://bucket/models")

    def once(step: Callable[[str], None] | None, progress: Callable[[int, int], None] | None) -> Mirrored:
        done = [serving.fetch(one, step=step, progress=progress, verify=verify) for one in mirrors.values()]
        return Mirrored(*(tuple(chain.from_iterable(parts)) for parts in zip(
            *((one.fetched, one.present, one.removed) for one in done), strict=True)))

    return once


def _named(source: Path | str, target: Path, wanted: Callable[[], Mapping[str, VersionPolicy]],
           signed_by: tuple[Path, ...], keep: int | None, verify: bool) -> _Once:
    from deploy import serving
    from deploy.repository import Repository
    from deploy.repository import mirror as bring

    remote = Repository(source)
    accept = serving.accepting(remote, signed_by)
    return lambda step, progress: bring(remote, Repository(target), wanted(), verify=verify, keep=keep, accept=accept,
                                        step=step, progress=progress)


def _wanted(models: tuple[str, ...], listed: Path | None) -> Callable[[], Mapping[str, VersionPolicy]]:
    """What to bring, asked before each look: what a file says may change. Raises SpecError, also for the first time."""
    if (listed is None) == (not models):
        raise click.UsageError("say which models, in one way: --model NAME, or --list FILE")
    if listed is None:
        fixed = dict(map(_policy, models))
        return lambda: fixed
    _read_list(listed)
    return lambda: _read_list(listed)


def _read_list(path: Path) -> dict[str, VersionPolicy]:
    from deploy import files
    from deploy.errors import SpecError

    try:
        lines = files.read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise SpecError(f"can't read the list {path}: {files.reason(e) if isinstance(e, OSError) else 'it is no text'}",
                        id="config-unreadable") from None
    found: dict[str, VersionPolicy] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            name, policy = _policy(text)
        except SpecError as e:
            raise SpecError(f"{path}: line {number}: {e.message}", hint=e.hint, id=e.id) from None
        if name in found:
            raise SpecError(f"{path}: line {number}: {name} is named twice", id="duplicate-key")
        found[name] = policy
    if not found:
        raise SpecError(f"{path} names no model", hint="write a NAME:VERSIONS on each line", id="no-model-named")
    return found


def _policy(text: str) -> tuple[str, VersionPolicy]:
    """`digits`, `digits:latest=2`, `digits:all`, `digits:3,4`. Raises SpecError."""
    from deploy.errors import SpecError
    from deploy.naming import check_name, check_version
    from deploy.types import All, Latest, Specific

    name, _, versions = text.partition(":")
    check_name(name)
    if versions in ("", "latest"):
        return name, Latest()
    if versions == "all":
        return name, All()
    kind, equals, count = versions.partition("=")
    if kind == "latest" and equals and count.isdigit() and 0 < int(count) <= 1000:
        return name, Latest(int(count))
    if kind == "latest":
        raise SpecError(f"{text}: expected latest=N, N from 1 to 1000")
    return name, Specific(tuple(check_version(number) for number in versions.split(",")))


def _sentence(done: Mirrored) -> str:
    lines = [f"fetched {one.mv}, {one.size / 1e6:,.1f} MB in {one.seconds:.1f} s" for one in done.fetched]
    if not lines:
        lines = ["nothing to fetch: all that is wanted is here"]
    if done.removed:
        lines.append(f"removed {', '.join(map(str, done.removed))}")
    return "\n".join(lines)


@contextmanager
def _until_terminated() -> Iterator[Event]:
    """An event that SIGTERM and Ctrl-C set: a sidecar that is told to end has done nothing wrong."""
    stop = Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
