"""Files of others: opened without waiting, following, or reading more than is there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from deploy import files
from deploy.errors import RepositoryError, VersionExists
from deploy.repository import Repository
from tests.support import repository as repository_support


def test_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert files.read_bytes(tmp_path / "file", 4) == files.read_bytes(tmp_path / "link", 4) == b"1234"
    for name, said, follow in (("pipe", "a pipe", True), ("directory", "a directory", True),
                               ("link", "Too many levels|symbolic link", False), ("a\0b", "characters", True),
                               ("\ud800", "characters", True), ("n" * 300, "too long", True)):
        with pytest.raises(OSError, match=said):
            files.read_bytes(tmp_path / name, 4, follow=follow)
    with pytest.raises(OSError, match="it has 4 bytes, and at most 3"):
        files.read_bytes(tmp_path / "file", 3)


def test_what_the_user_names_may_be_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `<(...)` and /dev/stdin are; but nobody waits for ever, nor reads without end."""
    monkeypatch.setattr(files, "_PATIENCE", 0.01)
    read, write = os.pipe()
    os.write(write, b"a\r\nb")
    with pytest.raises(OSError, match="nobody wrote into it"):
        files.read_given(f"/dev/fd/{read}")
    os.write(write, b"a\r\nb")
    os.close(write)
    assert files.read_text(f"/dev/fd/{read}") == "a\nb"
    os.close(read)
    for name, said in (("/dev/zero", "more than 8,388,608 bytes"), (tmp_path, "directory"), ("a\0b", "characters")):
        with pytest.raises(OSError, match=said):
            files.read_given(name)


def test_a_hole_is_no_file(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(OSError, match="it is a hole"):
        files.open_regular(tmp_path / "hole")


def test_walk_is_sorted_and_follows_nothing(tmp_path: Path) -> None:
    for name in ("b/c", "a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "up").symlink_to("..")
    (tmp_path / "b" / "f").write_bytes(b"123")
    assert [name for name, _ in files.walk(tmp_path)] == ["a", "b", "b/c", "b/f", "b/up"]
    assert files.total(tmp_path) == (3, 1)


def test_walk_has_a_bottom(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * 70)).mkdir(parents=True)
    with pytest.raises(OSError, match="64 directories in each other") as caught:
        list(files.walk(tmp_path))
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("link", ["soft", "hard", "directory", "pipe"])
def test_a_lock_file_that_leads_elsewhere_is_refused_and_its_target_untouched(tmp_path: Path, link: str) -> None:
    root, target = tmp_path / "models", tmp_path / "target"
    (root / ".tfs").mkdir(parents=True)
    target.write_bytes(b"")
    if link == "soft":
        (root / ".tfs" / "m").symlink_to(target)
    elif link == "hard":
        (root / ".tfs" / "m").hardlink_to(target)
    elif link == "pipe":
        os.mkfifo(root / ".tfs" / "m")
    else:
        (root / ".tfs").rmdir()
        (tmp_path / "elsewhere").mkdir()
        (root / ".tfs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RepositoryError):
        Repository(root).publish(repository_support.savedmodel(tmp_path / "new"), "m")
    assert target.read_bytes() == b""
    assert not (root / "m").exists() or not list((root / "m").iterdir())
    assert link != "directory" or not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("owner", ["[" * 100_000, '{"host": "h", "name": "n", "pid": 1, "version": "9"}', "5"])
def test_a_damaged_owner_of_a_stage_stops_nobody(tmp_path: Path, owner: str) -> None:
    stage = tmp_path / "models" / "m" / ".stage-1-x"
    stage.mkdir(parents=True)
    (stage / "owner.json").write_text(owner)
    made = Repository(tmp_path / "models").publish(repository_support.savedmodel(tmp_path / "new"), "m")
    assert made.mv.version == 1
    with pytest.raises(VersionExists):
        Repository(tmp_path / "models").publish(tmp_path / "new", "m", 1)


def test_a_source_whose_links_multiply_is_refused(tmp_path: Path) -> None:
    source = repository_support.savedmodel(tmp_path / "new", weights=1 << 16)
    for number in range(20):
        (source / "assets" / f"a{number}").symlink_to("weights.bin")
    with pytest.raises(RepositoryError, match="copies of its files"):
        Repository(tmp_path / "models").publish(source, "m")
