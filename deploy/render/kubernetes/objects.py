"""All objects of a spec, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from deploy import render
from deploy.render.kubernetes.naming import Manifest, config_name, metadata, object_name, part_of, selector
from deploy.render.kubernetes.pods import pod_layout, pod_template
from deploy.render.kubernetes.services import headless_name, services
from deploy.spec import Spec
from deploy.types import ServedModel


def manifests(spec: Spec, models: Iterable[ServedModel] | None = None, *, annotations: Mapping[str, str] | None = None
              ) -> list[Manifest]:
    """The objects, as plain JSON data of the API; each call gives new ones.

    models: what is served, for example what a rollout has made known good; None: what the spec says.
    annotations: of the workload, for what a later process has to know. Raises SpecError with a path of the spec.
    """
    if models is not None:
        spec = msgspec.structs.replace(spec, models=tuple(models))
    files = render.files(spec, pod_layout(spec))
    return [_config_map(spec, files), *services(spec), _workload(spec, files, annotations or {})]


def _config_map(spec: Spec, files: Mapping[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(spec, config_name(spec)), "data": dict(files)}


def _workload(spec: Spec, files: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    part = part_of(spec)
    content = {"replicas": part.replicas, "selector": {"matchLabels": selector(spec)},
               "template": pod_template(spec, files)}
    about = metadata(spec, object_name(spec), **annotations)
    if part.kind == "statefulset":
        return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": about, "spec": {
            "serviceName": headless_name(spec), "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"}, **content}}
    # A new pod serves before an old one goes
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    deadline = int(spec.server.start_timeout + spec.server.drain) + 120
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": {
        "strategy": rolling, "progressDeadlineSeconds": deadline, **content}}
