"""Who may write under a number, in a store of objects: claims, and what is left of those whose publisher is dead.

    .tfs/<model>/<number>         who claimed it: put if absent, so one publisher gets it
    .tfs/<model>/<number>.1       who inherited it from one that is dead, to finish it or to clear it away; then .2, ...
    .tfs/<model>/<number>.plan    the manifest that its publisher was about to show: what is there already can be used

A claim stays beside its version, and after it: a number isn't given twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from deploy.errors import RepositoryError
from deploy.locks import Owner
from deploy.repository import naming
from deploy.repository.manifest import FileRecord, Manifest, load
from deploy.repository.stores import Item, Store, owned, removal

_NAME = re.compile(r"([1-9][0-9]*)(?:\.([1-9][0-9]*))?")
_PLAN = ".plan"


@dataclass(frozen=True, slots=True)
class NumberClaim:
    """The claim of a number, as it stands. generation: how often it was inherited. changed: seconds since the epoch."""

    number: int
    generation: int
    changed: float


class NumberClaims:
    """The claims of one model."""

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model, self._place = store, model, f"{naming.STATE_DIRECTORY}/{model}"

    def all(self) -> dict[int, NumberClaim]:
        """Number -> its latest claim, ascending."""
        latest: dict[int, NumberClaim] = {}
        for item in self._store.list(self._place):
            match = _NAME.fullmatch(item.name.rpartition("/")[2])
            if match and not item.prefix:
                claim = NumberClaim(int(match[1]), int(match[2] or 0), item.changed)
                if claim.number not in latest or latest[claim.number].generation < claim.generation:
                    latest[claim.number] = claim
        return dict(sorted(latest.items()))

    def take(self, number: int) -> bool:
        """Whether the number is this process's now: nobody's before, or one that a dead publisher left."""
        if self._put(number, 0):
            return True
        claim = self.all().get(number)
        return claim is not None and self.unfinished(number) and self.abandoned(claim, float("inf")) and self.inherit(
            claim)

    def inherit(self, claim: NumberClaim) -> bool:
        """Whether the claim of a dead publisher is this process's now. Of many callers at once one gets True."""
        return self._put(claim.number, claim.generation + 1)

    def owner(self, number: int) -> Owner | None:
        """Who has it now; None if nobody does, or if that can't be read."""
        claim = self.all().get(number)
        return self._owner(claim) if claim else None

    def abandoned(self, claim: NumberClaim, older_than: float) -> bool:
        """Whether its publisher is dead, or can't be seen from here and has been silent for so many seconds."""
        owner = self._owner(claim)
        if owner is not None and (not owner.alive or owner.why == _GIVEN_UP):
            return True
        if owner is not None and owner.on_this_host:
            return False
        latest = max((item.changed for item in self.files(claim.number)), default=claim.changed)
        return time.time() - max(latest, claim.changed) > older_than

    def unfinished(self, number: int) -> bool:
        """Whether the number has no version, and never had one."""
        return not shown(self._store, self._model, number) and not removal.is_removed(self._store, self._model, number)

    def plan(self, number: int, manifest: Manifest) -> None:
        """Say what will be there, before the first file is."""
        self._store.put(f"{self._place}/{number}{_PLAN}", manifest.to_bytes())

    def planned(self, number: int) -> Mapping[str, FileRecord] | None:
        """The files that a dead publisher was about to write; None if that can't be known."""
        name = f"{self._place}/{number}{_PLAN}"
        with suppress(RepositoryError, OSError):
            manifest = load(lambda: self._store.open(name), name)
            return manifest.files if manifest else None
        return None

    def give_up(self, number: int) -> None:
        """Leave what was sent to whoever publishes the same next."""
        claim = self.all().get(number)
        if claim is not None:
            self._store.put(self._name(claim), owned.owner_bytes(_GIVEN_UP))

    def withdraw(self, number: int) -> None:
        """Remove the files of a version that isn't there, then the claim: so nobody writes beside what is left."""
        if shown(self._store, self._model, number):
            return
        for item in self.files(number):
            self._store.delete(item.name)
        self._store.delete(f"{self._place}/{number}{_PLAN}")
        claim = self.all().get(number)
        for generation in range(claim.generation if claim else 0, -1, -1):
            self._store.delete(self._name(NumberClaim(number, generation, 0.0)))

    def finish(self, number: int) -> None:
        """Forget the plan of a version that is there."""
        with suppress(OSError):
            self._store.delete(f"{self._place}/{number}{_PLAN}")

    def files(self, number: int) -> list[Item]:
        """What lies under a number."""
        return list(self._store.list(f"{self._model}/{number}", deep=True))

    def _put(self, number: int, generation: int) -> bool:
        return owned.take(self._store, self._name(NumberClaim(number, generation, 0.0)), "publish")

    def _owner(self, claim: NumberClaim) -> Owner | None:
        return owned.owner_of(self._store, self._name(claim))

    def _name(self, claim: NumberClaim) -> str:
        generation = f".{claim.generation}" if claim.generation else ""
        return f"{self._place}/{claim.number}{generation}"


_GIVEN_UP = "given up"


def shown(store: Store, model: str, number: int) -> bool:
    """Whether a version has its manifest, and so is there."""
    directory = f"{model}/{number}/{naming.EXTRA_DIRECTORY}"
    return any(item.name == f"{model}/{number}/{naming.MANIFEST_FILE}" for item in store.list(directory))
