"""The file's format: msgspec checks types against these structs, and the JSON Schema for editors comes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from deploy.spec.base import Count, Struct
from deploy.spec.freeze import FreezeWindow
from deploy.spec.server import ServerPart
from deploy.spec.servers import ServerEntry
from deploy.types import ServedModel

Share = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern="^(100|[1-9][0-9]?)%$")]
STATE = ".tfs"  # beside the file, unless it or the environment names another directory


class ModelSpec(Struct, frozen=True):
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


class SmokePart(Struct, frozen=True):
    """What the smoke test asks for."""

    timeout: Annotated[float, Meta(gt=0, description="seconds for one request")] = 30.0
    absolute: Annotated[float, Meta(ge=0)] | None = None
    relative: Annotated[float, Meta(ge=0)] | None = None


class ComparePart(Struct, frozen=True):
    """How far a canary's answers may be from those of the version that it replaces. A share is from 0 to 1."""

    requests: Annotated[str | None, Meta(
        description="TFRecord file of recorded PredictionLogs, relative to this file; else the golden cases")] = None
    repeats: Annotated[int, Meta(ge=1, description="times that each request is sent, for the latencies")] = 5
    deviation: Annotated[float, Meta(ge=0, description="largest absolute difference of a number")] | None = None
    flips: Annotated[float, Meta(ge=0, le=1, description="share of rows whose largest entry is another")] = 0.2
    nan: Annotated[float, Meta(ge=0, le=1, description="more NaN than before, as a share")] = 0.0
    errors: Annotated[float, Meta(ge=0, le=1, description="more refused requests than before, as a share")] = 0.0
    latency: Annotated[float, Meta(gt=0, description="median latency as a multiple of the one before")] = 3.0


class RolloutPart(Struct, frozen=True):
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
    waves: Annotated[list[Share], Meta(
        description="of several servers: how many have changed after each wave; [1, 25%, 100%] if not given")] = (
            msgspec.field(default_factory=lambda: [1, "25%", "100%"]))
    max_unavailable: Annotated[Share, Meta(
        description="of several servers: how many may be changing, or not answer, at once, e.g. 2 or 10%")] = "25%"
    freeze: Annotated[list[FreezeWindow], Meta(description="times in which no rollout begins")] = []
    lock: Annotated[str | None, Meta(
        description="where all operators find the lock and the ledger of several servers, if not in the state "
                    "directory: a directory, a store (s3://bucket/ops), or kubernetes:NAMESPACE/NAME")] = None

    @property
    def canary_label(self) -> str | None:
        """None for no canary."""
        return ("canary" if self.canary is True else self.canary) or None

    @property
    def comparison(self) -> ComparePart | None:
        """None for no comparison."""
        return ComparePart() if self.compare is True else self.compare or None


class SpecFile(Struct, frozen=True):
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
    servers: Annotated[list[ServerEntry] | None, Meta(
        description="several servers with these models, each with what differs from the parts at the top")] = None
    smoke: SmokePart = SmokePart()
    rollout: RolloutPart = RolloutPart()


class Spec(Struct, frozen=True):
    """serving.yaml, checked: paths are absolute, versions and labels are values of deploy.types.

    allow: model -> rule of `tfs check` -> why its findings are accepted.
    repository: the directory that servers of this machine read.
    remote: the address that its versions come from, if it is a mirror.
    signed_by: PEM files; nobody has to have signed, if there are none.
    servers: of a file with several, a complete spec for each, in the file's order; no server runs for the file's own.
    fleet, groups: of one of those, the name of the file's own spec, and the groups that it is in.
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
    servers: tuple[Spec, ...] = ()
    fleet: str = ""
    groups: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[Spec, ...]:
        """The specs of all its servers; itself alone, if the file names none."""
        return self.servers or (self,)

    @property
    def short_name(self) -> str:
        """What a server is called among the others of its file."""
        return self.name.removeprefix(f"{self.fleet}.") if self.fleet else self.name

    @property
    def state_dir(self) -> Path:
        """Where what runs is recorded and its rendered files and logs are kept."""
        return (self.state or self.path.parent / STATE) / self.name


def json_schema() -> dict[str, Any]:
    """The JSON Schema of serving.yaml."""
    schema = msgspec.json.schema(SpecFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tfs-deploy serving.yaml", **schema}
