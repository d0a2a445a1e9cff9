"""Specs for Kubernetes that the renderer's tests share: between them every part is used."""

from __future__ import annotations

from pathlib import Path

from deploy.spec import Spec, parse

AT = Path("/work/serving.yaml")
_MODELS = "[{name: half, versions: [1, 2], labels: {stable: 1}}, {name: deep, versions: {latest: 2}}]"
_SERVER = "resources: {cpus: 2, memory: 4g}, batching: {max_batch_size: 8}, monitoring: {}"
# Name -> (what stands in `server`, in `server/kubernetes`, at the top)
PARTS: dict[str, tuple[str, str, str]] = {
    "plain": ("", "models: {pvc: models}", ""),
    "statefulset": (_SERVER, "kind: statefulset, replicas: 3, models: {host_path: /srv/models, path: team}, "
                    "fs_group: 2000, pdb: {min_available: 50%}, spread: required, network_policy: false", ""),
    "mirrored": (_SERVER, "replicas: 2, models: {mirror: {every: 10, size: 20Gi, secret: s3, env: {AWS_REGION: eu}}}, "
                 "hpa: {min: 2, max: 8, cpu: 70, memory: 80, metrics: [{type: Pods, pods: {metric: {name: calls}, "
                 "target: {type: AverageValue, averageValue: '100'}}}]}, service_monitor: {labels: {release: prom}}, "
                 "watch: true, namespace: ml", "repository: s3://bucket/models"),
    "queried": (_SERVER, "models: {baked: true}, keda: {min: 0, max: 9, cpu: 60, prometheus: {address: 'http://p:90', "
                "query: 'sum(rate(x[1m]))', threshold: 12.5}, triggers: [{type: cron, metadata: {timezone: UTC, "
                "start: 0 8 * * *, end: 0 18 * * *, desiredReplicas: '3'}}]}, surge: 0, probe: http", ""),
    "guarded": (f"{_SERVER}, drain: 30", "models: {pvc: models}, probe: sidecar, replicas: 4, pull_policy: Always, "
                "pull_secrets: [registry], service_account: server, runtime_class: nvidia, priority_class: high, "
                "node_selector: {pool: gpu}, requests: {cpu: 500m}, tolerations: [{key: gpu, operator: Exists, effect: "
                "NoSchedule}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "
                "{nodeSelectorTerms: [{matchExpressions: [{key: gpu, operator: Exists}]}]}}}, "
                "network_policy: {from: [{namespaceSelector: {matchLabels: {team: web}}}], egress: [{to: [{ipBlock: "
                "{cidr: 10.0.0.0/8}}]}]}, service: {type: NodePort, grpc_node_port: 30500, rest_node_port: 30501, "
                "annotations: {example.com/a: b}}, labels: {team: vision}, annotations: {example.com/owner: a@b}, "
                "pod_annotations: {example.com/scrape: 'true'}, pdb: {max_unavailable: 2}", ""),
    "gpu": ("resources: {gpus: 2, gpu_memory_fraction: 0.9}", "models: {pvc: models}", ""),
    "secured": ("tls: {certificate: a.pem, key: b.pem}, platform_file: true", "models: {pvc: models}", ""),
}
IMAGE_VOLUME = ("", "models: {image: 'example.com/models@sha256:00', path: models}, pull_policy: IfNotPresent", "")
KSERVE = (_SERVER, "kind: inferenceservice, models: {pvc: models}, hpa: {min: 1, max: 4, cpu: 70}", "")


def kubernetes_spec(server: str, part: str, top: str = "", *, version: str = "1.31", models: str = _MODELS) -> Spec:
    """A spec with these texts, in YAML's flow style, in `server`, in `server/kubernetes`, and at the top."""
    between = ", " if server else ""
    below = f"{server}{between}kubernetes: {{version: '{version}', {part}}}"
    return parse(f"models: {models}\n{top}\nserver: {{{below}}}\n", AT)
