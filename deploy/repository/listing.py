"""Which versions of a model a store has, asked as little as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deploy.naming import is_name
from deploy.repository import naming
from deploy.repository.stores import Item, Store
from deploy.wire.model_config import version_number

AT_ONCE = 8  # versions of a listing, where each is an answer or two of a service
_SHARE = 16  # at most, for one thread at a time

T = TypeVar("T")
R = TypeVar("R")


def model_names(store: Store) -> list[str]:
    """What could be models, sorted: whether they have a version isn't asked. Raises OSError."""
    return [name for item in store.list() if item.prefix and is_name(name := last(item))]


def numbered(store: Store, model: str, only: int | None = None) -> dict[int, str]:
    """Version -> how its number is spelled, ascending. Of several spellings the canonical one counts.

    only: look for this number alone. Raises OSError.
    """
    named = spelled(store, model, only)
    if not store.only_whole:
        shown = at_once(lambda one: _is_shown(store, f"{model}/{one[1]}"), named)
        named = [one for one, is_there in zip(named, shown, strict=True) if is_there]
    return canonical(named)


def spelled(store: Store, model: str, only: int | None = None) -> list[tuple[int, str]]:
    """Every number above 0 that the store names, and how, ascending. Whether a version is there isn't asked."""
    return sorted((number, last(item)) for item in store.list(model)
            if item.prefix and (number := version_number(last(item))) and number > 0 and only in (None, number))


def canonical(named: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Version -> the spelling that counts, ascending."""
    there: dict[int, str] = {}
    for number, spelling in named:
        if number not in there or spelling == str(number):
            there[number] = spelling
    return dict(sorted(there.items()))


def at_once(ask: Callable[[T], R], named: Iterable[T]) -> list[R]:
    """Ask a service for each of them, several at once; the answers in their order.

    A thread gets several of many at a time: handing over one costs about as much as a small answer.
    """
    every = list(named)
    share = max(1, min(_SHARE, len(every) // (4 * AT_ONCE)))
    with ThreadPoolExecutor(AT_ONCE, "tfs-list") as pool:
        shares = pool.map(lambda start: [ask(one) for one in every[start:start + share]], range(0, len(every), share))
        return [answer for answers in shares for answer in answers]


def last(item: Item) -> str:
    """The last part of its name."""
    return item.name.rstrip("/").rpartition("/")[2]


def _is_shown(store: Store, version: str) -> bool:
    """Whether the manifest is there, which comes last."""
    manifest = f"{version}/{naming.MANIFEST_FILE}"
    return any(item.name == manifest for item in store.list(manifest.rpartition("/")[0]))
