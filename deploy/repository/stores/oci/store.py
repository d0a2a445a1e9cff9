"""A repository in a registry: `oci://ghcr.io/team/models` keeps version 3 of digits as ghcr.io/team/models/digits:3."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from deploy.addresses import Address
from deploy.errors import RepositoryError, SpecError
from deploy.naming import check_version, is_name
from deploy.repository import naming
from deploy.repository.failures import Refused, translated
from deploy.repository.stores import Item, Publisher
from deploy.repository.stores.attachments import Attachments
from deploy.repository.stores.oci import claims, stored_image
from deploy.repository.stores.oci.image import IMAGE, MODELPACK, Descriptor, MediaTypes
from deploy.repository.stores.oci.publishing import OciPublisher
from deploy.repository.stores.oci.referrers import ImageAttachments
from deploy.repository.stores.oci.registry import Registry
from deploy.repository.stores.oci.remote import Fetched, Remote
from deploy.repository.stores.oci.stored_image import StoredImage
from deploy.types import ModelVersion
from deploy.waiting import Deadline, poll
from deploy.wire.model_config import version_number

MEDIA_TYPES = "TFS_OCI_MEDIA_TYPES"  # what new versions are made of: image (the default), modelpack
_TYPES = {"image": IMAGE, "modelpack": MODELPACK}
_APPEARS = 2.0  # seconds from a tag's being listed to its being there
_IMAGES = 64  # kept in mind by one store


def open_address(address: Address) -> OciStore:
    """The store at an oci:// address. Raises SpecError for media types that nobody knows."""
    named = os.environ.get(MEDIA_TYPES, "") or "image"
    if named not in _TYPES:
        raise SpecError(f"{MEDIA_TYPES}: expected {' or '.join(_TYPES)}, got {named!r}")
    if address.path and not Remote.allowed(address.path):
        raise SpecError(f"{str(address)!r}: a registry can have no repository {address.path!r}",
                        hint="use lower-case letters, digits, and single '.', '_', '-' between them")
    return OciStore(address, _TYPES[named])


class OciStore:
    """Versions as images. Names are those of a repository, read from images: `digits/3/saved_model.pb`.

    A version is written by publishing it, and removed by deleting its manifest: single objects can't be written.
    types: what new versions are made of; both are read.
    """

    only_whole = True  # a tag is there whole or not at all

    def __init__(self, address: Address, types: MediaTypes = IMAGE) -> None:
        self.address, self.types = address, types
        self._registry = Registry(address.host)
        self._image = lru_cache(maxsize=_IMAGES)(self._load)

    def __str__(self) -> str:
        return str(self.address)

    def check(self) -> None:
        with translated("read the repository", str(self)):
            self._registry.ping()

    def make(self) -> None:
        with translated("publish", str(self)):
            self._registry.ping()

    def models(self) -> list[str]:
        """Models that the registry's catalog has. Raises Refused where it has none."""
        start, names = f"{self.address.path}/" if self.address.path else "", set[str]()
        try:
            for reply in self._registry.pages("_catalog?n=1000", "list its repositories", "registry:catalog:*"):
                if reply.status != 200:
                    raise Refused(reply.reason, "", "no-catalog")
                below = [str(name) for name in reply.json().get("repositories") or () if str(name).startswith(start)]
                names |= {name.removeprefix(start) for name in below}
        except (Refused, ValueError, AttributeError) as error:
            raise Refused(f"{self.address.host} doesn't list its repositories: {error}",
                          "name the model: its versions are listed everywhere", "no-catalog") from error
        return sorted(name for name in names if is_name(name))

    def find_remote(self, model: str) -> Remote | None:
        """Where a model's versions are; None for a name that a registry can't have."""
        name = f"{self.address.path}/{model}" if self.address.path else model
        return Remote(self._registry, name) if Remote.allowed(name) else None

    def remote(self, model: str) -> Remote:
        """`find_remote`. Raises RepositoryError."""
        remote = self.find_remote(model)
        if remote is None:
            raise RepositoryError(f"a registry can have no model {model!r}: its repositories' names are in lower case",
                                  hint=f"publish it as {_lower(model)!r}, or keep it in another store")
        return remote

    def reference(self, mv: ModelVersion) -> str:
        """What engines pull: `ghcr.io/team/models/digits@sha256:...`. Raises FileNotFoundError."""
        remote = self.remote(mv.name)
        digest = remote.find_digest(str(mv.version))
        if digest is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such tag", f"{remote}:{mv.version}")
        return f"{remote}@{digest}"

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        model, _, rest = prefix.partition("/")
        number, _, below = rest.partition("/")
        if not model:
            names = [f"{name}/" for name in self.models()]
        elif not number:
            remote = self.find_remote(model)
            tags = sorted(tag for tag in (remote.tags() if remote else ()) if not claims.is_note(tag))
            names = [f"{model}/{tag}/" for tag in tags if version_number(tag) is not None]
        else:
            yield from self._files(model, number, below, deep=deep)
            return
        for name in names:
            if deep:
                yield from self.list(name.rstrip("/"), deep=True)
            else:
                yield Item(name)

    def open(self, name: str) -> BinaryIO:
        model, number, path = _split(name)
        return self._image(model, number).open(path)

    def put(self, name: str, data: bytes | Path) -> None:
        raise self._sealed(name)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        raise self._sealed(name)

    def delete(self, name: str) -> None:
        """A version's manifest is its image; after it, there is nothing more to delete."""
        model, number, path = _split(name)
        remote = self.remote(model)
        digest = remote.find_digest(number)
        if digest is None:
            return
        if path != naming.MANIFEST_FILE:
            raise self._sealed(name)
        claims.retire(remote, check_version(number))
        if not remote.delete(digest):
            raise Refused(f"{remote.registry.host} lets nobody delete {remote}:{number}",
                          "allow it in the registry's configuration, or delete it with its own tools", "no-deletes")
        self._image.cache_clear()

    def local_path(self, name: str) -> Path | None:
        """Its bytes are in the registry."""

    def publisher(self, algorithm: str) -> Publisher:
        return OciPublisher(self, algorithm)

    def attachments(self) -> Attachments:
        return ImageAttachments(self._subject)

    def _subject(self, mv: ModelVersion) -> tuple[Remote, Descriptor]:
        remote = self.find_remote(mv.name)
        if remote is None:
            raise FileNotFoundError(errno.ENOENT, "a registry has no such name", f"{self}/{mv}")
        return remote, remote.manifest(str(mv.version)).descriptor

    def _files(self, model: str, number: str, below: str, *, deep: bool) -> Iterator[Item]:
        try:
            image = self._image(model, number)
        except FileNotFoundError:
            return
        start, last = f"{below}/" if below else "", ""
        for name, size in image.sizes().items():
            if not name.startswith(start):
                continue
            first, slash, _ = name.removeprefix(start).partition("/")
            if deep or not slash:
                yield Item(f"{model}/{number}/{name}", size, image.created)
            elif first != last:
                yield Item(f"{model}/{number}/{start}{first}/")
            last = first

    def _load(self, model: str, number: str) -> StoredImage:
        remote = self.find_remote(model)
        if remote is None or version_number(number) is None:
            raise FileNotFoundError(errno.ENOENT, "a registry has no such name", f"{self}/{model}/{number}")
        return stored_image.load(remote, ModelVersion(model, int(number)), _listed_manifest(remote, number))

    def _sealed(self, name: str) -> OSError:
        return OSError(errno.EROFS, "a version in a registry is one image: it is published, and deleted, as a whole",
                       f"{self}/{name}")


def _listed_manifest(remote: Remote, tag: str) -> Fetched:
    """What a tag names. docker-registry lists a tag a moment before it has it: then it is worth waiting for."""
    def there() -> Fetched | None:
        with suppress(FileNotFoundError):
            return remote.manifest(tag)
        if tag not in remote.tags():
            raise FileNotFoundError(errno.ENOENT, "there is no such tag", f"{remote}:{tag}")
        return None

    fetched = poll(there, Deadline(_APPEARS))
    return fetched if fetched is not None else remote.manifest(tag)


def _split(name: str) -> tuple[str, str, str]:
    model, _, rest = name.partition("/")
    number, _, path = rest.partition("/")
    if not path:
        raise FileNotFoundError(errno.ENOENT, "there is no such file in a version", name)
    return model, number, path


def _lower(model: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
