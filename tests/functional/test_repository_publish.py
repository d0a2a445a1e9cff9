"""Publishing: numbers, what becomes visible, what is refused. Real directories, no server."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from deploy import __version__, repository
from deploy.errors import IncompleteVersion, RepositoryError, SpecError, VersionExists
from deploy.repository import Repository, copying
from deploy.repository.survey import survey
from deploy.types import ModelVersion
from tests.support.repository import listing, savedmodel


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return savedmodel(tmp_path / "source", weights=3_000_000)


def test_a_version_is_a_canonical_directory_and_nothing_else_is_left(repo: Repository, source: Path) -> None:
    published = repo.publish(source, "m", producer={"tfs_deploy": "0.1.0"}, tolerances={"default": {"absolute": 1e-6}})
    assert published.mv == ModelVersion("m", 1)
    assert published.path == repo.root / "m" / "1"
    assert listing(repo.root / "m") == ["1"]
    assert listing(published.path) == ["assets", "assets.extra", "saved_model.pb"]
    for name in ("saved_model.pb", "assets/weights.bin"):
        assert (published.path / name).read_bytes() == (source / name).read_bytes()
    assert repo.verify(published.mv) == published.manifest == repo.manifest(published.mv)


def test_the_source_stays_as_it_was(repo: Repository, source: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in source.rglob("*")}
    repo.publish(source, "m")
    assert before == {p: p.stat().st_mtime_ns for p in source.rglob("*")}


def test_numbers_go_up_by_one(repo: Repository, source: Path) -> None:
    assert repo.publish(source, "m").mv.version == 1
    assert repo.publish(source, "m", 7).mv.version == 7
    assert repo.publish(source, "m").mv.version == 8
    assert repo.publish(source, "m", 3).mv.version == 3
    assert repo.versions("m") == [1, 3, 7, 8]
    assert (repo.latest("m"), repo.next_version("m")) == (8, 9)


def test_a_number_isnt_given_again_after_its_version_was_removed(repo: Repository, source: Path) -> None:
    repo.publish(source, "m", 4)
    shutil.rmtree(repo.root / "m")
    assert repo.next_version("m") == 5
    assert repo.publish(source, "m").mv.version == 5


@pytest.mark.parametrize("spelling", ["7", "007", "+7", " 7", "7 "])
@pytest.mark.parametrize("kind", ["directory", "empty directory", "file"])
def test_what_the_server_reads_as_7_is_7(repo: Repository, source: Path, spelling: str, kind: str) -> None:
    path = repo.root / "m" / spelling
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.touch()
    else:
        path.mkdir()
    if kind == "directory":
        (path / "saved_model.pb").touch()
    with pytest.raises(VersionExists, match=r"m/7 exists.* the next free version is 8"):
        repo.publish(source, "m", 7)
    assert repo.publish(source, "m").mv.version == 8
    assert listing(repo.root / "m") == sorted([spelling, "8"])


@pytest.mark.parametrize("name", ["-3", "v9", ".tmp-9", "1e3", "9.0", "٣", "", "9" * 30])
def test_names_that_the_server_ignores_dont_count(repo: Repository, source: Path, name: str) -> None:
    (repo.root / "m" / name).mkdir(parents=True)
    assert repo.publish(source, "m").mv.version == 1


def test_an_existing_version_is_refused_before_anything_is_copied(repo: Repository, source: Path) -> None:
    first = repo.publish(source, "m", 2)
    (source / "assets" / "weights.bin").write_bytes(b"other")
    with pytest.raises(VersionExists) as caught:
        repo.publish(source, "m", 2, progress=lambda *_: pytest.fail("copied"))
    assert "m/2 exists" in str(caught.value)
    assert "next free version is 3" in str(caught.value)
    assert caught.value.exit_code == 4
    assert repo.verify(first.mv) == first.manifest


@pytest.mark.parametrize("version", [0, -1, "seven", "007", 1.5, True, 2**63])
def test_versions_that_arent(repo: Repository, source: Path, version: object) -> None:
    with pytest.raises(SpecError, match="is not valid"):
        repo.publish(source, "m", version)  # type: ignore[arg-type]
    assert not repo.root.exists()


@pytest.mark.parametrize("name", ["a/b", "..", ".m", "m m", "", "a\n"])
def test_names_that_arent(repo: Repository, source: Path, name: str) -> None:
    with pytest.raises(SpecError, match="model name"):
        repo.publish(source, name)
    assert not repo.root.exists()


def test_the_last_number(repo: Repository, source: Path) -> None:
    repo.publish(source, "m", 2**63 - 1)
    with pytest.raises(RepositoryError, match="no number left"):
        repo.publish(source, "m")


def test_modes_dont_depend_on_umask_or_source(repo: Repository, source: Path) -> None:
    (source / "saved_model.pb").chmod(0o600)
    (source / "assets").chmod(0o700)
    old = os.umask(0o077)
    try:
        copied = repo.publish(source, "m").path
        with repo.stage("m") as stage:
            shutil.copytree(source, stage.path, dirs_exist_ok=True)
            staged = stage.publish().path
    finally:
        os.umask(old)
    for path in (repo.root, repo.root / "m", copied, *copied.rglob("*"), staged, *staged.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("make", ["missing", "empty", "file", "no saved_model.pb", "truncated", "no variables"])
def test_what_isnt_a_whole_savedmodel_leaves_no_trace(repo: Repository, tmp_path: Path, make: str) -> None:
    source = tmp_path / "broken"
    if make == "empty":
        source.mkdir()
    elif make == "file":
        source.touch()
    elif make != "missing":
        savedmodel(source, weights=1000, variable=make == "no variables")
        if make == "no saved_model.pb":
            (source / "saved_model.pb").unlink()
        if make == "truncated":
            os.truncate(source / "saved_model.pb", 40)
    with pytest.raises(IncompleteVersion) as caught:
        repo.publish(source, "m")
    assert str(source) in str(caught.value)
    assert not (repo.root / "m").exists()


def test_links_inside_are_followed(repo: Repository, source: Path) -> None:
    (source / "assets" / "again.bin").symlink_to("weights.bin")
    (source / "more").symlink_to("assets", target_is_directory=True)
    path = repo.publish(source, "m").path
    assert not any(p.is_symlink() for p in path.rglob("*"))
    assert (path / "more" / "again.bin").read_bytes() == (source / "assets" / "weights.bin").read_bytes()


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "..", "nothing", "."])
def test_other_links_are_refused(repo: Repository, source: Path, target: str) -> None:
    (source.parent / "outside").write_text("secret")
    (source / "link").symlink_to(target)
    with pytest.raises(RepositoryError, match="symbolic link"):
        repo.publish(source, "m")
    assert not (repo.root / "m").exists()


def test_special_files_are_refused(repo: Repository, source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(RepositoryError, match="pipe is neither a file nor a directory"):
        repo.publish(source, "m")


def test_names_that_arent_utf8_are_refused(repo: Repository, source: Path) -> None:
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).touch()
    with pytest.raises(RepositoryError, match="isn't UTF-8"):
        repo.publish(source, "m")


def test_a_source_that_changes_meanwhile_is_refused(repo: Repository, source: Path, monkeypatch: pytest.MonkeyPatch
                                                    ) -> None:
    monkeypatch.setattr(copying, "PIECE", 1 << 16)
    grown = []

    def grow(done: int, _: int) -> None:
        if not grown:
            grown.append(done)
            (source / "assets" / "weights.bin").write_bytes(b"x" * 4_000_000)

    (source / "aaa").write_bytes(b"x" * (copying.PIECE * (copying.PIECES + 2)))
    with pytest.raises(RepositoryError, match="changed while it was being published"):
        repo.publish(source, "m", progress=grow)
    assert grown
    assert not (repo.root / "m").exists()


def test_how_lately_a_file_was_touched_is_judged_when_it_is_surveyed(source: Path, monkeypatch: pytest.MonkeyPatch
                                                                     ) -> None:
    """Sending it may take longer than its times need to tell of each change."""
    lately, now = survey(source).files, time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 120 * 10**9)
    assert all(file.fresh for file in lately) and not any(file.fresh for file in survey(source).files)


def test_without_copying_in_the_kernel(repo: Repository, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    published = repo.publish(source, "m")
    assert repo.verify(published.mv) == published.manifest


def test_progress_ends_with_everything(repo: Repository, source: Path) -> None:
    calls: list[tuple[int, int]] = []
    published = repo.publish(source, "m", progress=lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert calls[-1] == (published.manifest.size, published.manifest.size)


def test_ctrl_c_in_the_middle_leaves_nothing(repo: Repository, source: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repo.publish(source, "m", progress=interrupt)
    assert not (repo.root / "m").exists()


def test_an_error_while_pieces_wait_to_be_hashed_ends_everything(source: Path) -> None:
    gate = threading.Event()
    with pytest.raises(ZeroDivisionError), copying.Pipeline("blake3", 2, None) as pipeline:
        fd = os.open(source / "saved_model.pb", os.O_RDONLY)
        digest = pipeline.begin(fd)
        pipeline.advance(mock.Mock(advance=lambda end: gate.wait()), 0, 1)
        pipeline.advance(digest, 0, 1)
        pipeline.finish(fd)
        threading.Timer(0.05, gate.set).start()
        raise ZeroDivisionError
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_many_small_files(repo: Repository, source: Path) -> None:
    for number in range(300):
        (source / "assets" / f"{number}.txt").write_text(str(number))
    (source / "assets" / "none").touch()
    (source / "assets" / "nothing").mkdir()
    published = repo.publish(source, "m")
    assert len(published.manifest.files) == 303
    assert (published.path / "assets" / "nothing").is_dir()
    repo.verify(published.mv)


def test_moving_takes_the_directory_itself(repo: Repository, source: Path) -> None:
    inode = (source / "saved_model.pb").stat().st_ino
    published = repo.publish(source, "m", move=True)
    assert not source.exists()
    assert (published.path / "saved_model.pb").stat().st_ino == inode
    repo.verify(published.mv)
    assert listing(repo.root / "m") == ["1"]


def test_a_move_that_fails_leaves_the_source(repo: Repository, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.publish(source, "m", 1)
    before = listing(source)
    with pytest.raises(VersionExists):
        repo.publish(source, "m", 1, move=True)
    assert listing(source) == before


def test_moving_with_links_inside_copies(repo: Repository, source: Path) -> None:
    (source / "link").symlink_to("saved_model.pb")
    published = repo.publish(source, "m", move=True)
    assert not source.exists()
    assert not (published.path / "link").is_symlink()


def test_a_version_isnt_moved_out_of_the_repository(repo: Repository, source: Path) -> None:
    first = repo.publish(source, "m", producer={"keras": "3.11"}, tolerances={"default": {"absolute": 0.5}})
    with pytest.raises(RepositoryError, match="in the repository already"):
        repo.publish(first.path, "other", move=True)
    again = repo.publish(first.path, "other")
    assert again.manifest.digest == first.manifest.digest
    assert again.manifest.producer == first.manifest.producer
    assert again.manifest.tolerances == {"default": {"absolute": 0.5}}
    assert repo.verify(again.mv).model_version == ModelVersion("other", 1)
    assert repo.verify(first.mv) == first.manifest


def test_a_hard_linked_manifest_isnt_written_through(repo: Repository, source: Path, tmp_path: Path) -> None:
    first = repo.publish(source, "m")
    shutil.copytree(first.path, tmp_path / "linked", copy_function=os.link)
    repo.publish(tmp_path / "linked", "m", move=True)
    assert repo.verify(first.mv) == first.manifest


def test_a_stage_is_written_into_and_shown(repo: Repository, source: Path) -> None:
    with repo.stage("m") as stage:
        shutil.copytree(source, stage.path, dirs_exist_ok=True)
        assert repo.models() == []
        assert not any(name.isdigit() for name in listing(repo.root / "m"))
        inode = (stage.path / "saved_model.pb").stat().st_ino
        published = stage.publish(producer={"tensorflow": "2.22.0"})
    assert (published.path / "saved_model.pb").stat().st_ino == inode
    assert listing(repo.root / "m") == ["1"]
    assert repo.verify(published.mv).producer["tensorflow"] == "2.22.0"


def test_a_stage_left_unpublished_is_removed(repo: Repository) -> None:
    with repo.stage("m") as stage:
        (stage.path / "half").touch()
    assert not (repo.root / "m").exists()
    with pytest.raises(IncompleteVersion), repo.stage("m") as stage:
        stage.publish()
    assert not (repo.root / "m").exists()


def test_a_stage_with_links_isnt_shown(repo: Repository, source: Path) -> None:
    with repo.stage("m") as stage:
        shutil.copytree(source, stage.path, dirs_exist_ok=True)
        (stage.path / "link").symlink_to("saved_model.pb")
        with pytest.raises(RepositoryError, match="symbolic links"):
            stage.publish()


def test_a_claimed_number_is_taken(repo: Repository, source: Path) -> None:
    with repo.stage("m", 5):
        assert repo.next_version("m") == 6
        with pytest.raises(VersionExists, match=rf"m/5 is being published by .*process {os.getpid()}\).* version is 6"):
            repo.publish(source, "m", 5)
        assert repo.publish(source, "m").mv.version == 6
    assert repo.publish(source, "m", 5).mv.version == 5


def test_two_stages_at_once(repo: Repository, source: Path) -> None:
    with repo.stage("m") as one, repo.stage("m") as two:
        for stage in (one, two):
            shutil.copytree(source, stage.path, dirs_exist_ok=True)
        assert [two.publish().mv.version, one.publish().mv.version] == [1, 2]
    assert listing(repo.root / "m") == ["1", "2"]


def test_a_foreign_directory_that_appears_at_the_last_moment(repo: Repository, source: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    rename, late = Path.rename, repo.root / "m" / "1"

    def race(self: Path, target: Path) -> Path:
        if not late.exists():
            late.mkdir()
            (late / "theirs").touch()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", race)
    assert repo.publish(source, "m").mv.version == 2
    assert listing(late) == ["theirs"]
    assert repo.manifest(ModelVersion("m", 2)).model_version.version == 2


def test_sha256_on_request(repo: Repository, source: Path) -> None:
    import hashlib

    published = Repository(repo.root, digest="sha256").publish(source, "m")
    seen = published.manifest.files["saved_model.pb"].digest
    assert seen == hashlib.sha256((source / "saved_model.pb").read_bytes()).hexdigest()
    assert repo.verify(published.mv).digest.startswith("sha256:")


def test_the_digest_is_of_the_contents_only(repo: Repository, source: Path) -> None:
    one, two = repo.publish(source, "m"), repo.publish(source, "n")
    (source / "saved_model.pb").rename(source / "assets" / "x.pb")
    shutil.copy(source / "assets" / "x.pb", source / "saved_model.pb")
    other = repo.publish(source, "m")
    assert one.manifest.digest == two.manifest.digest != other.manifest.digest


def test_the_manifest_is_json_for_anyone(repo: Repository, source: Path) -> None:
    published = repo.publish(source, "m", goldens=2, producer={"keras": "3.11"})
    data = json.loads((published.path / "assets.extra" / "tfs_manifest.json").read_text())
    assert data["model"] == "m"
    assert data["version"] == 1
    assert data["algorithm"] == "blake3"
    assert data["digest"] == published.manifest.digest
    assert data["files"]["assets/weights.bin"]["size"] == 3_000_000
    assert data["producer"] == {"keras": "3.11", "tensorflow": "2.21.0", "tfs_deploy": __version__}
    assert data["contract"]["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": [None]}}
    assert data["goldens"] == {"count": 2, "file": "assets.extra/tf_serving_warmup_requests"}
    assert data["created"].endswith("+00:00")
    assert repository.Manifest.from_json(data) == published.manifest
