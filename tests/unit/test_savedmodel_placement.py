"""One directory too high or too low: every verb says which one is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.app import app
from deploy.errors import RepositoryError, VersionNotFound
from deploy.repository import Repository
from deploy.savedmodel import check_complete
from deploy.serving.resolving import resolve
from deploy.types import Latest, ServedModel
from tests.support.repository import savedmodel


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/half/1 and models/half/2."""
    source = savedmodel(tmp_path / "source" / "export")
    for _ in range(2):
        Repository(tmp_path / "models").publish(source, "half")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("path", "says"), [
    ("models", r"it is a repository of models \(half\): name a version, models/half/2"),
    ("models/half", "it is a model's directory with versions 1, 2: name one, models/half/2"),
    ("models/half/2/assets", "models/half/2 is the model's directory"),
    ("source", "one directory further in: name source/export"), ("empty", "is empty.*copy or export"),
])
def test_a_version(here: Path, path: str, says: str) -> None:
    (here / "empty").mkdir()
    with pytest.raises(RepositoryError, match=says):
        check_complete(path)


@pytest.mark.parametrize(("path", "says"), [
    ("models/half", "it is one model's directory, with versions 1, 2; the repository is .*/models"),
    ("models/half/1", "it is a version itself; the repository is two directories up: .*/models"),
    (".", "the repository is one directory further in: .*/models"),
])
def test_a_repository(here: Path, path: str, says: str) -> None:
    with pytest.raises(RepositoryError, match=says):
        Repository(path).models()
    for command in (["init", "-r", path], ["repository", "list", "-r", path]):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, RepositoryError), command


@pytest.mark.parametrize(("name", "base", "says"), [
    ("half", "models/half/1", "it is a version itself; a base path holds versions: .*/models/half$"),
    ("half", "models", "it is a repository of models; .*: .*/models/half$"),
    ("half", "models/half/half", "models/half is a model's directory itself, with versions 1, 2"),
    ("hlaf", "models/hlaf", "did you mean the model 'half'"), ("HALF", "models/HALF", "did you mean the model 'half'"),
    ("other", "models/other", "publish a version first"),
])
def test_a_base_path(here: Path, name: str, base: str, says: str) -> None:
    with pytest.raises(VersionNotFound, match=says):
        resolve(ServedModel(name, str(here / base), Latest(1)), "models/0")


@pytest.mark.parametrize("root", ["models/half", "models/half/1", "models/half/1/assets"])
def test_nothing_is_published_into_a_model_or_a_version(here: Path, root: str) -> None:
    before = sorted(here.rglob("*"))
    with pytest.raises(RepositoryError, match="is no model repository; it .* the repository is"):
        Repository(root).publish(here / "source" / "export", "half")
    assert sorted(here.rglob("*")) == before
