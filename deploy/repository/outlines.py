"""A version that is elsewhere, as a directory without its variables: for all that reads what it says of itself.

Files that say something are fetched; of the others there are holes of their size, which take no room. Nothing may be
run from such a directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from deploy import files
from deploy.errors import DigestMismatch, RepositoryError
from deploy.repository import manifest, naming
from deploy.repository.copying import FileDigest
from deploy.repository.failures import readable
from deploy.repository.stores import Item, Store

_SAYS = re.compile(r"(saved_model\.(pb|pbtxt|cpb)|fingerprint\.pb|keras_metadata\.pb|variables/variables\.index|"
                   r"assets(\.extra)?/.*|model\.tflite)", re.DOTALL)
_MOST = 4 << 30  # bytes of what is fetched
_FILES = 8  # at once
_PIECE = 1 << 20


def write_outline(store: Store, name: str, directory: Path) -> None:
    """Write the outline of the version that is kept under `name`. Raises RepositoryError, OSError."""
    items = [item for item in store.list(name, deep=True) if not item.prefix]
    fetched = {item.name: item for item in items if _SAYS.fullmatch(item.name.removeprefix(f"{name}/"))}
    if (size := sum(item.size for item in fetched.values())) > _MOST:
        raise RepositoryError(f"{store}/{name} says {readable(size)} of itself, more than {readable(_MOST)}",
                              hint="bring it here: tfs pull")
    for item in items:
        path = _below(directory, item.name.removeprefix(f"{name}/"), f"{store}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.truncate(0 if item.name in fetched else item.size)
    with ThreadPoolExecutor(_FILES, "tfs-outline") as pool:
        list(pool.map(lambda item: _fetch(store, item, name, directory), fetched.values()))
    _check(store, name, directory, [item.removeprefix(f"{name}/") for item in fetched])


def _check(store: Store, name: str, directory: Path, fetched: Iterable[str]) -> None:
    """Raises DigestMismatch for what was fetched and isn't what was published; Malformed for a damaged manifest."""
    path = naming.MANIFEST_FILE
    found = manifest.load(lambda: (directory / path).open("rb"), f"{store}/{name}/{path}")
    if found is None:
        return
    for file in sorted(found.files.keys() & set(fetched)):
        with (directory / file).open("rb") as source:
            digest = FileDigest(source.fileno(), found.algorithm)
            digest.advance(os.fstat(source.fileno()).st_size)
        if (seen := digest.hexdigest()) != found.files[file].digest:
            raise DigestMismatch(f"{name} in {store} isn't what its manifest says: {file}: "
                                 f"{found.files[file].digest[:16]} expected, {seen[:16]} seen",
                                 hint="it was changed or damaged there: publish it again under another number",
                                 details={"changed": [file]})


def _below(directory: Path, name: str, where: str) -> Path:
    if files.escapes(name) or not PurePosixPath(name).parts:
        raise RepositoryError(f"{where} holds {name!r}, which isn't a path below a version",
                              hint=f"look what writes there; {naming.MANIFEST_FILE} says what was published")
    return directory / name


def _fetch(store: Store, item: Item, version: str, directory: Path) -> None:
    """Raises RepositoryError if it isn't what was listed any more: nobody takes a part of a file for all of it."""
    left = item.size
    try:
        with store.open(item.name) as source, (directory / item.name.removeprefix(f"{version}/")).open("r+b") as file:
            while left >= 0 and (piece := source.read(min(_PIECE, left + 1))):
                file.write(piece)
                left -= len(piece)
    except FileNotFoundError as error:
        raise RepositoryError(f"{item.name} went away while {version} was read from {store}",
                              hint="the version was removed meanwhile: name another one") from error
    if left:
        raise RepositoryError(f"{item.name} changed while {version} was read from {store}: {item.size:,} bytes "
                              f"expected, {'more' if left < 0 else f'{item.size - left:,}'} seen",
                              hint="published versions never change: look what writes there")
