"""What is rendered, in a real cluster: it takes each object, and pods mirror an object store. Two operators at once."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import rollout, serving
from deploy.backends.kubernetes.cluster import MANAGER
from deploy.backends.kubernetes.lease import LEASE
from deploy.errors import LockHeld
from deploy.locks import Owner, this_machine
from deploy.render.kubernetes import SpecTexts, manifests
from deploy.repository import Repository, pull
from deploy.serving.ready import ready
from deploy.spec import KubernetesPart, MirrorPart, ModelsPart, ServicePart, Spec
from deploy.state import changing
from deploy.types import ModelVersion
from tests.support.manifests import PARTS, kubernetes_spec
from tests.support.peers.kubernetes import VERSION, Namespace, namespace
from tests.support.peers.pods import published, tool_image
from tests.support.peers.stores import moto
from tests.support.servers import engine_or_skip, server_image_or_skip
from tests.support.serving import spec_at

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]
TEXT = """
name: half-plus
{top}
models:
  - {{name: half, versions: [1], labels: {{stable: 1}}}}
rollout: {{soak: 0.1, hold: 0.1, interval: 0.1, patience: 20}}
"""


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.mark.parametrize("name", PARTS)
def test_a_cluster_takes_every_object(place: Namespace, name: str) -> None:
    """Kubernetes 1.20 wants older versions of some; nothing is started here."""
    spec = kubernetes_spec(*PARTS[name], version=VERSION)
    part = msgspec.structs.replace(spec.server.kubernetes, namespace=place.name)
    spec = msgspec.structs.replace(spec, server=msgspec.structs.replace(spec.server, kubernetes=part))
    cluster, taken = place.cluster, 0
    for one in manifests(spec, texts=SpecTexts("models: []\n")):
        kind = (one["apiVersion"], one["kind"])
        if cluster.knows(kind):  # what operators bring along isn't here
            path = cluster.path(kind, one["metadata"]["name"], place.name)
            cluster.request("PATCH", path, f"apply {kind[1]}", body=one, content_type="application/apply-patch+yaml",
                            query={"fieldManager": MANAGER, "dryRun": "All"})
            taken += 1
    assert taken >= 6


def served(place: Namespace, at: Path, source: ModelsPart, top: str = "", **part: Any) -> Spec:
    """half/1 is to be served by two pods."""
    ports = random.sample(range(30100, 32700), 2)
    wanted = KubernetesPart(version=VERSION, namespace=place.name, replicas=2, pull_policy="Never", models=source,
                            service=ServicePart(type="NodePort", grpc_node_port=ports[0], rest_node_port=ports[1]),
                            **part)
    return spec_at(at, TEXT.format(top=top), backend="kubernetes", image=server_image_or_skip(engine_or_skip()),
                   drain=1.0, start_timeout=90.0, kubernetes=wanted)


@pytest.fixture
def repository(models: Path, tmp_path: Path) -> Repository:
    """half: 1 and 2."""
    return published(models, tmp_path)


@pytest.mark.tensorflow
def test_pods_mirror_an_object_store_and_a_release_waits_for_them(
        place: Namespace, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = place.cluster.request("GET", "/api/v1/nodes", "list nodes")["items"]
    (address,) = (a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    with moto(address) as store:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        for version in (1, 2):
            pull(repository, Repository(f"{store.root}/models"), ModelVersion("half", version))
        secret = {key: value for key, value in store.environ.items() if "KEY" in key}
        place.create("secrets", {"metadata": {"name": "store"}, "stringData": secret})
        mirror = MirrorPart(every=1.0, secret="store", size="1Gi",
                            env={key: value for key, value in store.environ.items() if key not in secret})
        spec = served(place, tmp_path / "elsewhere", ModelsPart(mirror=mirror), f"repository: {store.root}/models",
                      tool=tool_image())
        serving.up(spec)
        before = {p["metadata"]["uid"] for p in place.pods()}
        rollout.roll_out(spec, "half", 2)
        assert ready(spec).ready, ready(spec)
        assert {p["metadata"]["uid"] for p in place.pods()} == before
        assert serving.down(spec)


def test_operators_on_two_machines_see_each_other(place: Namespace, repository: Repository, tmp_path: Path) -> None:
    here, there = (served(place, tmp_path / name, ModelsPart(host_path=str(repository.root)))
                   for name in ("here", "there"))
    taken = pytest.raises(LockHeld, match="holds the lock of these servers, Lease half-plus in namespace")
    with changing(here, "rollout of half"), taken:
        serving.up(there)
    with changing(there, "up"):
        pass
    host, mark = socket.gethostname(), "org.tfs-deploy/holder"
    gone = Owner(f"somebody@{host} (process {2**22 - 1})", host, 2**22 - 1, 0.0, machine=this_machine())
    namesake = replace(gone, machine="another boot 4026531836")
    lease = place.cluster.get(LEASE, "half-plus")
    assert lease is not None and lease["metadata"]["labels"]["org.tfs-deploy/name"] == "half-plus"
    now = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    for holder, noted, free in ((gone, gone, True), (gone, namesake, False), ("another tool", gone, False),
                                (gone, None, False)):
        lease = place.cluster.get(LEASE, "half-plus") or {}
        spec = {**lease["spec"], "holderIdentity": str(holder), "renewTime": now}
        notes = {mark: json.dumps(noted.to_json()) if noted else "junk"}
        place.cluster.request("PUT", place.cluster.path(LEASE, "half-plus"), "write it", body={
            **lease, "spec": spec, "metadata": {**lease["metadata"], "annotations": notes}})
        refused = nullcontext() if free else pytest.raises(LockHeld, match="holds the lock")
        with refused, changing(here, "up"):
            pass
