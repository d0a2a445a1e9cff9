"""The fleet's lock and ledger, where all operators see them: this machine's state directory, a directory that several
machines mount, a store, or a Lease and a ConfigMap of a cluster.

    <fleet>.lock.<N>      who holds the lock, in a store: put if absent, so one gets it; renewed while it is held. The
                          highest N counts; whoever takes over from a holder that is dead, or has let go, puts N + 1
    <fleet>.ledger.jsonl  the ledger, in a store
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from deploy.addresses import Address
from deploy.backends import kubernetes
from deploy.errors import LockHeld, RolloutError, ServerError
from deploy.locks import Owner, locked, renewed
from deploy.repository.stores import Store
from deploy.repository.stores.addresses import open_store
from deploy.spec import KubernetesPart, Spec
from deploy.spec.constraints import CLUSTER
from deploy.state import Ledger
from deploy.state.ledger import FILE
from deploy.state.lines import Line

RENEW = 10.0  # seconds between two renewals
STALE = 90.0  # seconds without one after which a holder that can't be seen from here is taken for dead
_MOST = 4096  # bytes of a lock
_MOST_LEDGER = 1 << 28
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")


class SharedLock(Protocol):
    """A lock that others see, and a text beside it. All raise OSError or ServerError for what the place refuses."""

    def take(self) -> None:
        """Raises LockHeld if somebody has it."""

    def renew(self) -> bool:
        """Whether it is ours still."""

    def let_go(self) -> None: ...

    def read(self) -> bytes:
        """The text; nothing if there is none."""

    def write(self, text: bytes) -> None: ...


@contextmanager
def fleet_ledger(spec: Spec, why: str) -> Iterator[Ledger]:
    """Hold the fleet's lock, and have its ledger. Raises LockHeld at once, ServerError if the place can't be used."""
    with locked(spec.state_dir, why):
        shared = _shared(spec, why)
        if shared is None:
            yield Ledger(spec.state_dir)
        elif isinstance(shared, Path):
            with locked(shared, why):
                yield Ledger(shared)
        else:
            with _held(shared) as lost:
                yield SharedLedger(spec.state_dir / "shared", shared, lost)


def read_ledger(spec: Spec) -> list[Line]:
    """All lines of the fleet's ledger. Nobody is kept from anything. Raises RolloutError."""
    shared = _shared(spec, "")
    if shared is None or isinstance(shared, Path):
        return Ledger(shared or spec.state_dir).read()
    return SharedLedger(spec.state_dir / "shared", shared).read()


def _shared(spec: Spec, why: str) -> SharedLock | Path | None:
    """What rollout/lock names: a directory, something that others see; None if it names nothing."""
    text = spec.rollout.lock
    if text is None:
        return None
    if text.startswith(CLUSTER):
        namespace, _, name = text.removeprefix(CLUSTER).partition("/")
        part = msgspec.structs.replace(spec.server.kubernetes or KubernetesPart(), namespace=namespace)
        return kubernetes.lease.KubernetesLease(kubernetes.cluster.connect(part), name, why, STALE)
    address = Address.parse(text, "rollout/lock")
    return Path(text) / spec.name if address is None else _StoreLock(open_store(address), spec.name, why)


@contextmanager
def _held(lock: SharedLock) -> Iterator[threading.Event]:
    """Yields what is set once somebody else has it. Raises LockHeld, ServerError."""
    try:
        lock.take()
    except OSError as e:
        raise ServerError(f"can't keep the lock in {lock}: {e}",
                          hint="name a place that can be written as rollout/lock", id="state-directory") from e
    with renewed(lock, RENEW) as lost:
        yield lost


class _StoreLock:
    """A lock in a store. See the module."""

    def __init__(self, store: Store, name: str, why: str) -> None:
        self._store, self._prefix, self._ledger, self._why = store, f"{name}.lock.", f"{name}.{FILE}", why
        self._number = 0

    def __str__(self) -> str:
        return str(self._store)

    def read(self) -> bytes:
        try:
            with self._store.open(self._ledger) as file:
                return file.read(_MOST_LEDGER)
        except FileNotFoundError:
            return b""

    def write(self, text: bytes) -> None:
        self._store.put(self._ledger, text)

    def renew(self) -> bool:
        if self._latest()[0] > self._number:
            return False
        self._store.put(self._name(self._number), self._bytes())
        return True

    def let_go(self) -> None:
        self._store.put(self._name(self._number), self._bytes(held=False))

    def take(self) -> None:
        self._store.make()
        latest, changed = self._latest()
        if latest:
            holder = self._holder(latest)
            if holder is not None and not _dead(holder, changed):
                raise _taken(holder, str(self._store))
        self._number = latest + 1
        if not self._store.put_if_absent(self._name(self._number), self._bytes()):
            holder = self._holder(self._number)
            raise _taken(holder or Owner("somebody else", "", 0, 0.0), str(self._store))
        for old in range(max(1, latest - 5), latest + 1):
            with suppress(OSError):
                self._store.delete(self._name(old))

    def _latest(self) -> tuple[int, float]:
        """The highest number, and when it was written last; 0 if there is none."""
        numbers = [(int(number), item.changed) for item in self._store.list("") if not item.prefix
                   and item.name.startswith(self._prefix)
                   and _NUMBER.fullmatch(number := item.name.removeprefix(self._prefix))]
        return max(numbers, default=(0, 0.0))

    def _holder(self, number: int) -> Owner | None:
        """Who holds it; None if nobody does any more, or if it can't be read."""
        try:
            with self._store.open(self._name(number)) as file:
                data = json.loads(file.read(_MOST))
            return Owner.from_json(data) if data.get("held") else None
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _bytes(self, *, held: bool = True) -> bytes:
        return json.dumps({**Owner.here(self._why).to_json(), "held": held}).encode()

    def _name(self, number: int) -> str:
        return f"{self._prefix}{number}"


def _dead(holder: Owner, changed: float) -> bool:
    return not holder.alive if holder.on_this_host else time.time() - changed > STALE


def _taken(holder: Owner, where: str) -> LockHeld:
    purpose = f", for a {holder.why}" if holder.why else ""
    return LockHeld(f"{holder.by} holds the lock of these servers in {where}{purpose}", by=holder.by,
                    since=holder.since, why=holder.why,
                    hint=f"wait until it is done; a holder that is dead gives way after {STALE:g} s")


class SharedLedger(Ledger):
    """A ledger that others see, with a copy on this machine. lost: that of the lock that is held; None for reading."""

    def __init__(self, state_dir: Path, place: SharedLock, lost: threading.Event | None = None) -> None:
        super().__init__(state_dir)
        self._place, self._lost, self._fetched = place, lost, False

    def read(self) -> list[Line]:
        """See Ledger.read. The shared one counts. Who has no lock leaves the copy alone: it may be the holder's."""
        if self._lost is None:
            with self._told("read"):
                return self._lines(self._place.read())
        self._fetch()
        return super().read()

    def append(self, event: str, **fields: Any) -> Line:
        """See Ledger.append; the others see the line, too. Raises RolloutError if somebody else has the lock by now."""
        if self._lost is not None and self._lost.is_set():
            raise RolloutError("somebody else has taken the lock of these servers over: this run was silent for too "
                               "long", hint="look what was done: tfs history; then begin again", id="lock-lost")
        self._fetch()
        line = super().append(event, **fields)
        with self._told("write"):
            self._place.write(self.path.read_bytes())
        return line

    def _fetch(self) -> None:
        if self._fetched:
            return
        with self._told("read"):
            data = self._place.read()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(data)
        self._fetched = True

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ServerError) as e:
            raise RolloutError(f"can't {doing} the ledger in {self._place}: {e}",
                               hint="see whether the place that rollout/lock names can be reached and written",
                               id="ledger-unusable") from e
