"""`connect`: from an address to a client; what an address may look like, and what is meant by one that isn't quite."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deploy.client.base import Given, Headers
from deploy.client.interfaces import Features, Inputs, Metadata, Prediction
from deploy.client.rest import RestClient
from deploy.client.rpc import RpcClient
from deploy.errors import BadRequest, SpecError
from deploy.types import DEFAULT_SIGNATURE, Endpoint, ModelRef, ModelVersion, Signature, Tls, VersionStatus, bracketed
from deploy.wire.dtypes import Array

if TYPE_CHECKING:
    from deploy.wire import serving_pb2 as pb

_GRPC_PORT, _REST_PORT = 8500, 8501  # TensorFlow Serving's
_RESOLVED = re.compile(r"(dns|unix|unix-abstract|ipv4|ipv6|vsock):.+")  # gRPC's own forms of a target
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[^\s/:\[\]@,?#]+):(?P<port>[0-9]{1,5})", re.ASCII)


def is_url(text: str) -> bool:
    """Whether an address is one of REST's."""
    return text.lower().startswith(("http://", "https://"))


def grpc_target(text: str) -> str:
    """`host:port`, or another of gRPC's targets, as gRPC takes it. Raises SpecError."""
    if _RESOLVED.fullmatch(text):
        return text
    plain = text[len("grpc://"):] if text.lower().startswith("grpc://") else text
    plain = plain.rstrip("/") if plain.count("/") == 1 else plain  # a trailing slash
    match = _HOST_PORT.fullmatch(plain)
    if match and 0 < int(match["port"]) <= 65535 and "\\" not in plain:
        return f"{match['host']}:{int(match['port'])}"
    raise SpecError(f"expected host:port, got {text!r}: {_wrong_target(plain, match)}",
                    hint=f"for gRPC write host:{_GRPC_PORT}, for REST http://host:{_REST_PORT}", id="bad-address")


def _wrong_target(text: str, match: re.Match[str] | None) -> str:
    ipv6 = _ipv6(text)
    reasons = (
        (match and "\\" not in text, f"ports are 1 to 65535, not {match['port'] if match else ''}"),
        (not text.strip(), "it is empty"),
        (len(text.split()) > 1 or text != text.strip(), "it has spaces in it"),
        (is_url(text), "that is a REST address"),
        ("://" in text, f"{text.partition('://')[0]}:// isn't spoken by TensorFlow Serving"),
        ("," in text, "one address at a time"),
        (ipv6, f"an IPv6 address stands in brackets, and the port behind them: {ipv6}"),
        ("/" in text, "it has a path, which only REST has"),
        (":" not in text.rstrip(":"), "it has no port"))
    return next((why for wrong, why in reasons if wrong), "that is no name of a host and no port")


def _ipv6(text: str) -> str:
    """How an IPv6 address, with a port or without one, is written; empty if it is none."""
    head, _, port = text.rpartition(":")
    for host, number in ((head, port), (text, str(_GRPC_PORT))):
        try:
            if number.isdecimal() and len(number) > 2:
                return f"{bracketed(str(ipaddress.IPv6Address(host.strip('[]'))))}:{number}"
        except ValueError:
            continue
    return ""


def rest_url(text: str) -> str:
    """A REST base URL. Raises SpecError."""
    if len(text.split()) > 1 or text != text.strip():
        raise _no_url(text, "it has spaces in it")
    if not is_url(text):
        raise _no_url(text, "it has no http:// in front")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        host = _ipv6(text.partition("://")[2].partition("/")[0])
        port_wrong = "ports are 1 to 65535" if "ort" in str(e) else str(e)
        raise _no_url(text, f"an IPv6 address stands in brackets: {host}" if host else port_wrong) from None
    if not parts.hostname:
        raise _no_url(text, "it names no host")
    if port == 0:
        raise _no_url(text, "port 0 is none to connect to")
    if parts.username or parts.password:
        raise _no_url(text.replace(parts.netloc, f"...@{parts.hostname}"), "credentials belong in metadata")
    if parts.query or parts.fragment:
        raise _no_url(text, "it has a query")
    path = parts.path.rstrip("/")
    if re.search(r"/v1(/.*)?$", path):
        raise _no_url(text, "the base URL ends before /v1")
    return text


def _no_url(text: str, why: str) -> SpecError:
    return SpecError(f"expected http://host:port, got {text!r}: {why}",
                     hint=f"for REST write http://host:{_REST_PORT}, for gRPC host:{_GRPC_PORT}", id="bad-address")


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
