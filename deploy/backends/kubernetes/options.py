"""A server in a cluster as plain data: what is applied, and what is read back from it. Nothing here talks to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.render.configs import GRPC_PORT, REST_PORT
from deploy.render.kubernetes import SERVER
from deploy.spec import KubernetesPart
from deploy.types import Endpoint, Tls

Object = dict[str, Any]  # as the API has it
WORKLOADS = (("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"))
_KINDS = frozenset(kind for _, kind in WORKLOADS)


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """A server in a cluster, as plain data.

    objects: what is applied, in this order, but for the config store's. labels: annotations of the workload, from which
    a later process learns. start_timeout: seconds until the first pod has to run. memory: its limit, for people.
    tls: how clients connect; its files are this machine's. tls_secret: the Secret with the server's certificate, "" if
    there is none; ours: we write it.
    """

    name: str
    part: KubernetesPart
    objects: tuple[Object, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    start_timeout: float = 120.0
    memory: str = ""
    tls: Tls | None = None
    tls_secret: str = ""
    ours: bool = True

    @property
    def workload(self) -> Object:
        """The Deployment or StatefulSet."""
        return next(one for one in self.objects if one["kind"] in _KINDS)

    @property
    def written(self) -> tuple[Object, ...]:
        """What the config store has written beside the ConfigMap, by its name."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.tls_secret}}
        return (secret,) if self.tls_secret and self.ours else ()

    def service(self, namespace: str) -> Endpoint:
        """Where clients in the cluster reach its pods. namespace: "" if it isn't known."""
        name = f"{self.workload['metadata']['name']}-headless{f'.{namespace}' if namespace else ''}.svc"
        return Endpoint(name, GRPC_PORT, REST_PORT, self.tls_in(namespace))

    def tls_in(self, namespace: str) -> Tls | None:
        """Pods come and go with their addresses: their certificate is for the Service, if nobody says otherwise."""
        if self.tls is None or self.tls.server_name:
            return self.tls
        return replace(self.tls, server_name=f"{self.workload['metadata']['name']}-grpc.{namespace}.svc")

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The command line, program first."""
        return argv_of(self.workload)

    @property
    def image(self) -> str:
        return str(container_of(self.workload).get("image") or "")

    def to_json(self) -> dict[str, Any]:
        """What a dry run shows beside files and command line."""
        return {"objects": list(self.objects)}


def container_of(workload: Object) -> Object:
    """The server's container in a workload's template."""
    containers = workload["spec"]["template"]["spec"]["containers"]
    return next((one for one in containers if one["name"] == SERVER), {})


def argv_of(workload: Object) -> tuple[str, ...]:
    """The server's command line, as a workload's template has it."""
    container = container_of(workload)
    return (*(container.get("command") or ()), *(container.get("args") or ()))
