"""Building images on the engine: the context goes there as one stream, with no second copy on disk."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import IO, cast

from deploy.backends.base import Progress, silent
from deploy.backends.engine import Engine
from deploy.backends.engine_errors import translated
from deploy.errors import BackendMissing, ServerError, SpecError

_CHUNK = 1 << 20
_ALL_MODELS = "COPY models /models\n"
_WIDTH = 100  # characters of a builder's line that are told
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
# [registry[:port]/]path[:tag], as distribution/reference has it; a digest can't be chosen
_NAME = re.compile(rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?", re.ASCII)

Source = Path | bytes
Dockerfile = Callable[[Mapping[str, str]], str]  # gets the SHA-256 of every file of the context, by path


def dockerfile_lines() -> str:
    """serving.Dockerfile without its comments."""
    text = resources.files(__package__).joinpath("serving.Dockerfile").read_text()
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def serving_dockerfile(flags: Sequence[str], labels: Mapping[str, str], versions: Sequence[str] = ()) -> str:
    """serving.Dockerfile with the server's flags and labels. versions: `name/3`, each to be a layer of its own."""
    lines = [f"LABEL {json.dumps(k)}={json.dumps(v)}" for k, v in sorted(labels.items())]
    copies = "".join(f"COPY {json.dumps([f'models/{name}', f'/models/{name}'])}\n" for name in versions)
    text = dockerfile_lines().replace(_ALL_MODELS, copies or _ALL_MODELS)
    return text + "\n".join([f"CMD {json.dumps(list(flags))}", *lines]) + "\n"


def serving_settings(flags: Sequence[str], labels: Mapping[str, str]) -> dict[str, object]:
    """What `serving_dockerfile` says, as the config of an image has it that no engine builds."""
    lines = dict[str, str]()
    for line in dockerfile_lines().replace("\\\n", "").splitlines():
        instruction, _, rest = line.partition(" ")
        lines[instruction] = rest
    return {"Entrypoint": json.loads(lines["ENTRYPOINT"]), "Cmd": list(flags), "User": lines["USER"],
            "Env": [lines["ENV"]], "ExposedPorts": {f"{port}/tcp": {} for port in lines["EXPOSE"].split()},
            "Labels": dict(labels)}


def files_below(directory: Path, target: str) -> dict[str, Source]:
    """All regular files of a directory, by their path in the context; links are followed, the order is fixed."""
    return {f"{target}/{p.relative_to(directory).as_posix()}": p
            for p in sorted(directory.rglob("*")) if p.is_file()}


def tree_digest(digests: Mapping[str, str], below: str) -> str:
    """One digest of a context directory: SHA-256 over its files' paths and digests, in order."""
    lines = (f"{digest}  {path[len(below) + 1:]}\n" for path, digest in sorted(digests.items())
             if path.startswith(f"{below}/"))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def context(files: Mapping[str, Source], dockerfile: Dockerfile) -> Iterator[bytes]:
    """A build context as a tar stream: deterministic, world-readable, each file read once.

    The Dockerfile comes last, so that it can carry the digests of what went by.
    """
    digests: dict[str, str] = {}
    for path, source in files.items():
        digest = hashlib.sha256()
        yield from _entry(path, source, digest)
        digests[path] = digest.hexdigest()
    yield from _entry("Dockerfile", dockerfile(digests).encode(), hashlib.sha256())
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _entry(path: str, source: Source, digest: hashlib._Hash) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.size = len(source) if isinstance(source, bytes) else source.stat().st_size
    info.mode = 0o755 if isinstance(source, Path) and source.stat().st_mode & 0o111 else 0o644
    yield info.tobuf(tarfile.PAX_FORMAT)
    sent = 0
    for chunk in _chunks(source):
        sent += len(chunk)
        digest.update(chunk)
        yield chunk
    if sent != info.size:
        raise ServerError(f"{path} changed while it was read: {info.size} bytes, then {sent}", id="model-changed")
    yield b"\0" * (-sent % tarfile.BLOCKSIZE)


def _chunks(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as f:
        while chunk := f.read(_CHUNK):
            yield chunk


def build(engine: Engine, stream: Iterator[bytes], *, build_args: Mapping[str, str] | None = None,
          progress: Progress = silent) -> str:
    """Build an untagged image of a context; returns its id.

    Raises BackendMissing if the base image can't be had, ServerError with the builder's last words otherwise.
    """
    output: list[str] = []
    image = ""
    body = cast("IO[bytes]", stream)  # the SDK hands it on to an HTTP client that takes any iterator
    with translated("build the image", engine.where):
        for line in engine.client.api.build(fileobj=body, custom_context=True, rm=True, forcerm=True, decode=True,
                                            buildargs=dict(build_args or {})):
            if "error" in line:
                raise ServerError(f"can't build the image: {line['error']}", logs="\n".join(output[-20:]),
                                  id="image-build")
            if text := str(line.get("stream", "")).strip():
                output.append(text)
                if text.startswith("Step "):  # the rest is ids of layers
                    progress(f"building: {text[:_WIDTH]}")
            image = line.get("aux", {}).get("ID", image)
    if not image:
        raise ServerError("the builder ended without an image", logs="\n".join(output[-20:]), id="image-build")
    return image


def check_image_name(name: str) -> str:
    """`name` if an image can be called so. Raises SpecError."""
    if not _NAME.fullmatch(name):
        raise SpecError(f"image name {name!r} is not valid",
                        hint="write registry/name:tag, the name in lower case, for example registry:5000/team/mnist:3",
                        id="image-name")
    return name


def tag(engine: Engine, image: str, name: str) -> None:
    """Give an image a name such as registry/mnist:3."""
    repository, colon, version = name.rpartition(":")
    if not colon or "/" in version:
        repository, version = name, "latest"
    with translated(f"tag the image as {name}", engine.where):
        if not engine.client.images.get(image).tag(repository, tag=version):
            raise ServerError(f"the engine refuses the name {name}", id="image-name")


def remove(engine: Engine, image: str) -> None:
    """Remove an image, or one of its names; one that is gone is fine."""
    import docker.errors

    with translated(f"remove image {image}", engine.where), suppress(docker.errors.ImageNotFound):
        engine.client.images.remove(image)


def discard(engine: Engine, image: str) -> None:
    """Remove an image by its id, unless somebody gave it a name: the same content is the same image."""
    import docker.errors

    with translated(f"look at image {image}", engine.where), suppress(docker.errors.ImageNotFound):
        if not engine.client.images.get(image).tags:
            remove(engine, image)


def labels(engine: Engine, image: str) -> dict[str, str]:
    """An image's labels. Raises BackendMissing if it isn't on the engine."""
    if not engine.has_image(image):
        raise BackendMissing(f"there is no image {image} on the engine at {engine.where}", id="image-missing")
    with translated(f"look at image {image}", engine.where):
        return dict(engine.client.images.get(image).labels)
