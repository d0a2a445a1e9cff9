"""A model server for your tests: in this process, in milliseconds, without TensorFlow.

It speaks REST and gRPC, loads, unloads, labels and reloads by the same code as the embedded server; only what a model
computes is yours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from deploy.errors import NotReady, StartFailed
from deploy.modelserver.config import TENSORFLOW
from deploy.modelserver.echo import ANY, EchoModel, Outputs, signature_defs
from deploy.modelserver.loader import Model
from deploy.modelserver.server import ModelServer
from deploy.modelserver.source import Monitored
from deploy.modelserver.status import StatusError, as_code
from deploy.types import DEFAULT_SIGNATURE, All, Contract, Endpoint, VersionPolicy, VersionState, VersionStatus
from deploy.wire import config_pb2
from deploy.wire.flags import Options
from deploy.wire.model_config import select, set_served

if TYPE_CHECKING:
    from deploy.client import Client

_UNTIL = 10.0  # seconds; loading takes none here
_SETTLED = (VersionState.AVAILABLE, VersionState.END)


@dataclass(frozen=True, slots=True)
class Version:
    """What a version of a model does.

    contract: its signatures; by default `serving_default` with x float32 -> y float32, any shape.
    outputs: signature -> function of named input arrays to named output arrays; without one, an output is the input of
    the same name, or the first of its dtype.
    error, code: if there is an error, loading fails with this text and google.rpc code.
    """

    contract: Contract = ANY
    outputs: Mapping[str, Outputs] = field(default_factory=dict)
    error: str = ""
    code: int = 13


Described = Version | Contract | Outputs | None


def _version(described: Described) -> Version:
    if isinstance(described, Version):
        return described
    if isinstance(described, Contract):
        return Version(described)
    return Version() if described is None else Version(outputs={DEFAULT_SIGNATURE: described})


class _Memory:
    """The versions that there are, as a disk and a loader see them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, dict[int, Version]] = {}

    def put(self, model: str, number: int, version: Version | None) -> None:
        with self._lock:
            versions = self._versions.setdefault(model, {})
            if version is None:
                versions.pop(number, None)
            else:
                versions[number] = version

    def look(self, models: Iterable[Monitored]) -> dict[str, dict[int, str]]:
        with self._lock:
            return {m.name: {v: f"{m.name}/{v}" for v in select(m.policy, self._versions.get(m.name, ()))}
                    for m in models}

    def load(self, name: str, version: int, path: str) -> Model:  # noqa: ARG002
        with self._lock:
            described = self._versions[name][version]
        if described.error:
            raise StatusError(as_code(described.code), described.error)
        return EchoModel(signature_defs(described.contract), described.outputs)


class Running:
    """A server that runs. endpoint: where; client: of it, numpy arrays in and out, closed with the server."""

    def __init__(self, server: ModelServer, memory: _Memory) -> None:
        assert server.grpc is not None and server.rest is not None
        self._server, self._memory = server, memory
        self.endpoint = Endpoint("127.0.0.1", server.grpc.ports[0], server.rest.port)

    @cached_property
    def client(self) -> Client:
        from deploy.client import connect  # noqa: PLC0415 -- many tests ask by a client of their own

        return connect(self.endpoint)

    def close(self) -> None:
        """Let go of the client, if there is one."""
        if "client" in self.__dict__:
            self.client.close()

    def publish(self, model: str, version: int, what: Described = None) -> None:
        """A version appears in the model's base path; returns when it is loaded. Raises NotReady if it isn't."""
        self._memory.put(model, version, _version(what))
        self._wait(model, version, VersionState.AVAILABLE)

    def break_version(self, model: str, version: int, error: str = "broken", code: int = 13) -> None:
        """A version appears that can't be loaded; returns when loading it has failed. Raises NotReady."""
        self._memory.put(model, version, Version(error=error, code=code))
        self._wait(model, version, VersionState.END)

    def remove(self, model: str, version: int) -> None:
        """A version disappears from the base path; returns when it is unloaded. Raises NotReady."""
        self._memory.put(model, version, None)
        self._wait(model, version, VersionState.END)

    def statuses(self, model: str) -> list[VersionStatus]:
        """States of all versions of a model that ever were, the highest first."""
        return self._server.lifecycle.states(model)

    def _wait(self, model: str, version: int, state: VersionState) -> None:
        self._server.poller.poll_once()

        def there() -> bool:
            return any(s.version == version and s.state is state for s in self.statuses(model))

        if not self._server.lifecycle.wait(there, _UNTIL):
            raise NotReady(f"version {version} of model {model!r} isn't {state.name} after {_UNTIL:.0f} s",
                           hint="does the model's version policy want this version?",
                           details={"statuses": [repr(s) for s in self.statuses(model)]})


@contextmanager
def serve(models: Mapping[str, Mapping[int, Described]], *, versions: VersionPolicy | None = None,
          labels: Mapping[str, Mapping[str, int]] | None = None, options: Options | None = None) -> Iterator[Running]:
    """Serve these models (name -> version -> what it does) on free ports of 127.0.0.1 until the block ends.

    It begins when every version is loaded or has failed; the server itself is content with one of each model.
    versions: which of the versions are loaded, for all models; by default all.
    labels: model -> label -> version.
    options: the server's flags, if they matter to your test.
    Raises StartFailed if no version of a model can be loaded.
    """
    memory = _Memory()
    for name, described in models.items():
        for number, what in described.items():
            memory.put(name, number, _version(what))
    server = ModelServer(options or Options(max_num_load_retries=0, allow_version_labels_for_unavailable_models=True),
                         memory, memory.look, free_ports=True)
    try:
        try:
            server.load(_config(models, versions or All(), labels or {}))
            server.lifecycle.wait(lambda: all(s.state in _SETTLED for name in models
                                              for s in server.lifecycle.states(name)), _UNTIL)
            server.listen()
        except StatusError as error:
            raise StartFailed(str(error)) from error
        running = Running(server, memory)
        try:
            yield running
        finally:
            running.close()
    finally:
        server.stop()


def _config(models: Iterable[str], policy: VersionPolicy,
            labels: Mapping[str, Mapping[str, int]]) -> config_pb2.ModelServerConfig:
    config = config_pb2.ModelServerConfig()
    config.model_config_list.SetInParent()
    for name in models:
        entry = config.model_config_list.config.add(name=name, base_path=f"memory://{name}", model_platform=TENSORFLOW)
        set_served(entry, policy, labels.get(name, {}))
    return config


__all__ = ["Outputs", "Running", "Version", "serve"]
