"""Verbs about versions at rest: damaged ones are told together, addresses aren't paths, receipts need no spec."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.cli.outcome import run
from deploy.repository import Repository
from deploy.signing import receipts
from deploy.types import ModelVersion
from tests.support.repository import savedmodel


class Told(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Told]


@pytest.fixture
def tfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in a directory with m/1 to m/4 and n/1 in ./models."""
    for number, name in enumerate("mmmmn"):
        Repository(tmp_path / "models").publish(savedmodel(tmp_path / "build" / str(number) / "m"), name)
    monkeypatch.chdir(tmp_path)

    def told(*argv: str) -> Told:
        code = run(argv)
        return Told(code, *capsys.readouterr())

    return told


def test_all_damaged_versions_are_told(tfs: Run) -> None:
    whole = tfs("repository", "verify")
    assert whole.code == 0 and whole.out.count("is as published") == 5
    Path("models/m/1/saved_model.pb").write_bytes(b"x")
    (Path("models/m/3/assets.extra/tfs_manifest.json")).write_text("{}")
    Path("models/m/4/extra").write_text("")
    text = tfs("repository", "verify")
    assert text.code == 4 and text.err.startswith("tfs: 3 of 5 versions are not as published: m/1, m/3, m/4"), text
    assert [line.split()[0] for line in text.out.splitlines() if line.endswith("is as published")] == ["m/2", "n/1"]
    assert "m/1 isn't what its manifest says" in text.out and "m/4 isn't what its manifest says" in text.out
    assert "tfs_manifest.json" in text.out, "the manifest that can't be read"
    told = tfs("repository", "verify", "--json")
    data = json.loads(told.out)
    assert told.code == 4 and data["exit_code"] == 4 and data["details"]["verified"] == ["m/2", "n/1"]
    damaged = {one["version"]: one for one in data["details"]["damaged"]}
    assert damaged["m/1"]["details"]["changed"] == ["saved_model.pb"]
    assert damaged["m/4"]["details"]["extra"] == ["extra"] and damaged["m/3"]["id"] == "manifest-damaged"
    one = tfs("repository", "verify", "m/1", "--json")
    assert one.code == 4 and json.loads(one.out)["details"]["changed"] == ["saved_model.pb"]


@pytest.mark.parametrize("address", ["s3://bkt/q", "gs://bkt", "az://c/x", "ssh://h/srv", "oci://r/t", "s3:/bkt/q",
                                     "hdfs://h/x", "S3A://bkt/q"])
def test_an_address_isnt_taken_for_a_directory(tfs: Run, address: str) -> None:
    told = tfs("mirror", "--from", "models", "--to", address, "--model", "m")
    assert told.code == 2 and f"--to {address}: expected a directory of this machine, got an address" in told.err
    assert "a mirror is a directory; from one store to another: tfs pull MODEL/VERSION --from" in told.err
    assert not Path(address.partition("/")[0]).exists()
    (Path("serving.yaml")).write_text("models: [{name: m, versions: [1]}]\n")
    told = tfs("configure", "--out", address)
    assert told.code == 2 and "expected a directory of this machine, got an address" in told.err, told
    told = tfs("publish", address, "--name", "m")
    assert told.code == 2 and "got an address; a version that is there comes by tfs pull" in told.err, told


def test_a_files_address_and_a_name_with_a_colon_are_directories(tfs: Run) -> None:
    for name, place in (("a", Path("a").absolute().as_uri()), ("run:3", "run:3")):
        assert tfs("mirror", "--from", "models", "--to", place, "--model", "m:1").code == 0
        assert Repository(Path(name)).versions("m") == [1]


def test_from_one_store_to_another_it_is_pull(tfs: Run) -> None:
    assert tfs("pull", "m/2", "--from", "models", "-r", "memory:elsewhere-pull").code == 0
    assert Repository("memory:elsewhere-pull").versions("m") == [2]


def test_receipts_lie_beside_the_version(tfs: Run) -> None:
    receipts.checked(Repository(Path("models")), ModelVersion("m", 4), passed=["check"], signer=None)
    told = tfs("history", "m/4", "-r", "models", "--json")
    assert told.code == 0 and len(json.loads(told.out)) == 1, told
    assert json.loads(tfs("history", "m/4", "--json").out) == json.loads(told.out), "as tfs inspect, without a spec"
    assert "no receipts of m/3 yet" in tfs("history", "m/3", "-r", "models").out
    assert tfs("history", "m/9", "-r", "models").code == 4
    assert tfs("history", "m", "-r", "models").code == 2 and tfs("history", "m").code == 2
    Path("serving.yaml").write_text("models: [{name: m, versions: [1]}]\nrepository: elsewhere\n")
    assert tfs("history", "m/4").code == 4 and tfs("history", "m/4", "-r", "models").code == 0
    assert tfs("history", "m/4", "--spec", "none.yaml").code == 2
    shutil.rmtree("models")
    assert tfs("history", "m/4", "-r", "models").code == 4
