"""What belongs to a version and came after it: signatures, receipts. Beside the version, which stays as it is.

    .tfs/.attached/<model>/<number>/<digest>.sigstore.json     a Sigstore bundle: a signature, a signed receipt
    .tfs/.attached/<model>/<number>/<digest>.intoto.json       an in-toto statement that nobody signed

No server looks there. The digest is that of the object itself, so that adding one twice is adding it once, and two
publishers never write over each other. A registry keeps them as referrers instead, see `Attachments`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from deploy.errors import Malformed
from deploy.repository import naming

if TYPE_CHECKING:
    from deploy.repository.stores import Store
    from deploy.types import ModelVersion

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT = "application/vnd.in-toto+json"
MOST_BYTES = 64 << 20  # of one: a signature of 100,000 files has 25 MB
MOST = 1000  # of a version

_ENDS = {BUNDLE: ".sigstore.json", STATEMENT: ".intoto.json"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A signature or a receipt, as it is kept. media_type: BUNDLE or STATEMENT."""

    media_type: str
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


class Attachments(Protocol):
    """How a store keeps what belongs to a version. Thread-safe; the version doesn't change by it.

    All raise OSError for what the place refuses.
    """

    def add(self, mv: ModelVersion, attachment: Attachment) -> None:
        """Keep it; nothing happens if it is there already."""
        ...

    def of(self, mv: ModelVersion, media_type: str | None = None) -> list[Attachment]:
        """All of a version, or all of one type, oldest first; none for a version that isn't there. Raises Malformed
        where they are more, or bigger, than makes sense."""
        ...

    def remove(self, mv: ModelVersion) -> None:
        """Remove all of a version that is about to be removed."""
        ...


class NamedAttachments:
    """Attachments as objects of the store itself."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, mv: ModelVersion, attachment: Attachment) -> None:
        name = f"{_place(mv)}/{attachment.digest}{_ENDS[attachment.media_type]}"
        self._store.put_if_absent(name, attachment.data)

    def of(self, mv: ModelVersion, media_type: str | None = None) -> list[Attachment]:
        there = [(item.changed, item.name, kind) for item in islice(self._store.list(_place(mv)), MOST + 1)
                 for kind, end in _ENDS.items() if item.name.endswith(end)]
        if len(there) > MOST:
            raise Malformed(f"{mv} in {self._store} has more than {MOST:,} signatures and receipts",
                            hint=f"look what writes into {_place(mv)}")
        return [Attachment(kind, self._read(name)) for _, name, kind in sorted(there) if media_type in (None, kind)]

    def remove(self, mv: ModelVersion) -> None:
        for item in list(self._store.list(_place(mv), deep=True)):
            self._store.delete(item.name)

    def _read(self, name: str) -> bytes:
        with self._store.open(name) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Malformed(f"{self._store}/{name} has more than {MOST_BYTES:,} bytes", hint="remove it")
        return data


def _place(mv: ModelVersion) -> str:
    return f"{naming.ATTACHED_DIRECTORY}/{mv}"
