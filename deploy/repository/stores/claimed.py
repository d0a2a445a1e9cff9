"""A stage whose number is claimed before anything is sent: what publishing has in common where there is no rename.

A directory is published from where it lies: what it takes on this machine is no second copy.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deploy.errors import RepositoryError, VersionExists
from deploy.locks import Owner
from deploy.naming import MAX_VERSION, check_version
from deploy.repository import copying, failures
from deploy.repository.copying import Progress
from deploy.repository.manifest import FileRecord, Manifest
from deploy.repository.publishing import Facts, ManifestOf, Published, VersionStage
from deploy.repository.survey import Survey


class ClaimedStage(VersionStage):
    """Staged on this machine. What is the store's part has to work as soon as this is constructed."""

    def __init__(self, model: str, where: str, algorithm: str, version: int | None) -> None:
        super().__init__(model, where, algorithm)
        self._claimed = 0
        self._scratch = tempfile.TemporaryDirectory(prefix="tfs-stage-")
        try:
            self._tree = Path(self._scratch.name) / "version"
            self._tree.mkdir()
            if version is not None:
                with failures.translated(f"publish {model}", where):
                    self._claim(version)
        except BaseException:
            self._scratch.cleanup()
            raise

    @abstractmethod
    def is_taken(self, number: int) -> bool:
        """Whether there is anything under a number, however it is spelled."""

    @abstractmethod
    def take(self, number: int) -> bool:
        """Claim a number. Of many callers at once at most one gets True."""

    @abstractmethod
    def give_back(self, number: int) -> None:
        """Forget the claim, and what was sent under the number."""

    @abstractmethod
    def next_number(self) -> int:
        """One more than the highest that exists, existed, or is claimed."""

    @abstractmethod
    def holder(self, number: int) -> Owner | None:
        """Who is publishing that number; None if it is there, or if nobody knows."""

    @abstractmethod
    def send(self, number: int, source: Survey, written: Manifest) -> Published:
        """Send a version, and show it by one step at the end, if its files are still what its manifest says.

        Raises VersionExists, RepositoryError, OSError.
        """

    @property
    def path(self) -> Path:
        return self._tree

    def publish_copy(self, source: Survey, version: int | None, facts: Facts,
                     progress: Progress | None = None) -> Published:
        with failures.translated(f"publish {self.model}", self.where):
            return self._publish(source, version, facts, progress)

    def _digests(self, source: Survey) -> Mapping[str, FileRecord]:
        return copying.digest_tree(source, self._algorithm, self._progress)

    def show(self, source: Survey, version: int | None, manifest: ManifestOf) -> Published:
        version = version if version is None else check_version(version)
        if version not in (None, self._claimed):
            self._withdraw()
            self._claim(version)
        while not self._claimed:
            self._claim_next()
        published = self.send(self._claimed, source, manifest(self._claimed))
        self._claimed = 0
        self.discard()
        return published

    def discard(self) -> None:
        self._scratch.cleanup()
        with suppress(OSError):  # `clean` takes what is left
            self._withdraw()

    def exists(self, number: int) -> VersionExists:
        """Why a number can't be had."""
        owner = self.holder(number)
        why = "exists" if owner is None else f"is being published by {owner}"
        return VersionExists(f"{self.model}/{number} {why} in {self.where}; published versions never change",
                             hint=f"the next free version is {self.next_number()}")

    def _withdraw(self) -> None:
        claimed, self._claimed = self._claimed, 0
        if claimed:
            self.give_back(claimed)

    def _claim(self, number: int) -> None:
        if self.is_taken(number) or not self.take(number):
            raise self.exists(number)
        self._claimed = number

    def _claim_next(self) -> None:
        number = self.next_number()
        if number > MAX_VERSION:
            raise RepositoryError(f"{self.model} has no number left after {MAX_VERSION}", hint="name a free version")
        if self.take(number):
            self._claimed = number
