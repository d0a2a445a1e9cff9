"""Several replicas of one server as one live server: each is told, and a change is done when each of them shows it.

A replica that starts meanwhile comes up with what its config file names, which is known to be good, and is told what
the others have been told before it counts. One that goes isn't asked any more. A version is loaded by one of them
first, and by the others when that one serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from deploy.backends import Replica
from deploy.client import Client
from deploy.client.interfaces import ReloadControl
from deploy.errors import BackendMissing, ClientError, DeployError, NotReady, RolloutError, TimedOut, Unreachable
from deploy.rollout.configs import ConfigFile
from deploy.rollout.live_server import LiveServer, Timeouts
from deploy.rollout.merging import agreed, merged
from deploy.types import Endpoint, Serving, VersionStatus
from deploy.waiting import Clock, poll

T = TypeVar("T")
_FRESH = 0.5  # seconds for which it is known which replicas there are
_HELLO = 1.0  # seconds for the first answer of a replica; until it has one it isn't counted
_MANY = 2  # restarts of one replica during a release from which on the release is the likely reason


@dataclass(eq=False, slots=True)
class LiveReplica:
    """A replica that answers."""

    replica: Replica
    client: Client
    live: LiveServer


@dataclass(slots=True)
class _Restarts:
    """How often each replica had been started when it was first seen, and how many have ended too often since."""

    first: dict[str, int] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def note(self, replica: Replica) -> None:
        since = replica.restarts - self.first.setdefault(replica.name, replica.restarts)
        if since >= _MANY or (since and replica.out_of_memory):
            self.failed.add(f"{replica.name} ({replica.ended})")


class LiveReplicas(LiveServer):
    """One model of a server with several replicas. See LiveServer.

    replicas: those that run now; raises BackendMissing or ServerError if nobody can say. connect: to one of them.
    """

    def __init__(self, model: str, file: ConfigFile, replicas: Callable[[], Sequence[Replica]],
                 connect: Callable[[Endpoint], Client], *, timeouts: Timeouts | None = None, clock: Clock | None = None
                 ) -> None:
        self._replicas, self._connect = replicas, connect
        self._members = dict[str, LiveReplica]()  # by instance
        self._present, self._looked = dict[str, Replica](), float("-inf")
        self._told: Serving | None = None
        self._tried = dict[str, float]()  # when an instance was asked last whether it answers
        self._restarts = _Restarts()
        super().__init__(model, _NOBODY, file, timeouts=timeouts, clock=clock, instance=self._run)

    # -- who is there

    def members(self) -> list[LiveReplica]:
        """All that are there and answer, each told what the others were. Raises Unreachable if there are none for too
        long."""
        deadline = self.deadline(self.timeouts.patience)

        def there() -> list[LiveReplica] | None:
            self._look()
            for instance, replica in list(self._present.items()):
                if instance not in self._members and self._due(instance):
                    self._join(instance, replica)
            return [self._members[i] for i in self._present if i in self._members] or None

        members = poll(there, deadline, first=0.1, most=1.0)
        if members is None:
            raise Unreachable(f"no replica of the server answers after {deadline.waited:.0f} s", hint="see tfs status")
        return members

    def clients(self) -> list[Client]:
        """Of all that are there and answer."""
        return [member.client for member in self.members()]

    def close(self) -> None:
        """Let go of all of them."""
        for member in self._members.values():
            member.client.close()

    def _look(self, *, now: bool = False) -> None:
        """Which replicas there are: asked again while the place doesn't answer, for as long as it may be away."""
        if not now and self.clock.monotonic() - self._looked < _FRESH:
            return
        deadline, last = self.deadline(self.timeouts.patience), list[BackendMissing]()

        def asked() -> Sequence[Replica] | None:
            try:
                return self._replicas()
            except BackendMissing as e:
                last[:] = [e]
                return None

        replicas = poll(asked, deadline, first=0.2, most=2.0)
        if replicas is None:
            raise last[0]
        self._present = {replica.instance or replica.name: replica for replica in replicas}
        self._looked = self.clock.monotonic()
        for replica in replicas:
            self._restarts.note(replica)
        for instance in self._members.keys() - self._present.keys():
            self._members.pop(instance).client.close()

    def _due(self, instance: str) -> bool:
        now = self.clock.monotonic()
        due = now - self._tried.get(instance, float("-inf")) >= _FRESH
        if due:
            self._tried[instance] = now
        return due

    def _join(self, instance: str, replica: Replica) -> None:
        """One that wasn't here before; nothing if it doesn't answer yet: then nobody's requests get to it either."""
        client = self._connect(replica.endpoint)
        assert client.rpc is not None
        live = LiveServer(self.model, client.rpc, self.file, others=[client.rest] if client.rest else [],
                          timeouts=self.timeouts, clock=self.clock, gone=lambda: not self._still(instance))
        member = LiveReplica(replica, client, live)
        try:
            live.statuses_now(_HELLO)
            if self._told is not None:
                self.tell(f"{replica.name} is new: telling it what the others serve")
                self._bring(member, self._told)
        except (Unreachable, TimedOut):
            client.close()
            return
        self._members[instance] = member

    def _still(self, instance: str) -> bool:
        with suppress(DeployError):
            self._look(now=True)
        return instance in self._present

    def _run(self) -> str:
        """The same as long as no replica ends again and again: one that was replaced is no reason to begin anew."""
        self._look()
        return ", ".join(sorted(self._restarts.failed)) or "running"

    # -- what they show

    def statuses(self) -> dict[int, VersionStatus]:
        return merged([(m.replica.name, answer) for m, answer in self._each(lambda live: live.statuses())])

    def labels(self, names: Iterable[str]) -> dict[str, int]:
        asked = sorted(set(names))
        return agreed([answer for _, answer in self._each(lambda live: live.labels(asked))])

    def resolved(self, label: str) -> set[int | None]:
        return {version for _, answer in self._each(lambda live: live.resolved(label)) for version in answer}

    def answered(self, label: str, version: int | None) -> None:
        """What one of them says isn't what all do."""

    def _each(self, ask: Callable[[LiveServer], T]) -> list[tuple[LiveReplica, T]]:
        """What each says; without those that go meanwhile."""
        while True:
            answers, members = list[tuple[LiveReplica, T]](), self.members()
            for member in members:
                try:
                    answers.append((member, ask(member.live)))
                except (Unreachable, TimedOut) as e:
                    self._lose(member, e)
            if answers:
                return answers

    def _lose(self, member: LiveReplica, error: ClientError) -> None:
        """One that doesn't answer counts no more, until it does. Raises the error if it is there, unless all that
        matters is to tell the others."""
        instance = member.replica.instance or member.replica.name
        if not self._still(instance):
            return
        self._members.pop(instance, None)
        member.client.close()
        if not self.lenient:
            raise error
        self.tell(f"{member.replica.name} doesn't answer, and is told when it does: {error.message}")

    # -- what they are told

    def reload(self, serving: Serving) -> None:
        """Tell each. A version that is new is loaded by one alone first; if that one fails, the others aren't told.
        Everything else is told to all, and one that doesn't answer keeps nobody from telling the others."""
        members, known = self.members(), self._told.versions if self._told is not None else frozenset()
        self._told = serving
        while len(members) > 1 and serving.versions - known:
            first, *members = members
            try:
                first.live.reload(serving)
                if not self._shows(first, serving):
                    return  # `confirm` sees why
                break
            except (Unreachable, TimedOut) as e:
                self._lose(first, e)
        self._tell_all(members, serving)

    def _tell_all(self, members: Sequence[LiveReplica], serving: Serving) -> None:
        errors = list[ClientError]()
        for member in members:
            try:
                member.live.reload(serving)
            except (Unreachable, TimedOut) as e:
                try:
                    self._lose(member, e)
                except ClientError:
                    errors.append(e)
            except ClientError as e:
                errors.append(e)
        if errors:
            raise errors[0]

    def _shows(self, member: LiveReplica, serving: Serving) -> bool:
        """Wait until one serves all of this; False if it can't, or takes too long. Raises ClientError."""
        def done() -> bool | None:
            statuses = member.live.statuses()
            states = [statuses.get(version) for version in serving.versions]
            if any(state is not None and state.failed for state in states):
                return False
            return True if all(state is not None and state.serving for state in states) else None

        return bool(poll(done, self.deadline(self.timeouts.load), first=0.02))

    def _bring(self, member: LiveReplica, serving: Serving) -> None:
        """Versions first, then labels: a label needs a loaded version."""
        loaded = {v for v, status in member.live.statuses().items() if status.serving}
        labels = member.live.labels(serving.labels)
        if loaded != serving.versions or labels != serving.labels:
            there = {label: version for label, version in labels.items() if version in serving.versions}
            member.live.reload(Serving(serving.versions | loaded, {**there, **{
                label: version for label, version in serving.labels.items() if version in loaded}}))
            self._shows(member, serving)
            member.live.reload(serving)

    # -- before and after a release

    def began(self, live: Serving) -> None:
        """Raises NotReady if they serve different versions."""
        states = {m.replica.name: self._served(m) for m in self.members()}
        if len(set(states.values())) > 1:
            each = ", ".join(f"{name} {sorted(versions)}" for name, versions in states.items())
            raise NotReady(f"the replicas serve different versions of {self.model}: {each}; nothing was changed",
                           hint="bring all of them to what the config file names: tfs repair", id="replicas-differ")
        self._told = live

    def resumed(self, shown: Serving) -> None:
        members = self.members()
        labels = [m.live.labels(shown.labels) for m in members]
        if len({self._served(m) for m in members}) > 1 or any(one != labels[0] for one in labels):
            self.tell(f"the replicas differ: bringing all to what they have shown before, {shown}")
            for member in members:
                self._bring(member, shown)
            self._told = shown
        else:
            self._told = Serving(self._served(members[0]), labels[0])

    def finished(self) -> None:
        def joined() -> bool | None:
            self.members()
            return True if self._present.keys() <= self._members.keys() else None

        if not poll(joined, self.deadline(self.timeouts.patience), first=0.1, most=1.0):
            away = sorted(self._present[i].name for i in self._present.keys() - self._members.keys())
            self.tell(f"{', '.join(away)} doesn't answer: if it serves something else when it does, tfs repair")

    @staticmethod
    def _served(member: LiveReplica) -> frozenset[int]:
        return frozenset(v for v, status in member.live.statuses().items() if status.serving)


class _Nobody:
    """Stands where a single server's control is: each replica has its own."""

    def __getattr__(self, name: str) -> object:
        raise RolloutError(f"nobody alone can be asked for {name}")


_NOBODY: ReloadControl = _Nobody()  # type: ignore[assignment]
