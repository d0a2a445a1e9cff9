"""What a command is about: a version in the repository, a directory, a TFLite file, or what a server serves."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy.cli.options import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from deploy.client import Client
    from deploy.repository import Repository
    from deploy.types import ModelVersion

F = TypeVar("F", bound=Callable[..., Any])

_PATH = re.compile(r"^[./~]|.\w+/\w+/|\.(tflite|keras|h5|hdf5)$")

_server_options = (
    click.option("--rest-url", metavar="URL", help="A server's REST address: http://host:port."),
    click.option("--grpc", "grpc_target", metavar="HOST:PORT", help="Its gRPC address."),
)


def server_options(function: F) -> F:
    """Add --rest-url and --grpc."""
    for option in reversed(_server_options):
        function = option(function)
    return function


def connected(rest_url: str | None, grpc_target: str | None) -> Client:
    """A client for these addresses; at least one of them."""
    from deploy.client import connect_to

    return connect_to(grpc_target, rest_url)


def named(repository: Path | str, text: str) -> ModelVersion:
    """`mnist/3`, or the newest version of `mnist`, wherever it is. Raises VersionNotFound, SpecError."""
    from deploy.errors import VersionNotFound
    from deploy.types import ModelRef, ModelVersion

    ref, repo = ModelRef.parse(text), repository_at(repository)
    version = ref.version or repo.latest(ref.name)
    if version is None or ref.label is not None:
        place = "" if str(repository) == DEFAULT_REPOSITORY else f" -r {repository}"
        raise VersionNotFound(f"there is no version of {text!r} in {repo.store}",
                              hint=f"see `tfs repository list{place}`")
    mv = ModelVersion(ref.name, version)
    repo.name(mv)
    return mv


def version(repository: Path | str, text: str) -> tuple[ModelVersion, Path]:
    """A version as `named` takes it, and its directory. Raises RepositoryError if that isn't on this machine."""
    mv = named(repository, text)
    return mv, repository_at(repository).path(mv)


def place(repository: Path | str, text: str, *, weights: bool = False) -> tuple[Path, ModelVersion | None]:
    """Where it is, and which published version that is, if it is one: a path, or a name as `named` takes it.

    weights: it will be run. Of a version that isn't on this machine there is, as long as this process, an outline
    without them, or a verified copy.
    """
    path = looked_at(text)
    if path is not None:
        return path, None
    mv, repo = named(repository, text), repository_at(repository)
    return _copied(repo, mv) if weights and not repo.local else repo.outline(mv), mv


def where(repository: Path | str, path: Path, mv: ModelVersion | None) -> str:
    """Where what `place` has found is, for people: the store's address, of a version that isn't on this machine."""
    repo = None if mv is None else repository_at(repository)
    return str(path) if repo is None or mv is None or repo.local else f"{repo.store}/{repo.name(mv)}"


def repository_at(place: Path | str) -> Repository:
    """The repository, the same one for as long as this process: what it has written of remote versions stays."""
    return _opened(place.absolute() if isinstance(place, Path) else place)


@cache
def _opened(place: Path | str) -> Repository:
    from deploy.repository import Repository

    return Repository(place)


@cache
def _copied(repo: Repository, mv: ModelVersion) -> Path:
    from tempfile import TemporaryDirectory

    from deploy.repository import Repository, pull

    directory = TemporaryDirectory(prefix="tfs-copy-", ignore_cleanup_errors=True)
    _copies.append(directory)
    target = Repository(directory.name)
    pull(repo, target, mv)
    return target.path(mv)


_copies: list[TemporaryDirectory[str]] = []  # removed when the process ends


def looked_at(text: str) -> Path | None:
    """`text` as a path, if it is one: it is there, or written as one. Raises SpecError where nobody can look."""
    from deploy.errors import SpecError
    from deploy.files import reason

    try:
        path = Path(text).expanduser()
        return path if text and (path.exists() or _PATH.search(text)) else None
    except OSError as error:
        raise SpecError(f"{text:.300}: can't be looked at: {reason(error)}",
                        hint="check the path, and who may read its directories") from error
    except RuntimeError as error:  # ~nobody
        raise SpecError(f"{text:.300}: {error}") from error


def run_option(function: F) -> F:
    """Add --run, which `check_may_run` takes."""
    return click.option("--run", "may_run", is_flag=True,
                        help="Run the model though it isn't a version that this toolkit has published.")(function)


def check_may_run(path: Path, mv: ModelVersion | None, may_run: bool) -> None:
    """Raises RepositoryError for a model that nobody has let in, unless its user says that it may be run."""
    from deploy.errors import RepositoryError
    from deploy.repository import is_published

    if not (may_run or is_published(path, mv)):
        raise RepositoryError(f"{mv or path} wasn't published by this toolkit, and answering means running it",
                              hint="look at it with `tfs check`, then say --run", id="no-manifest")
