"""Where and how a server runs in Kubernetes: the part `server/kubernetes`, and what types can't say about it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta

from deploy.errors import SpecError
from deploy.spec.base import Count, Struct

_WHERE = "server/kubernetes"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
OLDEST, NEWEST = 20, 37  # minor releases of Kubernetes 1 that manifests are checked against
NodePort = Annotated[int, Meta(ge=1, le=65535, description="port that each node listens on, usually 30000 to 32767")]


class ModelsPart(Struct, frozen=True):
    """Where pods find the model repository: exactly one of these, but for `path`."""

    pvc: Annotated[str | None, Meta(description="a PersistentVolumeClaim that has it")] = None
    host_path: Annotated[str | None, Meta(
        description="a directory of the node, for a cluster of one node and for tests")] = None
    baked: Annotated[bool, Meta(description="server/image carries the models (tfs image build)")] = False
    path: Annotated[str, Meta(
        pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$",
        description="directory of the repository inside of it, such as team/models")] = ""


class ServicePart(Struct, frozen=True):
    """How clients reach the pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    grpc_node_port: NodePort | None = None
    rest_node_port: NodePort | None = None
    annotations: dict[str, str] = {}


class KubernetesPart(Struct, frozen=True):
    """How the server runs in a Kubernetes cluster."""

    context: Annotated[str | None, Meta(description="of the kubeconfig, if not its current one")] = None
    namespace: Annotated[str | None, Meta(description="if not that of the context")] = None
    version: Annotated[str, Meta(pattern=r"^1\.[0-9]+$", description=(
        f"oldest Kubernetes that the manifests are for, 1.{OLDEST} or newer"))] = "1.31"
    kind: Literal["deployment", "statefulset"] = "deployment"
    replicas: Count = 1
    models: ModelsPart | None = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    pull_secrets: Annotated[list[str], Meta(description="Secrets with the credentials of registries")] = []
    service: ServicePart = ServicePart()
    labels: Annotated[dict[str, str], Meta(description="further labels of every object")] = {}
    annotations: Annotated[dict[str, str], Meta(description="further annotations of every object")] = {}
    pod_annotations: Annotated[dict[str, str], Meta(description="further annotations of the pods")] = {}

    @property
    def minor(self) -> int:
        """Of `version`: 31 for 1.31."""
        return int(self.version.partition(".")[2])


def check_kubernetes(part: KubernetesPart) -> None:
    """What the types can't say. Raises SpecError."""
    if part.minor < OLDEST:
        raise SpecError(f"manifests for Kubernetes {part.version} can't be written", path=f"{_WHERE}/version",
                        hint=f"1.{OLDEST} is the oldest", id="wrong-value")
    if part.namespace is not None and not _LABEL.fullmatch(part.namespace):
        raise SpecError(f"no namespace can be called {part.namespace!r}", path=f"{_WHERE}/namespace",
                        hint="use up to 63 small letters, digits and -, not at the ends", id="bad-name")
    if part.models is not None:
        _check_source(part.models)


def _check_source(source: ModelsPart) -> None:
    where = f"{_WHERE}/models"
    given: dict[str, Any] = {"pvc": source.pvc, "host_path": source.host_path, "baked": source.baked}
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        raise SpecError(f"expected one source of models, got {' and '.join(named) or 'none'}", path=where,
                        hint=f"use one of {', '.join(given)}", id="wrong-value")
    if source.host_path is not None and not source.host_path.startswith("/"):
        raise SpecError(f"expected an absolute path of the node, got {source.host_path!r}", path=f"{where}/host_path",
                        id="bad-path")
