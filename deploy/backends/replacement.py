"""A server that runs gets another configuration: at once, or by new replicas in the place of the old ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deploy.backends.backend import Launch
from deploy.backends.base import LABEL, Progress, Replica, Server
from deploy.errors import LockHeld, ServerError
from deploy.spec import Spec

REPLACING = f"{LABEL}.replacing"
"""The label of a server whose replicas are being replaced: the record, as JSON."""


@dataclass(frozen=True, slots=True)
class ServerChange:
    """What a spec changes about a server that runs, in sentences like `Deployment digits: spec.replicas: 2 -> 3`.

    at_once: what leaves its replicas alone. replacing: what they are made from, so that only new ones have it.
    """

    at_once: tuple[str, ...] = ()
    replacing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"at_once": list(self.at_once), "replacing": list(self.replacing)}


@dataclass(frozen=True, slots=True)
class ReplacementRecord:
    """A replacement that is under way, as it is kept where the server is, for operators on every machine.

    digest: of what the new replicas are made from. by: who began it, since: when, ISO 8601. undoing: why it goes back.
    baked: the bake times that are over. replaced: the revisions of the replicas that are to go. before: what it takes
    to go back, in the backend's own form.
    """

    id: str
    digest: str
    by: str
    since: str
    note: str = ""
    undoing: str = ""
    baked: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, server: Server) -> ReplacementRecord | None:
        """That of a server; None if none is under way. Raises ServerError for one that isn't ours."""
        text = server.labels.get(REPLACING)
        if text is None:
            return None
        try:
            fields = json.loads(text)
            return cls(**{**fields, "baked": tuple(fields["baked"]), "replaced": tuple(fields["replaced"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ServerError(f"what {server.name} says of a replacement of its pods ({REPLACING}) isn't what tfs "
                              "writes there", id="kubernetes-record", hint="look at its pods, then remove that "
                              "annotation of its workload: kubectl annotate") from None

    def held(self, name: str) -> LockHeld:
        """What is raised by whoever would change the server of this name meanwhile."""
        what = f"is going back ({self.undoing})" if self.undoing else "isn't finished"
        return LockHeld(f"replacement {self.id} of the pods of {name}, begun by {self.by} at {self.since}, {what}",
                        by=self.by, since=self.since, why="replacement of pods", id="replacement-open",
                        hint="undo it: tfs rollout --replace-pods --abort; with the spec that it began with it goes "
                             "on: tfs rollout --replace-pods")


@dataclass(frozen=True, slots=True)
class Generations:
    """The replicas of a server while they are replaced.

    begun: the place has been told. new, old: those that get traffic. wanted: how many there should be. held: no more
    new ones are made, and no old one goes. coming: new ones that get no traffic yet. all_new,
    all_old: there are as many as wanted, each gets traffic, and none of the other kind is left. pending: what is still
    to come, in half a sentence. trouble: why waiting is of no use.
    """

    new: tuple[Replica, ...]
    old: tuple[Replica, ...]
    wanted: int
    held: bool
    begun: bool = True
    coming: int = 0
    all_new: bool = False
    all_old: bool = False
    pending: str = ""
    trouble: str = ""


class Replacing(Protocol):
    """A backend with the capability `replaces`."""

    def replacement(self, spec: Spec, launch: Launch, secrets: Mapping[str, str], progress: Progress) -> Replacement:
        """For the spec's server, and the configuration that it should have; secrets: see ConfigStore.write. Nothing is
        changed yet."""


class Replacement(Protocol):
    """One server, and the configuration that it should have. Whoever calls holds the server's lock.

    Each method may be called again after a crash. All raise ServerError or BackendMissing.
    """

    @property
    def server(self) -> Server: ...

    def change(self, *, force: bool = False) -> ServerChange:
        """What would change; nothing is changed. force: fields that others own don't count."""

    def apply(self, *, force: bool = False) -> None:
        """Let the place have what is to change at once. For a change that replaces replicas: only when they are."""

    @property
    def digest(self) -> str:
        """Of what new replicas would be made from."""

    def record(self) -> ReplacementRecord | None:
        """The replacement that is under way; None if none is."""

    def write(self, record: ReplacementRecord) -> None:
        """Keep it, where every operator sees it."""

    def prepared(self, record: ReplacementRecord) -> ReplacementRecord:
        """The record with what it takes to go back, as it is now."""

    def begin(self, *, force: bool = False) -> None:
        """Have the first new replica made. Old ones stay, as long as there is room for one more."""

    def look(self, record: ReplacementRecord) -> Generations:
        """What there is now."""

    def let_go_on(self, record: ReplacementRecord) -> None:
        """Have one old replica go, and the next new one made; then it is held again."""

    def go_back(self, record: ReplacementRecord) -> None:
        """Have replicas as they were before."""

    def end(self) -> None:
        """It is over: nothing of it is kept."""
