"""Manifests: what is in them, and what must not change from one rendering to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.errors import SpecError
from deploy.render import kubernetes
from deploy.spec import Spec, parse
from deploy.types import ServedModel, Specific

AT = Path("/work/serving.yaml")


def spec_of(part: str = "models: {pvc: models}", *, server: str = "", models: str = "[{name: half, versions: [1]}]",
            top: str = "") -> Spec:
    """A spec with this text as its part `server/kubernetes`, in YAML's flow style."""
    text = f"models: {models}\n{top}\nserver: {{{server}{', ' if server else ''}kubernetes: {{{part}}}}}\n"
    return parse(text, AT)


def objects(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Kind and name -> object."""
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in kubernetes.manifests(spec_of(*args, **kwargs))}


def pod_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
    pod: dict[str, Any] = objects(*args, **kwargs)["Deployment/serving"]["spec"]["template"]["spec"]
    return pod


def test_what_a_server_needs_is_there() -> None:
    assert {"ConfigMap/serving-config", "Service/serving-rest", "Service/serving-grpc", "Service/serving-headless",
            "Deployment/serving"} <= objects().keys()


def test_every_object_and_pod_can_be_found_by_our_labels() -> None:
    for one in kubernetes.manifests(spec_of("models: {pvc: m}, labels: {team: vision}, namespace: ml")):
        assert one["metadata"]["labels"].items() >= {
            "app.kubernetes.io/name": "tensorflow-serving", "app.kubernetes.io/instance": "serving",
            "app.kubernetes.io/managed-by": "tfs", "org.tfs-deploy/name": "serving", "team": "vision"}.items()
        assert one["metadata"]["namespace"] == "ml"


@pytest.mark.parametrize(("name", "wanted"), [
    ("digits", "digits"),
    ("Digits", "digits-"),
    ("fleet.eu", "fleet-eu-"),
    ("7up", "tfs-7up-"),
    ("x" * 128, "x" * 33 + "-"),
    ("a-", "a-"),
])
def test_objects_are_called_like_the_spec_where_kubernetes_allows_it(name: str, wanted: str) -> None:
    found = kubernetes.object_name(spec_of(top=f"name: '{name}'"))
    assert found == wanted or (found.startswith(wanted) and len(found) <= 40 and found[-6:].isalnum())


def test_a_release_changes_the_config_map_and_no_pod() -> None:
    spec = spec_of(server="batching: {max_batch_size: 8}")
    before, after = (kubernetes.manifests(spec, [ServedModel("half", "/work/models/half", Specific(v))])
                     for v in ((1,), (1, 2)))
    assert [a["kind"] for a, b in zip(after, before, strict=True) if a != b] == ["ConfigMap"]


def test_files_that_are_read_at_the_start_only_bring_new_pods() -> None:
    one, other = (objects(server=f"batching: {{max_batch_size: {size}}}")["Deployment/serving"]["spec"]["template"]
                  for size in (8, 16))
    assert one != other


def test_models_are_where_the_config_says() -> None:
    text = objects("models: {pvc: m, path: team/models}", models="[{name: half, versions: [1]}, "
                   "{name: deep, versions: [1], base_path: models/a/b}]")["ConfigMap/serving-config"]["data"]
    assert 'base_path: "/models/team/models/half"' in text["models.config"]
    assert 'base_path: "/models/team/models/a/b"' in text["models.config"]


def test_a_model_outside_of_the_repository_is_told() -> None:
    with pytest.raises(SpecError, match="pods see the repository /work/models only") as e:
        objects(models="[{name: half, versions: [1], base_path: /elsewhere/half}]")
    assert e.value.path == "models/0/base_path"


def test_the_pod_can_do_nothing_but_serve() -> None:
    pod = pod_of()
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534,
                                      "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert all(m.get("readOnly") for m in pod["containers"][0]["volumeMounts"] if m["name"] in ("models", "config"))


@pytest.mark.parametrize(("version", "wanted"), [("1.29", {"exec": {"command": ["sleep", "7"]}}),
                                                 ("1.30", {"sleep": {"seconds": 7}})])
def test_requests_end_before_the_server_does(version: str, wanted: object) -> None:
    pod = pod_of(f"models: {{pvc: m}}, version: '{version}'", server="drain: 6.5")
    assert pod["containers"][0]["lifecycle"] == {"preStop": wanted}
    assert pod["terminationGracePeriodSeconds"] == 18


def test_resources_are_in_kubernetes_units() -> None:
    (server,) = pod_of(server="resources: {cpus: 0.5, memory: 512m}")["containers"]
    assert server["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"} == server["resources"]["requests"]


def test_yaml_says_the_same_as_the_objects_and_always_the_same() -> None:
    spec = spec_of("models: {pvc: '1e3'}, labels: {build: '0123', odd: 'on', exp: '1e3'}")
    text = kubernetes.to_yaml(kubernetes.manifests(spec))
    assert list(yaml.safe_load_all(text)) == kubernetes.manifests(spec)
    assert text == kubernetes.to_yaml(kubernetes.manifests(spec))
    assert 'exp: "1e3"' in text  # a number for a reader of YAML 1.2
    assert "&id" not in text


@pytest.mark.parametrize(("part", "message", "path"), [
    ("", "it isn't said where the pods find the models", "models"),
    ("models: {}", "expected one source of models, got none", "models"),
    ("models: {pvc: a, baked: true}", "expected one source of models, got pvc and baked", "models"),
    ("models: {host_path: models}", "expected an absolute path of the node, got 'models'", "models/host_path"),
    ("models: {pvc: m}, version: '1.16'", "manifests for Kubernetes 1.16 can't be written", "version"),
    ("models: {pvc: m}, version: 1.20", "expected text, and YAML reads this as 1.2", "version"),
    ("models: {pvc: m}, version: '2'", "'2' can't stand here", "version"),
    ("models: {pvc: m}, namespace: My_Team", "no namespace can be called 'My_Team'", "namespace"),
    ("models: {pvc: m}, replicas: 0", "Expected int >= 1", "replicas"),
])
def test_bad_input_gets_one_sentence_with_the_path(part: str, message: str, path: str) -> None:
    with pytest.raises(SpecError) as e:
        objects(part)
    assert message in e.value.message
    assert e.value.path == f"server/kubernetes/{path}"
