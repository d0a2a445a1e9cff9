"""Server images put together in a registry: no engine builds them, and their layers are those of versions' images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.backends import images
from deploy.backends.base import Progress, silent
from deploy.backends.container import ContainerBackend
from deploy.backends.engine import engine_of
from deploy.errors import SpecError
from deploy.repository.stores.oci import assembly
from deploy.repository.stores.oci.assembly import ImageReference
from deploy.serving import image_build
from deploy.serving.image_build import BASE_DIGEST_LABEL, BASE_LABEL, MODELS_LABEL, Smoke
from deploy.serving.release_flags import check_release
from deploy.serving.resolving import wanted
from deploy.serving.snapshot import Connect
from deploy.serving.snapshot import connect as connect_to
from deploy.spec import Spec

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class PushedImage:
    """A tagged image in a registry. digest: what to run instead of the tag: name@digest.

    models: `name/version` -> digest of its files, as in the image's label org.tfs-deploy.models.
    """

    tag: str
    digest: str
    models: dict[str, str]
    smoked: bool

    def to_json(self) -> dict[str, Any]:
        return {"tag": self.tag, "digest": self.digest, "models": self.models, "smoked": self.smoked}


def push_image(spec: Spec, tag: str, *, base_image: str | None = None, smoke: Smoke | None = None,
               progress: Progress | None = None, connect: Connect = connect_to) -> PushedImage:
    """Put the versions that the spec wants now on top of a serving image, in the registry that `tag` names, and tag it.

    base_image: in a registry; the spec's image by default. smoke: raises if what is served isn't right; an engine pulls
    the image by its digest and starts it before it gets its tag. None: no engine is needed.

    Raises SpecError, RepositoryError, and what `build_image` raises. Then there is no tag.
    """
    progress = progress or silent
    target, base = ImageReference.parse(tag), ImageReference.parse(base_image or spec.server.image)
    if spec.server.tls:
        raise SpecError("a private key doesn't belong into an image", path="server/tls",
                        hint="push it without, and run the image with a mounted file: --ssl_config_file=...")
    check_release(spec, ContainerBackend(), base_image or spec.server.image)
    models = wanted(spec, progress)
    image_build.verify_versions(spec, models)
    inside = image_build.contents(spec, models)
    digests = {name: _digest(path) for name, path in inside.trees.items()}
    layers = [content for name, path in inside.trees.items()
              for content in assembly.of_version(path, f"models/{name}")]
    layers.append(assembly.of_texts("etc/tfs", {name: text.encode() for name, text in inside.configs.items()}))
    labels = {MODELS_LABEL: json.dumps(digests), **inside.labels, BASE_LABEL: str(base),
              BASE_DIGEST_LABEL: assembly.pinned(base)}
    progress(f"putting {target} together on {base}")
    manifest = assembly.assemble(base, target.remote, layers, images.serving_settings(inside.flags, labels))
    if smoke is not None:
        engine, image = engine_of(spec), assembly.keep(target.remote, manifest)
        engine.require_image(image, progress)
        try:
            image_build.try_out(spec, image, models, engine=engine, smoke=smoke, progress=progress, connect=connect)
        finally:
            images.remove(engine, image)
    return PushedImage(str(target), assembly.tag(target, manifest), digests, smoke is not None)


def _digest(tree: Path) -> str:
    """As `build_image` computes it on the way to the engine."""
    digests = {}
    for name, source in images.files_below(tree, "version").items():
        digest = hashlib.sha256()
        assert isinstance(source, Path)
        with source.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        digests[name] = digest.hexdigest()
    return images.tree_digest(digests, "version")
