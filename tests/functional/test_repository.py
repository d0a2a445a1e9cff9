"""Reading a repository, verifying, cleaning, and places that can't be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.errors import DigestMismatch, RepositoryError, SpecError, VersionNotFound
from deploy.repository import Repository, naming
from deploy.repository.stores import staging
from deploy.types import ModelVersion
from tests.support.repository import listing, savedmodel

ONE = ModelVersion("m", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return savedmodel(tmp_path / "source", weights=100_000)


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> Repository:
    repo = Repository(tmp_path / "repo")
    repo.publish(source, "m")
    return repo


def test_listing(repo: Repository, source: Path) -> None:
    shutil.copytree(source, repo.root / "other" / "007")
    (repo.root / "other" / "8").touch()
    (repo.root / "empty").mkdir()
    (repo.root / ".hidden" / "1").mkdir(parents=True)
    assert repo.models() == ["m", "other"]
    assert repo.versions("other") == [7]
    assert repo.versions("nobody") == []
    assert repo.latest("nobody") is None
    assert repo.path(ModelVersion("other", 7)) == repo.root / "other" / "007"
    foreign = repo.entries("other")[0]
    assert (foreign.digest, foreign.files, foreign.size > 100_000) == (None, 2, True)
    data = [entry.to_json() for entry in repo.entries()]
    assert json.loads(json.dumps(data)) == data
    assert [(d["model"], d["version"]) for d in data] == [("m", 1), ("other", 7)]
    assert data[0]["digest"] == repo.manifest(ONE).digest


def test_a_missing_version_says_which_there_are(repo: Repository) -> None:
    with pytest.raises(VersionNotFound, match=r"no m/9 .*versions 1"):
        repo.path(ModelVersion("m", 9))
    with pytest.raises(VersionNotFound, match="no version"):
        repo.verify(ModelVersion("nobody", 1))


def test_versions_of_others_have_no_manifest(repo: Repository, source: Path) -> None:
    shutil.copytree(source, repo.root / "m" / "2")
    assert repo.find_manifest(ModelVersion("m", 2)) is None
    with pytest.raises(RepositoryError, match=r"m/2 .* has no manifest"):
        repo.verify(ModelVersion("m", 2))
    assert repo.publish(source, "m").mv.version == 3


def test_verify_names_every_difference(repo: Repository) -> None:
    path = repo.path(ONE)
    (path / "extra").touch()
    with pytest.raises(DigestMismatch, match="extra: extra"):
        repo.verify(ONE)
    (path / "saved_model.pb").unlink()
    with (path / "assets" / "weights.bin").open("r+b") as file:
        file.seek(50_000)
        file.write(b"!")
    with pytest.raises(DigestMismatch) as caught:
        repo.verify(ONE)
    assert caught.value.details == {
        "missing": ["saved_model.pb"], "extra": ["extra"], "changed": ["assets/weights.bin"]}


def test_verify_sees_sizes_and_links(repo: Repository) -> None:
    path = repo.path(ONE)
    os.truncate(path / "assets" / "weights.bin", 10)
    with pytest.raises(DigestMismatch, match=r"changed: assets/weights\.bin"):
        repo.verify(ONE)
    (path / "assets" / "weights.bin").unlink()
    (path / "assets" / "weights.bin").symlink_to("/etc/passwd")
    with pytest.raises(RepositoryError, match="symbolic link out of"):
        repo.verify(ONE)


def test_a_version_under_another_name_is_noticed(repo: Repository) -> None:
    repo.path(ONE).rename(repo.root / "m" / "2")
    with pytest.raises(DigestMismatch, match="should be m/2, its manifest is of m/1"):
        repo.verify(ModelVersion("m", 2))


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d | {"format": 9}, "expected a manifest of format 1, seen 9"),
    (lambda d: {k: v for k, v in d.items() if k != "contract"}, "can't be read: KeyError: 'contract'"),
    (lambda d: d | {"algorithm": "md5"}, "'md5' is unknown"),
    (lambda d: d | {"files": {}}, "was changed"),
    (lambda d: d | {"version": 0}, "can't be read"),
    (lambda d: [d], "seen 'list'"),
])
def test_damaged_manifests(repo: Repository, change: object, message: str) -> None:
    path = repo.path(ONE) / naming.MANIFEST_FILE
    path.write_text(json.dumps(change(json.loads(path.read_text()))))  # type: ignore[operator]
    with pytest.raises(RepositoryError) as caught:
        repo.verify(ONE)
    assert message in str(caught.value)
    assert message in repo.entries("m")[0].error


def test_a_manifest_that_isnt_json(repo: Repository) -> None:
    (repo.path(ONE) / naming.MANIFEST_FILE).write_bytes(b"\xff{")
    with pytest.raises(RepositoryError, match=r"tfs_manifest.json isn't JSON"):
        repo.manifest(ONE)


def test_places_that_arent_repositories(tmp_path: Path, source: Path) -> None:
    missing, file = Repository(tmp_path / "no" / "where"), Repository(source / "saved_model.pb")
    for repo, message in ((missing, "doesn't exist"), (file, "is no directory")):
        for read in (repo.models, lambda r=repo: r.versions("m"), lambda r=repo: r.path(ONE), repo.entries, repo.clean):
            with pytest.raises(RepositoryError, match=message):
                read()
    with pytest.raises(RepositoryError, match="no/where: No such file or directory"):
        missing.publish(source, "m")
    with pytest.raises(RepositoryError, match="is no directory"):
        file.publish(source, "m")
    with pytest.raises(RepositoryError, match="algorithm 'md5' is unknown"):
        Repository(tmp_path, digest="md5")
    with pytest.raises(SpecError):
        missing.versions("../m")


def test_a_model_that_is_a_file(repo: Repository, source: Path) -> None:
    (repo.root / "n").touch()
    with pytest.raises(RepositoryError, match="n is no directory"):
        repo.publish(source, "n")
    assert repo.models() == ["m"]


def test_a_read_only_repository_can_be_read_only(repo: Repository, source: Path, small_disk: Path) -> None:
    shutil.copytree(repo.root, small_disk / "repo")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    fixed = Repository(small_disk / "repo")
    assert fixed.verify(ONE).model_version == ONE
    assert fixed.next_version("m") == 2
    for publish in (lambda: fixed.publish(source, "m"), lambda: Repository(small_disk / "new").publish(source, "m")):
        with pytest.raises(RepositoryError, match="Read-only file system; check the owner"):
            publish()


def test_a_full_disk_is_noticed_before_it_is_filled(source: Path, small_disk: Path) -> None:
    (source / "assets" / "weights.bin").write_bytes(b"x" * 8_000_000)
    repo = Repository(small_disk / "repo")
    with pytest.raises(RepositoryError, match=r"no space left in .*: 8 MB needed, 4.\d* MB free") as caught:
        repo.publish(source, "m", progress=lambda *_: pytest.fail("copied"))
    assert caught.value.details["needed_bytes"] > 8_000_000
    assert listing(small_disk / "repo") == [".tfs"]


def test_a_disk_that_fills_while_publishing(source: Path, small_disk: Path) -> None:
    shutil.copytree(source, small_disk / "source")
    (small_disk / "source" / "assets" / "weights.bin").write_bytes(b"x" * 2_500_000)
    repo = Repository(small_disk / "repo")
    with pytest.raises(RepositoryError, match=r"no space left in .*: 2.5 MB needed, 1.\d* MB free"):
        repo.publish(small_disk / "source", "m")
    assert listing(small_disk / "repo") == [".tfs"]
    assert repo.models() == []


def test_stages_of_living_publishers_stay(repo: Repository) -> None:
    with repo.stage("m") as stage:
        os.utime(stage.path, (0, 0))
        assert repo.clean(older_than=0) == []
        assert stage.path.is_dir()


def crashed(repo: Repository, **owner: object) -> Path:
    """What a publisher of model m leaves when it is killed, as `owner` tells it."""
    path = repo.root / "m" / ".stage-77-abc"
    (path / "version" / "assets").mkdir(parents=True)
    (path / "version" / "assets" / "half").touch()
    if owner:
        fields = {"by": "them", "host": "here", "pid": 77, "created": 1.5, "version": 9, **owner}
        (path / "owner.json").write_text(json.dumps(fields))
    return path


def test_a_dead_publishers_stage_goes_at_once(repo: Repository) -> None:
    left = crashed(repo, kernel=staging.kernel())
    assert repo.next_version("m") == 2  # its claim is void
    assert repo.clean() == [left]
    assert listing(repo.root / "m") == ["1"]


def test_the_next_publish_removes_it_too(repo: Repository, source: Path) -> None:
    crashed(repo, kernel=staging.kernel())
    repo.publish(source, "m")
    assert listing(repo.root / "m") == ["1", "2"]


@pytest.mark.parametrize("owner", [{"kernel": "elsewhere"}, {}, {"kernel": staging.kernel(), "pid": "?"}])
def test_other_stages_go_when_they_are_old(repo: Repository, source: Path, owner: dict[str, object]) -> None:
    left = crashed(repo, **owner)
    repo.publish(source, "m")
    assert repo.clean() == []
    for path in (left, *left.rglob("*")):
        os.utime(path, (0, 0))
    assert repo.clean() == [left]


def test_cleaning_removes_a_model_without_versions(repo: Repository) -> None:
    shutil.rmtree(repo.root / "m" / "1")
    crashed(repo, kernel=staging.kernel())
    repo.clean()
    assert not (repo.root / "m").exists()


def test_a_torn_memory_of_numbers_is_no_harm(repo: Repository, source: Path) -> None:
    (repo.root / ".tfs" / "m").write_bytes(b"\0\0x")
    assert repo.publish(source, "m").mv.version == 2
