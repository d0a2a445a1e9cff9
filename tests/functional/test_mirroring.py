"""Versions that are fetched: whole, as published, or not at all. The store is in memory."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from deploy.cli.mirrors import _named, _wanted
from deploy.cli.outcome import run
from deploy.errors import DigestMismatch, Malformed, RepositoryError, VersionNotFound
from deploy.repository import Repository, mirror, pull
from deploy.repository import mirroring as module
from deploy.repository.manifest import hasher
from deploy.repository.naming import MANIFEST_FILE
from deploy.repository.stores.conditional import MemoryStore
from deploy.types import All, Latest, ModelVersion, Specific
from tests.support.killed import killed
from tests.support.repository import savedmodel

ONE = ModelVersion("m", 1)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    for number in range(3):
        Repository(store).publish(savedmodel(tmp_path / f"source{number}", weights=3_000_000 + number), "m")
    return store


@pytest.fixture
def target(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "mirror")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def test_a_version_arrives_as_published(store: MemoryStore, target: Repository) -> None:
    fetched = pull(Repository(store), target, ONE)
    assert fetched is not None and fetched.size > 3_000_000
    assert target.verify(ONE) == Repository(store).manifest(ONE)
    assert (target.path(ONE) / MANIFEST_FILE).read_bytes() == store.open(f"m/1/{MANIFEST_FILE}").read()
    assert pull(Repository(store), target, ONE) is None
    assert names(target.root / "m") == ["1"]


@pytest.mark.parametrize(("policy", "expected"), [(Latest(), [3]), (Latest(2), [2, 3]), (All(), [1, 2, 3]),
                                                  (Specific((1, 3)), [1, 3])])
def test_what_is_wanted_arrives(store: MemoryStore, target: Repository, policy: Any, expected: list[int]) -> None:
    done = mirror(Repository(store), target, {"m": policy})
    assert [one.mv.version for one in done.fetched] == expected == target.versions("m")
    again = mirror(Repository(store), target, {"m": policy}, verify=True)
    assert again.fetched == () and [mv.version for mv in again.present] == expected


def test_what_isnt_there(store: MemoryStore, target: Repository) -> None:
    with pytest.raises(VersionNotFound, match=r"no m/7 in memory:.*there: 1, 2, 3"):
        mirror(Repository(store), target, {"m": Specific((1, 7))})
    with pytest.raises(VersionNotFound, match=r"no version of 'n' in memory:"):
        mirror(Repository(store), target, {"n": Latest()})
    assert names(target.root) == []


def change(store: MemoryStore, name: str, edit: Callable[[bytes], bytes]) -> None:
    with store.open(name) as file:
        data = file.read()
    store.put(name, edit(data))


@pytest.mark.parametrize("edit", [lambda data: data[:-1] + b"!", lambda data: data + b"more" * 1_000_000,
                                  lambda data: data[:10], lambda _: b""], ids=["changed", "longer", "shorter", "empty"])
def test_bytes_that_were_changed_behind_our_back(store: MemoryStore, target: Repository, edit: Callable[[bytes], bytes]
                                                 ) -> None:
    change(store, "m/1/assets/weights.bin", edit)
    with pytest.raises(DigestMismatch, match=r"m/1: assets/weights.bin in memory:.*isn't what"):
        pull(Repository(store), target, ONE)
    assert target.versions("m") == [] and names(target.root / "m") == []


def test_a_version_that_goes_away_meanwhile(store: MemoryStore, target: Repository) -> None:
    store.delete("m/1/saved_model.pb")
    with pytest.raises(RepositoryError, match=r"m/1: saved_model.pb went away while it was fetched"):
        pull(Repository(store), target, ONE)
    assert target.versions("m") == []


def test_a_manifest_of_a_newer_format(store: MemoryStore, target: Repository) -> None:
    change(store, f"m/1/{MANIFEST_FILE}", lambda _: json.dumps({"format": 2}).encode())
    with pytest.raises(Malformed, match="expected a manifest of format 1, seen 2"):
        pull(Repository(store), target, ONE)


def test_a_version_of_another_tool(store: MemoryStore, target: Repository, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other")
    savedmodel(tmp_path / "other/m/1")
    with pytest.raises(RepositoryError, match="no manifest"):
        pull(other, target, ONE)


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "variables/../../../escaped", "a//b", "./a", "a\\b", ""])
def test_names_that_lead_out(store: MemoryStore, target: Repository, name: str, tmp_path: Path) -> None:
    def edit(data: bytes) -> bytes:
        manifest = json.loads(data)
        manifest["files"][name] = {"size": 1, "digest": hasher().hexdigest()}
        tree = hasher()
        for path, record in sorted(manifest["files"].items()):
            tree.update(f"{path}\0{record['size']}\0{record['digest']}\0".encode())
        return json.dumps({**manifest, "digest": f"blake3:{tree.hexdigest()}"}).encode()

    change(store, f"m/1/{MANIFEST_FILE}", edit)
    with pytest.raises(DigestMismatch, match="isn't a path below a version"):
        pull(Repository(store), target, ONE)
    assert not list(tmp_path.rglob("escaped"))


def test_another_version_under_that_number(store: MemoryStore, target: Repository, tmp_path: Path) -> None:
    target.store.make()
    target.publish(savedmodel(tmp_path / "mine", weights=5), "m")
    with pytest.raises(DigestMismatch, match=r"m/1 in .*mirror is another one, blake3:.*memory:.* has blake3:"):
        pull(Repository(store), target, ONE)


def test_damage_in_the_mirror_is_seen_when_asked_for(store: MemoryStore, target: Repository) -> None:
    pull(Repository(store), target, ONE)
    (target.path(ONE) / "saved_model.pb").write_bytes(b"damaged")
    assert pull(Repository(store), target, ONE) is None
    with pytest.raises(DigestMismatch, match="changed: saved_model.pb"):
        pull(Repository(store), target, ONE, verify=True)


def test_what_isnt_accepted_is_never_seen(store: MemoryStore, target: Repository) -> None:
    arrived: list[bool] = []

    def refuse(mv: ModelVersion, stage: Path) -> None:
        arrived.append((stage / "saved_model.pb").is_file())
        raise RepositoryError(f"{mv} isn't signed")

    with pytest.raises(RepositoryError, match="m/1 isn't signed"):
        pull(Repository(store), target, ONE, accept=refuse)
    assert arrived == [True] and names(target.root / "m") == []


def test_the_room_is_looked_at_before_the_first_byte(store: MemoryStore, target: Repository,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE", 1 << 60)
    monkeypatch.setattr(module, "_fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(RepositoryError, match=r"can't fetch m/1: no space left in .*needed, .* free"):
        pull(Repository(store), target, ONE)
    assert target.versions("m") == []


def test_a_disk_that_is_too_small(store: MemoryStore, small_disk: Path) -> None:
    target = Repository(small_disk / "mirror")
    with pytest.raises(RepositoryError, match=r"m/1: no space left in .*/mirror: 70.\d MB needed, 4.\d* MB free"):
        pull(Repository(store), target, ONE)
    assert target.versions("m") == [] == names(target.root / "m")


def test_a_disk_that_fills_while_a_version_is_fetched(store: MemoryStore, small_disk: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE", -4_000_000)  # somebody else takes the room after it was looked at
    (small_disk / "others").write_bytes(b"x" * 2_000_000)
    target = Repository(small_disk / "mirror")
    with pytest.raises(RepositoryError, match=r"can't fetch m/1: no space left in .*/mirror: 3.* MB needed") as caught:
        mirror(Repository(store), target, {"m": All()})
    assert caught.value.exit_code == 4 and target.versions("m") == [] == names(target.root / "m")
    (small_disk / "others").unlink()
    assert pull(Repository(store), target, ONE) is not None


class Slow(MemoryStore):
    """Reading waits until somebody lets it go on."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        self._objects = other._objects
        self.reading, self.go = threading.Event(), threading.Event()

    def open(self, name: str) -> BinaryIO:
        file = super().open(name)
        if not name.endswith("saved_model.pb"):
            return file
        store = self

        class Waiting(io.BytesIO):
            def readinto(self, buffer: Any) -> int:
                store.reading.set()
                store.go.wait(30)
                return super().readinto(buffer)

        return Waiting(file.read())


def test_nothing_is_seen_before_all_has_arrived(store: MemoryStore, target: Repository) -> None:
    slow = Slow(store)
    with ThreadPoolExecutor(1) as pool:
        pulling = pool.submit(pull, Repository(slow), target, ONE)
        assert slow.reading.wait(30)
        assert target.versions("m") == []
        slow.go.set()
        assert pulling.result(30) is not None
    assert target.versions("m") == [1]


def test_two_that_fetch_the_same(store: MemoryStore, target: Repository) -> None:
    barrier = threading.Barrier(4)

    def fetch(_: int) -> object:
        barrier.wait()
        try:
            return pull(Repository(store), Repository(target.root), ONE)
        except RepositoryError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(fetch, range(4)))
    assert target.verify(ONE)
    assert sum(isinstance(result, module.Fetched) for result in results) == 1
    assert all(result is None or "being published by" in str(result) for result in results
               if not isinstance(result, module.Fetched))


def test_killed_while_it_fetches(tmp_path: Path, store: MemoryStore, target: Repository) -> None:
    disk = Repository(tmp_path / "remote")
    disk.publish(tmp_path / "source0", "m")

    def die() -> None:
        module._check_room = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment]

    assert killed(die, lambda: pull(disk, target, ONE))
    assert target.versions("m") == []
    target.clean(older_than=0)
    assert names(target.root) in ([".tfs"], [".tfs", "m"]) and pull(disk, target, ONE) is not None


def test_progress_is_told_to_the_end(store: MemoryStore, target: Repository) -> None:
    seen: list[tuple[int, int]] = []
    steps: list[str] = []
    fetched = pull(Repository(store), target, ONE, step=steps.append, progress=lambda *now: seen.append(now))
    assert fetched is not None and seen[-1] == (fetched.size, fetched.size)
    assert steps == ["fetching m/1 from memory:, 3 MB"]


def test_between_two_stores(store: MemoryStore) -> None:
    other = Repository(MemoryStore("other"))
    assert pull(Repository(store), other, ONE) is not None
    assert other.verify(ONE) == Repository(store).manifest(ONE)


@pytest.mark.parametrize(("keep", "there"), [(None, [1, 2, 3]), (1, [2, 3]), (0, [3]), (5, [1, 2, 3])])
def test_old_copies_go(store: MemoryStore, target: Repository, keep: int | None, there: list[int]) -> None:
    mirror(Repository(store), target, {"m": All()})
    done = mirror(Repository(store), target, {"m": Latest()}, keep=keep)
    assert target.versions("m") == there == sorted({1, 2, 3} - {mv.version for mv in done.removed})
    assert names(target.root / "m") == list(map(str, there))
    again = mirror(Repository(store), target, {"m": Specific((1,))})
    assert [one.mv for one in again.fetched] == ([] if 1 in there else [ONE]), "it comes back when it is wanted"


def test_what_is_no_copy_stays(store: MemoryStore, target: Repository, tmp_path: Path) -> None:
    mirror(Repository(store), target, {"m": All()})
    store.delete(f"m/1/{MANIFEST_FILE}")  # removed there
    store.put(f"m/2/{MANIFEST_FILE}", b"damaged")
    savedmodel(target.root / "m/0004")  # of another tool
    assert mirror(Repository(store), target, {"m": Latest()}, keep=0).removed == ()
    assert target.versions("m") == [1, 2, 3, 4]


def test_nothing_goes_before_all_that_is_wanted_is_there(store: MemoryStore, target: Repository) -> None:
    pull(Repository(store), target, ONE)
    change(store, "m/3/saved_model.pb", lambda data: data + b"!")
    with pytest.raises(DigestMismatch):
        mirror(Repository(store), target, {"m": Latest()}, keep=0)
    assert target.versions("m") == [1]


@pytest.fixture
def remote(tmp_path: Path) -> Repository:
    """m: 1 to 3, in a directory."""
    remote = Repository(tmp_path / "remote")
    for number in range(3):
        remote.publish(savedmodel(tmp_path / f"source{number}", weights=100 + number), "m")
    return remote


def test_what_a_list_names(remote: Repository, target: Repository, tmp_path: Path) -> None:
    """The file is read again before each look: a release names a version there, and finds it here."""
    wanted = tmp_path / "wanted"
    wanted.write_text("# of the cluster\nm:1,3\n\n")
    command = ["mirror", "--from", str(tmp_path / "remote"), "--to", str(target.root), "--list", str(wanted)]
    assert run(command) == 0
    assert names(target.root / "m") == ["1", "3"]
    once = _named(tmp_path / "remote", target.root, _wanted((), wanted), (), None, False)
    wanted.write_text("m:all")
    assert [one.mv.version for one in once(None, None).fetched] == [2]


@pytest.mark.parametrize(("text", "message"), [
    (None, "can't read the list"), ("", "names no model"), ("m:1\nm:2", "line 2: m is named twice"),
    ("m:1\n\nm:x", "line 3: version 'x' is not valid"), ("m:latest=0", "line 1: m:latest=0: expected")])
def test_a_list_that_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None,
                                  message: str) -> None:
    wanted = tmp_path / "wanted"
    if text is not None:
        wanted.write_text(text)
    assert run(["mirror", "--from", str(tmp_path), "--to", str(tmp_path / "there"), "--list", str(wanted)]) == 2
    assert message in capsys.readouterr().err
