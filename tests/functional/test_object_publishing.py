"""Publishing into a store of objects that fails on the way: what has arrived is used by the next who sends the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from deploy.errors import RepositoryError, VersionExists
from deploy.repository import Repository
from deploy.repository.failures import Refused
from deploy.repository.naming import MANIFEST_FILE
from deploy.repository.stores import Item
from deploy.repository.stores.addresses import open_store
from deploy.repository.stores.conditional import MemoryStore
from deploy.types import ModelVersion
from deploy.waiting import Deadline, poll
from tests.support.peers.stores import ObjectServices
from tests.support.repository import savedmodel


class Failing(MemoryStore):
    """Counts what is sent, and refuses it from the n-th file on, as a service that is down."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sent, self._count = most, list[str](), threading.Lock()

    def put(self, name: str, data: bytes | Path) -> None:
        if isinstance(data, Path):
            with self._count:
                if len(self.sent) >= self.most:
                    raise Refused("memory: is down", "repeat the command")
                self.sent.append(name)
        super().put(name, data)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A SavedModel of 42 files."""
    source = savedmodel(tmp_path / "source", weights=10)
    for number in range(40):
        (source / "assets" / f"{number:02}").write_bytes(bytes([number]) * (1000 + number))
    return source


def test_what_arrived_is_used_by_the_next(source: Path) -> None:
    store = Failing(most=20)
    with pytest.raises(RepositoryError, match="can't publish m: memory: is down; repeat the command"):
        Repository(store).publish(source, "m")
    assert Repository(store).models() == [] and len(store.sent) == 20
    store.most = 1000
    assert Repository(store).publish(source, "m").mv == ModelVersion("m", 1)
    assert len(store.sent) == len(set(store.sent)) == 42, "nothing was sent twice"
    assert Repository(store).verify(ModelVersion("m", 1)) and Repository(store).clean(older_than=0) == []
    assert not [item.name for item in store.list(".tfs", deep=True) if "plan" in item.name]


class Counting(MemoryStore):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.lists, self.gets = 0, 0

    def list(self, prefix: str = "", *, deep: bool = False) -> Iterator[Item]:
        self.lists += 1
        return super().list(prefix, deep=deep)

    def open(self, name: str) -> BinaryIO:
        self.gets += 1
        return super().open(name)


def test_a_listing_asks_once_for_each_version(source: Path) -> None:
    store = Counting()
    repo = Repository(store)
    for _ in range(3):
        repo.publish(source, "m")
    for name in ("m/007/", "m/7/", "m/8/"):  # the canonical spelling counts; 8 isn't there: its manifest is missing
        store.put(f"{name}saved_model.pb", b"")
        if "8" not in name:
            store.put(f"{name}{MANIFEST_FILE}", b"damaged")
    store.put("other/1/saved_model.pb", b"")
    store.lists = store.gets = 0
    entries = repo.entries()
    assert [(one.mv.version, one.path.rpartition("/")[2]) for one in entries] == [
        (1, "1"), (2, "2"), (3, "3"), (7, "7")]
    assert all(one.digest for one in entries[:3]) and "JSON" in entries[3].error
    assert (store.lists, store.gets) == (5, 7), "models, versions of each, sizes of the damaged; each manifest once"
    assert repo.entries("m") == entries and repo.entries("other") == [] and repo.versions("m") == [1, 2, 3, 7]


def test_another_content_gets_another_number(source: Path, tmp_path: Path) -> None:
    store = Failing(most=20)
    with pytest.raises(RepositoryError):
        Repository(store).publish(source, "m")
    store.most = 1000
    other = savedmodel(tmp_path / "other", weights=5)
    assert Repository(store).publish(other, "m").mv.version == 2
    assert Repository(store).clean(older_than=0) and Repository(store).versions("m") == [2]
    assert {item.name.split("/")[1] for item in store.list("m", deep=True)} == {"2"}


def test_a_number_that_was_asked_for_is_taken_over(source: Path, tmp_path: Path) -> None:
    store = Failing(most=20)
    with pytest.raises(RepositoryError):
        Repository(store).publish(source, "m", 7)
    store.most = 1000
    other = savedmodel(tmp_path / "other", weights=5)
    assert Repository(store).publish(other, "m", 7).mv.version == 7
    assert Repository(store).verify(ModelVersion("m", 7)).size < 10_000


def test_of_many_heirs_one_gets_the_number(source: Path) -> None:
    store = Failing(most=20)
    with pytest.raises(RepositoryError):
        Repository(store).publish(source, "m")
    store.most = 10_000
    barrier = threading.Barrier(6)

    def publish(_: int) -> int:
        barrier.wait()
        return Repository(store).publish(source, "m").mv.version

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(publish, range(6)))
    assert sorted(set(versions)) == sorted(versions) and 1 in versions
    for number in versions:
        assert Repository(store).verify(ModelVersion("m", number))


def test_a_living_publisher_is_left_alone(source: Path) -> None:
    store = MemoryStore()
    with Repository(store).stage("m", 3) as stage:
        with pytest.raises(VersionExists, match="is being published by"):
            Repository(store).publish(source, "m", 3)
        assert Repository(store).publish(source, "m").mv.version == 4
        stage.fill(source)
        assert stage.publish().mv.version == 3


class Lossy(MemoryStore):
    """Its answers to conditional puts get lost, and whoever tries again is told that it is there."""

    def put_if_absent(self, name: str, data: bytes) -> bool:
        super().put_if_absent(name, data)
        return False


def test_an_answer_that_got_lost(source: Path) -> None:
    store = Lossy()
    assert Repository(store).publish(source, "m").mv.version == 1
    assert Repository(store).verify(ModelVersion("m", 1))


def test_progress_goes_to_the_end(source: Path) -> None:
    seen: list[tuple[int, int]] = []
    published = Repository(MemoryStore()).publish(source, "m", progress=lambda *now: seen.append(now))
    assert seen[-1] == (published.manifest.size, published.manifest.size)


class Meanwhile(MemoryStore):
    """Calls `change` when the first file has arrived."""

    def __init__(self, change: Callable[[], object]) -> None:
        super().__init__()
        self._change, self._once = change, threading.Lock()

    def put(self, name: str, data: bytes | Path) -> None:
        super().put(name, data)
        if isinstance(data, Path) and self._once.acquire(blocking=False):
            self._change()


@pytest.mark.parametrize("days", [0, 9])
def test_a_source_that_changes_while_it_is_sent_is_refused(source: Path, days: int) -> None:
    """Also where its times are put back, as tools do that copy."""
    file = source / "assets" / "00"  # the smallest, which is sent last
    old, then = file.read_bytes(), time.time() - days * 86400
    os.utime(file, (then, then))

    def change() -> None:
        file.write_bytes(bytes(len(old)).replace(b"\0", b"x"))
        os.utime(file, (then, then))

    store = Meanwhile(change)
    with pytest.raises(RepositoryError, match="assets/00 changed while it was being published"):
        Repository(store).publish(source, "m")
    assert Repository(store).models() == []
    file.write_bytes(old)
    assert Repository(store).publish(source, "m").mv.version == 1
    assert Repository(store).verify(ModelVersion("m", 1)), "the changed file isn't taken for the old one"


def test_a_source_that_was_only_touched_is_the_same(source: Path) -> None:
    store = Meanwhile((source / "assets" / "00").touch)
    Repository(store).publish(source, "m")
    assert Repository(store).verify(ModelVersion("m", 1))


def test_no_copy_is_made_on_this_machine(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    source = savedmodel(tmp_path / "big")
    (source / "assets" / "big").write_bytes(bytes(8_000_000))
    assert Repository(MemoryStore()).publish(source, "m").manifest.size > 8_000_000


KILLED = """
import sys, time
from deploy.repository import Repository
from deploy.repository.stores import objects
put = objects.ObjectStore.put
def slow(self, name, data):
    put(self, name, data)
    time.sleep(0.05 if not isinstance(data, bytes) else 0)
objects.ObjectStore.put = slow
Repository(sys.argv[1]).publish(sys.argv[2], "m")
"""


def test_kill_9_in_the_middle(services: ObjectServices, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{services.use('s3-moto', monkeypatch).root}/{uuid.uuid4().hex}"
    store = open_store(address)
    process = subprocess.Popen([sys.executable, "-c", KILLED, address, str(source)])
    assert poll(lambda: len(list(store.list("m/1", deep=True))) >= 10 or None, Deadline(60))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    arrived = {item.name: item.changed for item in store.list("m/1", deep=True)}
    assert 10 <= len(arrived) < 42 and Repository(address).models() == []
    assert Repository(address).publish(source, "m").mv.version == 1
    assert Repository(address).verify(ModelVersion("m", 1))
    after = {item.name: item.changed for item in store.list("m/1", deep=True)}
    assert len(after) == 43 and f"m/1/{MANIFEST_FILE}" in after
    assert all(after[name] == changed for name, changed in arrived.items()), "nothing was sent twice"
