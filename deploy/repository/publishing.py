"""From a stage to a version: check, digest, and show it. Showing is the store's: a rename, or a conditional write."""

from __future__ import annotations

import datetime
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import goldens, savedmodel
from deploy.errors import RepositoryError
from deploy.repository import copying, failures, naming
from deploy.repository.copying import Progress
from deploy.repository.manifest import FileRecord, Manifest, read_manifest
from deploy.repository.survey import Survey, survey
from deploy.savedmodel.recipes import RecipeRecord
from deploy.types import Contract, ModelVersion
from deploy.version import __version__

if TYPE_CHECKING:
    from deploy.savedmodel import SavedModelInfo

ManifestOf = Callable[[int], Manifest]
"""The manifest of a version that gets this number."""


@dataclass(frozen=True, slots=True)
class Published:
    """A version that is visible now. where: for people. local: its directory, None if it isn't on this machine."""

    mv: ModelVersion
    where: str
    manifest: Manifest
    local: Path | None = None

    @property
    def path(self) -> Path:
        """Its directory. Raises RepositoryError if it isn't on this machine."""
        if self.local is None:
            raise RepositoryError(f"{self.mv} is in {self.where}, not on this machine", hint="see `tfs pull`",
                                  id="not-local")
        return self.local


@dataclass(frozen=True, slots=True)
class Facts:
    """What the publisher tells for the manifest; see Manifest.

    A version that is published again keeps what isn't told anew. `goldens`: None leaves the count to what is recorded.
    """

    producer: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    goldens: int | None = None
    tflite_tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    recipes: tuple[RecipeRecord, ...] = ()


class VersionStage(ABC):
    """A place to write a version into: fill `path`, then `publish`. Leaving it unpublished removes it.

    Not thread-safe. Made by Repository.stage; how a version is shown is the store's, see `show`.
    """

    def __init__(self, model: str, where: str, algorithm: str) -> None:
        self.model, self.where, self._algorithm = model, where, algorithm
        self._progress: Progress | None = None  # of what `show` sends elsewhere, after that of digesting

    @property
    @abstractmethod
    def path(self) -> Path:
        """The empty directory to save into."""

    @abstractmethod
    def show(self, source: Survey, version: int | None, manifest: ManifestOf) -> Published:
        """Make these files and their manifest visible, all at once. version: None for the stage's own, or else the
        next free number. Raises VersionExists, RepositoryError, OSError; then nothing is visible."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what isn't published, and forget the claim. Does no harm after `publish`."""

    def fill(self, source: Path, without: str = "") -> None:
        """Copy a version into `path`, all but the file `without`. Raises RepositoryError."""
        doing = f"publish {self.model}"
        with failures.translated(doing, self.where):
            surveyed = survey(source)
            surveyed.files = [file for file in surveyed.files if file.name != without]
            with failures.room_for(surveyed.size, doing, self.path, self.where):
                copying.copy_tree(surveyed, self.path, self._algorithm)

    def __enter__(self) -> VersionStage:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def publish(self, version: int | None = None, *, producer: Mapping[str, str] | None = None,
                tolerances: Mapping[str, Mapping[str, float]] | None = None, goldens: int | None = None,
                tflite_tolerances: Mapping[str, Mapping[str, float]] | None = None,
                recipes: tuple[RecipeRecord, ...] = (), info: SavedModelInfo | None = None,
                progress: Progress | None = None) -> Published:
        """Make what stands in `path` visible as a version.

        version: None for the stage's own, or else the next free number.
        info: what is known of the SavedModel, as it stands there; what was changed since is read again.
        Raises IncompleteVersion, VersionExists, RepositoryError; then nothing is visible.
        """
        facts = Facts(producer or {}, tolerances or {}, goldens, tflite_tolerances or {}, recipes)
        return self.publish_tree(self.path, version, facts, progress, info)

    def publish_tree(self, tree: Path, version: int | None, facts: Facts, progress: Progress | None = None,
                     info: SavedModelInfo | None = None) -> Published:
        """`publish` for a directory elsewhere on the same filesystem, which may be gone afterwards."""
        with failures.translated(f"publish {self.model}", self.where):
            surveyed = survey(tree)
            if surveyed.links:
                raise RepositoryError(f"{tree} holds symbolic links", hint="publish it as a copy", id="symbolic-link")
            return self._publish(surveyed, version, facts, progress, info)

    def _publish(self, source: Survey, version: int | None, facts: Facts, progress: Progress | None,
                 info: SavedModelInfo | None = None) -> Published:
        """Publish files from where they lie."""
        self._progress = progress
        contract, facts = _examine(Path(source.root), facts, info)
        return self.show(source, version, self._manifest(self._digests(source), contract, facts))

    def _digests(self, source: Survey) -> Mapping[str, FileRecord]:
        return copying.digest_tree(source, self._algorithm, self._progress, publish=True)

    def publish_copy(self, source: Survey, version: int | None, facts: Facts,
                     progress: Progress | None = None) -> Published:
        """`publish` for a copy of a directory that was surveyed."""
        doing = f"publish {self.model}"
        with failures.translated(doing, self.where):
            contract, facts = _examine(Path(source.root), facts)
            self._check_room(source, doing)
            with failures.room_for(source.size, doing, self.path, self.where):
                files = copying.copy_tree(source, self.path, self._algorithm, progress)
                return self.show(survey(self.path), version, self._manifest(files, contract, facts))

    def _check_room(self, source: Survey, doing: str) -> None:
        """Fail before filling the disk. Within one filesystem a copy may share blocks, so there it has to be tried."""
        free = shutil.disk_usage(self.path).free
        if free < source.size and Path(source.root).stat().st_dev != self.path.stat().st_dev:
            raise failures.no_room(source.size, free, doing, self.where)

    def _manifest(self, files: Mapping[str, FileRecord], contract: Contract, facts: Facts) -> ManifestOf:
        return lambda number: Manifest(
            ModelVersion(self.model, number), files, contract, _now(), facts.producer, facts.goldens or 0,
            facts.tolerances, self._algorithm, facts.tflite_tolerances, facts.recipes)


def _examine(tree: Path, facts: Facts, info: SavedModelInfo | None = None) -> tuple[Contract, Facts]:
    if info is None or not info.describes(tree):
        info = savedmodel.read(tree)
    before = _earlier(tree)
    wrote = {"tensorflow": info.producer.tensorflow} if info.producer.tensorflow else {}
    producer = {"tfs_deploy": __version__, **wrote, **before.producer, **facts.producer}
    recorded = _check_warmup(tree, info.contract)
    return info.contract, Facts(producer, facts.tolerances or before.tolerances,
                                recorded if facts.goldens is None else facts.goldens,
                                facts.tflite_tolerances or before.tflite_tolerances, facts.recipes or before.recipes)


def _earlier(tree: Path) -> Facts:
    """What the manifest of an earlier publication knows that the files don't tell."""
    try:
        manifest = read_manifest(tree)
    except RepositoryError:
        manifest = None
    if manifest is None:
        return Facts()
    return Facts(manifest.producer, manifest.tolerances, tflite_tolerances=manifest.tflite_tolerances,
                 recipes=manifest.recipes)


def _check_warmup(tree: Path, contract: Contract) -> int:
    """How many golden cases a version brings. Raises RepositoryError for a file that a server would choke on."""
    if not (tree / naming.WARMUP_FILE).exists():
        return 0
    checked = goldens.warmup.check(tree, contract)
    if checked is None:
        return 0
    checked.raise_if_refused()
    return checked.goldens


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
