"""The files that a server sees: on this machine, through a container's mounts, or in the container itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from deploy import files
from deploy.backends.inspecting import Inside
from deploy.errors import SpecError


def host_path(path: str, mounts: Mapping[str, str]) -> str | None:
    """Where a container's path lies on this machine; None if no mount covers it."""
    for source, target in sorted(mounts.items(), key=lambda m: -len(m[1])):
        if PurePosixPath(path).is_relative_to(target):
            return str(Path(source) / PurePosixPath(path).relative_to(target))
    return None


class Files:
    """The files that a server sees: this machine's, or those of a container.

    mounts: directory of this machine -> where it is in the container; None for a process of this machine.
    inside: looks into the container itself, for what is no mount of a directory that is here.
    """

    def __init__(self, mounts: Mapping[str, str] | None, inside: Callable[[str], Inside] | None = None) -> None:
        self.mounts, self._inside = mounts, inside

    def here(self, path: str) -> Path | None:
        """Where a path of the server's lies on this machine; None if it doesn't."""
        host = path if self.mounts is None else host_path(path, self.mounts)
        return Path(host) if host is not None and Path(host).is_absolute() else None

    def mounted(self, path: str) -> bool:
        return self.mounts is None or host_path(path, self.mounts) is not None

    def inside(self, path: str) -> Inside | None:
        """What the container has there; None if nobody can look."""
        return self._inside(path) if self._inside is not None and path.startswith("/") else None

    def read(self, path: str) -> str:
        """A config file's text. Raises SpecError that says why it can't be used."""
        here = self.here(path)
        inside = self.inside(path) if here is None or not here.exists() else None
        if inside is not None and inside.kind == "file":
            return _decoded(inside.text)
        if (inside is not None and inside.kind == "directory") or (here is not None and here.is_dir()):
            raise SpecError(f"{path} is a directory: Docker makes one where the file that it should mount doesn't exist"
                            if self.mounts is not None else f"{path} is a directory")
        if here is None:
            raise SpecError(f"nothing is mounted at {path}" if not self.mounted(path) else f"{path} doesn't exist")
        try:
            return _decoded(files.read_bytes(here, files.MOST_TEXT))
        except FileNotFoundError:
            raise SpecError(f"{path} doesn't exist") from None
        except OSError as e:
            raise SpecError(f"{path}: {files.reason(e)}") from None


def _decoded(data: bytes) -> str:
    """Text as protobuf reads it. Raises SpecError for what editors on Windows may have made of it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SpecError("it is UTF-16 (as PowerShell's > writes): save it as UTF-8")
    try:
        return data.decode("utf-8-sig")  # protobuf's reader passes over a byte order mark, too
    except UnicodeDecodeError as e:
        raise SpecError(f"it isn't UTF-8 (byte {e.start})") from None
