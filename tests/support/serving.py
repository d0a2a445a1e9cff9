"""A server and a control that play a script: for everything in serving/ that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from deploy.client import Metadata, Prediction
from deploy.errors import DeployError, Rejected
from deploy.spec import ServerPart, Spec, parse
from deploy.types import Contract, Endpoint, ModelRef, Signature, VersionState, VersionStatus
from tests.support.ports import free_ports

AVAILABLE, LOADING, END, UNLOADING = (VersionState[n] for n in ("AVAILABLE", "LOADING", "END", "UNLOADING"))


_NOTHING = Contract(())


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


@dataclass
class FakeServer:
    """A server that needs no program."""

    name: str = "fake"
    kind: str = "process"
    argv: tuple[str, ...] = ("tensorflow_model_server", "--port=8500")
    labels: Mapping[str, str] = field(default_factory=dict)
    endpoint: Endpoint = field(default_factory=Endpoint)
    open: frozenset[int] = frozenset({8500, 8501})
    code: int | None = None
    said: str = ""
    stopped: list[float] = field(default_factory=list)

    def alive(self) -> bool:
        return self.code is None and not self.stopped

    def returncode(self) -> int | None:
        return self.code

    def listening(self) -> frozenset[int]:
        return self.open

    def logs(self, tail: int = 50) -> str:
        return self.said

    def pending(self, *, traffic: bool = False) -> str:
        return ""

    def stop(self, grace: float = 10.0) -> None:
        self.stopped.append(grace)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "mounts": ["/m -> /models/m (read-only)"]}


Answer = Sequence[VersionStatus] | DeployError


@dataclass
class FakeControl:
    """Answers each model's status questions in turn, the last answer for ever; labels by a mapping."""

    statuses: Mapping[str, list[Answer]]
    labels: Mapping[str, int | DeployError] = field(default_factory=dict)
    on_reload: Callable[[], None] = lambda: None
    reloads: list[Any] = field(default_factory=list)
    contract: Contract = _NOTHING
    answer: DeployError | None = None
    asked: list[str] = field(default_factory=list)

    def status(self, ref: ModelRef, /, *, timeout: float | None = None) -> Sequence[VersionStatus]:
        answers = self.statuses[ref.name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, DeployError):
            raise answer
        return answer

    def metadata(self, ref: ModelRef, /, *, timeout: float | None = None) -> Metadata:
        if ref.label is None:
            return Metadata(ref.version or 0, self.contract)
        live = self.labels.get(f"{ref.name}@{ref.label}", Rejected("no such label", code="INVALID_ARGUMENT"))
        if isinstance(live, DeployError):
            raise live
        return Metadata(live, _NOTHING)

    def predict(self, ref: ModelRef, inputs: Any, /, *, signature: Signature, timeout: float | None = None
                ) -> Prediction:
        self.asked.append(f"{ref}:{signature.name}")
        if self.answer is not None:
            raise self.answer
        return Prediction({}, None, signature.name)

    def close(self) -> None:
        """Nothing is open."""

    def reload(self, config: Any, /, *, timeout: float | None = None) -> None:
        self.reloads.append(config)
        self.on_reload()


def available(*versions: int) -> list[VersionStatus]:
    return [VersionStatus(v, AVAILABLE) for v in versions]


def spec_at(directory: Path, text: str = "models: [{name: m, versions: [1]}]", **server: object) -> Spec:
    """A spec that stands in `directory`, with what is given of `server` in place; free ports by default."""
    spec = parse(text, directory / "serving.yaml")
    grpc, rest = free_ports()
    changed: ServerPart = msgspec.structs.replace(spec.server, **{"grpc_port": grpc, "rest_port": rest, **server})
    return msgspec.structs.replace(spec, server=changed)
