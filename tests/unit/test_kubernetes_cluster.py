"""Which cluster is meant: that of a kubeconfig, or the one that this is a pod of; and what one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes import config

from deploy.backends.kubernetes import cluster
from deploy.backends.kubernetes.cluster import connect
from deploy.backends.kubernetes.pods import Pod
from deploy.backends.kubernetes.site import Site
from deploy.errors import BackendMissing, ServerError
from deploy.spec import KubernetesPart


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a service account, and without a kubeconfig."""
    (tmp_path / "namespace").write_text("ml\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(cluster, "_ACCOUNT", tmp_path)
    monkeypatch.setattr(config, "load_incluster_config", lambda client_configuration: None)


@pytest.mark.usefixtures("in_a_pod")
def test_a_pod_uses_its_own_cluster() -> None:
    found = connect(KubernetesPart())
    assert found.inside and found.namespace == "ml"


@pytest.mark.usefixtures("in_a_pod")
def test_a_context_may_be_another_cluster_than_that_of_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    part = KubernetesPart(context="prod", namespace="x")
    with pytest.raises(BackendMissing, match="there is no kubeconfig") as e:
        connect(part)
    assert "TFS_IN_CLUSTER=1 if context prod is the cluster of this pod" in e.value.hint
    monkeypatch.setenv("TFS_IN_CLUSTER", "1")
    found = connect(part)
    assert found.inside and found.namespace == "x"


class Asked:
    """A cluster that has nothing, and remembers what was asked."""

    def __init__(self) -> None:
        self.kinds = list[str]()

    def list(self, kind: tuple[str, str], labels: object = None) -> list[cluster.Object]:
        self.kinds.append(kind[1])
        return []

    def get(self, kind: tuple[str, str], name: str) -> None:
        self.kinds.append(kind[1])


@pytest.mark.parametrize(("state", "asked"), [
    ({"run": "c1", "ready": True}, False), ({"run": "c1"}, False), ({"waiting": "ContainerCreating"}, False),
    ({"waiting": "ErrImageNeverPull"}, True), ({"waiting": "CreateContainerConfigError"}, True),
])
def test_who_waits_for_pods_lists_events_only_if_one_cannot_come(state: Any, asked: bool) -> None:
    there = Asked()
    site = Site(cast("cluster.Cluster", there), "half", "half-config", {}, {})
    fault = site.final_fault(None, [Pod("half-1", "u1", **state)])
    assert bool(fault) == asked and bool(there.kinds) == asked


class Shrinking(Asked):
    """A cluster whose kinds of other projects are removed after it was asked which it has."""

    def knows(self, _: tuple[str, str]) -> bool:
        return True

    def list(self, kind: tuple[str, str], labels: object = None) -> list[cluster.Object]:
        super().list(kind, labels)
        if "." in kind[0] and not kind[0].startswith(("apps/", "rbac", "networking.k8s.io")):
            raise ServerError("can't list: 404 page not found", details={"status": 404})
        return [{"metadata": {"name": kind[1]}}]


def test_a_kind_that_goes_meanwhile_has_no_objects() -> None:
    there = Shrinking()
    found = [one["kind"] for one in Site(cast("cluster.Cluster", there), "half", "half-config", {}, {}).objects()]
    assert {"Deployment", "ConfigMap", "Service"} <= set(found) and "ScaledObject" not in found
    assert "ScaledObject" in there.kinds
