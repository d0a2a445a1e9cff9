"""An image of a version that is in a registry: which files it has, and where their bytes lie.

Of ours that follows from the manifest in layer 2. Images that other tools made are read by their tars' headers, without
trust: whatever leads out of the version, isn't a file, or claims more than there is, is refused.
"""

from __future__ import annotations

import errno
import io
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO

from deploy import files
from deploy.errors import DigestMismatch, Malformed, RepositoryError
from deploy.repository import naming
from deploy.repository.manifest import Manifest
from deploy.repository.stores.oci import image
from deploy.repository.stores.oci.image import (
    CREATED,
    FORMAT,
    INDEX,
    LAYERS,
    Descriptor,
    Layer,
    Member,
    files_layer,
    version_path,
)
from deploy.repository.stores.oci.remote import Fetched, Remote
from deploy.repository.stores.ranged import open_ranged
from deploy.types import ModelVersion


@dataclass(frozen=True, slots=True)
class FileLocation:
    """Where a file's bytes are: in a layer, or at hand."""

    layer: Descriptor
    member: Member
    data: bytes | None = None


class StoredImage:
    """A version's image, by its digest, so that it stays what it is whatever happens to the tag."""

    def __init__(self, remote: Remote, mv: ModelVersion, fetched: Fetched, places: Mapping[str, FileLocation]) -> None:
        self.mv, self.descriptor = mv, fetched.descriptor
        self.annotations = _annotations(fetched)
        self.created = _seconds(self.annotations.get(CREATED, ""))
        self._remote, self._places = remote, places

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by its name inside the version, sorted."""
        return {name: self._places[name].member.size for name in sorted(self._places)}

    def open(self, name: str) -> BinaryIO:
        """Raises FileNotFoundError, DigestMismatch for a layer that isn't what the manifest says."""
        place = self._places.get(name)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, "the image has no such file", f"{self.mv}/{name}")
        if place.data is not None:
            return io.BytesIO(place.data)
        layer, member = place.layer, place.member
        known = io.BytesIO()  # the header comes with the first piece, and is compared once

        def fetch(start: int, end: int) -> bytes:
            if known.tell() or not member.header:
                return self._remote.read(layer, member.offset + start, member.offset + end)
            data = self._remote.read(layer, member.start, member.offset + end)
            if data[:len(member.header)] != member.header:
                raise DigestMismatch(f"{self.mv}: layer {layer.digest} has no {name} where the manifest says it is",
                                     hint="it was pushed by something else: publish the version again")
            known.write(b"1")
            return data[len(member.header) + start:]

        return open_ranged(member.size, fetch)


def load(remote: Remote, mv: ModelVersion, fetched: Fetched) -> StoredImage:
    """What is known of an image once its manifest is fetched. Raises Malformed, RepositoryError."""
    where, fields = f"{remote}:{mv.version}", fetched.fields
    if "manifests" in fields or fetched.descriptor.media_type == INDEX:
        raise RepositoryError(f"{where} is an index of images for several platforms, a version is one image",
                              hint="push the image of one platform under the tag")
    layers = image.layers(fields, where)
    for layer in layers:
        if layer.media_type not in LAYERS:
            raise RepositoryError(f"{where}: layer {layer.digest[:19]} is {layer.media_type}, and files are read "
                                  "out of plain tars", hint="copy it as it is (skopeo copy --preserve-digests), or "
                                  "build it with compression=uncompressed")
    if _annotations(fetched).get(FORMAT) is not None:
        return StoredImage(remote, mv, fetched, _ours(remote, mv, _annotations(fetched)[FORMAT], layers, where))
    return StoredImage(remote, mv, fetched, _foreign(remote, mv, layers, where))


def _annotations(fetched: Fetched) -> dict[str, str]:
    annotations = fetched.fields.get("annotations")
    return {str(k): str(v) for k, v in annotations.items()} if isinstance(annotations, dict) else {}


def _ours(remote: Remote, mv: ModelVersion, written: str, layers: list[Descriptor],
          where: str) -> dict[str, FileLocation]:
    if written != "1":
        raise RepositoryError(f"{where}: expected an image of format 1, seen {written[:20]!r}",
                              hint="it was pushed by a newer tfs-deploy: update this one")
    if len(layers) != 2:
        raise Malformed(f"{where} has {len(layers)} layers, a version of ours has 2", hint="publish it again")
    manifest, text = _manifest_in(remote.blob(layers[1]), mv, where)
    laid_out = files_layer(manifest)
    if manifest.model_version != mv or laid_out.size != layers[0].size:
        raise DigestMismatch(f"{where}: its layers are of {manifest.model_version} with {laid_out.size:,} bytes, "
                             f"the image says {mv} with {layers[0].size:,}",
                             hint="versions are copied between registries with their names: publish it again")
    own = Layer(version_path(mv), {naming.MANIFEST_FILE: len(text)})
    return {**{name: FileLocation(layers[0], member) for name, member in laid_out.members.items()},
            naming.MANIFEST_FILE: FileLocation(layers[1], own.members[naming.MANIFEST_FILE], text)}


def _manifest_in(data: bytes, mv: ModelVersion, where: str) -> tuple[Manifest, bytes]:
    """The manifest in layer 2, which holds nothing else, to the last byte."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            info = next(info for info in tar if not info.isdir())
            text = data[info.offset_data:info.offset_data + info.size]
    except (tarfile.TarError, StopIteration, ValueError, EOFError) as error:
        raise Malformed(f"{where}: its layer 2 isn't a tar with a manifest", hint="publish it again") from error
    manifest = Manifest.from_bytes(text, f"{where}: {naming.MANIFEST_FILE}")
    layer = Layer(version_path(mv), {naming.MANIFEST_FILE: len(text)})
    if layer.size != len(data) or b"".join(layer.pieces(lambda _: io.BytesIO(text))) != data:
        raise Malformed(f"{where}: its layer 2 holds more than the manifest of {mv}", hint="publish it again")
    return manifest, text


def _foreign(remote: Remote, mv: ModelVersion, layers: list[Descriptor], where: str) -> dict[str, FileLocation]:
    """The version's files in images of other tools: below models/<name>/<version>, or else below models."""
    places: dict[str, FileLocation] = {}
    for layer in layers:
        for info in _entries(open_ranged(layer.size, partial(remote.read, layer)), layer, where):
            name = str(PurePosixPath(info.name))
            places[name] = FileLocation(layer, Member(name, info.size, b"", info.offset_data))
            if len(places) > files.MOST_ENTRIES:
                raise Malformed(f"{where} has more than {files.MOST_ENTRIES:,} files", hint="it isn't a model's")
    for below in (f"models/{mv.name}/{mv.version}/", "models/1/", "models/"):
        version = {name.removeprefix(below): place for name, place in places.items() if name.startswith(below)}
        if "saved_model.pb" in version:
            return version
    raise RepositoryError(f"{where} has no SavedModel below /models/{mv} or /models",
                          hint="only images that hold a version are versions; push others under another tag")


def _entries(opened: BinaryIO, layer: Descriptor, where: str) -> Iterator[tarfile.TarInfo]:
    """Its regular files. Raises Malformed for whatever a version can't have."""
    try:
        with tarfile.open(fileobj=opened, mode="r:") as tar:
            for info in tar:
                if info.isdir():
                    continue
                _check_entry(info, layer, where)
                yield info
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise Malformed(f"{where}: layer {layer.digest[:19]} isn't a tar: {error}", hint="push it again") from error


def _check_entry(info: tarfile.TarInfo, layer: Descriptor, where: str) -> None:
    path = PurePosixPath(info.name)
    if files.escapes(info.name):
        what = "leads out of the image"
    elif info.issym() or info.islnk():
        what = f"is a link to {info.linkname!r}, and none is followed"
    elif info.sparse or not info.isreg():
        what = f"is {'a file with holes' if info.sparse else files.kind(_MODES.get(info.type, 0))}, no regular file"
    elif info.size < 0 or info.offset_data + info.size > layer.size:
        what = f"claims {info.size:,} bytes, and the layer has {layer.size:,}"
    elif len(path.parts) > files.DEEPEST:
        what = f"lies in more than {files.DEEPEST} directories"
    elif path.name.startswith(".wh."):
        what = "removes a file of another layer"
    else:
        return
    raise Malformed(f"{where}: {info.name[:200]!r} in layer {layer.digest[:19]} {what}",
                    hint="a version holds regular files only: build the image again")


_MODES = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


def _seconds(created: str) -> float:
    try:
        return datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
