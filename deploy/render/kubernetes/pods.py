"""The pod template: the server and what runs beside it, as closed as it can be, and where it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from deploy import render
from deploy.render.configs import CONFIG_MOUNT, GRPC_PORT, MODELS, MODELS_MOUNT, PROGRAM, REST_PORT, TLS
from deploy.render.kubernetes.naming import (
    PREFIX,
    account_name,
    config_name,
    given,
    labels,
    part_of,
    selector,
    tls_secret_name,
)
from deploy.render.kubernetes.probes import grace, health_sidecar, lifecycle, probes
from deploy.render.kubernetes.sources import (
    MIRROR_LIST,
    closed,
    mirror_containers,
    model_volumes,
    pod_layout,
    source_of,
)
from deploy.spec import Spec

SERVER = "server"  # the container
START_FILES, CERTIFICATE = f"{PREFIX}/start-files", f"{PREFIX}/certificate"
_USER = 65534
_LATER = (MODELS, MIRROR_LIST)  # what a rollout changes while the pods run
_MATCH_KEYS = 27  # minor release that spreads the pods of one template among themselves


def pod_template(spec: Spec, files: Mapping[str, str], certificate: str = "") -> dict[str, Any]:
    """files: the ConfigMap's. Those that are read at the start only are in the template as a digest, as the certificate
    is: who changes them gets new pods. Those that rollouts change aren't, and the pods stay."""
    static = "".join(f"{name}\0{text}\0" for name, text in sorted(files.items()) if name not in _LATER)
    annotations = {**part_of(spec).pod_annotations, START_FILES: hashlib.sha256(static.encode()).hexdigest()[:16],
                   **given(**{CERTIFICATE: certificate.rpartition(":")[2][:16]})}
    return {"metadata": {"labels": labels(spec), "annotations": annotations}, "spec": pod(spec)}


def pod(spec: Spec) -> dict[str, Any]:
    """The pod's own spec."""
    part, (first, beside) = part_of(spec), mirror_containers(spec)
    return {
        "serviceAccountName": account_name(spec),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Somebody has to be pid 1 who isn't the server: a process with pid 1 and no handler ignores SIGTERM
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": grace(spec),
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER,
                            **given(fsGroup=part.fs_group), "seccompProfile": {"type": "RuntimeDefault"}},
        **given(imagePullSecrets=[{"name": name} for name in part.pull_secrets], runtimeClassName=part.runtime_class,
                priorityClassName=part.priority_class, nodeSelector=dict(part.node_selector),
                tolerations=list(part.tolerations), affinity=dict(part.affinity),
                topologySpreadConstraints=_spread(spec), initContainers=first),
        "containers": [_server(spec), *health_sidecar(spec), *beside],
        "volumes": _volumes(spec, tools=bool(first) or part.probe == "sidecar"),
    }


def _server(spec: Spec) -> dict[str, Any]:
    part, server = part_of(spec), spec.server
    mounts = [{"name": "config", "mountPath": str(CONFIG_MOUNT), "readOnly": True}]
    if not source_of(spec).baked:
        mounts.append({"name": "models", "mountPath": str(MODELS_MOUNT), "readOnly": True})
    return {
        "name": SERVER, "image": server.image, **given(imagePullPolicy=part.pull_policy),
        "command": [PROGRAM], "args": render.argv(spec, pod_layout(spec), GRPC_PORT, REST_PORT),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  the pod's own
        "ports": [{"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
                  {"name": "rest", "containerPort": REST_PORT, "protocol": "TCP"}],
        **given(resources=resources(spec)),
        **probes(spec), **lifecycle(spec),
        "securityContext": closed(),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def resources(spec: Spec) -> dict[str, Any]:
    """server/resources are the limits; what isn't asked for besides is asked for as much as that."""
    part, allowed = part_of(spec), spec.server.resources
    limits = given(cpu=_cpus(allowed.cpus),
                   memory=None if allowed.memory is None else quantity(allowed.memory))
    if allowed.gpus is not None:
        limits[part.gpu] = str(allowed.gpus)
    return given(requests={**limits, **given(cpu=_cpus(part.requests.cpu), memory=part.requests.memory)}, limits=limits)


def _cpus(amount: float | str | None) -> str | None:
    return f"{round(amount * 1000)}m" if isinstance(amount, float) else amount


def quantity(memory: str) -> str:
    """`512m` as Kubernetes writes it: 512Mi. There, m is a thousandth."""
    unit = memory[-1].upper()
    return memory if unit.isdigit() else f"{memory[:-1]}{unit}i"


def _spread(spec: Spec) -> list[dict[str, Any]]:
    part = part_of(spec)
    if part.spread == "off" or not part.several:
        return []
    when = "DoNotSchedule" if part.spread == "required" else "ScheduleAnyway"
    keys = ["pod-template-hash"] if part.minor >= _MATCH_KEYS and part.kind == "deployment" else []
    return [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when,
             "labelSelector": {"matchLabels": selector(spec)}, **given(matchLabelKeys=keys)}
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")]


def _volumes(spec: Spec, *, tools: bool) -> list[dict[str, Any]]:
    config: dict[str, Any] = {"configMap": {"name": config_name(spec)}}
    if spec.server.tls:
        secret = {"name": tls_secret_name(spec), "items": [{"key": TLS, "path": TLS}]}
        config = {"projected": {"sources": [config, {"secret": secret}]}}
    return [{"name": "config", **config}, *model_volumes(spec), {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            *([{"name": "tool-tmp", "emptyDir": {"sizeLimit": "256Mi"}}] if tools else [])]
