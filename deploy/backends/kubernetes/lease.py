"""A lock that all who use a cluster see, a Lease (coordination.k8s.io/v1), and texts in ConfigMaps. The time is the API
server's: what the clocks of two operators' machines show doesn't matter."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from deploy import leases
from deploy.backends.kubernetes.cluster import Cluster, Object, connect
from deploy.errors import LockHeld, ServerError
from deploy.leases import HeldLease
from deploy.locks import Owner
from deploy.render.kubernetes import labels, object_name, part_of
from deploy.render.kubernetes.naming import PREFIX
from deploy.spec import Spec

LEASE, MAP = ("coordination.k8s.io/v1", "Lease"), ("v1", "ConfigMap")
_KEY = "ledger.jsonl"
_SECONDS = 30.0  # without renewal, until others may change a server
_HOLDER = f"{PREFIX}/holder"  # annotation: the process, as locks.Owner has it, and what makes this holder unique


class KubernetesLease:
    """A lock. name: the Lease's. why: for those who have to wait. seconds: without renewal, until others may take it.
    labels: of a new one.

    All raise ServerError, BackendMissing.
    """

    def __init__(self, cluster: Cluster, name: str, why: str, seconds: float, labels: Mapping[str, str] | None = None
                 ) -> None:
        self._cluster, self._name, self._why, self._seconds = cluster, name, why, int(seconds)
        self._labels = dict(labels or {})
        self._us, self._claim = Owner.here(why), secrets.token_hex(8)

    def __str__(self) -> str:
        return f"Lease {self._name} in namespace {self._cluster.namespace}"

    def take(self) -> None:
        """Raises LockHeld if somebody has it."""
        lease = self._cluster.get(LEASE, self._name)
        over = lease is None or _over(lease, self._cluster.time())
        if lease is not None and (holder := _holder(lease)) and not over and not _ended_here(lease):
            raise LockHeld(f"{holder} holds the lock of these servers, {self}", by=holder,
                           since=str(lease["spec"].get("acquireTime", "")),
                           hint=f"wait until it is done; a holder that is dead gives way after {self._seconds} s")
        if not self._put(lease, str(self._us)):
            raise LockHeld(f"somebody else takes the lock of these servers, {self}, right now", by="", since="",
                           hint="run it again in a while")

    def renew(self) -> bool:
        """Whether it is ours still."""
        lease = self._cluster.get(LEASE, self._name)
        return lease is not None and self._is_ours(lease) and self._put(lease, str(self._us))

    def let_go(self) -> None:
        """Nobody has it from now on."""
        lease = self._cluster.get(LEASE, self._name)
        if lease is not None and self._is_ours(lease):
            self._put(lease, "")

    def _is_ours(self, lease: Object) -> bool:
        """What people read isn't unique: two machines may have one name, and in each container process 1 runs."""
        return bool(_holder(lease)) and _noted(lease).get("claim") == self._claim

    def _put(self, before: Object | None, holder: str) -> bool:
        """False if it was changed since it was read."""
        now = _micro(self._cluster.time())
        spec = dict((before or {}).get("spec") or {})
        same = before is not None and self._is_ours(before) and bool(holder)
        acquired = spec.get("acquireTime", now) if same else now
        changes = spec.get("leaseTransitions", 0) + (not same and bool(holder))
        noted = json.dumps({**self._us.to_json(), "claim": self._claim}) if holder else "{}"
        metadata: Object = before["metadata"] if before is not None else {"name": self._name, "labels": self._labels}
        lease = {"apiVersion": LEASE[0], "kind": LEASE[1],
                 "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), _HOLDER: noted}},
                 "spec": {"holderIdentity": holder, "leaseDurationSeconds": self._seconds, "renewTime": now,
                          "acquireTime": acquired, "leaseTransitions": int(changes)}}
        try:
            if before is None:
                self._cluster.request("POST", self._cluster.path(LEASE), f"create {self}", body=lease)
            else:
                self._cluster.request("PUT", self._cluster.path(LEASE, self._name), f"write {self}", body=lease)
        except ServerError as e:
            if e.details.get("status") == 409:
                return False
            raise
        return True


# -- a text beside it

def read_text(cluster: Cluster, name: str) -> bytes:
    """What a ConfigMap of ours keeps; nothing if it isn't there. Raises ServerError."""
    one = cluster.get(MAP, name)
    return str(((one or {}).get("data") or {}).get(_KEY, "")).encode()


def write_text(cluster: Cluster, name: str, text: bytes) -> None:
    """At most 1 MiB. Raises ServerError."""
    cluster.apply({"apiVersion": MAP[0], "kind": MAP[1], "metadata": {"name": name}, "data": {_KEY: text.decode()}})


@contextmanager
def held(spec: Spec, why: str) -> Iterator[HeldLease]:
    """Keep others on other machines, and in the cluster, from changing the spec's server. Raises LockHeld as well."""
    name = object_name(spec)
    lease, taken = KubernetesLease(connect(part_of(spec)), name, why, _SECONDS, labels(spec)), leases.now()
    lease.take()
    with leases.renewed(lease, every=_SECONDS / 3, limit=_SECONDS * 2 / 3, taken=taken) as held_lease:
        yield held_lease


def _ended_here(lease: Object) -> bool:
    """Whether the holder was a process of this machine that is gone: it was killed, and nobody needs to wait for it."""
    try:
        owner = Owner.from_json(_noted(lease))
    except (KeyError, TypeError, ValueError):
        return False  # another tool's, or an earlier release's: until it wasn't renewed for a while
    return bool(owner.machine) and str(owner) == _holder(lease) and not owner.alive


def _noted(lease: Object) -> Mapping[str, Any]:
    try:
        data = json.loads((lease["metadata"].get("annotations") or {}).get(_HOLDER) or "{}")
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _holder(lease: Object) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _over(lease: Object, now: datetime) -> bool:
    spec = lease.get("spec") or {}
    try:
        renewed = datetime.fromisoformat(str(spec["renewTime"]).replace("Z", "+00:00"))
        return now - renewed > timedelta(seconds=float(spec.get("leaseDurationSeconds") or 0))
    except (KeyError, ValueError, TypeError):
        return True


def _micro(moment: datetime) -> str:
    """As Kubernetes' MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
