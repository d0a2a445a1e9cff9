"""How a server runs: the structs of serving.yaml's part `server`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from deploy.spec.base import Count, Flag, Port, Struct
from deploy.spec.kubernetes import KubernetesPart
from deploy.spec.remote import RemotePart
from deploy.types import Tls

DEFAULT_IMAGE = "tensorflow/serving:2.20.0"
# Those of deploy.backends, and auto
BackendKind = Literal["auto", "container", "process", "embedded", "remote", "kubernetes", "swarm"]


class Batching(Struct, frozen=True):
    """Server-side batching of concurrent requests (BatchingParameters in session_bundle_config.proto)."""

    max_batch_size: Count | None = None
    batch_timeout_micros: Annotated[int, Meta(ge=0)] | None = None
    max_enqueued_batches: Count | None = None
    num_batch_threads: Count | None = None
    allowed_batch_sizes: list[Count] = []
    pad_variable_length_inputs: bool = False


class Monitoring(Struct, frozen=True):
    """Prometheus metrics on the REST port."""

    enable: bool = True
    path: Annotated[str, Meta(pattern=r"^/(?!v1/)[A-Za-z0-9._~/-]+$", description=(
        "path of a URL: it begins with /, not with /v1/, and has letters, digits and . _ ~ / - only"))] = (
        "/monitoring/prometheus/metrics")


class Threads(Struct, frozen=True):
    """Sizes of the server's thread pools; unset: the server decides."""

    intra_op: Count | None = None
    inter_op: Count | None = None
    rest: Count | None = None
    grpc_max: Count | None = None
    load: Count | None = None


class Resources(Struct, frozen=True):
    """What the server may use; all but gpu_memory_fraction are limits of the container."""

    cpus: Annotated[float, Meta(gt=0)] | None = None
    memory: Annotated[str, Meta(pattern=r"^[1-9][0-9]*[kmgKMG]?$", description="bytes, or with k, m, g")] | None = None
    gpus: Annotated[int | Literal["all"], Meta(description="number of GPUs, or all")] | None = None
    gpu_memory_fraction: Annotated[float, Meta(gt=0, le=1, description="of each GPU's memory")] | None = None


class TlsPart(Struct, frozen=True):
    """TLS on the gRPC port (REST has none in TensorFlow Serving). PEM files, relative to this file. Certificate and key
    may be left out where server/kubernetes/tls_secret has them."""

    certificate: Annotated[str | None, Meta(
        description="the server's certificate, with those between it and its authority")] = None
    key: Annotated[str | None, Meta(description="the certificate's private key, without a pass phrase")] = None
    client_ca: Annotated[str | None, Meta(
        description="authorities whose clients are let in; any client is, without them")] = None
    ca: Annotated[str | None, Meta(
        description="authority that tfs itself trusts when it connects; the certificate, if not given")] = None
    server_name: Annotated[str | None, Meta(
        description="name that the certificate is for, if it isn't the address that tfs connects to, or in Kubernetes "
                    "NAME-grpc.NAMESPACE.svc")] = None
    client_certificate: Annotated[str | None, Meta(description="what tfs shows to a server with client_ca")] = None
    client_key: Annotated[str | None, Meta(description="private key of client_certificate")] = None

    @property
    def for_clients(self) -> Tls:
        """What connects to the server. The certificate itself is trusted if no authority is named."""
        return Tls(self.ca or self.certificate, self.client_certificate, self.client_key, self.server_name)


class ServerPart(Struct, frozen=True):
    """How the server runs."""

    backend: BackendKind = "auto"
    image: Annotated[str, Meta(description="serving image, by tag or digest (name@sha256:...)")] = DEFAULT_IMAGE
    binary: Annotated[str, Meta(description="name on PATH or path of a tensorflow_model_server")] = (
        "tensorflow_model_server")
    docker: Annotated[str | None, Meta(description="the Docker engine of containers: ssh://user@host, tcp://host:2376, "
                                       "unix:///path, or the name of a context; by default the docker CLI's")] = None
    docker_tls: Annotated[str | None, Meta(
        description="directory of that engine's ca.pem, cert.pem and key.pem, relative to this file")] = None
    docker_files: Annotated[Literal["auto", "mounts", "volumes"], Meta(
        description="how containers get their files: mounts of this machine's directories, or volumes that are filled "
                    "over the engine; auto asks the engine what it sees")] = "auto"
    host: Annotated[str, Meta(description="address to listen and publish on")] = "127.0.0.1"
    grpc_port: Port = 8500
    rest_port: Port = 8501
    batching: Batching | None = None
    monitoring: Monitoring | None = None
    tls: TlsPart | None = None
    threads: Threads = Threads()
    resources: Resources = Resources()
    remote: Annotated[RemotePart | None, Meta(
        description="where a server is that somebody else starts, for `backend: remote`")] = None
    platform_file: Annotated[bool, Meta(
        description="pass batching, threads and GPU memory in one platform file instead of flags")] = False
    restart: Literal["no", "on-failure", "unless-stopped", "always"] = "no"
    start_timeout: Annotated[float, Meta(gt=0, description="seconds until everything has to be served")] = 120.0
    drain: Annotated[float, Meta(ge=0, description="seconds that running requests get to finish on stop")] = 10.0
    kubernetes: KubernetesPart | None = None
    flags: Annotated[dict[str, Flag], Meta(description="further tensorflow_model_server flags, without --")] = {}

    @property
    def prefers_tflite(self) -> bool:
        """Whether it serves the model.tflite of versions that have one."""
        return self._enabled("prefer_tflite_model")

    @property
    def compiles(self) -> bool:
        """Whether it runs what XLA has to compile, such as models of JAX."""
        return self._enabled("xla_cpu_compilation_enabled")

    @property
    def labels_at_start(self) -> bool:
        """Whether `flags` say that it starts with labels in its config file, which ends it otherwise."""
        return self._enabled("allow_version_labels_for_unavailable_models")

    def _enabled(self, flag: str) -> bool:
        return str(self.flags.get(flag, "")).lower() in ("true", "1")
