"""Which versions should be loaded, which are, and what to do next. Pure: no files, no threads, no clock.

A version's life, with the state that GetModelStatus shows:

    aspired -> NEW, RESERVING (START) -> LOADING -> READY (AVAILABLE) -> UNLOADING -> gone (END)
                       |                   |
                       +-------------------+-> FAILED (END with the error), kept until it is no longer aspired

The source says per model which versions it aspires to (`aspire`); `next_action` says what has to be done;
whoever did it reports back (`reserved`, `loaded`, `failed`, `unloaded`). States of versions that are gone stay in
`states` as END for as long as the process lives.

The rules are TensorFlow Serving's AspiredVersionsManager and AvailabilityPreservingPolicy. Two consequences that
surprise: a version that failed isn't tried again while it is aspired, and a new set of aspired versions that
contains one which isn't aspired any more but still loaded has to wait until that one is gone.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy.types import VersionState, VersionStatus


class Stage(enum.Enum):
    """Where a managed version is."""

    NEW = enum.auto()
    RESERVING = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    UNLOADING = enum.auto()
    FAILED = enum.auto()


_SHOWN = {Stage.RESERVING: VersionState.START, Stage.LOADING: VersionState.LOADING,
          Stage.READY: VersionState.AVAILABLE, Stage.UNLOADING: VersionState.UNLOADING, Stage.FAILED: VersionState.END}


@dataclass(frozen=True, slots=True, order=True)
class Id:
    """A model's version. Other than deploy.types.ModelVersion, any name and version 0 are possible."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclass(slots=True)
class Managed:
    """A version that the catalog looks after."""

    id: Id
    path: str
    stage: Stage = Stage.NEW
    aspired: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version from this directory."""

    id: Id
    path: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Take this version out of service, wait for its requests, unload it."""

    id: Id


Action = Load | Unload


def policy(versions: Iterable[Managed]) -> Managed | None:
    """The version of one model to load (if NEW) or unload (if READY) next, or None.

    Old versions go first, but the last loaded one stays until an aspired one is ready, unless none is aspired.
    """
    managed = sorted(versions, key=lambda m: m.id.version)
    ready = [m for m in managed if m.stage is Stage.READY]
    leaving = [m for m in ready if not m.aspired]
    if leaving and (len(ready) > 1 or not any(m.aspired for m in managed)):
        return leaving[0]
    return next((m for m in reversed(managed) if m.aspired and m.stage is Stage.NEW), None)


class Catalog:
    """All models and versions of a server. Not thread-safe: the lifecycle guards it with its lock."""

    def __init__(self) -> None:
        self._managed: dict[str, dict[int, Managed]] = {}
        self._pending: dict[str, dict[int, str]] = {}
        self._states: dict[str, dict[int, tuple[int, VersionStatus]]] = {}
        self.changes = 0  # state changes so far

    def aspire(self, name: str, versions: Mapping[int, str]) -> None:
        """`name` should have exactly these versions (number -> directory); replaces what was said before.

        Takes effect with the next `next_action`, so not while whoever acts is busy with a load.
        """
        self._pending[name] = dict(versions)

    def aspired(self, id: Id) -> bool:
        """Whether the version is still wanted; a retry ends when it isn't."""
        managed = self._managed.get(id.name, {}).get(id.version)
        return managed is not None and managed.aspired

    def next_action(self) -> Action | None:
        """What to do next, if anything: unloading before loading. Marks it as begun."""
        self._settle()
        chosen = [m for versions in self._managed.values() if (m := policy(versions.values()))]
        chosen.sort(key=lambda m: m.stage is not Stage.READY)
        if not chosen:
            return None
        if chosen[0].stage is Stage.READY:
            self._move(chosen[0], Stage.UNLOADING)
            return Unload(chosen[0].id)
        self._move(chosen[0], Stage.RESERVING)
        return Load(chosen[0].id, chosen[0].path)

    def reserved(self, id: Id) -> None:
        self._move(self._managed[id.name][id.version], Stage.LOADING)

    def loaded(self, id: Id) -> None:
        self._move(self._managed[id.name][id.version], Stage.READY)

    def failed(self, id: Id, code: int, message: str) -> None:
        self._move(self._managed[id.name][id.version], Stage.FAILED, code, message)

    def unloaded(self, id: Id) -> None:
        del self._managed[id.name][id.version]
        self._show(VersionStatus(id.version, VersionState.END), id.name)

    def stays(self, name: str) -> bool:
        """Whether one of the model's versions is available and goes on to be aspired."""
        aspired = self._pending.get(name)
        return any(m.stage is Stage.READY and m.aspired and (aspired is None or m.id.version in aspired)
                   for m in self._managed.get(name, {}).values())

    def states(self, name: str, since: int = -1) -> list[VersionStatus]:
        """States of all versions that ever were, the highest first; only those that changed after change `since`."""
        states = sorted(self._states.get(name, {}).items(), reverse=True)
        return [status for _, (change, status) in states if change > since]

    def _settle(self) -> None:
        """Accept the pending sets that can be accepted, and forget what nobody wants and isn't loaded."""
        for name, versions in list(self._pending.items()):
            self._forget(name)
            managed = self._managed.setdefault(name, {})
            if any(not managed[v].aspired for v in versions if v in managed):
                continue  # comes back while it is going: wait until it is gone
            del self._pending[name]
            for version, known in managed.items():
                known.aspired = version in versions
            for version in versions.keys() - managed.keys():
                managed[version] = Managed(Id(name, version), versions[version])
                self._show(VersionStatus(version, VersionState.START), name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        managed = self._managed.get(name, {})
        for version, known in list(managed.items()):
            if not known.aspired and known.stage in (Stage.NEW, Stage.FAILED):
                del managed[version]
                if known.stage is Stage.NEW:
                    self._show(VersionStatus(version, VersionState.END), name)

    def _move(self, managed: Managed, stage: Stage, code: int = 0, message: str = "") -> None:
        managed.stage = stage
        self._show(VersionStatus(managed.id.version, _SHOWN[stage], code, message), managed.id.name)

    def _show(self, status: VersionStatus, name: str) -> None:
        self.changes += 1
        self._states.setdefault(name, {})[status.version] = (self.changes, status)
