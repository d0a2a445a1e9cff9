"""Where a repository is: what is an address, what is a path, and what is neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.addresses import Address, file_path, same_place
from deploy.errors import SpecError
from deploy.repository import Repository
from deploy.spec.reading import parse


@pytest.mark.parametrize(("text", "canonical"), [
    ("s3://bucket/models/", "s3://bucket/models"),
    ("S3://bucket//a///b", "s3://bucket/a/b"),
    ("gs://bucket", "gs://bucket"),
    ("az://container/x", "az://container/x"),
    ("ssh://ops@host:2222/srv/models", "ssh://ops@host:2222/srv/models"),
    ("oci://registry:5000/team/digits", "oci://registry:5000/team/digits"),
    ("oci://[::1]:5000/digits", "oci://[::1]:5000/digits"),
    ("memory:tests", "memory:tests"),
])
def test_addresses_have_one_spelling(text: str, canonical: str) -> None:
    assert str(Address.parse(text)) == canonical
    assert str(Address.parse(canonical)) == canonical


@pytest.mark.parametrize("text", ["models", "./models", "/srv/models", r"C:\models", "C:/models", "a:b", "file:/srv",
                                  "file:///srv/models", Path("s3://bucket"), "models with blanks", ""])
def test_paths_are_no_addresses(text: str | Path) -> None:
    assert Address.parse(text) is None


@pytest.mark.parametrize(("text", "expected"), [
    ("gcs://bucket/x", "write gs://"),
    ("sftp://host/x", "write ssh://"),
    ("hdfs://name/x", "copy it to a directory"),
    ("https://bucket.example/x", "can't be at https://"),
    ("s3:/bucket", "isn't a whole address"),
    ("s3:///prefix", "names no bucket"),
    ("ssh:///srv", "names no host"),
    ("s3://bucket/../other", "'..' can't be part"),
    ("s3://bucket/a%2e", "'a%2e' can't be part"),
    ("s3://bucket/x?versionId=1", "no '?'"),
    ("s3://bucket/x#y", "no '?'"),
    ("ssh://[::1/x", "ssh://[::1/x"),
])
def test_what_no_store_can_have(text: str, expected: str) -> None:
    with pytest.raises(SpecError) as refused:
        Address.parse(text, "repository")
    assert expected in str(refused.value)
    assert refused.value.path == "repository"


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(SpecError, match="holds a password") as refused:
        Address.parse("ssh://ops:hunter2@host/srv")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(("text", "path"), [("file:///srv/my%20models", "/srv/my models"), ("file:/srv", "/srv"),
                                            ("file:models", "models"), ("models", "models")])
def test_file_urls(text: str, path: str) -> None:
    assert file_path(text) == path


def test_a_file_of_another_host() -> None:
    with pytest.raises(SpecError, match="another host, 'nas'"):
        file_path("file://nas/models")


def test_a_repository_in_memory_is_one_per_name() -> None:
    one, same, other = Repository("memory:unit-a"), Repository("memory:unit-a"), Repository("memory:unit-b")
    assert one.store is same.store
    assert one.store is not other.store
    assert not one.local
    assert str(one.store) == "memory:unit-a"


def test_a_spec_reads_a_remote_repository_through_a_mirror(tmp_path: Path) -> None:
    text = "repository: s3://bucket/models\nmodels: [{name: digits, versions: latest}]\n"
    spec = parse(text, tmp_path / "serving.yaml")
    assert spec.remote == "s3://bucket/models"
    assert spec.repository.parent == tmp_path / ".tfs/.mirrors"
    assert spec.models[0].base_path == str(spec.repository / "digits")
    assert parse(f"mirror: here\n{text}", tmp_path / "serving.yaml").repository == tmp_path / "here"


def test_a_mirror_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="^mirror: .*on this machine, so nothing is mirrored"):
        parse("mirror: here\nmodels: [{name: digits, versions: latest}]\n", tmp_path / "serving.yaml")


@pytest.mark.parametrize(("text", "place"), [
    ("h:8500", "h:8500"), ("H.Example.:08500", "h.example:8500"), ("grpc://h:1/", "h:1"),
    ("localhost:1", "localhost:1"), ("127.0.0.1:1", "localhost:1"), ("[::1]:1", "localhost:1"),
    ("[0:0:0:0:0:0:0:1]:1", "localhost:1"), ("[::ffff:127.0.0.1]:1", "localhost:1"), ("0.0.0.0:1", "localhost:1"),
    ("[::]:1", "localhost:1"), ("LOCALHOST.:1", "localhost:1"), ("127.0.0.2:1", "127.0.0.2:1"),
    ("[FE80::0:1]:1", "[fe80::1]:1"), ("dns:h:1", "h:1"), ("dns:///h:1", "h:1"), ("dns://8.8.8.8/h", "h:443"),
    ("ipv4:127.0.0.1:1", "localhost:1"), ("ipv6:[::1]:1", "localhost:1"), ("ipv6:%5B::1%5D:1", "localhost:1"),
    ("unix:/run/s", "unix:/run/s"), ("unix:///run/s", "unix:/run/s"),
    ("http://h", "h:80"), ("https://h/", "h:443"), ("HTTPS://H.:443", "h:443"), ("http://[::1]:2/", "localhost:2"),
    ("http://h/a/", "h:80/a"),
])
def test_how_one_server_is_written_is_no_difference(text: str, place: str) -> None:
    assert same_place(text) == place
