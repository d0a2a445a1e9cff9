"""Where a release happens: a live server and the file that it starts from, seen for one model. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from deploy.client.failures import answers_no
from deploy.errors import ClientError, Rejected, TimedOut, Unreachable
from deploy.rollout import configs
from deploy.rollout.configs import ConfigFile
from deploy.state import Serving
from deploy.types import ModelRef, VersionStatus
from deploy.waiting import Clock, Deadline, poll
from deploy.wire import serving_pb2 as pb

T = TypeVar("T")


def busy(error: ClientError) -> bool:
    """Whether a server with all of its threads at work has said so, at once; it has done nothing then."""
    return isinstance(error, Rejected) and error.code == "RESOURCE_EXHAUSTED"


class Resolved(Protocol):
    """A model's metadata, as far as it is read here."""

    @property
    def version(self) -> int: ...


class Control(Protocol):
    """What is asked of the server. All raise ClientError."""

    def status(self, ref: ModelRef, /, *, timeout: float | None = None) -> Sequence[VersionStatus]: ...

    def metadata(self, ref: ModelRef, /, *, timeout: float | None = None) -> Resolved: ...

    def reload(self, config: pb.ModelServerConfig, /, *, timeout: float | None = None) -> None: ...


class Resolver(Protocol):
    """What is asked over the other protocol, to confirm that a label moved."""

    def metadata(self, ref: ModelRef, /, *, timeout: float | None = None) -> Resolved: ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one question, for one reload, for a version to be loaded or unloaded, and for a server that doesn't
    answer to come back."""

    ask: float = 5.0
    reload: float = 30.0
    load: float = 300.0
    patience: float = 60.0


class Site:
    """One model of one server.

    control: over gRPC. others: further protocols; a label has moved when all of them say so.
    memory: bytes that the server uses now, None if nobody knows.
    gone: whether the server has ended and nobody starts it again, so that waiting for it is of no use.
    instance: names this run of the server; another after each start; None if nobody knows.
    """

    def __init__(self, model: str, control: Control, file: ConfigFile, *, others: Sequence[Resolver] = (),
                 timeouts: Timeouts | None = None, clock: Clock | None = None,
                 memory: Callable[[], int | None] = lambda: None, gone: Callable[[], bool] = lambda: False,
                 instance: Callable[[], str | None] = lambda: None) -> None:
        import time

        self.model, self.file, self.timeouts = model, file, timeouts or Timeouts()
        self.clock: Clock = clock or time
        self.memory, self.instance, self._gone = memory, instance, gone
        self._control, self._others = control, others

    def statuses(self) -> dict[int, VersionStatus]:
        """By version; none for a model that the server doesn't know. Waits a while for a server that is away."""
        return {s.version: s for s in self._patiently(self._statuses)}

    def labels(self, names: Iterable[str]) -> dict[str, int]:
        """Where these labels lead over gRPC, as far as they lead anywhere."""
        found: dict[str, int] = {}
        for name in sorted(set(names)):
            version = self._patiently(partial(self._resolve, self._control, name))
            if version is not None:
                found[name] = version
        return found

    def agree(self, label: str) -> set[int | None]:
        """Where the label leads, over each protocol."""
        return {self._patiently(partial(self._resolve, one, label)) for one in (self._control, *self._others)}

    def reload(self, serving: Serving) -> None:
        """Tell the server what to serve of the model, all other models as the file has them. Carried out once.

        Raises TimedOut if it hangs: then somebody named a base path that isn't there. Raises Rejected, Unreachable.
        """
        config = configs.replaced(self.file.read(), self.model, serving)
        patiently(lambda: self._control.reload(config, timeout=self.timeouts.reload),
                  self.deadline(self.timeouts.patience))

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, self.clock)

    def _statuses(self) -> Sequence[VersionStatus]:
        try:
            return self._control.status(ModelRef(self.model), timeout=self.timeouts.ask)
        except Rejected as e:
            if e.code == "NOT_FOUND":
                return ()
            raise

    def _resolve(self, one: Resolver, label: str) -> int | None:
        try:
            return one.metadata(ModelRef(self.model, label=label), timeout=self.timeouts.ask).version
        except Rejected as e:
            if answers_no(e):
                return None
            raise

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` says, again while the server is away or busy. Raises the last error after `patience` seconds."""
        return patiently(ask, self.deadline(self.timeouts.patience), lambda e: busy(e) or (
            isinstance(e, Unreachable | TimedOut) and not self._gone()))


def patiently(ask: Callable[[], T], deadline: Deadline, passing: Callable[[ClientError], bool] = busy) -> T:
    """What `ask` says, again while what it raises will pass. Raises its last error when the deadline is over."""
    last: list[ClientError] = []

    def attempt() -> tuple[T] | None:
        try:
            return (ask(),)
        except ClientError as e:
            if not passing(e):
                raise
            last[:] = [e]
        return None

    answer = poll(attempt, deadline, first=0.05, most=1.0)
    if answer is None:
        raise last[0]
    return answer[0]


def drift(config: pb.ModelServerConfig, model: str, statuses: Mapping[str, Mapping[int, VersionStatus]]) -> list[str]:
    """Where other models are served differently from the file: a reload would change them. Sentences."""
    found = []
    for entry in config.model_config_list.config:
        if entry.name == model or not configs.pinned(entry) or entry.name not in statuses:
            continue
        wanted = configs.serving_of(entry).versions
        live = {v for v, s in statuses[entry.name].items() if s.serving}
        if live != wanted:
            found.append(f"model {entry.name!r} serves {sorted(live)}, the config file says {sorted(wanted)}")
    return found
