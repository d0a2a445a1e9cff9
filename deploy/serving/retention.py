"""Which versions may go: those that are old, and that nothing refers to as far as that can be proven.

A version stays for its age, its rank, or because something names it: a spec, ledger, config file, label or server.
A server that doesn't answer counts as using all versions of its models.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from deploy.backends import Progress, silent
from deploy.repository import Repository, VersionEntry
from deploy.serving.references import KeepReason, referring, summary
from deploy.spec import Spec
from deploy.state import changing
from deploy.types import ModelVersion

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """What stays without being named. last: the newest so many of each model, at least one. days: of that age or less.

    quarantine: days for which what was removed can be brought back.
    """

    last: int = 3
    days: float = 0.0
    quarantine: float = 7.0


@dataclass(frozen=True, slots=True)
class VersionFate:
    """One version, and why it stays; nothing keeps it if there is no reason. size: bytes. created: ISO 8601, UTC."""

    mv: ModelVersion
    size: int
    created: str
    why: tuple[KeepReason, ...]

    @property
    def goes(self) -> bool:
        return not self.why

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that keeps it, in sentences, one for each server that says so."""
        return tuple(map(str, self.why))

    @property
    def summary(self) -> str:
        """What keeps it, for people: each reason once, with who says so."""
        return summary(self.why)

    def to_json(self) -> dict[str, object]:
        return {"model": self.mv.name, "version": self.mv.version, "size": self.size, "created": self.created,
                "goes": self.goes, "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What `prune` would do. delete: removed earlier, longer ago than the quarantine."""

    versions: tuple[VersionFate, ...]
    delete: tuple[ModelVersion, ...] = ()

    @property
    def going(self) -> list[VersionFate]:
        return [fate for fate in self.versions if fate.goes]

    @property
    def size(self) -> int:
        """Bytes of what goes."""
        return sum(fate.size for fate in self.going)

    def to_json(self) -> dict[str, object]:
        return {"versions": [fate.to_json() for fate in self.versions], "size": self.size,
                "delete": [str(mv) for mv in self.delete]}


def plan_prune(repository: Repository, specs: Sequence[Spec], rule: RetentionRule | None = None, *,
               models: Iterable[str] = (), servers: Iterable[str] = (), progress: Progress | None = None) -> PrunePlan:
    """Look at everything that may refer to a version; nothing is changed.

    specs: of one server, or of several. models: only these. servers: gRPC addresses of others that read from there.
    Raises RepositoryError if the repository can't be read.
    """
    rule, say = rule or RetentionRule(), progress or silent
    models = list(models)
    names = models or repository.models()
    entries = {name: repository.entries(name) for name in names}
    used: dict[ModelVersion, list[KeepReason]] = {}
    for mv, reason in referring(specs, servers, entries, say):
        used.setdefault(mv, []).append(reason)
    now = time.time()
    fates = [VersionFate(one.mv, one.size, one.created, tuple(dict.fromkeys(
        [*_own(one, rank, rule, now), *used.get(one.mv, [])])))
        for name in names for rank, one in enumerate(reversed(entries[name]))]
    delete = [mv for mv, when in repository.removed().items()
              if (not models or mv.name in names) and now - when >= rule.quarantine * DAY]
    return PrunePlan(tuple(sorted(fates, key=lambda fate: fate.mv)), tuple(sorted(delete)))


def prune(repository: Repository, specs: Sequence[Spec], rule: RetentionRule | None = None, *,
          models: Iterable[str] = (), servers: Iterable[str] = (), progress: Progress | None = None) -> PrunePlan:
    """Remove what `plan_prune` says, while no release of these specs can begin; returns what was done.

    Removed versions can be brought back (Repository.restore) until the quarantine is over; then the next call deletes
    them. Raises LockHeld while a server starts or a release is under way, of one server or of all of a file;
    ServerError, BackendMissing where nobody can know that; RepositoryError.
    """
    rule, say = rule or RetentionRule(), progress or silent
    with ExitStack() as held:
        for _, one in sorted({str(one.state_dir): one for spec in specs for one in spec.members}.items()):
            held.enter_context(changing(one, "prune", release=True))
        plan = plan_prune(repository, specs, rule, models=models, servers=servers, progress=progress)
        for fate in plan.going:
            say(f"removing {fate.mv}")
            repository.remove(fate.mv)
    restorable = repository.removed()
    delete = [*plan.delete, *(fate.mv for fate in plan.going if not rule.quarantine and fate.mv in restorable)]
    for mv in delete:
        say(f"deleting {mv}")
        repository.purge(mv)
    return PrunePlan(plan.versions, tuple(delete))


def _own(entry: VersionEntry, rank: int, rule: RetentionRule, now: float) -> list[KeepReason]:
    """Reasons of the version itself. rank: 0 for the newest of its model."""
    reasons: list[str] = []
    if rank < max(rule.last, 1):
        reasons.append(f"among the newest {rule.last}" if rule.last > 1 else "the newest")
    if entry.error:
        reasons.append(f"it can't be read: {entry.error}")
    elif entry.digest is None:
        reasons.append("it wasn't published by this toolkit")
    try:
        age = (now - datetime.fromisoformat(entry.created).timestamp()) / DAY
    except ValueError:
        reasons.append("nobody can say how old it is")
    else:
        if age <= rule.days:
            reasons.append(f"{age:.0f} days old")
    return list(map(KeepReason, reasons))
