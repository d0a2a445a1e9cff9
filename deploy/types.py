"""The toolkit's nouns: small frozen values, standard library only.

The words are TensorFlow Serving's own (model, version, label, signature, servable state,
version policy); see tensorflow_serving/apis/get_model_status.proto and model_server_config.proto.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from deploy.errors import SpecError
from deploy.naming import check_name, check_version

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"



@dataclass(frozen=True, slots=True, order=True)
class ModelVersion:
    """One version of one model: the key of every path, record and status."""

    name: str
    version: int

    def __post_init__(self) -> None:
        check_name(self.name)
        check_version(self.version)

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What a request is addressed to: a model, perhaps one version or one label of it, not both."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise SpecError(f"model {self.name!r}: both version {self.version} and label {self.label!r} given",
                            hint="address a model by version or by label, not by both")

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """`mnist`, `mnist/3` (version) or `mnist@stable` (label)."""
        name, at, label = text.partition("@")
        if at:
            return cls(check_name(name), label=check_name(label, "label"))
        name, slash, version = text.partition("/")
        return cls(check_name(name), version=check_version(version) if slash else None)

    @property
    def rest_path(self) -> str:
        """The path below the REST port, without a verb: /v1/models/mnist/versions/3."""
        path = f"/v1/models/{quote(self.name, safe='')}"
        if self.version is not None:
            return f"{path}/versions/{self.version}"
        return path if self.label is None else f"{path}/labels/{quote(self.label, safe='')}"

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}/{self.version}"
        return self.name if self.label is None else f"{self.name}@{self.label}"


class VersionState(enum.IntEnum):
    """GetModelStatus' states; the numbers are the wire's."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version's state as the server tells it. END without an error is an unloaded version, not a failure."""

    version: int
    state: VersionState
    error_code: int = 0  # google.rpc.Code
    error: str = ""

    @property
    def serving(self) -> bool:
        return self.state is VersionState.AVAILABLE

    @property
    def failed(self) -> bool:
        return self.state is VersionState.END and self.error_code != 0

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "state": self.state.name, "error": self.error}


@dataclass(frozen=True, slots=True)
class Serving:
    """One model as it is served, or should be: exactly these versions, exactly these labels."""

    versions: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        labels = ", ".join(f"{k} -> {v}" for k, v in sorted(self.labels.items()))
        versions = ", ".join(map(str, sorted(self.versions))) or "nothing"
        return f"{versions} ({labels})" if labels else versions

    def to_json(self) -> dict[str, Any]:
        return {"versions": sorted(self.versions), "labels": dict(sorted(self.labels.items()))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Serving:
        return cls(frozenset(map(int, data["versions"])), {str(k): int(v) for k, v in data["labels"].items()})


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for a TLS connection. With no `ca`, the system's roots are trusted.

    server_name: what the server's certificate is for, if that isn't the address; gRPC only.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens. A port of None means: not offered. tls: of gRPC; TensorFlow Serving's REST has none.

    url: REST's base URL, where that isn't http:// of host and rest_port: behind a proxy, for example.
    """

    host: str = "127.0.0.1"
    grpc_port: int | None = 8500
    rest_port: int | None = 8501
    tls: Tls | None = None
    url: str = ""

    @property
    def grpc_target(self) -> str:
        return f"{bracketed(self.host)}:{self.grpc_port}"

    @property
    def rest_url(self) -> str:
        return self.url or f"http://{bracketed(self.host)}:{self.rest_port}"

    @property
    def addresses(self) -> dict[str, str]:
        """Those that are offered, by protocol, as people and programs are told them."""
        return {name: at for name, at in (("REST", self.rest_url), ("gRPC", self.grpc_target)) if self.ports[name]}

    @property
    def ports(self) -> dict[str, int | None]:
        """By protocol, in the order in which they are named everywhere."""
        return {"gRPC": self.grpc_port, "REST": self.rest_port}


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor of a signature.

    dtype: TensorFlow's name of it (`float32`, `bfloat16`, `string`, ...).
    shape: None for an unknown rank; None inside for an unknown dimension.
    tensor: the graph's tensor name (`serving_default_x:0`); not part of the contract, so not compared.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    tensor: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name}: {self.dtype}, any shape"
        return f"{self.name}: {self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model can be asked: named inputs and outputs, sorted by name."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    method_name: str = PREDICT_METHOD

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(sorted(self.inputs, key=lambda s: s.name)))
        object.__setattr__(self, "outputs", tuple(sorted(self.outputs, key=lambda s: s.name)))

    def input(self, name: str) -> TensorSpec:
        """The input called `name`; KeyError if there is none."""
        return {s.name: s for s in self.inputs}[name]

    def output(self, name: str) -> TensorSpec:
        """The output called `name`; KeyError if there is none."""
        return {s.name: s for s in self.outputs}[name]


@dataclass(frozen=True, slots=True)
class Contract(Mapping[str, Signature]):
    """A version's signatures by name; one type, whether read from saved_model.pb, a manifest or a live server."""

    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", tuple(sorted(self.signatures, key=lambda s: s.name)))

    def __getitem__(self, name: str) -> Signature:
        for signature in self.signatures:
            if signature.name == name:
                return signature
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(s.name for s in self.signatures)

    def __len__(self) -> int:
        return len(self.signatures)

    def to_json(self) -> dict[str, object]:
        """Plain JSON data; `from_json` is its inverse."""

        def tensors(specs: tuple[TensorSpec, ...]) -> dict[str, object]:
            return {s.name: {"dtype": s.dtype, "shape": None if s.shape is None else list(s.shape)} for s in specs}

        return {s.name: {"method": s.method_name, "inputs": tensors(s.inputs), "outputs": tensors(s.outputs)}
                for s in self.signatures}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, object]]) -> Contract:
        """The inverse of `to_json`. Raises KeyError or TypeError for data of another form."""

        def tensors(specs: object) -> tuple[TensorSpec, ...]:
            if not isinstance(specs, Mapping):
                raise TypeError(f"expected an object of tensors, got {type(specs).__name__}")
            return tuple(TensorSpec(name, str(s["dtype"]), None if s["shape"] is None else tuple(s["shape"]))
                         for name, s in specs.items())

        return cls(tuple(Signature(name, tensors(s["inputs"]), tensors(s["outputs"]), str(s["method"]))
                         for name, s in data.items()))


@dataclass(frozen=True, slots=True)
class Latest:
    """Serve the highest `count` versions on disk."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Serve every version on disk."""


@dataclass(frozen=True, slots=True)
class Specific:
    """Serve exactly these versions."""

    versions: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", tuple(sorted(set(self.versions))))


VersionPolicy = Latest | All | Specific


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One entry of a model config list: WHAT is served of one model.

    base_path: the directory that holds the version directories, on the host.
    labels: label -> version.
    """

    name: str
    base_path: str
    versions: VersionPolicy
    labels: Mapping[str, int] = field(default_factory=dict)
