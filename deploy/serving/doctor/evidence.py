"""What a diagnosis looks at, as one frozen value. Collected elsewhere, so every rule is tested without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deploy.backends.base import Fault
from deploy.serving.server_log import complaints, failed_version
from deploy.types import Latest, Specific, VersionPolicy, VersionStatus
from deploy.wire.flags import FLAGS, Parsed, parse
from deploy.wire.model_config import select
from deploy.wire.status_text import shortened

PortName = Literal["gRPC", "REST"]
There = Literal["directory", "file", "missing", "unmounted"]


@dataclass(frozen=True, slots=True)
class ModelEvidence:
    """One model: what the server's configuration says, and what lies where it looks.

    base_path: as the server sees it. path: the same on this machine, "" if nothing of this machine is there.
    policy: which versions the server has to serve. found: the versions on disk.
    nested: directories in it, up to two levels down, that hold versions themselves. is_version: a saved_model.pb lies
    in it directly. unnumbered: SavedModels in it whose directory isn't a number. others: model files of other forms.
    beside: where it is missing, directories next to it that hold versions. above: the one above it holds versions.
    engine_lacks: a version that lies on this machine and not where the container looks.
    unexpected: names that the server takes for versions, though they are none. broken: version -> what is missing.
    refused: version -> what `tfs check` says of it. unreadable: the first path that the server's user can't read.
    """

    name: str
    base_path: str
    path: str = ""
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    platform: str = "tensorflow"
    there: There = "directory"
    found: frozenset[int] = frozenset({1})
    nested: tuple[str, ...] = ()
    is_version: bool = False
    unnumbered: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    above: bool = False
    engine_lacks: str = ""
    unexpected: tuple[str, ...] = ()
    broken: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    unreadable: str = ""
    statuses: tuple[VersionStatus, ...] = ()

    @property
    def named(self) -> frozenset[int]:
        """The versions that the configuration names one by one."""
        return frozenset(self.policy.versions if isinstance(self.policy, Specific) else ())

    def wants(self, version: int) -> bool:
        """Whether a version should be served; by policy any, where nobody can see what is on disk."""
        if isinstance(self.policy, Specific) or not (self.path and self.found):
            return not self.named or version in self.named
        return version in select(self.policy, self.found)


@dataclass(frozen=True, slots=True)
class Port:
    """A port of this machine that the server should have. ours: it has it. owners: who listens there, where seen.
    unpublished: the container publishes others, where nobody listens, and not this one."""

    name: PortName
    number: int
    ours: bool = True
    owners: tuple[str, ...] = ()
    unpublished: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A server that should run, from outside.

    given_by_name: it isn't a spec's, but a container, a log or a command line that somebody named.
    kind: the name of its backend, or `unknown`.
    argv: program first. added: how many of its arguments the image's entry point puts in. environment: a container's.
    log: the last lines. exit_code: None while it runs, or if nobody knows; negative: a signal.
    state: the engine's word for a container. start_error: why the engine couldn't start it.
    unstopped: we started it and it ended, though nobody stopped it with us.
    ours: we start it; else somebody else does.
    user: who it runs as in a container, `uid:gid`. mounts: directory of this machine -> where it is in the container.
    files: flag -> why the file that it names can't be used. config_error: the same of --model_config_file.
    image_here: None if nobody asked. image_platform, machine: as `amd64`, `arm64`.
    engine_error, program_error: why there is no Docker engine or cluster, or why the embedded server or the binary
    can't run. engine_fix: what to do about the engine, if its backend says it.
    up_error, up_hint: what `tfs up` said when it failed. problems, drift, changes: what `tfs status` says of it.
    faults: what the place where it runs says.
    """

    name: str = "server"
    kind: str = "container"
    given_by_name: bool = False
    running: bool = False
    exit_code: int | None = None
    unstopped: bool = False
    ours: bool = True
    out_of_memory: bool = False
    argv: tuple[str, ...] = ()
    added: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    start_error: str = ""
    log: tuple[str, ...] = ()
    user: str = ""
    mounts: Mapping[str, str] = field(default_factory=dict)
    models: tuple[ModelEvidence, ...] = ()
    ports: tuple[Port, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    config_error: str = ""
    image: str = ""
    image_here: bool | None = None
    image_platform: str = ""
    machine: str = ""
    engine_error: str = ""
    engine_fix: str = ""
    program_error: str = ""
    up_error: str = ""
    up_hint: str = ""
    problems: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def flags(self) -> Parsed:
        """The command line, as the server reads it."""
        return parse(self.arguments, FLAGS)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line without its program: from the first flag on."""
        first = next((i for i, a in enumerate(self.argv) if a.startswith("--")), len(self.argv))
        return self.argv[first:]

    @property
    def drained(self) -> bool:
        """It was asked to finish its requests when it is stopped, and ends with 0 then."""
        return float(self.flags.values["tfs_drain_seconds"]) > 0 or self.added > 0

    @property
    def given(self) -> frozenset[str]:
        """The flags that somebody has written, and no entry point."""
        return parse(self.arguments[self.added:], FLAGS).given

    def concerns(self, failed: tuple[str, int] | None) -> bool:
        """Whether a version that failed to load should be served by now: one that is wanted, and still there."""
        of = next((m for m in self.models if failed is not None and m.name == failed[0]), None)
        if of is None or failed is None:
            return True
        gone = bool(of.path and of.found) and failed[1] not in of.found
        return not gone and of.wants(failed[1])

    def line(self, *phrases: str) -> str:
        """The first line of the last complaint with all of these phrases, whatever their case; empty if there is none.

        What INFO lines say is no complaint, nor is what is over (see server_log); usage text begins with a flag.
        """
        wanted = [p.lower() for p in phrases]
        texts = (c.text for c in reversed(complaints(self.log)) if self.concerns(failed_version(c.text)))
        return next((shortened(t) for t in texts if all(p in t.lower() for p in wanted)), "")


@dataclass(frozen=True, slots=True)
class Cause:
    """What a rule found. cause and fix: one sentence each. weight: 0 to 100, how likely it is what matters most.

    seen: the line of the log, or what else shows it.
    """

    rule: str
    weight: int
    cause: str
    fix: str
    seen: str = ""

    def to_json(self) -> dict[str, object]:
        return {"rule": self.rule, "weight": self.weight, "cause": self.cause, "fix": self.fix, "seen": self.seen}
