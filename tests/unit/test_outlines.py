"""Outlines of versions that change, or go, while they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from deploy.errors import DigestMismatch, Malformed, RepositoryError
from deploy.repository import Repository
from deploy.repository.outlines import write_outline
from deploy.repository.stores import Item
from deploy.repository.stores.conditional import MemoryStore
from deploy.types import ModelVersion
from tests.support.repository import savedmodel

ONE = ModelVersion("m", 1)


class Restless(MemoryStore):
    """Somebody else writes to it just before the graph is read."""

    change: Callable[[Restless], None] | None = None

    def open(self, name: str) -> BinaryIO:
        if name.endswith("saved_model.pb") and self.change:
            change, self.change = self.change, None
            change(self)
        return super().open(name)


@pytest.fixture
def store(tmp_path: Path) -> Restless:
    store = Restless("restless")
    Repository(store).publish(savedmodel(tmp_path / "source"), "m")
    return store


def test_a_version_that_goes_meanwhile(store: Restless) -> None:
    store.change = lambda store: [store.delete(item.name) for item in list(store.list("m", deep=True))] and None
    with pytest.raises(RepositoryError, match=r"m/1/saved_model.pb went away while m/1 was read") as error:
        Repository(store).outline(ONE)
    assert "removed meanwhile" in error.value.hint


@pytest.mark.parametrize("data", [b"", b"x" * 100_000], ids=["shorter", "longer"])
def test_a_file_that_changes_meanwhile(store: Restless, data: bytes) -> None:
    repository, graph = Repository(store), store.open("m/1/saved_model.pb").read()
    store.change = lambda store: store.put("m/1/saved_model.pb", data)
    with pytest.raises(RepositoryError, match=r"m/1/saved_model.pb changed while m/1 was read"):
        repository.outline(ONE)
    store.put("m/1/saved_model.pb", graph)
    assert (repository.outline(ONE) / "saved_model.pb").read_bytes() == graph, "nothing half is kept"


def test_a_file_that_was_changed_since_it_was_published(store: Restless) -> None:
    store.put("m/1/saved_model.pb", b"graph")
    with pytest.raises(DigestMismatch, match=r"m/1 in memory:restless isn't what its manifest says: saved_model.pb: "
                                             r"[0-9a-f]{16} expected, [0-9a-f]{16} seen") as error:
        Repository(store).facts(ONE)
    assert error.value.details == {"changed": ["saved_model.pb"]}


def test_a_manifest_of_another_release_is_named_where_it_is(store: Restless) -> None:
    store.put("m/1/assets.extra/tfs_manifest.json", b'{"format": 2}')
    with pytest.raises(Malformed, match=r"^memory:restless/m/1/assets.extra/tfs_manifest.json: expected a manifest of "
                                        r"format 1, seen 2; ") as error:
        Repository(store).facts(ONE)
    assert error.value.hint == "it was written by a newer tfs-deploy: upgrade this one, or publish the version again"


def test_files_are_asked_about_once_each(tmp_path: Path) -> None:
    compared = [0]

    class Counted(Item):
        def __eq__(self, other: object) -> bool:
            compared[0] += 1
            return super().__eq__(other)

        __hash__ = Item.__hash__

    class Many(MemoryStore):
        def list(self, prefix: str = "", *, deep: bool = False):  # type: ignore[no-untyped-def]
            listed = super().list(prefix, deep=deep)
            return (Counted(item.name, item.size, item.changed) for item in listed)

    store = Many()
    for number in range(300):
        store.put(f"m/1/assets/{number}", b"x")
    write_outline(store, "m/1", tmp_path)
    assert compared[0] < 1000 and len(list((tmp_path / "assets").iterdir())) == 300
