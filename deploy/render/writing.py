"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploy.errors import DeployError, ServerError


def write(files: Mapping[str, str], directory: str | Path, *, error: type[DeployError] = ServerError,
          hint: str = "make room, or check who owns the directory", secret_of: tuple[int, int] | None = None
          ) -> list[Path]:
    """Write each file by a rename, readable for the server's user whatever the umask; skip those that are the same.

    secret_of: the only user (uid, gid) that may read them; root's files are given to that one.

    error, hint: what is raised, with the path that can't be written and the system's reason, and what the caller's user
    can do about it. Returns the paths of all of them.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            _replace(directory / name, text, secret_of)
    except OSError as e:
        raise error(f"can't write {e.filename or directory}: {e.strerror}", hint=hint) from None
    return [directory / name for name in files]


def _replace(path: Path, text: str, secret_of: tuple[int, int] | None) -> None:
    data = text.encode()
    if secret_of is None and path.exists() and path.read_bytes() == data:
        return
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o600 if secret_of else 0o644)
            if secret_of and os.getuid() == 0:
                os.fchown(file.fileno(), *secret_of)
            file.flush()
            os.fsync(file.fileno())
        Path(staged).replace(path)
    except BaseException:
        Path(staged).unlink(missing_ok=True)
        raise
