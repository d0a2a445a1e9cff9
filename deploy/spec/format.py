"""The file's format: msgspec checks types against these structs, and the JSON Schema for editors comes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from deploy.types import ServedModel

DEFAULT_IMAGE = "tensorflow/serving:2.20.0"
STATE = ".tfs"  # beside the file, unless it or the environment names another directory
# Those of deploy.backends, and auto
BackendKind = Literal["auto", "container", "process", "embedded"]

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port on the host; 0 takes any free one")]
Count = Annotated[int, Meta(ge=1)]
Flag = bool | int | float | str


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the file's parts."""


class ModelSpec(_Struct, frozen=True):
    """One model and which of its versions are served."""

    name: Annotated[str, Meta(description="the model's name in requests, and its directory in the repository")]
    versions: Annotated[
        int | list[int] | Annotated[str, Meta(pattern="^(latest|all)$")] | dict[str, Count],
        Meta(description="a version, a list of versions, latest, {latest: N} or all"),
    ]
    labels: Annotated[dict[str, int], Meta(description="label: version, e.g. stable: 3")] = {}
    base_path: Annotated[str | None, Meta(
        description="directory of the version directories, if not <repository>/<name>")] = None
    allow: Annotated[dict[str, Annotated[str, Meta(pattern=r"\S")]], Meta(
        description="findings of `tfs check` that are accepted, by rule, each with the reason why")] = {}


class Batching(_Struct, frozen=True):
    """Server-side batching of concurrent requests (BatchingParameters in session_bundle_config.proto)."""

    max_batch_size: Count | None = None
    batch_timeout_micros: Annotated[int, Meta(ge=0)] | None = None
    max_enqueued_batches: Count | None = None
    num_batch_threads: Count | None = None
    allowed_batch_sizes: list[Count] = []
    pad_variable_length_inputs: bool = False


class Monitoring(_Struct, frozen=True):
    """Prometheus metrics on the REST port."""

    enable: bool = True
    path: Annotated[str, Meta(pattern=r"^/(?!v1/)[A-Za-z0-9._~/-]+$", description=(
        "path of a URL: it begins with /, not with /v1/, and has letters, digits and . _ ~ / - only"))] = (
        "/monitoring/prometheus/metrics")


class Threads(_Struct, frozen=True):
    """Sizes of the server's thread pools; unset: the server decides."""

    intra_op: Count | None = None
    inter_op: Count | None = None
    rest: Count | None = None
    grpc_max: Count | None = None
    load: Count | None = None


class Resources(_Struct, frozen=True):
    """What the server may use; all but gpu_memory_fraction are limits of the container."""

    cpus: Annotated[float, Meta(gt=0)] | None = None
    memory: Annotated[str, Meta(pattern=r"^[1-9][0-9]*[kmgKMG]?$", description="bytes, or with k, m, g")] | None = None
    gpus: Annotated[int | Literal["all"], Meta(description="number of GPUs, or all")] | None = None
    gpu_memory_fraction: Annotated[float, Meta(gt=0, le=1, description="of each GPU's memory")] | None = None


class TlsPart(_Struct, frozen=True):
    """TLS on the gRPC port (REST has none in TensorFlow Serving). PEM files, relative to this file."""

    certificate: Annotated[str, Meta(description="the server's certificate, with those between it and its authority")]
    key: Annotated[str, Meta(description="the certificate's private key, without a pass phrase")]
    client_ca: Annotated[str | None, Meta(
        description="authorities whose clients are let in; any client is, without them")] = None
    ca: Annotated[str | None, Meta(
        description="authority that tfs itself trusts when it connects; the certificate, if not given")] = None
    server_name: Annotated[str | None, Meta(
        description="name that the certificate is for, if it isn't the address that tfs connects to")] = None
    client_certificate: Annotated[str | None, Meta(description="what tfs shows to a server with client_ca")] = None
    client_key: Annotated[str | None, Meta(description="private key of client_certificate")] = None


class ServerPart(_Struct, frozen=True):
    """How the server runs."""

    backend: BackendKind = "auto"
    image: Annotated[str, Meta(description="serving image, by tag or digest (name@sha256:...)")] = DEFAULT_IMAGE
    binary: Annotated[str, Meta(description="name on PATH or path of a tensorflow_model_server")] = (
        "tensorflow_model_server")
    host: Annotated[str, Meta(description="address to listen and publish on")] = "127.0.0.1"
    grpc_port: Port = 8500
    rest_port: Port = 8501
    batching: Batching | None = None
    monitoring: Monitoring | None = None
    tls: TlsPart | None = None
    threads: Threads = Threads()
    resources: Resources = Resources()
    platform_file: Annotated[bool, Meta(
        description="pass batching, threads and GPU memory in one platform file instead of flags")] = False
    restart: Literal["no", "on-failure", "unless-stopped", "always"] = "no"
    start_timeout: Annotated[float, Meta(gt=0, description="seconds until everything has to be served")] = 120.0
    drain: Annotated[float, Meta(ge=0, description="seconds that running requests get to finish on stop")] = 10.0
    flags: Annotated[dict[str, Flag], Meta(description="further tensorflow_model_server flags, without --")] = {}

    @property
    def prefers_tflite(self) -> bool:
        """Whether it serves the model.tflite of versions that have one."""
        return self._enabled("prefer_tflite_model")

    @property
    def compiles(self) -> bool:
        """Whether it runs what XLA has to compile, such as models of JAX."""
        return self._enabled("xla_cpu_compilation_enabled")

    def _enabled(self, flag: str) -> bool:
        return str(self.flags.get(flag, "")).lower() in ("true", "1")


class SmokePart(_Struct, frozen=True):
    """What the smoke test asks for."""

    timeout: Annotated[float, Meta(gt=0, description="seconds for one request")] = 30.0
    absolute: Annotated[float, Meta(ge=0)] | None = None
    relative: Annotated[float, Meta(ge=0)] | None = None


class ComparePart(_Struct, frozen=True):
    """How far a canary's answers may be from those of the version that it replaces. A share is from 0 to 1."""

    requests: Annotated[str | None, Meta(
        description="TFRecord file of recorded PredictionLogs, relative to this file; else the golden cases")] = None
    repeats: Annotated[int, Meta(ge=1, description="times that each request is sent, for the latencies")] = 5
    deviation: Annotated[float, Meta(ge=0, description="largest absolute difference of a number")] | None = None
    flips: Annotated[float, Meta(ge=0, le=1, description="share of rows whose largest entry is another")] = 0.2
    nan: Annotated[float, Meta(ge=0, le=1, description="more NaN than before, as a share")] = 0.0
    errors: Annotated[float, Meta(ge=0, le=1, description="more refused requests than before, as a share")] = 0.0
    latency: Annotated[float, Meta(gt=0, description="median latency as a multiple of the one before")] = 3.0


class RolloutPart(_Struct, frozen=True):
    """How versions are replaced. Times are seconds."""

    label: Annotated[str, Meta(description="the label that traffic follows")] = "stable"
    canary: Annotated[bool | str, Meta(
        description="label of the version on trial, or whether there is one (called canary)")] = True
    compare: ComparePart | bool = True
    soak: Annotated[float, Meta(ge=0, description="seconds of watching before the label moves")] = 5.0
    hold: Annotated[float, Meta(ge=0, description="seconds that the old version stays loaded")] = 30.0
    interval: Annotated[float, Meta(gt=0, description="seconds between two looks while watching")] = 1.0
    load_timeout: Annotated[float, Meta(gt=0, description="seconds for a version to load or unload")] = 300.0
    reload_timeout: Annotated[float, Meta(gt=0, description="seconds for one reload call")] = 30.0
    patience: Annotated[float, Meta(ge=0, description="seconds to wait for a server that is away")] = 60.0

    @property
    def canary_label(self) -> str | None:
        """None for no canary."""
        return ("canary" if self.canary is True else self.canary) or None

    @property
    def comparison(self) -> ComparePart | None:
        """None for no comparison."""
        return ComparePart() if self.compare is True else self.compare or None


class SpecFile(_Struct, frozen=True):
    """serving.yaml, as written."""

    models: list[ModelSpec]
    name: Annotated[str, Meta(
        description="what the running server is called in status, logs and down, if not as this file")] | None = None
    repository: Annotated[str, Meta(
        description="root of the model repository: a directory, relative to this file, or an address such as "
                    "s3://bucket/models")] = "models"
    mirror: Annotated[str | None, Meta(
        description="directory of this machine for the versions of a repository that is elsewhere, if not below .tfs "
                    "beside this file")] = None
    signed_by: Annotated[list[str], Meta(
        description="PEM files, relative to this file: public keys, or certificates of signers or of authorities; one "
                    "of them has to have signed each version that is served")] = []
    state: Annotated[str | None, Meta(
        description="directory for what is remembered of the running server, if not .tfs beside this file")] = None
    server: ServerPart = ServerPart()
    smoke: SmokePart = SmokePart()
    rollout: RolloutPart = RolloutPart()


class Spec(_Struct, frozen=True):
    """serving.yaml, checked: paths are absolute, versions and labels are values of deploy.types.

    allow: model -> rule of `tfs check` -> why its findings are accepted.
    repository: the directory that servers of this machine read.
    remote: the address that its versions come from, if it is a mirror.
    signed_by: PEM files; nobody has to have signed, if there are none.
    """

    name: str
    path: Path
    repository: Path
    models: tuple[ServedModel, ...]
    server: ServerPart
    smoke: SmokePart
    rollout: RolloutPart = RolloutPart()
    allow: dict[str, dict[str, str]] = {}
    state: Path | None = None
    remote: str | None = None
    signed_by: tuple[Path, ...] = ()

    @property
    def state_dir(self) -> Path:
        """Where what runs is recorded and its rendered files and logs are kept."""
        return (self.state or self.path.parent / STATE) / self.name


def json_schema() -> dict[str, Any]:
    """The JSON Schema of serving.yaml."""
    schema = msgspec.json.schema(SpecFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tfs-deploy serving.yaml", **schema}
