"""Where the pods find the models: volumes, paths inside, and the containers that mirror a remote repository."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy import render
from deploy.errors import SpecError
from deploy.render.configs import CONFIG_MOUNT, MODELS_MOUNT, Layout
from deploy.render.kubernetes.naming import config_name, given, part_of
from deploy.spec import MirrorPart, ModelsPart, Spec
from deploy.types import All, Latest, ModelVersion, ServedModel, VersionPolicy

MIRROR = "mirror"  # the container that follows the remote repository
MIRROR_LIST = "mirror.list"  # in the ConfigMap: what it fetches, a line for each model, read again before each look
TOOL_USER = 65533  # not the server's: it could read the environment of a process of its own user
_WANTED = CONFIG_MOUNT.with_name("tfs-mirror")  # the mirror sees the ConfigMap's list and keys, and no certificate
_SIDECARS = 29  # minor release in which a sidecar is an init container that goes on


def source_of(spec: Spec) -> ModelsPart:
    """Where the pods find the models. Raises SpecError if nobody has said it."""
    source = part_of(spec).models
    if source is None:
        raise SpecError("it isn't said where the pods find the models", path="server/kubernetes/models",
                        hint="models: {pvc: NAME}, for example", id="missing-key")
    if source.mirror and spec.remote is None:
        raise SpecError("a mirror copies from an object store or a registry, and the repository is a directory",
                        path="server/kubernetes/models/mirror", hint="name its address at the top: repository: "
                        "s3://bucket/models", id="bad-path")
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


def mirror_list(models: Iterable[ServedModel]) -> str:
    """The text of MIRROR_LIST: what `tfs mirror --list` fetches."""
    return "".join(f"{Path(model.base_path).name}:{_versions(model.versions)}\n" for model in models)


def with_versions(text: str, versions: Iterable[ModelVersion]) -> str:
    """A list that names these versions, too. A policy such as latest follows by itself, and stays."""
    wanted: dict[str, str] = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    for version in versions:
        numbers = [number for number in wanted.get(version.name, "").split(",") if number]
        if all(number.isdecimal() for number in numbers):
            wanted[version.name] = ",".join(map(str, sorted({*map(int, numbers), version.version})))
    return "".join(f"{name}:{policy}\n" for name, policy in wanted.items())


def _versions(policy: VersionPolicy) -> str:
    if isinstance(policy, All):
        return "all"
    if isinstance(policy, Latest):
        return f"latest={policy.count}"
    return ",".join(map(str, policy.versions))


def model_volumes(spec: Spec) -> list[dict[str, Any]]:
    """The volume `models`, and what its mirror needs; none where the image has the models."""
    source, mirror = source_of(spec), part_of(spec).mirror
    if mirror is not None:
        keys = [MIRROR_LIST, *(f"{signer}" for signer in signer_names(spec))]
        return [{"name": "models", "emptyDir": given(sizeLimit=mirror.size)},
                {"name": "wanted", "configMap": {"name": config_name(spec),
                                                 "items": [{"key": key, "path": key} for key in keys]}}]
    if source.pvc:
        return [{"name": "models", "persistentVolumeClaim": {"claimName": source.pvc, "readOnly": True}}]
    if source.host_path:
        return [{"name": "models", "hostPath": {"path": source.host_path, "type": "Directory"}}]
    if source.image:
        return [{"name": "models", "image": {"reference": source.image, **given(
            pullPolicy=part_of(spec).pull_policy)}}]
    return []


def signer_names(spec: Spec) -> list[str]:
    """Of the files with the keys that have to have signed what is mirrored."""
    return [f"signer-{i}.pem" for i in range(len(spec.signed_by))]


def mirror_containers(spec: Spec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Init containers, and others beside the server: one that fetches what is wanted before the server starts, and one
    that follows. The second is an init container, too, where Kubernetes knows sidecars: it ends after the server."""
    part = part_of(spec)
    if part.mirror is None:
        return [], []
    fetch = _mirror_container(spec, part.mirror, "fetch", [])
    follow = _mirror_container(spec, part.mirror, MIRROR, ["--follow", f"--every={part.mirror.every:g}"])
    if part.minor >= _SIDECARS:
        return [fetch, {**follow, "restartPolicy": "Always"}], []
    return [fetch], [follow]


def _mirror_container(spec: Spec, mirror: MirrorPart, name: str, more: list[str]) -> dict[str, Any]:
    signers = [f"--signed-by={_WANTED / signer}" for signer in signer_names(spec)]
    return {
        **tool_container(spec, name, ["mirror", f"--from={spec.remote}", f"--to={MODELS_MOUNT}",
                                      f"--list={_WANTED / MIRROR_LIST}", *signers, *more],
                         env=mirror.env, mounts=[{"name": "models", "mountPath": str(MODELS_MOUNT)},
                                                 {"name": "wanted", "mountPath": str(_WANTED), "readOnly": True}]),
        **given(envFrom=[{"secretRef": {"name": mirror.secret}}] if mirror.secret else None)}


def tool_container(spec: Spec, name: str, args: list[str], *, env: dict[str, str] | None = None,
                   mounts: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """A container that runs `tfs`."""
    part = part_of(spec)
    variables = {"HOME": "/tmp", **(env or {})}  # noqa: S108  the pod's own
    return {
        "name": name, "image": part.tool_image, **given(imagePullPolicy=part.pull_policy), "args": args,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {**closed(), "runAsUser": TOOL_USER, "runAsGroup": TOOL_USER},
        "volumeMounts": [*mounts, {"name": "tool-tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def closed() -> dict[str, Any]:
    """A container that can do nothing but its work."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
