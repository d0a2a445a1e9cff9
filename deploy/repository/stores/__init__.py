"""Where a repository's files are kept. One protocol, shaped by what object stores can promise; and each store.

    directory     a directory that TensorFlow Serving can watch: versions appear by one rename
    staging       a directory's stages and numbers, kept apart by locks
    addresses     from a path or an address (`s3://bucket/models`) to its store
    removal       what was removed by conditional writes, and how it comes back
    claimed       a stage whose number is claimed before anything is sent
    owned         names that one process gets, and who that is
    claims        who may write under a number, and what dead publishers left; sending: the files on their way
    conditional   publishing by conditional writes, for every store that knows no rename; one in memory, for tests
    objects, object_options   S3 and Azure: obstore's stores, and how they are reached
    gcs           Google Cloud Storage, through its own client
    sftp          a directory of another machine, over SSH
    remote        what stores on other machines have in common
    ranged        an object as a file that is read by ranges
    refusals      what services refuse, in a sentence
    oci/          registries: a version is one image
    attachments   signatures and receipts of a version, kept beside it

A store is added by a module here and a line in tests/contract/test_stores.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from deploy.repository.publishing import VersionStage
    from deploy.repository.stores.attachments import Attachments


@dataclass(frozen=True, slots=True)
class Item:
    """What a listing names: an object, or what names have in common up to a slash, which then ends `name`.

    size: bytes. changed: seconds since the epoch. Both 0 where `name` ends with a slash.
    """

    name: str
    size: int = 0
    changed: float = 0.0

    @property
    def prefix(self) -> bool:
        """Whether it stands for the names below it."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class RemovedVersion:
    """A version that nobody sees any more, and that can be brought back. when: seconds since the epoch."""

    model: str
    version: int
    when: float


class Store(Protocol):
    """Objects by name, `digits/3/saved_model.pb`. Thread-safe, and safe beside other processes.

    Promised is what object stores promise: an object is there whole or not at all, a conditional put succeeds once, and
    a listing shows what was put before it. No rename, no lock, no directories: a prefix is there while a name has it.

    All raise OSError for what the place refuses, FileNotFoundError for a name that isn't there.
    """

    @property
    def only_whole(self) -> bool:
        """Whether a version is whole as soon as any of it is listed. Where it isn't, its manifest says so."""
        ...

    def __str__(self) -> str:
        """For people: the path, the address."""
        ...

    def check(self) -> None:
        """Raises RepositoryError if the place isn't there."""
        ...

    def make(self) -> None:
        """Make the place if it isn't there. Raises RepositoryError if it can't be a repository."""
        ...

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        """What is below a prefix, `digits` or "", sorted: one level of it, or all objects (`deep`). Full names."""
        ...

    def open(self, name: str) -> BinaryIO:
        """An object to be read, seekable: what isn't read isn't fetched."""
        ...

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, from a file if `data` is a path; it replaces what was there."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of this name. Of many callers at once one gets True."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens if it isn't there."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Where a server of this machine reads it, or what is below it; None if the bytes aren't here."""
        ...

    def publisher(self, algorithm: str) -> Publisher:
        """How versions get in. algorithm: of their digests."""
        ...

    def attachments(self) -> Attachments:
        """How signatures and receipts of versions are kept: `NamedAttachments(self)`, where it has nothing better."""
        ...


class Publisher(Protocol):
    """Makes a version visible by one atomic step, so that readers see it whole or not at all. Thread-safe."""

    def stage(self, model: str, version: int | None) -> VersionStage:
        """A place to save a version into. version: claimed from now on. Raises VersionExists, RepositoryError."""
        ...

    def next_version(self, model: str) -> int:
        """One more than the highest number that exists, existed, or is claimed. Raises OSError."""
        ...

    def clean(self, older_than: float) -> list[PurePath]:
        """Remove what publishers left that are dead, or silent for `older_than` seconds if nobody can tell."""
        ...

    def remove(self, model: str, name: str) -> None:
        """Let nobody see a version any more, `name` as it is spelled, in one step; its number isn't given again.

        Where `removed` lists it then, it can still be brought back. Raises OSError.
        """
        ...

    def removed(self) -> list[RemovedVersion]:
        """What was removed and can be brought back; none where the store can't do that. Raises OSError."""
        ...

    def restore(self, version: RemovedVersion) -> None:
        """Bring one back as it was. Raises VersionExists, OSError."""
        ...

    def purge(self, version: RemovedVersion) -> None:
        """Delete the bytes of one for good. Raises OSError."""
        ...
