"""Which versions of a model a store has, asked as little as can be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from deploy.repository import naming
from deploy.repository.stores import Item, Store
from deploy.wire.model_config import version_number

AT_ONCE = 8  # versions of a listing, where each is an answer or two of a service


def numbered(store: Store, model: str, only: int | None = None) -> dict[int, str]:
    """Version -> how its number is spelled, ascending. Of several spellings the canonical one counts.

    only: look for this number alone. Raises OSError.
    """
    named = [(number, item) for item in store.list(model)
             if item.prefix and (number := version_number(last(item))) and number > 0 and only in (None, number)]
    there: dict[int, str] = {}
    for number, item in _whole(store, named):
        if number not in there or last(item) == str(number):
            there[number] = last(item)
    return dict(sorted(there.items()))


def last(item: Item) -> str:
    """The last part of its name."""
    return item.name.rstrip("/").rpartition("/")[2]


def _whole(store: Store, named: list[tuple[int, Item]]) -> list[tuple[int, Item]]:
    """Those of the versions that are there: all, where they come whole; else those whose manifest is there."""
    if store.only_whole:
        return named
    with ThreadPoolExecutor(AT_ONCE, "tfs-list") as pool:
        shown = pool.map(lambda one: _is_shown(store, one[1]), named)
        return [one for one, is_there in zip(named, shown, strict=True) if is_there]


def _is_shown(store: Store, version: Item) -> bool:
    """Whether the manifest is there, which comes last."""
    manifest = version.name + naming.MANIFEST_FILE
    return any(item.name == manifest for item in store.list(manifest.rpartition("/")[0]))
