"""The lock and the ledger of several servers in a real cluster: a Lease and a ConfigMap."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import leases
from deploy.backends import silent
from deploy.backends.kubernetes.lease import LEASE, KubernetesLease
from deploy.errors import LockHeld, RolloutError, SpecError
from deploy.spec import Spec, parse
from deploy.state import changing_all, ledger_of
from deploy.waiting import Deadline, poll
from tests.support.peers.kubernetes import Namespace, namespace


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def spec_in(place: Namespace, directory: Path) -> Spec:
    return parse(f"models: [{{name: m, versions: 1}}]\nrollout: {{lock: 'kubernetes:{place.name}/ops'}}",
                 directory / "serving.yaml")


def test_one_operator_at_a_time_and_all_see_the_same_ledger(place: Namespace, tmp_path: Path) -> None:
    spec = spec_in(place, tmp_path)
    with changing_all(spec, "rollout of m", silent) as ledger:
        ledger.append("fleet_known_good", model="m", serving={"versions": [1], "labels": {}})
        other = spec_in(place, tmp_path / "elsewhere")
        with pytest.raises(LockHeld, match=r"holds the lock of these servers, Lease ops in namespace"), \
                changing_all(other, "rollback of m", silent):
            pass
    lease = place.cluster.get(LEASE, "ops")
    assert lease is not None and lease["spec"]["holderIdentity"] == ""
    shutil.rmtree(spec.state_dir, ignore_errors=True)
    assert [line["event"] for line in ledger_of(spec).read()] == ["fleet_known_good"]
    with changing_all(spec, "rollback of m", silent) as ledger:
        ledger.append("fleet_known_good", model="m", serving={"versions": [2], "labels": {}})
    assert len(ledger_of(spec_in(place, tmp_path / "elsewhere")).read()) == 2


def test_a_holder_that_is_dead_gives_way_and_is_told(place: Namespace, tmp_path: Path) -> None:
    dead = KubernetesLease(place.cluster, "ops", "rollout of m", 4)
    dead.take()
    spec = spec_in(place, tmp_path)

    def taken() -> bool | None:
        try:
            with changing_all(spec, "rollback of m", silent):
                return True
        except LockHeld:
            return None

    assert taken() is None
    assert poll(taken, Deadline(10))
    assert not dead.renew()
    with changing_all(spec, "rollout of m", silent) as ledger:
        for lease in leases._held.get():
            lease.taken_over = True
        with pytest.raises(RolloutError, match="somebody else has taken the lock"):
            ledger.append("fleet_known_good", model="m", serving={"versions": [1], "labels": {}})


@pytest.mark.parametrize("text", ["kubernetes:ops", "kubernetes:a/b/c", "kubernetes:UP/x", "kubernetes:/x"])
def test_what_names_no_lease(text: str) -> None:
    with pytest.raises(SpecError, match="expected kubernetes:NAMESPACE/NAME"):
        parse(f"models: [{{name: m, versions: 1}}]\nrollout: {{lock: '{text}'}}", Path("/x/serving.yaml"))
