"""The toolkit's own server in a child process: the default wherever there is no Docker engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import deploy
from deploy.backends.base import ProcessOptions
from deploy.backends.process_server import ProcessServer
from deploy.errors import BackendMissing
from deploy.extras import missing
from deploy.types import Endpoint

MODULE = "deploy.modelserver"


class EmbeddedServer(ProcessServer):
    """`python -m deploy.modelserver` as a child process. See base.Server."""


def embedded_options(name: str, flags: Sequence[str], endpoint: Endpoint, state_dir: str | Path, *,
                     drain: float = 0.0, labels: Mapping[str, str] | None = None) -> ProcessOptions:
    """The child's options: tensorflow_model_server's `flags`, and those of ours that it gets besides.

    drain: seconds that running requests get after SIGTERM. Unlike the real server it ends when a port is taken.
    """
    ours = (f"--tfs_bind_address={endpoint.host}", f"--tfs_drain_seconds={drain:g}", "--tfs_fail_on_taken_port=true")
    argv = (sys.executable, "-m", MODULE, *flags, *ours)
    return ProcessOptions(name, argv, endpoint, str(state_dir), "embedded", _environment(), labels or {})


def _environment() -> dict[str, str]:
    """The child's working directory is its state directory, so it has to be told where this package is."""
    home = str(Path(deploy.__file__).resolve().parent.parent)
    path = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path)), "PYTHONUNBUFFERED": "1"}


def unavailable() -> str | None:
    """Why the embedded server can't run models here; None if it can."""
    from deploy import engine

    return missing("server") or engine.available()


def require() -> None:
    """Raises BackendMissing if the embedded server can't run models here."""
    reason = unavailable()
    if reason is not None:
        raise BackendMissing(f"the embedded server can't run here: {reason}",
                             hint="pip install 'tfs-deploy[server,tensorflow]', or use another backend: "
                                  "container or process")
