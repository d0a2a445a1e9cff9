"""One model server that runs, or ran, and what every such server can do, wherever it runs."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, TypeVar

from deploy.types import Endpoint, Tls

Progress = Callable[[str], None]  # gets one sentence per event
LABEL = "org.tfs-deploy"  # prefix of everything we label
EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  all addresses -> the one to connect to
TLS_LABEL, CERTIFICATE_LABEL = f"{LABEL}.tls", f"{LABEL}.certificate"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that a server uses, and may use at most (its container's limit, or what the machine has left for it)."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a server that answers by itself.

    endpoint: where it, and no other replica, is reached. instance: which run of the program it is, see Server.instance.
    restarts: how often it was started again under this name. ended: why its last run ended, in a few words, if anybody
    knows. out_of_memory: that was for lack of memory.
    """

    name: str
    endpoint: Endpoint
    instance: str = ""
    restarts: int = 0
    ended: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What the place where a server runs says about why it doesn't run, or not as it should.

    rule: what `tfs explain` calls it. cause and fix: one sentence each. seen: what shows it. weight: 0 to 100, how
    likely it is what matters most. final: waiting doesn't help.
    """

    rule: str
    cause: str
    fix: str
    seen: str = ""
    weight: int = 70
    final: bool = False


@dataclass(frozen=True, slots=True)
class Inspected:
    """A server from outside, ours or not, running or ended.

    argv: the whole command line, with what the stock image's entry point adds. added: how many arguments those are.
    environment: what it was started with. mounts: source -> target.
    state: the engine's word for it, as `running`, `created`, `restarting`. exit_code: None while it runs, if it never
    ran, or if nobody knows. published: port inside -> port of this machine. address: in the engine's network, "" if it
    has none. error: why it couldn't be started. faults: what the place itself says is wrong.
    """

    name: str
    argv: tuple[str, ...]
    running: bool
    exit_code: int | None
    log: str
    image: str = ""
    image_platform: str = ""
    user: str = ""
    mounts: Mapping[str, str] = field(default_factory=dict)
    out_of_memory: bool = False
    published: Mapping[int, int] = field(default_factory=dict)
    error: str = ""
    added: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    address: str = ""
    faults: tuple[Fault, ...] = ()


class Server(Protocol):
    """A model server with one life, in a container or in a child process.

        new --start()--> running --(ends by itself)--> ended
         |                  |                            |
         +------stop()------+----------stop()------------+--> stopped

    start() may be called once. It returns as soon as the program runs: whether it serves is another question
    (deploy.serving.startup). After a start() that raised nothing is left running, and stop() is still allowed.
    stop() is allowed in every state, any number of times, from any process that found the server, and leaves neither
    process nor container nor run record behind. The log of a process stays for reading.

    As a context manager: entering starts, leaving stops, unless detach() was called.
    Not thread-safe; one thread drives a server.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """The name of the backend that runs it, see registry.backend_of."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The whole command line, program first."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What the caller had written onto it at the start, e.g. the configuration's digest."""

    @property
    def endpoint(self) -> Endpoint:
        """Where clients on this machine reach it. A port asked for as 0 is known after start(), and is another one when
        an engine has started the server again: known once it was asked whether it is alive()."""

    def start(self) -> Endpoint:
        """Run it. Raises BackendMissing, PortTaken, StartFailed or ServerError; nothing is left running then."""

    def instance(self) -> str | None:
        """Which run of the program this is: another one after each start, also by the engine. None if none runs."""

    def alive(self) -> bool:
        """Whether the program runs now. Doesn't raise for a server that is gone."""

    def returncode(self) -> int | None:
        """The exit code once it ended (negative: the signal); None while it runs or where nobody can know."""

    def listening(self) -> frozenset[int]:
        """The ports of the endpoint's host that belong to this very server now."""

    def logs(self, tail: int = 50) -> str:
        """The last `tail` lines of what it printed, stdout and stderr in one; empty if there are none."""

    def replicas(self) -> tuple[Replica, ...]:
        """All that run now. A change has arrived when each of them shows it."""

    def pending(self, *, traffic: bool = False) -> str:
        """What is still to come until all replicas run, in half a sentence; "" if all do. traffic: and until each gets
        requests, where somebody decides that. Raises StartFailed, with the evidence, for what waiting doesn't help
        with."""

    def inspect(self, tail: int) -> Inspected:
        """Everything that a diagnosis wants to know, with the last `tail` lines. Raises ServerError."""

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of the paths that aren't there where the server looks. Raises ServerError."""

    def memory(self) -> MemoryUse | None:
        """None where nobody can know. Doesn't raise for a server that is gone."""

    def detach(self) -> None:
        """From now on it outlives this process, and starts again by itself if its options say so."""

    def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds. What that does to running requests is the program's affair:
        tensorflow_model_server cuts them off, the embedded server finishes them within its own drain time.
        """

    def describe(self) -> dict[str, Any]:
        """Plain JSON data for people and programs: name, kind, running, endpoint, argv, since, where it runs."""

    def __enter__(self) -> Server: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None, /) -> None: ...


S = TypeVar("S", bound="Scoped")


class Scoped(ABC):
    """A server that lives as long as its `with` block, or longer once it is detached. See Server."""

    _detached = False

    @abstractmethod
    def start(self) -> Endpoint: ...

    @abstractmethod
    def stop(self, grace: float = 10.0) -> None: ...

    def detach(self) -> None:
        self._detached = True

    def pending(self, *, traffic: bool = False) -> str:
        return ""  # one process, and it runs or has ended

    def __enter__(self: S) -> S:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self._detached:
            self.stop()


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """A server as a child process, as plain data.

    endpoint: where it listens, as argv says.
    argv: program first; a bare name is looked up on PATH.
    state_dir: gets run.json and server.log.
    environment: added to this process's own.
    """

    name: str
    argv: tuple[str, ...]
    endpoint: Endpoint
    state_dir: str
    kind: str = "process"
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What a dry run shows beside files and command line."""
        return {"log_dir": self.state_dir}


def reachable(endpoint: Endpoint, labels: Mapping[str, str]) -> Endpoint:
    """Where, and with which TLS, to connect to what listens on `endpoint`: "all addresses" is none to connect to."""
    return replace(endpoint, host=EVERY.get(endpoint.host, endpoint.host), tls=_tls(labels.get(TLS_LABEL)))


def tls_label(tls: Tls) -> dict[str, str]:
    """The label from which another process learns how to connect: paths of PEM files, never what is in them."""
    return {TLS_LABEL: json.dumps(asdict(tls))}


def _tls(label: str | None) -> Tls | None:
    try:
        return Tls(**json.loads(label)) if label else None
    except (ValueError, TypeError):  # not written by us
        return None


def endpoint_json(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as JSON data, without its TLS files."""
    return {"host": endpoint.host, "grpc_port": endpoint.grpc_port, "rest_port": endpoint.rest_port,
            "grpc": endpoint.addresses.get("gRPC"), "rest": endpoint.addresses.get("REST")}


def described(server: Server, *, running: bool, since: str | None) -> dict[str, Any]:
    """What describe() tells of every kind of server. since: ISO 8601."""
    return {"name": server.name, "kind": server.kind, "running": running, "since": since,
            "endpoint": endpoint_json(server.endpoint), "argv": list(server.argv), "labels": dict(server.labels),
            "returncode": server.returncode()}


def silent(_: str) -> None:
    """The progress of a caller who doesn't want any."""
