"""Versions in an OCI registry, Debian's docker-registry: what is in an image, who may, and what goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy import serving
from deploy.addresses import Address
from deploy.cli.outcome import run
from deploy.errors import DeployError, DigestMismatch, Malformed, RepositoryError, SpecError, Untrusted, VersionExists
from deploy.repository import Repository
from deploy.repository.failures import Refused
from deploy.repository.naming import MANIFEST_FILE
from deploy.repository.stores.oci import open_address, referrers
from deploy.repository.stores.oci.image import INDEX, Descriptor, artifact, described
from deploy.repository.stores.oci.registry import Registry
from deploy.repository.stores.oci.remote import Remote
from deploy.spec import load_spec
from deploy.types import ModelVersion
from tests.support.peers import program
from tests.support.peers.front import Fault, front, times
from tests.support.peers.registry import SECRET, USER, docker_config, docker_registry, token_registry
from tests.support.repository import savedmodel
from tests.support.signing import key_pair
from tests.support.tls import self_signed

ONE = ModelVersion("m", 1)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))


@pytest.fixture
def team(host: str, request: pytest.FixtureRequest) -> str:
    """A repository of the test's own: `127.0.0.1:port/name`."""
    return f"{host}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return savedmodel(tmp_path / "source", weights=50_000)


def manifest_of(team: str, tag: str = "m:1") -> dict[str, Any]:
    host, _, name = team.partition("/")
    model, _, reference = tag.partition(":")
    reply = requests.get(f"http://{host}/v2/{name}/{model}/manifests/{reference}", timeout=5,
                         headers={"Accept": f"{MANIFEST}, application/vnd.oci.image.index.v1+json"})
    reply.raise_for_status()
    return dict(reply.json())


def blob_of(team: str, digest: str, model: str = "m") -> bytes:
    host, _, name = team.partition("/")
    return requests.get(f"http://{host}/v2/{name}/{model}/blobs/{digest}", timeout=5).content


def push_blob(team: str, data: bytes) -> str:
    host, _, name = team.partition("/")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    begun = requests.post(f"http://{host}/v2/{name}/m/blobs/uploads/", timeout=5)
    requests.put(begun.headers["Location"], params={"digest": digest}, data=data, timeout=5).raise_for_status()
    return digest


def push_image(team: str, *layers: bytes, tag: str = "1", media_type: str = LAYER, **fields: object) -> None:
    """An image as another tool might make it."""
    host, _, name = team.partition("/")
    config = push_blob(team, b"{}")
    data = {"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": media_type, "digest": push_blob(team, layer), "size": len(layer)}
                       for layer in layers], **fields}
    requests.put(f"http://{host}/v2/{name}/m/manifests/{tag}", data=json.dumps(data),
                 headers={"Content-Type": MANIFEST}, timeout=5).raise_for_status()


def tar(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry, io.BytesIO(b"\0" * min(entry.size, 1 << 20)))
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, size
    return entry


# -- what is in an image

def test_an_image_of_data_that_anything_can_mount(team: str, source: Path) -> None:
    published = Repository(f"oci://{team}").publish(source, "m")
    fields = manifest_of(team)
    config = json.loads(blob_of(team, fields["config"]["digest"]))
    assert fields["mediaType"] == MANIFEST
    assert fields["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert [layer["mediaType"] for layer in fields["layers"]] == [LAYER, LAYER]
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in fields["layers"]]
    assert config["os"] == "linux" and config["architecture"] == "amd64"
    assert fields["annotations"]["org.tfs-deploy.digest"] == published.manifest.digest
    assert json.loads(fields["annotations"]["org.tfs-deploy.contract"]) == published.manifest.contract.to_json()
    for layer, names in zip(fields["layers"], (["assets/weights.bin", "saved_model.pb"], [MANIFEST_FILE]), strict=True):
        with tarfile.open(fileobj=io.BytesIO(blob_of(team, layer["digest"]))) as archive:
            members = archive.getmembers()
        assert [m.name for m in members if m.isreg()] == [f"models/m/1/{name}" for name in names]
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(0, 0, 0, "")}
        assert {stat.filemode(m.mode)[1:] for m in members if m.isreg()} == {"rw-r--r--"}
        assert members[0].name == "models" and members[0].isdir()


def test_the_same_files_are_the_same_layer(team: str, source: Path, tmp_path: Path) -> None:
    Repository(f"oci://{team}/a").publish(source, "m", 4)
    other = savedmodel(tmp_path / "again", weights=50_000)
    for path in other.rglob("*"):
        path.touch()
    (other / "saved_model.pb").chmod(0o600)
    Repository(f"oci://{team}/b").publish(other, "m", 4)
    first, second = (manifest_of(f"{team}/{name}", "m:4")["layers"][0] for name in "ab")
    assert first == second


def test_what_is_there_is_not_sent_again(team: str, source: Path) -> None:
    """A second try after a failure goes on where the first ended."""
    host, _, name = team.partition("/")
    blobs: list[int] = []

    def faults(method: str, path: str) -> Fault | None:
        if method == "PUT" and "/blobs/uploads/" in path:
            blobs.append(1)
        return None

    def refusing(method: str, path: str) -> Fault | None:
        return Fault(status=507) if method == "PUT" and path.endswith("/manifests/1") else None

    with front(host, refusing) as address, pytest.raises(RepositoryError, match="HTTP 507"):
        Repository(f"oci://{address}/{name}").publish(source, "m", 1)
    assert Repository(f"oci://{team}").versions("m") == []
    with front(host, faults) as address:
        Repository(f"oci://{address}/{name}").publish(source, "m", 1)
    assert len(blobs) <= 3  # a claim, and what names the time: not the files


def test_progress_is_that_of_sending(team: str, source: Path) -> None:
    told: list[tuple[int, int]] = []
    Repository(f"oci://{team}").publish(source, "m", progress=lambda done, total: told.append((done, total)))
    layer = manifest_of(team)["layers"][0]["size"]
    sent = [done for done, total in told if total == layer]
    assert sent == sorted(sent) and sent[-1] == layer == told[-1][0]


def test_long_names_and_large_sizes(team: str, tmp_path: Path) -> None:
    source = savedmodel(tmp_path / "source")
    names = [f"assets/{'d' * 90}/{'f' * 120}.bin", "assets/Wörter mit Lücken.txt", "assets/a"]
    for number, name in enumerate(names):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"%d" % number * 1000)
    repo = Repository(f"oci://{team}")
    repo.publish(source, "m")
    assert repo.verify(ONE).files.keys() >= set(names)


def test_a_large_file_is_read_by_parts(team: str, tmp_path: Path) -> None:
    got: list[int] = []
    host, _, name = team.partition("/")
    Repository(f"oci://{team}").publish(savedmodel(tmp_path / "source", weights=30_000_000), "m")
    with front(host, lambda method, path: got.append(1) if method == "GET" and "/blobs/" in path else None) as address:
        store = open_address(Address.parse(f"oci://{address}/{name}"))
        with store.open("m/1/assets/weights.bin") as file:
            assert file.seek(20_000_000 // 256 * 256) and file.read(4) == b"\0\1\2\3"
        with store.open("m/1/saved_model.pb") as file:
            assert file.read() == (tmp_path / "source/saved_model.pb").read_bytes()
    assert len(got) == 3  # the manifest's layer, and a part of each


def test_the_media_types_of_modelpack(team: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFS_OCI_MEDIA_TYPES", "modelpack")
    repo = Repository(f"oci://{team}")
    repo.publish(source, "m")
    fields = manifest_of(team)
    config = json.loads(blob_of(team, fields["config"]["digest"]))
    assert fields["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert fields["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert fields["layers"][0]["mediaType"] == "application/vnd.cncf.model.weight.v1.tar"
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in fields["layers"]]}
    assert config["descriptor"]["name"] == "m" and config["descriptor"]["version"] == "1"
    monkeypatch.setenv("TFS_OCI_MEDIA_TYPES", "image")
    assert Repository(f"oci://{team}").verify(ONE).size > 50_000
    monkeypatch.setenv("TFS_OCI_MEDIA_TYPES", "ollama")
    with pytest.raises(SpecError, match="TFS_OCI_MEDIA_TYPES: expected image or modelpack, got 'ollama'"):
        Repository(f"oci://{team}")


# -- numbers

def test_without_deleting_numbers_are_given_once_all_the_same(tmp_path: Path, source: Path) -> None:
    with docker_registry(tmp_path, delete=False) as host:
        repo = Repository(f"oci://{host}/team")
        with ThreadPoolExecutor(4) as pool:
            published = list(pool.map(lambda _: Repository(f"oci://{host}/team").publish(source, "m"), range(4)))
        numbers = [one.mv.version for one in published]
        assert sorted(numbers) == repo.versions("m") and len(set(numbers)) == 4
        with repo.stage("m", 50):
            assert repo.next_version("m") == 51
        assert repo.publish(source, "m", 50).mv.version == 50
        with pytest.raises(Refused, match="lets nobody delete .*team/m:50"):
            _delete(repo, ModelVersion("m", 50))


def test_two_that_want_one_number(team: str, source: Path) -> None:
    def publish(_: int) -> str:
        try:
            Repository(f"oci://{team}").publish(source, "m", 7)
        except VersionExists as e:
            return e.message
        return ""

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(publish, range(4)))
    assert said.count("") == 1 and Repository(f"oci://{team}").verify(ModelVersion("m", 7))
    assert all("m/7 exists" in text or "m/7 is being published by" in text for text in said if text)


def test_a_claim_that_is_listed_and_isnt_there(team: str, source: Path) -> None:
    """docker-registry keeps the name of a tag that is deleted while others are."""
    host, _, name = team.partition("/")
    listed = Fault(status=200, body=b'{"tags": ["claim-5-000000000000", "claim-5-000000000001-held"]}')
    with front(host, lambda _, path: listed if "/tags/list" in path else None) as address:
        assert Repository(f"oci://{address}/{name}").publish(source, "m", 5).mv.version == 5
    assert Repository(f"oci://{team}").versions("m") == [5]


def _delete(repo: Repository, mv: ModelVersion) -> None:
    repo.store.delete(f"{mv}/{MANIFEST_FILE}")


def test_a_number_isnt_given_again(team: str, source: Path) -> None:
    repo = Repository(f"oci://{team}")
    for _ in range(3):
        repo.publish(source, "m")
    with pytest.raises(OSError, match="one image"):
        repo.store.delete("m/3/saved_model.pb")
    _delete(repo, ModelVersion("m", 3))
    repo.store.delete("m/3/saved_model.pb")
    assert repo.versions("m") == [1, 2] and repo.next_version("m") == 4
    with pytest.raises(FileNotFoundError):
        repo.store.open("m/3/saved_model.pb")
    for write in (repo.store.put, repo.store.put_if_absent):
        with pytest.raises(OSError, match="one image"):
            write("m/1/x", b"x")


def test_a_tag_that_is_listed_a_moment_before_it_is_there(team: str, source: Path) -> None:
    host, _, name = team.partition("/")
    Repository(f"oci://{team}").publish(source, "m")
    early = times(3, Fault(status=404), lambda method, path: method == "GET" and path.endswith("/manifests/1"))
    with front(host, early) as address:
        assert Repository(f"oci://{address}/{name}").verify(ONE).model_version == ONE


def test_a_tag_taken_while_a_version_is_pushed(team: str, source: Path) -> None:
    """By somebody who claims nothing."""
    repo = Repository(f"oci://{team}")
    with repo.stage("m", 1) as stage:
        stage.fill(source)
        push_image(team, tar(("models/m/1/saved_model.pb", b"theirs")))
        with pytest.raises(VersionExists, match="m/1 exists"):
            stage.publish()
    assert repo.find_manifest(ONE) is None


# -- who may

def test_credentials_of_dockers_config(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with docker_registry(tmp_path, login=True) as host:
        address = f"oci://{host}/team"
        with pytest.raises(RepositoryError, match=f"{host} wants credentials to .*none for it.*docker login"):
            Repository(address).versions("m")
        monkeypatch.setenv("DOCKER_CONFIG", str(docker_config(tmp_path / "wrong", host, secret="wrong-one")))
        with pytest.raises(RepositoryError, match=f"doesn't accept the credentials of '{USER}'.*config.json") as e:
            Repository(address).publish(source, "m")
        assert "wrong-one" not in str(e.value) and SECRET not in str(e.value)
        monkeypatch.setenv("DOCKER_CONFIG", str(docker_config(tmp_path / "right", f"http://{host}/v1/")))
        repo = Repository(address)
        repo.publish(source, "m")
        assert repo.models() == ["m"] and repo.verify(ONE)


def test_credentials_of_a_helper(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper, config = tmp_path / "bin/docker-credential-tests", tmp_path / "docker/config.json"
    for path in (helper, config):
        path.parent.mkdir()
    monkeypatch.setenv("PATH", str(helper.parent), prepend=":")
    monkeypatch.setenv("DOCKER_CONFIG", str(config.parent))
    with docker_registry(tmp_path, login=True) as host:
        def answer(script: str, *, key: str = "credHelpers") -> Repository:
            config.write_text(json.dumps({key: {host: "tests"} if key == "credHelpers" else "tests"}))
            helper.write_text(f"#!/bin/sh\nread server\necho \"$@ $server\" > {tmp_path}/asked\n{script}\n")
            helper.chmod(0o755)
            return Repository(f"oci://{host}/team")

        right = json.dumps({"ServerURL": host, "Username": USER, "Secret": SECRET})
        answer(f"echo '{right}'").publish(source, "m")
        assert (tmp_path / "asked").read_text() == f"get {host}\n"
        assert answer(f"echo '{right}'", key="credsStore").versions("m") == [1]
        for script, message in (("echo credentials not found in native keychain; exit 1", "wants credentials"),
                                ("echo locked; exit 1", "docker-credential-tests has no credentials of .*: locked"),
                                ("echo nonsense", "docker-credential-tests gives no Username and Secret")):
            with pytest.raises(RepositoryError, match=message):
                answer(script).versions("m")
        repo = answer("")
        helper.unlink()
        with pytest.raises(RepositoryError, match="docker-credential-tests, which .* names, can't be started"):
            repo.versions("m")


def test_podmans_file_counts_too(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with docker_registry(tmp_path, login=True) as host:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(docker_config(tmp_path / "podman", host) / "config.json"))
        assert Repository(f"oci://{host}/team").publish(source, "m").mv == ONE


@pytest.mark.parametrize(("text", "message"), [
    ("{", "config.json isn't JSON"),
    ('{"auths": {"HOST": {"auth": "!!"}}}', "isn't base 64 of user:password"),
    ('{"credsStore": "../evil"}', "can't be the name of a credential helper"),
])
def test_a_damaged_config(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text.replace("HOST", host))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with front(host, lambda *_: Fault(status=401, headers=(("WWW-Authenticate", 'Basic realm="x"'),))) as address:
        (tmp_path / "config.json").write_text(text.replace("HOST", address))
        with pytest.raises(RepositoryError, match=message):
            Repository(f"oci://{address}/team").versions("m")


def test_tokens(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every public registry does it: the registry names who gives tokens, and for what."""
    with token_registry(tmp_path) as (host, asked):
        with pytest.raises(RepositoryError, match=f"{host} wants credentials to"):
            Repository(f"oci://{host}/team").publish(source, "m")
        monkeypatch.setenv("DOCKER_CONFIG", str(docker_config(tmp_path / "docker", host)))
        repo = Repository(f"oci://{host}/team")
        repo.publish(source, "m")
        assert repo.verify(ONE)
        assert {"repository:team/m:pull", "repository:team/m:pull,push"} <= set(asked)
        with pytest.raises(RepositoryError, match=f"'{USER}' .* may not list the tags of other/m"):
            Repository(f"oci://{host}/other").publish(source, "m")


def test_a_registry_with_tls(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = self_signed(tmp_path)
    assert tls.certificate and tls.key
    with docker_registry(tmp_path, tls=(Path(tls.certificate), Path(tls.key))) as host:
        with pytest.raises(RepositoryError, match=f"{host} can't prove who it is.*SSL_CERT_FILE"):
            Repository(f"oci://{host}/team").publish(source, "m")
        monkeypatch.setenv("SSL_CERT_FILE", tls.certificate)
        assert Repository(f"oci://{host}/team").publish(source, "m").mv == ONE


def test_credentials_stay_at_the_registry(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where it sends readers for blobs, as hosted ones do."""
    with docker_registry(tmp_path, login=True) as host, docker_registry(tmp_path) as same:
        elsewhere: list[str] = []

        def seen(_: str, path: str, headers: Mapping[str, str]) -> None:
            elsewhere.append(headers.get("Authorization", "") + path)

        with front(same, lambda *_: None, seen=seen) as blobs:
            def redirect(method: str, path: str) -> Fault | None:
                to = (("Location", f"http://{blobs}{path}"),)
                return Fault(status=307, headers=to) if method == "GET" and "/blobs/" in path else None

            with front(host, redirect) as address:
                monkeypatch.setenv("DOCKER_CONFIG", str(docker_config(tmp_path / "docker", address)))
                repo = Repository(f"oci://{address}/team")
                repo.publish(source, "m")
                assert repo.verify(ONE).size > 50_000
        assert elsewhere and all(text.startswith("/v2/") for text in elsewhere)


# -- what goes wrong

def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(RepositoryError, match="registry.invalid can't be reached, or went away, to ask what it is: "):
        Repository("oci://registry.invalid/team").versions("m")


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFS_STORE_DEADLINE", "0.5")
    with pytest.raises(RepositoryError, match=r"127.0.0.1:9 can't be reached.*tried \d+ times in .* s.*refused"):
        Repository("oci://127.0.0.1:9/team").versions("m")


def test_what_isnt_a_registry(host: str) -> None:
    with front(host, lambda *_: Fault(status=404)) as address, \
            pytest.raises(RepositoryError, match=f"{address} isn't an OCI registry: http://{address}/v2/ answers 404"):
        Repository(f"oci://{address}/team").versions("m")


def test_a_busy_registry(team: str, source: Path) -> None:
    host, _, name = team.partition("/")
    busy = Fault(status=503, headers=(("Retry-After", "0"),))
    with front(host, times(4, busy, lambda *_: True)) as address:
        assert Repository(f"oci://{address}/{name}").publish(source, "m").mv == ONE
    with front(host, times(99, busy, lambda method, _: method == "PUT")) as address, \
            pytest.raises(RepositoryError, match=r"asks to slow down and did not recover \(tried 6 times in .* s\)"):
        Repository(f"oci://{address}/{name}").publish(source, "m")
    assert Repository(f"oci://{team}").versions("m") == [1]


def test_connections_cut_in_mid_upload_and_in_mid_pull(team: str, tmp_path: Path) -> None:
    host, _, name = team.partition("/")
    source = savedmodel(tmp_path / "source", weights=5_000_000)
    upload = times(2, Fault(cut=3_000_000), lambda method, path: method == "PUT" and "/uploads/" in path)
    with front(host, upload) as address:
        Repository(f"oci://{address}/{name}").publish(source, "m")
    pull = times(2, Fault(cut_answer=100_000), lambda method, path: method == "GET" and "/blobs/" in path)
    with front(host, pull) as address:
        assert Repository(f"oci://{address}/{name}").verify(ONE).size > 5_000_000


def test_a_proxy_that_loses_ranges(team: str, tmp_path: Path) -> None:
    host, _, name = team.partition("/")
    Repository(f"oci://{team}").publish(savedmodel(tmp_path / "source", weights=3_000_000), "m")
    with front(host, lambda *_: Fault(without="Range")) as address:
        assert Repository(f"oci://{address}/{name}").verify(ONE).size > 3_000_000


def test_bytes_damaged_on_the_way(team: str, source: Path) -> None:
    host, _, name = team.partition("/")
    Repository(f"oci://{team}").publish(source, "m")
    for what in ("/blobs/", "/manifests/"):
        with front(host, lambda method, path, what=what: Fault(damaged=method == "GET" and what in path)) as address, \
                pytest.raises(DigestMismatch, match=f"{address}.*digest"):
            Repository(f"oci://{address}/{name}").verify(ONE)


def test_no_catalog(team: str, source: Path) -> None:
    host, _, name = team.partition("/")
    Repository(f"oci://{team}").publish(source, "m")
    with front(host, lambda _, path: Fault(status=404) if "_catalog" in path else None) as address:
        repo = Repository(f"oci://{address}/{name}")
        assert repo.versions("m") == [1] and repo.entries("m")
        with pytest.raises(RepositoryError, match="doesn't list its repositories.*; name the model"):
            repo.models()


@pytest.mark.parametrize("model", ["MNIST", "a..b", "a___b", "end-"])
def test_names_that_a_registry_cant_have(team: str, source: Path, model: str) -> None:
    repo = Repository(f"oci://{team}")
    with pytest.raises(RepositoryError, match=f"a registry can have no model '{model}'.*lower case"):
        repo.publish(source, model)
    assert repo.versions(model) == []
    with pytest.raises(SpecError, match="a registry can have no repository 'Team'"):
        Repository("oci://ghcr.io/Team")


@pytest.mark.parametrize(("entries", "message"), [
    ([("models/m/1/../../../etc/passwd", b"x")], "leads out of the image"),
    ([("/etc/passwd", b"x")], "leads out of the image"),
    ([info("models/m/1/x", tarfile.SYMTYPE, "/etc/passwd")], "is a link to '/etc/passwd', and none is followed"),
    ([info("models/m/1/x", tarfile.LNKTYPE, "models/m/2/x")], "is a link to 'models/m/2/x'"),
    ([info("models/m/1/x", tarfile.CHRTYPE)], "is a device, no regular file"),
    ([info("models/m/1/x", tarfile.FIFOTYPE)], "is a pipe, no regular file"),
    ([("models/m/1/.wh.x", b"")], "removes a file of another layer"),
    ([("/".join(["models/m/1", *"abcdefgh" * 9]), b"")], "lies in more than 64 directories"),
    ([("README", b"x")], "has no SavedModel below /models/m/1"),
])
def test_images_made_to_harm(team: str, entries: list[tuple[str, bytes]], message: str) -> None:
    push_image(team, tar(("models/m/1/saved_model.pb", b"x"), *entries) if "has no" not in message else tar(*entries))
    repo = Repository(f"oci://{team}")
    for ask in (lambda: list(repo.store.list("m/1", deep=True)), lambda: repo.store.open("m/1/saved_model.pb")):
        with pytest.raises(RepositoryError, match=message):
            ask()


def test_an_image_made_to_harm_is_listed_with_what_is_wrong(team: str) -> None:
    push_image(team, tar(("models/m/1/saved_model.pb", b"x"), ("/etc/passwd", b"x")))
    push_image(team, tar(("models/m/2/saved_model.pb", b"x")), tag="2")
    bad, good = Repository(f"oci://{team}").entries("m")
    assert "leads out of the image" in bad.error and bad.mv == ONE and not good.error and good.files == 1


def test_a_tar_that_claims_more_than_there_is(team: str) -> None:
    data = tar(("models/m/1/saved_model.pb", b"x")).rstrip(b"\0")
    bomb = info("models/m/1/bomb", size=1 << 50).tobuf()
    push_image(team, tar(("models/m/1/saved_model.pb", b"x"))[:1024] + bomb + data[:512])
    with pytest.raises(Malformed, match="models/m/1/bomb' in layer .* claims 1,125,899,906,842,624 bytes, and"):
        Repository(f"oci://{team}").store.open("m/1/saved_model.pb")


def test_compressed_layers_indexes_and_newer_images(team: str) -> None:
    store = Repository(f"oci://{team}").store
    push_image(team, b"x", media_type="application/vnd.oci.image.layer.v1.tar+gzip")
    push_image(team, tag="2", annotations={"org.tfs-deploy.format": "2"})
    push_image(team, b"x", b"y", tag="3", annotations={"org.tfs-deploy.format": "1"})
    push_image(team, b"no tar at all" * 100, tag="4")
    for number, message in ((1, "tar.gzip, and files are read out of plain tars.*--preserve-digests"),
                            (2, "expected an image of format 1, seen '2'.*update this one"),
                            (3, "layer 2 isn't a tar with a manifest"), (4, "isn't a tar")):
        with pytest.raises(RepositoryError, match=message):
            store.open(f"m/{number}/saved_model.pb")


def test_an_image_that_another_tool_made(team: str, source: Path) -> None:
    files = {name: (source / name).read_bytes() for name in ("saved_model.pb", "assets/weights.bin")}
    push_image(team, tar(*((f"models/m/1/{name}", data) for name, data in files.items())))
    repo = Repository(f"oci://{team}")
    assert repo.versions("m") == [1] and repo.find_manifest(ONE) is None
    (entry,) = repo.entries("m")
    assert entry.files == 2 and entry.size == sum(map(len, files.values())) and entry.digest is None
    with repo.store.open("m/1/assets/weights.bin") as file:
        assert file.read() == files["assets/weights.bin"]


def test_a_moved_tag_changes_nothing_that_was_read(team: str, source: Path) -> None:
    repo = Repository(f"oci://{team}")
    published = repo.publish(source, "m")
    reference, _ = repo.store.reference(ONE), repo.verify(ONE)
    push_image(team, tar(("models/m/1/saved_model.pb", b"theirs")))
    assert repo.verify(ONE) == published.manifest
    assert repo.store.reference(ONE) != reference


# -- what belongs to a version

KIND = "application/vnd.dev.sigstore.bundle.v0.3+json"


def subject_of(team: str) -> tuple[Remote, Descriptor]:
    host, _, name = team.partition("/")
    remote = Remote(Registry(host), f"{name}/m")
    return remote, remote.manifest("1").descriptor


def test_what_is_attached_where_no_registry_lists_it(team: str, source: Path) -> None:
    """Under OCI's tag, which other clients read, and each under a tag of its own."""
    repo = Repository(f"oci://{team}")
    repo.publish(source, "m")
    remote, subject = subject_of(team)
    assert referrers.attached(remote, subject, {KIND}) == []
    for text in (b"first", b"second", b"first"):
        referrers.attach(remote, subject, KIND, text)
    referrers.attach(remote, subject, "text/other", b"other")
    assert [there.data for there in referrers.attached(remote, subject, {KIND})] == [b"first", b"second"]
    index = manifest_of(team, f"m:{subject.digest.replace(':', '-')}")
    assert [entry["artifactType"] for entry in index["manifests"]].count(KIND) == 2
    artifact = manifest_of(team, f"m:{index['manifests'][0]['digest']}")
    assert artifact["subject"]["digest"] == subject.digest and artifact["layers"][0]["size"] < 10
    assert repo.versions("m") == [1] and [item.name for item in repo.store.list("m")] == ["m/1/"]
    referrers.remove(remote, subject)
    assert referrers.attached(remote, subject, {KIND, "text/other"}) == [] and repo.verify(ONE)


def test_nothing_is_lost_of_what_many_attach(team: str, source: Path) -> None:
    Repository(f"oci://{team}").publish(source, "m")
    _, subject = subject_of(team)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: referrers.attach(subject_of(team)[0], subject, KIND, b"%d" % n), range(6)))
    assert {there.data for there in referrers.attached(subject_of(team)[0], subject, {KIND})} == {
        b"%d" % n for n in range(6)}


def test_a_registry_that_lists_referrers(team: str, source: Path) -> None:
    """docker-registry with what OCI 1.1 adds, put in front of it."""
    host, _, name = team.partition("/")
    Repository(f"oci://{team}").publish(source, "m")
    listed: list[dict[str, object]] = []

    def answer(method: str, path: str) -> Fault | None:
        if "/referrers/" in path:
            return Fault(status=200, body=json.dumps({"manifests": listed}).encode())
        if method == "PUT" and "/manifests/sha256:" in path:
            digest = path.rpartition("/")[2]
            listed.append({"mediaType": MANIFEST, "digest": digest, "size": 1, "artifactType": KIND})
            return Fault(add=(("OCI-Subject", subject.digest),))
        return None

    _, subject = subject_of(team)
    with front(host, answer) as address:
        remote, _ = subject_of(f"{address}/{name}")
        for text in (b"first", b"second"):
            referrers.attach(remote, subject, KIND, text)
        assert [there.data for there in referrers.attached(remote, subject, {KIND})] == [b"first", b"second"]
        assert not [tag for tag in remote.tags() if tag.startswith("sha256-")]


# -- server images put together in a registry

def push_base(team: str, *, tag: str = "1", platforms: bool = False) -> str:
    """A server's image, as small as can be; returns its name."""
    host, _, name = team.partition("/")
    remote = Remote(Registry(host), f"{name}/base")
    layer = tar(("usr/bin/tensorflow_model_server", b"#!/bin/sh"))
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
              "config": {"Env": ["PATH=/usr/bin", "HOME=/root"], "Labels": {"theirs": "1"}, "Cmd": ["/bin/bash"]},
              "history": [{"created_by": "theirs"}]}
    blobs = [(json.dumps(config).encode(), "application/vnd.docker.container.image.v1+json"),
             (layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")]
    for data, kind in blobs:
        remote.push(described(data, kind), lambda data=data: io.BytesIO(data))
    manifest = artifact(described(*blobs[0]), [described(*blobs[1])], {})
    digest = described(manifest, MANIFEST)
    remote.put_manifest("plain" if platforms else tag, manifest)
    if platforms:
        entries = [{**digest.to_json(), "platform": {"os": "linux", "architecture": "amd64"}}]
        remote.put_manifest(tag, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(),
                            INDEX)
    return f"{team}/base:{tag}"


@pytest.mark.parametrize("platforms", [False, True], ids=["image", "index"])
def test_a_server_image_without_an_engine(team: str, source: Path, tmp_path: Path, platforms: bool,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "serving.yaml").write_text("models: [{name: m, versions: all}]\nserver: {backend: container}\n")
    here, base = Repository(tmp_path / "models"), push_base(team, platforms=platforms)
    here.publish(source, "m")
    Repository(f"oci://{team}").publish(tmp_path / "models/m/1", "m", 1)
    tag = f"{team}/server:2026-11"

    def push(name: str) -> dict[str, Any]:
        arguments = ["image", "push", "--spec", str(tmp_path / "serving.yaml"), "--tag", name, "--image", base]
        assert run([*arguments, "--no-smoke", "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    pushed = push(tag)
    assert pushed["tag"] == tag and list(pushed["models"]) == ["m/1"] and pushed["smoked"] is False
    fields = manifest_of(team, "server:2026-11")
    config = json.loads(blob_of(team, fields["config"]["digest"], "server"))
    assert [layer["mediaType"] for layer in fields["layers"]] == [f"{LAYER}+gzip", LAYER, LAYER, LAYER]
    assert fields["layers"][1] == manifest_of(team)["layers"][0]  # the version's own
    assert config["rootfs"]["diff_ids"][1:] == [layer["digest"] for layer in fields["layers"][1:]]
    with tarfile.open(fileobj=io.BytesIO(blob_of(team, fields["layers"][3]["digest"], "server"))) as archive:
        assert [m.name for m in archive if m.isreg()] == ["etc/tfs/models.config"]
    own = config["config"]
    assert own["Env"] == ["PATH=/usr/bin", "HOME=/tmp"] and own["User"] == "65534:65534"
    assert own["Entrypoint"][0] == "/bin/sh" and "--model_config_file=/etc/tfs/models.config" in own["Cmd"]
    assert own["Labels"]["theirs"] == "1" and json.loads(own["Labels"]["org.tfs-deploy.models"]) == pushed["models"]
    assert own["Labels"]["org.tfs-deploy.base"] == base and "@sha256:" in own["Labels"]["org.tfs-deploy.base.digest"]
    assert len(config["history"]) == 4
    assert push(f"{team}/server:again")["digest"] == pushed["digest"]  # the same parts are the same image
    here.publish(source, "m")
    push(f"{team}/server:2026-12")
    assert manifest_of(team, "server:2026-12")["layers"][:3] == fields["layers"][:3]


def test_a_server_image_of_versions_in_the_registry(team: str, source: Path, tmp_path: Path) -> None:
    """They are mirrored first, and go up again as the layers that they came from."""
    Repository(f"oci://{team}").publish(source, "m", 3)
    (tmp_path / "serving.yaml").write_text(f"repository: oci://{team}\nmodels: [{{name: m, versions: all}}]\n"
                                           "server: {backend: container}\n")
    serving.push_image(load_spec(tmp_path / "serving.yaml"), f"{team}/server:1", base_image=push_base(team))
    assert manifest_of(team, "server:1")["layers"][1:3] == manifest_of(team, "m:3")["layers"]


def test_a_signature_goes_with_an_image_and_a_server_image_wants_it(team: str, source: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    Repository(f"oci://{team}").publish(source, "m", 3)
    pair, base = key_pair(tmp_path), push_base(team)
    (tmp_path / "serving.yaml").write_text(
        f"repository: oci://{team}\nmodels: [{{name: m, versions: all}}]\nsigned_by: [{pair.public.name}]\n"
        "server: {backend: container}\n")
    wanted = load_spec(tmp_path / "serving.yaml")
    with pytest.raises(Untrusted, match="m/3"):
        serving.push_image(wanted, f"{team}/server:1", base_image=base)
    assert run(["sign", "m/3", "--key", str(pair.key), "--repository", f"oci://{team}"]) == 0
    assert run(["verify", "m/3", "--key", str(pair.public), "--repository", f"oci://{team}"]) == 0
    assert "m/3 is as signed by the key" in capsys.readouterr().out
    serving.push_image(wanted, f"{team}/server:1", base_image=base)
    assert manifest_of(team, "server:1")["layers"][1] == manifest_of(team, "m:3")["layers"][0]


def test_a_base_of_another_registry_is_copied(team: str, source: Path, tmp_path: Path) -> None:
    base = push_base(team)
    (tmp_path / "serving.yaml").write_text("models: [{name: m, versions: all}]\nserver: {backend: container}\n")
    Repository(tmp_path / "models").publish(source, "m")
    with docker_registry(tmp_path) as other:
        serving.push_image(load_spec(tmp_path / "serving.yaml"), f"{other}/server:1", base_image=base)
        assert Repository(f"oci://{other}").models() == ["server"]


@pytest.mark.parametrize(("tag", "base", "message"), [
    ("Team/Server:1", "HOST/base:1", "'Team/Server:1' can't be an image's name"),
    ("HOST/server:1", "HOST/nothing:1", "there is no image .*/nothing:1"),
    ("HOST/server:1", "HOST/m:1", "m:1 isn't an image that runs"),
])
def test_server_images_that_cant_be(team: str, source: Path, tmp_path: Path, tag: str, base: str, message: str) -> None:
    (tmp_path / "serving.yaml").write_text("models: [{name: m, versions: all}]\nserver: {backend: container}\n")
    Repository(tmp_path / "models").publish(source, "m")
    push_image(team, b"x")
    with pytest.raises(DeployError, match=message):
        serving.push_image(load_spec(tmp_path / "serving.yaml"), tag.replace("HOST", team),
                           base_image=base.replace("HOST", team))


# -- on the command line

def test_verbs_take_a_registry(team: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"oci://{team}"
    for arguments, text in ((["publish", str(source), "--name", "m"], f"published m/1 at {address}/m/1"),
                            (["repository", "list"], "m "), (["repository", "list", "m"], "m "),
                            (["repository", "verify"], "m/1 is as published"),
                            (["repository", "clean"], "nothing to clean")):
        assert run([*arguments, "--repository", address]) == 0
        assert text in capsys.readouterr().out
    assert run(["publish", str(source), "--name", "M", "--repository", address]) == 4
    assert "names are in lower case" in capsys.readouterr().err


def test_other_tools_read_it(team: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """skopeo, which Podman and CRI-O are built of: it compares every digest, and every layer with the config."""
    skopeo = program("skopeo", "apt-get install skopeo")
    for number, kind in ((1, "image"), (2, "modelpack")):
        monkeypatch.setenv("TFS_OCI_MEDIA_TYPES", kind)
        Repository(f"oci://{team}").publish(source, "m", number)
        layout = tmp_path / kind
        subprocess.run([skopeo, "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--preserve-digests",
                        f"docker://{team}/m:{number}", f"oci:{layout}:m"], check=True, capture_output=True, timeout=60)
        (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
        manifest = json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_bytes())
        assert manifest == manifest_of(team, f"m:{number}")


def test_a_copy_that_was_compressed_on_the_way(team: str) -> None:
    """As skopeo does unless it is told not to: the annotations stay, the layers don't."""
    push_image(team, b"x", b"y", media_type=f"{LAYER}+gzip", annotations={"org.tfs-deploy.format": "1"})
    with pytest.raises(RepositoryError, match=r"tar\+gzip, and files are read out of plain tars.*--preserve-digests"):
        Repository(f"oci://{team}").verify(ONE)
