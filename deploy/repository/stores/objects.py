"""Amazon S3 and what speaks like it, and Azure Blob Storage: through obstore, with the services' conditional puts.

Files go up in parts and in parallel; for S3 with SHA-256 checksums that the service verifies. Credentials and endpoints
come from where the services' own tools take them (see `object_options`), never from the address.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from deploy.addresses import Address
from deploy.repository.failures import Refused
from deploy.repository.stores import Item, object_options
from deploy.repository.stores.ranged import FIRST, open_ranged
from deploy.repository.stores.refusals import StoreRequest, refused
from deploy.repository.stores.remote import RemoteStore

if TYPE_CHECKING:
    from deploy.repository.stores.object_options import ObjectService

PART = 8 << 20  # bytes of one part of an upload
_PARTS = 2  # of one file at once; four files go up at once, too


def open_address(address: Address) -> ObjectStore:
    """The store at an s3:// or az:// address. Raises RepositoryError without credentials."""
    return ObjectStore(address, object_options.service(address))


class ObjectStore(RemoteStore):
    """A bucket, or what is below a prefix in it."""

    def __init__(self, address: Address, service: ObjectService) -> None:
        super().__init__(address)
        self._service, self._store = service, service.store

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        with self._told("list", prefix):
            if deep:
                found = [item for chunk in obstore.list(self._store, prefix or None) for item in chunk]
                below: list[str] = []
            else:
                result = obstore.list_with_delimiter(self._store, prefix or None)
                found, below = list(result["objects"]), list(result["common_prefixes"])
        items = [Item(item["path"], item["size"], item["last_modified"].timestamp()) for item in found]
        return iter(sorted([*items, *(Item(f"{name}/") for name in below)], key=lambda item: item.name))

    def open(self, name: str) -> BinaryIO:
        with self._told("get", name):
            about, first = self._begin(name)
        tag = about["e_tag"]

        def fetch(start: int, end: int) -> memoryview:
            with self._told("get", name):
                options: obstore.GetOptions = {"range": (start, end)}
                if tag:
                    options["if_match"] = tag
                return memoryview(obstore.get(self._store, name, options=options).bytes())  # not copied

        return open_ranged(about["size"], fetch, first)

    def _begin(self, name: str) -> tuple[obstore.ObjectMeta, bytes]:
        """What an object is, and how it begins: one request for all that are small."""
        try:
            result = obstore.get(self._store, name, options={"range": (0, FIRST)})
            return result.meta, bytes(result.bytes())
        except BaseError:  # an empty object has no such range
            about = obstore.head(self._store, name)
            if about["size"]:
                raise
            return about, b""

    def put(self, name: str, data: bytes | Path) -> None:
        with self._told("put", name):
            obstore.put(self._store, name, data, chunk_size=PART, max_concurrency=_PARTS)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        try:
            with self._told("put", name):
                obstore.put(self._store, name, data, mode="create", use_multipart=False)
        except FileExistsError:
            return False
        return True

    def delete(self, name: str) -> None:
        try:
            with self._told("delete", name):
                obstore.delete(self._store, name)
        except FileNotFoundError:
            pass

    @contextmanager
    def _told(self, verb: str, name: str) -> Iterator[None]:
        """What obstore raises, as the protocol says it: FileNotFoundError, FileExistsError, Refused."""
        try:
            yield
        except Refused:
            raise
        except FileNotFoundError as error:
            if self._service.missing in str(error):
                raise refused(error, self._asked(verb, name)) from error
            raise self.absent(name) from None
        except AlreadyExistsError:
            raise self.taken(name) from None
        except PreconditionError as error:
            raise self.changed(name) from error
        except (BaseError, OSError, ValueError) as error:
            raise refused(error, self._asked(verb, name)) from error

    def _asked(self, verb: str, name: str) -> StoreRequest:
        service = self._service
        return StoreRequest(f"{verb} {name or 'it'}", str(self), f"{service.container} {self._address.host!r}",
                     service.caller(), service.endpoint, service.permissions[verb])
