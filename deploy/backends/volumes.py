"""Named volumes of an engine that doesn't see this machine's files: read and written through the engine itself.

The engine writes into containers only, never into a read-only mount, and it replaces a file by removing it first. So a
container of the server's own image holds the volume for a moment: what is new is put beside what is there, checked, and
shown by a rename. Nothing is touched that doesn't carry our labels.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from deploy.backends.base import LABEL
from deploy.backends.engine import Engine
from deploy.backends.engine_errors import translated
from deploy.errors import BackendMissing, ServerError

if TYPE_CHECKING:
    from docker.models.containers import Container

OWNER_LABEL, OWNER_STATE_LABEL = f"{LABEL}.volume.of", f"{LABEL}.volume.state"
VOLUME_LABEL, PURPOSE_LABEL = f"{LABEL}.volume", f"{LABEL}.volume.for"  # of holders
AT = "/tfs"  # where a holder has the volume
_SCRIPT, _OUTPUT = "tfs-run.sh", "tfs-out"
_LONGEST = 24 * 3600  # seconds for one script: checking a version takes as long as reading it
_MOST_READ = 64 << 20
_READING = 600.0  # seconds after which a reader's holder is nobody's any more
_TRIES = 5  # a file that is renamed while it is read


class Holder:
    """A container that has the volume and does nothing else. Its scripts run as root, with no more than that takes."""

    def __init__(self, engine: Engine, container: Container, volume: str) -> None:
        self._engine, self._container, self._volume = engine, container, volume

    def put(self, stream: bytes | Iterable[bytes], path: str = AT) -> None:
        """Unpack a tar stream there. Raises ServerError."""
        with translated(f"copy files to volume {self._volume}", self._engine.where):
            self._container.put_archive(path, cast("bytes", stream))  # the HTTP client takes any iterator

    def read(self, name: str) -> bytes | None:
        """A small file of the volume; None if it isn't there. Raises ServerError."""
        return read(self._container, f"{AT}/{name}", self._engine)

    def run(self, script: str) -> str:
        """What a shell script prints. Raises ServerError with its last words if it fails."""
        self.put(tar_of({_SCRIPT: f"exec > /{_OUTPUT} 2>&1\nset -e\n{script}\n".encode()}), "/")
        try:
            with translated(f"look after volume {self._volume}", self._engine.where):
                self._container.start()
                code = int(self._container.wait(timeout=_LONGEST)["StatusCode"])
        except ServerError as e:
            if "executable file not found" not in e.message and "no such file" not in e.message:
                raise
            code = 127
        output = (read(self._container, f"/{_OUTPUT}", self._engine) or b"").decode(errors="replace").strip()
        if code == 127 or "not found" in output:
            raise BackendMissing("the server's image has no shell with sha256sum, mv and df, with which volumes of the "
                                 f"engine at {self._engine.where} are filled: {output or 'it has no sh'}",
                                 hint="use an image with them, such as tensorflow/serving, or bake the models into "
                                      "one: tfs image build", id="image-without-shell")
        if code:
            raise ServerError(f"can't look after volume {self._volume} on the engine at {self._engine.where}: {output}",
                              hint="its last words are the engine's", id="volume-unusable")
        return output


class Volume:
    """A named volume of ours. name: on the engine. labels: what it carries, and nothing else is ours.

    image: that of the server, which holders run.
    """

    def __init__(self, connect: Callable[[], Engine], name: str, labels: Mapping[str, str], image: str) -> None:
        """connect: makes the connection to the engine when it is needed. Raises BackendMissing."""
        self.name, self.labels, self._image = name, labels, image
        self._connect = connect
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._connect()
        return self._engine

    def exists(self) -> bool:
        """Raises ServerError for a volume of this name that isn't ours."""
        import docker.errors

        with translated(f"look at volume {self.name}", self.engine.where):
            try:
                attrs = self.engine.client.volumes.get(self.name).attrs
            except docker.errors.NotFound:
                return False
        if not self.labels.items() <= (attrs.get("Labels") or {}).items():
            raise ServerError(f"the Docker engine at {self.engine.where} has a volume {self.name} that isn't ours",
                              hint="rename the server (`name` in the spec), or remove it if nobody needs it: "
                                   f"docker volume rm {self.name}", id="volume-unusable")
        return True

    def read(self, name: str) -> bytes | None:
        """A small file of it; None if it, or the volume, isn't there. Raises ServerError."""
        if not self.exists():
            return None
        with translated(f"look at volume {self.name}", self.engine.where):
            holders = self.engine.client.containers.list(filters={"volume": self.name}, ignore_removed=True)
        for container in holders:  # a server that runs does as well as a container of our own
            if PURPOSE_LABEL in container.labels:
                continue  # a holder may go while it is read from
            for mount in container.attrs.get("Mounts") or ():
                if mount.get("Name") == self.name:
                    with suppress(_Gone):
                        return read(container, f"{mount['Destination']}/{name}", self.engine)
        with self._holding("reading") as holder:
            return holder.read(name)

    @contextmanager
    def held(self) -> Iterator[Holder]:
        """Hold the volume to write to it; it is made if it isn't there, and what a writer left that was killed goes.

        Whoever writes holds the server's lock.
        """
        with translated(f"make volume {self.name}", self.engine.where):
            if not self.exists():
                self.engine.client.volumes.create(self.name, labels=dict(self.labels))
        self._clean(everything=False)
        with self._holding("writing") as holder:
            yield holder

    @contextmanager
    def _holding(self, purpose: str) -> Iterator[Holder]:
        engine = self.engine
        engine.require_image(self._image)
        with translated(f"hold volume {self.name}", engine.where):
            container = engine.client.containers.create(**_holder_options(self, engine.pinned(self._image), purpose))
        try:
            yield Holder(engine, container, self.name)
        finally:
            with suppress(ServerError), translated(f"let go of volume {self.name}", engine.where):
                container.remove(force=True)

    def _clean(self, *, everything: bool) -> None:
        """Remove holders that nobody uses any more; those of readers may be in use for a while."""
        with translated(f"clean volume {self.name}", self.engine.where):
            for left in self.engine.containers({**self.labels, VOLUME_LABEL: self.name}):
                age = time.time() - datetime.fromisoformat(f"{left.attrs['Created'][:19]}+00:00").timestamp()
                if everything or left.labels[PURPOSE_LABEL] == "writing" or age > _READING:
                    left.remove(force=True)

    def remove(self) -> bool:
        """Whether it was there. Raises ServerError if a container still has it."""
        if not self.exists():
            return False
        self._clean(everything=True)
        with translated(f"remove volume {self.name}", self.engine.where):
            self.engine.client.volumes.get(self.name).remove()
        return True


def _holder_options(volume: Volume, image: str, purpose: str) -> dict[str, Any]:
    return {
        "image": image, "entrypoint": ["sh", f"/{_SCRIPT}"], "command": [], "user": "0", "network_mode": "none",
        "labels": {**volume.labels, VOLUME_LABEL: volume.name, PURPOSE_LABEL: purpose}, "cap_drop": ["ALL"],
        "cap_add": ["DAC_OVERRIDE", "CHOWN", "FOWNER"], "security_opt": ["no-new-privileges:true"],
        "mounts": [{"Type": "volume", "Source": volume.name, "Target": AT, "VolumeOptions": {"NoCopy": True}}]}


class _Gone(ServerError):
    """Somebody removes the container that is read from."""


def _goes(container: Container) -> bool:
    """Whether somebody is removing it, or has: its file system goes first, so what isn't there proves nothing."""
    import docker.errors

    try:
        container.reload()
    except docker.errors.NotFound:
        return True
    return str(container.attrs["State"].get("Status")) in ("removing", "dead")


def read(container: Container, path: str, engine: Engine) -> bytes | None:
    """A small file of a container, running or not; None if it isn't there. Raises ServerError, _Gone."""
    import docker.errors

    for attempt in range(_TRIES):
        with translated(f"read {path} in container {container.name}", engine.where):
            try:
                stream, _ = container.get_archive(path)
                data = b"".join(stream)
            except docker.errors.APIError as e:
                if _goes(container):
                    raise _Gone(f"container {container.name} was removed while {path} was read from it",
                                id="volume-unusable", hint="run it again") from e
                if isinstance(e, docker.errors.NotFound):
                    return None
                raise
            except OSError:  # it became another one meanwhile, of another length
                if attempt == _TRIES - 1:
                    raise
                continue
        with suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=io.BytesIO(data)) as archive:
            file = next(iter(archive), None)
            opened = archive.extractfile(file) if file is not None and file.isfile() else None
            text = opened.read(_MOST_READ) if opened is not None else None
            if file is not None and text is not None and len(text) == file.size:
                return text
    raise ServerError(f"can't read {path} in container {container.name}: it changes all the time", id="volume-unusable")


def entry(name: str, size: int, owner: tuple[int, int] = (0, 0), mode: int = 0o644) -> bytes:
    """The head of a file in a tar stream; that of a directory if the name ends with a slash."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.size, info.mode, (info.uid, info.gid) = size, mode, owner
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """What follows a file of that size in a tar stream."""
    return b"\0" * (-size % tarfile.BLOCKSIZE)


END = b"\0" * (2 * tarfile.BLOCKSIZE)


def tar_of(files: Mapping[str, bytes], owner: tuple[int, int] = (0, 0), mode: int = 0o644) -> bytes:
    """Small files as a tar archive."""
    return b"".join(entry(name, len(data), owner, mode) + data + padding(len(data))
                    for name, data in files.items()) + END
