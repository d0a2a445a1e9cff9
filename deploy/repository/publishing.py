"""From a stage to a version: check, digest, choose the number, write the manifest, rename."""

from __future__ import annotations

import datetime
import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import RepositoryError, VersionExists
from deploy.repository import checking, copying, failures, naming, staging
from deploy.repository import numbers as numbering
from deploy.repository.copying import Progress
from deploy.repository.manifest import FileRecord, Manifest
from deploy.repository.survey import Survey, survey
from deploy.types import MAX_VERSION, Contract, ModelVersion, check_version
from deploy.version import __version__

ABANDONED = 24 * 3600.0  # seconds after which a publisher that can't be asked (another host) counts as gone

_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@dataclass(frozen=True, slots=True)
class Published:
    """A version that is visible now."""

    mv: ModelVersion
    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Facts:
    """What the publisher tells for the manifest; see Manifest.

    A version that is published again keeps what isn't told anew. `goldens`: None leaves the count to what is recorded.
    """

    producer: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    goldens: int | None = None
    tflite_tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Stage:
    """A place to write a version into: fill `path`, then `publish`. Leaving it unpublished removes it.

    Not thread-safe. Made by Repository.stage.
    """

    def __init__(self, root: Path, model: str, version: int | None, algorithm: str) -> None:
        self.model, self._root, self._algorithm = model, root, algorithm
        self._directory = root / model
        self._version = version
        with failures.translated(f"publish {model}", root), numbering.model_lock(root, model) as numbers:
            _make(self._directory)
            staging.remove_stale(self._directory, ABANDONED)
            if version is not None:
                self._check_free(version, numbers)
            self._stage = staging.StageDirectory(self._directory, version)

    @property
    def path(self) -> Path:
        """The empty directory to save into, on the repository's filesystem."""
        return self._stage.tree

    def fill(self, source: Path, without: str = "") -> None:
        """Copy a version into `path`, all but the file `without`. Raises RepositoryError."""
        doing = f"publish {self.model}"
        with failures.translated(doing, self._root):
            found = survey(source)
            found.files = [file for file in found.files if file.name != without]
            with failures.room_for(found.size, doing, self._root):
                copying.copy_tree(found, self.path, self._algorithm)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the stage, and the model's directory if there is nothing else in it. Does no harm after `publish`."""
        self._stage.remove()
        if not naming.names(self._directory):
            with suppress(OSError), numbering.model_lock(self._root, self.model):
                self._directory.rmdir()

    def publish(self, version: int | None = None, *, producer: Mapping[str, str] | None = None,
                tolerances: Mapping[str, Mapping[str, float]] | None = None, goldens: int | None = None,
                tflite_tolerances: Mapping[str, Mapping[str, float]] | None = None,
                progress: Progress | None = None) -> Published:
        """Make what stands in `path` visible as a version, without copying it.

        version: None for the stage's own, or else the next free number.
        Raises IncompleteVersion, VersionExists, RepositoryError; then nothing is visible.
        """
        facts = Facts(producer or {}, tolerances or {}, goldens, tflite_tolerances or {})
        return self.publish_tree(self.path, version, facts, progress)

    def publish_tree(self, tree: Path, version: int | None, facts: Facts,
                     progress: Progress | None = None) -> Published:
        """`publish` for a directory elsewhere on the same filesystem, which is renamed away."""
        with failures.translated(f"publish {self.model}", self._root):
            contract, facts = _examine(tree, facts)
            found = survey(tree)
            if found.links:
                raise RepositoryError(f"{tree} holds symbolic links", hint="publish it as a copy")
            files = copying.digest_tree(found, self._algorithm, progress, publish=True)
            return self._show(tree, version, files, contract, facts)

    def publish_copy(self, source: Survey, version: int | None, facts: Facts,
                     progress: Progress | None = None) -> Published:
        """`publish` for a copy of a directory that was surveyed."""
        doing = f"publish {self.model}"
        with failures.translated(doing, self._root):
            contract, facts = _examine(Path(source.root), facts)
            self._check_room(source, doing)
            with failures.room_for(source.size, doing, self._root):
                files = copying.copy_tree(source, self.path, self._algorithm, progress)
                return self._show(self.path, version, files, contract, facts)

    def _check_room(self, source: Survey, doing: str) -> None:
        """Fail before filling the disk. Within one filesystem a copy may share blocks, so there it has to be tried."""
        free = shutil.disk_usage(self.path).free
        if free < source.size and Path(source.root).stat().st_dev != self.path.stat().st_dev:
            raise failures.no_room(source.size, free, doing, self._root)

    def _show(self, tree: Path, version: int | None, files: Mapping[str, FileRecord], contract: Contract,
              facts: Facts) -> Published:
        version = self._version if version is None else check_version(version)
        with numbering.model_lock(self._root, self.model) as numbers:
            while True:
                if version is not None:
                    self._check_free(version, numbers)
                number = self._next(numbers) if version is None else version
                manifest = Manifest(ModelVersion(self.model, number), files, contract, _now(), facts.producer,
                                    facts.goldens or 0, facts.tolerances, self._algorithm, facts.tflite_tolerances)
                _write_manifest(tree, manifest)
                if self._rename(tree, number):
                    break
            numbers.record(number)
        copying.sync_directory(self._directory)
        self.discard()
        return Published(manifest.model_version, self._directory / str(number), manifest)

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

    def _next(self, numbers: numbering.Numbers) -> int:
        number = next_number(self._directory, numbers.highest, but=self._stage.path)
        if number > MAX_VERSION:
            raise RepositoryError(f"{self.model} has no number left after {MAX_VERSION}", hint="name a free version")
        return number

    def _check_free(self, version: int, numbers: numbering.Numbers) -> None:
        own = self._stage.path if hasattr(self, "_stage") else None
        spelling = naming.taken(self._directory).get(version)
        claimed = dict(staging.claims(self._directory, but=own)).get(version)
        if spelling is None and claimed is None:
            return
        why = f"is being published by {claimed}" if spelling is None else "exists" if spelling == str(version) else \
            f"exists as {spelling!r}"
        raise VersionExists(f"{self.model}/{version} {why} in {self._root}; published versions never change",
                            hint=f"the next free version is {next_number(self._directory, numbers.highest, own)}")


def next_number(model_directory: Path, highest: int, but: Path | None = None) -> int:
    """One more than the highest number that exists, existed, or is claimed by a living publisher."""
    claimed = (number for number, _ in staging.claims(model_directory, but))
    return max(highest, *naming.taken(model_directory), *claimed, 0) + 1


def _examine(tree: Path, facts: Facts) -> tuple[Contract, Facts]:
    from deploy import savedmodel  # late: listing doesn't need protobuf

    info = savedmodel.read(tree)
    before = _earlier(tree)
    producer = {"tfs_deploy": __version__, "tensorflow": info.producer.tensorflow, **before.producer, **facts.producer}
    recorded = _check_warmup(tree, info.contract)
    goldens = recorded if facts.goldens is None else facts.goldens
    return info.contract, Facts(producer, facts.tolerances or before.tolerances, goldens,
                                facts.tflite_tolerances or before.tflite_tolerances)


def _earlier(tree: Path) -> Facts:
    """What the manifest of an earlier publication knows that the files don't tell."""
    try:
        manifest = checking.read_manifest(tree)
    except RepositoryError:
        manifest = None
    if manifest is None:
        return Facts()
    return Facts(manifest.producer, manifest.tolerances, tflite_tolerances=manifest.tflite_tolerances)


def _check_warmup(tree: Path, contract: Contract) -> int:
    """How many golden cases a version brings. Raises RepositoryError for a file that a server would choke on."""
    if not (tree / naming.WARMUP_FILE).exists():
        return 0
    from deploy.goldens import warmup

    checked = warmup.check(tree, contract)
    if checked is None:
        return 0
    checked.raise_if_refused()
    return checked.goldens


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


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
