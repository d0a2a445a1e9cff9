"""The fleet's lock and ledger, where all operators see them: this machine's state directory, a directory that several
machines mount, or a store.

    <fleet>.lock.<N>      who holds the lock, in a store: put if absent, so one gets it; renewed while it is held. The
                          highest N counts; whoever takes over from a holder that is dead, or has let go, puts N + 1
    <fleet>.ledger.jsonl  the ledger, in a store
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deploy.addresses import Address
from deploy.errors import LockHeld, RolloutError, ServerError
from deploy.locks import Owner, locked
from deploy.repository.stores import Store
from deploy.repository.stores.addresses import open_store
from deploy.spec import Spec
from deploy.state import Ledger
from deploy.state.ledger import FILE, Line

RENEW = 10.0  # seconds between two renewals
STALE = 90.0  # seconds without one after which a holder that can't be seen from here is taken for dead
_MOST = 4096  # bytes of a lock
_MOST_LEDGER = 1 << 28


@contextmanager
def fleet_ledger(spec: Spec, why: str) -> Iterator[Ledger]:
    """Hold the fleet's lock, and have its ledger. Raises LockHeld at once, ServerError if the place can't be used."""
    with locked(spec.state_dir, why):
        address = Address.parse(spec.rollout.lock, "rollout/lock") if spec.rollout.lock else None
        if spec.rollout.lock is None:
            yield Ledger(spec.state_dir)
        elif address is None:
            shared = Path(spec.rollout.lock) / spec.name
            with locked(shared, why):
                yield Ledger(shared)
        else:
            store = open_store(address)
            with _StoreLock(store, spec.name, why).held() as lock:
                yield StoreLedger(spec.state_dir / "shared", store, f"{spec.name}.{FILE}", lock)


def read_ledger(spec: Spec) -> list[Line]:
    """All lines of the fleet's ledger. Nobody is kept from anything. Raises RolloutError."""
    address = Address.parse(spec.rollout.lock, "rollout/lock") if spec.rollout.lock else None
    if spec.rollout.lock is None:
        return Ledger(spec.state_dir).read()
    if address is None:
        return Ledger(Path(spec.rollout.lock) / spec.name).read()
    return StoreLedger(spec.state_dir / "shared", open_store(address), f"{spec.name}.{FILE}").read()


class _StoreLock:
    """A lock in a store. See the module."""

    def __init__(self, store: Store, name: str, why: str) -> None:
        self._store, self._prefix, self._why = store, f"{name}.lock.", why
        self._number, self._end = 0, threading.Event()
        self.lost = threading.Event()

    @contextmanager
    def held(self) -> Iterator[_StoreLock]:
        """Raises LockHeld, ServerError."""
        try:
            self._store.make()
            self._take()
        except OSError as e:
            raise ServerError(f"can't keep the lock in {self._store}: {e}",
                              hint="name a store that can be written as rollout/lock", id="state-directory") from e
        renewing = threading.Thread(target=self._renew, name="fleet-lock", daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            self._end.set()
            renewing.join(RENEW)
            if not self.lost.is_set():
                with suppress(OSError):
                    self._store.put(self._name(self._number), self._bytes(held=False))

    def _take(self) -> None:
        latest, changed = self._latest()
        if latest:
            holder = self._holder(latest)
            if holder is not None and not _dead(holder, changed):
                raise _held(holder, str(self._store))
        self._number = latest + 1
        if not self._store.put_if_absent(self._name(self._number), self._bytes()):
            holder = self._holder(self._number)
            raise _held(holder or Owner("somebody else", "", 0, 0.0), str(self._store))
        for old in range(max(1, latest - 5), latest + 1):
            with suppress(OSError):
                self._store.delete(self._name(old))

    def _renew(self) -> None:
        while not self._end.wait(RENEW):
            with suppress(OSError):
                if self._latest()[0] > self._number:
                    self.lost.set()
                    return
                self._store.put(self._name(self._number), self._bytes())

    def _latest(self) -> tuple[int, float]:
        """The highest number, and when it was written last; 0 if there is none."""
        numbers = [(int(number), item.changed) for item in self._store.list("") if not item.prefix
                   and item.name.startswith(self._prefix)
                   and (number := item.name.removeprefix(self._prefix)).isdecimal()]
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


def _held(holder: Owner, where: str) -> LockHeld:
    purpose = f", for a {holder.why}" if holder.why else ""
    return LockHeld(f"{holder.by} holds the lock of these servers in {where}{purpose}", by=holder.by,
                    since=holder.since, why=holder.why,
                    hint=f"wait until it is done; a holder that is dead gives way after {STALE:g} s")


class StoreLedger(Ledger):
    """A ledger in a store, with a copy on this machine. lock: the one that is held, None for reading alone."""

    def __init__(self, state_dir: Path, store: Store, name: str, lock: _StoreLock | None = None) -> None:
        super().__init__(state_dir)
        self._store, self._name, self._lock, self._fetched = store, name, lock, False

    def read(self) -> list[Line]:
        """See Ledger.read. The store's counts."""
        if not self._fetched:
            self._fetch()
        return super().read()

    def append(self, event: str, **fields: Any) -> Line:
        """See Ledger.append; the store has the line, too. Raises RolloutError if somebody else has the lock by now."""
        if self._lock is not None and self._lock.lost.is_set():
            raise RolloutError("somebody else has taken the lock of these servers over: this run was silent for too "
                               "long", hint="look what was done: tfs history; then begin again", id="lock-lost")
        if not self._fetched:
            self._fetch()
        line = super().append(event, **fields)
        try:
            self._store.put(self._name, self.path)
        except OSError as e:
            raise RolloutError(f"can't write the ledger {self._name} in {self._store}: {e}",
                               hint="see whether the store can be reached and written", id="ledger-unusable") from e
        return line

    def _fetch(self) -> None:
        try:
            with self._store.open(self._name) as file:
                data = file.read(_MOST_LEDGER)
        except FileNotFoundError:
            data = b""
        except OSError as e:
            raise RolloutError(f"can't read the ledger {self._name} in {self._store}: {e}",
                               hint="see whether the store can be reached", id="ledger-unusable") from e
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(data)
        self._fetched = True
