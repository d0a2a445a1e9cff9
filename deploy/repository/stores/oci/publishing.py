"""Versions put together as images and pushed: blobs first, the tag last, which shows all of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

from deploy.errors import RepositoryError
from deploy.locks import Owner
from deploy.repository import copying, naming
from deploy.repository.copying import Progress
from deploy.repository.failures import Refused
from deploy.repository.manifest import Manifest
from deploy.repository.publishing import Published, VersionStage
from deploy.repository.stores import RemovedVersion
from deploy.repository.stores.claimed import ClaimedStage
from deploy.repository.stores.oci import claims, image
from deploy.repository.stores.oci.claims import Claim
from deploy.repository.stores.oci.image import Descriptor
from deploy.repository.stores.oci.remote import Remote
from deploy.repository.survey import Survey
from deploy.wire.model_config import by_version

if TYPE_CHECKING:
    from deploy.repository.stores.oci.store import OciStore


class OciPublisher:
    """How versions get into a registry."""

    def __init__(self, store: OciStore, algorithm: str) -> None:
        self._store, self._algorithm = store, algorithm

    def stage(self, model: str, version: int | None) -> VersionStage:
        return _OciStage(self._store, model, version, self._algorithm)

    def next_version(self, model: str) -> int:
        remote = self._store.find_remote(model)
        return claims.next_number(remote.tags() if remote else ())

    def clean(self, older_than: float) -> list[PurePath]:
        """Take back what dead publishers claimed. Blobs that no image has are the registry's to collect."""
        removed: list[PurePath] = []
        for model in self._store.models():
            remote = self._store.remote(model)
            tags = remote.tags()
            for claim in claims.claims(tags):
                if claim.number in by_version(tags) or "withdrawn" in claim.states:
                    claims.forget(remote, claim)
                elif claims.abandoned(remote, claim, older_than):
                    claims.withdraw(remote, claim)
                    removed.append(PurePosixPath(model, str(claim.number)))
        return removed

    def remove(self, model: str, name: str) -> None:
        """Delete the image. Its number is remembered; its blobs are the registry's to collect."""
        self._store.delete(f"{model}/{name}/{naming.MANIFEST_FILE}")

    def removed(self) -> list[RemovedVersion]:
        """A registry keeps nothing of an image that was deleted."""
        return []

    def restore(self, version: RemovedVersion) -> None:
        raise FileNotFoundError(2, "a registry brings nothing back", str(self._store))

    def purge(self, version: RemovedVersion) -> None:
        """Nothing is left."""


class _OciStage(ClaimedStage):
    def __init__(self, store: OciStore, model: str, version: int | None, algorithm: str) -> None:
        self._store, self._remote, self._claims = store, store.remote(model), dict[int, Claim]()
        super().__init__(model, str(store), algorithm, version)

    def is_taken(self, number: int) -> bool:
        return number in by_version(self._remote.tags())

    def take(self, number: int) -> bool:
        claim = claims.take(self._remote, number)
        if claim is not None:
            self._claims[number] = claim
        return claim is not None

    def give_back(self, number: int) -> None:
        claim = self._claims.pop(number, None)
        if claim is not None:  # else it was interrupted while it forgot it, once the version was shown
            claims.withdraw(self._remote, claim)

    def next_number(self) -> int:
        return claims.next_number(self._remote.tags())

    def holder(self, number: int) -> Owner | None:
        tags = self._remote.tags()
        return None if number in by_version(tags) else claims.holder(self._remote, number, tags)

    def send(self, number: int, source: Survey, written: Manifest) -> Published:
        try:
            data = push(self._remote, written, source, self._store.types, self._progress)
        except (OSError, RepositoryError):  # perhaps since the registry got other bytes than were digested
            _check_source(source, written)
            raise
        _check_source(source, written)
        self._tag(number, data)
        with suppress(OSError, RepositoryError):  # the version is there, whatever becomes of its claim
            claims.forget(self._remote, self._claims.pop(number))
        return Published(written.model_version, f"{self._store}/{self.model}/{number}", written)

    def _tag(self, number: int, data: bytes) -> None:
        """The one step that shows the version. Who claims nothing may take its tag before, or at the same time."""
        if self._remote.find_digest(str(number)) is not None:
            raise self.exists(number)
        try:
            self._remote.put_manifest(str(number), data)
        except Refused:
            if self._remote.find_digest(str(number)) is not None:  # the registry keeps tags as they are
                raise self.exists(number) from None
            raise
        seen, own = self._remote.find_digest(str(number)), image.described(data, image.MANIFEST).digest
        if seen != own:
            raise RepositoryError(f"{self._remote}:{number} is {seen} now, and was pushed as {own}",
                                  hint="something that doesn't claim its numbers pushes there, too: publish again",
                                  details={"expected": own, "seen": seen})


def _check_source(source: Survey, written: Manifest) -> None:
    for file in source.files:
        copying.check_unchanged(file, written.files[file.name], written.algorithm)


def push(remote: Remote, manifest: Manifest, source: Survey, types: image.MediaTypes,
         progress: Progress | None = None) -> bytes:
    """Have all blobs of a version in the registry; returns the image that they make. What is there isn't sent again.

    progress: of the files' layer as it is sent; begins again where it has to be sent again.
    """
    layer, opened = image.files_layer(manifest), image.survey_opener(source)
    files = layer.descriptor(types.files, opened)
    remote.push(files, lambda: image.as_file(_reported(layer.pieces(opened), layer.size, progress)))
    own, text = image.manifest_layer(manifest)
    last = own.descriptor(types.manifest, lambda _: io.BytesIO(text))
    remote.push(last, lambda: image.as_file(own.pieces(lambda _: io.BytesIO(text))))
    layers: tuple[Descriptor, ...] = (files, last)
    config = image.config(manifest, layers, types)
    described = image.described(config, types.config)
    remote.push(described, lambda: io.BytesIO(config))
    return image.image_manifest(manifest, described, layers, types)


def _reported(pieces: Iterable[bytes], total: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if progress:
            progress(done, total)
