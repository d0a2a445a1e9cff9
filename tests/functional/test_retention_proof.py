"""`tfs prune` asks who reads from a repository: a spec whose servers read from elsewhere says nothing about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.app import app
from deploy.errors import RepositoryError
from deploy.repository import Repository
from deploy.serving import check_proof
from deploy.spec import Spec, load_spec
from tests.support.repository import savedmodel

FREE = "server: {backend: embedded, grpc_port: 0, rest_port: 0}"
MODELS = "models: [{name: m, versions: [1]}]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./models with m/1 to m/3, ./other with nothing."""
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    for number in range(3):
        Repository(tmp_path / "models").publish(savedmodel(tmp_path / "build" / str(number) / "m"), "m")
    (tmp_path / "other").mkdir()
    return tmp_path


def written(directory: Path, text: str) -> Spec:
    directory.mkdir(exist_ok=True)
    (directory / "serving.yaml").write_text(text if text.startswith("models:") else MODELS + text)
    return load_spec(directory / "serving.yaml")


def remote(text: str) -> str:
    return f"server: {{backend: remote, remote: {{grpc: 'h:1', {text}}}}}"


READING = {
    "its repository": ("repository: models", "models"),
    "through a link": ("repository: link", "models"),
    "the other way round": ("repository: models", "link"),
    "a file's address": ("repository: file://{here}/models", "models"),
    "a base path": ("models: [{name: x, versions: [1], base_path: models/m}]\nrepository: other", "models"),
    "a model's directory that is a link": ("repository: linked", "models"),
    "its mirror": ("repository: s3://bucket/models\nmirror: models", "models"),
    "the remote one": ("repository: s3://bucket/models\nmirror: other", "s3://bucket/models"),
    "written in another way": ("repository: s3://bucket/models/", "s3://bucket//models"),
    "whoever asks": ("repository: ssh://me@host/srv/models", "ssh://host:22/srv/models"),
    "a stage": (remote("stage: '{here}/models'"), "models"),
    "what a remote server sees": (remote("models: s3://bucket/models"), "s3://bucket/models"),
    "what it sees of a model": ("repository: other\n" + remote("models: {m: '{here}/models/m'}"), "models"),
    "one server of several": (f"repository: other\n{FREE}\nservers: [{{name: a}}, {{name: b, repository: models}}]",
                              "models"),
}


@pytest.mark.parametrize("case", READING)
def test_a_spec_that_reads_from_there_counts(here: Path, case: str) -> None:
    text, place = READING[case]
    (here / "link").symlink_to("models")
    (here / "linked").mkdir()
    (here / "linked" / "m").symlink_to(here / "models" / "m")
    where = here / place if "://" not in place else place
    check_proof(Repository(where), [written(here, text.replace("{here}", str(here)))], [])


def test_a_spec_beside_or_above_counts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here / "conf", "repository: ../models")
    written(here, "repository: models")
    for cwd, argv in ((here, ["--spec", "conf/serving.yaml"]), (here / "other", ["-r", "../models", "--spec",
                                                                                 "../serving.yaml"])):
        monkeypatch.chdir(cwd)
        done = CliRunner().invoke(app, ["prune", "--keep", "1", *argv])
        assert done.exit_code == 0 and "1 of 3 would go" in done.output, done


@pytest.mark.parametrize(("text", "place", "seen"), [
    ("models: [{name: different, versions: [1]}]\nrepository: other", "models", "other"),
    ("repository: s3://bucket/models", "models", "s3://bucket/models"),
    ("repository: models", "s3://bucket/models", "models"),
    ("repository: s3://bucket/other", "s3://bucket/models", "s3://bucket/other")])
def test_a_spec_that_reads_from_elsewhere_doesnt_count(here: Path, text: str, place: str, seen: str) -> None:
    spec, repository = written(here, text), Repository(here / place if "://" not in place else place)
    with pytest.raises(RepositoryError, match="nobody says which servers read from this repository") as refused:
        check_proof(repository, [spec], [])
    assert refused.value.id == "unproven" and f"{spec.path} reads from " in refused.value.message
    assert refused.value.message.endswith(f"{seen}, not from {repository.store}")
    check_proof(repository, [spec], ["127.0.0.1:8500"])


def test_the_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here, "models: [{name: different, versions: [1]}]\nrepository: other")
    monkeypatch.chdir(here)
    refused = CliRunner().invoke(app, ["prune", "--keep", "1", "--yes"])
    assert isinstance(refused.exception, RepositoryError) and refused.exception.id == "unproven", refused
    assert CliRunner().invoke(app, ["prune", "--keep", "1", "--unserved"]).exit_code == 0
    assert Repository(here / "models").versions("m") == [1, 2, 3]
