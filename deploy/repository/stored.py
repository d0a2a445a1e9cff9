"""A model's versions, and one of them, with the repository that they are in; where those of a served model are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy import savedmodel
from deploy.errors import VersionNotFound
from deploy.repository.copying import Progress
from deploy.repository.manifest import Manifest
from deploy.repository.repository import Repository
from deploy.repository.versions import VersionFacts
from deploy.types import ModelVersion, ServedModel


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """The versions of one model in its repository. name: the model's there; a spec may serve it under another one."""

    repository: Repository
    name: str

    def __str__(self) -> str:
        return f"{self.repository.store}/{self.name}"

    @property
    def here(self) -> bool:
        """Whether there is such a model on this machine."""
        path = self.repository.store.local_path(self.name)
        return path is not None and path.is_dir()

    def numbers(self) -> list[int]:
        """Ascending; none if there is no such model. Raises RepositoryError."""
        return list(self.repository.numbered(self.name))

    def paths(self) -> dict[int, Path]:
        """Version -> its directory on this machine, ascending. Raises RepositoryError."""
        return self.repository.paths(self.name)

    def spellings(self) -> dict[int, str]:
        """See Repository.spellings."""
        return self.repository.spellings(self.name)

    def find_facts(self, number: int, *, tflite: bool = False) -> VersionFacts | None:
        """`Repository.facts` of one of them; None for one that isn't there, or if the model isn't on this machine."""
        try:
            return self.repository.facts(ModelVersion(self.name, number), tflite=tflite) if self.here else None
        except VersionNotFound:
            return None

    def version(self, number: int) -> StoredVersion:
        """One of them; nothing is looked at yet."""
        return StoredVersion(self.repository, ModelVersion(self.name, number))


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version, and the repository that it is in. Everything raises VersionNotFound, RepositoryError."""

    repository: Repository
    mv: ModelVersion

    def __str__(self) -> str:
        return str(self.mv)

    @property
    def path(self) -> Path:
        """Its directory on this machine."""
        return self.repository.path(self.mv)

    def find_manifest(self) -> Manifest | None:
        """What it says of itself; None for versions of other tools."""
        return self.repository.find_manifest(self.mv)

    def check(self, progress: Progress | None = None) -> bool:
        """Raises unless every byte is as published; without a manifest, unless it is a whole SavedModel: then False."""
        if self.repository.find_verified(self.mv, progress=progress) is not None:
            return True
        savedmodel.check_complete(self.path)
        return False

    def below(self, base_path: str) -> str:
        """Where a server sees it that sees its model's directory as `base_path`."""
        return f"{base_path}/{self.repository.name(self.mv).rpartition('/')[2]}"


def versions_of(model: ServedModel) -> ModelVersions:
    """Where the versions of a served model are kept: the one place that takes a base path apart."""
    base = Path(model.base_path)
    return ModelVersions(Repository(base.parent), base.name)
