"""How a server runs in Kubernetes: the structs of serving.yaml's part `server/kubernetes`.

Raw parts (`from`, `tolerations`, `triggers` ...) go into the manifests as they are: the cluster checks them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from deploy.spec.base import Count, Struct
from deploy.version import __version__

OLDEST = 20  # minor release of Kubernetes 1
NodePort = Annotated[int, Meta(ge=1, le=65535, description="port that each node listens on, usually 30000 to 32767")]
Percent = Annotated[int, Meta(ge=1, le=1000, description="percent of what the pods ask for")]
Amount = Annotated[str, Meta(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", description=(
    "an amount as Kubernetes writes it, such as 500m or 2Gi"))]
Some = int | Annotated[str, Meta(pattern=r"^[0-9]{1,3}%$", description="a number of pods, or a percentage")]
Raw = dict[str, Any]


class MirrorPart(Struct, frozen=True):
    """The pods keep copies of what is wanted of a remote repository: an init container fetches, a sidecar follows."""

    every: Annotated[float, Meta(ge=1, description="seconds between two looks")] = 30.0
    size: Annotated[Amount | None, Meta(description="most that the copies of one pod may take")] = None
    secret: Annotated[str | None, Meta(
        description="Secret with the store's credentials as variables, such as AWS_ACCESS_KEY_ID; none are needed "
                    "where the service account has the right itself")] = None
    env: Annotated[dict[str, str], Meta(description="further variables, such as AWS_REGION")] = {}


class ModelsPart(Struct, frozen=True):
    """Where pods find the model repository: exactly one of these, but for `path`."""

    pvc: Annotated[str | None, Meta(description="a PersistentVolumeClaim that has it")] = None
    host_path: Annotated[str | None, Meta(
        description="a directory of the node, for a cluster of one node and for tests")] = None
    mirror: Annotated[bool | MirrorPart, Meta(
        description="each pod copies it from `repository`, an object store or a registry")] = False
    image: Annotated[str | None, Meta(description="an OCI image that has it, as a volume (Kubernetes 1.33)")] = None
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


class RequestsPart(Struct, frozen=True):
    """What a pod asks for, if it isn't server/resources, which are its limits."""

    cpu: Annotated[float, Meta(gt=0)] | Amount | None = None
    memory: Amount | None = None


class HpaPart(Struct, frozen=True):
    """A HorizontalPodAutoscaler."""

    max: Count
    min: Count = 1
    cpu: Percent | None = None
    memory: Percent | None = None
    metrics: Annotated[list[Raw], Meta(description="further metrics, as autoscaling/v2 has them")] = []
    calm: Annotated[int, Meta(ge=0, le=3600, description="seconds of less load before pods go")] = 300


class PrometheusTrigger(Struct, frozen=True):
    """Pods by a query: the result divided by the threshold is their number."""

    address: Annotated[str, Meta(pattern="^https?://", description="of the Prometheus server")]
    query: Annotated[str, Meta(pattern=r"\S")]
    threshold: Annotated[float, Meta(gt=0, description="what one pod can take")]


class KedaPart(Struct, frozen=True):
    """A ScaledObject of KEDA."""

    max: Count
    min: Annotated[int, Meta(ge=0, description="0 stops the last pod; its models load again when a trigger fires")] = 1
    prometheus: PrometheusTrigger | None = None
    cpu: Percent | None = None
    triggers: Annotated[list[Raw], Meta(description="further triggers, as KEDA has them")] = []
    calm: Annotated[int, Meta(ge=0, description="seconds of less load before pods go")] = 300


class DisruptionPart(Struct, frozen=True):
    """How many pods a drained node may take away at once: one of the two."""

    max_unavailable: Some | None = None
    min_available: Some | None = None


class NetworkPart(Struct, frozen=True):
    """Who may talk to the pods, and to whom they may."""

    sources: Annotated[list[Raw], Meta(
        description="who may send requests, as a NetworkPolicy's `from` has it; none: everybody")] = field(
            default_factory=list, name="from")
    egress: Annotated[list[Raw] | None, Meta(
        description="whom they may talk to, as a NetworkPolicy's `egress` has it; not given: nobody, and with a mirror "
                    "everybody")] = None


class ServiceMonitorPart(Struct, frozen=True):
    """A ServiceMonitor of the Prometheus operator; server/monitoring has to be on."""

    interval: Annotated[str, Meta(pattern="^[0-9]+(ms|s|m)$", description="a time such as 30s")] = "30s"
    labels: Annotated[dict[str, str], Meta(description="those by which the operator selects it")] = {}


class WatchPart(Struct, frozen=True):
    """A CronJob that runs `tfs watch` once, again and again: it brings back what is known good."""

    schedule: Annotated[str, Meta(pattern=r"^\S+( \S+){4}$", description="five fields, as cron has them")] = (
        "*/5 * * * *")
    suspend: bool = False


class KubernetesPart(Struct, frozen=True):
    """How the server runs in a Kubernetes cluster."""

    context: Annotated[str | None, Meta(description="of the kubeconfig, if not its current one")] = None
    namespace: Annotated[str | None, Meta(description="if not that of the context")] = None
    reach: Annotated[Literal["auto", "pods", "api"], Meta(description=(
        "how tfs asks a pod: at its own address, or through the API server; auto: at its own address in the cluster "
        "and on its node"))] = "auto"
    version: Annotated[str, Meta(pattern=r"^1\.[0-9]+$", description=(
        f"oldest Kubernetes that the manifests are for, 1.{OLDEST} or newer"))] = "1.31"
    kind: Annotated[Literal["deployment", "statefulset", "inferenceservice"], Meta(
        description="inferenceservice: of KServe, which then makes Deployment, Services and scaling")] = "deployment"
    replicas: Count = 1
    surge: Annotated[int, Meta(ge=0, description=(
        "pods beyond replicas while they are replaced; 0: an old one goes first, where there is no spare GPU"))] = 1
    models: ModelsPart | None = None
    probe: Annotated[Literal["exec", "sidecar", "http"], Meta(
        description="how pods are asked whether they are ready: exec needs bash in the image, as tensorflow/serving "
                    "and tfs-deploy/modelserver have it; sidecar runs `tfs ready` beside it; http asks for the first "
                    "model's status only")] = "exec"
    tool: Annotated[str | None, Meta(
        description="image of the command line, for mirror, sidecar and watch, if not tfs-deploy/tfs of this version"
        )] = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    pull_secrets: Annotated[list[str], Meta(description="Secrets with the credentials of registries")] = []
    service_account: Annotated[str | None, Meta(
        description="one that is there already, for example with a right to the store; else one without rights")] = None
    tls_secret: Annotated[str | None, Meta(
        description="Secret with the file ssl.config, if not the one that tfs up writes from server/tls")] = None
    service: ServicePart = ServicePart()
    requests: RequestsPart = RequestsPart()
    gpu: Annotated[str, Meta(description="what a GPU is called in this cluster")] = "nvidia.com/gpu"
    runtime_class: str | None = None
    priority_class: str | None = None
    fs_group: Annotated[int, Meta(ge=1, description="group that a claim's files are given to")] | None = None
    node_selector: dict[str, str] = {}
    tolerations: list[Raw] = []
    affinity: Raw = {}
    spread: Annotated[Literal["off", "preferred", "required"], Meta(
        description="over zones and nodes")] = "preferred"
    hpa: HpaPart | None = None
    keda: KedaPart | None = None
    pdb: Annotated[bool | DisruptionPart | None, Meta(
        description="a PodDisruptionBudget; if not given, one pod at a time where there are several")] = None
    network_policy: Annotated[bool | NetworkPart, Meta(
        description="true: requests from everybody, and no connection out but a mirror's")] = True
    service_monitor: bool | ServiceMonitorPart = False
    watch: bool | WatchPart = False
    labels: Annotated[dict[str, str], Meta(description="further labels of every object and pod")] = {}
    annotations: Annotated[dict[str, str], Meta(description="further annotations of every object")] = {}
    pod_annotations: Annotated[dict[str, str], Meta(description="further annotations of the pods")] = {}

    @property
    def minor(self) -> int:
        """Of `version`: 31 for 1.31."""
        return int(self.version.partition(".")[2])

    @property
    def tool_image(self) -> str:
        """Image of the command line."""
        return self.tool or f"tfs-deploy/tfs:{__version__}"

    @property
    def mirror(self) -> MirrorPart | None:
        """None where the pods copy nothing."""
        if self.models is None or not self.models.mirror:
            return None
        return MirrorPart() if self.models.mirror is True else self.models.mirror

    @property
    def several(self) -> bool:
        """Whether more than one pod may run."""
        scaled = self.hpa or self.keda
        return (scaled.max if scaled else self.replicas) > 1
