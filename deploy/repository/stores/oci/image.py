"""What an image of a version is made of. Pure: nothing is sent, nothing asked.

    config    architecture and os of an image that anybody may mount; no command
    layer 1   an uncompressed tar of the files, below models/<name>/<version>/: sorted, owned by root, of 1970, so that
              the same files give the same digest, and any file can be read by its offset
    layer 2   the same of the version's manifest, which names the time of publishing: apart, so that layer 1 stays equal
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from deploy.errors import Malformed, RepositoryError
from deploy.repository import naming
from deploy.repository.manifest import Manifest
from deploy.repository.survey import Survey
from deploy.types import ModelVersion

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LABEL = "org.tfs-deploy"
FORMAT, DIGEST, CONTRACT = f"{LABEL}.format", f"{LABEL}.digest", f"{LABEL}.contract"
CREATED = "org.opencontainers.image.created"
_MOST_CONTRACT = 64 << 10  # bytes of a contract that fits an annotation: registries take manifests of 4 MB
_MODE_FILE, _MODE_DIRECTORY = 0o644, 0o755
_PIECE = 1 << 20
_MOST_LAYERS = 200


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """What the parts of an image are called. artifact: None for an image that engines run and mount."""

    config: str
    files: str
    manifest: str
    artifact: str | None = None


IMAGE = MediaTypes("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar",
                   "application/vnd.oci.image.layer.v1.tar")
MODELPACK = MediaTypes("application/vnd.cncf.model.config.v1+json", "application/vnd.cncf.model.weight.v1.tar",
                       "application/vnd.cncf.model.weight.config.v1.tar", "application/vnd.cncf.model.manifest.v1+json")
LAYERS = {IMAGE.files, MODELPACK.files, MODELPACK.manifest, "application/vnd.docker.image.rootfs.diff.tar",
          "application/vnd.cncf.model.doc.v1.tar", "application/vnd.cncf.model.code.v1.tar"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob: what it is, `sha256:<hex>`, bytes."""

    media_type: str
    digest: str
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a layer. name: inside the version. header: what stands before its bytes. start: of the header."""

    name: str
    size: int
    header: bytes
    start: int

    @property
    def offset(self) -> int:
        """Of its bytes."""
        return self.start + len(self.header)

    @property
    def end(self) -> int:
        """Of what is filled up to whole blocks."""
        return self.offset + self.size + -self.size % tarfile.BLOCKSIZE


class Layer:
    """A tar of some files. below: the directory that they are in. sizes: by their names in it."""

    def __init__(self, below: str, sizes: Mapping[str, int]) -> None:
        parents = {parent for name in sizes for parent in PurePosixPath(below, name).parents if parent.name}
        directories = b"".join(_header(str(parent), 0, directory=True) for parent in sorted(parents))
        self.members: dict[str, Member] = {}
        self._head, end = directories, len(directories)
        for name in sorted(sizes):
            member = Member(name, sizes[name], _header(f"{below}/{name}", sizes[name]), end)
            self.members[name], end = member, member.end
        self.size = end + 2 * tarfile.BLOCKSIZE

    def pieces(self, open_file: Callable[[str], BinaryIO]) -> Iterator[bytes]:
        """Its bytes. Raises RepositoryError for a file that hasn't the size that it had."""
        yield self._head
        for member in self.members.values():
            yield member.header
            left = member.size
            with open_file(member.name) as file:
                while left and (piece := file.read(min(left, _PIECE))):
                    left -= len(piece)
                    yield piece
            if left:
                raise RepositoryError(f"{member.name} changed while it was read", hint="publish it again")
            yield b"\0" * (member.end - member.offset - member.size)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)

    def descriptor(self, media_type: str, open_file: Callable[[str], BinaryIO]) -> Descriptor:
        """What it is called, from one reading of all of it."""
        digest = hashlib.sha256()
        for piece in self.pieces(open_file):
            digest.update(piece)
        return Descriptor(media_type, f"sha256:{digest.hexdigest()}", self.size)


def _header(path: str, size: int, *, directory: bool = False) -> bytes:
    info = tarfile.TarInfo(path + "/" if directory else path)
    info.type, info.mode = (tarfile.DIRTYPE, _MODE_DIRECTORY) if directory else (tarfile.REGTYPE, _MODE_FILE)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


class Pieces(io.RawIOBase):
    """Pieces of bytes as a file, for what reads one."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def as_file(pieces: Iterable[bytes]) -> BinaryIO:
    """See Pieces."""
    return cast("BinaryIO", Pieces(pieces))


def manifest_layer(manifest: Manifest) -> tuple[Layer, bytes]:
    """Layer 2, and the one file that is in it."""
    text = manifest.to_bytes()
    return Layer(version_path(manifest.model_version), {naming.MANIFEST_FILE: len(text)}), text


def files_layer(manifest: Manifest) -> Layer:
    """Layer 1: where everything lies in it follows from the manifest."""
    return Layer(version_path(manifest.model_version), {name: record.size for name, record in manifest.files.items()})


def version_path(mv: ModelVersion) -> str:
    """Where a version is in an image."""
    return f"models/{mv.name}/{mv.version}"


def config(manifest: Manifest, layers: tuple[Descriptor, ...], types: MediaTypes) -> bytes:
    """The image's config."""
    digests = [layer.digest for layer in layers]  # of what isn't compressed, and so their own
    if types.artifact:
        mv = manifest.model_version
        return to_bytes({
            "descriptor": {"name": mv.name, "version": str(mv.version), "createdAt": manifest.created},
            "config": {"format": "saved_model"}, "modelfs": {"type": "layers", "diffIds": digests}})
    return to_bytes({"architecture": "amd64", "os": "linux", "created": manifest.created, "config": {},
                     "rootfs": {"type": "layers", "diff_ids": digests}})


def image_manifest(manifest: Manifest, config: Descriptor, layers: tuple[Descriptor, ...], types: MediaTypes) -> bytes:
    """The image itself, whose digest is the version's in the registry."""
    mv, contract = manifest.model_version, json.dumps(manifest.contract.to_json(), sort_keys=True)
    annotations = {FORMAT: "1", DIGEST: manifest.digest, CREATED: manifest.created,
                   "org.opencontainers.image.title": mv.name, "org.opencontainers.image.version": str(mv.version),
                   **({CONTRACT: contract} if len(contract) <= _MOST_CONTRACT else {})}
    return artifact(config, layers, annotations, types.artifact)


def artifact(config: Descriptor, layers: Iterable[Descriptor], annotations: Mapping[str, str],
             artifact_type: str | None = None, subject: Descriptor | None = None) -> bytes:
    """An OCI image manifest."""
    return to_bytes({
        "schemaVersion": 2, "mediaType": MANIFEST, **({"artifactType": artifact_type} if artifact_type else {}),
        "config": config.to_json(), "layers": [layer.to_json() for layer in layers],
        **({"subject": subject.to_json()} if subject else {}), "annotations": dict(annotations)})


def to_bytes(data: object) -> bytes:
    """JSON, the same bytes for the same values."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def described(data: bytes, media_type: str) -> Descriptor:
    """The descriptor of bytes that are at hand."""
    return Descriptor(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def opener(tree: Path) -> Callable[[str], BinaryIO]:
    """The files of a directory by their names."""
    return lambda name: (tree / name).open("rb", buffering=0)


def survey_opener(source: Survey) -> Callable[[str], BinaryIO]:
    """What was surveyed by its names."""
    found = {file.name: Path(file.path) for file in source.files}
    return lambda name: found[name].open("rb", buffering=0)


def from_bytes(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError."""
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError("no object")
    return data


def layers(fields: Mapping[str, Any], where: str) -> list[Descriptor]:
    """The layers that a manifest names. Raises Malformed."""
    try:
        layers = [Descriptor(str(layer["mediaType"]), str(layer["digest"]), int(layer["size"]))
                  for layer in fields["layers"]]
    except (LookupError, TypeError, ValueError) as error:
        raise Malformed(f"{where} isn't an image: its manifest has no readable layers",
                        hint="look what was pushed there") from error
    if len(layers) > _MOST_LAYERS or any(layer.size < 0 for layer in layers):
        raise Malformed(f"{where} has {len(layers)} layers, or layers of less than nothing", hint="push it again")
    return layers
