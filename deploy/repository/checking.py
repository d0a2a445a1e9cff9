"""A version at rest against its manifest."""

from __future__ import annotations

import os
from pathlib import Path

from deploy import files
from deploy.errors import DigestMismatch, Malformed, RepositoryError
from deploy.repository import copying, naming
from deploy.repository.copying import Progress
from deploy.repository.manifest import Manifest
from deploy.repository.survey import Survey, survey
from deploy.types import ModelVersion

_MOST = 64 << 20  # bytes of a manifest: 100,000 files have 20 MB
NAMED = 5  # files named in a sentence; `details` has all of them


def read_manifest(version_directory: Path) -> Manifest | None:
    """The manifest in a version directory, None without one. Raises RepositoryError if it can't be understood."""
    path = version_directory / naming.MANIFEST_FILE
    try:
        text = files.read_bytes(path, _MOST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Malformed(f"{path} can't be read: {files.reason(error)}", hint="publish the version again") from error
    return Manifest.from_bytes(text, str(path))


def verify(directory: Path, mv: ModelVersion, manifest: Manifest, progress: Progress | None = None) -> None:
    """Compare names, sizes and digests of all files. Raises DigestMismatch, RepositoryError, OSError."""
    if manifest.model_version != mv:
        raise DigestMismatch(f"{directory} should be {mv}, its manifest is of {manifest.model_version}",
                             hint="versions are copied between repositories by publishing them")
    found = _found(directory)
    sizes = {file.name: file.size for file in found.files}
    wrong = {"missing": sorted(manifest.files.keys() - sizes.keys()),
             "extra": sorted(sizes.keys() - manifest.files.keys()),
             "changed": sorted(n for n, r in manifest.files.items() if n in sizes and sizes[n] != r.size)}
    skipped = {*wrong["extra"], *wrong["changed"]}
    found.files = [file for file in found.files if file.name not in skipped]
    seen = copying.digest_tree(found, manifest.algorithm, progress)
    wrong["changed"] = sorted([*wrong["changed"], *(n for n, r in seen.items() if r != manifest.files[n])])
    if any(wrong.values()):
        raise DigestMismatch(f"{mv} isn't what its manifest says: {_sentence(wrong)}", details=dict(wrong),
                             hint=f"publish it again under another number; it lies in {directory}")


def _found(directory: Path) -> Survey:
    try:
        return survey(directory)
    except RepositoryError:
        if any(os.scandir(directory)):
            raise
        return Survey(str(directory))


def _sentence(wrong: dict[str, list[str]]) -> str:
    parts = []
    for kind, names in wrong.items():
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            parts.append(f"{kind}: {', '.join(names[:NAMED])}{more}")
    return "; ".join(parts)
