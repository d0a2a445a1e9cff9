"""Can the server's user read what it has to serve? Asked here, since the server's own answer is closed ports."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from deploy.errors import RepositoryError
from deploy.serving.resolving import ResolvedModel

Readable = Callable[[Path], bool]


def check_readable(models: Iterable[ResolvedModel], user: str | None) -> None:
    """Raises RepositoryError naming the first path that the server couldn't read, or couldn't find.

    user: `uid:gid` of a container, where links that leave the mounted base path lead nowhere; None for this process's
    own user, whose links may lead anywhere.
    """
    readable = _readable_for(user) if user else _readable_here
    for model in models:
        for version in model.paths.values():
            base = version.parent
            for path in (base, version, *_below(version)):
                if user and path != base and not path.resolve().is_relative_to(base.resolve()):
                    raise RepositoryError(
                        f"model {model.name!r}: {path} is a link to {path.resolve()}, which isn't in the container",
                        hint=f"only {base} is mounted: put the files themselves there, or use backend: embedded")
                if not readable(path):
                    who = f"the container's user {user}" if user else "this user"
                    raise RepositoryError(f"model {model.name!r}: {path} is not readable for {who}",
                                          hint=f"chmod -R a+rX {base}")


def unreadable(base: Path, versions: Iterable[Path], user: str | None) -> Path | None:
    """The first path that the server's user can't read, of a base path and some of its versions; see check_readable."""
    readable = _readable_for(user) if user else _readable_here
    paths = (path for version in versions for path in (version, *_below(version)))
    return next((path for path in (base, *paths) if not readable(path)), None)


def _below(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory, onerror=lambda _: None):
        for name in (*directories, *files):
            yield Path(parent, name)


def _readable_here(path: Path) -> bool:
    return os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))


def _readable_for(user: str) -> Readable:
    """By the permission bits alone, for a user without supplementary groups and capabilities."""
    uid, gid = map(int, user.split(":"))

    def readable(path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
        return (status.st_mode >> shift) & needed == needed

    return readable
