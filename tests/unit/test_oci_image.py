"""Layers of images: tars whose bytes follow from names and sizes, so that any file is found by its offset."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import Malformed, RepositoryError, SpecError
from deploy.repository.manifest import FileRecord, Manifest
from deploy.repository.stores.oci import image
from deploy.repository.stores.oci.assembly import ImageReference
from deploy.repository.stores.oci.credentials import Credentials
from deploy.repository.stores.oci.image import IMAGE, MODELPACK, Descriptor, Layer
from deploy.repository.stores.oci.remote import Remote
from deploy.types import Contract, ModelVersion

PART = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1,
               max_size=130).filter(lambda part: part not in (".", ".."))
NAME = st.lists(PART, min_size=1, max_size=3).map("/".join)


def _a_tree(files: dict[str, bytes]) -> bool:
    """No file is another's directory."""
    return not any(other.startswith(f"{name}/") for name in files for other in files)


FILES = st.dictionaries(NAME, st.binary(max_size=2000), min_size=1, max_size=6).filter(_a_tree)


@settings(deadline=None)
@given(FILES)
def test_a_layer_is_a_tar_and_its_offsets_are_right(files: dict[str, bytes]) -> None:
    layer = Layer("models/m/3", {name: len(data) for name, data in files.items()})
    data = b"".join(layer.pieces(lambda name: io.BytesIO(files[name])))
    assert len(data) == layer.size
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        there = {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}  # type: ignore[union-attr]
    assert there == {f"models/m/3/{name}": content for name, content in files.items()}
    for name, member in layer.members.items():
        assert data[member.offset:member.offset + member.size] == files[name]
        assert data[member.start:member.offset] == member.header
    again = Layer("models/m/3", dict(reversed([(name, len(content)) for name, content in files.items()])))
    assert again.descriptor(IMAGE.files, lambda name: io.BytesIO(files[name])).digest == (
        f"sha256:{hashlib.sha256(data).hexdigest()}")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 64))
def test_pieces_are_read_as_a_file(pieces: list[bytes], size: int) -> None:
    file, read = image.as_file(pieces), b""
    while data := file.read(size):
        assert len(data) <= size
        read += data
    assert read == b"".join(pieces)


def test_a_file_beyond_what_old_tars_can_say() -> None:
    size = 9 << 30
    layer = Layer("models/m/3", {"variables": size, "x": 3})
    header = layer.members["variables"].header
    assert tarfile.TarInfo.frombuf(header[-512:], "utf-8", "strict").name == "models/m/3/variables"
    assert len(header) > 512
    assert layer.members["x"].start - layer.members["variables"].offset == size


def test_a_file_that_shrank() -> None:
    layer = Layer("models/m/3", {"x": 5})
    with pytest.raises(RepositoryError, match="x changed while it was read"):
        list(layer.pieces(lambda _: io.BytesIO(b"123")))


def test_images_and_modelpacks_of_the_same_layers() -> None:
    manifest = Manifest(ModelVersion("m", 3), {"x": FileRecord(1, "00")}, Contract({}), "2026-11-28T00:00:00+00:00")
    layers = (Descriptor(IMAGE.files, "sha256:1", 1), Descriptor(IMAGE.manifest, "sha256:2", 2))
    plain, packed = (json.loads(image.config(manifest, layers, types)) for types in (IMAGE, MODELPACK))
    assert plain["rootfs"]["diff_ids"] == packed["modelfs"]["diffIds"] == ["sha256:1", "sha256:2"]
    described = Descriptor(MODELPACK.config, "sha256:3", 3)
    fields = json.loads(image.image_manifest(manifest, described, layers, MODELPACK))
    assert fields["artifactType"] == MODELPACK.artifact
    assert fields["annotations"]["org.tfs-deploy.digest"] == manifest.digest
    assert "artifactType" not in json.loads(image.image_manifest(manifest, described, layers, IMAGE))


@pytest.mark.parametrize("fields", [
    {}, {"layers": 1}, {"layers": [{}]}, {"layers": [{"mediaType": "x", "digest": "y", "size": "z"}]},
    {"layers": [{"mediaType": "x", "digest": "y", "size": -1}]},
    {"layers": [{"mediaType": "x", "digest": "y", "size": 1}] * 201},
], ids=["none", "number", "empty", "text", "negative", "many"])
def test_manifests_that_arent_images(fields: dict[str, object]) -> None:
    with pytest.raises(Malformed, match="registry/m:1"):
        image.layers(fields, "registry/m:1")


def test_secrets_have_no_repr() -> None:
    assert "hidden" not in repr(Credentials("me", "hidden", "a file"))


@pytest.mark.parametrize(("name", "allowed"), [
    ("m", True), ("team/models/m-1", True), ("a.b", True), ("a__b", True), ("a--b", True),
    ("M", False), ("a..b", False), ("a___b", False), ("-a", False), ("a-", False), ("a//b", False), ("", False),
    ("a" * 256, False),
])
def test_names_of_repositories(name: str, allowed: bool) -> None:
    assert Remote.allowed(name) is allowed


@pytest.mark.parametrize(("text", "read"), [
    ("tensorflow/serving:2.20.0", "docker.io/tensorflow/serving:2.20.0"),
    ("debian", "docker.io/library/debian:latest"),
    ("ghcr.io/team/server", "ghcr.io/team/server:latest"),
    ("localhost:5000/server:1", "localhost:5000/server:1"),
    (f"localhost/a/b:1@sha256:{'0' * 64}", f"localhost/a/b@sha256:{'0' * 64}"),
])
def test_images_are_named_as_engines_name_them(text: str, read: str) -> None:
    assert str(ImageReference.parse(text)) == read


@pytest.mark.parametrize("text", ["", "Team/server", "a:b:c", "localhost:5000/", "a@sha256:1", "a b", "a/../b"])
def test_what_isnt_the_name_of_an_image(text: str) -> None:
    with pytest.raises(SpecError, match="can't be an image's name"):
        ImageReference.parse(text)
