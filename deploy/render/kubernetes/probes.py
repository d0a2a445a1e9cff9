"""When is a pod ready, and how does it end? What kubelet asks, and what happens before SIGTERM."""

from __future__ import annotations

import math
from typing import Any

from deploy.render.configs import CONFIG_MOUNT, GRPC_PORT, MODELS, REST_PORT
from deploy.render.kubernetes.naming import part_of
from deploy.render.kubernetes.sources import tool_container
from deploy.spec import Spec
from deploy.types import ModelRef

_HEALTH_PORT = 8599  # of the sidecar
_PERIOD = 5  # seconds between two probes
_SLEEP_ACTION = 30  # minor release that has one
# Whether each model that the mounted config file names has a version that is AVAILABLE, through bash alone: kubelet
# runs it every few seconds, and Python would take a quarter of a second of a processor for it. Which versions isn't
# asked: a rollout tells the server before kubelet has brought the new file, or after it
_READY = """\
exec 3<>/dev/tcp/127.0.0.1/{grpc} || exit 1
for model in $(sed -n 's/^ *name: "\\(.*\\)"$/\\1/p' {config}); do
  exec 4<>/dev/tcp/127.0.0.1/{rest} || exit 1
  printf 'GET /v1/models/%s HTTP/1.0\\r\\n\\r\\n' "$model" >&4
  grep -Eq '"state": *"AVAILABLE"' <&4 || {{ echo "no version of $model is AVAILABLE"; exit 1; }}
done"""
# At the start the exact versions and labels are asked for by the health check of our image; tensorflow_model_server
# opens its ports when all of them are available
_STARTED = "if [ -d /opt/tfs/deploy ]; then exec python3 -m deploy.modelserver.healthcheck; fi\n"


def probes(spec: Spec) -> dict[str, Any]:
    """Those of the server's container.

    Liveness asks for an open port only: a server without its models is no better after a restart.
    """
    starting = {"periodSeconds": _PERIOD, "failureThreshold": math.ceil(spec.server.start_timeout / _PERIOD) + 1}
    ready = {"periodSeconds": _PERIOD, "failureThreshold": 3}
    alive = {"tcpSocket": {"port": "grpc"}, "timeoutSeconds": 5, "periodSeconds": 10, "failureThreshold": 6}
    kinds = {
        "exec": (_asks(_STARTED + _READY), _asks(_READY)),
        "sidecar": (_port(), _port()),
        "http": (_port(), {"httpGet": {"path": ModelRef(spec.models[0].name).rest_path, "port": "rest"},
                           "timeoutSeconds": 5}),
    }
    at_start, later = kinds[part_of(spec).probe]
    return {"startupProbe": {**at_start, **starting}, "readinessProbe": {**later, **ready}, "livenessProbe": alive}


def _asks(script: str) -> dict[str, Any]:
    text = script.format(grpc=GRPC_PORT, rest=REST_PORT, config=CONFIG_MOUNT / MODELS)
    return {"exec": {"command": ["bash", "-c", text]}, "timeoutSeconds": 10}


def _port() -> dict[str, Any]:
    return {"tcpSocket": {"port": "grpc"}, "timeoutSeconds": 5}


def health_sidecar(spec: Spec) -> list[dict[str, Any]]:
    """`tfs ready` over HTTP beside a server whose image can't be asked from inside; the pod is ready when both are."""
    if part_of(spec).probe != "sidecar":
        return []
    # Behind TLS only REST is asked: the certificates aren't here
    grpc = [] if spec.server.tls else [f"--grpc=127.0.0.1:{GRPC_PORT}"]
    args = ["ready", f"--rest-url=http://127.0.0.1:{REST_PORT}", *grpc, *(f"--model={m.name}" for m in spec.models),
            f"--serve=0.0.0.0:{_HEALTH_PORT}"]
    return [{**tool_container(spec, "health", args),
             "ports": [{"name": "health", "containerPort": _HEALTH_PORT, "protocol": "TCP"}],
             "readinessProbe": {"httpGet": {"path": "/", "port": "health"}, "timeoutSeconds": 10,
                                "periodSeconds": _PERIOD, "failureThreshold": 3}}]


def lifecycle(spec: Spec) -> dict[str, Any]:
    """Go on serving while the cluster takes the pod's address out of its Services, and while requests end:
    tensorflow_model_server cuts off those that run when SIGTERM comes."""
    seconds = math.ceil(spec.server.drain)
    if not seconds:
        return {}
    sleep = {"sleep": {"seconds": seconds}} if part_of(spec).minor >= _SLEEP_ACTION else {
        "exec": {"command": ["sleep", str(seconds)]}}
    return {"lifecycle": {"preStop": sleep}}


def grace(spec: Spec) -> int:
    """Seconds that a pod has to end: to be forgotten, then to finish what runs (a server that drains by itself does
    that after SIGTERM)."""
    return math.ceil(2 * spec.server.drain) + 5
