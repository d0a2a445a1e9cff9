"""A config store on this machine: a directory, each file written by a rename."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deploy import files as disk
from deploy import render
from deploy.errors import ServerError
from deploy.spec import Spec

_MODE = 0o755  # whatever the umask: a container's user is another one


class LocalConfig:
    """See backend.ConfigStore. reader: the server's user and group, the only one to read secrets; None: our own."""

    def __init__(self, directory: Path, reader: tuple[int, int] | None = None) -> None:
        self.directory, self.reader = directory, reader or (os.getuid(), os.getgid())

    @classmethod
    def of(cls, spec: Spec, reader: tuple[int, int]) -> LocalConfig:
        """Beside the state of the spec's server."""
        return cls(spec.state_dir / "config", reader)

    @property
    def place(self) -> str:
        return str(self.directory)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def read(self, name: str) -> str | None:
        try:
            return disk.read_text(self.directory / name)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as e:
            raise ServerError(f"can't read the server's config file {self.path(name)}: "
                              f"{disk.reason(e) if isinstance(e, OSError) else e}") from None

    def write(self, files: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> None:
        render.write(files, self.directory)
        render.write(secrets or {}, self.directory, secret_of=self.reader)
        try:
            if self.directory.stat().st_mode & _MODE != _MODE:
                self.directory.chmod(_MODE)
        except OSError as e:
            raise ServerError(f"can't open {self.directory} for the server's user: {e.strerror or e}") from None
