"""What stores of objects on other machines have in common, whatever they are asked with."""

from __future__ import annotations

from pathlib import Path

from deploy.addresses import Address
from deploy.repository.failures import Refused
from deploy.repository.stores import Publisher, Store
from deploy.repository.stores.attachments import Attachments, NamedAttachments
from deploy.repository.stores.conditional import ConditionalPublisher


class RemoteStore(Store):
    """A place at an address. Versions get in by conditional writes; nothing of it is on this machine."""

    def __init__(self, address: Address) -> None:
        self._address = address

    @property
    def only_whole(self) -> bool:
        return False

    def __str__(self) -> str:
        return str(self._address)

    def check(self) -> None:
        """Whether there is such a place is said by whatever is asked of it first."""

    def make(self) -> None:
        """Buckets are made by whoever pays for them."""

    def local_path(self, name: str) -> Path | None:
        """Its bytes are elsewhere."""

    def publisher(self, algorithm: str) -> Publisher:
        return ConditionalPublisher(self, algorithm)

    def attachments(self) -> Attachments:
        return NamedAttachments(self)

    def absent(self, name: str) -> FileNotFoundError:
        """There is no such object."""
        return FileNotFoundError(2, "there is no such object", f"{self}/{name}")

    def taken(self, name: str) -> FileExistsError:
        """There is such an object, where one was put if absent."""
        return FileExistsError(17, "there is such an object", f"{self}/{name}")

    def changed(self, name: str) -> Refused:
        """An object isn't any more what it was when its reading began."""
        return Refused(f"{self}/{name} was changed while it was read",
                       "published versions never change: find out who wrote there, then repeat", "changed-meanwhile")
