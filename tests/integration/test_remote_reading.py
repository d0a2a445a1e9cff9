"""What is read of versions that are elsewhere: all that they say of themselves, and none of their variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import BinaryIO

import pytest

import deploy
from deploy import export_model
from deploy.errors import RepositoryError
from deploy.repository import Repository
from deploy.repository.stores.addresses import open_store
from deploy.repository.stores.conditional import MemoryStore
from deploy.types import ModelVersion
from tests.support.peers.stores import ObjectServices

pytestmark = pytest.mark.tensorflow
ONE, TWO = ModelVersion("half", 1), ModelVersion("half", 2)


class Counting(MemoryStore):
    """Knows which objects were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self._counted = list[str](), threading.Lock()

    def open(self, name: str) -> BinaryIO:
        with self._counted:
            self.opened.append(name)
        return super().open(name)


@pytest.fixture(scope="module")
def local(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """half/1 with goldens and half/2."""
    repository = Repository(tmp_path_factory.mktemp("local") / "models")
    for name in ("half_plus_two", "half_plus_three"):
        export_model(models / name, repository, "half")
    return repository


@pytest.fixture
def store(local: Repository) -> Counting:
    store = Counting()
    for mv in (ONE, TWO):
        deploy.pull(local, Repository(store), mv)
    store.opened.clear()
    return store


def test_facts_are_those_of_the_version(store: Counting, local: Repository) -> None:
    remote = Repository(store).facts(ONE)
    here = local.facts(ONE)
    assert (remote.contract, remote.digest, len(remote.goldens)) == (here.contract, here.digest, len(here.goldens))
    assert remote.goldens and not [name for name in store.opened if "variables.data" in name]


def test_diff_compares_all_but_the_answers(store: Counting) -> None:
    compared = deploy.diff(ONE, TWO, repository=Repository(store))
    assert not compared.verdict.breaking and compared.drift is None
    assert "variables of half/2 are in memory:" in compared.asked and "--answers" in compared.asked
    assert not [name for name in store.opened if "variables.data" in name]
    with pytest.raises(RepositoryError, match="not on this machine"):
        deploy.diff(ONE, TWO, repository=Repository(store), answers=True)


def test_an_outline_ends_with_its_repository(store: Counting) -> None:
    repository = Repository(store)
    path = repository.outline(ONE)
    assert (path / "saved_model.pb").stat().st_size > 0 and repository.outline(ONE) == path
    data = next(path.glob("variables/variables.data-*"))
    assert data.stat().st_size > 0 and data.stat().st_blocks == 0, "a hole"
    del repository
    assert not path.exists()


@pytest.fixture
def address(services: ObjectServices, local: Repository, monkeypatch: pytest.MonkeyPatch) -> str:
    address = f"{services.use('s3-moto', monkeypatch).root}/{uuid.uuid4().hex}"
    for mv in (ONE, TWO):
        deploy.pull(local, Repository(address), mv)
    return address


def tfs(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "deploy", *argv], check=False, text=True, capture_output=True,
                          timeout=120, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


def test_commands_without_the_variables(address: str) -> None:
    broken = open_store(address)
    for number in (1, 2):  # whoever reads them gets other bytes
        names = [item.name for item in broken.list(f"half/{number}/variables") if ".data" in item.name]
        for name in names:
            with broken.open(name) as file:
                size = len(file.read())
            broken.put(name, b"!" * size)
    inspected = tfs("inspect", "half/1", "-r", address, "--json")
    assert inspected.returncode == 0, inspected.stderr
    assert json.loads(inspected.stdout)["path"] == f"{address}/half/1"
    assert json.loads(inspected.stdout)["version"] == 1 and json.loads(inspected.stdout)["goldens"] > 0
    for argv in (("check", "half/1"), ("goldens", "list", "half"), ("goldens", "check", "half/1"),
                 ("repository", "list"), ("diff", "half/1", "half/2", "--allow-review"), ("inspect", "half")):
        done = tfs(*argv, "-r", address)
        assert done.returncode == 0, (argv, done.stderr)
    verified = tfs("repository", "verify", "half/1", "-r", address)
    assert verified.returncode == 4 and "changed: variables/variables.data" in verified.stderr
    answers = tfs("diff", "half/1", "half/2", "-r", address, "--answers")
    assert answers.returncode == 4 and "isn't what its manifest says" in answers.stderr


def test_answers_are_asked_of_a_verified_copy(address: str) -> None:
    compared = tfs("diff", "half/1", "half/2", "-r", address, "--answers", "--json")
    assert json.loads(compared.stdout)["drift"] is not None, compared.stderr
    replayed = tfs("goldens", "replay", "half/1", "-r", address)
    assert replayed.returncode == 0, replayed.stderr


def test_what_needs_a_version_here_says_so(address: str) -> None:
    done = tfs("goldens", "remove", "half/1", "1", "-r", address)
    assert done.returncode == 4 and "tfs pull" in done.stderr
    missing = tfs("inspect", "half/9", "-r", address)
    assert missing.returncode == 4 and "there is no half/9 in s3://" in missing.stderr
