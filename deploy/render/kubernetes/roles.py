"""Who may do what: the least Role that each command needs in a server's namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from deploy.render.kubernetes.naming import (
    Manifest,
    config_name,
    manifest,
    object_name,
    part_of,
    text_name,
    tls_secret_name,
)
from deploy.spec import Spec
from deploy.spec.constraints import CLUSTER

RoleVerb = Literal["up", "status", "logs", "doctor", "rollout", "down", "watch"]
ROLE_VERBS: tuple[RoleVerb, ...] = get_args(RoleVerb)
_RBAC = "rbac.authorization.k8s.io"
# Kind of a manifest -> API group and resource
_RESOURCES = {
    "ConfigMap": ("", "configmaps"), "Secret": ("", "secrets"), "Service": ("", "services"),
    "ServiceAccount": ("", "serviceaccounts"), "Deployment": ("apps", "deployments"),
    "StatefulSet": ("apps", "statefulsets"), "PodDisruptionBudget": ("policy", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("autoscaling", "horizontalpodautoscalers"),
    "ScaledObject": ("keda.sh", "scaledobjects"),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies"), "CronJob": ("batch", "cronjobs"),
    "ServiceMonitor": ("monitoring.coreos.com", "servicemonitors"), "Role": (_RBAC, "roles"),
    "RoleBinding": (_RBAC, "rolebindings"), "Lease": ("coordination.k8s.io", "leases"),
    "InferenceService": ("serving.kserve.io", "inferenceservices"),
}
_FORWARD = ("get", "create")  # how a connection is opened differs between releases


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """As in a Role. names: only these objects; none: all of the namespace."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def to_manifest(self) -> dict[str, Any]:
        rule: dict[str, Any] = {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}
        return {**rule, "resourceNames": list(self.names)} if self.names else rule


def role(spec: Spec, verb: RoleVerb, objects: Iterable[Manifest]) -> Manifest:
    """What `tfs <verb>` needs for this spec. objects: what the spec renders to; a Role names them where it can."""
    return manifest(spec, f"{_RBAC}/v1", "Role", f"{object_name(spec)}-{verb}",
                    rules=[rule.to_manifest() for rule in rules(spec, verb, objects)])


def rules(spec: Spec, verb: RoleVerb, objects: Iterable[Manifest]) -> list[PolicyRule]:
    """Without doubles: one rule for each resource and set of names."""
    merged = dict[tuple[str, str, tuple[str, ...]], tuple[str, ...]]()
    for rule in _rules(spec, verb, list(objects)):
        key = (rule.group, rule.resource, rule.names)
        merged[key] = tuple(dict.fromkeys((*merged.get(key, ()), *rule.verbs)))
    return [PolicyRule(group, resource, verbs, names) for (group, resource, names), verbs in merged.items()]


def _rules(spec: Spec, verb: RoleVerb, objects: list[Manifest]) -> Iterator[PolicyRule]:
    yield from _find(spec)
    if verb in ("rollout", "watch", "up", "down"):
        yield from _lock(spec)
    if verb == "logs":
        yield PolicyRule("", "pods/log", ("get",))
    elif verb == "down":
        yield from _delete()
    else:
        yield from _ask(spec)
        if verb != "status":
            yield from _diagnose()
        if verb in ("rollout", "watch", "up"):
            yield from _release(spec)
        if verb == "up":
            yield from _apply(objects)
            if spec.server.tls:
                ours = part_of(spec).tls_secret is None
                yield PolicyRule("", "secrets", ("get", "patch", "delete") if ours else ("get",),
                                 (tls_secret_name(spec),))
                if ours:
                    yield PolicyRule("", "secrets", ("create",))


def _find(spec: Spec) -> Iterator[PolicyRule]:
    """The server and its pods."""
    for kind in ("Deployment", "StatefulSet"):  # a server that was of the other kind is found, too
        yield PolicyRule(*_RESOURCES[kind], ("get",), (object_name(spec),))
    yield PolicyRule("", "pods", ("get", "list", "watch"))


def _ask(spec: Spec) -> Iterator[PolicyRule]:
    """What the config files say, and what each pod serves."""
    yield PolicyRule("", "configmaps", ("get",), (config_name(spec),))
    if part_of(spec).reach != "pods":
        yield PolicyRule("", "pods/portforward", _FORWARD)


def _lock(spec: Spec) -> Iterator[PolicyRule]:
    """The lock that all operators see. An object that isn't there yet has no name for a rule."""
    yield PolicyRule(*_RESOURCES["Lease"], ("get", "update"), (object_name(spec),))
    yield PolicyRule(*_RESOURCES["Lease"], ("create",))
    namespace, _, name = (spec.rollout.lock or "").removeprefix(CLUSTER).partition("/")
    if (spec.rollout.lock or "").startswith(CLUSTER) and namespace == (part_of(spec).namespace or namespace):
        yield PolicyRule(*_RESOURCES["Lease"], ("get", "update"), (name,))
        texts = (name, text_name(name, f"{spec.name}.ledger.jsonl"))  # of all servers, of this one
        yield PolicyRule("", "configmaps", ("get", "patch"), texts)
        yield PolicyRule("", "configmaps", ("create",))  # as server-side apply does the first time


def _diagnose() -> Iterator[PolicyRule]:
    """Evidence of what failed. exec: whether the files are there inside."""
    yield PolicyRule("", "events", ("list",))
    yield PolicyRule("", "persistentvolumeclaims", ("list",))
    yield PolicyRule("", "pods/log", ("get",))
    yield PolicyRule("", "pods/exec", _FORWARD)


def _release(spec: Spec) -> Iterator[PolicyRule]:
    """Keep each proven step."""
    yield PolicyRule("", "configmaps", ("patch",), (config_name(spec),))


def _apply(objects: list[Manifest]) -> Iterator[PolicyRule]:
    names = dict[str, list[str]]()
    for one in objects:
        names.setdefault(one["kind"], []).append(one["metadata"]["name"])
    for kind, own in names.items():
        yield PolicyRule(*_RESOURCES[kind], ("get", "patch", "delete"), tuple(own))  # a start that fails leaves nothing
        yield PolicyRule(*_RESOURCES[kind], ("create",))


def _delete() -> Iterator[PolicyRule]:
    """Everything with our labels, also of kinds that an older spec had."""
    for group, resource in _RESOURCES.values():
        yield PolicyRule(group, resource, ("list", "delete"))
    yield PolicyRule("", "pods", ("delete",))


def bound(spec: Spec, verb: RoleVerb, objects: Iterable[Manifest], account: str) -> list[Manifest]:
    """The Role, with a ServiceAccount of the same namespace that has it."""
    name, component = f"{object_name(spec)}-{verb}", verb
    return [
        manifest(spec, "v1", "ServiceAccount", account, component=component, automountServiceAccountToken=False),
        role(spec, verb, objects),
        manifest(spec, f"{_RBAC}/v1", "RoleBinding", name, component=component,
                 roleRef={"apiGroup": _RBAC, "kind": "Role", "name": name},
                 subjects=[{"kind": "ServiceAccount", "name": account, "namespace": part_of(spec).namespace}]),
    ]
