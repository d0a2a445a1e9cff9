"""From a path or an address to its store. Each store is imported when it is asked for: what it needs may be missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deploy import extras
from deploy.addresses import Address, file_path
from deploy.errors import SpecError
from deploy.repository.stores.conditional import MemoryStore
from deploy.repository.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from deploy.repository.stores import Store

# scheme -> (the module, whose `open_address` makes the store; the extra that it needs)
_STORES = {
    "s3": ("objects", "s3"),
    "gs": ("gcs", "gcs"),
    "az": ("objects", "azure"),
    "ssh": ("sftp", "ssh"),
    "oci": ("oci", "oci"),
}
_memory: dict[str, MemoryStore] = {}


def open_store(place: str | Path | Address) -> Store:
    """The store at a path or an address; nothing is asked of it yet.

    Raises SpecError for an address that can't be one, BackendMissing where its extra isn't installed.
    """
    address = place if isinstance(place, Address) else Address.parse(place)
    if address is None:
        return DirectoryStore(Path(file_path(str(place))).absolute())
    if address.scheme == "memory":
        return _memory.setdefault(address.host, MemoryStore(address.host))
    name, extra = _STORES[address.scheme]
    try:
        opened = importlib.import_module(f"deploy.repository.stores.{name}").open_address
    except ModuleNotFoundError as e:
        if e.name == f"deploy.repository.stores.{name}":
            raise SpecError(f"{address}: this version knows no store at {address.scheme}://",
                            id="bad-address") from None
        extras.require(extra, f"the repository {address}")
        raise
    return cast("Store", opened(address))
