"""What every store promises, and what a repository on it promises. A later store is one more entry of STORES."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
import urllib3

from deploy.backends import shared_place
from deploy.backends.shared_place import Lock, StorePlace
from deploy.errors import DigestMismatch, LockHeld, Malformed, RepositoryError, VersionExists, VersionNotFound
from deploy.locks import Owner
from deploy.repository import Repository, Store
from deploy.repository.naming import MANIFEST_FILE
from deploy.repository.stores.addresses import open_store
from deploy.repository.stores.attachments import BUNDLE, STATEMENT, Attachment
from deploy.repository.stores.conditional import ConditionalPublisher, MemoryStore
from deploy.repository.stores.directory import DirectoryStore
from deploy.types import ModelVersion
from tests.support.killed import killed
from tests.support.peers.registry import docker_registry
from tests.support.peers.sshd import SshServer, sshd
from tests.support.peers.stores import KINDS, ObjectServices
from tests.support.repository import savedmodel
from tests.support.servers import until

ONE = ModelVersion("m", 1)


class Place(Protocol):
    """A store under test, and how a process that uses it dies. `open` may be called by many threads."""

    def open(self) -> Store:
        """The store as one more process sees it."""
        ...

    def killed_at(self, step: int, work: Callable[[Repository], object]) -> bool:
        """Work as a process that is killed before its step of this number; False if it ended before that."""
        ...


class InDirectory:
    """Its publishers are real processes, killed as soon as so many audited system calls are over."""

    def __init__(self, where: Path) -> None:
        self._root = where / "repository"
        self._root.mkdir()

    def open(self) -> Store:
        return DirectoryStore(self._root)

    def killed_at(self, step: int, work: Callable[[Repository], object]) -> bool:
        return killed(lambda: kill_before(step), lambda: work(Repository(self.open())))


EVENTS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock", "shutil.rmtree"}


def kill_before(step: int) -> None:
    import signal
    import sys

    left = [step]

    def audit(event: str, _: object) -> None:
        if event in EVENTS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


class Killed(BaseException):
    """The process is no more."""


class Mortal:
    """A store whose process dies after so many writes: nothing that it tries from then on is done."""

    only_whole = False

    def __init__(self, store: Store, steps: int) -> None:
        self._store, self._left = store, steps

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        if name not in ("put", "put_if_absent", "delete"):
            return call

        def counted(*args: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Killed
            return call(*args)

        return counted

    def publisher(self, algorithm: str) -> ConditionalPublisher:
        return ConditionalPublisher(self, algorithm)


class InMemory:
    """An object store as small as can be; its publishers die in thought."""

    def __init__(self, _: Path) -> None:
        self._store = MemoryStore()

    def open(self) -> Store:
        return self._store

    def killed_at(self, step: int, work: Callable[[Repository], object]) -> bool:
        try:
            work(Repository(Mortal(self.open(), step)))
        except Killed:
            return True
        return False


class InBucket(InMemory):
    """A prefix of its own in a real service's bucket. Every process has a client of its own."""

    def __init__(self, root: str) -> None:
        self._address = f"{root}/{uuid.uuid4().hex}"

    def open(self) -> Store:
        return open_store(self._address)


STORES: dict[str, Callable[[Path], Place]] = {"directory": InDirectory, "memory": InMemory}


class InRegistry:
    """A part of an OCI registry of its own. Its publishers die before one of their requests that change something."""

    def __init__(self, host: str) -> None:
        self._address = f"oci://{host}/{uuid.uuid4().hex}"

    def open(self) -> Store:
        return open_store(self._address)

    def killed_at(self, step: int, work: Callable[[Repository], object]) -> bool:
        left = [step]

        def request(http: object, method: str, url: str, **others: Any) -> Any:
            left[0] -= method not in ("GET", "HEAD")
            if left[0] < 0:
                raise Killed
            return _request(http, method, url, **others)

        _request = urllib3.PoolManager.request
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(urllib3.PoolManager, "request", request)
            try:
                work(Repository(self.open()))
            except Killed:
                return True
        return False


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if kind in STORES:
        yield STORES[kind](tmp_path)
        return
    if kind == "registry":
        yield InRegistry(request.getfixturevalue("registry"))
        return
    if kind == "ssh":
        server: SshServer = request.getfixturevalue("ssh_server")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(server.home))
            yield InBucket(server.address)
        return
    services: ObjectServices = request.getfixturevalue("services")
    with pytest.MonkeyPatch.context() as patch:
        yield InBucket(services.use(kind, patch).root)


OBJECTS = pytest.mark.parametrize("kind", [*STORES, *KINDS, "ssh"])
"""Of stores whose objects are written one by one; in a registry a version is one image."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever isn't of objects holds for all."""
    if "kind" in metafunc.fixturenames and not any(m.name == "parametrize" and m.args[0] == "kind"
                                                   for m in metafunc.definition.iter_markers()):
        metafunc.parametrize("kind", [*STORES, *KINDS, "ssh", "registry"])


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


@pytest.fixture
def repo(store: Store) -> Repository:
    return Repository(store)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return savedmodel(tmp_path / "source", weights=50_000)


# -- the store's own promises

@OBJECTS
def test_objects(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of a file")
    store.put("a/b/one", b"0123456789")
    store.put("a/b/two", tmp_path / "file")
    with store.open("a/b/one") as file:
        assert file.seek(3) == 3 and file.read(4) == b"3456" and file.read() == b"789"
    store.put("a/b/one", b"new")
    with store.open("a/b/one") as file:
        assert file.read() == b"new"
    with store.open("a/b/two") as file:
        assert file.read() == b"of a file"
    store.delete("a/b/one")
    store.delete("a/b/one")
    for name in ("a/b/one", "a/b/three", "nothing/at/all"):
        with pytest.raises(FileNotFoundError):
            store.open(name)


@OBJECTS
@pytest.mark.parametrize("name", ["m/1/assets/with blanks", "m/1/assets/Wörter.txt", "m/1/assets/a+b=c&d,e;f",
                                  "m/1/assets/100%", "m/1/assets/50%25", "m/1/assets/~x'(1)!*@$", "m/1/a#b?c"])
def test_names_of_files_are_kept(store: Store, name: str) -> None:
    store.put(name, b"x")
    assert [item.name for item in store.list("m/1", deep=True)] == [name]
    with store.open(name) as file:
        assert file.read() == b"x"
    store.delete(name)
    assert not list(store.list(deep=True))


@OBJECTS
def test_a_file_of_many_parts(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"".join(b"%08d" % number for number in range(3_000_000)))
    store.put("m/1/variables", path)
    with store.open("m/1/variables") as file:
        assert file.seek(-8, os.SEEK_END) == 24_000_000 - 8 and file.read() == b"02999999" and file.read() == b""
        assert file.seek(8 * 1_500_000) and file.read(8) == b"01500000"
        file.seek(0)
        assert file.read() == path.read_bytes()


@OBJECTS
def test_a_listing_has_one_level_or_all(store: Store) -> None:
    assert list(store.list()) == list(store.list("nothing", deep=True)) == []
    for name in ("a/2/x", "a/10/y/z", "a/file", "ab/1", "top"):
        store.put(name, name.encode())
    assert [item.name for item in store.list()] == ["a/", "ab/", "top"]
    assert [item.name for item in store.list("a")] == ["a/10/", "a/2/", "a/file"]
    assert sorted(item.name for item in store.list("a", deep=True)) == ["a/10/y/z", "a/2/x", "a/file"]
    assert [item.prefix for item in store.list("a")] == [True, True, False]
    assert {item.name: item.size for item in store.list("a/10", deep=True)} == {"a/10/y/z": 8}
    assert all(item.changed > 1.7e9 for item in store.list(deep=True))


@OBJECTS
def test_of_many_conditional_puts_one_wins(place: Place) -> None:
    barrier = threading.Barrier(8)

    def put(number: int) -> bool:
        store = place.open()
        barrier.wait()
        return store.put_if_absent("claims/7", b"%d" % number * 1000)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(8)))
    with place.open().open("claims/7") as file:
        assert won.count(True) == 1 and file.read() == b"%d" % won.index(True) * 1000
    assert [item.name for item in place.open().list("claims")] == ["claims/7"]


@OBJECTS
def test_a_local_path_leads_to_the_bytes_or_isnt_given(store: Store) -> None:
    store.put("m/1/x", b"bytes")
    path = store.local_path("m/1")
    assert path is None or (path / "x").read_bytes() == b"bytes"


def test_what_belongs_to_a_version_is_kept_beside_it(repo: Repository, source: Path) -> None:
    repo.publish(source, "m")
    signature, receipt = Attachment(BUNDLE, b'{"a": 1}'), Attachment(STATEMENT, b'{"b": 2}')
    for attachment in (signature, receipt, signature):
        repo.attach(ONE, attachment)
    assert {a.digest for a in repo.attachments(ONE)} == {signature.digest, receipt.digest}
    assert {a.media_type for a in repo.attachments(ONE)} == {BUNDLE, STATEMENT}
    assert repo.attachments(ModelVersion("m", 2)) == [] and repo.clean(0) == []
    assert repo.models() == ["m"] and repo.versions("m") == [1] and repo.next_version("m") == 2
    repo.verify(ONE)
    with pytest.raises(VersionNotFound):
        repo.attach(ModelVersion("m", 2), signature)
    repo.store.attachments().remove(ONE)
    assert repo.attachments(ONE) == []


# -- the repository's, on any store

def test_a_version_comes_and_stays(repo: Repository, source: Path) -> None:
    assert repo.models() == repo.versions("m") == repo.entries() == [] and repo.next_version("m") == 1
    published = repo.publish(source, "m")
    assert published.mv == ONE and repo.models() == ["m"] and repo.versions("m") == [1] and repo.next_version("m") == 2
    assert repo.manifest(ONE) == repo.verify(ONE) == published.manifest
    (entry,) = repo.entries()
    assert (entry.mv, entry.size, entry.digest, entry.error) == (
        ONE, published.manifest.size, published.manifest.digest, "")
    assert entry.path == published.where
    assert (repo.store.local_path("") is None) == (published.local is None)
    assert repo.clean(older_than=0) == []
    with pytest.raises(VersionNotFound, match=r"no m/2 .*versions 1"):
        repo.manifest(ModelVersion("m", 2))
    with pytest.raises(VersionExists, match=r"m/1 exists .*next free version is 2"):
        repo.publish(source, "m", 1)
    assert repo.verify(ONE) == published.manifest


def test_a_stage_claims_its_number(repo: Repository, source: Path) -> None:
    with repo.stage("m", 5) as stage:
        assert repo.next_version("m") == 6 and repo.versions("m") == []
        with pytest.raises(VersionExists, match="m/5 is being published by .*process"):
            repo.publish(source, "m", 5)
        assert repo.publish(source, "m").mv.version == 6
        stage.fill(source)
        assert stage.publish().mv.version == 5
    with repo.stage("m", 9):
        pass
    assert repo.versions("m") == [5, 6] and repo.publish(source, "m", 9).mv.version == 9


@OBJECTS
@pytest.mark.parametrize(("name", "number"), [("007", 8), ("9999999999999999999", 4), ("-2", 4)])
def test_the_next_number_is_beyond_those_that_a_server_reads(store: Store, source: Path, tmp_path: Path, name: str,
                                                             number: int) -> None:
    repository = Repository(store)
    repository.publish(source, "m", 3)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    store.put(f"m/{name}/saved_model.pb", file)
    assert repository.next_version("m") == number
    if name == "007":
        with pytest.raises(VersionExists):
            repository.publish(source, "m", 7)


def test_a_move_takes_the_source(repo: Repository, source: Path) -> None:
    published = repo.publish(source, "m", move=True)
    assert not source.exists() and repo.verify(ONE) == published.manifest


def test_what_is_removed_comes_back_or_is_deleted(repo: Repository, source: Path) -> None:
    manifest = repo.publish(source, "m").manifest
    repo.publish(source, "m")
    assert repo.removed() == {}
    repo.remove(ONE)
    assert repo.versions("m") == [2] and repo.next_version("m") == 3
    if not repo.removed():  # a registry keeps nothing
        with pytest.raises(VersionNotFound, match="nothing that could be brought back"):
            repo.restore(ONE)
        return
    assert list(repo.removed()) == [ONE] and repo.removed()[ONE] > 1.7e9
    with pytest.raises(VersionNotFound, match="no m/1"):
        repo.remove(ONE)
    assert repo.clean(older_than=0) == []
    repo.restore(ONE)
    assert repo.verify(ONE) == manifest and repo.removed() == {}
    repo.remove(ModelVersion("m", 2))
    repo.purge(ModelVersion("m", 2))
    assert repo.versions("m") == [1] and repo.removed() == {}
    assert not [item for item in repo.store.list("m", deep=True) if "/2/" in item.name or ".removed" in item.name]
    with pytest.raises(VersionNotFound, match="nothing that could be brought back"):
        repo.restore(ModelVersion("m", 2))
    assert repo.clean(older_than=0) == [] and repo.next_version("m") == 3, "a number isn't given twice"
    repo.remove(ONE)
    assert repo.models() == [] and repo.publish(source, "m").mv.version == 3


def test_eight_publishers_at_once_get_eight_numbers(place: Place, source: Path) -> None:
    barrier = threading.Barrier(8)

    def publish(_: int) -> int:
        repo = Repository(place.open())
        barrier.wait()
        return repo.publish(source, "m").mv.version

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(publish, range(8)))
    repo = Repository(place.open())
    assert len(set(numbers)) == 8 and repo.versions("m") == sorted(numbers)
    assert len({repo.verify(ModelVersion("m", number)).digest for number in numbers}) == 1


def test_a_reader_sees_whole_versions_only(place: Place, source: Path) -> None:
    reader, done = Repository(place.open()), threading.Event()

    def publish() -> None:
        try:
            for _ in range(15):
                Repository(place.open()).publish(source, "m")
        finally:
            done.set()

    publisher = threading.Thread(target=publish)
    publisher.start()
    verified: set[int] = set()
    while not done.is_set():
        for number in set(reader.versions("m")) - verified:
            assert reader.verify(ModelVersion("m", number)).size > 50_000
            verified.add(number)
    publisher.join()
    assert reader.versions("m") == list(range(1, 16))


def publish_killed(place: Place, source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The repository after a publisher of model m was killed: before its first step, its second, ..., to the last.

    What each left is cleaned away before the next.
    """
    step, repo = 0, Repository(place.open())
    while place.killed_at(step, lambda repo: repo.publish(source, "m")):
        yield repo
        monkeypatch.setattr("deploy.locks.Owner.alive", False)  # who died in thought seems to be alive
        repo.clean(older_than=0)
        monkeypatch.undo()
        step += 1
        assert step < 200
    assert step > 3


def test_a_killed_publisher_leaves_nothing_visible(place: Place, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Repository(place.open()).publish(source, "first").manifest.digest
    verified: set[int] = set()
    for repo in publish_killed(place, source, monkeypatch):
        for number in set(repo.versions("m")) - verified:
            assert repo.verify(ModelVersion("m", number)).digest == whole
            verified.add(number)
        assert not any(entry.error or entry.digest is None for entry in repo.entries())


def test_what_the_killed_left_is_cleaned_away(place: Place, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = Repository(place.open())
    for _ in publish_killed(place, source, monkeypatch):
        pass
    names = [item.name.split("/") for item in repo.store.list("m", deep=True)]
    assert {int(number) for _, number, *_ in names} == set(repo.versions("m"))
    assert not [item for item in repo.store.list("m") if not item.prefix]
    assert repo.publish(source, "m").mv.version == max(repo.versions("m"))


@OBJECTS
@pytest.mark.parametrize(("change", "message"), [
    (lambda data: data[:100], "isn't JSON"),
    (lambda _: b"[" * 100_000, "nested too deeply"),
    (lambda _: json.dumps({"format": 99}).encode(), "expected a manifest of format 1, seen 99"),
    (lambda data: data.replace(b"50000", b"50001"), "was changed"),
    (lambda _: b"", "isn't JSON"),
], ids=["torn", "nested", "format", "changed", "empty"])
def test_damaged_manifests(repo: Repository, source: Path, change: Callable[[bytes], bytes], message: str) -> None:
    repo.publish(source, "m")
    name = f"m/1/{MANIFEST_FILE}"
    with repo.store.open(name) as file:
        data = file.read()
    repo.store.put(name, change(data))
    for ask in (repo.manifest, repo.verify):
        with pytest.raises(Malformed, match=message) as e:
            ask(ONE)
        assert MANIFEST_FILE in e.value.message
    (entry,) = repo.entries()
    assert message in entry.error and entry.digest is None and entry.size > 50_000
    assert repo.publish(source, "m").mv.version == 2


@OBJECTS
def test_verify_names_every_difference(repo: Repository, source: Path) -> None:
    repo.publish(source, "m")
    repo.store.delete("m/1/saved_model.pb")
    repo.store.put("m/1/assets/weights.bin", b"x" * 50_000)
    repo.store.put("m/1/added", b"")
    with pytest.raises(DigestMismatch) as e:
        repo.verify(ONE)
    assert e.value.details == {"missing": ["saved_model.pb"], "extra": ["added"], "changed": ["assets/weights.bin"]}


def test_progress_of_verifying_ends_with_everything(repo: Repository, source: Path) -> None:
    total, told = repo.publish(source, "m").manifest.size, []
    repo.verify(ONE, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (total, total)


def test_what_isnt_here_has_no_path(repo: Repository, source: Path) -> None:
    published = repo.publish(source, "m")
    if repo.store.local_path("") is not None:
        assert published.path == repo.path(ONE) and (published.path / "saved_model.pb").is_file()
        return
    for ask in (lambda: published.path, lambda: repo.path(ONE), lambda: repo.root):
        with pytest.raises(RepositoryError, match=r"is in .*:.*, not on this machine"):
            ask()


# -- a lock of several servers' operators in it, see shared_place

def lock_of(place: Place, why: str) -> Lock:
    """As one more operator has it."""
    return StorePlace(place.open()).lock("fleet", why)


@OBJECTS
def test_of_operators_who_want_the_lock_at_once_one_gets_it(place: Place) -> None:
    def take(number: int) -> Lock | None:
        lock = lock_of(place, f"release {number}")
        try:
            lock.take()
        except LockHeld as e:
            assert "holds the lock of these servers in" in e.message
            return None
        return lock

    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            got = [lock for lock in pool.map(take, range(4)) if lock is not None]
            assert len(got) == 1 and got[0].renew()
            with pytest.raises(LockHeld, match=r", for a release \d"):
                lock_of(place, "rollback").take()
            got[0].let_go()
    following = lock_of(place, "rollback")
    following.take()
    assert following.renew() and not got[0].renew(), "who has let go, or was taken over from, knows"
    assert len([item for item in place.open().list() if item.name.startswith("fleet.lock.")]) == 1, "none is left over"


@OBJECTS
def test_the_lock_of_a_holder_that_was_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here: at once. On another machine, also one of this name: when it was silent for long by the store's clock."""
    gone, store = replace(Owner.here("release"), pid=2**22 - 1), place.open()
    store.make()
    store.put("fleet.lock.7", json.dumps(gone.to_json()).encode())
    heir = lock_of(place, "rollback")
    heir.take()
    heir.let_go()
    store.put("fleet.lock.9", json.dumps(replace(gone, machine="another machine").to_json()).encode())
    with pytest.raises(LockHeld, match="for a release"):
        heir.take()
    monkeypatch.setattr(shared_place, "STALE", 1.0)

    def taken() -> bool:
        with suppress(LockHeld):
            heir.take()
            return True
        return False

    until(taken, "it is silent for too long")
    assert heir.renew()
