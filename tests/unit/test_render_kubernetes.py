"""Manifests: what is in them, and what must not change from one rendering to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from deploy.errors import SpecError
from deploy.render import kubernetes
from deploy.render.kubernetes.naming import text_name
from deploy.spec import Spec, parse
from deploy.types import All, Latest, ModelVersion, ServedModel, Specific

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


def names(found: dict[str, Any]) -> set[str]:
    return {key.partition("/")[0] for key in found}


# -- models

def test_a_mirror_fetches_first_and_follows_then() -> None:
    pod = pod_of("models: {mirror: {every: 10, secret: s3, env: {AWS_REGION: eu}}}", top="repository: s3://b/models")
    fetch, follow = pod["initContainers"]
    common = ["mirror", "--from=s3://b/models", "--to=/models", "--list=/etc/tfs-mirror/mirror.list"]
    assert fetch["args"] == common and "restartPolicy" not in fetch
    assert follow["args"] == [*common, "--follow", "--every=10"] and follow["restartPolicy"] == "Always"
    assert follow["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert {"name": "AWS_REGION", "value": "eu"} in follow["env"]
    assert [c["name"] for c in pod["containers"]] == ["server"]


def test_where_sidecars_are_unknown_the_mirror_is_a_container() -> None:
    pod = pod_of("models: {mirror: true}, version: '1.28'", top="repository: s3://b/models")
    assert [c["name"] for c in pod["initContainers"]] == ["fetch"]
    assert [c["name"] for c in pod["containers"]] == ["server", "mirror"]


def test_the_server_cant_read_what_the_mirror_knows() -> None:
    """Processes of a pod see each other here; those of another user don't tell their environment."""
    pod = pod_of("models: {mirror: {secret: s3}}", top="repository: s3://b/models")
    assert pod["securityContext"]["runAsUser"] != pod["initContainers"][1]["securityContext"]["runAsUser"]
    assert "envFrom" not in pod["containers"][0]
    assert "config" not in {m["name"] for m in pod["initContainers"][1]["volumeMounts"]}


def test_what_a_mirror_fetches_changes_without_new_pods() -> None:
    spec = spec_of("models: {mirror: true}", top="repository: s3://b/models")
    models = [ServedModel("half", "/m/half", Specific((1, 2))), ServedModel("deep", "/m/deep", Latest(3)),
              ServedModel("all", "/m/all", All())]
    assert kubernetes.mirror_list(models) == "half:1,2\ndeep:latest=3\nall:all\n"
    one, other = (kubernetes.manifests(spec, [ServedModel("half", spec.models[0].base_path, Specific(v))])
                  for v in ((1,), (1, 2)))
    assert [a["kind"] for a, b in zip(one, other, strict=True) if a != b] == ["ConfigMap"]
    assert other[1]["data"]["mirror.list"] == "half:1,2\n"


@pytest.mark.parametrize(("text", "after"), [
    ("m:1\n", "m:1,2\n"), ("m:1,2\n", "m:1,2\n"), ("m:3\nn:1\n", "m:2,3\nn:1\n"), ("m:latest=1\n", "m:latest=1\n"),
    ("m:all\n", "m:all\n"), ("", "m:2\n")])
def test_a_release_adds_its_version_to_what_is_fetched(text: str, after: str) -> None:
    assert kubernetes.with_versions(text, [ModelVersion("m", 2)]) == after


def test_a_mirror_takes_only_what_is_signed() -> None:
    spec = spec_of("models: {mirror: true}", top="repository: s3://b/models\nsigned_by: [key.pem]")
    found = kubernetes.manifests(spec, texts=kubernetes.SpecTexts("", ("PEM",)))
    assert found[1]["data"]["signer-0.pem"] == "PEM"
    pod = found[-1]["spec"]["template"]["spec"]
    assert all("--signed-by=/etc/tfs-mirror/signer-0.pem" in c["args"] for c in pod["initContainers"])
    with pytest.raises(SpecError, match=r"can't read /work/serving.yaml|can't read /work/key.pem"):
        kubernetes.manifests(spec)


@pytest.mark.parametrize(("source", "volume"), [
    ("pvc: m", {"persistentVolumeClaim": {"claimName": "m", "readOnly": True}}),
    ("host_path: /srv", {"hostPath": {"path": "/srv", "type": "Directory"}}),
    ("image: example.com/m", {"image": {"reference": "example.com/m"}}),
])
def test_a_volume_has_the_models(source: str, volume: dict[str, Any]) -> None:
    pod = pod_of(f"models: {{{source}}}, version: '1.35'")
    assert {"name": "models", **volume} in pod["volumes"] and "initContainers" not in pod


def test_an_image_has_the_models() -> None:
    pod = pod_of("models: {baked: true}")
    assert [v["name"] for v in pod["volumes"]] == ["config", "tmp"]


# -- probes

def test_the_exact_versions_are_asked_for_at_the_start_only() -> None:
    """Later the mounted config file is older or newer than what a rollout has told the server."""
    (server,) = pod_of()["containers"]
    start, ready = (server[probe]["exec"]["command"][2] for probe in ("startupProbe", "readinessProbe"))
    assert "deploy.modelserver.healthcheck" in start and "healthcheck" not in ready
    assert start.endswith(ready)


def test_a_start_has_the_time_that_the_spec_gives_it() -> None:
    probe = pod_of(server="start_timeout: 301")["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) >= 301


def test_a_sidecar_answers_for_an_image_without_a_shell() -> None:
    server, health = pod_of("models: {pvc: m}, probe: sidecar")["containers"]
    assert health["args"] == ["ready", "--rest-url=http://127.0.0.1:8501", "--grpc=127.0.0.1:8500", "--model=half",
                              "--serve=0.0.0.0:8599"]
    assert health["readinessProbe"]["httpGet"] == {"path": "/", "port": "health"}
    assert all("exec" not in server[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))


def test_a_status_request_is_a_probe_too() -> None:
    (server,) = pod_of("models: {pvc: m}, probe: http")["containers"]
    assert server["readinessProbe"]["httpGet"] == {"path": "/v1/models/half", "port": "rest"}


# -- scaling

@pytest.mark.parametrize(("version", "apis"), [("1.20", {"policy/v1beta1", "autoscaling/v2beta2", "batch/v1beta1"}),
                                               ("1.22", {"policy/v1", "autoscaling/v2beta2", "batch/v1"}),
                                               ("1.23", {"policy/v1", "autoscaling/v2", "batch/v1"})])
def test_objects_have_the_versions_that_a_release_knows(version: str, apis: set[str]) -> None:
    found = kubernetes.manifests(spec_of(
        f"version: '{version}', models: {{pvc: m}}, hpa: {{max: 3, cpu: 50}}, watch: true, namespace: ml",
        server="resources: {cpus: 1}"), texts=kubernetes.SpecTexts("models: []"))
    assert {o["apiVersion"] for o in found} - apis == {"v1", "apps/v1", "networking.k8s.io/v1",
                                                       "rbac.authorization.k8s.io/v1"}
    assert {o["apiVersion"] for o in found} >= apis


@pytest.mark.parametrize("part", ["hpa: {max: 3, cpu: 50}", "keda: {max: 3, cpu: 50}"])
def test_an_autoscaler_alone_says_how_many_pods_there_are(part: str) -> None:
    assert "replicas" not in objects(f"models: {{pvc: m}}, {part}", server="resources: {cpus: 1}")[
        "Deployment/serving"]["spec"]


@pytest.mark.parametrize(("part", "budget"), [
    ("replicas: 1", None), ("replicas: 2", {"maxUnavailable": 1}), ("replicas: 2, pdb: false", None),
    ("pdb: true", {"maxUnavailable": 1}), ("replicas: 9, pdb: {max_unavailable: 30%}", {"maxUnavailable": "30%"}),
    ("pdb: {max_unavailable: 0}", {"maxUnavailable": 0}), ("pdb: {min_available: 1}", {"minAvailable": 1}),
])
def test_a_drained_node_leaves_enough(part: str, budget: dict[str, Any] | None) -> None:
    found = objects(f"models: {{pvc: m}}, {part}").get("PodDisruptionBudget/serving")
    assert (found and {k: v for k, v in found["spec"].items() if k.endswith("vailable")}) == budget


def test_pods_are_spread_where_there_are_several() -> None:
    assert "topologySpreadConstraints" not in pod_of()
    zone, node = pod_of("models: {pvc: m}, replicas: 2")["topologySpreadConstraints"]
    assert zone["whenUnsatisfiable"] == "ScheduleAnyway" and node["matchLabelKeys"] == ["pod-template-hash"]
    assert "matchLabelKeys" not in pod_of("models: {pvc: m}, replicas: 2, version: '1.26'")[
        "topologySpreadConstraints"][0]
    assert "topologySpreadConstraints" not in pod_of("models: {pvc: m}, replicas: 2, spread: 'off'")


def test_without_spare_gpus_an_old_pod_goes_first() -> None:
    found = objects("models: {pvc: m}, surge: 0", server="resources: {gpus: 2}")["Deployment/serving"]["spec"]
    assert found["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert found["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}


# -- what is around the pods

def test_nothing_goes_out_and_only_requests_come_in() -> None:
    policy = objects()["NetworkPolicy/serving"]["spec"]
    assert policy["egress"] == [] and policy["policyTypes"] == ["Ingress", "Egress"]
    assert [p["port"] for p in policy["ingress"][0]["ports"]] == ["grpc", "rest"] and "from" not in policy["ingress"][0]
    mirrored = objects("models: {mirror: true}", top="repository: s3://b/m")["NetworkPolicy/serving"]["spec"]
    assert mirrored["egress"] == [{}]
    assert "NetworkPolicy" not in names(objects("models: {pvc: m}, network_policy: false"))


def test_metrics_are_collected_once_from_each_pod() -> None:
    found = objects("models: {pvc: m}, service_monitor: {labels: {release: prom}}", server="monitoring: {path: /m}")
    monitor = found["ServiceMonitor/serving"]
    assert monitor["metadata"]["labels"]["release"] == "prom"
    chosen = monitor["spec"]["selector"]["matchLabels"].items()
    assert [k for k, o in found.items() if k.startswith("Service/") and chosen <= o["metadata"]["labels"].items()] == [
        "Service/serving-rest"]
    assert monitor["spec"]["endpoints"] == [{"port": "rest", "path": "/m", "interval": "30s"}]


def test_the_certificate_is_in_a_secret_and_no_key_in_the_manifests() -> None:
    found = objects(server="tls: {certificate: a.pem, key: b.pem}")
    (config, *_) = found["Deployment/serving"]["spec"]["template"]["spec"]["volumes"]
    assert config["projected"]["sources"][1]["secret"]["name"] == "serving-config"
    assert "Secret" not in names(found)


def test_watch_pods_are_not_behind_the_services() -> None:
    found = {f"{o['kind']}/{o['metadata']['name']}": o for o in kubernetes.manifests(
        spec_of("models: {pvc: m}, watch: true, namespace: ml"), texts=kubernetes.SpecTexts("models: []"))}
    job = found["CronJob/serving-watch"]["spec"]["jobTemplate"]["spec"]["template"]
    assert not found["Service/serving-rest"]["spec"]["selector"].items() <= job["metadata"]["labels"].items()
    assert job["spec"]["containers"][0]["args"] == ["watch", "--spec=/etc/tfs-spec/serving.yaml"]
    assert {"name": "TFS_IN_CLUSTER", "value": "1"} in job["spec"]["containers"][0]["env"]
    assert found["ConfigMap/serving-spec"]["data"] == {"serving.yaml": "models: []"}
    assert "pods/portforward" not in {r for rule in found["Role/serving-watch"]["rules"] for r in rule["resources"]}
    assert found["RoleBinding/serving-watch"]["subjects"][0]["namespace"] == "ml"


def test_kserve_instead() -> None:
    found = objects("kind: inferenceservice, models: {pvc: m}, replicas: 2")
    assert names(found) == {"ServiceAccount", "ConfigMap", "NetworkPolicy", "InferenceService"}
    predictor = found["InferenceService/serving"]["spec"]["predictor"]
    (server,) = predictor["containers"]
    assert server["name"] == "kserve-container" and [p["name"] for p in server["ports"]] == ["http1", "h2c"]
    assert server["livenessProbe"]["tcpSocket"] == {"port": "h2c"}
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 2)


# -- rights

def test_a_role_has_what_its_command_needs_and_no_more() -> None:
    spec = spec_of("models: {pvc: m}, replicas: 2")
    roles = {verb: {(r, v) for rule in kubernetes.role(spec, verb, kubernetes.manifests(spec))["rules"]
                    for r in rule["resources"] for v in rule["verbs"]} for verb in kubernetes.ROLE_VERBS}
    changing = {"create", "patch", "update", "delete"}
    reading = {verb for verb, rights in roles.items()
               if not {v for r, v in rights if "/" not in r} & changing}
    assert reading == {"status", "logs", "doctor"}
    assert roles["logs"] == {("deployments", "get"), ("statefulsets", "get"), ("pods", "get"), ("pods", "list"),
                             ("pods", "watch"), ("pods/log", "get")}
    assert roles["status"] < roles["doctor"] < roles["rollout"] == roles["watch"] < roles["up"]
    assert ("poddisruptionbudgets", "patch") in roles["up"] and ("scaledobjects", "patch") not in roles["up"]
    assert not {r for rights in roles.values() for r, _ in rights} & {"*", "nodes", "namespaces"}
    assert {verb for verb, rights in roles.items() if any(r == "secrets" for r, _ in rights)} == {"down"}


def test_a_certificate_is_a_secret_that_up_may_write() -> None:
    spec = spec_of(server="tls: {certificate: a.pem, key: b.pem}")
    found = [rule for rule in kubernetes.role(spec, "up", [])["rules"] if rule["resources"] == ["secrets"]]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in found] == [
        (["get", "patch", "delete"], ["serving-config"]), (["create"], None)]


def test_a_role_names_the_objects_that_it_is_for() -> None:
    spec = spec_of()
    for verb in ("status", "rollout", "up"):
        for rule in kubernetes.role(spec, verb, kubernetes.manifests(spec))["rules"]:
            if {"get", "patch"} & set(rule["verbs"]) and rule["resources"] == ["configmaps"]:
                assert rule["resourceNames"] == ["serving-config"]


def test_who_changes_a_server_may_use_the_lock_that_several_share() -> None:
    spec = spec_of("models: {pvc: m}, namespace: ml")
    shared = replace(spec, rollout=replace(spec.rollout, lock="kubernetes:ml/ops"))
    elsewhere = replace(spec, rollout=replace(spec.rollout, lock="kubernetes:another/ops"))
    rules = [kubernetes.role(one, "watch", [])["rules"] for one in (spec, elsewhere, shared)]
    assert rules[0] == rules[1], "a Role is about one namespace"
    more = [(r["resources"], r["verbs"], r.get("resourceNames")) for r in rules[2] if r not in rules[0]]
    text = text_name("ops", "serving.ledger.jsonl")
    assert more == [(["leases"], ["get", "update"], ["ops"]), (["configmaps"], ["get", "patch"], ["ops", text]),
                    (["configmaps"], ["create"], None)]


# -- bad input

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
    ("models: {mirror: true}", "the repository is a directory", "models/mirror"),
    ("models: {image: x}", "images as volumes need Kubernetes 1.33, and version is 1.31", "models/image"),
    ("models: {baked: true, path: a}", "with baked the models are where tfs puts them", "models/path"),
    ("models: {pvc: M}", "nothing in Kubernetes can be called 'M'", "models/pvc"),
    ("models: {pvc: m}, pull_secrets: [a_b]", "nothing in Kubernetes can be called 'a_b'", "pull_secrets/0"),
    ("models: {pvc: m}, labels: {'a b': c}", "'a b' can't be a key", "labels/a b"),
    ("models: {pvc: m}, labels: {a: 'b c'}", "a label can't be 'b c'", "labels/a"),
    ("models: {pvc: m}, labels: {org.tfs-deploy/name: x}", "tfs sets this itself", "labels/org.tfs-deploy/name"),
    ("models: {pvc: m}, hpa: {max: 1, cpu: 5}, keda: {max: 1, cpu: 5}", "two autoscalers", "keda"),
    ("models: {pvc: m}, hpa: {min: 3, max: 1, cpu: 5}", "the least is 3 and the most 1", "hpa/min"),
    ("models: {pvc: m}, hpa: {max: 3, cpu: 5}", "a percentage of what? No pod asks for processors", "hpa/cpu"),
    ("models: {pvc: m}, hpa: {max: 3, memory: 5}", "a percentage of what? No pod asks for memory", "hpa/memory"),
    ("models: {pvc: m}, hpa: {max: 3}", "it isn't said what pods are added for", "hpa"),
    ("models: {pvc: m}, keda: {max: 3}", "it isn't said what pods are added for", "keda"),
    ("models: {pvc: m}, keda: {max: 3, min: 0, cpu: 9}, requests: {cpu: 1}", "without pods there is no load",
     "keda/min"),
    ("models: {pvc: m}, pdb: {}", "expected one of max_unavailable and min_available", "pdb"),
    ("models: {pvc: m}, service_monitor: true", "there are no metrics to collect", "service_monitor"),
    ("models: {pvc: m}, watch: true", "a right is given to an account of a namespace", "namespace"),
    ("models: {pvc: m}, kind: inferenceservice, pdb: true", "an InferenceService can't have this", "pdb"),
    ("models: {pvc: m}, requests: {cpu: two}", "'two' can't stand here", "requests/cpu"),
    ("models: {pvc: m}, watch: {schedule: hourly}", "'hourly' can't stand here", "watch/schedule"),
    ("models: {pvc: m}, replica: 2", "unknown key", "replica"),
])
def test_bad_input_gets_one_sentence_with_the_path(part: str, message: str, path: str) -> None:
    with pytest.raises(SpecError) as e:
        objects(part)
    assert message in e.value.message
    assert e.value.path == f"server/kubernetes/{path}"


def test_a_pod_gets_a_number_of_gpus() -> None:
    with pytest.raises(SpecError, match="a pod gets a number of GPUs, not all of a node") as e:
        spec_of(server="resources: {gpus: all}")
    assert e.value.path == "server/resources/gpus"
