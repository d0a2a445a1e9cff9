"""One operator at a time, wherever the others are; and the ledger that they share.

    a server's own lock   in its state directory; of one in Kubernetes a Lease, too. Every change of it holds them
    the servers' lock     of all servers of a file: a release holds it, whether of one server or of all. Where
                          rollout/lock names a place, every change of any of them holds the one that is there

What one process does to several servers at once counts as one. A release of all servers is alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import backends
from deploy.errors import LockHeld, RepositoryError, RolloutError, ServerError
from deploy.leases import HeldLease, under
from deploy.locks import Owner, locked
from deploy.spec import Spec
from deploy.state.ledger import FILE, Ledger
from deploy.state.lines import Line
from deploy.state.release import shortened
from deploy.waiting import Deadline, poll

if TYPE_CHECKING:
    from deploy.backends import Progress
    from deploy.backends.shared_place import SharedPlace

_WAIT = 10.0  # seconds that a release of all waits for a server that somebody looks after: tfs watch, a plan


@dataclass(slots=True)
class _Holding:
    """A lock that this process holds. texts: ledgers that were read since. users: how many hold it together."""

    owner: Owner
    alone: bool
    place: SharedPlace | Path | None = None
    lease: HeldLease | None = None
    texts: dict[str, bytes] = field(default_factory=dict)
    users: int = 1
    stack: ExitStack = field(default_factory=ExitStack)


_holdings: dict[str, _Holding] = {}
_turn = threading.Lock()
_inside: ContextVar[Mapping[str, _Holding]] = ContextVar("_inside", default={})  # noqa: B039


@contextmanager
def changing(spec: Spec, why: str, *, release: bool = False) -> Iterator[None]:
    """Nobody else changes the spec's server meanwhile: no other process here, and where servers are operated from
    several machines, nobody there. release: it is a release, and no other one of the file's servers goes on.

    Raises LockHeld, ServerError, BackendMissing.
    """
    everybody = release and bool(spec.fleet)
    with _servers_lock(spec, why) if everybody or spec.rollout.lock else nullcontext(), _own_lock(spec, why), \
            _lease(spec, why):
        yield


@contextmanager
def changing_all(spec: Spec, why: str, progress: Progress) -> Iterator[Ledger]:
    """As `changing`, of all servers of a file, in this thread and those that get its context. Yields their ledger."""
    with ExitStack() as stack:
        stack.enter_context(_servers_lock(spec, why, alone=True))
        for member in spec.servers:
            try:
                stack.enter_context(_lease(member, why))
            except ServerError as e:  # one that can't be reached keeps none of the others from going back
                progress(f"{member.short_name}: {e.message}")
        yield ledger_of(spec)


@contextmanager
def between_releases(spec: Spec, why: str) -> Iterator[None]:
    """While several servers of a file are changed one by one: no release of any of them goes on. Where rollout/lock
    names a place, each change holds that one by itself. Raises LockHeld."""
    with _servers_lock(spec, why) if spec.rollout.lock is None else nullcontext():
        yield


def ledger_of(spec: Spec) -> Ledger:
    """Of the spec's server, or of all servers of a file: where all operators see it, if rollout/lock names a place."""
    if spec.rollout.lock is None:
        return Ledger(spec.state_dir)
    holding = _inside.get().get(_key(spec))
    place = holding.place if holding else backends.shared_place.place_of(spec)
    assert place is not None
    if isinstance(place, Path):
        return Ledger(place / spec.name, shared=True, before=spec.state_dir)
    return _SharedLedger(spec, place, holding.texts if holding else None)


def _key(spec: Spec) -> str:
    return f"{spec.rollout.lock} {_all_servers(spec)}"


def _all_servers(spec: Spec) -> Path:
    """The state directory of all servers of the spec's file."""
    return spec.state_dir.with_name(spec.fleet or spec.name)


@contextmanager
def _own_lock(spec: Spec, why: str) -> Iterator[None]:
    inside = _inside.get().get(_key(spec))
    if inside is None or not inside.alone:
        with locked(spec.state_dir, why):
            yield
        return
    refused: list[LockHeld] = []  # in a release of all that must not fail for somebody's short look

    def take() -> AbstractContextManager[None] | None:
        lock = locked(spec.state_dir, why)
        try:
            lock.__enter__()
        except LockHeld as e:
            refused.append(e)
            return None
        return lock

    lock = poll(take, Deadline(_WAIT))
    if lock is None:
        raise refused[-1]
    with ExitStack() as stack:
        stack.push(lock)
        yield


def _lease(spec: Spec, why: str) -> AbstractContextManager[None]:
    if not backends.preferred(spec).capabilities.leases:
        return nullcontext()
    key = f"lease {spec.state_dir}"

    def make(holding: _Holding) -> None:
        holding.lease = holding.stack.enter_context(backends.kubernetes.lease.held(spec, why))

    return _together(key, why, make, alone=False)


def _servers_lock(spec: Spec, why: str, *, alone: bool = False) -> AbstractContextManager[None]:
    def make(holding: _Holding) -> None:
        name = spec.fleet or spec.name
        holding.place = place = backends.shared_place.place_of(spec)
        if place is None or isinstance(place, Path):
            directory = _all_servers(spec) if place is None else place / name
            holding.stack.enter_context(locked(directory, why))
        else:
            holding.lease = holding.stack.enter_context(backends.shared_place.held(place, name, why))

    return _together(_key(spec), why, make, alone=alone)


@contextmanager
def _together(key: str, why: str, make: Callable[[_Holding], None], *, alone: bool) -> Iterator[None]:
    """Hold a lock, with others of this process; make: takes it for the first. alone: with none but those that this
    thread lets work for it."""
    inside = _inside.get()
    if key in inside and not alone:
        yield
        return
    with _turn:
        holding = _holdings.get(key)
        if holding is None:
            holding = _Holding(Owner.here(why), alone)
            make(holding)
            _holdings[key] = holding
        elif alone or holding.alone:
            raise _refused(holding)
        else:
            holding.users += 1
    token = _inside.set({**inside, key: holding})
    try:
        with under(holding.lease):
            yield
    finally:
        _inside.reset(token)
        with _turn:
            holding.users -= 1
            if not holding.users:
                del _holdings[key]
                holding.stack.close()


def _refused(holding: _Holding) -> LockHeld:
    owner = holding.owner
    return LockHeld(f"another operation holds the lock of these servers: `{owner.why}` by {owner.by}, since "
                    f"{owner.since}", by=owner.by, since=owner.since, why=owner.why, hint="wait until it is done",
                    id="state-directory")


class _SharedLedger(Ledger):
    """A ledger that others see. texts: where what was read under the lock is kept; None where none is held."""

    def __init__(self, spec: Spec, place: SharedPlace, texts: dict[str, bytes] | None = None) -> None:
        super().__init__(spec.state_dir / "shared", shared=True, before=spec.state_dir)
        self._last: tuple[bytes, tuple[Line, ...]] = b"", ()
        self._place, self._name, self._texts = place, f"{spec.name}.{FILE}", texts
        self.where = f"{self._name} in {place}"

    def read(self) -> list[Line]:
        """See Ledger.read."""
        text = self._text() or self._old()
        if text != self._last[0]:
            self._last = text, tuple(self._lines(text))
        return list(self._last[1])

    def forget(self) -> None:
        self._last = b"", ()

    def _text(self) -> bytes:
        if self._texts is not None and self._name in self._texts:
            return self._texts[self._name]
        with self._translated("read"):
            text = self._place.read(self._name)
        if self._texts is not None:
            self._texts[self._name] = text
        return text

    def _write(self, data: bytes) -> None:
        before = self._text() or self._old()
        gap = b"\n" if before and not before.endswith(b"\n") else b""
        text = shortened(before + gap + data, backends.shared_place.MOST_BYTES, self.where)
        with self._translated("write"):
            self._place.write(self._name, text)
        if self._texts is not None:
            self._texts[self._name] = text

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ServerError, RepositoryError) as e:
            raise RolloutError(f"can't {doing} the ledger {self.where}: {e}",
                               hint="see whether the place that rollout/lock names can be reached and written",
                               id="ledger-unusable") from e
