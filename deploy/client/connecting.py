"""`connect`: from an address to a client of one server, over one protocol or both."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from deploy.addresses import grpc_target, is_url, rest_url
from deploy.client.base import Given, Headers
from deploy.client.interfaces import Features, Inputs, Metadata, Prediction
from deploy.client.rest import RestClient
from deploy.client.rpc import RpcClient
from deploy.errors import BadRequest, SpecError
from deploy.types import DEFAULT_SIGNATURE, Endpoint, ModelRef, ModelVersion, Signature, Tls, VersionStatus
from deploy.wire.dtypes import Array

if TYPE_CHECKING:
    from deploy.wire import serving_pb2 as pb


class Client:
    """One server: Predictor and Control, over gRPC where it is offered, else over REST. Thread-safe.

    rpc, rest: the protocols' own clients, None if not offered; they have more to say (rows, raw requests).
    """

    def __init__(self, rpc: RpcClient | None, rest: RestClient | None) -> None:
        self.rpc, self.rest = rpc, rest

    @property
    def endpoint(self) -> str:
        """Where it talks to."""
        return " and ".join(c.endpoint for c in (self.rpc, self.rest) if c is not None)

    def predict(self, ref: ModelRef | str, inputs: Inputs, *, signature: str | Signature = DEFAULT_SIGNATURE,
                outputs: Sequence[str] = (), timeout: float | None = None) -> Prediction:
        """Ask a model: arrays by input name in, arrays by output name out; see Predictor.

        >>> client.predict("mnist/3", {"pixels": images})["probs"]  # doctest: +SKIP
        """
        return self._either.predict(ref, inputs, signature=signature, outputs=outputs, timeout=timeout)

    def classify(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                 signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> list[list[tuple[str, float]]]:
        """Per example, the labels with their scores; see Predictor."""
        return self._either.classify(ref, examples, context=context, signature=signature, timeout=timeout)

    def regress(self, ref: ModelRef | str, examples: Sequence[Features], *, context: Features | None = None,
                signature: str = DEFAULT_SIGNATURE, timeout: float | None = None) -> Array:
        """One float32 per example; see Predictor."""
        return self._either.regress(ref, examples, context=context, signature=signature, timeout=timeout)

    def status(self, ref: ModelRef | str, *, timeout: float | None = None) -> list[VersionStatus]:
        """The states of a model's versions; see Control."""
        return self._either.status(ref, timeout=timeout)

    def metadata(self, ref: ModelRef | str, *, timeout: float | None = None) -> Metadata:
        """Version and signatures behind `ref`; see Control."""
        return self._either.metadata(ref, timeout=timeout)

    def resolve(self, ref: ModelRef | str, *, timeout: float | None = None) -> ModelVersion:
        """The version that answers requests to `ref` now."""
        return self._either.resolve(ref, timeout=timeout)

    def reload(self, config: pb.ModelServerConfig, *, timeout: float | None = None) -> None:
        """Replace the server's configuration; see RpcClient.reload. Raises BadRequest without gRPC."""
        if self.rpc is None:
            raise BadRequest("reload needs gRPC; this client talks REST only", endpoint=self.endpoint,
                             hint="connect to host:port", id="needs-grpc")
        self.rpc.reload(config, timeout=timeout)

    def close(self) -> None:
        """Let go of all connections. Done twice is no error."""
        for client in (self.rpc, self.rest):
            if client is not None:
                client.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.endpoint!r})"

    @property
    def _either(self) -> RpcClient | RestClient:
        client = self.rpc or self.rest
        assert client is not None, "connect() makes at least one"
        return client


def connect(target: str | Endpoint, *, rest: str | None = None, timeout: float = 10.0, tls: Tls | None = None,
            metadata: Given = (), attempts: int = 2) -> Client:
    """A client for a server. Nothing is sent yet.

    target: `host:port` for gRPC, `http://host:port` or `https://...` for REST, or an Endpoint for what it offers.
    rest: a REST URL beside a gRPC target.
    timeout: seconds for a whole call, unless the call says otherwise.
    tls: for `host:port` and https; https alone trusts the system's certificate authorities.
    metadata: headers of every request (an `authorization`, say); never printed.
    attempts: how often a call that changes nothing is tried while there is no connection.
    Raises SpecError for an address that is none, or PEM files that can't be read.
    """
    rpc_target, rest_url, tls = _addresses(target, rest, tls)
    options: dict[str, Any] = {"timeout": timeout, "tls": tls, "metadata": Headers(metadata), "attempts": attempts}
    rpc_client, rest_client = None, None
    if rpc_target is not None:
        rpc_client = RpcClient(rpc_target, **options)
    if rest_url is not None:
        rest_client = RestClient(rest_url, **options)
    return Client(rpc_client, rest_client)


def connect_to(grpc: str | None, rest: str | None, **options: Any) -> Client:
    """As `connect`, of addresses that are known to be one of gRPC's, of REST's, or both. Raises SpecError."""
    if grpc is None:
        if rest is None:
            raise SpecError("no address was given", hint="--rest-url http://host:port, --grpc host:port, or both",
                            id="bad-address")
        return connect(rest_url(rest), **options)
    return connect(grpc_target(grpc), rest=rest, **options)


def _addresses(target: str | Endpoint, rest: str | None, tls: Tls | None) -> tuple[str | None, str | None, Tls | None]:
    if isinstance(target, Endpoint):
        rpc = None if target.grpc_port is None else target.grpc_target
        url = rest or (None if target.rest_port is None else target.rest_url)
        if rpc is None and url is None:
            raise SpecError(f"the endpoint {target.host} offers neither gRPC nor REST", id="bad-address")
        return rpc, url, tls or target.tls
    if is_url(target):
        if rest is not None:
            raise SpecError(f"two REST addresses were given: {target} and {rest}", hint="the first one is for gRPC",
                            id="bad-address")
        return None, rest_url(target), tls
    return grpc_target(target), None if rest is None else rest_url(rest), tls
