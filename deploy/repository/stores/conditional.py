"""Publishing by conditional writes, for every store that knows no rename.

    .tfs/<model>/<number>                       who claimed the number: put if absent, so one publisher gets it
    <model>/<number>/...                        the files
    <model>/<number>/assets.extra/tfs_manifest.json   put last, if absent: from then on the version is there

A claim stays beside its version, and after it: a number isn't given twice. What a dead publisher leaves is a claim and
files that nobody lists; `clean` removes both. The simplest such store is here, too: it is in memory, for tests.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from deploy.locks import Owner
from deploy.repository import failures, naming
from deploy.repository.manifest import Manifest
from deploy.repository.publishing import Published, VersionStage
from deploy.repository.stores import Item, Publisher, RemovedVersion, Store, removal
from deploy.repository.stores.attachments import Attachments, NamedAttachments
from deploy.repository.stores.claimed import ClaimedStage
from deploy.wire.model_config import by_version, version_number

_MOST = 4096  # bytes of a claim


class ConditionalPublisher:
    """How versions get into an object store. Needs nothing but its promises."""

    def __init__(self, store: Store, algorithm: str) -> None:
        self._store, self._algorithm = store, algorithm

    def stage(self, model: str, version: int | None) -> VersionStage:
        return _ConditionalStage(self._store, self, model, version, self._algorithm)

    def next_version(self, model: str) -> int:
        there = (_numbers(self._store, f"{naming.STATE_DIRECTORY}/{model}"), _numbers(self._store, model))
        return max((0, *(number for numbers in there for number in numbers))) + 1

    def claim(self, model: str, number: int) -> bool:
        """Whether the number is this process's now."""
        owner = json.dumps(Owner.here("publish").to_json()).encode()
        return self._store.put_if_absent(_claim(model, number), owner)

    def owner(self, model: str, number: int) -> Owner | None:
        """Who claimed the number; None if nobody did, or if that can't be read."""
        try:
            with self._store.open(_claim(model, number)) as file:
                return Owner.from_json(json.loads(file.read(_MOST)))
        except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def clean(self, older_than: float) -> list[PurePath]:
        removed: list[PurePath] = []
        with failures.translated("clean the repository", str(self._store)):
            for item in list(self._store.list(naming.STATE_DIRECTORY, deep=True)):
                _, model, number = item.name.rsplit("/", 2)
                if str(version_number(number)) != number or shown(self._store, model, int(number)):
                    continue
                if removal.is_removed(self._store, model, int(number)):
                    continue
                if self._abandoned(model, int(number), item.changed, older_than):
                    self.withdraw(model, int(number))
                    removed.append(PurePosixPath(model, number))
        return removed

    def remove(self, model: str, name: str) -> None:
        removal.remove(self._store, model, name)

    def removed(self) -> list[RemovedVersion]:
        return removal.removed(self._store)

    def restore(self, version: RemovedVersion) -> None:
        removal.restore(self._store, version)

    def purge(self, version: RemovedVersion) -> None:
        removal.purge(self._store, version)

    def withdraw(self, model: str, number: int) -> None:
        """Remove the files of a version that isn't there, then the claim: so nobody writes beside what is left."""
        if shown(self._store, model, number):
            return
        for item in list(self._store.list(f"{model}/{number}", deep=True)):
            self._store.delete(item.name)
        self._store.delete(_claim(model, number))

    def _abandoned(self, model: str, number: int, claimed: float, older_than: float) -> bool:
        owner = self.owner(model, number)
        if owner is not None and not owner.alive:
            return True
        latest = max((item.changed for item in self._store.list(f"{model}/{number}", deep=True)), default=claimed)
        return not _is_here(owner) and time.time() - max(latest, claimed) > older_than


class _ConditionalStage(ClaimedStage):
    def __init__(self, store: Store, publisher: ConditionalPublisher, model: str, version: int | None,
                 algorithm: str) -> None:
        self._store, self._publisher = store, publisher
        super().__init__(model, str(store), algorithm, version)

    def is_taken(self, number: int) -> bool:
        return number in _numbers(self._store, self.model)

    def take(self, number: int) -> bool:
        return self._publisher.claim(self.model, number)

    def give_back(self, number: int) -> None:
        self._publisher.withdraw(self.model, number)

    def next_number(self) -> int:
        return self._publisher.next_version(self.model)

    def holder(self, number: int) -> Owner | None:
        return None if shown(self._store, self.model, number) else self._publisher.owner(self.model, number)

    def send(self, number: int, tree: Path, written: Manifest) -> Published:
        name = f"{self.model}/{number}"
        for file in sorted(written.files):
            self._store.put(f"{name}/{file}", tree / file)
        if not self._store.put_if_absent(f"{name}/{naming.MANIFEST_FILE}", written.to_bytes()):
            raise self.exists(number)
        return Published(written.model_version, f"{self._store}/{name}", written, self._store.local_path(name))


def shown(store: Store, model: str, number: int) -> bool:
    """Whether a version has its manifest, and so is there."""
    directory = f"{model}/{number}/{naming.EXTRA_DIRECTORY}"
    return any(item.name == f"{model}/{number}/{naming.MANIFEST_FILE}" for item in store.list(directory))


def _numbers(store: Store, prefix: str) -> Collection[int]:
    """Those that a server reads there, however they are spelled."""
    return by_version(item.name.rstrip("/").rpartition("/")[2] for item in store.list(prefix)).keys()


def _claim(model: str, number: int) -> str:
    return f"{naming.STATE_DIRECTORY}/{model}/{number}"


def _is_here(owner: Owner | None) -> bool:
    """Whether it runs where this process can see it, and was seen."""
    return owner is not None and owner.on_this_host


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
