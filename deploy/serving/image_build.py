"""Images that carry their models and configuration: immutable releases, tagged only once they are verified."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from deploy import render
from deploy.backends import images
from deploy.backends.base import LABEL, Progress, silent
from deploy.backends.container import ContainerBackend
from deploy.backends.engine import Engine, engine_of
from deploy.backends.engine import connect as connect_engine
from deploy.errors import ServerError, SpecError
from deploy.repository import versions_of
from deploy.serving import startup
from deploy.serving.planning import CONFIG_LABEL, digest
from deploy.serving.release_flags import check_release
from deploy.serving.resolving import ResolvedModel, wanted
from deploy.serving.snapshot import Connect, connected
from deploy.serving.snapshot import connect as connect_to
from deploy.spec import Spec
from deploy.types import Endpoint, Specific
from deploy.waiting import Deadline

MODELS_LABEL = f"{LABEL}.models"
BASE_LABEL, BASE_DIGEST_LABEL = f"{LABEL}.base", f"{LABEL}.base.digest"
# In the official images, and so in all that are built on them
_OFFICIAL_LABEL = "tensorflow_serving_github_branchtag"
Smoke = Callable[[Endpoint], object]


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A tagged image. models: `name/version` -> digest of its files, as in the image's label org.tfs-deploy.models."""

    tag: str
    id: str
    models: Mapping[str, str]
    smoked: bool

    def to_json(self) -> dict[str, Any]:
        return {"tag": self.tag, "id": self.id, "models": dict(self.models), "smoked": self.smoked}


def build_image(spec: Spec, tag: str, *, base_image: str | None = None, smoke: Smoke | None = None,
                progress: Progress | None = None, connect: Connect = connect_to) -> BuiltImage:
    """Bake the versions that the spec wants now into a serving image, start it, verify it, and then tag it.

    base_image: the spec's image by default. smoke: raises if what is served isn't right.
    Versions with a manifest are verified against it first. Without success there is neither tag nor image.

    Raises SpecError, RepositoryError, BackendMissing, StartFailed, NotReady, ServerError, or whatever `smoke` raises.
    """
    progress = progress or silent
    images.check_image_name(tag)
    if spec.server.tls:
        raise SpecError("a private key doesn't belong into an image", path="server/tls",
                        hint="bake without it, and run the image with a mounted file: --ssl_config_file=...",
                        id="key-in-image")
    base = base_image or spec.server.image
    check_release(spec, ContainerBackend(), base)
    models = wanted(spec, progress)
    verify_versions(spec, models)
    engine = engine_of(spec)
    engine.require_image(base, progress)
    bases = {BASE_LABEL: base_of(base, engine) or base, BASE_DIGEST_LABEL: engine.pinned(base)}
    image = images.build(engine, _context(spec, models, bases), build_args={"BASE_IMAGE": base}, progress=progress)
    try:
        try_out(spec, image, models, engine=engine, smoke=smoke, progress=progress, connect=connect)
        images.tag(engine, image, tag)
    except BaseException:
        images.discard(engine, image)
        raise
    digests = json.loads(images.labels(engine, image)[MODELS_LABEL])
    return BuiltImage(tag, image, digests, smoke is not None)


def base_of(image: str, engine: Engine | None = None) -> str | None:
    """The serving image that an image was built on, as its labels say; None if they don't, or without an engine.

    An image of ours is called like its models, which says nothing of the server in it.
    """
    try:
        engine = engine or connect_engine()
        labels = images.labels(engine, image) if engine.has_image(image) else {}
    except ServerError:
        return None
    release = labels.get(_OFFICIAL_LABEL, "").removeprefix("r")
    return labels.get(BASE_LABEL) or (f"tensorflow/serving:{release}" if release else None)


def verify_versions(spec: Spec, models: tuple[ResolvedModel, ...]) -> None:
    """Raises RepositoryError unless every byte of them is as published."""
    by_name = {model.name: versions_of(model) for model in spec.models}
    for model in models:
        for version in model.versions:
            by_name[model.name].version(version).check()


@dataclass(frozen=True, slots=True)
class ImageContents:
    """What goes into an image. configs: by their names in /etc/tfs. trees: `name/version` -> directory, oldest first.

    labels: but for the digests of models, which whoever reads the files adds.
    """

    configs: Mapping[str, str]
    trees: Mapping[str, Path]
    flags: Sequence[str]
    labels: Mapping[str, str]


def contents(spec: Spec, models: tuple[ResolvedModel, ...]) -> ImageContents:
    """Pinned to the versions of now, whatever the spec's policy is."""
    by_name = {m.name: m for m in models}
    served = tuple(replace(m, versions=Specific(tuple(by_name[m.name].paths))) for m in spec.models)
    pinned = msgspec.structs.replace(spec, models=served)
    backend = ContainerBackend()
    trees = {f"{m.name}/{v}": path for m in models for v, path in m.paths.items()}
    return ImageContents(render.files(pinned, backend.layout(pinned)),
                         {name: trees[name] for name in sorted(trees, key=_oldest_first)}, backend.flags(pinned),
                         {CONFIG_LABEL: digest(pinned), f"{LABEL}.spec": spec.name})


def _context(spec: Spec, models: tuple[ResolvedModel, ...], bases: Mapping[str, str]) -> Iterator[bytes]:
    inside = contents(spec, models)
    files: dict[str, images.Source] = {f"config/{name}": text.encode() for name, text in inside.configs.items()}
    for name, path in inside.trees.items():
        files |= images.files_below(path, f"models/{name}")

    def dockerfile(digests: Mapping[str, str]) -> str:
        model_digests = {name: images.tree_digest(digests, f"models/{name}") for name in inside.trees}
        labels = {MODELS_LABEL: json.dumps(model_digests), **inside.labels, **bases}
        return images.serving_dockerfile(inside.flags, labels, list(inside.trees))

    return images.context(files, dockerfile)


def _oldest_first(version: str) -> tuple[str, int]:
    """The order of layers: the longer a version is there, the more releases have the same layers up to it."""
    name, _, number = version.rpartition("/")
    return name, int(number)


def try_out(spec: Spec, image: str, models: tuple[ResolvedModel, ...], *, engine: Engine, smoke: Smoke | None,
            progress: Progress, connect: Connect) -> None:
    """Start the image as it is, with nothing mounted, on free ports; wait until it is ready; ask the smoke test."""
    with ContainerBackend().trial(spec, image, engine, progress) as server:
        with connected(connect, server.endpoint) as controls:
            startup.wait(server, controls, models, Deadline(spec.server.start_timeout), progress)
        if smoke is not None:
            progress("smoke-testing the image")
            smoke(server.endpoint)
