"""KServe's InferenceService, instead of a workload of our own: the same pod, and KServe makes what is around it."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.render.kubernetes.naming import Manifest, given, labels, manifest, object_name, part_of
from deploy.render.kubernetes.pods import SERVER, pod_template
from deploy.spec import Spec

_CONTAINER = "kserve-container"  # the one that KServe takes for the server
_PORTS = {"rest": "http1", "grpc": "h2c"}  # as KServe calls protocols


def inference_service(spec: Spec, files: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    """The predictor with the server's own command line and config files: labels, policies, batching and all.

    Without Knative (RawDeployment), which would change pods for each other, and take a port away.
    """
    part, template = part_of(spec), pod_template(spec, files)
    containers = [{**c, "name": _CONTAINER, "ports": [{**p, "name": _PORTS[p["name"]]} for p in reversed(c["ports"])],
                   **{probe: _renamed(c[probe]) for probe in ("startupProbe", "readinessProbe", "livenessProbe")}}
                  if c["name"] == SERVER else c for c in template["spec"]["containers"]]
    scaled = part.hpa
    least, most = (scaled.min, scaled.max) if scaled else (part.replicas, part.replicas)
    return manifest(
        spec, "serving.kserve.io/v1beta1", "InferenceService", object_name(spec),
        annotations={"serving.kserve.io/deploymentMode": "RawDeployment", **annotations},
        spec={"predictor": {
            "minReplicas": least, "maxReplicas": most,
            **(given(scaleMetric="cpu", scaleTarget=scaled.cpu) if scaled else {}),
            "labels": labels(spec), "annotations": template["metadata"]["annotations"],
            **template["spec"], "containers": containers}})


def _renamed(probe: dict[str, object]) -> dict[str, object]:
    """With the ports as KServe calls them."""
    return {key: {**value, "port": _PORTS[value["port"]]} if isinstance(value, dict) and "port" in value else value
            for key, value in probe.items()}
