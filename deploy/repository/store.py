"""The repository: `<root>/<model>/<version>/`, published whole or not at all, and never changed afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from deploy.errors import RepositoryError, VersionNotFound
from deploy.repository import checking, copying, digests, failures, naming, numbers, staging, survey
from deploy.repository.copying import Progress
from deploy.repository.listing import Entry, entry
from deploy.repository.manifest import Manifest
from deploy.repository.publishing import Facts, Published, Stage, next_number
from deploy.savedmodel import placement
from deploy.types import ModelVersion, check_name, check_version


class Repository:
    """Versions of models in a directory that TensorFlow Serving can watch.

    Any number of processes may publish, read and clean at the same time. Everything raises RepositoryError
    (or a subclass) when the directory isn't there or can't be used, SpecError for names and numbers that aren't valid.

    digest: algorithm for new manifests, `blake3` or `sha256`.
    """

    def __init__(self, root: str | Path, *, digest: str = digests.DEFAULT) -> None:
        digests.hasher(digest)
        self.root, self._digest = Path(root).absolute(), digest

    def __repr__(self) -> str:
        return f"Repository({str(self.root)!r})"

    def models(self) -> list[str]:
        """Models that have a version, sorted."""
        with self._reading():
            found = list(naming.model_names(self.root))
        if not found and (advice := placement.not_a_repository(self.root)):
            raise RepositoryError(f"{self.root} is no model repository", hint=advice)
        return found

    def versions(self, model: str) -> list[int]:
        """The model's versions, ascending; none if there is no such model. Versions of other tools count."""
        check_name(model)
        with self._reading():
            return list(naming.version_paths(self.root / model))

    def latest(self, model: str) -> int | None:
        """The highest version, None if there is none."""
        return max(self.versions(model), default=None)

    def next_version(self, model: str) -> int:
        """The number that a publisher would get now: one more than the highest that ever existed or is claimed."""
        check_name(model)
        with self._reading():
            highest = numbers.read_highest(self.root, model)
            return next_number(self.root / model, highest)

    def path(self, mv: ModelVersion) -> Path:
        """The version's directory, however its number is spelled. Raises VersionNotFound."""
        with self._reading():
            paths = naming.version_paths(self.root / mv.name)
        if mv.version not in paths:
            there = f"versions {', '.join(map(str, paths))}" if paths else "no version of it"
            raise VersionNotFound(f"there is no {mv} in {self.root}", hint=f"there is {there}" if not paths else
                                  f"there are {there}")
        return paths[mv.version]

    def stage(self, model: str, version: int | None = None) -> Stage:
        """A directory to save a version into, which `Stage.publish` shows without a copy. Use it in a `with`.

        version: claims this number now, so that nobody else gets it meanwhile. Raises VersionExists.
        """
        check_name(model)
        if version is not None:
            check_version(version)
        self._make_root()
        return Stage(self.root, model, version, self._digest)

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
        if move and Path(source.root).is_relative_to(self.root.resolve()):
            raise RepositoryError(f"{directory} is in the repository already", hint="publish a copy of it")
        with self.stage(model, version) as stage:
            if move and not source.links and Path(source.root).stat().st_dev == stage.path.stat().st_dev:
                return stage.publish_tree(Path(source.root), None, facts, progress)
            published = stage.publish_copy(source, None, facts, progress)
        if move:
            shutil.rmtree(source.root, ignore_errors=True)
        return published

    def manifest(self, mv: ModelVersion) -> Manifest:
        """What the version says of itself; nothing is checked. Raises VersionNotFound, RepositoryError without one."""
        manifest = self.find_manifest(mv)
        if manifest is None:
            raise RepositoryError(f"{mv} in {self.root} has no manifest: it wasn't published by this toolkit",
                                  hint="publish its directory as a new version to get one")
        return manifest

    def find_manifest(self, mv: ModelVersion) -> Manifest | None:
        """`manifest`, or None for versions of other tools."""
        with self._reading():
            return checking.read_manifest(self.path(mv))

    def verify(self, mv: ModelVersion, *, progress: Progress | None = None) -> Manifest:
        """Read every byte of a version and compare it with its manifest, in constant memory.

        Raises DigestMismatch naming changed, missing and extra files; RepositoryError without a manifest.
        """
        manifest = self.manifest(mv)
        with failures.translated(f"verify {mv}", self.root):
            checking.verify(self.path(mv), mv, manifest, progress)
        return manifest

    def entries(self, model: str | None = None) -> list[Entry]:
        """All versions (of one model), for a listing. A version with a damaged manifest is listed with its error."""
        chosen = self.models() if model is None else [check_name(model)]
        with self._reading():
            return [entry(ModelVersion(name, number), path) for name in chosen
                    for number, path in naming.version_paths(self.root / name).items()]

    def clean(self, older_than: float = 3600.0) -> list[Path]:
        """Remove what crashed publishers left; returns the paths.

        That is: stages whose process is dead on this host, and those untouched for `older_than` seconds whose
        process can't be seen from here.
        """
        removed: list[Path] = []
        with self._reading():
            with_stages = [n for n in sorted(naming.names(self.root)) if naming.stage_paths(self.root / n)]
        for model in with_stages:
            with failures.translated(f"clean {model}", self.root), numbers.model_lock(self.root, model):
                removed += staging.remove_stale(self.root / model, older_than)
                if not naming.names(self.root / model):
                    (self.root / model).rmdir()
        return removed

    def _reading(self) -> AbstractContextManager[None]:
        if not self.root.is_dir():
            seen = "is no directory" if os.path.lexists(self.root) else "doesn't exist"
            raise RepositoryError(f"model repository {self.root} {seen}",
                                  hint="name the directory that holds the models' directories")
        return failures.translated("read the repository", self.root)

    def _make_root(self) -> None:
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise RepositoryError(f"model repository {self.root} is no directory", hint="name another place")
        if advice := placement.inside_a_model(self.root):
            raise RepositoryError(f"{self.root} is no model repository", hint=advice)
        if not self.root.exists():
            with failures.translated("make the repository", self.root):
                self.root.mkdir()
                self.root.chmod(copying.DIRECTORY_MODE)
