"""What both protocols' clients share: refs, deadlines, where an error happened, headers, signatures behind refs.

Headers may carry credentials: they are sent, and never printed. A version's signatures never change, so they are kept.
A name or label may lead to another version at any time, so what it led to is believed for a moment only.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from deploy import files
from deploy.client.failures import CallSite
from deploy.client.interfaces import Metadata
from deploy.client.preparing import choose
from deploy.errors import BadReply, BadRequest, Rejected, SpecError
from deploy.types import ModelRef, ModelVersion, Signature, Tls
from deploy.waiting import Clock, Deadline

Given = Mapping[str, str] | Sequence[tuple[str, str]]

FRESH = 2.0
"""Seconds for which a name or label is taken to lead to the same version."""

T = TypeVar("T")
C = TypeVar("C", bound="Base")

NO_MODEL = ModelRef("")
"""Stands in calls that aren't about a model."""


class Headers(Mapping[str, str]):
    """Headers of every request: gRPC metadata, or HTTP headers. Names are lower case. No repr shows a value.

    Raises SpecError for a name or value that the protocols don't take.
    """

    __slots__ = ("_values",)

    def __init__(self, given: Given = ()) -> None:
        self._values = {name.lower(): value for name, value in (given.items() if isinstance(given, Mapping) else given)}
        for name, value in self._values.items():
            if not re.fullmatch(r"[a-z0-9_.-]+", name) or name.startswith("grpc-") or name.endswith("-bin"):
                raise SpecError(f"metadata {name!r} is not a valid name",
                                hint="use letters, digits, '-', '_' and '.'; not grpc-..., not ...-bin",
                                id="bad-metadata")
            if not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value) or value != value.strip():
                raise SpecError(f"the value of metadata {name!r} is not printable ASCII",
                                hint="remove line ends and other characters that headers can't have", id="bad-metadata")

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._values)})"


def pem(tls: Tls, part: str) -> bytes | None:
    """The bytes of `ca`, `certificate` or `key`; None if not given. Raises SpecError if the file can't be read."""
    path = getattr(tls, part)
    if path is None:
        return None
    try:
        return files.read_given(path)
    except OSError as error:
        where = "" if part == "key" else f" {path}"  # where a key lies is nobody's business
        raise SpecError(f"the TLS {part}{where} can't be read: {files.reason(error)}",
                        hint="give the path of a PEM file", id="bad-certificate") from error


_SHAKE = 2.0  # seconds for a handshake
_OF_CLIENTS = ("CERTIFICATE", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "ACCESS_DENIED")  # in OpenSSL's names of alerts


def tls_refusal(target: str, tls: Tls | None) -> str:
    """Why a server ends gRPC's connections at once, as far as a TLS handshake shows it; "" if it doesn't.

    gRPC's own words for it are that the socket was closed. Whether the server can be trusted doesn't matter here.
    """
    context, unknown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "it wants to know its clients, and no client " \
        "certificate is given"
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = target.rpartition(":")
    try:
        if tls is not None and tls.certificate and tls.key:
            context.load_cert_chain(tls.certificate, tls.key)
            unknown = "it doesn't accept the client certificate"
        with socket.create_connection((host.strip("[]"), int(port)), _SHAKE) as plain, context.wrap_socket(
                plain, server_hostname=(tls and tls.server_name) or host.strip("[]")) as secured:
            if tls is None:
                return "it speaks TLS, and is asked without"
            return "" if _answers(secured) else unknown
    except ssl.SSLError as error:
        return unknown if tls is not None and any(word in (error.reason or "") for word in _OF_CLIENTS) else ""
    except (OSError, ValueError):
        return ""


def _answers(secured: ssl.SSLSocket) -> bool:
    """Whether a server goes on after the handshake: gRPC's begin with their settings. Raises ssl.SSLError for what it
    objects to, which in TLS 1.3 it does then."""
    try:
        return bool(secured.recv(1))
    except ConnectionResetError:
        return False


class Contracts:
    """A cache of metadata. Thread-safe."""

    def __init__(self, fetch: Callable[[ModelRef, Deadline], Metadata], clock: Clock = time) -> None:
        self._fetch, self._clock = fetch, clock
        self._known: dict[ModelRef, tuple[float, Metadata]] = {}
        self._lock = threading.Lock()

    def get(self, ref: ModelRef, deadline: Deadline) -> tuple[Metadata, bool]:
        """The metadata behind `ref`, and whether it was asked for just now."""
        with self._lock:
            known = self._known.get(ref)
        if known and (ref.version is not None or self._clock.monotonic() - known[0] < FRESH):
            return known[1], False
        return self.refresh(ref, deadline), True

    def refresh(self, ref: ModelRef, deadline: Deadline) -> Metadata:
        """Ask the server."""
        now = self._clock.monotonic()
        metadata = self._fetch(ref, deadline)
        with self._lock:
            self._known[ref] = (now, metadata)
        return metadata

    def using(self, ref: ModelRef, name: str, deadline: Deadline, attempt: Callable[[Signature], T]) -> T:
        """Run `attempt` with the signature called `name`; once more if it fails and the signature turns out to be old.

        Nothing is sent twice that might have been carried out: only refusals, and answers that don't fit.
        """
        metadata, fresh = self.get(ref, deadline)
        try:
            return attempt(choose(metadata.contract, name, ref))
        except (BadRequest, BadReply, Rejected):
            if fresh or ref.version is not None or deadline.over:
                raise
            newer = self.refresh(ref, deadline)
            if newer == metadata:
                raise
            return attempt(choose(newer.contract, name, ref))


def as_ref(ref: ModelRef | str) -> ModelRef:
    """`mnist`, `mnist/3`, `mnist@stable` as a ModelRef. Raises SpecError."""
    return ModelRef.parse(ref) if isinstance(ref, str) else ref


class Base:
    """One endpoint, spoken to in one protocol."""

    def __init__(self, endpoint: str, timeout: float, metadata: Given, attempts: int) -> None:
        if not timeout > 0 or attempts < 1:
            raise SpecError(f"timeout {timeout!r} and attempts {attempts!r} have to be positive")
        self.endpoint, self._timeout, self._attempts = endpoint, timeout, attempts
        self._headers = metadata if isinstance(metadata, Headers) else Headers(metadata)
        self._contracts = Contracts(self._metadata)
        self._closed = False

    def metadata(self, ref: ModelRef | str, *, timeout: float | None = None) -> Metadata:
        """As Control says; always asks the server."""
        call, deadline = self._begin("metadata", ref, timeout)
        return self._contracts.refresh(call.ref, deadline)

    def resolve(self, ref: ModelRef | str, *, timeout: float | None = None) -> ModelVersion:
        """As Control says."""
        call, deadline = self._begin("metadata", ref, timeout)
        return ModelVersion(call.ref.name, self._contracts.refresh(call.ref, deadline).version)

    def close(self) -> None:
        """Let go of the connections. Done twice is no error; calls that come later raise BadRequest."""
        self._closed = True

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def _metadata(self, ref: ModelRef, deadline: Deadline) -> Metadata:
        raise NotImplementedError

    def _begin(self, verb: str, ref: ModelRef | str, timeout: float | None) -> tuple[CallSite, Deadline]:
        """What is about to be done, and its deadline."""
        ref = as_ref(ref)
        deadline = Deadline(self._timeout if timeout is None else timeout)
        call = self._call(verb, ref, deadline)
        if self._closed:
            raise call.bad_request("the client is closed")
        if deadline.seconds is not None and deadline.seconds <= 0:
            raise call.bad_request(f"a timeout of {timeout} s leaves no time")
        return call, deadline

    def _call(self, verb: str, ref: ModelRef, deadline: Deadline) -> CallSite:
        what = f"{verb} of {ref}" if ref is not NO_MODEL else verb
        return CallSite(what, self.endpoint, ref, deadline.seconds)

    def _located(self, read: Callable[[], T], call: CallSite) -> T:
        """What `read` makes of a request or reply; its errors get the endpoint and ref that it doesn't know."""
        try:
            return read()
        except (BadReply, BadRequest) as error:
            if not error.endpoint:
                error.endpoint, error.ref = call.endpoint, call.ref
                error.details.setdefault("call", f"{call.what} at {call.endpoint}")
            raise
