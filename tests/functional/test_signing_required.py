"""signed_by in the spec: what isn't signed is neither started, nor mirrored, nor put into an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deploy
from deploy import Repository, serving
from deploy.errors import DeployError, DigestMismatch, SpecError, Untrusted
from deploy.repository.naming import MANIFEST_FILE
from deploy.serving.image_build import build_image
from deploy.spec import Spec, load_spec
from deploy.types import ModelVersion
from tests.support.repository import savedmodel
from tests.support.signing import Pair, key_pair

ONE = ModelVersion("m", 1)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return key_pair(tmp_path)


def spec_at(where: Path, repository: str = "models", versions: str = "[1]") -> Spec:
    path = where / "serving.yaml"
    path.write_text(f"repository: {repository}\nsigned_by: [signer.pub]\nserver: {{backend: embedded}}\n"
                    f"models: [{{name: m, versions: {versions}}}]\n")
    return load_spec(path)


def refused(spec: Spec, error: type[DeployError], message: str) -> None:
    for ask in (deploy.plan, deploy.up, lambda spec: build_image(spec, "m:1")):
        with pytest.raises(error, match=message):
            ask(spec)


def test_a_local_repository(tmp_path: Path, pair: Pair) -> None:
    repo = Repository(tmp_path / "models")
    repo.publish(savedmodel(tmp_path / "source", weights=500), "m")
    spec = spec_at(tmp_path)
    refused(spec, Untrusted, "m/1 in .* isn't signed")
    deploy.sign(repo, ONE, key_pair(tmp_path, "eve").key)
    refused(spec, Untrusted, "m/1 is signed by the key .* which isn't trusted; trusted: signer.pub")
    deploy.sign(repo, ONE, pair.key)
    assert deploy.plan(spec).models[0].versions == {1}
    (repo.path(ONE) / "assets" / "weights.bin").write_bytes(b"x" * 500)
    refused(spec, DigestMismatch, r"m/1 isn't what was signed: changed: assets/weights\.bin")


def test_a_key_that_isnt_there_is_told_with_its_place(tmp_path: Path) -> None:
    Repository(tmp_path / "models").publish(savedmodel(tmp_path / "source"), "m")
    refused(spec_at(tmp_path), SpecError, r"signed_by: can't read the key .*signer\.pub")


@pytest.mark.parametrize("versions", ["latest", "all"])
def test_a_server_that_follows_a_directory(tmp_path: Path, pair: Pair, versions: str) -> None:
    repo = Repository(tmp_path / "models")
    repo.publish(savedmodel(tmp_path / "source"), "m")
    deploy.sign(repo, ONE, pair.key)
    with pytest.raises(SpecError, match=r"models/0/versions: a server that follows a directory loads whatever appears"):
        deploy.plan(spec_at(tmp_path, versions=versions))


@pytest.mark.parametrize("versions", ["[1]", "latest"])
def test_a_mirror_takes_only_what_is_signed(tmp_path: Path, pair: Pair, versions: str) -> None:
    remote = Repository(f"memory:{tmp_path.name}")
    remote.publish(savedmodel(tmp_path / "source", weights=500), "m")
    spec = spec_at(tmp_path, f"memory:{tmp_path.name}", versions)
    refused(spec, Untrusted, "m/1 in memory:.* isn't signed")
    assert not spec.repository.exists() or Repository(spec.repository).models() == []
    deploy.sign(remote, ONE, pair.key)
    assert deploy.plan(spec).models[0].versions == {1}
    here = Repository(spec.repository)
    assert here.attachments(ONE) == remote.attachments(ONE)
    assert deploy.verify_signature(here, ONE, [pair.public])


def test_a_signature_that_comes_after_its_version(tmp_path: Path, pair: Pair) -> None:
    remote = Repository(f"memory:{tmp_path.name}")
    remote.publish(savedmodel(tmp_path / "source", weights=500), "m")
    spec = spec_at(tmp_path, f"memory:{tmp_path.name}")
    spec.repository.parent.mkdir(parents=True)
    deploy.repository.pull(remote, Repository(spec.repository), ONE)
    refused(spec, Untrusted, "m/1 in .* isn't signed")
    deploy.sign(remote, ONE, pair.key)
    assert deploy.plan(spec).models[0].versions == {1}


def test_pull_of_what_is_signed(tmp_path: Path, pair: Pair) -> None:
    from deploy.cli.outcome import run

    remote = Repository(tmp_path / "remote")
    remote.publish(savedmodel(tmp_path / "source"), "m")
    pull = ["pull", "m/1", "--from", str(tmp_path / "remote"), "-r", str(tmp_path / "here"), "--signed-by",
            str(pair.public)]
    mirror = ["mirror", "--from", str(tmp_path / "remote"), "--to", str(tmp_path / "there"), "--model", "m",
              "--signed-by", str(pair.public)]
    assert run(pull) == run(mirror) == 4
    assert Repository(tmp_path / "here").versions("m") == Repository(tmp_path / "there").versions("m") == []
    deploy.sign(remote, ONE, pair.key)
    assert run(pull) == run(mirror) == 0
    assert serving.fetch(spec_at(tmp_path, "remote")).fetched == ()


def test_what_is_deleted_for_good_takes_its_signatures_along(tmp_path: Path, pair: Pair) -> None:
    repo = Repository(tmp_path / "models")
    repo.publish(savedmodel(tmp_path / "source"), "m")
    deploy.sign(repo, ONE, pair.key)
    repo.remove(ONE)
    repo.purge(ONE)
    assert repo.attachments(ONE) == []


def test_a_manifest_of_another_release_travels_byte_for_byte(tmp_path: Path, pair: Pair) -> None:
    remote, here = Repository(tmp_path / "remote"), Repository(tmp_path / "here")
    remote.publish(savedmodel(tmp_path / "source"), "m")
    manifest = remote.path(ONE) / MANIFEST_FILE
    text = json.dumps({**json.loads(manifest.read_bytes()), "of a later release": 1}).encode()
    manifest.write_bytes(text)
    deploy.sign(remote, ONE, pair.key)
    deploy.repository.pull(remote, here, ONE, accept=serving.accepting(remote, [pair.public]))
    assert (here.path(ONE) / MANIFEST_FILE).read_bytes() == text
    assert deploy.verify_signature(here, ONE, [pair.public])
