"""Google Cloud Storage, through its own client: conditional puts by generation, checksums that the service verifies.

STORAGE_EMULATOR_HOST names another endpoint, as everywhere with that client; then nobody's credentials are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import google.auth
from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from deploy.addresses import Address
from deploy.errors import RepositoryError
from deploy.repository.stores import Item
from deploy.repository.stores.ranged import open_ranged
from deploy.repository.stores.refusals import StoreRequest, checked_endpoint, deadline, refused
from deploy.repository.stores.remote import RemoteStore

_CONNECTIONS = 32  # as many as files may be on their way at once
_PERMISSIONS = {"list": "storage.objects.list", "get": "storage.objects.get", "put": "storage.objects.create",
                "delete": "storage.objects.delete"}


_anonymous: Callable[[], Any] = AnonymousCredentials


def open_address(address: Address) -> GcsStore:
    """The store at a gs:// address. Raises RepositoryError without credentials."""
    emulator = checked_endpoint(os.environ.get("STORAGE_EMULATOR_HOST", ""), "STORAGE_EMULATOR_HOST")
    try:
        credentials, project = (_anonymous(), "emulator") if emulator else google.auth.default()
    except DefaultCredentialsError as error:
        raise RepositoryError(f"{address}: there are no credentials for it",
                              hint="run `gcloud auth application-default login`, or name a key file in "
                                   "GOOGLE_APPLICATION_CREDENTIALS", id="no-credentials") from error
    client = storage.Client(project=project or "unknown", credentials=credentials)
    for scheme in ("https://", "http://"):  # the client's own adapter keeps ten
        client._http.mount(scheme, type(client._http.get_adapter(scheme))(pool_maxsize=_CONNECTIONS))
    caller = getattr(credentials, "service_account_email", None) or (
        "nobody (STORAGE_EMULATOR_HOST)" if emulator else "the application default credentials")
    return GcsStore(address, client, emulator or "https://storage.googleapis.com", str(caller))


class GcsStore(RemoteStore):
    """A bucket, or what is below a prefix in it."""

    def __init__(self, address: Address, client: Any, endpoint: str, caller: str) -> None:
        super().__init__(address)
        self._endpoint, self._caller = endpoint, caller
        self._client, self._bucket = client, client.bucket(address.host)
        self._start = f"{address.path}/" if address.path else ""
        self._often = {"retry": DEFAULT_RETRY.with_timeout(deadline()), "timeout": min(60.0, deadline())}

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        start = f"{self._start}{prefix}/" if prefix else self._start
        with self._told("list", prefix):
            listing = self._client.list_blobs(self._address.host, prefix=start or None, delimiter=None if deep else "/",
                                              fields="items(name,size,updated),prefixes,nextPageToken", **self._often)
            items = [Item(self._relative(blob.name), blob.size, blob.updated.timestamp()) for blob in listing]
            items += [Item(self._relative(name)) for name in listing.prefixes]
        return iter(sorted(items, key=lambda item: item.name))

    def _relative(self, name: str) -> str:
        return name.removeprefix(self._start)

    def open(self, name: str) -> BinaryIO:
        blob = self._blob(name)
        with self._told("get", name):
            blob.reload(**self._often)

        def fetch(start: int, end: int) -> bytes:
            with self._told("get", name):
                return bytes(blob.download_as_bytes(start=start, end=end - 1, if_generation_match=blob.generation,
                                                    raw_download=True, **self._often))

        return open_ranged(blob.size, fetch)

    def put(self, name: str, data: bytes | Path) -> None:
        self._put(name, data)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        try:
            self._put(name, data, if_generation_match=0)
        except FileExistsError:
            return False
        return True

    def _put(self, name: str, data: bytes | Path, **condition: int) -> None:
        blob = self._blob(name)
        with self._told("put", name):
            put: Callable[..., None] = blob.upload_from_filename if isinstance(data, Path) else blob.upload_from_string
            put(str(data) if isinstance(data, Path) else data, content_type="application/octet-stream",
                checksum="crc32c", **condition, **self._often)

    def delete(self, name: str) -> None:
        try:
            with self._told("delete", name):
                self._blob(name).delete(**self._often)
        except FileNotFoundError:
            pass

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(self._start + name)

    @contextmanager
    def _told(self, verb: str, name: str) -> Iterator[None]:
        """What the client raises, as the protocol says it: FileNotFoundError, FileExistsError, Refused."""
        try:
            yield
        except NotFound as error:
            if verb == "list" or re.search("bucket does not exist", str(error)):
                raise refused(RuntimeError(f"NoSuchBucket {error}"), self._asked(verb, name)) from error
            raise self.absent(name) from None
        except PreconditionFailed as error:
            if verb == "put":
                raise self.taken(name) from None
            raise self.changed(name) from error
        except (GoogleAPIError, GoogleAuthError, OSError, ValueError) as error:
            raise refused(error, self._asked(verb, name)) from error

    def _asked(self, verb: str, name: str) -> StoreRequest:
        return StoreRequest(f"{verb} {name or 'it'}", str(self), f"bucket {self._address.host!r}", self._caller,
                     self._endpoint, _PERMISSIONS[verb])
