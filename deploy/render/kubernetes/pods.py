"""The pod template: the server with its probes, as closed as it can be, and the paths that it sees."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import render
from deploy.errors import SpecError
from deploy.render.configs import CONFIG_MOUNT, GRPC_PORT, MODELS, MODELS_MOUNT, PROGRAM, REST_PORT, Layout
from deploy.render.kubernetes.naming import PREFIX, config_name, labels, part_of
from deploy.spec import ModelsPart, Resources, Spec

SERVER = "server"  # the container
_USER = 65534
_PERIOD = 5  # seconds between two probes
# In our image the health check that comes with it; in others, as far as bash can ask: both ports, which
# tensorflow_model_server opens once all models are available. --any-version: the mounted config file may be older or
# newer than what a rollout has told the server, so after the start the exact versions aren't asked for
_HEALTHY = """\
if [ -d /opt/tfs/deploy ]; then exec python3 -m deploy.modelserver.healthcheck{flag}; fi
exec 3<>/dev/tcp/127.0.0.1/{grpc} 4<>/dev/tcp/127.0.0.1/{rest}"""


def source_of(spec: Spec) -> ModelsPart:
    """Where the pods find the models. Raises SpecError if nobody has said it."""
    source = part_of(spec).models
    if source is None:
        raise SpecError("it isn't said where the pods find the models", path="server/kubernetes/models",
                        hint="models: {pvc: NAME}, for example", id="missing-key")
    return source


def pod_layout(spec: Spec) -> Layout:
    """Paths as the pods see them: the repository in /models, the config files in /etc/tfs. Raises SpecError for a
    model that lies elsewhere."""
    source = source_of(spec)
    if source.baked:
        return render.mounted_layout(spec)
    paths = dict[str, str]()
    for i, model in enumerate(spec.models):
        base = Path(model.base_path)
        if not base.is_relative_to(spec.repository):
            raise SpecError(f"pods see the repository {spec.repository} only, and {base} isn't in it",
                            path=f"models/{i}/base_path", hint="move the model there, or serve it with another spec",
                            id="bad-path")
        paths[model.name] = str(MODELS_MOUNT / source.path / base.relative_to(spec.repository).as_posix())
    return Layout(paths, str(CONFIG_MOUNT))


def pod_template(spec: Spec, files: Mapping[str, str]) -> dict[str, Any]:
    """files: the ConfigMap's. Those that a server reads at its start only are in the template as a digest: who changes
    them gets new pods. models.config isn't: rollouts change it, and the pods stay."""
    part = part_of(spec)
    static = "".join(f"{name}\0{text}\0" for name, text in sorted(files.items()) if name != MODELS)
    annotations = {**part.pod_annotations, f"{PREFIX}/start-files": hashlib.sha256(static.encode()).hexdigest()[:16]}
    return {"metadata": {"labels": labels(spec), "annotations": annotations}, "spec": _pod(spec)}


def _pod(spec: Spec) -> dict[str, Any]:
    part = part_of(spec)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **({"imagePullSecrets": [{"name": name} for name in part.pull_secrets]} if part.pull_secrets else {}),
        # Somebody has to be pid 1 who isn't the server: a process with pid 1 and no handler ignores SIGTERM
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": math.ceil(2 * spec.server.drain) + 5,
        "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_server(spec)],
        "volumes": _volumes(spec),
    }


def _server(spec: Spec) -> dict[str, Any]:
    part, server = part_of(spec), spec.server
    mounts = [{"name": "config", "mountPath": str(CONFIG_MOUNT), "readOnly": True}]
    if not source_of(spec).baked:
        mounts.append({"name": "models", "mountPath": str(MODELS_MOUNT), "readOnly": True})
    return {
        "name": SERVER, "image": server.image,
        **({"imagePullPolicy": part.pull_policy} if part.pull_policy else {}),
        "command": [PROGRAM], "args": render.argv(spec, pod_layout(spec), GRPC_PORT, REST_PORT),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  the pod's own
        "ports": [{"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
                  {"name": "rest", "containerPort": REST_PORT, "protocol": "TCP"}],
        "resources": resources(server.resources),
        **_probes(spec), **_lifecycle(spec),
        "securityContext": closed(),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def closed() -> dict[str, Any]:
    """A container that can do nothing but its work."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


def resources(limits: Resources) -> dict[str, Any]:
    """server/resources as Kubernetes has it: what may be used is also asked for."""
    amounts = dict[str, str]()
    if limits.cpus is not None:
        amounts["cpu"] = f"{round(limits.cpus * 1000)}m"
    if limits.memory is not None:
        amounts["memory"] = quantity(limits.memory)
    return {"requests": dict(amounts), "limits": dict(amounts)} if amounts else {}


def quantity(memory: str) -> str:
    """`512m` as Kubernetes writes it: 512Mi. There, m is a thousandth."""
    unit = memory[-1].upper()
    return memory if unit.isdigit() else f"{memory[:-1]}{unit}i"


def _probes(spec: Spec) -> dict[str, Any]:
    def asks(flag: str) -> dict[str, Any]:
        return {"exec": {"command": ["bash", "-c", _HEALTHY.format(flag=flag, grpc=GRPC_PORT, rest=REST_PORT)]},
                "timeoutSeconds": 10, "periodSeconds": _PERIOD}

    return {
        "startupProbe": {**asks(""), "failureThreshold": math.ceil(spec.server.start_timeout / _PERIOD) + 1},
        "readinessProbe": {**asks(" --any-version"), "failureThreshold": 3},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "timeoutSeconds": 5, "periodSeconds": 10,
                          "failureThreshold": 6},
    }


def _lifecycle(spec: Spec) -> dict[str, Any]:
    """Go on serving while the cluster takes the pod's address out of its Services, and while requests end:
    tensorflow_model_server cuts off those that run when SIGTERM comes."""
    seconds = math.ceil(spec.server.drain)
    if not seconds:
        return {}
    sleep = {"sleep": {"seconds": seconds}} if part_of(spec).minor >= 30 else {
        "exec": {"command": ["sleep", str(seconds)]}}
    return {"lifecycle": {"preStop": sleep}}


def _volumes(spec: Spec) -> list[dict[str, Any]]:
    source = source_of(spec)
    volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": config_name(spec)}}]
    if source.pvc:
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": source.pvc, "readOnly": True}})
    elif source.host_path:
        volumes.append({"name": "models", "hostPath": {"path": source.host_path, "type": "Directory"}})
    return [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}]
