"""A directory that TensorFlow Serving can watch: `<root>/<model>/<version>/`. A version appears by one rename."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import BinaryIO

from deploy import files
from deploy.errors import RepositoryError, VersionExists
from deploy.naming import MAX_VERSION, check_version, is_name
from deploy.repository import copying, failures, naming
from deploy.repository.manifest import Manifest
from deploy.repository.publishing import ManifestOf, Published, VersionStage
from deploy.repository.stores import Item, Publisher, RemovedVersion, staging
from deploy.repository.stores.attachments import Attachments, NamedAttachments
from deploy.repository.survey import Survey
from deploy.savedmodel import placement
from deploy.wire.model_config import version_number

ABANDONED = 24 * 3600.0  # seconds after which a publisher that can't be asked (another host) counts as gone

_REMOVED = ".removed-"  # and the number: the server ignores such names
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
_NAME_IT = "name the directory that holds the models' directories"


class DirectoryStore:
    """The store of a local directory, or of a network's filesystem that is mounted."""

    only_whole = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def check(self) -> None:
        if not self.root.is_dir():
            if os.path.lexists(self.root):
                raise RepositoryError(f"model repository {self.root} is no directory", hint=_NAME_IT,
                                      id="not-a-repository")
            raise RepositoryError(f"model repository {self.root} doesn't exist",
                                  hint=f"`tfs export` or `tfs publish` makes it, or {_NAME_IT}", id="not-a-repository")

    def make(self) -> None:
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise RepositoryError(f"model repository {self.root} is no directory", hint="name another place",
                                  id="not-a-repository")
        if advice := placement.inside_a_model(self.root):
            raise RepositoryError(f"{self.root} is no model repository", hint=advice, id="not-a-repository")
        if not self.root.exists():
            with failures.translated("make the repository", self.root):
                _make(self.root)

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        below, start = self.root / prefix, f"{prefix}/" if prefix else ""
        if deep:
            for name, entry in files.walk(below) if below.is_dir() else ():
                with suppress(FileNotFoundError, NotADirectoryError):  # a link to nothing, or gone meanwhile
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield Item(start + name, status.st_size, status.st_mtime)
            return
        for entry in _entries(below):
            if entry.is_dir():
                yield Item(f"{start}{entry.name}/")
                continue
            try:
                status = entry.stat()
            except OSError:  # a link to nothing, or to itself: its name is taken all the same
                yield Item(start + entry.name)
            else:
                yield Item(start + entry.name, status.st_size, status.st_mtime)

    def open(self, name: str) -> BinaryIO:
        return files.open_regular(self.root / name)

    def put(self, name: str, data: bytes | Path) -> None:
        part = self._part(name, data)
        part.replace(self.root / name)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        part = self._part(name, data)
        try:
            os.link(part, self.root / name)
        except FileExistsError:
            return False
        finally:
            part.unlink()
        return True

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def local_path(self, name: str) -> Path | None:
        return self.root / name

    def publisher(self, algorithm: str) -> Publisher:
        return _Renaming(self.root, algorithm)

    def attachments(self) -> Attachments:
        return NamedAttachments(self)

    def _part(self, name: str, data: bytes | Path) -> Path:
        """The object under a name that nobody looks for, on the disk."""
        path = self.root / name
        self.root.mkdir(parents=True, exist_ok=True)
        for parent in reversed(path.relative_to(self.root).parents):
            _make(self.root / parent)
        part = path.with_name(f"{naming.STAGE_PREFIX}{secrets.token_hex(8)}")
        try:
            with part.open("xb") as file:
                os.fchmod(file.fileno(), copying.FILE_MODE)
                file.write(data.read_bytes() if isinstance(data, Path) else data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part


class _Renaming:
    """Publishes by a rename, under the model's lock."""

    def __init__(self, root: Path, algorithm: str) -> None:
        self._root, self._algorithm = root, algorithm

    def stage(self, model: str, version: int | None) -> VersionStage:
        return _DirectoryStage(self._root, model, version, self._algorithm)

    def next_version(self, model: str) -> int:
        return _next_number(self._root / model, staging.read_highest(self._root, model))

    def clean(self, older_than: float) -> list[PurePath]:
        removed: list[PurePath] = []
        models = [name for name in sorted(naming.names(self._root)) if naming.stage_paths(self._root / name)]
        for model in models:
            with failures.translated(f"clean {model}", self._root), staging.model_lock(self._root, model):
                removed += staging.remove_stale(self._root / model, older_than)
                if not naming.names(self._root / model):
                    (self._root / model).rmdir()
        return removed


    def remove(self, model: str, name: str) -> None:
        directory, number = self._root / model, version_number(name) or 0
        with staging.model_lock(self._root, model) as numbers:
            numbers.record(number)
            hidden = directory / f"{_REMOVED}{number}"
            (directory / name).rename(hidden)
            os.utime(hidden)  # from now on it waits to be deleted
        copying.sync_directory(directory)

    def removed(self) -> list[RemovedVersion]:
        models = [name for name in sorted(naming.names(self._root)) if is_name(name)]
        return [RemovedVersion(model, int(name.removeprefix(_REMOVED)), (self._root / model / name).stat().st_mtime)
                for model in models for name in sorted(naming.names(self._root / model))
                if name.startswith(_REMOVED) and name.removeprefix(_REMOVED).isdigit()]

    def restore(self, version: RemovedVersion) -> None:
        directory = self._root / version.model
        with staging.model_lock(self._root, version.model):
            if version.version in naming.taken(directory):
                raise VersionExists(f"{version.model}/{version.version} exists in {self._root}",
                                    hint="what was removed can't come back beside it")
            (directory / f"{_REMOVED}{version.version}").rename(directory / str(version.version))
        copying.sync_directory(directory)

    def purge(self, version: RemovedVersion) -> None:
        directory = self._root / version.model
        shutil.rmtree(directory / f"{_REMOVED}{version.version}")
        if not naming.names(directory):
            with suppress(OSError), staging.model_lock(self._root, version.model):
                directory.rmdir()


class _DirectoryStage(VersionStage):
    def __init__(self, root: Path, model: str, version: int | None, algorithm: str) -> None:
        super().__init__(model, str(root), algorithm)
        self._root, self._directory, self._version = root, root / model, version
        with failures.translated(f"publish {model}", root), staging.model_lock(root, model) as numbers:
            _make(self._directory)
            staging.remove_stale(self._directory, ABANDONED)
            if version is not None:
                self._check_free(version, numbers)
            self._stage = staging.StageDirectory(self._directory, version)

    @property
    def path(self) -> Path:
        return self._stage.tree

    def discard(self) -> None:
        """Remove the stage, and the model's directory if there is nothing else in it."""
        self._stage.remove()
        if not naming.names(self._directory):
            with suppress(OSError), staging.model_lock(self._root, self.model):
                self._directory.rmdir()

    def show(self, source: Survey, version: int | None, manifest: ManifestOf) -> Published:
        tree = Path(source.root)
        version = self._version if version is None else check_version(version)
        with staging.model_lock(self._root, self.model) as numbers:
            while True:
                if version is not None:
                    self._check_free(version, numbers)
                number = self._next(numbers) if version is None else version
                written = manifest(number)
                _write_manifest(tree, written)
                if self._rename(tree, number):
                    break
            numbers.record(number)
        copying.sync_directory(self._directory)
        self.discard()
        path = self._directory / str(number)
        return Published(written.model_version, str(path), written, path)

    def _rename(self, tree: Path, number: int) -> bool:
        """The one step that makes a version visible. False if someone who holds no lock has taken the number.

        The lock keeps our own publishers apart. Without one, a rename onto a directory with contents still fails.
        """
        final = self._directory / str(number)
        try:
            tree.rename(final)
        except OSError as error:
            if error.errno in _OCCUPIED and os.path.lexists(final):
                return False
            raise
        return True

    def _next(self, numbers: staging.Numbers) -> int:
        number = _next_number(self._directory, numbers.highest, but=self._stage.path)
        if number > MAX_VERSION:
            raise RepositoryError(f"{self.model} has no number left after {MAX_VERSION}", hint="name a free version")
        return number

    def _check_free(self, version: int, numbers: staging.Numbers) -> None:
        own = self._stage.path if hasattr(self, "_stage") else None
        spelling = naming.taken(self._directory).get(version)
        claimed = dict(staging.claims(self._directory, but=own)).get(version)
        if spelling is None and claimed is None:
            return
        why = f"is being published by {claimed}" if spelling is None else "exists" if spelling == str(version) else \
            f"exists as {spelling!r}"
        raise VersionExists(f"{self.model}/{version} {why} in {self._root}; published versions never change",
                            hint=f"the next free version is {_next_number(self._directory, numbers.highest, own)}")


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """Sorted by name; none if there is no such directory."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _next_number(model_directory: Path, highest: int, but: Path | None = None) -> int:
    """One more than the highest number that exists, existed, or is claimed by a living publisher."""
    claimed = (number for number, _ in staging.claims(model_directory, but))
    return max(highest, *naming.taken(model_directory), *claimed, 0) + 1


def _write_manifest(tree: Path, manifest: Manifest) -> None:
    path = tree / naming.MANIFEST_FILE
    _make(path.parent)
    path.unlink(missing_ok=True)  # never through a hard link into another version
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, copying.FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, copying.FILE_MODE)
        file.write(manifest.to_bytes())
        file.flush()
        os.fsync(fd)
    copying.sync_directory(path.parent)
    copying.sync_directory(tree)


def _make(directory: Path) -> None:
    try:
        directory.mkdir()
        directory.chmod(copying.DIRECTORY_MODE)
    except FileExistsError:
        if not directory.is_dir():
            raise RepositoryError(f"{directory} is no directory", hint="move it away") from None
