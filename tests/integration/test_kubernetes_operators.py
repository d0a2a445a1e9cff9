"""Objects of KEDA, the Prometheus operator and KServe on a real API server that has their CRDs, or hasn't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import serving
from deploy.errors import DeployError, ServerError
from deploy.render.kubernetes import SpecTexts, manifests
from deploy.spec import Spec, load_spec
from tests.support.manifests import KSERVE, PARTS, kubernetes_spec
from tests.support.peers.kubernetes import VERSION, Namespace, namespace
from tests.support.peers.operators import OPERATORS, installed
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, server_image_or_skip

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]
KEDA = {"keda": {"min": 1, "max": 2, "prometheus": {"address": "http://p:9090", "query": "sum(x)", "threshold": 5}}}
MONITOR = {"service_monitor": True}


@pytest.fixture
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def written(place: Namespace, directory: Path, **part: Any) -> Spec:
    if not (directory / "models").exists():
        savedmodel(directory / "models" / "m" / "1")
    (directory / "serving.yaml").write_bytes(msgspec.yaml.encode({
        "name": "half", "models": [{"name": "m", "versions": [1]}],
        "server": {"backend": "kubernetes", "start_timeout": 60.0, "drain": 0.0, "flags": {"tfs_loader": "echo"},
                   "image": server_image_or_skip(engine_or_skip()), "monitoring": {}, "kubernetes": {
                       "version": VERSION, "namespace": place.name, "pull_policy": "Never",
                       "models": {"host_path": str(directory / "models")}, **part}}}))
    return load_spec(directory / "serving.yaml")


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """What of ours the API server has dropped."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            if key not in (theirs or {}):
                yield f"{path}/{key}"
            else:
                yield from lost(value, theirs[key], f"{path}/{key}")
    elif isinstance(ours, list):
        for i, value in enumerate(ours):
            yield from lost(value, theirs[i] if i < len(theirs) else None, f"{path}/{i}")
    elif ours != theirs:
        yield f"{path}: {ours!r} is {theirs!r}"


def test_an_api_server_with_their_schemas_takes_each_object_as_it_is(place: Namespace) -> None:
    specs = [kubernetes_spec(*parts) for parts in (*PARTS.values(), KSERVE)]
    objects = [one for spec in specs for one in manifests(spec, texts=SpecTexts("models: []\n"))
               if one["kind"] in OPERATORS]
    assert {one["kind"] for one in objects} == OPERATORS.keys()
    with installed(place.cluster, *OPERATORS):
        for one in objects:
            one["metadata"]["namespace"] = place.name
            assert not list(lost(one["spec"], place.cluster.apply(one, dry_run=True)["spec"]))
        objects[0]["spec"]["maxReplicaCount" if objects[0]["kind"] == "ScaledObject" else "endpoints"] = "many"
        with pytest.raises(ServerError, match="many|must be of type"):
            place.cluster.apply(objects[0], dry_run=True)


def test_up_makes_them_and_down_removes_them(place: Namespace, tmp_path: Path) -> None:
    spec, kinds = written(place, tmp_path, **KEDA, **MONITOR), ("ScaledObject", "ServiceMonitor")
    with installed(place.cluster, *kinds):
        place.cluster._kinds.clear()
        try:
            serving.up(spec)
            assert serving.up(spec).already and serving.status(spec).ready
            for kind in kinds:
                group, version, _ = OPERATORS[kind]
                assert place.cluster.get((f"{group}/{version}", kind), "half") is not None
            serving.up(written(place, tmp_path, **KEDA))
            assert place.cluster.get(("monitoring.coreos.com/v1", "ServiceMonitor"), "half") is None
            assert serving.down(spec)
            assert place.cluster.get(("keda.sh/v1alpha1", "ScaledObject"), "half") is None
        finally:
            with suppress(DeployError):
                serving.down(spec)


@pytest.mark.parametrize(("part", "says", "hint"), [
    (KEDA, "knows no ScaledObject of keda.sh/v1alpha1", "install KEDA there, .* or take out server/kubernetes/keda"),
    (MONITOR, "knows no ServiceMonitor of monitoring.coreos.com/v1", "the Prometheus operator.*service_monitor"),
    ({"version": "1.33", "models": {"image": "example.com/models:1"}},
     r"is Kubernetes 1\.\d+, and models/image wants image volumes, which 1.33 has", "mirror or pvc"),
    ({"version": "1.99"}, r"is Kubernetes 1\.\d+, and the manifests are for 1.99", r'version: "1\.\d+"'),
])
def test_what_the_cluster_does_not_have_is_told_before_anything_is_applied(
        place: Namespace, tmp_path: Path, part: dict[str, Any], says: str, hint: str) -> None:
    with pytest.raises(ServerError, match=f"{says}.*{hint}"):
        serving.up(written(place, tmp_path, **part))
    for kind in (("apps/v1", "Deployment"), ("v1", "Service")):
        assert not place.cluster.list(kind)
