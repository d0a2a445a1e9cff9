"""A CronJob that runs `tfs watch`, one look at a time, with the right to do just that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from deploy.errors import SpecError
from deploy.render.kubernetes.naming import Manifest, labels, manifest, object_name, part_of
from deploy.render.kubernetes.roles import bound
from deploy.render.kubernetes.sources import TOOL_USER, tool_container
from deploy.spec import Spec, WatchPart

_COMPONENT = "watch"
_SPEC, _STATE = "/etc/tfs-spec", "/state"
_AUTHORITY = "authority.pem"  # in the ConfigMap
_BATCH_V1 = 21  # minor release that has it
_MOST_SECONDS = 600  # for one look with what it brings back


def authority(spec: Spec) -> tuple[Path, str] | None:
    """The PEM file that a client of the server trusts, and which part of the spec says so; None if it needs none."""
    tls = spec.server.tls
    if tls is None or not (file := tls.for_clients.ca):
        return None
    return Path(file), f"server/tls/{'ca' if tls.ca else 'certificate'}"


def watchers(spec: Spec, text: str, trusted: str = "") -> list[Manifest]:
    """text: of serving.yaml, which the job reads; trusted: of its `authority`. Nothing if the spec doesn't ask for it.
    Raises SpecError for an authority that can't be where the job's serving.yaml names it."""
    part = part_of(spec)
    if part.watch is False:
        return []
    watch, name = WatchPart() if part.watch is True else part.watch, f"{object_name(spec)}-watch"
    version = "v1" if part.minor >= _BATCH_V1 else "v1beta1"
    return [
        manifest(spec, "v1", "ConfigMap", f"{object_name(spec)}-spec", component=_COMPONENT,
                 data={spec.path.name: text, **({_AUTHORITY: trusted} if authority(spec) else {})}),
        *bound(_from_inside(spec), "watch", [], name),
        manifest(spec, f"batch/{version}", "CronJob", name, component=_COMPONENT, spec={
            "schedule": watch.schedule, "suspend": watch.suspend, "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": {"labels": labels(spec, _COMPONENT)}, "spec": {
                "backoffLimit": 0, "activeDeadlineSeconds": _MOST_SECONDS,
                "template": {"metadata": {"labels": labels(spec, _COMPONENT)}, "spec": _pod(spec, name)}}}}),
    ]


def _from_inside(spec: Spec) -> Spec:
    """Its pods are asked at their own addresses there, unless the spec says otherwise: no port is forwarded."""
    part = part_of(spec)
    if part.reach != "auto":
        return spec
    return replace(spec, server=replace(spec.server, kubernetes=replace(part, reach="pods")))


def _places(spec: Spec) -> dict[str, Any]:
    """Where the job finds the ConfigMap's texts, if not by their keys: as serving.yaml names them."""
    if (trusted := authority(spec)) is None:
        return {}
    file, where = trusted
    if not file.is_relative_to(spec.path.parent):
        raise SpecError(f"the watch job has what is below {spec.path.parent} only, and {file} isn't", path=where,
                        hint="name a file beside serving.yaml, or take out server/kubernetes/watch",
                        id="bad-certificate")
    return {"items": [{"key": spec.path.name, "path": spec.path.name},
                      {"key": _AUTHORITY, "path": file.relative_to(spec.path.parent).as_posix()}]}


def _pod(spec: Spec, account: str) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "spec", "mountPath": _SPEC, "readOnly": True},
                                    {"name": "state", "mountPath": _STATE}]
    container = tool_container(spec, "watch", ["watch", f"--spec={_SPEC}/{spec.path.name}"],
                               env={"TFS_STATE_DIR": _STATE, "TFS_IN_CLUSTER": "1"}, mounts=mounts)
    pulls = part_of(spec).pull_secrets
    return {
        "serviceAccountName": account, "automountServiceAccountToken": True, "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": TOOL_USER, "runAsGroup": TOOL_USER,
                            "seccompProfile": {"type": "RuntimeDefault"}},
        **({"imagePullSecrets": [{"name": secret} for secret in pulls]} if pulls else {}),
        "containers": [container],
        "volumes": [{"name": "spec", "configMap": {"name": f"{object_name(spec)}-spec", **_places(spec)}},
                    {"name": "state", "emptyDir": {}}, {"name": "tool-tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
    }
