"""What is rendered, in a real cluster: it takes each object, pods mirror an object store, Roles are just enough."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import rollout, serving
from deploy.backends.kubernetes.cluster import MANAGER
from deploy.errors import DeployError
from deploy.render.kubernetes import RoleVerb, SpecTexts, manifests, role
from deploy.repository import Repository, pull
from deploy.serving.doctor.diagnosis import diagnose
from deploy.serving.ready import ready
from deploy.spec import KubernetesPart, MirrorPart, ModelsPart, ServicePart, Spec
from deploy.types import ModelVersion
from tests.support.manifests import PARTS, kubernetes_spec
from tests.support.peers.kubernetes import VERSION, Namespace, namespace
from tests.support.peers.stores import moto
from tests.support.servers import FORCED, engine_or_skip, server_image_or_skip
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


def tool_image() -> str:
    image = os.environ.get("TFS_CLI_IMAGE", "tfs-deploy/tfs:ci")
    if not engine_or_skip().has_image(image):
        why = f"no image {image}: `make cli-image`, and name it in TFS_CLI_IMAGE"
        pytest.fail(why) if FORCED else pytest.skip(why)
    return image


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
    repository = Repository(tmp_path / "models")
    for name in ("half_plus_two", "half_plus_three"):
        repository.publish(models / name, "half")
    return repository


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


def with_rights(place: Namespace, spec: Spec, verb: RoleVerb, directory: Path, patch: pytest.MonkeyPatch) -> None:
    """From now on we are somebody with the Role of this command."""
    rules = role(spec, verb, manifests(spec))["rules"]
    patch.setenv("KUBECONFIG", str(place.account(rules, directory)))


@pytest.mark.tensorflow
def test_each_command_works_with_its_role(place: Namespace, repository: Repository, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    spec = served(place, tmp_path, ModelsPart(host_path=str(repository.root)), reach="api")
    with_rights(place, spec, "up", tmp_path, monkeypatch)
    serving.up(spec)
    with_rights(place, spec, "status", tmp_path, monkeypatch)
    status = serving.status(spec)
    assert status.ready and not status.problems and ready(spec).ready
    with pytest.raises(DeployError, match="may not patch|may not"):
        rollout.roll_out(spec, "half", 2)
    with_rights(place, spec, "rollout", tmp_path, monkeypatch)
    rollout.repair(spec)
    rollout.roll_out(spec, "half", 2)
    with_rights(place, spec, "logs", tmp_path, monkeypatch)
    assert "Running gRPC ModelServer" in serving.logs(spec, 500)
    with_rights(place, spec, "doctor", tmp_path, monkeypatch)
    diagnosis = diagnose(spec)
    assert diagnosis.well and not [cause for cause in diagnosis.causes if cause.rule == "rbac"], diagnosis.causes
    with pytest.raises(DeployError, match="may not"):
        serving.down(spec)
    with_rights(place, spec, "down", tmp_path, monkeypatch)
    assert serving.down(spec)
    assert not place.cluster.list(("apps/v1", "Deployment"))
