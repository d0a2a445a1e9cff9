"""Which copies on a server's machine were verified, and that they haven't changed since: names, sizes and times tell.

Reading 200 MB back over SSH takes half a minute, a listing of them some milliseconds. What changes no size and no time,
as a disk that forgets, is seen by reading alone: `tfs repository verify`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy import files, render
from deploy.errors import ServerError
from deploy.repository import failures

if TYPE_CHECKING:
    from deploy.repository import Manifest, Repository

FILE = "verified.json"
_MOST_BYTES = 1 << 20
_MOST = 2000  # copies that are remembered: the newest
_Files = dict[str, tuple[str, str]]


class VerifiedCopies:
    """directory: where it is written down, on this machine. What can't be read or written there is verified again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def unchanged(self, target: Repository, manifest: Manifest) -> bool:
        """Whether the version's copy in `target` is as it was when it was verified. Raises RepositoryError."""
        known = self._read().get(_key(target, manifest))
        return known is not None and known == (manifest.digest, _outline(target, manifest))

    def remember(self, target: Repository, manifest: Manifest) -> None:
        """That it is now as its manifest says. Raises RepositoryError if it can't be listed."""
        copies, key = self._read(), _key(target, manifest)
        seen = manifest.digest, _outline(target, manifest)
        if copies.pop(key, None) != seen or len(copies) >= _MOST:
            newest = dict(list({**copies, key: seen}.items())[-_MOST:])
            try:
                render.write({FILE: json.dumps(newest)}, self._directory)
            except ServerError:  # a full disk: it is read again the next time
                return

    def _read(self) -> _Files:
        try:
            data = files.read_bytes(self._directory / FILE, _MOST_BYTES)
            return msgspec.json.decode(data, type=_Files)
        except (OSError, msgspec.DecodeError):
            return {}


def _key(target: Repository, manifest: Manifest) -> str:
    return f"{target.store}/{manifest.model_version}"


def _outline(target: Repository, manifest: Manifest) -> str:
    """Names, sizes and times of its files, in short."""
    name = target.name(manifest.model_version)
    with failures.translated(f"list {manifest.model_version}", str(target.store)):
        items = [(item.name, item.size, item.changed) for item in target.store.list(name, deep=True)]
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()
