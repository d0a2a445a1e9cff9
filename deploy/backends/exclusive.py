"""One operator at a time, wherever the others are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from deploy.backends import kubernetes
from deploy.backends.registry import preferred
from deploy.locks import locked
from deploy.spec import Spec


@contextmanager
def changing(spec: Spec, why: str) -> Iterator[None]:
    """Nobody else changes the spec's server meanwhile: no other process here, and where servers are operated from
    several machines, nobody there. Raises LockHeld, ServerError, BackendMissing."""
    with locked(spec.state_dir, why), (
            kubernetes.lease.held(spec, why) if preferred(spec).capabilities.leases else nullcontext()):
        yield
