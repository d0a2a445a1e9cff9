"""Names in a store of objects that one process gets: whoever puts one that wasn't there owns it, and the object says
who that is. Claims of versions' numbers and locks are made of it."""

from __future__ import annotations

import json
import secrets
from typing import Any

from deploy.locks import Owner
from deploy.repository.stores import Store

MOST = 4096  # bytes of such an object


def take(store: Store, name: str, why: str) -> bool:
    """Whether the name is this process's now: it was nobody's. Raises OSError."""
    data = owner_bytes(why)
    return store.put_if_absent(name, data) or read(store, name) == data  # it was written, and the answer got lost


def owner_bytes(why: str, **more: Any) -> bytes:
    """This process, and what makes this object another one than all its others."""
    return json.dumps({**Owner.here(why).to_json(), "claim": secrets.token_hex(8), **more}).encode()


def owner_of(store: Store, name: str) -> Owner | None:
    """None if there is none, it says `held: false`, or it can't be understood. Raises OSError."""
    try:
        data = json.loads(read(store, name))
        return Owner.from_json(data) if data.get("held", True) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def read(store: Store, name: str) -> bytes:
    """Nothing of an object that isn't there. Raises OSError."""
    try:
        with store.open(name) as file:
            return file.read(MOST)
    except FileNotFoundError:
        return b""
