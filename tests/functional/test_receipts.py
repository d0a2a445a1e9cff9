"""Receipts: what was done to a version, kept beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement as Official
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

import deploy
from deploy import Repository
from deploy.cli.outcome import run
from deploy.repository.stores.attachments import BUNDLE, STATEMENT, Attachment
from deploy.signing import SignatureBundle, Statement, receipts
from deploy.state import Release
from deploy.types import ModelVersion, Serving
from tests.support.repository import savedmodel
from tests.support.signing import key_pair

ONE = ModelVersion("m", 1)
RELEASE = Release("r1", "m", "rollout", 1, Serving(), Serving(frozenset({1}), {"stable": 1}), {"by": "ann@host"},
                  "2026-01-01T00:00:00+00:00", "the new one", passed={"gate": "", "compare": ""},
                  ended="2099-01-01T00:00:05+00:00", outcome="done")


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    repo = Repository(tmp_path / "models")
    repo.publish(savedmodel(tmp_path / "source", weights=500), "m")
    return repo


def test_a_receipt_is_an_in_toto_statement_about_what_is_signed(repo: Repository, tmp_path: Path) -> None:
    receipts.checked(repo, ONE, passed=["check"])
    bundle = deploy.sign(repo, ONE, key_pair(tmp_path).key)
    receipts.released(repo, ONE, RELEASE, server="s", verdicts={"compare": "argmax flips 0 of 100"})
    unsigned = [a.data for a in repo.attachments(ONE) if a.media_type == STATEMENT]
    assert len(unsigned) == 2
    for data in unsigned:
        Official.copy_from_pb(json_format.Parse(data, StatementMessage())).validate()
        digests = json.loads(data)["subject"][0]["digest"]
        assert digests["tfs_blake3"] == bundle.statement().digests["tfs_blake3"]
    checked, released = deploy.receipts_of(repo, ONE)
    assert (checked.kind, checked.result, checked.passed) == ("checked", "passed", ("check",))
    assert released.passed == ("gate", "compare: argmax flips 0 of 100") and released.by == "ann@host"
    assert released.result == "rollout on s done" and released.notes == ("the new one",)


def test_a_signed_receipt(repo: Repository, tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    receipts.checked(repo, ONE, passed=["check"], notes=["loads: slow"], signer=deploy.load_signer(pair.key))
    (receipt,) = deploy.receipts_of(repo, ONE)
    assert receipt.result == "warned" and receipt.notes == ("loads: slow",) and len(receipt.key_hint) == 64
    with pytest.raises(deploy.Untrusted, match="isn't signed"):  # what was checked isn't a signature of the version
        deploy.verify_signature(repo, ONE, [pair.public])


def test_what_is_no_receipt_of_it(repo: Repository) -> None:
    other = Statement("m/1", {"tfs_blake3": "0" * 64}, receipts.CHECKED, {"result": "PASSED"})
    for data in (other.to_bytes(), b"", b"[]", b'{"_type": 1}', b"[" * 100_000):
        repo.attach(ONE, Attachment(STATEMENT, data))
        repo.attach(ONE, Attachment(BUNDLE, data))
    strange = SignatureBundle(other.to_bytes(), b"").attachment()
    repo.attach(ONE, strange)
    assert deploy.receipts_of(repo, ONE) == []


def test_a_version_of_another_tool(tmp_path: Path) -> None:
    savedmodel(tmp_path / "models" / "m" / "1")
    repo = Repository(tmp_path / "models")
    receipts.checked(repo, ONE, passed=["check"])
    assert [r.kind for r in deploy.receipts_of(repo, ONE)] == ["checked"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair = key_pair(tmp_path)
    savedmodel(tmp_path / "build")
    (tmp_path / "serving.yaml").write_text("server: {backend: embedded}\nmodels: [{name: m, versions: [1]}]\n")
    assert run(["publish", "build", "--name", "m", "--sign-with", str(pair.key)]) == 0
    capsys.readouterr()
    assert run(["inspect", "m/1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (receipt,) = data["receipts"]
    assert data["signatures"] == [receipt["key_hint"]] and receipt["passed"] == ["check"]
    assert run(["inspect", "m"]) == 0
    out = capsys.readouterr().out
    assert f"signed by {receipt['key_hint'][:16]}" in out and "checked" in out
    assert run(["history", "m/1"]) == 0 and "checked" in capsys.readouterr().out
    assert run(["history", "m/1", "--json"]) == 0 and json.loads(capsys.readouterr().out) == data["receipts"]
    shutil.copytree("models/m/1", "models/m/2")
    assert run(["history", "m/2"]) == 0 and "no receipts of m/2 yet" in capsys.readouterr().out
    assert run(["history", "m/3"]) == 4 and "there is no m/3 in" in capsys.readouterr().err
