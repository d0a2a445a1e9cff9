"""What a release works with: the server of a spec, found and connected, with its config file and ledger; or, while the
server is down, what it starts from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from deploy import backends, client, serving
from deploy.backends import Server
from deploy.backends.base import Progress
from deploy.client import Client
from deploy.errors import DeployError, RolloutError
from deploy.repository import versions_of
from deploy.rollout import configs
from deploy.rollout.actions import Goal
from deploy.rollout.configs import ConfigFile
from deploy.rollout.goals import begin, model_of
from deploy.rollout.live_server import LiveServer, RecentAnswers, Timeouts, settle
from deploy.rollout.replicas import LiveReplicas
from deploy.rollout.server_runs import ServerRuns
from deploy.serving.adoption import ReadMetrics
from deploy.serving.snapshot import running_server
from deploy.spec import Spec
from deploy.state import Ledger, Release, ledger_of, releases, started_from
from deploy.state.release import Outcome, entry
from deploy.types import Endpoint, ServedModel, Serving, Specific, VersionStatus
from deploy.waiting import Deadline, poll

T = TypeVar("T")
_DOWN = "the server was down: it starts with this"
_GOING = 3.0  # seconds until a replica that was ended is known to be gone


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """Everything that a release of one model works with. model: as the spec's file says. brief, once, receipts: see
    ServerSession. metrics: reads the server's, for `check_named`."""

    spec: Spec
    model: ServedModel
    server: Server
    clients: Callable[[], Sequence[Client]]
    live_server: LiveServer
    ledger: Ledger
    brief: bool
    once: Once
    receipts: bool = True
    metrics: ReadMetrics | None = None

    @property
    def client(self) -> Client:
        """Of the server, or of one of its replicas that is there."""
        return self.clients()[0]

    def each(self, ask: Callable[[Client], T], most: int | None = None) -> list[T]:
        """What `ask` says of each replica, or of so many of them. One that goes meanwhile needn't answer."""
        answers, asked = list[T](), set[Client]()
        while True:
            present = self.clients()
            one = next((client for client in present if client not in asked), None)
            if one is None or len(answers) == most:
                return answers
            asked.add(one)
            try:
                answers.append(ask(one))
            except DeployError:
                if len(present) == 1 or not self._goes(one):
                    raise

    def _goes(self, one: Client) -> bool:
        return bool(poll(lambda: one not in self.clients() or None, Deadline(_GOING)))

    @property
    def entry(self) -> dict[str, object]:
        return entry(self.model)

    @property
    def known_good(self) -> Serving | None:
        """What a restart would serve by the ledger."""
        return started_from(self.ledger.read(), self.model)

    def named(self) -> Serving:
        """What the config file names."""
        return configs.serving_of(configs.find(self.live_server.file.read(), self.model.name))

    def live(self, statuses: Mapping[int, VersionStatus] | None = None) -> Serving:
        """What is served of the model now. statuses: if the server was asked for them a moment ago; labels that it was
        asked for then needn't be asked for again."""
        part, known_good = self.spec.rollout, self.known_good
        names = {part.label, *filter(None, [part.canary_label]), *self.model.labels, *self.named().labels,
                 *(known_good.labels if known_good else ())}
        live = self.live_server
        loaded = {v for v, s in (live.statuses() if statuses is None else statuses).items() if s.serving}
        labels = live.labels(names) if statuses is None else live.recent_labels(names)
        return Serving(frozenset(loaded), {k: v for k, v in labels.items() if v in loaded})

    def settled(self, version: int, progress: Progress) -> Serving:
        """What is served of the model once the server has loaded what it is loading: the goal of a release of this
        version can be taken from it. Raises NotReady after rollout/load_timeout."""
        return self.live(settle(self.live_server, self.named(), version, progress))


def running(spec: Spec) -> bool:
    """Whether the spec's server runs."""
    server = serving.find(spec)
    return server is not None and server.alive()


class Once:
    """What is looked for in files, by the first who asks; the others get what that one saw. For one step of a release
    of many servers, which mostly have the same versions: a version is read, and verified, once for all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = dict[Hashable, tuple[threading.Lock, list[Any]]]()

    def __call__(self, key: Hashable, look: Callable[[], T]) -> T:
        """key: names what `look` looks for, with the place. What it raises is nobody else's."""
        with self._lock:
            turn, seen = self._seen.setdefault(key, (threading.Lock(), []))
        with turn:
            if not seen:
                seen.append(look())
            answer: T = seen[0]
            return answer


class ServerSession:
    """What several operations on one server keep from one to the next: its connections, and its ledger as it was read.

    For one thread at a time; disconnect it in the end. brief: other servers have been asked about the same version at
    length, so that a few latencies are enough where they are good. once: shared with those that are asked now.
    receipts: whether a release that ends is noted beside its version; of several servers, somebody else does it once.
    """

    def __init__(self, spec: Spec, *, brief: bool = False, receipts: bool = True) -> None:
        self.brief, self.once, self.receipts = brief, Once(), receipts
        self.ledger, self._timeout = ledger_of(spec), spec.smoke.timeout
        self.runs, self._answers = ServerRuns(spec.state_dir), dict[str, RecentAnswers]()
        self._at: Endpoint | None = None
        self._client: Client | None = None

    def client(self, endpoint: Endpoint) -> Client:
        """Connected to where the server answers now."""
        if self._client is None or self._at != endpoint:
            self.disconnect()
            self._at, self._client = endpoint, client.connect(endpoint, timeout=self._timeout)
        return self._client

    def answers(self, model: str) -> RecentAnswers:
        """What the server has said lately of a model."""
        return self._answers.setdefault(model, RecentAnswers())

    def disconnect(self) -> None:
        """Let go of a server that doesn't answer: the next operation connects anew, and at once."""
        kept, self._client = self._client, None
        if kept is not None:
            kept.close()


@contextmanager
def rollout_context(spec: Spec, name: str, session: ServerSession | None = None) -> Iterator[RolloutContext]:
    """session: what is kept for later operations; else nothing is.

    Raises SpecError for an unknown model, ServerError if the server doesn't run.
    """
    model, server = model_of(spec, name), running_server(spec)
    part, can = spec.rollout, backends.backend_of(server).capabilities
    if can.replaces and (record := backends.ReplacementRecord.of(server)) is not None:
        raise record.held(spec.name)

    def memory() -> int | None:
        memory = server.memory()
        return memory.used if memory else None

    def gone() -> bool:
        restarts = (can.restarts and spec.server.restart != "no") or not can.starts  # somebody may start it
        return not restarts and not server.alive()

    timeouts = Timeouts(reload=part.reload_timeout, load=part.load_timeout, patience=part.patience)
    file, kept = ConfigFile(backends.config(spec, server)), session or ServerSession(spec)
    with ExitStack() as stack:
        if session is None:
            stack.callback(kept.disconnect)
        if can.replicas:
            several = LiveReplicas(name, file, server.replicas, partial(client.connect, timeout=spec.smoke.timeout),
                                   timeouts=timeouts)
            stack.callback(several.close)
            yield RolloutContext(spec, model, server, several.clients, several, kept.ledger, kept.brief, kept.once,
                                 kept.receipts)
            return
        connected = kept.client(server.endpoint)
        assert connected.rpc is not None
        instance = server.instance if can.starts else partial(kept.runs.instance, connected.rest)
        live_server = LiveServer(
            name, connected.rpc, file, others=[connected.rest] if connected.rest else [], memory=memory, gone=gone,
            instance=instance, timeouts=timeouts, answers=kept.answers(name))
        yield RolloutContext(spec, model, server, lambda: [connected], live_server, kept.ledger, kept.brief, kept.once,
                             kept.receipts, kept.runs.page)


# -- while the server is down, perhaps because of the very version that was rolled out: what it starts from

def known_good_of(spec: Spec, model: ServedModel) -> Serving:
    """What the server would start with. Raises RolloutError if no release has changed anything since the spec."""
    serving = started_from(ledger_of(spec).read(), model)
    if serving is None:
        if not backends.preferred(spec).capabilities.starts:
            running_server(spec)
        raise RolloutError(f"{spec.name} isn't running, and would start {model.name} as {spec.path.name} says: "
                           "there is nothing to go back to", hint="edit the file, or start it: tfs up",
                           id="config-unreadable")
    return serving


def _down_reason(spec: Spec) -> str:
    lost = backends.config(spec).lost_on_restart
    return f"the server doesn't answer: {lost}" if lost else _DOWN


def roll_back_offline(spec: Spec, model: ServedModel, goal: Goal, note: str) -> Release:
    """Let the next start serve the goal. Whoever calls holds the lock. Raises RepositoryError, RolloutError."""
    _verify(spec, model, goal.to)
    release = begin(ledger_of(spec), model.name, "rollback", goal, note=note, spec=entry(model))
    return _settle(spec, model, release, goal.to, outcome="done", reason=_down_reason(spec))


def undo_offline(spec: Spec, model: ServedModel, release: Release, reason: str) -> Release:
    """Let the next start serve what was served before an open release. As `roll_back_offline`."""
    _verify(spec, model, release.before)
    ledger_of(spec).append("undo", release=release.id, reason=reason)
    return _settle(spec, model, release, release.before, outcome="undone", reason=f"{reason}; the server was down")


def finish_offline(spec: Spec, model: ServedModel, release: Release) -> Release:
    """Let the next start serve what an open rollback aims at. As `roll_back_offline`."""
    _verify(spec, model, release.goal)
    return _settle(spec, model, release, release.goal, outcome="done", reason=_down_reason(spec))


def _verify(spec: Spec, model: ServedModel, served: Serving) -> None:
    serving.fetch(spec, models=[replace(model, versions=Specific(tuple(served.versions)))])
    for version in served.versions:
        versions_of(model).version(version).check()


def _settle(spec: Spec, model: ServedModel, release: Release, serving: Serving, *, outcome: Outcome, reason: str
            ) -> Release:
    file, ledger = ConfigFile(backends.config(spec)), ledger_of(spec)
    if file.exists:  # a container starts again by itself from this file
        file.change(model.name, serving)
    ledger.append("known_good", release=release.id, model=model.name, serving=serving.to_json(), spec=entry(model))
    ledger.append("end", release=release.id, outcome=outcome, reason=reason)
    return next(r for r in releases(ledger.read()) if r.id == release.id)
