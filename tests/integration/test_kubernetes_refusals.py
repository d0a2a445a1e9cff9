"""What a cluster refuses, and what keeps pods from serving: one sentence each, and nothing half-done. No model runs."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deploy import serving
from deploy.backends import BACKENDS
from deploy.backends.kubernetes.server import KubernetesServer
from deploy.cli.outcome import run
from deploy.errors import BackendMissing, DeployError, ServerError, StartFailed
from deploy.serving.doctor.diagnosis import diagnose
from deploy.spec import KubernetesPart, ModelsPart, Resources, ServicePart, Spec
from tests.support.peers.kubernetes import VERSION, Namespace, kubeconfig, namespace
from tests.support.repository import savedmodel
from tests.support.servers import engine_or_skip, image_or_skip, until
from tests.support.serving import spec_at
from tests.support.tls import self_signed

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]
BACKEND = BACKENDS["kubernetes"]
OTHER = list[bytes]()  # an authority that has signed nothing of the cluster's


@pytest.fixture(scope="module")
def image() -> str:
    return image_or_skip(engine_or_skip())


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def spec(place: Namespace, image: str, tmp_path: Path) -> Iterator[Spec]:
    savedmodel(tmp_path / "models" / "m" / "1")
    part = KubernetesPart(version=VERSION, namespace=place.name, pull_policy="Never",
                          models=ModelsPart(host_path=str(tmp_path / "models")))
    made = spec_at(tmp_path, "name: refused\nmodels: [{name: m, versions: [1]}]", backend="kubernetes", image=image,
                   start_timeout=30.0, drain=0.0, kubernetes=part)
    yield made
    found = BACKEND.find(made)
    if found is not None:
        found.stop(0)


def changed(spec: Spec, **server: Any) -> Spec:
    """With other values of server/, and of server/kubernetes for what stands there."""
    part = spec.server.kubernetes
    of_part = {k: server.pop(k) for k in list(server) if k in KubernetesPart.__struct_fields__}
    assert part is not None
    return msgspec.structs.replace(spec, server=msgspec.structs.replace(
        spec.server, kubernetes=msgspec.structs.replace(part, **of_part), **server))


def nothing_left(place: Namespace) -> bool:
    maps = {m["metadata"]["name"] for m in place.cluster.list(("v1", "ConfigMap"))} - {"kube-root-ca.crt"}
    return not maps and not place.cluster.list(("apps/v1", "Deployment")) and not place.cluster.list(("v1", "Service"))


# -- the cluster itself

def altered(place: Namespace, directory: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> str:
    """A kubeconfig in which cluster and user are others."""
    config = yaml.safe_load(place.kubeconfig.read_text())
    change(config["clusters"][0]["cluster"], config["users"][0]["user"])
    (directory / "kubeconfig").write_text(json.dumps(config))
    return str(directory / "kubeconfig")


def no_server(cluster: dict[str, Any], _: dict[str, Any]) -> None:
    cluster["server"] = "https://127.0.0.1:1"


def another_authority(cluster: dict[str, Any], _: dict[str, Any]) -> None:
    cluster["certificate-authority-data"] = base64.b64encode(OTHER[-1]).decode()


def bad_token(_: dict[str, Any], user: dict[str, Any]) -> None:
    user.clear()
    user["token"] = "no-such-token"


def no_login(_: dict[str, Any], user: dict[str, Any]) -> None:
    user.clear()
    user["exec"] = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-login", "args": []}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Path(self_signed(tmp_path_factory.mktemp("elsewhere")).ca or "").read_bytes()


@pytest.mark.parametrize(("change", "error", "identity", "sentence"), [
    (no_server, BackendMissing, "kubernetes-unreachable", "at https://127.0.0.1:1 doesn't answer: Connection refused"),
    (another_authority, BackendMissing, "kubernetes-tls", "can't prove who it is"),
    (bad_token, ServerError, "kubernetes-login", "doesn't know who is asking"),
    (no_login, ServerError, "kubernetes-login", "doesn't know who is asking"),
])
def test_a_cluster_that_cannot_be_asked(spec: Spec, place: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        change: Any, error: type[DeployError], identity: str, sentence: str,
                                        authority: bytes) -> None:
    OTHER.append(authority)
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", altered(place, tmp_path, change))
        with pytest.raises(error) as e:
            serving.up(spec)
        assert e.value.id == identity and sentence in e.value.message, e.value
        assert e.value.hint
        assert diagnose(spec).most_likely is not None
        with pytest.raises(DeployError):
            serving.down(spec)
    assert nothing_left(place)


def test_a_kubeconfig_that_is_none(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendMissing, match=r"can't use the cluster of the kubeconfig: .* has no context nowhere"):
        serving.up(changed(spec, context="nowhere"))
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(tmp_path / "no-such-file"))
        with pytest.raises(BackendMissing, match=r"no kubeconfig: .*no-such-file doesn't exist; name it in KUBECONFIG"):
            serving.up(spec)
        patch.setenv("KUBECONFIG", str(tmp_path))
        with pytest.raises(BackendMissing, match=r"is a directory; KUBECONFIG names the file in it"):
            serving.up(spec)
        patch.setenv("KUBECONFIG", str(tmp_path / "no-such-file"))
        (tmp_path / "no-such-file").write_text("{]")
        with pytest.raises(BackendMissing, match="kubeconfig .*can't be used"):
            serving.up(spec)


def test_a_namespace_that_is_not_there(spec: Spec) -> None:
    with pytest.raises(ServerError, match="there is no namespace nowhere in the cluster") as e:
        serving.up(changed(spec, namespace="nowhere"))
    assert e.value.id == "kubernetes-namespace" and "kubectl create namespace nowhere" in e.value.hint
    assert not serving.status(changed(spec, namespace="nowhere")).running
    most_likely = diagnose(changed(spec, namespace="nowhere")).most_likely
    assert most_likely and "there is no namespace nowhere" in most_likely.cause
    assert "kubectl create namespace nowhere" in most_likely.fix


def test_who_may_not_is_told_which_rule_would_do(spec: Spec, place: Namespace, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(place.account([], tmp_path)))
        with pytest.raises(ServerError, match=r"may not get deployments in namespace") as e:
            serving.status(spec)
        with pytest.raises(ServerError, match="may not get leases"):  # the lock comes first
            serving.up(spec)
    assert e.value.id == "kubernetes-forbidden"
    assert '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["get"]}' in e.value.hint
    assert nothing_left(place)


def test_what_somebody_else_has_set_stays_theirs(spec: Spec, place: Namespace) -> None:
    cluster, kind = place.cluster, ("v1", "Service")
    port = {"name": "rest", "port": spec.server.rest_port, "protocol": "TCP", "targetPort": 9999}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "refused-rest"},
              "spec": {"type": "ClusterIP", "ports": [port]}}
    cluster.request("PATCH", cluster.path(kind, "refused-rest"), "apply", body=theirs,
                    content_type="application/apply-patch+yaml", query={"fieldManager": "argocd"})
    try:
        with pytest.raises(ServerError, match=r"can't apply Service refused-rest: argocd has set .*targetPort") as e:
            serving.up(spec)
        assert e.value.id == "kubernetes-conflict" and e.value.details["managers"] == ["argocd"]
        (left,) = cluster.list(kind)
        assert left["spec"]["ports"][0]["targetPort"] == 9999
    finally:
        cluster.delete(theirs)
    assert nothing_left(place)


def test_a_quota_that_is_used_up(spec: Spec, image: str) -> None:
    with namespace() as small:
        small.create("resourcequotas", {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}})
        with pytest.raises(StartFailed, match=r"the namespace's quota lets no more pods in.*exceeded quota: few"):
            serving.up(changed(spec, namespace=small.name))
        assert nothing_left(small)


def test_what_a_pod_is_to_have_and_is_not_there(spec: Spec, place: Namespace) -> None:
    with pytest.raises(StartFailed, match=r'serviceaccount "nobody" not found') as e:
        serving.up(changed(spec, service_account="nobody"))
    assert "make what it doesn't find" in e.value.hint
    with pytest.raises(ServerError, match=r"provided port is not in the valid range.*; correct what it names"):
        serving.up(changed(spec, service=ServicePart(type="NodePort", grpc_node_port=80)))
    assert nothing_left(place)


def test_a_gpu_that_no_node_has(spec: Spec, place: Namespace) -> None:
    told = list[str]()
    with pytest.raises(StartFailed, match=r"no node takes pod refused-\S+: .*Insufficient nvidia.com/gpu") as e:
        serving.up(changed(spec, start_timeout=3.0, resources=Resources(gpus=1)), progress=told.append)
    assert "ask for fewer GPUs" in e.value.hint and any("no node takes it" in line for line in told)
    assert nothing_left(place)


def test_an_image_that_no_node_has(spec: Spec, place: Namespace) -> None:
    with pytest.raises(StartFailed, match=r"can't have the image tfs-deploy/nowhere:1") as e:
        serving.up(changed(spec, image="tfs-deploy/nowhere:1"))
    assert "pull_policy" in e.value.hint and nothing_left(place)


def test_the_command_line_says_it_in_one_sentence(spec: Spec, place: Namespace, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "serving.yaml").write_text(f"""
name: refused
models: [{{name: m, versions: [1]}}]
server: {{backend: kubernetes, kubernetes: {{version: "{VERSION}", namespace: nowhere, models: {{host_path: /x}}}}}}
""")
    assert run(["up", "--spec", str(tmp_path / "serving.yaml")]) == ServerError.exit_code
    assert "there is no namespace nowhere" in capsys.readouterr().err


# -- what keeps pods from serving

def applied(spec: Spec) -> KubernetesServer:
    """As `up` applies it, and nobody waits."""
    launch = BACKEND.plan(spec, labels={})
    BACKEND.config(spec).write(launch.files)
    server = BACKEND.server(launch, lambda _: None)
    assert isinstance(server, KubernetesServer)
    server.apply()
    return server


def no_room(spec: Spec, _: Namespace) -> Spec:
    return changed(spec, resources=Resources(memory="9000g"))


def no_gpu(spec: Spec, _: Namespace) -> Spec:
    return changed(spec, resources=Resources(gpus=1))


def no_directory(spec: Spec, _: Namespace) -> Spec:
    return changed(spec, models=ModelsPart(host_path="/no/such/models"))


def no_volume(spec: Spec, place: Namespace) -> Spec:
    place.create("persistentvolumeclaims", {"metadata": {"name": "unbound"}, "spec": {
        "accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}})
    return changed(spec, models=ModelsPart(pvc="unbound"))


def too_little_memory(spec: Spec, _: Namespace) -> Spec:
    return changed(spec, resources=Resources(memory="64m"), flags={"fake_memory": 256})


def never_ready(spec: Spec, _: Namespace) -> Spec:
    return changed(spec, probe="http", flags={"fake_unready": "true"})


def ends_at_once(spec: Spec, _: Namespace) -> Spec:
    return changed(spec, flags={"fake_exit": 3})


CASES: dict[str, tuple[Callable[[Spec, Namespace], Spec], str, str]] = {
    "no node is big enough": (no_room, "unschedulable", "Insufficient memory"),
    "no GPU": (no_gpu, "unschedulable", "Insufficient nvidia.com/gpu"),
    "no such directory": (no_directory, "volume-missing", "/no/such/models"),
    "a claim that isn't there": (lambda spec, _: changed(spec, models=ModelsPart(pvc="none")), "unschedulable",
                                 'persistentvolumeclaim "none" not found'),
    "a claim without a volume": (no_volume, "volume-pending", "PersistentVolumeClaim unbound is Pending"),
    "an image that isn't there": (lambda spec, _: changed(spec, image="tfs-deploy/nowhere:1"), "image-pull",
                                  "tfs-deploy/nowhere:1"),
    "too little memory": (too_little_memory, "out-of-memory", "its limit of 64m is too small"),
    "a probe that fails": (never_ready, "probe", "probe says"),
    "it ends at once": (ends_at_once, "crash-loop", "exit code 3"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_doctor_finds_it(spec: Spec, place: Namespace, case: str) -> None:
    change, rule, words = CASES[case]
    sick = change(spec, place)
    applied(sick)

    def found() -> bool:
        return any(c.rule == rule and words in c.cause and c.fix for c in diagnose(sick).causes)

    until(found, case, seconds=60, evidence=lambda: diagnose(sick).causes)
    assert not diagnose(sick).well and not serving.status(sick).ready


def test_a_config_map_that_somebody_removed(spec: Spec, place: Namespace) -> None:
    server = applied(spec)
    until(server.alive, "it runs", seconds=60)
    place.delete("configmaps/refused-config")
    for pod in place.pods():
        place.delete(f"pods/{pod['metadata']['name']}", gracePeriodSeconds=0)
    until(lambda: any(c.rule == "config-not-mounted" and "refused-config" in c.cause for c in diagnose(spec).causes),
          "it is missed", seconds=60, evidence=lambda: diagnose(spec).causes)


def test_where_nothing_may_be_read_but_pods_the_doctor_says_so(spec: Spec, place: Namespace, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    applied(changed(spec, image="tfs-deploy/nowhere:1"))
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
             {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
             {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(place.account(rules, tmp_path)))
        causes = diagnose(changed(spec, image="tfs-deploy/nowhere:1")).causes
    assert any(c.rule == "rbac" and "may not list events" in c.cause for c in causes), causes


def test_without_a_cluster_they_are_skipped_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(tmp_path / "no"))
        patch.setenv("K8S_RUN", str(tmp_path))
        patch.setattr("tests.support.peers.kubernetes.FORCED", False)
        with pytest.raises(pytest.skip.Exception, match="no Kubernetes cluster: .*kubeconfig isn't there"):
            kubeconfig()
    assert os.environ["KUBECONFIG"] != str(tmp_path / "no")
