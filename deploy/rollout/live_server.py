"""A live server and the file that it starts from, seen for one model. Decides nothing.

A reload's OK proves nothing: a change is done when the server shows it, see `confirm`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from deploy.client.failures import answers_no, busy, distrusts
from deploy.client.interfaces import Control, ReloadControl
from deploy.errors import ClientError, NotReady, Rejected, RolloutError, TimedOut, Unreachable
from deploy.readiness import unserved
from deploy.rollout import configs
from deploy.rollout.actions import Change, DropLabel, LoadVersion, PointLabel, UnloadVersion, sentence
from deploy.rollout.configs import ConfigFile
from deploy.rollout.policy import unsettled
from deploy.types import ModelRef, Serving, VersionState, VersionStatus
from deploy.waiting import Clock, Deadline, poll

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one question, for one reload, for a version to be loaded or unloaded, and for a server that doesn't
    answer to come back."""

    ask: float = 5.0
    reload: float = 30.0
    load: float = 300.0
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server has just shown. statuses: by version, None if it wasn't asked for them. labels: versions that those
    resolve to that it was asked for, None for one that resolves to nothing. borrowed: some of it was shown before the
    last change, which is about something else."""

    statuses: dict[int, VersionStatus] | None = None
    labels: Mapping[str, int | None] = field(default_factory=dict)
    borrowed: bool = False


class RecentAnswers:
    """What one server has said lately of one model, and when. instance: the run that was asked for last."""

    def __init__(self) -> None:
        self.instance: str | None = None
        self.statuses: tuple[float, dict[int, VersionStatus]] = float("-inf"), {}
        self.labels = dict[str, tuple[float, int | None]]()  # over gRPC


class LiveServer:
    """One model of one server.

    control: over gRPC. others: further protocols; a label has moved when it has on all of them.
    memory: bytes that the server uses now, None if nobody knows.
    gone: whether the server has ended and nobody starts it again, so that waiting for it is of no use.
    instance: names this run of the server; another after each start; None if nobody knows.
    answers: of this server, from what was done before.
    """

    def __init__(self, model: str, control: ReloadControl, file: ConfigFile, *, others: Sequence[Control] = (),
                 timeouts: Timeouts | None = None, clock: Clock | None = None,
                 memory: Callable[[], int | None] = lambda: None, gone: Callable[[], bool] = lambda: False,
                 instance: Callable[[], str | None] = lambda: None, answers: RecentAnswers | None = None) -> None:
        self.model, self.file, self.timeouts = model, file, timeouts or Timeouts()
        self.clock: Clock = clock or time
        self.memory, self.instance, self._gone = memory, instance, gone
        self._control, self._others = control, others
        self._answers = answers or RecentAnswers()

    tell: Callable[[str], None] = staticmethod(lambda _: None)
    lenient = False
    """Whether telling the others matters more than one that doesn't answer: on the way back."""
    moment = 1.0
    """Seconds for which an answer is good enough before anything is changed."""

    def statuses_now(self, timeout: float) -> Sequence[VersionStatus]:
        """Asked once, without patience."""
        return self._statuses(timeout)

    def began(self, live: Serving) -> None:
        """A release begins, and this is served."""

    def resumed(self, shown: Serving) -> None:
        """A release goes on that somebody has left. shown: what the server was last seen to serve in it."""

    def finished(self) -> None:
        """A run of a release is over."""

    def statuses(self) -> dict[int, VersionStatus]:
        """By version; none for a model that the server doesn't know. Waits a while for a server that is away."""
        statuses = {s.version: s for s in self._patiently(self._statuses)}
        self._answers.statuses = self.clock.monotonic(), statuses
        return statuses

    def recent_statuses(self) -> dict[int, VersionStatus]:
        """As they were a moment ago, if somebody asked then; else as `statuses`."""
        statuses = self.recent().statuses
        return self.statuses() if statuses is None else statuses

    def recent_labels(self, names: Iterable[str]) -> dict[str, int]:
        """As `labels`; only those are asked for that nobody has asked for a moment ago."""
        recent = self.recent().labels
        known = {name: version for name in names if (version := recent.get(name)) is not None}
        return known | self.labels(set(names) - recent.keys())

    def recent(self, since: float = float("-inf"), seconds: float | None = None) -> Shown:
        """What it has shown a moment ago: of the last `seconds` (`moment` without), and not before `since`."""
        since = max(since, self.clock.monotonic() - (self.moment if seconds is None else seconds))
        at, statuses = self._answers.statuses
        return Shown(statuses if at > since else None, {
            name: version for name, (seen, version) in self._answers.labels.items() if seen > since})

    def run(self) -> tuple[str | None, bool]:
        """Names this run of the server; and whether it is the one that was there when somebody asked last."""
        before, now = self._answers.instance, self.instance()
        self._answers.instance = now
        return now, now is not None and now == before

    def answered(self, label: str, version: int | None) -> None:
        """A label has just resolved to this version over gRPC."""
        self._answers.labels[label] = self.clock.monotonic(), version

    def labels(self, names: Iterable[str]) -> dict[str, int]:
        """The versions that these labels resolve to over gRPC; without those that resolve to none."""
        versions: dict[str, int] = {}
        for name in sorted(set(names)):
            version = self._patiently(partial(self._resolve, self._control, name))
            self.answered(name, version)
            if version is not None:
                versions[name] = version
        return versions

    def resolved(self, label: str) -> set[int | None]:
        """The version that the label resolves to over each protocol: one, if they agree."""
        versions = {self._patiently(partial(self._resolve, one, label)) for one in (self._control, *self._others)}
        if len(versions) == 1:
            (version,) = versions
            self.answered(label, version)
        return versions

    def reload(self, serving: Serving) -> None:
        """Configure what is served of the model, all other models as the file has them. Carried out once.

        Raises TimedOut if it hangs: then somebody named a base path that isn't there. Raises Rejected, Unreachable.
        """
        config = configs.replaced(self.file.read(), self.model, serving)
        patiently(lambda: self._control.reload(config, timeout=self.timeouts.reload),
                  self.deadline(self.timeouts.patience))

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, self.clock)

    def _statuses(self, timeout: float | None = None) -> Sequence[VersionStatus]:
        try:
            return self._control.status(ModelRef(self.model), timeout=timeout or self.timeouts.ask)
        except Rejected as e:
            if unserved(e):
                return ()
            raise

    def _resolve(self, one: Control, label: str) -> int | None:
        try:
            return one.metadata(ModelRef(self.model, label=label), timeout=self.timeouts.ask).version
        except Rejected as e:
            if answers_no(e):
                return None
            raise

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` says, again while the server is away or busy. Raises the last error after `patience` seconds."""
        return patiently(ask, self.deadline(self.timeouts.patience), lambda e: busy(e) or (
            isinstance(e, Unreachable | TimedOut) and not distrusts(e) and not self._gone()))


def confirm(server: LiveServer, change: Change) -> Shown:
    """Wait until the server shows it. Raises RolloutError after the time for loading, ClientError.

    Returns as well for a version that failed to load: the policy has the words for that. What it returns has, beside
    what shows the change, what was shown a moment ago of all that it isn't about.
    """
    state, last = "", Shown()

    def shown() -> bool | None:
        nonlocal state, last
        done, state, last = (_label(server, change) if isinstance(change, (PointLabel, DropLabel)) else
                             _version(server, change))
        return True if done else None

    deadline = server.deadline(server.timeouts.load)
    if not poll(shown, deadline, first=0.002):
        raise RolloutError(f"`{sentence(change, server.model)}` isn't done after {deadline.waited:.0f} s: {state}",
                           hint="see the server's log: tfs logs; if it only needs longer, raise rollout/load_timeout",
                           id="load-timeout")
    recent = Shown() if isinstance(change, UnloadVersion) else server.recent()
    statuses = recent.statuses if last.statuses is None else last.statuses
    borrowed = bool(recent.labels.keys() - last.labels.keys()) or (last.statuses is None and statuses is not None)
    return Shown(statuses, {**recent.labels, **last.labels}, borrowed)


def settle(server: LiveServer, named: Serving, version: int, progress: Callable[[str], None]
           ) -> dict[int, VersionStatus]:
    """Wait until the server has loaded what it is loading, or given up on it: see `policy.unsettled`. The states then.

    Raises NotReady after the time for loading, ClientError.
    """
    coming: dict[int, VersionState] = {}

    def settled() -> dict[int, VersionStatus] | None:
        nonlocal coming
        statuses = server.statuses() if coming else server.recent_statuses()
        before, coming = coming, unsettled(statuses, named, version)
        if coming and coming != before:
            progress(f"waiting until the server has loaded {_states(server.model, coming)}")
        return None if coming else statuses

    deadline = server.deadline(server.timeouts.load)
    statuses = poll(settled, deadline)
    if statuses is None:
        raise NotReady(f"what is served of {server.model} isn't settled: the server has been loading "
                       f"{_states(server.model, coming)} for {deadline.waited:.0f} s and more; nothing was changed",
                       hint="see why: tfs logs; wait and run it again; or, if nobody wants that version, go back to "
                            "what the config file names: tfs repair",
                       details={"loading": {str(v): s.name for v, s in coming.items()}}, id="reload-unsettled")
    return statuses


def _states(model: str, states: Mapping[int, VersionState]) -> str:
    return ", ".join(f"{model}/{v} (it is {s.name})" for v, s in states.items())


def _label(server: LiveServer, change: PointLabel | DropLabel) -> tuple[bool, str, Shown]:
    wanted = change.version if isinstance(change, PointLabel) else None
    versions = server.resolved(change.label)
    state = f"it resolves to {' and '.join(str(v or 'nothing') for v in versions)}"
    return versions == {wanted}, state, Shown(labels={change.label: wanted})


def _version(server: LiveServer, change: LoadVersion | UnloadVersion) -> tuple[bool, str, Shown]:
    statuses = server.statuses()
    status = statuses.get(change.version)
    state = f"it is {status.state.name}" if status else "the server doesn't know it"
    if isinstance(change, UnloadVersion):
        done = status is None or status.state is VersionState.END
    else:
        done = status is not None and (status.serving or status.failed)
    return done, state, Shown(statuses)


def patiently(ask: Callable[[], T], deadline: Deadline, passing: Callable[[ClientError], bool] = busy, *,
              most: float = 1.0) -> T:
    """What `ask` says, again while what it raises will pass. Raises its last error when the deadline is over.

    most: seconds of the longest pause; the first has 0.05.
    """
    last: list[ClientError] = []

    def attempt() -> tuple[T] | None:
        try:
            return (ask(),)
        except ClientError as e:
            if not passing(e):
                raise
            last[:] = [e]
        return None

    answer = poll(attempt, deadline, first=0.05, most=most)
    if answer is None:
        raise last[0]
    return answer[0]
