"""One line per version, for `tfs repository list`."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from deploy import files
from deploy.errors import RepositoryError
from deploy.repository import checking
from deploy.types import ModelVersion


@dataclass(frozen=True, slots=True)
class Entry:
    """A version in a listing.

    size: bytes of all files. created: ISO 8601, UTC. digest: `<algorithm>:<hex>`, None without a manifest.
    error: why the manifest can't be read, empty if it can or if there is none.
    """

    mv: ModelVersion
    path: Path
    size: int
    files: int
    created: str
    digest: str | None
    goldens: int
    producer: dict[str, str]
    error: str = ""

    def to_json(self) -> dict[str, object]:
        return {"model": self.mv.name, "version": self.mv.version, "path": str(self.path), "size": self.size,
                "files": self.files, "created": self.created, "digest": self.digest, "goldens": self.goldens,
                "producer": self.producer, "error": self.error}


def entry(mv: ModelVersion, path: Path) -> Entry:
    """What is known of the version in `path`, from its manifest or else from the filesystem."""
    error = ""
    try:
        manifest = checking.read_manifest(path)
    except RepositoryError as problem:
        manifest, error = None, str(problem)
    if manifest is not None:
        return Entry(mv, path, manifest.size, len(manifest.files), manifest.created, manifest.digest,
                     manifest.goldens, dict(manifest.producer))
    size = count = 0
    try:
        size, count = files.total(path)
    except OSError as problem:
        error = error or f"{path} can't be read: {files.reason(problem)}"
    return Entry(mv, path, size, count, _changed(path), None, 0, {}, error)


def _changed(path: Path) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    except (OSError, OverflowError, ValueError):  # refused, or a time that no calendar has
        return ""
    return moment.isoformat(timespec="seconds")
