"""A store in this process, which promises what an object store does and nothing more. For tests."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deploy.repository.stores import Item, Publisher
from deploy.repository.stores.conditional import ConditionalPublisher


class MemoryStore:
    """Objects in a dictionary. They end with the process."""

    only_whole = False

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return "memory:"

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
