"""Publishing by conditional writes, for every store that knows no rename.

    .tfs/<model>/<number>                       who claimed the number, see `claims`
    <model>/<number>/...                        the files
    <model>/<number>/assets.extra/tfs_manifest.json   put last, if absent: from then on the version is there

What a dead publisher leaves is a claim and files that nobody lists. Whoever publishes the same files next goes on with
them; `clean` removes the rest. The simplest such store is here, too: it is in memory, for tests.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from deploy.locks import Owner
from deploy.repository import failures, naming
from deploy.repository.manifest import FileRecord, Manifest
from deploy.repository.publishing import ManifestOf, Published, VersionStage
from deploy.repository.stores import Item, Publisher, RemovedVersion, Store, removal, sending
from deploy.repository.stores.attachments import Attachments, NamedAttachments
from deploy.repository.stores.claimed import ClaimedStage
from deploy.repository.stores.claims import NumberClaims, shown
from deploy.repository.survey import Survey
from deploy.wire.model_config import by_version

_SILENT = 24 * 3600.0  # seconds after which a publisher on another host counts as gone


class ConditionalPublisher:
    """How versions get into an object store. Needs nothing but its promises."""

    def __init__(self, store: Store, algorithm: str) -> None:
        self._store, self._algorithm = store, algorithm

    def stage(self, model: str, version: int | None) -> VersionStage:
        return _ConditionalStage(self._store, self, model, version, self._algorithm)

    def next_version(self, model: str) -> int:
        there = (NumberClaims(self._store, model).all(), numbers(self._store, model))
        return max((0, *(number for numbers in there for number in numbers))) + 1

    def clean(self, older_than: float) -> list[PurePath]:
        removed: list[PurePath] = []
        with failures.translated("clean the repository", str(self._store)):
            models = [item.name.rstrip("/").rpartition("/")[2] for item in self._store.list(naming.STATE_DIRECTORY)
                      if item.prefix]
            for model in models:
                removed += [PurePosixPath(model, str(number)) for number in self._cleared(model, older_than)]
        return removed

    def _cleared(self, model: str, older_than: float) -> Iterator[int]:
        claims = NumberClaims(self._store, model)
        for number, claim in claims.all().items():
            if claims.unfinished(number) and claims.abandoned(claim, older_than) and claims.inherit(claim):
                claims.withdraw(number)
                yield number

    def remove(self, model: str, name: str) -> None:
        removal.remove(self._store, model, name)

    def removed(self) -> list[RemovedVersion]:
        return removal.removed(self._store)

    def restore(self, version: RemovedVersion) -> None:
        removal.restore(self._store, version)

    def purge(self, version: RemovedVersion) -> None:
        removal.purge(self._store, version)


class _ConditionalStage(ClaimedStage):
    def __init__(self, store: Store, publisher: ConditionalPublisher, model: str, version: int | None,
                 algorithm: str) -> None:
        self._store, self._publisher = store, publisher
        self._claims, self._sending = NumberClaims(store, model), False
        super().__init__(model, str(store), algorithm, version)

    def is_taken(self, number: int) -> bool:
        return number in numbers(self._store, self.model) and not self._left(number)

    def _left(self, number: int) -> bool:
        """Whether a number holds nothing but what a dead publisher left."""
        claim = self._claims.all().get(number)
        return claim is not None and self._claims.unfinished(number) and self._claims.abandoned(claim, _SILENT)

    def take(self, number: int) -> bool:
        return self._claims.take(number)

    def give_back(self, number: int) -> None:
        if self._sending:  # it failed on the way: what has arrived is of use to the next who publishes the same
            self._claims.give_up(number)
        else:
            self._claims.withdraw(number)

    def next_number(self) -> int:
        return self._publisher.next_version(self.model)

    def holder(self, number: int) -> Owner | None:
        return None if shown(self._store, self.model, number) else self._claims.owner(number)

    def show(self, source: Survey, version: int | None, manifest: ManifestOf) -> Published:
        if version is None and not self._claimed:
            self._claimed = self._inherited(manifest(1).files)
        return super().show(source, version, manifest)

    def _inherited(self, files: Mapping[str, FileRecord]) -> int:
        """The number under which a dead publisher has begun to send the same files; 0 if there is none.

        What others left that are long dead is removed.
        """
        claims = self._claims
        for number, claim in claims.all().items():
            if not (claims.unfinished(number) and claims.abandoned(claim, _SILENT)):
                continue
            same = claims.planned(number) == files
            if (same or time.time() - claim.changed > _SILENT) and claims.inherit(claim):
                if same:
                    return number
                claims.withdraw(number)
        return 0

    def send(self, number: int, source: Survey, written: Manifest) -> Published:
        name = f"{self.model}/{number}"
        there = self._usable(number, written)
        self._claims.plan(number, written)
        self._sending = True
        sending.send(self._store, name, source, written, there=there, progress=self._progress)
        data = written.to_bytes()
        if not self._store.put_if_absent(f"{name}/{naming.MANIFEST_FILE}", data) and not self._is(name, data):
            raise self.exists(number)
        self._sending = False
        self._claims.finish(number)
        return Published(written.model_version, f"{self._store}/{name}", written, self._store.local_path(name))

    def _usable(self, number: int, written: Manifest) -> set[str]:
        """The files that are there already, whole, as the one who sent them has planned. Others are removed."""
        same, start, usable = self._claims.planned(number) == written.files, f"{self.model}/{number}/", set()
        for item in self._claims.files(number):
            file = item.name.removeprefix(start)
            if same and file in written.files and item.size == written.files[file].size:
                usable.add(file)
            else:
                self._store.delete(item.name)
        return usable

    def _is(self, name: str, data: bytes) -> bool:
        """Whether the manifest that is there is this one: it was written, and the answer got lost."""
        with self._store.open(f"{name}/{naming.MANIFEST_FILE}") as file:
            return file.read(len(data) + 1) == data


def numbers(store: Store, prefix: str) -> Collection[int]:
    """Those that a server reads there, however they are spelled."""
    return by_version(item.name.rstrip("/").rpartition("/")[2] for item in store.list(prefix)).keys()


class MemoryStore:
    """Objects in a dictionary. They end with the process."""

    only_whole = False

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"memory:{self._name}"

    def check(self) -> None:
        """It is always there."""

    def make(self) -> None:
        """It is always there."""

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        start = f"{prefix}/" if prefix else ""
        with self._lock:
            below = [(name, len(data), changed) for name, (data, changed) in self._objects.items()
                     if name.startswith(start)]
        items = {}
        for name, size, changed in sorted(below):
            first, slash, _ = name.removeprefix(start).partition("/")
            item = Item(name, size, changed) if deep or not slash else Item(f"{start}{first}/")
            items[item.name] = item
        return iter(items.values())

    def open(self, name: str) -> BinaryIO:
        with self._lock:
            if name not in self._objects:
                raise FileNotFoundError(name)
            return io.BytesIO(self._objects[name][0])

    def put(self, name: str, data: bytes | Path) -> None:
        content = data.read_bytes() if isinstance(data, Path) else data
        with self._lock:
            self._objects[name] = content, time.time()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        with self._lock:
            if name in self._objects:
                return False
            self._objects[name] = data, time.time()
        return True

    def delete(self, name: str) -> None:
        with self._lock:
            self._objects.pop(name, None)

    def local_path(self, name: str) -> Path | None:
        """Nothing of it is in a file."""

    def publisher(self, algorithm: str) -> Publisher:
        return ConditionalPublisher(self, algorithm)

    def attachments(self) -> Attachments:
        return NamedAttachments(self)
