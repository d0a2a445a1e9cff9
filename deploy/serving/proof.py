"""Does somebody say which servers read from a repository? Without that, no version of it is proven unused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.addresses import Address
from deploy.errors import RepositoryError, SpecError
from deploy.repository import Repository
from deploy.spec import Spec

_NOBODY = "nobody says which servers read from this repository, so no version is proven unused"


def check_proof(repository: Repository, specs: Sequence[Spec], servers: Sequence[str]) -> None:
    """Raises RepositoryError where nothing was named that could refer to a version: no server's address, and no spec
    whose servers read from there."""
    members = [member for spec in specs for member in spec.members]
    if servers or any(reads_from(spec, repository) for spec in members):
        return
    others = list(dict.fromkeys(f"{spec.path} reads from {spec.remote or spec.repository}" for spec in members))
    more = f" (and {len(others) - 1} more read from elsewhere)" if len(others) > 1 else ""
    seen = f": {others[0]}{more}, not from {repository.store}" if others else ""
    raise RepositoryError(f"{_NOBODY}{seen}", id="unproven", details={"elsewhere": others} if others else {},
                          hint="name their specs (--spec, repeatable) or addresses (--server HOST:PORT); or say "
                               "--unserved if no server does")


def reads_from(spec: Spec, repository: Repository) -> bool:
    """Whether the spec's server takes versions from there, as far as the spec says: from the repository itself, from
    its mirror or stage, or from where a model has its base path."""
    there = repository.store.local_path("")
    return any(_same(place, str(repository.store) if there is None else there) for place in _places(spec))


def _places(spec: Spec) -> Iterator[str | Path]:
    """Repositories of which the spec's server may have files."""
    yield spec.repository
    if spec.remote is not None:
        yield spec.remote
    for model in spec.models:
        base = Path(model.base_path)
        yield base.parent
        yield base.resolve().parent  # a model's directory may be a link into another repository
    remote, kubernetes = spec.server.remote, spec.server.kubernetes
    if remote is not None:
        yield from (remote.stage,) if remote.stage else ()
        if isinstance(remote.models, str):
            yield remote.models
        yield from (base.rstrip("/").rpartition("/")[0] for base in (
            remote.models.values() if isinstance(remote.models, dict) else ()))
    if kubernetes is not None and kubernetes.models is not None and kubernetes.models.host_path is not None:
        yield Path(kubernetes.models.host_path) / kubernetes.models.path


def _same(place: str | Path, there: str | Path) -> bool:
    """Whether both are one directory, by whatever path, or one address."""
    one, other = _address(place), _address(there)
    if one is not None or other is not None:
        return one == other
    try:
        return Path(place).samefile(there)
    except OSError:  # one of them isn't there
        return Path(place).resolve() == Path(there).resolve()


def _address(place: str | Path) -> tuple[str, str, str] | None:
    """An address without who asks and the port that goes without saying; None for a directory."""
    if isinstance(place, Path):
        return None
    try:
        parsed = Address.parse(place)
    except SpecError:  # one that a server reads by itself: hdfs://
        return "", place, ""
    if parsed is None:
        return None
    host = parsed.host.rpartition("@")[2].removesuffix(":22") if parsed.scheme == "ssh" else parsed.host
    return parsed.scheme, host, parsed.path
