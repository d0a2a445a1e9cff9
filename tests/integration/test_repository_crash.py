"""Publishers that are killed at every step, and publishers at work at once, in real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.errors import RepositoryError
from deploy.repository import Repository, copying, naming
from deploy.types import ModelVersion
from tests.support.killed import killed
from tests.support.repository import listing, savedmodel

SYSCALLS = ["copy_file_range", "fchmod", "fdopen", "fsync", "open", "posix_fadvise", "pwrite", "write", "close"]
STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "fcntl.flock", "os.scandir", "shutil.rmtree"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return savedmodel(tmp_path / "source", weights=200_000)


class Countdown:
    """Kills its process before the n-th step that touches the filesystem."""

    def __init__(self, left: int) -> None:
        self._left, self._lock = left, threading.Lock()

    def step(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        sys.addaudithook(lambda event, _: self.step() if event in STEPS else None)
        for name in SYSCALLS:
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **named: object) -> object:
            self.step()
            return call(*args, **named)

        return counted


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed before its step number `step`; False if it ended before that."""
    return killed(Countdown(step).arm, work)


def staged(repo: Repository, source: Path) -> None:
    with repo.stage("m") as stage:
        shutil.copytree(source, stage.path, dirs_exist_ok=True)
        stage.publish()


def moved(repo: Repository, source: Path) -> None:
    repo.publish(source, "m", move=True)


def copied(repo: Repository, source: Path) -> None:
    repo.publish(source, "m")


@pytest.mark.parametrize("publish", [copied, staged, moved])
def test_killed_at_every_step(tmp_path: Path, source: Path, publish: Callable[[Repository, Path], None],
                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE", 65536)
    monkeypatch.setattr(copying, "FLUSH", 65536)
    repo = Repository(tmp_path / "repo")
    whole = repo.publish(source, "first").manifest.digest  # imports everything before the forks
    step, shown = 0, 0
    while True:
        mine = tmp_path / "mine"
        shutil.rmtree(mine, ignore_errors=True)
        shutil.copytree(source, mine)
        before = repo.versions("m")
        if not killed_at(step, lambda mine=mine: publish(repo, mine)):  # type: ignore[misc]
            break
        step += 1
        new = sorted(set(repo.versions("m")) - set(before))
        check_whole(repo, new, whole)
        assert new or publish is not moved or (mine / "saved_model.pb").exists(), "a move that failed lost its source"
        shown += len(new)
        repo.clean()
        for path in naming.stage_paths(repo.root / "m"):  # killed before it could say whose it is
            assert not path.joinpath("version").exists()
        repo.clean(older_than=0)
        assert sorted(naming.names(repo.root / "m")) == sorted(map(str, repo.versions("m")))
        assert step < 500
    assert step > 30
    assert 1 <= shown < step / 2, "killed before and after the rename"
    assert repo.versions("m") == list(range(1, shown + 2)), "no number is lost to a crash"


def check_whole(repo: Repository, versions: list[int], digest: str) -> None:
    for version in versions:
        assert repo.verify(ModelVersion("m", version)).digest == digest


PUBLISHER = """
import sys
from deploy.repository import Repository
repo = Repository(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    print(repo.publish(sys.argv[2], "m").mv.version, flush=True)
"""


def test_publishers_at_once_never_share_a_number_or_show_a_half_version(tmp_path: Path) -> None:
    source = savedmodel(tmp_path / "source", weights=20_000_000)
    repo, each = Repository(tmp_path / "repo"), 4
    whole = repo.publish(source, "m").manifest.digest
    publishers = [subprocess.Popen([sys.executable, "-c", PUBLISHER, str(repo.root), str(source), str(each)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd(),
                                   env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
                  for _ in range(5)]
    for publisher in publishers:
        assert publisher.stdout
        assert publisher.stdout.readline() == "ready\n"
    for publisher in publishers:
        assert publisher.stdin
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
    seen: set[int] = set()
    while any(publisher.poll() is None for publisher in publishers):
        new = set(repo.versions("m")) - seen
        check_whole(repo, sorted(new), whole)
        seen |= new
    given = [int(line) for publisher in publishers for line in publisher.communicate()[0].split()]
    assert [publisher.returncode for publisher in publishers] == [0] * 5
    assert sorted(given) == list(range(2, 2 + 5 * each))
    assert listing(repo.root / "m") == sorted(map(str, [1, *given]))


def test_a_claimed_number_is_free_again_when_its_publisher_is_killed(tmp_path: Path, source: Path) -> None:
    repo = Repository(tmp_path / "repo")
    repo.publish(source, "m")
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        repo.stage("m", 2)
        os.write(done, b"!")
        signal.pause()
    try:
        os.read(ready, 1)
        assert repo.next_version("m") == 3
        with pytest.raises(RepositoryError, match=rf"is being published by .*process {child}\)"):
            repo.publish(source, "m", 2)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert repo.publish(source, "m").mv.version == 2
    assert listing(repo.root / "m") == ["1", "2"]
