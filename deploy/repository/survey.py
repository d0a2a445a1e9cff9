"""What a directory holds, before a byte of it is read: files, directories, and what can't be published."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from deploy import files
from deploy.errors import IncompleteVersion, RepositoryError
from deploy.repository import naming

_MOST_LINKED = 10_000  # links in linked directories multiply
# ns. Times have ticks, and pages that a program has mapped are marked as changed once until they are written to the
# disk, after half a minute: who changes them again meanwhile changes no time.
_SETTLED = 60_000_000_000
_COPIES = 8  # of the bytes in a version, by links: caches of downloads have one


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file. `name` is relative, with forward slashes; `path` leads to the bytes, links resolved."""

    name: str
    path: str
    size: int
    changed: int  # mtime in ns
    touched: int  # ctime in ns: a change that restores the mtime shows here
    fresh: bool  # touched so lately, when it was surveyed, that another change may leave no trace; see _SETTLED


@dataclass(slots=True)
class Survey:
    """The contents of `root`, without an older manifest of ours."""

    root: str
    files: list[SourceFile] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)  # relative, parents first
    links: bool = False

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def survey(directory: str | Path) -> Survey:
    """Walk `directory`. Symbolic links are followed if they stay inside it.

    Raises IncompleteVersion if it is missing, no directory, or empty; RepositoryError for a link that leads
    out of it, a loop, a device, socket or pipe, and a name that isn't UTF-8; OSError if it can't be read.
    """
    root = os.path.realpath(directory)
    if not Path(root).is_dir():
        what = "is no directory" if os.path.lexists(directory) else "doesn't exist"
        raise IncompleteVersion(f"SavedModel directory {directory} {what}",
                                hint="name the directory that holds saved_model.pb")
    contents = Survey(root)
    _walk(contents, root, "", (root,), _Budget())
    if not contents.files:
        raise IncompleteVersion(f"SavedModel directory {directory} is empty", hint="save a model into it first")
    return contents


@dataclass(slots=True)
class _Budget:
    """What a version may have. Links inside of it make many names of one file, so that all of them count."""

    entries: int = 0
    linked: int = 0  # of them: through a link, or a link themselves
    inodes: set[tuple[int, int]] = field(default_factory=set)
    size: int = 0  # of all names
    distinct: int = 0  # of all files

    def spend(self, path: str, status: os.stat_result, depth: int, *, linked: bool) -> None:
        """Raises OSError where a directory has more than a model does."""
        self.entries += 1
        if depth > files.DEEPEST:
            raise OSError(errno.ELOOP, f"more than {files.DEEPEST} directories in each other", path)
        self.linked += linked
        if self.entries > files.MOST_ENTRIES or self.linked > _MOST_LINKED:
            raise OSError(errno.E2BIG, f"more than {files.MOST_ENTRIES:,} files, or {_MOST_LINKED:,} through links",
                          path)
        if stat.S_ISREG(status.st_mode):
            files.check_regular(status, path)
            place = status.st_dev, status.st_ino
            self.distinct += status.st_size if place not in self.inodes else 0
            self.inodes.add(place)
            self.size += status.st_size
            if self.size > _COPIES * self.distinct:
                raise OSError(errno.E2BIG, f"its links make more than {_COPIES} copies of its files", path)


def _walk(contents: Survey, directory: str, prefix: str, parents: tuple[str, ...], budget: _Budget) -> None:
    for entry, path, name in _entries(contents, directory, prefix):
        status = Path(path).stat()
        budget.spend(entry.path, status, len(parents), linked=path != f"{contents.root}/{name}")
        if stat.S_ISREG(status.st_mode):
            if name != naming.MANIFEST_FILE:
                contents.files.append(SourceFile(
                    name, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
                    time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED))
        elif not stat.S_ISDIR(status.st_mode):
            raise RepositoryError(f"{entry.path} is neither a file nor a directory",
                                  hint="a version holds regular files only; remove it", id="not-a-model-file")
        elif path in parents:
            raise RepositoryError(f"{entry.path} is a symbolic link to a directory that holds it", hint="remove it",
                                  id="symbolic-link")
        else:
            contents.directories.append(name)
            _walk(contents, path, f"{name}/", (*parents, path), budget)


def _entries(contents: Survey, directory: str, prefix: str) -> Iterator[tuple[os.DirEntry[str], str, str]]:
    with os.scandir(directory) as entries:
        for entry in sorted(islice(entries, files.MOST_ENTRIES + 1), key=lambda e: e.name):
            try:
                entry.name.encode()
            except UnicodeEncodeError:
                raise RepositoryError(f"a file name in {directory} isn't UTF-8: {entry.name!r}",
                                      hint="rename it", id="not-a-model-file") from None
            path = entry.path
            if entry.is_symlink():
                contents.links = True
                path = _resolve(contents.root, entry.path)
            yield entry, path, prefix + entry.name


def _resolve(root: str, link: str) -> str:
    target = os.path.realpath(link)
    if os.path.commonpath([root, target]) != root:
        raise RepositoryError(f"{link} is a symbolic link out of the SavedModel, to {target}",
                              hint="a version has to stand alone: copy the file into the directory", id="symbolic-link")
    if not Path(target).exists():
        raise RepositoryError(f"{link} is a symbolic link to {target}, which doesn't exist", hint="remove or mend it",
                              id="symbolic-link")
    return target
