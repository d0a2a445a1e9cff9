"""What was removed from a store of objects: hidden first, by its manifest, and deleted later.

    .tfs/<model>/<number>.removed   the manifest of a version that was removed, from then on; empty once it is deleted

A version without its manifest is seen by nobody, and its claim keeps its number.
"""

from __future__ import annotations

from deploy.errors import VersionExists
from deploy.naming import is_name
from deploy.repository import naming
from deploy.repository.stores import RemovedVersion, Store

_SUFFIX = ".removed"
_MOST = 64 << 20  # bytes of a manifest


def remove(store: Store, model: str, name: str) -> None:
    """Hide a version. Raises FileNotFoundError if there is none, OSError."""
    manifest = f"{model}/{name}/{naming.MANIFEST_FILE}"
    with store.open(manifest) as file:
        data = file.read(_MOST)
    store.put(_note(model, int(name)), data)
    store.delete(manifest)


def removed(store: Store) -> list[RemovedVersion]:
    """Those that can be brought back."""
    there = []
    for item in store.list(naming.STATE_DIRECTORY, deep=True):
        model, _, name = item.name.removeprefix(f"{naming.STATE_DIRECTORY}/").partition("/")
        number = name.removesuffix(_SUFFIX)
        if item.size and name.endswith(_SUFFIX) and number.isdigit() and is_name(model):
            there.append(RemovedVersion(model, int(number), item.changed))
    return there


def is_removed(store: Store, model: str, number: int) -> bool:
    """Whether there was such a version once: then its claim stays."""
    note = _note(model, number)
    return any(item.name == note for item in store.list(note.rpartition("/")[0]))


def restore(store: Store, version: RemovedVersion) -> None:
    """Show it again. Raises VersionExists, OSError."""
    note = _note(version.model, version.version)
    with store.open(note) as file:
        data = file.read(_MOST)
    if not store.put_if_absent(f"{version.model}/{version.version}/{naming.MANIFEST_FILE}", data):
        raise VersionExists(f"{version.model}/{version.version} exists in {store}",
                            hint="what was removed can't come back beside it")
    store.delete(note)


def purge(store: Store, version: RemovedVersion) -> None:
    """Delete its files; the empty note says that there was one."""
    for item in list(store.list(f"{version.model}/{version.version}", deep=True)):
        store.delete(item.name)
    store.put(_note(version.model, version.version), b"")


def _note(model: str, number: int) -> str:
    return f"{naming.STATE_DIRECTORY}/{model}/{number}{_SUFFIX}"
