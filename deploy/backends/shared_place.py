"""What all operators of some servers see, where rollout/lock says: one lock, and texts by their names, as each server's
ledger and that of all. It is in a directory that several machines mount, in a store, or a Lease and ConfigMaps of a
cluster.

    <name>.lock.<N>      in a store: who holds the lock of the spec: put if absent, so one gets it; renewed while it is
                         held. The highest N counts; whoever takes over from a holder that is dead, or has let go, puts
                         N + 1
    <name>.ledger.jsonl  in a store: the ledger of one server, or of all
    <name>.models.config   what a server is told, which reads no file that tfs can write
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

from deploy import leases
from deploy.addresses import Address
from deploy.backends.kubernetes import cluster as clusters
from deploy.backends.kubernetes import lease as cluster_leases
from deploy.errors import LockHeld, ServerError
from deploy.leases import HeldLease, Renewable
from deploy.locks import Owner
from deploy.render.kubernetes.naming import text_name
from deploy.repository.stores import Store, owned
from deploy.repository.stores.addresses import open_store
from deploy.spec import KubernetesPart, Spec
from deploy.spec.constraints import CLUSTER

RENEW = 10.0  # seconds between two renewals
STALE = 90.0  # seconds without one after which a holder that can't be seen from here is taken for dead
LIMIT = 60.0  # seconds without one after which the holder stops; what it began just before has the rest to end in
MOST_BYTES = 900_000  # of a text; Kubernetes lets a ConfigMap have 1 MiB
_MOST_READ = 1 << 28
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")


class Lock(Renewable, Protocol):
    """All raise OSError, ServerError or RepositoryError for what the place refuses."""

    def take(self) -> None:
        """Raises LockHeld if somebody has it."""


class SharedPlace(Protocol):
    """All raise OSError, ServerError or RepositoryError for what the place refuses."""

    def lock(self, name: str, why: str, /) -> Lock: ...

    def read(self, name: str) -> bytes:
        """The text of this name; nothing if there is none."""
        ...

    def write(self, name: str, text: bytes) -> None: ...


def place_of(spec: Spec) -> SharedPlace | Path | None:
    """What rollout/lock names: a directory, something that others see; None if it names nothing."""
    text = spec.rollout.lock
    if text is None:
        return None
    if text.startswith(CLUSTER):
        namespace, _, name = text.removeprefix(CLUSTER).partition("/")
        part = msgspec.structs.replace(spec.server.kubernetes or KubernetesPart(), namespace=namespace)
        return _ClusterPlace(clusters.connect(part), name, f"{spec.fleet or spec.name}.ledger.jsonl")
    address = Address.parse(text, "rollout/lock")
    return Path(text) if address is None else StorePlace(open_store(address))


@contextmanager
def held(place: SharedPlace, name: str, why: str) -> Iterator[HeldLease]:
    """Hold the lock of this name there. Raises LockHeld at once, ServerError if the place can't be used."""
    lock, taken = place.lock(name, why), leases.now()
    try:
        lock.take()
    except OSError as e:
        raise ServerError(f"can't keep the lock in {place}: {e}",
                          hint="name a place that can be written as rollout/lock", id="state-directory") from e
    with leases.renewed(lock, every=RENEW, limit=LIMIT, taken=taken) as lease:
        yield lease


class StorePlace:
    def __init__(self, store: Store) -> None:
        self._store = store

    def __str__(self) -> str:
        return str(self._store)

    def lock(self, name: str, why: str) -> Lock:
        return _StoreLock(self._store, name, why)

    def read(self, name: str) -> bytes:
        try:
            with self._store.open(name) as file:
                return file.read(_MOST_READ)
        except FileNotFoundError:
            return b""

    def write(self, name: str, text: bytes) -> None:
        self._store.put(name, text)


class _StoreLock:
    """See the module. Times are the store's own."""

    def __init__(self, store: Store, name: str, why: str) -> None:
        self._store, self._prefix, self._why, self._number = store, f"{name}.lock.", why, 0

    def __str__(self) -> str:
        return f"{self._prefix}* in {self._store}"

    def renew(self) -> bool:
        if self._latest() > self._number:
            return False
        self._store.put(self._name(self._number), owned.owner_bytes(self._why, held=True))
        return True

    def let_go(self) -> None:
        self._store.put(self._name(self._number), owned.owner_bytes(self._why, held=False))

    def take(self) -> None:
        self._store.make()
        latest = self._latest()
        if latest:
            holder = self._holder(latest)
            if holder is not None and not self._dead(holder, latest):
                raise self._taken(holder)
        self._number = latest + 1
        if not owned.take(self._store, self._name(self._number), self._why):
            raise self._taken(self._holder(self._number) or _UNKNOWN)
        for old in range(max(1, latest - 5), latest + 1):
            with suppress(OSError):
                self._store.delete(self._name(old))

    def _holder(self, number: int) -> Owner | None:
        """Who holds it; None if nobody does any more."""
        data = owned.read(self._store, self._name(number))
        with suppress(ValueError, AttributeError, RecursionError):
            if json.loads(data).get("held", True) is False:
                return None
        return owned.owner_of(self._store, self._name(number)) or _UNKNOWN

    def _dead(self, holder: Owner, number: int) -> bool:
        return not holder.alive if holder.on_this_host else self._silent(number) > STALE

    def _silent(self, number: int) -> float:
        """Seconds since it was written, by the store's clock, which also tells when this is asked."""
        probe = f"{self._prefix}now.{secrets.token_hex(8)}"
        self._store.put(probe, b"-")
        try:
            changed = {item.name: item.changed for item in self._store.list("")}
        finally:
            with suppress(OSError):
                self._store.delete(probe)
        name = self._name(number)
        return changed[probe] - changed[name] if name in changed and probe in changed else 0.0

    def _latest(self) -> int:
        """The highest number; 0 if there is none."""
        return max((int(number) for item in self._store.list("") if not item.prefix
                    and item.name.startswith(self._prefix)
                    and _NUMBER.fullmatch(number := item.name.removeprefix(self._prefix))), default=0)

    def _name(self, number: int) -> str:
        return f"{self._prefix}{number}"

    def _taken(self, holder: Owner) -> LockHeld:
        purpose = f", for a {holder.why}" if holder.why else ""
        return LockHeld(f"{holder.by} holds the lock of these servers in {self._store}{purpose}", by=holder.by,
                        since=holder.since, why=holder.why,
                        hint=f"wait until it is done; a holder that is dead gives way after {STALE:g} s")


_UNKNOWN = Owner("somebody whose name can't be read", "", 0, 0.0)


class _ClusterPlace:
    """One Lease; a ConfigMap of its name for the ledger of all, one for each other text."""

    def __init__(self, cluster: clusters.Cluster, name: str, whole: str) -> None:
        self._cluster, self._name, self._whole = cluster, name, whole

    def __str__(self) -> str:
        return f"namespace {self._cluster.namespace}"

    def lock(self, _: str, why: str) -> Lock:
        return cluster_leases.KubernetesLease(self._cluster, self._name, why, STALE)

    def read(self, name: str) -> bytes:
        return cluster_leases.read_text(self._cluster, self._map(name))

    def write(self, name: str, text: bytes) -> None:
        cluster_leases.write_text(self._cluster, self._map(name), text)

    def _map(self, name: str) -> str:
        return self._name if name == self._whole else text_name(self._name, name)
