"""A spec whose repository is elsewhere: what a server needs of it is on this machine, verified, before it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from threading import Event

from deploy import signing
from deploy.backends import Progress
from deploy.errors import DeployError
from deploy.repository import Mirrored, Repository, failures, mirror
from deploy.repository.mirroring import Accept
from deploy.spec import Spec
from deploy.types import ModelVersion, ServedModel, Specific, VersionPolicy
from deploy.wire.model_config import select

CopyProgress = Callable[[int, int], None]


def fetch(spec: Spec, *, models: Collection[ServedModel] = (), step: Progress | None = None,
          progress: CopyProgress | None = None, verify: bool = False) -> Mirrored:
    """Bring what the spec's models (or `models`, of the same repository) want into the spec's mirror.

    Nothing is done where the repository is on this machine; models with a base path of their own are left alone. The
    remote one isn't asked for versions that are named and here already, so that a server starts without it, too;
    `verify` asks for all, and reads all.
    Raises RepositoryError, VersionNotFound, DigestMismatch.
    """
    if spec.remote is None:
        return Mirrored()
    target = Repository(spec.repository)
    wanted: dict[str, VersionPolicy] = {}
    for model in models or spec.models:
        name = _name(spec, model)
        if name is not None and (verify or not _here(target, name, model.versions, signed=bool(spec.signed_by))):
            wanted[name] = _both(wanted.get(name), model.versions, name, spec.remote)
    if not wanted:
        return Mirrored()
    with failures.translated("make the mirror", target.root):
        target.root.parent.mkdir(parents=True, exist_ok=True)
    source = Repository(spec.remote)
    return mirror(source, target, wanted, verify=verify, step=step, progress=progress,
                  accept=accepting(source, spec.signed_by))


def accepting(source: Repository, signed_by: Collection[Path]) -> Accept | None:
    """Refuses what arrives from `source` unless one of them has signed it; None if nobody has to."""
    if not signed_by:
        return None
    return partial(_accept, source, signed_by)


def _accept(source: Repository, signed_by: Collection[Path], mv: ModelVersion, stage: Path) -> None:
    signing.require_signed(source, mv, signed_by, at=stage)


def follow(once: Callable[[], Mirrored], every: float, stop: Event, *, arrived: Callable[[Mirrored], None],
           failed: Callable[[DeployError], None]) -> None:
    """Mirror again and again until `stop` is set, `every` seconds apart, and up to ten times that while it fails.

    arrived: gets what brought or removed something. failed: gets what kept a pass from its end; the next one
    tries again.
    """
    pause = every
    while not stop.is_set():
        try:
            done = once()
        except DeployError as error:
            failed(error)
            pause = min(pause * 2, 10 * every)
        else:
            pause = every
            if done.fetched or done.removed:
                arrived(done)
        stop.wait(pause)


def _name(spec: Spec, model: ServedModel) -> str | None:
    """What the model is called in the repository; None if its base path is elsewhere."""
    base = Path(model.base_path)
    return base.name if base.parent == spec.repository else None


def _here(target: Repository, name: str, policy: VersionPolicy, *, signed: bool) -> bool:
    """Whether nothing has to be asked for. signed: a version without a signature may have one by now."""
    if not isinstance(policy, Specific) or not target.root.is_dir():
        return False
    return set(policy.versions) <= target.numbered(name).keys() and not (
        signed and any(not target.attachments(ModelVersion(name, number)) for number in policy.versions))


def _both(one: VersionPolicy | None, other: VersionPolicy, name: str, remote: str) -> VersionPolicy:
    """What both want, of two entries that serve one model."""
    if one is None or one == other:
        return other
    source = Repository(remote)
    numbers = source.versions(name)
    from_both = {number for policy in (one, other) for number in (
        policy.versions if isinstance(policy, Specific) else select(policy, numbers))}
    return Specific(tuple(from_both))
