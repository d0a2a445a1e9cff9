"""Which versions may go: those that are old, and that nothing refers to as far as that can be proven.

A version stays for its age, its rank, or because something names it: a spec, ledger, config file, label or server.
A server that doesn't answer counts as using all versions of its models.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy import client
from deploy.backends import Progress, silent
from deploy.errors import ClientError, DeployError, Rejected, RepositoryError
from deploy.locks import locked
from deploy.repository import Repository, VersionEntry
from deploy.serving.observe import ModelStatus, status
from deploy.spec import Spec
from deploy.state import ledger_of, releases
from deploy.types import ModelVersion, ServedModel
from deploy.wire.model_config import select

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
    reasons: tuple[str, ...]

    @property
    def goes(self) -> bool:
        return not self.reasons

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

    models: only these. servers: gRPC addresses of others that read from there.
    Raises RepositoryError if the repository can't be read.
    """
    rule, say = rule or RetentionRule(), progress or silent
    models = list(models)
    names = models or repository.models()
    entries = {name: repository.entries(name) for name in names}
    used: dict[ModelVersion, list[str]] = {}
    for spec in specs:
        say(f"looking at {spec.path.name}")
        for mv, reason in _named_by(spec, entries):
            used.setdefault(mv, []).append(reason)
    for target in servers:
        say(f"asking {target}")
        for mv, reason in _served_by(target, entries):
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
    them. Raises LockHeld while a server starts or a release is under way, RepositoryError.
    """
    rule, say = rule or RetentionRule(), progress or silent
    with ExitStack() as held:
        for spec in sorted(specs, key=lambda spec: str(spec.state_dir)):
            held.enter_context(locked(spec.state_dir, "prune"))
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


def _own(entry: VersionEntry, rank: int, rule: RetentionRule, now: float) -> list[str]:
    """Reasons of the version itself. rank: 0 for the newest of its model."""
    reasons = []
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
    return reasons


def _named_by(spec: Spec, entries: Mapping[str, Sequence[VersionEntry]]) -> list[tuple[ModelVersion, str]]:
    """What a spec's file, ledger, config file and server name, of the models that are looked at."""
    who, named = f"{spec.path.name} ({spec.short_name})" if spec.fleet else spec.path.name, []
    try:
        seen = status(spec)
    except DeployError as error:  # then nobody can say what it uses
        return [(mv, f"{who} may use it: {error.message}") for model in spec.models for mv in _all(model, entries)]
    for model, served in zip(spec.models, seen.models, strict=True):
        name = _stored_name(model)
        numbers = [entry.mv.version for entry in entries.get(name, ())]
        named += [(ModelVersion(name, number), f"{who} wants it") for number in select(model.versions, numbers)]
        named += [(ModelVersion(name, number), f"{who}: {why}") for number, why in _seen(served)]
        named += [(ModelVersion(name, number), f"{who}: {why}") for number, why in _history(spec, model)]
        if seen.running and served.live is None:
            named += [(mv, f"the server of {who} doesn't answer, and may use it") for mv in _all(model, entries)]
    return [(mv, reason) for mv, reason in named if mv.name in entries]


def _seen(served: ModelStatus) -> Iterable[tuple[int, str]]:
    views = served.views
    for view, what in ((views.spec, "it wants it"), (views.ledger, "known good"), (views.file, "in its config file"),
                       (views.live, "served now")):
        if view is not None:
            yield from ((version, what) for version in view.versions)
            yield from ((version, f"label {label}") for label, version in view.labels.items())
    yield from ((s.version, f"the server has it, {s.state.name}") for s in served.statuses if s.state.name != "END")
    yield from ((version, f"label {label}") for label, version in served.labels.items())


def _history(spec: Spec, model: ServedModel) -> Iterable[tuple[int, str]]:
    """What a rollback would go back to, and what an open release is about."""
    past = releases(ledger_of(spec).read(), model.name)
    for release in past[-1:]:
        yield from ((version, "what a rollback goes back to") for version in release.before.versions)
    for release in past:
        if release.open:
            yield from ((version, f"release {release.id} is open") for version in
                        (*release.before.versions, *release.goal.versions))


def _served_by(target: str, entries: Mapping[str, Sequence[VersionEntry]]) -> list[tuple[ModelVersion, str]]:
    """What a server that no spec is of has loaded."""
    named: list[tuple[ModelVersion, str]] = []
    with client.connect_to(target, None) as connected:
        for name in entries:
            try:
                statuses = connected.status(name, timeout=10)
            except ClientError as error:
                if isinstance(error, Rejected) and error.code == "NOT_FOUND":
                    continue
                named += [(entry.mv, f"{target} doesn't answer, and may use it") for entry in entries[name]]
                continue
            named += [(ModelVersion(name, s.version), f"{target} has it, {s.state.name}") for s in statuses
                      if s.version and s.state.name != "END"]
    return named


def _all(model: ServedModel, entries: Mapping[str, Sequence[VersionEntry]]) -> list[ModelVersion]:
    return [entry.mv for entry in entries.get(_stored_name(model), ())]


def _stored_name(model: ServedModel) -> str:
    """What it is called in a repository: a spec may serve it under another name."""
    return Path(model.base_path).name


def check_proof(specs: Sequence[Spec], servers: Sequence[str]) -> None:
    """Raises RepositoryError where nothing was named that could refer to a version."""
    if not specs and not servers:
        raise RepositoryError("nobody says which servers read from this repository, so no version is proven unused",
                              id="unproven",
                              hint="name their specs (--spec, repeatable) or addresses (--server HOST:PORT); or say "
                                   "--unserved if no server does")
