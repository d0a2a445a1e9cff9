"""The bill of materials is one by CycloneDX's own schema, and says what the version is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import deploy
from deploy import Repository
from deploy.cli.outcome import run
from deploy.report import ml_bom
from deploy.types import ModelVersion
from tests.support.repository import savedmodel
from tests.support.signing import key_pair

ONE = ModelVersion("m", 1)


def checked(data: dict[str, Any]) -> dict[str, Any]:
    """The data, if it is what the schema wants."""
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(data))
    assert problem is None, problem
    return data


@pytest.mark.parametrize("digest", ["blake3", "sha256"])
def test_of_a_published_version(tmp_path: Path, digest: str) -> None:
    repo = Repository(tmp_path / "models", digest=digest)
    published = repo.publish(savedmodel(tmp_path / "source", weights=500), "m",
                             producer={"keras": "3.11", "team": "ads"})
    bundle = deploy.sign(repo, ONE, key_pair(tmp_path).key)
    bill = checked(ml_bom(repo, ONE))
    model = bill["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "m", "1")
    assert {part["name"]: part["hashes"][0]["content"] for part in model["components"]} == {
        name: record.digest for name, record in published.manifest.files.items()}
    assert model["modelCard"]["modelParameters"] == {"inputs": [{"format": "serving_default: x: float32[?]"}],
                                                     "outputs": [{"format": "serving_default: y: float32[?]"}]}
    properties = {each["name"]: each["value"] for each in model["properties"]}
    assert properties["tfs-deploy:digest"] == published.manifest.digest
    assert properties["tfs-deploy:signed-by-key"] == bundle.key_hint
    assert properties["tfs-deploy:producer:team"] == "ads"
    assert {part["name"]: part["version"] for part in bill["components"]}["keras"] == "3.11"
    assert ml_bom(repo, ONE) == bill


def test_of_another_tools_version(tmp_path: Path) -> None:
    savedmodel(tmp_path / "models" / "m" / "1")
    bill = checked(ml_bom(Repository(tmp_path / "models"), ONE))
    assert bill["metadata"]["component"]["components"][0]["hashes"][0]["alg"] == "SHA-256" and bill["components"] == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Repository(tmp_path / "models").publish(savedmodel(tmp_path / "source"), "m")
    assert run(["bom", "m"]) == 0
    bill = checked(json.loads(capsys.readouterr().out))
    assert run(["bom", "m/1", "--output", "m.cdx.json"]) == 0
    assert json.loads((tmp_path / "m.cdx.json").read_text()) == bill
    assert run(["bom", "m/1", "--output", "nowhere/m.cdx.json"]) == 2 and run(["bom", "m/2"]) == 4
