"""Images put together in a registry, without an engine: another one's layers, and files on top, each set a layer.

Layers are the same bytes for the same files, so that what another image of the repository has isn't sent again; those
of versions are the layers of the versions' own images.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from deploy.errors import Malformed, RepositoryError, SpecError
from deploy.repository import naming
from deploy.repository.failures import translated
from deploy.repository.manifest import read_manifest
from deploy.repository.stores.oci import image
from deploy.repository.stores.oci.credentials import DOCKER_HUB
from deploy.repository.stores.oci.image import IMAGE, Descriptor, Layer
from deploy.repository.stores.oci.registry import Registry
from deploy.repository.stores.oci.remote import Fetched, Remote
from deploy.repository.survey import survey

_REFERENCE = re.compile(r"(?P<name>[^@:]+(?::\d+/[^@:]+)?)"
                        r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?", re.ASCII)
_OCI_OF = {"application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
           "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar"}


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`registry/name:tag`, `registry/name@sha256:...`. reference: the tag or digest."""

    remote: Remote
    reference: str

    def __str__(self) -> str:
        return f"{self.remote}{'@' if self.reference.startswith('sha256:') else ':'}{self.reference}"

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Raises SpecError. As engines read it: without a registry it is Docker Hub's, without a tag `latest`."""
        match = _REFERENCE.fullmatch(text)
        host, slash, name = match["name"].partition("/") if match else ("", "", "")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            host, name = DOCKER_HUB, match["name"] if match else ""
        if match is None or not Remote.allowed(name):
            raise SpecError(f"{text!r} can't be an image's name",
                            hint="write registry/name:tag, the name in lower case")
        return cls(Remote(Registry(host), name), match["digest"] or match["tag"] or "latest")


@dataclass(frozen=True, slots=True)
class Content:
    """Files that are to be one layer. opened: the bytes of each."""

    layer: Layer
    opened: Callable[[str], BinaryIO]


def of_texts(below: str, texts: Mapping[str, bytes]) -> Content:
    """Files whose bytes are at hand."""
    layer = Layer(below, {name: len(text) for name, text in texts.items()})
    return Content(layer, lambda name: io.BytesIO(texts[name]))


def of_version(directory: Path, below: str) -> list[Content]:
    """A version in a directory: its files, and its manifest if it has one, as its own image has them.

    Raises RepositoryError.
    """
    with translated("read the version", directory):
        manifest = read_manifest(directory)
        if manifest is None:
            source = survey(directory)
            return [Content(Layer(below, {file.name: file.size for file in source.files}), image.survey_opener(source))]
        opened, size = image.opener(directory), (directory / naming.MANIFEST_FILE).stat().st_size
    return [Content(Layer(below, {name: record.size for name, record in manifest.files.items()}), opened),
            Content(Layer(below, {naming.MANIFEST_FILE: size}), opened)]


def assemble(base: ImageReference, target: Remote, contents: Sequence[Content], settings: Mapping[str, Any]) -> bytes:
    """Have all blobs of the image in `target`; returns its manifest, which has no tag yet.

    settings: what its config says otherwise than the base's: Entrypoint, Cmd, User; Env, Labels and ExposedPorts are
    added. Raises RepositoryError.
    """
    with translated(f"put an image together on {base}", str(target)):
        fetched = _of_platform(base)
        fields, below = _config(base, fetched), image.layers(fetched.fields, str(base))
        for layer in below:
            target.borrow(layer, base.remote)
        own = [_pushed(target, content) for content in contents]
        layers = [Descriptor(_OCI_OF.get(layer.media_type, layer.media_type), layer.digest, layer.size)
                  for layer in below]
        config = image.to_bytes(_changed(fields, own, settings))
        described = image.described(config, IMAGE.config)
        target.push(described, lambda: io.BytesIO(config))
        return image.artifact(described, [*layers, *own], {})


def keep(target: Remote, manifest: bytes) -> str:
    """Have an assembled image in the registry by its digest only; returns `registry/name@sha256:...`."""
    digest = image.described(manifest, image.MANIFEST).digest
    with translated(f"push {target}@{digest}", str(target)):
        target.put_manifest(digest, manifest)
    return f"{target}@{digest}"


def pinned(base: ImageReference) -> str:
    """What an image's name stands for now: `registry/name@sha256:...`. Raises RepositoryError."""
    with translated(f"look for {base}", str(base.remote)):
        return f"{base.remote}@{_of_platform(base).descriptor.digest}"


def tag(target: ImageReference, manifest: bytes) -> str:
    """Give an assembled image its name; returns its digest. Raises RepositoryError."""
    with translated(f"tag {target}", str(target.remote)):
        target.remote.put_manifest(target.reference, manifest)
    return image.described(manifest, image.MANIFEST).digest


def _of_platform(base: ImageReference) -> Fetched:
    """The base itself, or of several platforms linux/amd64."""
    try:
        fetched = base.remote.manifest(base.reference)
    except FileNotFoundError:
        raise RepositoryError(f"there is no image {base}", hint="push it there, or name another base") from None
    entries = fetched.fields.get("manifests")
    if not isinstance(entries, list):
        return fetched
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return base.remote.manifest(str(entry.get("digest")))
    raise RepositoryError(f"{base} has no image for linux/amd64", hint="name another base")


def _config(base: ImageReference, fetched: Fetched) -> dict[str, Any]:
    try:
        given = fetched.fields["config"]
        text = base.remote.blob(Descriptor(str(given["mediaType"]), str(given["digest"]), int(given["size"])))
        config = image.from_bytes(text)
        list(config["rootfs"]["diff_ids"])
    except (LookupError, TypeError, ValueError) as error:
        raise Malformed(f"{base} isn't an image that runs: it has no config with layers",
                        hint="name a serving image as the base") from error
    return config


def _pushed(target: Remote, content: Content) -> Descriptor:
    layer = content.layer.descriptor(IMAGE.files, content.opened)
    target.push(layer, lambda: image.as_file(content.layer.pieces(content.opened)))
    return layer


def _changed(base: Mapping[str, Any], layers: Sequence[Descriptor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The base's config with ours. The time stays the base's, so that the same parts make the same image."""
    before = dict(base.get("config") or {})
    names = {entry.partition("=")[0] for entry in settings.get("Env", ())}
    env = [entry for entry in before.get("Env") or () if entry.partition("=")[0] not in names]
    own = {**before, **settings, "Env": [*env, *settings.get("Env", ())],
           **{key: {**(before.get(key) or {}), **settings.get(key, {})} for key in ("Labels", "ExposedPorts")}}
    digests = [*base["rootfs"]["diff_ids"], *(layer.digest for layer in layers)]
    return {**base, "config": own, "rootfs": {"type": "layers", "diff_ids": digests},
            "history": [*(base.get("history") or ()), *({"created_by": "tfs image push"} for _ in layers)]}
