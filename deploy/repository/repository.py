"""The repository: `<root>/<model>/<version>/`, published whole or not at all, and never changed afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from deploy.errors import RepositoryError, VersionExists, VersionNotFound
from deploy.naming import check_name, check_version
from deploy.repository import failures, listing, outlines, survey, versions
from deploy.repository.copying import Progress
from deploy.repository.manifest import DEFAULT, Manifest, hasher
from deploy.repository.publishing import Facts, Published, VersionStage
from deploy.repository.stores import RemovedVersion, Store
from deploy.repository.stores.addresses import open_store
from deploy.repository.stores.attachments import Attachment
from deploy.repository.versions import VersionEntry, VersionFacts, read_facts
from deploy.savedmodel import placement
from deploy.types import ModelVersion
from deploy.wire.model_config import by_version


class Repository:
    """Versions of models in a directory that TensorFlow Serving can watch, or in another store.

    Any number of processes may publish, read and clean at the same time. Everything raises RepositoryError
    (or a subclass) when the directory isn't there or can't be used, SpecError for names and numbers that aren't valid.

    root: the directory, an address such as `s3://bucket/models`, or a store.
    digest: algorithm for new manifests, `blake3` or `sha256`.
    """

    def __init__(self, root: str | Path | Store, *, digest: str = DEFAULT) -> None:
        hasher(digest)
        self.store = open_store(root) if isinstance(root, str | Path) else root
        self._publisher = self.store.publisher(digest)

    @cached_property
    def _outlines(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="tfs-outlines-", ignore_cleanup_errors=True)

    def __repr__(self) -> str:
        return f"Repository({str(self.store)!r})"

    @property
    def local(self) -> bool:
        """Whether its bytes are on this machine, so that a server here can read them."""
        return self.store.local_path("") is not None

    @property
    def root(self) -> Path:
        """The directory on this machine. Raises RepositoryError if it is elsewhere."""
        return self._local("", "the repository")

    def models(self) -> list[str]:
        """Models that have a version, sorted."""
        with self._reading():
            models = [name for name in listing.model_names(self.store) if self.numbered(name)]
        root = self.store.local_path("")
        if not models and root is not None and (advice := placement.not_a_repository(root)):
            raise RepositoryError(f"{root} is no model repository", hint=advice, id="not-a-repository")
        return models

    def versions(self, model: str) -> list[int]:
        """The model's versions, ascending; none if there is no such model. Versions of other tools count."""
        return list(self.numbered(check_name(model)))

    def latest(self, model: str) -> int | None:
        """The highest version, None if there is none."""
        return max(self.versions(model), default=None)

    def next_version(self, model: str) -> int:
        """The number that a publisher would get now: one more than the highest that ever existed or is claimed."""
        check_name(model)
        with self._reading():
            return self._publisher.next_version(model)

    def check_free(self, model: str, version: int) -> None:
        """Raises VersionExists if there is a version of this number, however it is spelled.

        Where there is no repository yet, all numbers are free. What can't be read is told by whoever stages a version.
        """
        check_name(model)
        check_version(version)
        there: dict[int, str] = {}
        with suppress(RepositoryError):
            there = self.spellings(model)
        if version in there:
            spelling = "exists" if there[version] == str(version) else f"exists as {there[version]!r}"
            raise VersionExists(f"{model}/{version} {spelling} in {self.store}; published versions never change",
                                hint=f"the next free version is {self.next_version(model)}")

    def path(self, mv: ModelVersion) -> Path:
        """The version's directory, however its number is spelled. Raises VersionNotFound, RepositoryError if it isn't
        on this machine."""
        return self._local(self.name(mv), str(mv))

    def paths(self, model: str) -> dict[int, Path]:
        """The model's versions, ascending -> their directories on this machine."""
        return {number: self._local(f"{model}/{name}", model) for number, name in self.numbered(model).items()}

    def name(self, mv: ModelVersion) -> str:
        """What the version is called in the store: `digits/3`, or `digits/003`. Raises VersionNotFound."""
        with self._reading():
            there = listing.numbered(self.store, mv.name, mv.version)
        if mv.version not in there:
            there = self.numbered(mv.name)
            numbers = f"versions {', '.join(map(str, there))}" if there else "no version of it"
            raise VersionNotFound(f"there is no {mv} in {self.store}",
                                  hint=f"there are {numbers}" if there else f"there is {numbers}")
        return f"{mv.name}/{there[mv.version]}"

    def stage(self, model: str, version: int | None = None) -> VersionStage:
        """A directory to save a version into, which `VersionStage.publish` shows without a copy. Use it in a `with`.

        version: claims this number now, so that nobody else gets it meanwhile. Raises VersionExists.
        """
        check_name(model)
        if version is not None:
            check_version(version)
        self.store.make()
        return self._publisher.stage(model, version)

    def publish(self, directory: str | Path, model: str, version: int | None = None, *,
                producer: Mapping[str, str] | None = None, tolerances: Mapping[str, Mapping[str, float]] | None = None,
                goldens: int | None = None, move: bool = False, progress: Progress | None = None) -> Published:
        """Publish the SavedModel in `directory` as a version of `model`.

        version: None for the next free number.
        producer, tolerances, goldens: for the manifest; `goldens` None counts the recorded ones.
        move: take the directory itself instead of a copy, if it is on the repository's filesystem. On failure it stays.
        progress: called with bytes done and bytes in all.

        Raises IncompleteVersion, VersionExists, RepositoryError; then nothing is visible, and no stage is left.
        """
        facts = Facts(producer or {}, tolerances or {}, goldens)
        check_name(model)
        with failures.translated(f"publish {model}", Path(directory)):
            source = survey.survey(directory)
        root = self.store.local_path("")
        if move and root is not None and Path(source.root).is_relative_to(root.resolve()):
            raise RepositoryError(f"{directory} is in the repository already", hint="publish a copy of it")
        with self.stage(model, version) as stage:
            if move and not source.links and Path(source.root).stat().st_dev == stage.path.stat().st_dev:
                published = stage.publish_tree(Path(source.root), None, facts, progress)
            else:
                published = stage.publish_copy(source, None, facts, progress)
        if move:
            shutil.rmtree(source.root, ignore_errors=True)
        return published

    def manifest(self, mv: ModelVersion) -> Manifest:
        """What the version says of itself; nothing is checked. Raises VersionNotFound, RepositoryError without one."""
        return self._present(mv, self.find_manifest(mv))

    def _present(self, mv: ModelVersion, manifest: Manifest | None) -> Manifest:
        if manifest is None:
            raise RepositoryError(f"{mv} in {self.store} has no manifest: it wasn't published by this toolkit",
                                  hint="publish its directory as a new version to get one", id="no-manifest")
        return manifest

    def find_manifest(self, mv: ModelVersion) -> Manifest | None:
        """`manifest`, or None for versions of other tools."""
        with self._reading():
            return versions.find_manifest(self.store, self.name(mv))

    def facts(self, mv: ModelVersion, *, tflite: bool = False) -> VersionFacts:
        """`read_facts` of a version. Raises VersionNotFound, RepositoryError for what is damaged."""
        with self._reading():
            return read_facts(self.outline(mv), tflite=tflite)

    def outline(self, mv: ModelVersion) -> Path:
        """A directory that says what the version says: its own, or without the weights, if it isn't on this machine.

        The latter is there as long as this object; nothing may be run from it. Raises VersionNotFound, RepositoryError.
        """
        name = self.name(mv)
        path = self.store.local_path(name)
        if path is not None:
            return path
        path = Path(self._outlines.name) / name
        if not path.exists():
            with failures.translated(f"read {mv}", str(self.store)):
                path.mkdir(parents=True)
                try:
                    outlines.write_outline(self.store, name, path)
                except BaseException:
                    shutil.rmtree(path)
                    raise
        return path

    def verify(self, mv: ModelVersion, *, progress: Progress | None = None) -> Manifest:
        """Read every byte of a version and compare it with its manifest, in constant memory.

        Raises DigestMismatch naming changed, missing and extra files; RepositoryError without a manifest.
        """
        return self._present(mv, self.find_verified(mv, progress=progress))

    def find_verified(self, mv: ModelVersion, *, progress: Progress | None = None) -> Manifest | None:
        """`verify`, or None for versions of other tools."""
        with failures.translated(f"verify {mv}", str(self.store)):
            name = self.name(mv)
            manifest = versions.find_manifest(self.store, name)
            if manifest is not None:
                versions.verify(self.store, name, mv, manifest, progress)
        return manifest

    def entries(self, model: str | None = None) -> list[VersionEntry]:
        """All versions (of one model), for a listing. A version with a damaged manifest is listed with its error."""
        with self._reading():
            if model is not None:
                chosen = [check_name(model)]
            else:  # where manifests show what is there, they are read anyway
                chosen = self.models() if self.store.only_whole else listing.model_names(self.store)
            return versions.entries(self.store, chosen)

    def attach(self, mv: ModelVersion, attachment: Attachment) -> None:
        """Keep a signature or a receipt of a version that is there. Raises VersionNotFound, RepositoryError."""
        self.name(mv)
        with failures.translated(f"write beside {mv}", str(self.store)):
            self.store.attachments().add(mv, attachment)

    def attachments(self, mv: ModelVersion, media_type: str | None = None) -> list[Attachment]:
        """A version's signatures and receipts, as they are kept, oldest first; or those of one type. Raises
        RepositoryError."""
        with self._reading():
            return self.store.attachments().of(mv, media_type)

    def clean(self, older_than: float = 3600.0) -> list[PurePath]:
        """Remove what crashed publishers left; returns the paths.

        That is: what a process left that is dead on this host, and what nobody touched for `older_than` seconds whose
        process can't be seen from here.
        """
        with self._reading():
            return self._publisher.clean(older_than)

    def remove(self, mv: ModelVersion) -> None:
        """Let nobody see a version any more. Its number isn't given again; see `removed`. Raises VersionNotFound."""
        name = self.name(mv).rpartition("/")[2]
        with failures.translated(f"remove {mv}", str(self.store)):
            self._publisher.remove(mv.name, name)

    def removed(self) -> dict[ModelVersion, float]:
        """What was removed and can be brought back -> when, in seconds since the epoch."""
        with self._reading():
            return {ModelVersion(one.model, one.version): one.when for one in self._publisher.removed()}

    def restore(self, mv: ModelVersion) -> None:
        """Bring a removed version back as it was. Raises VersionNotFound, VersionExists."""
        with failures.translated(f"restore {mv}", str(self.store)):
            self._publisher.restore(self._removed(mv))

    def purge(self, mv: ModelVersion) -> None:
        """Delete a removed version for good. Raises VersionNotFound."""
        with failures.translated(f"delete {mv}", str(self.store)):
            removed = self._removed(mv)
            self.store.attachments().remove(mv)
            self._publisher.purge(removed)

    def _removed(self, mv: ModelVersion) -> RemovedVersion:
        there = self.removed()
        if mv not in there:
            listed = ", ".join(map(str, sorted(there)))
            raise VersionNotFound(f"{mv} isn't among what was removed from {self.store}",
                                  hint=f"there: {listed}" if there else "there is nothing that could be brought back")
        return RemovedVersion(mv.name, mv.version, there[mv])

    def spellings(self, model: str) -> dict[int, str]:
        """Every number that a server would see, files, version 0 and negative ones included -> its spelling."""
        with self._reading():
            return by_version(listing.last(item) for item in self.store.list(model))

    def numbered(self, model: str) -> dict[int, str]:
        """Version -> how its number is spelled, ascending. Of several spellings the canonical one counts."""
        with self._reading():
            return listing.numbered(self.store, model)

    def _local(self, name: str, what: str) -> Path:
        path = self.store.local_path(name)
        if path is None:
            raise RepositoryError(f"{what} is in {self.store}, not on this machine", hint="bring it here: tfs pull",
                                  id="not-local")
        return path

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self.store.check()
        with failures.translated("read the repository", str(self.store)):
            yield
