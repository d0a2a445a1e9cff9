"""Directories that a file names: of this machine, relative to that file."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from deploy.errors import SpecError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # s3://, gs://, hdfs://; a single letter is a Windows drive
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\|\.{0,2}\\")


def local(text: str, where: str) -> Path:
    """The path that a text means, `~` being the caller's home. Raises SpecError for what can't be a local directory."""
    scheme = _SCHEME.match(text)
    if scheme and scheme[0].lower() in ("file:/", "file:///"):
        text = text[len(scheme[0]) - 1:]
    elif scheme:
        raise SpecError(f"only local directories can be served, got {text!r}", path=where,
                        hint="copy it to a directory of this machine, or mount it there, and name that")
    if _WINDOWS.match(text):
        raise SpecError(f"expected a directory of this machine, got the Windows path {text!r}", path=where,
                        hint="write it as it is called here, with forward slashes, for example /mnt/c/models")
    if not text.strip() or "\0" in text:
        raise SpecError(f"expected a directory, got {text!r}", path=where, hint="`.` is the file's own")
    try:
        return Path(text).expanduser()
    except RuntimeError as e:  # ~somebody who isn't known here
        raise SpecError(f"the directory {text!r} can't be looked up: {e}", path=where) from None


def directory(text: str, beside: Path, where: str) -> Path:
    """As `local`, absolute; `beside` is what a relative one starts from."""
    try:
        return (beside / local(text, where)).resolve()
    except (OSError, RuntimeError) as e:  # links that lead in a circle
        raise SpecError(f"the directory {text!r} can't be looked up: {getattr(e, 'strerror', None) or e}", path=where
                        ) from None


def state_root(written: str | None, path: Path) -> Path | None:
    """Where a spec's state is kept, if not beside it: as TFS_STATE_DIR says, where each spec gets its own directory, or
    else as the spec at `path` says itself. Raises SpecError."""
    if everywhere := os.environ.get("TFS_STATE_DIR"):
        own = f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        return directory(everywhere, Path.cwd(), "TFS_STATE_DIR") / own
    return None if written is None else directory(written, path.parent, "state")
