"""Looks at a live server for a driver, and asks nothing twice that was shown a moment ago."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.rollout.actions import RolloutProgress
from deploy.rollout.live_server import LiveServer, Shown
from deploy.state import Release
from deploy.types import VersionStatus

_SAME_RUN = 5.0  # seconds for which the same run of a server is taken to serve what it did, before anything is changed


@dataclass(frozen=True, slots=True)
class LiveState:
    """What was seen. instance: the run of the server. borrowed: some of it before the last change."""

    instance: str | None
    statuses: dict[int, VersionStatus]
    labels: Mapping[str, int]
    borrowed: bool = False


class Observer:
    """Of one run of one release."""

    def __init__(self, server: LiveServer, release: Release) -> None:
        self._server, self._release = server, release
        self._shown: Shown | None = None  # by what was done since the last look; None: there was none yet
        self._instance: tuple[str | None] | None = None  # of the server, if it was asked for since

    def changed(self, shown: Shown) -> None:
        """A change is done; this shows it."""
        self._shown = shown

    def checked(self, since: float) -> None:
        """Checks have passed that began then: the run of the server is looked at, which has to be the one that they
        began on. What labels resolved to meanwhile is known by the answers."""
        self._instance = (self._server.run()[0],)
        self._shown = Shown(labels=self._server.recent(since).labels)

    def look(self, at: RolloutProgress) -> LiveState:
        """Raises ClientError if the server doesn't answer for too long."""
        goal, server = at.goal, self._server
        instance, shown = self._run(at) if self._shown is not None else self._first()
        self._shown, self._instance = Shown(), None
        if at.looked and instance != at.instance:
            shown = Shown()
        names = {goal.label, *goal.before.labels, *goal.to.labels, *([goal.canary] if goal.canary else [])}
        names |= {*self._release.goal.labels, *filter(None, (self._release.options.get("canary"),))}
        statuses = server.statuses() if shown.statuses is None else shown.statuses
        labels = {**server.labels(names - shown.labels.keys()),
                  **{k: v for k, v in shown.labels.items() if v is not None and k in names}}
        return LiveState(instance, statuses, labels, shown.borrowed)

    def _first(self) -> tuple[str | None, Shown]:
        instance, same = self._server.run()
        return instance, self._server.recent(seconds=_SAME_RUN if same else None)

    def _run(self, at: RolloutProgress) -> tuple[str | None, Shown]:
        """The run of the server, which matters to what checks pass on: it is asked for before the first of them, after
        the last, and where a change that was made doesn't show what it should."""
        shown = self._shown or Shown()
        if at.undoing is not None or at.verified:
            return at.instance, shown
        if self._instance is not None:
            return self._instance[0], shown
        status = (shown.statuses or {}).get(at.goal.version)
        return at.instance if status is not None and status.serving else self._server.run()[0], shown
